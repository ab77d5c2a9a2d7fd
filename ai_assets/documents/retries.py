"""Documents without a result: how often they were asked about, when the next run asks again, and which need a person.

The counts are rows of the state store and no part of a dataset: asking again without success changes no version, and so
voids no sign-off. What an asset does with them is in `ai_assets/run/datasets/tries.py`.
"""

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.evaluation.verdict import NO_CANDIDATE
from ai_assets.inference.records import PASSING
from ai_assets.stages.base import MOST_TRIES
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now, storable

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection

DELAYS_S = (300, 1_800, 7_200, 43_200, 86_400)
"""After the first, second, ... try without a result; the last of them from then on."""
SKEW_S = 600
"""Clocks of two machines may differ by so much. A last try further ahead means that the clock was set back."""
UNREAD = "unread"
"""The class of a document whose bytes could not be read, or not in time."""
FAILED = "failed"
"""The class of a partition that failed for a reason that may pass."""
CANDIDATE = "release_candidate"
"""The asset that a partition has none of when it failed."""
WHOLE = ""
"""In place of a document where a partition failed as a whole."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """One document that an asset has no result for."""

    collection: str
    asset: str
    partition: str
    document_id: str
    question: str
    """Digest of what was asked; another question starts a new count."""
    tries: int
    """Runs that asked and got no result, since a person last said to ask again."""
    passes: bool
    """Whether the error is of a kind that goes away by itself."""
    error: str
    """Its class."""
    message: str
    call: str
    """Its key in the ledger; empty where there is none."""
    last_at: str
    next_at: str
    resolved: bool = False
    """A person has said what became of the call that was held."""

    def is_due(self, at: str, most: int) -> bool:
        if self.resolved:
            return True
        if self.needs_person(most):
            return False
        return self.next_at <= at or self.last_at > _later(at, SKEW_S)

    def needs_person(self, most: int) -> bool:
        """Nothing asks again by itself."""
        return not self.resolved and (not self.passes or self.tries >= most)

    @property
    def stopped_by_gate(self) -> bool:
        """Nothing is missing and nothing went wrong: what was measured is not good enough."""
        return self.document_id == WHOLE and NO_CANDIDATE in self.message


TABLE = sa.table("document_retries", *(sa.column(each.name) for each in fields(Retry) if each.name != "resolved"))
_ATTEMPTS = sa.table("attempts", sa.column("call_key"), sa.column("state"))
HELD = "held"


def failed_again(before: Retry | None, fresh: Retry) -> Retry:
    """One more try without a result; `fresh` says of what and why."""
    same = before is not None and before.question == fresh.question
    tries = before.tries + 1 if before is not None and same else 1
    delay = DELAYS_S[min(tries, len(DELAYS_S)) - 1]
    return replace(fresh, tries=tries, next_at=_later(fresh.last_at, delay))


def first(
    collection: str, asset: str, partition: str, document_id: str, *, question: str, error: str, message: str,
    call: str = "", passes: bool | None = None,
) -> Retry:  # fmt: skip
    """A try that just ended without a result; `failed_again` counts it."""
    at = now()
    return Retry(
        collection=collection,
        asset=asset,
        partition=partition,
        document_id=document_id,
        question=question,
        tries=0,
        passes=error in PASSING if passes is None else passes,
        error=error,
        message=message,
        call=call,
        last_at=at,
        next_at=at,
    )


def _later(at: str, seconds: float) -> str:
    moved = datetime.datetime.fromisoformat(at) + datetime.timedelta(seconds=seconds)
    return moved.isoformat(timespec="milliseconds")


# Reading


_OPEN_CALLS = sa.exists().where(_ATTEMPTS.c.call_key == TABLE.c.call, _ATTEMPTS.c.state == "ambiguous")
_RESOLVED = sa.and_(TABLE.c.error == HELD, sa.not_(_OPEN_CALLS))
_STOPPED = sa.and_(TABLE.c.document_id == WHOLE, TABLE.c.message.contains(NO_CANDIDATE))


def number_of_people(connection: sa.Connection, collection: str, most: Mapping[str, int]) -> int:
    """How many documents of a collection need a person; `most` has the number of tries by asset. What a gate stopped
    is no document without a result."""
    some = [
        sa.and_(TABLE.c.asset == asset, sa.or_(TABLE.c.passes == 0, TABLE.c.tries >= number))
        for asset, number in most.items()
    ]
    query = sa.select(sa.func.count()).where(
        TABLE.c.collection == collection, sa.or_(*some), sa.not_(_RESOLVED), sa.not_(_STOPPED)
    )
    return int(connection.execute(query).scalar_one())


def find(
    connection: sa.Connection,
    collection: str,
    *,
    partition: str | None = None,
    asset: str | None = None,
    document_id: str | None = None,
) -> list[Retry]:
    """In order of partition, document and asset."""
    query = sa.select(TABLE, _RESOLVED.label("resolved"))
    wanted = {"collection": collection, "partition": partition, "asset": asset, "document_id": document_id}
    for name, value in wanted.items():
        if value is not None:
            query = query.where(TABLE.c[name] == value)
    rows = connection.execute(query.order_by(TABLE.c.partition, TABLE.c.document_id, TABLE.c.asset)).mappings()
    return [Retry(**{**row, "passes": bool(row["passes"]), "resolved": bool(row["resolved"])}) for row in rows]


def stopped(connection: sa.Connection, collection: str) -> list[Retry]:
    """Partitions whose candidate a gate stopped when they were run last, in order."""
    found = find(connection, collection, asset=CANDIDATE, document_id=WHOLE)
    return [retry for retry in found if retry.stopped_by_gate]


def need_a_person(connection: sa.Connection, collection: "Collection") -> list[Retry]:
    """Those that no run asks about again by itself, of assets that are declared."""
    return [
        retry
        for retry in find(connection, collection.name)
        if retry.asset in collection.asset_names and retry.needs_person(collection.tries_of(retry.asset))
    ]


@dataclass(kw_only=True)
class RetrySummary:
    """The documents of one partition that have no result, counted."""

    whole: Retry | None = None
    """Where the partition failed as a whole."""
    whole_most: int = MOST_TRIES
    due: int = 0
    later: int = 0
    people: int = 0
    uncounted: int = 0
    """Rows without an answer of which no try is on record: an earlier version made them, or a run died."""
    next_at: str | None = None
    """When the next of `later` is due."""
    errors: Counter[str] = field(default_factory=Counter)
    """Of `due` and `later`, by class."""
    people_errors: Counter[str] = field(default_factory=Counter)

    @property
    def is_due(self) -> bool:
        """Some document may be asked about."""
        return bool(self.due or self.uncounted)

    def failed_is_due(self, at: str) -> bool:
        """A partition that failed may be run again by what watches: its back-off is over, and something may differ."""
        if self.whole is None:
            return self.is_due
        again = self.is_due or not self.whole.needs_person(self.whole_most)
        return again and replace(self.whole, tries=0, passes=True).is_due(at, self.whole_most)

    @property
    def is_stopped(self) -> bool:
        """A gate stopped the candidate: to run the same again changes nothing."""
        return self.whole is not None and self.whole.stopped_by_gate and self.whole.needs_person(self.whole_most)

    def add(self, retry: Retry, at: str, most: int) -> None:
        if retry.document_id == WHOLE:
            self.whole, self.whole_most = retry, most
            return
        if retry.needs_person(most):
            self.people += 1
            self.people_errors[retry.error] += 1
            return
        self.errors[retry.error] += 1
        if retry.is_due(at, most):
            self.due += 1
        else:
            self.later += 1
            self.next_at = min(self.next_at or retry.next_at, retry.next_at)

    @property
    def plain(self) -> dict[str, Json]:
        """For JSON."""
        again = self.due + self.later + self.uncounted
        return {
            "to_ask_again": again,
            "due": self.due + self.uncounted,
            "next_at": self.next_at,
            "errors": dict(self.errors),
            "need_a_person": self.people,
            "need_a_person_errors": dict(self.people_errors),
            "failed_runs": self.whole.tries if self.whole else 0,
            "said": self.in_words,
        }

    @property
    def in_words(self) -> str:
        """Such as `3 documents to ask again (garbled), next at 2026-11-26 14:05 UTC; 1 needs a person (refused)`."""
        said = []
        if self.whole is not None:
            said.append(self._of_whole(self.whole))
        if again := self.due + self.later + self.uncounted:
            classes = f" ({_listed(self.errors)})" if self.errors else ""
            when = "now" if self.is_due else f"next at {shown(self.next_at or '')}"
            said.append(f"{plural(again, 'document')} to ask again{classes}, {when}")
        if self.people:
            there = plural(self.people, "document needs", "documents need")
            said.append(f"{there} a person ({_listed(self.people_errors)})")
        return "; ".join(said)

    def _of_whole(self, whole: Retry) -> str:
        runs = plural(whole.tries, "run")
        if self.is_stopped:
            return f"stopped by a gate in {runs}"
        if whole.needs_person(self.whole_most):
            return f"failed in {runs}, needs a person"
        return f"failed in {runs}, next try at {shown(whole.next_at)}"


def _listed(errors: Counter[str]) -> str:
    """The most frequent first."""
    if len(errors) == 1:
        return next(iter(errors))
    ordered = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {name}" for name, number in ordered)


def shown(at: str) -> str:
    """A moment to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC"


