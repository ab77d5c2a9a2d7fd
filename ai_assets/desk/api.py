"""The REST surface of the desk, mounted at /api. Its document is /api/openapi.json; the desk's own pages use it too."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.exceptions import HTTPException

from ai_assets.base.errors import UserError
from ai_assets.base.masking import masked
from ai_assets.base.printable import printable
from ai_assets.desk import api_golden, api_held, api_opened, launching, reading
from ai_assets.desk.access import collection_seen, request_seen, whole_request_seen
from ai_assets.desk.api_document import DESCRIPTION, SAFE, UNSAFE, complete
from ai_assets.desk.api_parameters import (
    Containing,
    Moment,
    OfCollection,
    Page,
    PerPage,
    PlaceInText,
    Someone,
    TheCollection,
    TheDesk,
    TheRequest,
    TheRun,
)
from ai_assets.desk.api_problems import add_handlers, joined
from ai_assets.desk.api_records import (
    GREATEST_NUMBER,
    Again,
    Asked,
    AskedAgain,
    AskingAgain,
    AuditPage,
    Change,
    Claimed,
    Claiming,
    Corrected,
    Correcting,
    Decided,
    Decision,
    Decisions,
    DocumentId,
    DocumentSort,
    InboxClaim,
    InboxSort,
    InboxState,
    Me,
    Name,
    Noted,
    NoteMade,
    Refused,
    ReleaseAt,
    Rollback,
    Started,
    Starting,
    State,
    Stopped,
    Text,
)
from ai_assets.desk.context import Desk
from ai_assets.desk.document_query import line_of
from ai_assets.desk.launching import LaunchRequest
from ai_assets.desk.quality_query import Judged
from ai_assets.desk.refusal import status_of
from ai_assets.desk.request_query import require_current
from ai_assets.desk.runs_views import Price, RunsRow, RunsView, RunView
from ai_assets.desk.unanswered_query import Shown
from ai_assets.desk.views import (
    DocumentPage,
    DocumentView,
    Inbox,
    QualityPage,
    ReleaseRow,
    RequestView,
    UnansweredPage,
)
from ai_assets.run import going_live
from ai_assets.signoff import asking_again, claims, corrections, decisions, notes
from ai_assets.signoff.audit import Action
from ai_assets.signoff.decisions import Choice
from ai_assets.signoff.people import Person
from ai_assets.signoff.policy_facts import require_access, require_decision


def create_api(desk: Desk) -> FastAPI:
    api = DeskApi(
        title="Sign-off desk",
        version="1",
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=lambda route: route.name,
    )
    api.state.desk = desk
    add_handlers(api)
    api.include_router(router)
    api.include_router(api_opened.router)
    api.include_router(api_held.router)
    api.include_router(api_golden.router)
    return api


class DeskApi(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema


router = APIRouter()


@router.get("/me", tags=["people"], responses=SAFE)
def me(request: Request, person: Someone) -> Me:
    """Who is asking, what they may do, and the token that changes need."""
    csrf = str(getattr(request.state, "csrf", ""))
    return Me(name=person.name, email=person.email, groups=sorted(person.groups), roles=person.roles, csrf=csrf)


@router.get("/inbox", tags=["requests"], responses=SAFE)
def inbox(
    desk: TheDesk,
    person: Someone,
    collection: OfCollection = None,
    status: InboxState = "open",
    text: Containing = "",
    sort: InboxSort = "risk",
    claim: Annotated[InboxClaim, Query(description="Who looks at it: the person who asks, or nobody.")] = "any",
    page: Page = 1,
    per_page: PerPage = 50,
) -> Inbox:
    """Requests for sign-off over all collections the person may see; open ones first."""
    return reading.inbox(
        desk, person, collection=collection, status=status, text=text, sort=sort, claim=claim, page=page,
        per_page=per_page,
    )  # fmt: skip


@router.get("/requests/{request_id}", tags=["requests"], responses=SAFE, name="request")
def request_(desk: TheDesk, person: Someone, request_id: TheRequest) -> RequestView:
    """What would go live with it, against what is live; what it takes; what each verdict will do."""
    return reading.request_view(desk, person, request_id)


@router.get("/requests/{request_id}/state", tags=["requests"], responses=SAFE)
def state(desk: TheDesk, person: Someone, request_id: TheRequest) -> State:
    """How far it is. Small, for whoever asks again and again."""
    return State.model_validate(vars(reading.request_state(desk, person, request_id)))


@router.get("/requests/{request_id}/documents", tags=["documents"], responses=SAFE)
def documents(
    desk: TheDesk,
    person: Someone,
    request_id: TheRequest,
    change: Annotated[Change, Query(description="'changed' has the relabelled ones too.")] = "all",
    text: Containing = "",
    sort: DocumentSort = "risk",
    page: Page = 1,
    per_page: PerPage = 50,
) -> DocumentPage:
    """Its documents, without their texts."""
    return reading.document_page(
        desk, person, request_id, change=change, text=text, sort=sort, page=page, per_page=per_page
    )


@router.get("/requests/{request_id}/document", tags=["documents"], responses=SAFE)
def document(
    desk: TheDesk,
    person: Someone,
    request_id: TheRequest,
    document_id: Annotated[DocumentId, Query(alias="id")],
    at: PlaceInText = 0,
) -> DocumentView:
    """One document: its text with the evidence in it, what each stage says, where from, and its history."""
    return reading.document_view(desk, person, request_id, document_id, at=at)


@router.get("/unanswered", tags=["documents"], responses=SAFE)
def unanswered(
    desk: TheDesk,
    person: Someone,
    collection: OfCollection = None,
    show: Annotated[
        Shown, Query(description="What needs a person, or also what is asked about again by itself.")
    ] = "people",
    page: Page = 1,
    per_page: PerPage = 50,
) -> UnansweredPage:
    """Documents without a result, with what was tried."""
    return reading.unanswered_page(desk, person, collection=collection or "", show=show, page=page, per_page=per_page)


@router.get("/quality", tags=["documents"], responses=SAFE)
def quality(
    desk: TheDesk,
    person: Someone,
    collection: OfCollection = None,
    partition: Annotated[str, Query(description="The partition, whole; empty for all.", max_length=1000)] = "",
    show: Annotated[Judged, Query(description="What a suite refused, or all that was judged.")] = "all",
    page: Page = 1,
    per_page: PerPage = 20,
) -> QualityPage:
    """Data docs: what the quality suites found, by collection, partition and asset."""
    return reading.quality_page(
        desk, person, collection=collection or "", partition=partition, show=show, page=page, per_page=per_page
    )


@router.post("/unanswered/ask-again", tags=["documents"], responses=UNSAFE)
def ask_about_again(desk: TheDesk, person: Someone, asking: AskingAgain) -> AskedAgain:
    """Begin the count of tries again, so that the next run asks about the document."""
    chosen = asking_again.ask_again(
        desk.stores.state, collection_seen(desk, person, asking.collection), by=person, partitions=[asking.partition],
        document_id=asking.document_id, reason=asking.reason,
    )  # fmt: skip
    return AskedAgain(assets=sorted({retry.asset for retry in chosen}))


@router.get("/runs", tags=["runs"], responses=SAFE)
def runs(desk: TheDesk, person: Someone) -> Sequence[RunsRow]:
    """Partitions by state, and what is due, of every collection the person may see."""
    return reading.runs_rows(desk, person)


@router.get("/runs/{collection}", tags=["runs"], responses=SAFE)
def runs_of(desk: TheDesk, person: Someone, collection: TheCollection) -> RunsView:
    """What is due, what runs and who started it, and the backfills."""
    return reading.runs_view(desk, person, collection)


@router.get("/runs/{collection}/price", tags=["runs"], responses=SAFE)
def price(
    desk: TheDesk,
    person: Someone,
    collection: TheCollection,
    first: Annotated[Text, Query(max_length=200, description="The first partition; empty for all that is due.")] = "",
    last: Annotated[Text, Query(max_length=200, description="The last one; empty for the first alone.")] = "",
) -> Price:
    """What a run would cost, before it runs. No model is asked, nothing is started."""
    return reading.price(desk, person, collection, first, last)


@router.get("/runs/{collection}/run/{run_id}", tags=["runs"], responses=SAFE)
def run(desk: TheDesk, person: Someone, collection: TheCollection, run_id: TheRun) -> RunView:
    """When its assets were computed, and their outcomes. Of many, those that failed and those that took longest."""
    return reading.run_view(desk, person, collection, run_id)


@router.post("/runs/{collection}/start", tags=["runs"], responses=UNSAFE)
def start(desk: TheDesk, person: Someone, collection: TheCollection, starting: Starting) -> Started:
    """Start a run of what is due, a run of named partitions, or a backfill, through Dagster."""
    wanted = LaunchRequest(
        kind=starting.kind, first=starting.first, last=starting.last, max_usd=starting.max_usd,
        launch_id=starting.launch_id or "",
    )  # fmt: skip
    return Started.model_validate(vars(launching.start(desk, person, collection, wanted)))


@router.post("/runs/{collection}/stop", tags=["runs"], responses=UNSAFE)
def stop(desk: TheDesk, person: Someone, collection: TheCollection) -> Stopped:
    """End the backfill that is under way; what it has done is kept."""
    made = launching.stop(desk, person, collection)
    return Stopped(backfill=made.backfill if made else None)


@router.post("/decisions", tags=["requests"], responses=UNSAFE)
def decide(desk: TheDesk, person: Someone, decision: Decision) -> Decisions:
    """Approve, reject or send back what was seen. In each collection all of it, or nothing.

    Where nothing at all could be recorded, the answer is the problem.
    """
    by_collection: dict[str, list[Choice]] = {}
    with desk.stores.state.read() as connection:
        for chosen in decision.choices:
            found, _ = request_seen(desk, person, connection, chosen.request_id)
            by_collection.setdefault(found.collection, []).append(Choice(chosen.request_id, chosen.digest))
    decided: list[Decided] = []
    refused: list[tuple[str, UserError]] = []
    for name, choices in by_collection.items():
        try:
            decided += _decide(desk, person, name, list(dict.fromkeys(choices)), decision)
        except UserError as error:
            refused.append((name, error))
    if not decided:
        raise HTTPException(status_of(refused[0][1]), joined([error for _, error in refused]))
    told = [Refused(collection=name, status=status_of(error), error=str(error)) for name, error in refused]
    return Decisions(decided=decided, refused=told)


def _decide(desk: Desk, person: Person, name: str, choices: Sequence[Choice], decision: Decision) -> list[Decided]:
    collection = desk.collections()[name]
    rules = collection.settings.signoff
    with desk.stores.state.read() as connection:
        require_decision(connection, collection, person, decision.verdict, [choice.request_id for choice in choices])
    done = decisions.decide(
        desk.stores.state, name, choices, decision.verdict, by=person, reason=decision.reason, rules=rules,
        waivers=decision.waivers,
    )  # fmt: skip
    with desk.stores.state.read() as connection:
        given = decisions.standings(connection, done)
    return [
        Decided(
            request_id=item.request_id,
            collection=item.collection,
            partition=item.partition,
            status=item.status,
            missing=given[item.request_id].missing(rules) if item.status == "open" else [],
        )
        for item in done
    ]


@router.post("/requests/{request_id}/ask-again", tags=["requests"], responses=UNSAFE)
def ask_again(desk: TheDesk, person: Someone, request_id: TheRequest, again: Again) -> Asked:
    """Open a new request for a candidate that was rejected, sent back or that expired."""
    found = require_current(desk, person, request_id)
    opened = decisions.ask_again(desk.stores.state, found.collection, found.partition, by=person, reason=again.reason)
    return Asked(request_id=opened.request_id)


@router.post("/requests/{request_id}/claim", tags=["requests"], responses=UNSAFE)
def claim(desk: TheDesk, person: Someone, request_id: TheRequest, claiming: Claiming) -> Claimed:
    """Say who looks at a request, oneself or somebody else. It gives no right and takes none."""
    found = require_current(desk, person, request_id)
    if claiming.person is None:
        return Claimed.model_validate(vars(claims.take(desk.stores.state, found, by=person)))
    return Claimed.model_validate(vars(claims.assign(desk.stores.state, found, claiming.person, by=person)))


@router.post("/requests/{request_id}/unclaim", tags=["requests"], responses=UNSAFE)
def unclaim(desk: TheDesk, person: Someone, request_id: TheRequest) -> Claimed:
    """Give it up; an approver ends anybody's claim."""
    with desk.stores.state.read() as connection:
        found, _ = request_seen(desk, person, connection, request_id)
    claims.give_up(desk.stores.state, found, by=person)
    return Claimed(person=None, given_by=None, made_at=None)


