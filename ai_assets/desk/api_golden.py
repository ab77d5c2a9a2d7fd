"""The part of the API about what people say is right: golden documents, ratings of outputs, and what gates stopped."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query

from ai_assets.desk import golden_items
from ai_assets.desk.api_document import SAFE, UNSAFE
from ai_assets.desk.api_parameters import Someone, TheCollection, TheDesk
from ai_assets.desk.api_records import (
    ActedOnGolden,
    ActingOnGolden,
    DocumentId,
    GoldenAnswer,
    GoldenDocument,
    Rated,
    RatedOutput,
    RatingOutput,
    StageName,
    WithdrawingRating,
)
from ai_assets.desk.evaluation_query import stops_of
from ai_assets.desk.ratings_query import judge_seen, rating_view
from ai_assets.desk.views import GateStopView
from ai_assets.signoff import given_ratings
from ai_assets.signoff.given_ratings import GivenRating

router = APIRouter()
TheDocument = Annotated[DocumentId, Query(alias="id")]
TheJudge = Annotated[StageName, Path(description="A stage of kind `judge`.")]


@router.get("/evaluation/{collection}/stops", tags=["golden data"], responses=SAFE)
def gate_stops(
    desk: TheDesk, person: Someone, collection: TheCollection, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> Sequence[GateStopView]:
    """Candidates that gates stopped, the newest first, whatever passed after them."""
    return stops_of(desk, person, collection, limit)


@router.get("/golden/{collection}/document", tags=["golden data"], responses=SAFE)
def golden_document(
    desk: TheDesk, person: Someone, collection: TheCollection, document_id: TheDocument
) -> GoldenDocument:
    """Who says what of a golden document, and whether it is retired."""
    found = golden_items.golden_document(desk, person, collection, document_id)
    said = [
        GoldenAnswer(author=each.author, label=each.label, note=each.note, made_at=each.made_at) for each in found.said
    ]
    return GoldenDocument(
        document_id=found.document,
        digest=found.digest,
        golden=found.golden,
        said=said,
        retired=None if found.retired is None else found.retired.note,
        labels=found.labels,
    )


@router.post("/golden/{collection}/item", tags=["golden data"], responses=UNSAFE)
def act_on_golden(desk: TheDesk, person: Someone, collection: TheCollection, acting: ActingOnGolden) -> ActedOnGolden:
    """Retire a golden document, take that back, or dispute its label. The next run measures with it."""
    said = golden_items.act(
        desk, person, collection, acting.document_id, what=acting.act, digest=acting.digest, label=acting.label or "",
        reason=acting.reason,
    )  # fmt: skip
    return ActedOnGolden(said=said)


@router.get("/golden/{collection}/ratings/{judge}", tags=["golden data"], responses=SAFE)
def output_to_rate(
    desk: TheDesk,
    person: Someone,
    collection: TheCollection,
    judge: TheJudge,
    document_id: Annotated[DocumentId | None, Query(alias="id", description="Of this document, rated or not.")] = None,
) -> RatedOutput:
    """The next output that waits for a rating, or that of a document; blind to what the judge said."""
    view = rating_view(desk, person, collection, judge, document_id or "")
    task = view.task
    return RatedOutput(
        document_id=None if task is None else task.document,
        output=None if task is None else task.output,
        text=None if task is None else task.written,
        made_from=None if task is None else task.text,
        mine=None if task is None else task.mine,
        scale=[choice.word for choice in view.choices],
        criteria=view.criteria,
        rated=view.rated,
        waiting=view.waiting,
    )


@router.post("/golden/{collection}/ratings/{judge}/rate", tags=["golden data"], responses=UNSAFE)
def rate(desk: TheDesk, person: Someone, collection: TheCollection, judge: TheJudge, rating: RatingOutput) -> Rated:
    """Rate an output as it was shown; another rating of the same text replaces one's own."""
    found, stage = judge_seen(desk, person, collection, judge)
    made = given_ratings.rate(
        desk.stores, found, stage, rating.document_id, rating.output, rating.rating, by=person
    )  # fmt: skip
    return _rated(made)


@router.post("/golden/{collection}/ratings/{judge}/withdraw", tags=["golden data"], responses=UNSAFE)
def withdraw_rating(
    desk: TheDesk, person: Someone, collection: TheCollection, judge: TheJudge, withdrawing: WithdrawingRating
) -> Rated:
    """Take one's own rating back: it stays on record, and counts no more until one rates again."""
    found, stage = judge_seen(desk, person, collection, judge)
    made = given_ratings.withdraw(
        desk.stores, found, stage, withdrawing.document_id, withdrawing.output, by=person
    )  # fmt: skip
    return _rated(made)


def _rated(made: GivenRating) -> Rated:
    return Rated(
        document_id=made.document_id,
        output=made.output,
        rating=None if made.said is None else str(made.said),
        author=made.author,
        number=made.number,
        made_at=made.made_at,
    )
