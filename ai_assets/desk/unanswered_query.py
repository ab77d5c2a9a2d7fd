"""Documents without a result, as the desk shows them: what was tried, when it is tried again, what needs a person."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import collection_seen, known_view
from ai_assets.desk.context import Desk
from ai_assets.desk.views import RetryView, StoppedCandidates, UnansweredPage
from ai_assets.documents import retries
from ai_assets.documents.retries import Retry
from ai_assets.evaluation.verdict import NO_CANDIDATE
from ai_assets.signoff.asking_again import may_ask_again
from ai_assets.signoff.people import Person
from ai_assets.storage.state import now

Shown = Literal["people", "all"]
SHOWN: tuple[str, ...] = get_args(Shown)
"""What needs a person, or also what is asked about again by itself."""


def unanswered_page(
    desk: Desk, person: Person, *, collection: str = "", show: str = "people", page: int = 1, per_page: int = 50
) -> UnansweredPage:
    """In order of collection, partition and document."""
    known_view("filter", show, SHOWN)
    seen = desk.seen_by(person)
    chosen = {collection: collection_seen(desk, person, collection)} if collection else seen
    with desk.stores.state.read() as connection:
        found = [
            view
            for name in sorted(chosen)
            for view in retries_of(connection, person, chosen[name])
            if show == "all" or view.needs_person
        ]
    pages = max(1, math.ceil(len(found) / per_page))
    page = min(max(1, page), pages)
    return UnansweredPage(
        rows=found[(page - 1) * per_page : page * per_page],
        total=len(found),
        page=page,
        pages=pages,
        collections=sorted(seen),
    )


def retries_of(
    connection: sa.Connection,
    person: Person,
    collection: Collection,
    *,
    partition: str | None = None,
    document_id: str | None = None,
) -> list[RetryView]:
    """Those of a collection, a partition or a document; of assets that are declared."""
    at, may = now(), person.may("reviewer", collection.name)
    found = retries.find(connection, collection.name, partition=partition, document_id=document_id)
    return [_view(retry, collection, at, may=may) for retry in found if retry.asset in collection.asset_names]


def _view(retry: Retry, collection: Collection, at: str, *, may: bool) -> RetryView:
    most = collection.tries_of(retry.asset)
    needs_person = retry.needs_person(most)
    return RetryView(
        collection=retry.collection,
        partition=retry.partition,
        asset=retry.asset,
        document_id=retry.document_id,
        tries=retry.tries,
        error=retry.error,
        message=retry.message,
        last_at=retry.last_at,
        needs_person=needs_person,
        next_at=None if needs_person or retry.is_due(at, most) else retry.next_at,
        may_ask_again=may and may_ask_again(retry) and not retry.stopped_by_gate,
        stopped_by_gate=retry.stopped_by_gate,
    )


def need_a_person(connection: sa.Connection, seen: Mapping[str, Collection]) -> dict[str, int]:
    """By collection, how many documents; those that have none are left out. Counted by the store."""
    found: dict[str, int] = {}
    for name, collection in seen.items():
        most = {asset: collection.tries_of(asset) for asset in collection.asset_names}
        if number := retries.number_of_people(connection, name, most):
            found[name] = number
    return found


def stopped_candidates(connection: sa.Connection, seen: Mapping[str, Collection]) -> list[StoppedCandidates]:
    """What a gate stopped when it was run last, by collection and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(seen):
        for retry in retries.stopped(connection, name):
            why = retry.message.partition(NO_CANDIDATE)[0].strip()
            found.setdefault((name, why), []).append(retry.partition)
    return [
        StoppedCandidates(collection=name, partitions=partitions, why=why, scored=bool(seen[name].metrics))
        for (name, why), partitions in found.items()
    ]