@router.post("/requests/{request_id}/notes", tags=["documents"], responses=UNSAFE)
def note(desk: TheDesk, person: Someone, request_id: TheRequest, made: NoteMade) -> Noted:
    """Comment on a document, mark it as reviewed, ask for a second look, or say that one was taken."""
    found, line = line_of(desk, person, request_id, made.document_id)
    left = notes.add(desk.stores.state, found, made.document_id, line.leaf, made.kind, made.text, by=person)
    return Noted(note_id=left.note_id, kind=left.kind, author=left.author, made_at=left.made_at)


@router.post("/requests/{request_id}/corrections", tags=["documents"], responses=UNSAFE)
def correct(desk: TheDesk, person: Someone, request_id: TheRequest, correcting: Correcting) -> Corrected:
    """Say which label is right. The next run of the partition uses it."""
    found, collection = whole_request_seen(desk, person, request_id)
    made = corrections.correct(
        desk.stores, collection=collection, request=found, document_id=correcting.document_id,
        stage=correcting.stage, label=correcting.label, reason=correcting.reason, by=person,
    )  # fmt: skip
    return Corrected(**{name: getattr(made, name) for name in Corrected.model_fields})


@router.get("/audit", tags=["audit"], responses=SAFE)
def audit(
    desk: TheDesk,
    person: Someone,
    collection: OfCollection = None,
    actor: Annotated[Name | None, Query(description="Only what this person did.")] = None,
    action: Annotated[Action | None, Query(description="Only such records.")] = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    before: Annotated[
        int | None, Query(ge=1, le=GREATEST_NUMBER, description="Only records before this number.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """The audit chain in words, the newest record first."""
    sought = reading.AuditFilter(collection=collection, actor=actor, action=action, since=since, until=until)
    entries, further = reading.audit_page(desk, person, sought, before=before, limit=limit)
    return AuditPage(entries=entries, next_before=further)


@router.get("/releases/{collection}", tags=["releases"], responses=SAFE, name="releases")
def releases_(desk: TheDesk, person: Someone, collection: TheCollection) -> Sequence[ReleaseRow]:
    """All releases of a collection, the newest first."""
    return reading.release_rows(desk, person, collection)


@router.get("/releases/{collection}/at", tags=["releases"], responses=SAFE)
def live_at(desk: TheDesk, person: Someone, collection: TheCollection, moment: Moment) -> ReleaseAt:
    """What readers saw at a time."""
    return ReleaseAt(release=reading.live_at(desk, person, collection, moment))


@router.post("/releases/{collection}/rollback", tags=["releases"], responses=UNSAFE)
def rollback(desk: TheDesk, person: Someone, collection: TheCollection, wanted: Rollback) -> ReleaseRow:
    """Point readers at another release, at once."""
    found = collection_seen(desk, person, collection)
    require_access(found, person, "roll back")
    name = found.name
    said = list[str]()
    target = going_live.roll_back(found, desk.stores, wanted.number, by=person, reason=wanted.reason, say=said.append)
    row = next(row for row in reading.release_rows(desk, person, name) if row.number == target.number)
    return replace(row, notices=[printable(masked(line)) for line in said])