def waiting(connection: sa.Connection, collection: "Collection", at: str | None = None) -> dict[str, RetrySummary]:
    """By partition, for those that have something to tell; assets that are not declared any more say nothing."""
    at, known = at or now(), {*collection.asset_names}
    found: dict[str, RetrySummary] = defaultdict(RetrySummary)
    counted: Counter[tuple[str, str]] = Counter()
    for retry in find(connection, collection.name):
        if retry.asset in known:
            found[retry.partition].add(retry, at, collection.tries_of(retry.asset))
            counted[retry.asset, retry.partition] += 1
    for asset, partition, number in _unanswered(connection, collection):
        if (missing := number - counted[asset, partition]) > 0:
            found[partition].uncounted += missing
    return dict(found)


def _unanswered(connection: sa.Connection, collection: "Collection") -> Iterable[tuple[str, str, int]]:
    """Asset, partition and number of rows without an answer, as the datasets say."""
    if not collection.questions:
        return []
    query = sa.text(
        "SELECT asset, partition, unanswered FROM datasets "
        "WHERE collection = :collection AND asset IN :assets AND unanswered > 0"
    ).bindparams(sa.bindparam("assets", type_=sa.Text, expanding=True))
    rows = connection.execute(query, {"collection": collection.name, "assets": list(collection.questions)})
    return [(row.asset, row.partition, int(row.unanswered)) for row in rows]


