"""The state of each partition: by what most have in common (`PartitionFacts`), one by one where there is more to know.

What is read follows what is asked: the names of partitions that are in order only where all are wanted.
"""

from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.documents import retries
from ai_assets.documents.retries import RetrySummary
from ai_assets.documents.source_listing import Listing, listed_digests
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.jobs import BY_REFUSAL, BatchWait
from ai_assets.run import window_waits
from ai_assets.run.window_waits import WindowWait
from ai_assets.signoff import calibration_labels, corrections, fitted_searches, golden_labels, holds, releases, requests
from ai_assets.signoff.golden_labels import with_golden
from ai_assets.storage import partition_facts
from ai_assets.storage.partition_facts import PartitionFacts
from ai_assets.storage.stores import Stores

PartitionState = Literal[
    "missing", "stale", "failed", "ask again", "awaiting sign-off", "approved", "rejected", "published", "up to date",
    "unreadable", "empty", "waiting for batch", "batch cancelled", "waiting for window",
]  # fmt: skip
"""`ask again`: documents without an answer are due to be asked about once more; nothing else is missing. `unreadable`:
none of its files can be read, so there is nothing that anybody could sign. `waiting for batch`: calls of it travel, and
a run that goes on is asked for when they are answered; `batch cancelled`: by a person, or the provider refused it, so a
person has it go on.
`waiting for window`: calls of it may not leave yet, and a run that goes on is asked for when it opens."""
STATES: tuple[PartitionState, ...] = get_args(PartitionState)
WAITING: tuple[PartitionState, ...] = ("waiting for batch", "waiting for window")
DUE: tuple[PartitionState, ...] = ("missing", "stale", "failed", "ask again", "batch cancelled")
"""What a run would change."""
_UNKNOWN = PartitionFacts(False, "", False, "", "", "", False)
_SIGNED: Mapping[str, PartitionState] = {
    "open": "awaiting sign-off", "approved": "approved", "rejected": "rejected",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StateRules:
    """What decides the state of a partition besides its facts, as of one moment."""

    settings_digest: str
    people: Mapping[str, str]
    """By partition that has corrections or golden labels of its own, the version of all that people said of it."""
    people_elsewhere: str
    """That version where a partition has none of its own."""
    waiting: Mapping[str, RetrySummary]
    travelling: Sequence[BatchWait]
    windows: Sequence[WindowWait]
    live: Container[str]
    """Partitions of the live release; none where nobody asks which are published."""
    closed: Container[str] = ()
    """Partitions whose window is closed."""

    @property
    def single(self) -> set[str]:
        """Partitions that are looked at one by one."""
        travelling = {wait.partition for wait in self.travelling}
        return {*self.people, *self.waiting, *travelling, *(wait.partition for wait in self.windows)}

    def common(self, facts: PartitionFacts) -> PartitionState:
        """Of a partition of which no more is known, and which is not live."""
        return self._state(facts, self.people_elsewhere)

    def of(self, key: str, facts: PartitionFacts) -> PartitionState:
        """The most urgent thing that is true of the partition."""
        state = self._state(facts, self.people.get(key, self.people_elsewhere), self.waiting.get(key))
        if state in RESTING and facts.refreshed and key in self.live:
            state = "published"
        if key in self.closed and state != "failed":
            state = "waiting for window"
        mine = [wait for wait in self.travelling if wait.partition == key]
        # What the provider refused has failed, or another declaration is to be tried.
        if (held := {wait.held_by for wait in mine} - {None}) and not (
            held == {BY_REFUSAL} and state in ("failed", "stale")
        ):
            state = "batch cancelled"
        return "waiting for batch" if any(wait.waiting for wait in mine) else state

    def _state(self, facts: PartitionFacts, people: str, retry: RetrySummary | None = None) -> PartitionState:
        if not facts.refreshed:
            return "missing" if facts.listed else "empty"
        if not facts.is_current or (facts.settings_digest, facts.corrections_digest) != (self.settings_digest, people):
            return "stale"
        if facts.refreshed == "failed":
            return "failed"
        if retry is not None and retry.is_due:
            return "ask again"
        if (signed := _SIGNED.get(facts.request)) is not None:
            return signed
        if not facts.listed:
            return "empty"
        return "unreadable" if facts.unreadable else "up to date"


RESTING: tuple[PartitionState, ...] = ("empty", "unreadable", "up to date")
"""Nothing is to be done about it; where it is part of the live release it is `published`."""


def observed_states(
    collection: Collection,
    stores: Stores,
    listing: Listing | None = None,
    *,
    only: Container[PartitionState] = STATES,
) -> tuple[dict[str, PartitionState], Mapping[str, RetrySummary]]:
    """The state of each partition, in order, and what is known of documents without a result, as of one moment.

    By what the source was last seen to hold, or by a newer look at it. `only`: without those in other states, which
    costs less.
    """
    with stores.state.read() as connection:
        rules = _rules(connection, collection, only)
        changed = {} if listing is None else _changed(connection, collection.name, listing)
        single = rules.single | changed.keys()
        own = partition_facts.facts_of(connection, collection.name, sorted(single))
        groups = _groups(connection, collection.name, rules, only)
    if rules.windows:
        opened = {wait.partition for wait in window_waits.open_waits(collection, stores, rules.windows)}
        rules = replace(rules, closed={wait.partition for wait in rules.windows} - opened)
    own |= {key: _seen_now(own.get(key), facts) for key, facts in changed.items()}
    states: dict[str, PartitionState] = {}
    for facts, names in groups:
        states |= dict.fromkeys(names, rules.common(facts))
        if rules.common(facts) in RESTING:
            states |= dict.fromkeys([key for key in names if key in rules.live], "published")
    for key in single:
        states.pop(key, None)
        if (found := own.get(key)) is not None and (found.listed or found.refreshed):
            states[key] = rules.of(key, found)
    if only is STATES:
        return {
            key: states[key] if key in states else rules.of(key, _UNKNOWN) for key in collection.scheme.keys([*states])
        }, rules.waiting
    has = collection.scheme.has
    return {key: states[key] for key in sorted(states) if states[key] in only and has(key)}, rules.waiting


def _rules(connection: sa.Connection, collection: Collection, only: Container[PartitionState]) -> StateRules:
    corrected = corrections.in_force(connection, collection)
    golden = golden_labels.in_force(connection, collection)
    weights = fitted_searches.fitted(connection, collection)
    fitted = (
        calibration_labels.version(calibration_labels.calibrating(collection, golden, corrected)),
        fitted_searches.version(collection, weights),
    )
    held = holds.in_force(connection, collection)
    holding = {
        key: held.version(key, holds.known_until(requests.latest_of(connection, collection.name, key)))
        for key in held.partitions
    }
    own = corrected.own_partitions | golden.scored_partitions | holding.keys()
    live = releases.live(connection, collection.name) if "published" in only else None
    return StateRules(
        settings_digest=collection.settings_digest,
        people={
            key: with_golden(corrected.version(key), golden.version(key), *fitted, holding.get(key, "")) for key in own
        },
        people_elsewhere=with_golden(corrected.version(""), golden.version(""), *fitted),
        waiting=retries.waiting(connection, collection),
        travelling=jobs.waits(connection, collection.name),
        windows=window_waits.waits(connection, collection.name),
        live=live.parts.keys() if live else (),
    )


def _groups(
    connection: sa.Connection, collection: str, rules: StateRules, only: Container[PartitionState]
) -> list[tuple[PartitionFacts, list[str]]]:
    if only is STATES:
        return partition_facts.named_groups(connection, collection)
    wanted = [facts for facts in partition_facts.groups(connection, collection) if rules.common(facts) in only]
    return [(facts, partition_facts.names_of(connection, collection, facts)) for facts in wanted]


def _changed(connection: sa.Connection, collection: str, listing: Listing) -> dict[str, PartitionFacts]:
    """Partitions of which the look at the source says something else than the state store, and what is so of them."""
    before = listed_digests(connection, collection)
    differ = [
        key
        for key in {*before, *listing.by_partition}
        if before.get(key) != (listing.digest_of(key) if key in listing.by_partition else None)
    ]
    made_from = _made_from(connection, collection) if differ else {}
    return {
        key: replace(
            _UNKNOWN, listed=key in listing.by_partition, is_current=made_from.get(key) == listing.digest_of(key)
        )
        for key in differ
    }


def _made_from(connection: sa.Connection, collection: str) -> dict[str, str]:
    query = sa.text("SELECT partition, listing_digest FROM refreshes WHERE collection = :c")
    return {row.partition: row.listing_digest for row in connection.execute(query, {"c": collection})}


def _seen_now(known: PartitionFacts | None, seen: PartitionFacts) -> PartitionFacts:
    return seen if known is None else replace(known, listed=seen.listed, is_current=seen.is_current)
