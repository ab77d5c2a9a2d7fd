"""Decisions: first a page that says in one sentence what will happen, then the record of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.desk import passkeys, reading
from ai_assets.desk.access import whole_request_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.inbox import facts_of
from ai_assets.desk.pages.form import Form, FormIncomplete, person_of
from ai_assets.desk.pages.inbox import show as show_inbox
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.request import DecisionFormInput, show, waits
from ai_assets.desk.refusal import status_of
from ai_assets.signoff import decisions
from ai_assets.signoff.decisions import VERDICTS, Choice, Verdict
from ai_assets.signoff.errors import DecisionRefused, DecisionTooLate
from ai_assets.signoff.people import Person
from ai_assets.signoff.policy_facts import require_access
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.signoff.statements import SignedDecision

MOST_AT_ONCE = 200
_NO_FACTS: Mapping[str, Any] = {
    **dict.fromkeys(("added", "changed", "removed", "relabelled", "unreadable", "quarantined", "low_confidence",
                     "failed_gates"), 0),
    "gates": None, "passed_gates": None,
}  # fmt: skip
DONE = {"approve": "approved", "reject": "rejected", "send back": "sent back"}


@dataclass(frozen=True, kw_only=True)
class DecisionLine:
    """One request on a page about several."""

    request: SignoffRequest
    problem: str | None = None
    """Why nothing will be, or was, recorded."""
    missing: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    not_loaded: str | None = None
    """Why nothing publishes it, though it is approved."""


def verdict_of(form: Form) -> Verdict:
    asked = form.one("verdict")
    found = next((verdict for verdict in VERDICTS if verdict == asked), None)
    if found is None:
        raise FormIncomplete("verdict", asked)
    return found


async def one(http: HttpRequest) -> Response:
    return await run_in_threadpool(_one, http, await Form.of(http))


def _one(http: HttpRequest, form: Form) -> Response:
    desk, person = Desk.of(http), person_of(http)
    verdict, typed, digest = verdict_of(form), DecisionFormInput.of(form), form.one("digest")
    view = reading.request_view(desk, person, http.path_params["request_id"])
    request, collection = whole_request_seen(desk, person, view.row.request_id)
    rules = collection.settings.signoff
    unmet = [gate for gate in view.gates if not gate.passed and not gate.waived_because] if verdict == "approve" else []
    try:
        if digest != request.digest:
            seen = f"what you saw was {digest[:12] or 'nothing'}, and this is {request.digest[:12]}"
            raise DecisionTooLate(request.collection, request.partition, seen)
        if not waits(view):
            raise DecisionTooLate(request.collection, request.partition, decisions.closed_in_words(request))
        if problem := decisions.why_not_by(person, request, rules, verdict):
            raise DecisionRefused(person.name, problem)
        require_access(collection, person, verdict, [request.partition])
        for gate in unmet:
            if not gate.waivable:
                raise DecisionRefused(person.name, f"no approval overrides this gate: {gate.message}")
        lacking = [gate for gate in unmet if not typed.waivers.get(gate.name)]
        lacking_reason = verdict != "approve" and not typed.reason
        if form.one("confirmed") == "yes" and not lacking and not lacking_reason:
            decisions.decide(
                desk.stores.state, request.collection, [Choice(request.request_id, digest)], verdict, by=person,
                reason=typed.reason, rules=rules, waivers=typed.waivers, signed=_signed(http, form),
            )  # fmt: skip
            return RedirectResponse(f"/requests/{request.request_id}", 303)
    except UserError as error:
        return show(http, typed, problem=in_words(error), status_code=status_of(error))
    asked_before = form.one("confirmed") == "yes"
    context = {
        "verdict": verdict,
        "sentence": view.sentence[verdict],
        "action": f"/requests/{request.request_id}/decision",
        "back": f"/requests/{request.request_id}",
        "lines": [_line(request)],
        "hidden": [("digest", request.digest), ("request_id", request.request_id)],
        "own_key": _own_key(desk, person, [collection], verdict),
        "unmet": unmet,
        "typed": typed,
        "problem": _lacking(verdict, bool(lacking)) if asked_before else None,
    }
    return render(http, "confirm.html", context, 400 if asked_before else 200)


def _signed(http: HttpRequest, form: Form) -> SignedDecision | None:
    return passkeys.signed_decision(Desk.of(http), person_of(http), form.exact("said"), form.exact("assertion"))


def _own_key(desk: Desk, person: Person, collections: Sequence[Collection], verdict: Verdict) -> str:
    """Whether a passkey of theirs signs this: `demanded`, `offered`, or else `missing` where one is demanded."""
    demanded = verdict == "approve" and any(item.settings.signoff.personal_keys == "required" for item in collections)
    if passkeys.of(desk, person.name):
        return "demanded" if demanded else "offered"
    return "missing" if demanded else "none"


def _lacking(verdict: Verdict, gates: bool) -> str:
    if gates:
        return "Every failed gate needs the reason why it may be waived; nothing was recorded."
    asked = "A rejection needs a reason" if verdict == "reject" else "Sending back needs notes on what to do"
    return f"{asked}; nothing was recorded."


def _line(request: SignoffRequest, problem: str | None = None, missing: Sequence[str] = ()) -> DecisionLine:
    facts = {**_NO_FACTS, **facts_of(request, request.changes)}
    return DecisionLine(request=request, problem=problem, missing=missing, facts=facts)


async def several(http: HttpRequest) -> Response:
    form = await Form.of(http)
    if not form.every("choice"):
        problem = "Select at least one request first; nothing was recorded."
        return await run_in_threadpool(show_inbox, http, problem=problem, status_code=400)
    return await run_in_threadpool(_several, http, form)


def _several(http: HttpRequest, form: Form) -> Response:
    verdict, typed = verdict_of(form), DecisionFormInput.of(form)
    choices = choices_of(form)
    if len(choices) > MOST_AT_ONCE:
        raise FormIncomplete("choice", f"{plural(len(choices), 'request')}; {MOST_AT_ONCE} are the most at once")
    confirmed = form.one("confirmed") == "yes"
    if confirmed and (verdict == "approve" or typed.reason):
        return _decided(http, choices, verdict, typed, _signed(http, form))
    lines = [_line(request, problem) for request, problem in _seen(http, choices, verdict)]
    able = [line for line in lines if line.problem is None]
    context = {
        "verdict": verdict,
        "sentence": _sentence(verdict, [line.request for line in able]),
        "action": "/decisions",
        "back": "/",
        "lines": lines,
        "hidden": [("choice", f"{line.request.request_id}:{line.request.digest}") for line in able],
        "own_key": _own_key(
            Desk.of(http),
            person_of(http),
            [Desk.of(http).collections()[name] for name in {line.request.collection for line in able}],
            verdict,
        ),
        "unmet": [],
        "typed": typed,
        "problem": _lacking(verdict, False) if confirmed else None,
    }
    return render(http, "confirm.html", context, 400 if confirmed else 200)


def choices_of(form: Form) -> list[Choice]:
    """Of either form: about several requests, or about one."""
    if form.every("choice"):
        return [_choice(text) for text in dict.fromkeys(form.every("choice"))]
    return [Choice(form.one("request_id"), form.one("digest"))]


def _choice(text: str) -> Choice:
    request_id, _, digest = text.partition(":")
    if not request_id or not digest:
        raise FormIncomplete("choice", text[:80])
    return Choice(request_id, digest)


def _seen(http: HttpRequest, choices: Sequence[Choice], verdict: Verdict) -> list[tuple[SignoffRequest, str | None]]:
    """Each request with why this person cannot decide so on it, as far as it is known now."""
    desk, person = Desk.of(http), person_of(http)
    found = []
    for choice in choices:
        request, collection = whole_request_seen(desk, person, choice.request_id)
        rules = collection.settings.signoff
        problem = decisions.why_not_by(person, request, rules, verdict)
        if request.digest != choice.digest:
            problem = f"what you saw was {choice.digest[:12]}, and this is {request.digest[:12]}"
        elif request.status != "open":
            problem = decisions.closed_in_words(request)
        elif verdict == "approve" and decisions.holding(request) and problem is None:
            problem = "a gate has failed; open it to see whether it may be waived, and say why"
        found.append((request, problem))
    return found


def _sentence(verdict: Verdict, found: Sequence[SignoffRequest]) -> str:
    if not found:
        return "Nothing of what you chose can be decided by you; nothing will be recorded."
    names = " and ".join(sorted({request.collection for request in found}))
    what = f"{plural(len(found), 'candidate')} of {names}"
    return {
        "approve": f"Your approval of {what} is recorded, and each goes live as soon as it has all it needs.",
        "reject": f"{what} will be rejected with your reason; what is live stays as it is.",
        "send back": f"{what} will be sent back with your notes; what is live stays as it is.",
    }[verdict]


def _decided(
    http: HttpRequest,
    choices: Sequence[Choice],
    verdict: Verdict,
    typed: DecisionFormInput,
    signed: SignedDecision | None,
) -> Response:
    """Each on its own: one that was decided by somebody else meanwhile does not hold up the others."""
    desk, person = Desk.of(http), person_of(http)
    seen = _seen(http, choices, verdict)
    lines = [
        _decide(desk, person, choice, request, verdict, typed, signed)
        for choice, (request, _) in zip(choices, seen, strict=True)
    ]
    recorded = sum(line.problem is None for line in lines)
    context = {"verdict": verdict, "done": DONE[verdict], "lines": lines, "recorded": recorded}
    return render(http, "decided.html", context, 200 if recorded else 409)


def _decide(
    desk: Desk,
    person: Person,
    choice: Choice,
    request: SignoffRequest,
    verdict: Verdict,
    typed: DecisionFormInput,
    signed: SignedDecision | None,
) -> DecisionLine:
    collection = desk.collections()[request.collection]
    rules = collection.settings.signoff
    try:
        require_access(collection, person, verdict, [request.partition])
        after = decisions.decide(
            desk.stores.state, request.collection, [choice], verdict, by=person, reason=typed.reason, rules=rules,
            signed=signed,
        )  # fmt: skip
    except UserError as error:
        return _line(request, in_words(error))
    with desk.stores.state.read() as connection:
        standing = decisions.standings(connection, after)[request.request_id]
    if verdict != "approve":
        return _line(after[0])
    found = _line(after[0], missing=standing.missing(rules))
    publication = reading.publication_of(desk, person, after[0])
    return replace(found, not_loaded=publication.said if publication.state == "not loaded" else None)
