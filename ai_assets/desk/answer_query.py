"""An answer of a model as one person may see it: whoever may see a collection may see what was answered about it."""

import math
from dataclasses import replace

from ai_assets.desk.access import NotSeen
from ai_assets.desk.context import Desk
from ai_assets.desk.views_of_answers import AnswerAttemptView, AnswerUseView, AnswerView, SentView
from ai_assets.inference.history import Attempt
from ai_assets.inference.sent import SentRequest
from ai_assets.run.answer import AnswerRecord, AnswerUse, open_answer
from ai_assets.signoff import requests
from ai_assets.signoff.people import EVERYWHERE, Person

LONGEST_TEXT = 200_000
"""Characters of the whole answer, and of each message, that a page and the API show; the command has all."""


def answer_view(desk: Desk, person: Person, call: str) -> AnswerView:
    """Raises `NotSeen` also where it is about other collections alone."""
    seen, everything = set(desk.seen_by(person)), person.may("viewer", EVERYWHERE)
    found = open_answer(desk.stores, call, lambda name: everything or name in seen)
    if found is None:
        raise NotSeen(f"answer '{call}'")
    if desk.tenants() and not everything:
        found = _own_part(found)
    newest = _newest_requests(desk, {(use.collection, use.partition) for use in found.uses} if found.uses else set())
    return AnswerView(
        call=found.call,
        kind=found.kind,
        model=found.answered_model or found.model,
        endpoint=found.endpoint,
        protocol=found.protocol,
        prompt=found.prompt or None,
        answered_by=found.answered_by,
        text=None if found.text is None else found.text[:LONGEST_TEXT],
        data=found.data,
        body=None if found.body is None else found.body[:LONGEST_TEXT],
        cut=max(len(found.text or ""), len(found.body or "")) > LONGEST_TEXT,
        sent=None if found.sent is None else _sent(found.sent),
        sent_missing=found.sent_missing,
        erased=found.erased,
        attempts=[_attempt(item) for item in found.attempts],
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cost_usd=found.cost_usd,
        maybe_usd=found.maybe_usd,
        saved_usd=found.saved_usd,
        reused=found.reused,
        uses=[_use(use, newest.get((use.collection, use.partition))) for use in found.uses],
        more_places=found.more_places,
    )


def _own_part(found: AnswerRecord) -> AnswerRecord:
    """Without attempts that others made and paid, where tenants are declared: they had one answer before that."""
    own = [attempt for attempt in found.attempts if attempt.collection]
    return replace(
        found,
        attempts=own,
        cost_usd=math.fsum(attempt.cost_usd or 0.0 for attempt in own),
        maybe_usd=math.fsum(attempt.reserved_usd for attempt in own if attempt.state == "ambiguous"),
    )


def _newest_requests(desk: Desk, places: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Where the document can be looked at as it is now."""
    with desk.stores.state.read() as connection:
        found = {place: requests.latest_of(connection, *place) for place in places}
    return {place: request.request_id for place, request in found.items() if request is not None}


def _sent(found: SentRequest) -> SentView:
    cut = [{"role": each.role, "content": each.content[:LONGEST_TEXT]} for each in found.messages]
    return SentView(
        messages=cut,
        answer_schema=found.schema,
        settings=found.settings,
        body=None if cut else found.body[:LONGEST_TEXT],
    )


def _use(use: AnswerUse, request_id: str | None) -> AnswerUseView:
    return AnswerUseView(
        collection=use.collection,
        stage=use.stage,
        partition=use.partition,
        document=use.document,
        current=use.current,
        releases=use.releases,
        live=use.live,
        request_id=request_id if use.current else None,
    )


def _attempt(item: Attempt) -> AnswerAttemptView:
    return AnswerAttemptView(
        attempt=item.attempt,
        collection=item.collection or None,
        run_id=item.run_id or None,
        endpoint=item.endpoint,
        model=item.model,
        state=item.state,
        error=item.error,
        message=item.message,
        sent_at=item.sent_at,
        latency_s=item.latency_s,
        input_tokens=item.input_tokens,
        output_tokens=item.output_tokens,
        cost_usd=item.cost_usd,
        reserved_usd=item.reserved_usd,
        duplicate_of=item.duplicate_of,
    )