# Writing


def replace_all(connection: sa.Connection, collection: str, asset: str, partition: str, found: Sequence[Retry]) -> None:
    """What is known of one asset of one partition, instead of what was."""
    connection.execute(
        sa.delete(TABLE).where(TABLE.c.collection == collection, TABLE.c.asset == asset, TABLE.c.partition == partition)
    )
    if found:
        connection.execute(sa.insert(TABLE), [_values(retry) for retry in found])


def record_partition(
    connection: sa.Connection, collection: str, partition: str, *, question: str, error: str | None, passes: bool
) -> None:
    """How often in a row the partition failed; nothing where it did not."""
    known = find(connection, collection, partition=partition, asset=CANDIDATE, document_id=WHOLE)
    if error is None:
        replace_all(connection, collection, CANDIDATE, partition, [])
        return
    fresh = first(
        collection, CANDIDATE, partition, WHOLE, question=question, error=FAILED, message=error, passes=passes
    )
    replace_all(connection, collection, CANDIDATE, partition, [failed_again(known[0] if known else None, fresh)])


def _values(retry: Retry) -> Mapping[str, object]:
    values = {name: storable(value) if isinstance(value, str) else value for name, value in vars(retry).items()}
    return {**{name: value for name, value in values.items() if name != "resolved"}, "passes": int(retry.passes)}


def reset(connection: sa.Connection, chosen: Sequence[Retry]) -> None:
    """Their count begins again, and the next run asks, whatever their error was."""
    at = now()
    for retry in chosen:
        connection.execute(
            sa.update(TABLE)
            .where(
                TABLE.c.collection == retry.collection, TABLE.c.asset == retry.asset,
                TABLE.c.partition == retry.partition, TABLE.c.document_id == retry.document_id,
            )
            .values(tries=0, passes=1, last_at=at, next_at=at)
        )  # fmt: skip
