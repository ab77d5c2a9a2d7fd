"""Where every partition and document of a collection stands: a few queries over the state store, no dataset is read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.documents import retries
from ai_assets.documents.retries import Retry, RetrySummary
from ai_assets.documents.source_listing import Listing, stored_listing
from ai_assets.embedding.spec import WITHOUT
from ai_assets.inference.batch import jobs
from ai_assets.run import window_waits
from ai_assets.run.adaptation_age import AdaptationAge, adaptation_ages
from ai_assets.run.intact_files import intact_partitions
from ai_assets.run.window_waits import WindowWait
from ai_assets.signoff import calibration_labels, corrections, fitted_searches, golden_labels, holds, releases, requests
from ai_assets.signoff.golden_labels import with_golden
from ai_assets.signoff.policy_facts import denials
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores
from ai_assets.targets import serving
from ai_assets.targets.serving import TargetState

PartitionState = Literal[
    "missing", "stale", "failed", "ask again", "awaiting sign-off", "approved", "rejected", "published", "up to date",
    "unreadable", "empty", "waiting for batch", "batch cancelled", "waiting for window",
]  # fmt: skip
"""`ask again`: documents without an answer are due to be asked about once more; nothing else is missing. `unreadable`:
none of its files can be read, so there is nothing that anybody could sign. `waiting for batch`: calls of it travel, and
a run that goes on is asked for when they are answered; `batch cancelled`: by a person, so a person has it go on.
`waiting for window`: calls of it may not leave yet, and a run that goes on is asked for when it opens."""
WAITING: tuple[PartitionState, ...] = ("waiting for batch", "waiting for window")


DUE: tuple[PartitionState, ...] = ("missing", "stale", "failed", "ask again", "batch cancelled")
"""What a run would change."""


@dataclass(frozen=True, kw_only=True)
class CollectionStatus:
    collection: str
    partitions: Mapping[str, PartitionState]
    documents: Mapping[str, int]
    """Documents by state, over all partitions; those 'without vectors' are among those that are 'ok'."""
    errors: Mapping[str, str]
    """Why the failed partitions failed."""
    live_release: int | None
    unassigned: int
    """Files that belong to no partition."""
    waiting: Mapping[str, RetrySummary]
    """By partition, documents without a result: when they are asked about again, and how many need a person."""
    need_a_person: Sequence[Retry]
    targets: Sequence[TargetState] = ()
    """Which release each target serves."""
    adaptations: Sequence[AdaptationAge] = ()
    """What stages were adapted to, beside what there is now."""
    windows: Sequence[WindowWait] = ()
    """Assets that wait for their window."""
    forbidden: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By approved partition, why a policy does not let it be published."""


def collection_status(collection: Collection, stores: Stores) -> CollectionStatus:
    listing = stored_listing(collection.name, stores.lake)
    with stores.state.read() as connection:
        documents: Counter[str] = Counter()
        query = sa.text("SELECT stats FROM datasets WHERE collection = :c AND asset = 'documents'")
        for row in connection.execute(query, {"c": collection.name}):
            documents.update(json.loads(row.stats)["statuses"])
        vectors = [each.asset for each in collection.embeddings]
        query = sa.text("SELECT stats FROM datasets WHERE collection = :c AND asset IN :a")
        query = query.bindparams(sa.bindparam("a", type_=sa.Text, expanding=True))
        for row in connection.execute(query, {"c": collection.name, "a": vectors}):
            if number := json.loads(row.stats).get(WITHOUT, 0):
                documents["without vectors"] += number
        if collection.holding:
            documents["held"] = holds.count_documents(connection, collection.name)
        errors = connection.execute(
            sa.text("SELECT partition, error FROM refreshes WHERE collection = :c AND status = 'failed'"),
            {"c": collection.name},
        ).all()
        live = releases.live(connection, collection.name)
        waiting = retries.waiting(connection, collection)
        people = retries.need_a_person(connection, collection)
        targets = serving.states(connection, collection)
        adaptations = adaptation_ages(connection, collection)
        windows = window_waits.waits(connection, collection.name)
    return CollectionStatus(
        collection=collection.name,
        partitions=partition_states(collection, stores),
        documents=dict(documents),
        errors={row.partition: row.error for row in errors},
        live_release=live.number if live else None,
        unassigned=len(listing.unassigned) if listing else 0,
        waiting=waiting,
        need_a_person=people,
        targets=targets,
        adaptations=adaptations,
        windows=windows,
        forbidden=_forbidden(collection, stores),
    )


def _forbidden(collection: Collection, stores: Stores) -> dict[str, Sequence[str]]:
    """No request is read where there is no policy."""
    if not collection.policies:
        return {}
    with stores.state.read() as connection:
        approved = requests.find(connection, collection.name, statuses=("approved",))
    said = denials(collection, stores, approved)
    return {request.partition: said[request.request_id] for request in approved if request.request_id in said}


def partition_states(
    collection: Collection, stores: Stores, listing: Listing | None = None
) -> dict[str, PartitionState]:
    """The state of each partition, in order; the most urgent thing that is true of it.

    By what the source was last seen to hold, or by a newer look at it.
    """
    return observed_states(collection, stores, listing)[0]


def observed_states(
    collection: Collection, stores: Stores, listing: Listing | None = None
) -> tuple[dict[str, PartitionState], Mapping[str, RetrySummary]]:
    """The same, and what is known of documents without a result, as of one moment."""
    with stores.state.read() as connection:
        listed = {
            row.partition: row.digest
            for row in connection.execute(
                sa.text("SELECT partition, digest FROM listings WHERE collection = :c"), {"c": collection.name}
            )
        }
        refreshed = {
            row.partition: row
            for row in connection.execute(
                sa.text("SELECT * FROM refreshes WHERE collection = :c"), {"c": collection.name}
            )
        }
        live = releases.live(connection, collection.name)
        last = requests.latest(connection, collection.name)
        corrected = corrections.in_force(connection, collection)
        golden = golden_labels.in_force(connection, collection)
        held = holds.in_force(connection, collection)
        weights = fitted_searches.fitted(connection, collection)
        waiting = retries.waiting(connection, collection)
        travelling = jobs.waits(connection, collection.name)
        windows = window_waits.waits(connection, collection.name)
    if listing is not None:
        listed = {key: listing.digest_of(key) for key in listing.by_partition}
    nothing = Listing(()).digest_of("")
    settings = collection.settings_digest
    fitted = (
        calibration_labels.version(calibration_labels.calibrating(collection, golden, corrected)),
        fitted_searches.version(collection, weights),
    )
    states: dict[str, PartitionState] = {}
    for key in collection.scheme.keys(sorted(listed.keys() | refreshed.keys())):
        done = refreshed.get(key)
        digest = listed.get(key, nothing)
        if done is None:
            states[key] = "missing" if key in listed else "empty"
        elif _made_from(done) != (
            digest, settings, with_golden(
                corrected.version(key), golden.version(key), *fitted,
                held.version(key, holds.known_until(last.get(key))),
            )
        ):  # fmt: skip
            states[key] = "stale"
        elif done.status == "failed":
            states[key] = "failed"
        elif key in waiting and waiting[key].is_due:
            states[key] = "ask again"
        else:
            states[key] = _signed_state(last.get(key), live, key, empty=key not in listed)
    opened = {wait.partition for wait in window_waits.open_waits(collection, stores, windows)}
    closed = {wait.partition for wait in windows} - opened
    states |= {key: "waiting for window" for key in closed if states.get(key) not in (None, "failed")}
    states |= {wait.partition: "batch cancelled" for wait in travelling if wait.held_by and wait.partition in states}
    states |= {wait.partition: "waiting for batch" for wait in travelling if wait.waiting and wait.partition in states}
    for key in _unreadable(collection, stores, [key for key, state in states.items() if state == "up to date"]):
        states[key] = "unreadable"
    return states, waiting


def _unreadable(collection: Collection, stores: Stores, keys: Sequence[str]) -> list[str]:
    """Those of the partitions that hold files, and none that can be read."""
    if not keys:
        return []
    query = sa.text(
        "SELECT partition, stats FROM datasets WHERE collection = :c AND asset = 'documents' AND partition IN :p"
    ).bindparams(sa.bindparam("p", type_=sa.Text, expanding=True))
    with stores.state.read() as connection:
        rows = connection.execute(query, {"c": collection.name, "p": list(keys)}).all()
    found = {row.partition: Counter(json.loads(row.stats)["statuses"]) for row in rows}
    return [key for key, each in found.items() if each["quarantined"] and not each["ok"] + each["duplicate"]]


def _made_from(refreshed: sa.Row[Any]) -> tuple[str, str, str]:
    return refreshed.listing_digest, refreshed.settings_digest, refreshed.corrections_digest


def watched_partitions(states: Mapping[str, PartitionState], waiting: Mapping[str, RetrySummary]) -> list[str]:
    """Those that a run is started for without anybody asking: what failed is tried again after its back-off."""
    at = now()
    return [
        key
        for key, state in states.items()
        if state in ("missing", "stale", "ask again")
        or (state == "failed" and key in waiting and waiting[key].failed_is_due(at))
    ]


def due_partitions(
    collection: Collection, stores: Stores, keys: Sequence[str], listing: Listing | None = None
) -> list[str]:
    """Those of the partitions that a run would change: missing, stale, failed, with documents to ask about again, or
    with a file gone or damaged (in a bucket: `intact_files.py` says which of many are looked at).
    """
    states = partition_states(collection, stores, listing)
    with stores.state.read() as connection:
        answered = {wait.partition for wait in jobs.waits(connection, collection.name) if not wait.waiting}
    answered |= {*window_waits.opened_partitions(collection, stores)}
    made = [key for key in keys if states[key] not in (*DUE, "empty", *WAITING) and key not in answered]
    intact = intact_partitions(collection, stores, made)
    return [
        key
        for key in keys
        if states[key] in DUE
        or (states[key] not in WAITING and key in answered)
        or (states[key] not in ("empty", *WAITING) and key not in intact)
    ]


def answered_partitions(collection: Collection, stores: Stores) -> list[str]:
    """Those that waited for batches, all of which have ended, and that nobody has stopped."""
    with stores.state.read() as connection:
        waits = jobs.waits(connection, collection.name)
    stay = {wait.partition for wait in waits if wait.waiting or wait.held_by}
    return list(dict.fromkeys(wait.partition for wait in waits if wait.partition not in stay))


def _signed_state(
    request: requests.SignoffRequest | None, live: releases.Release | None, partition: str, *, empty: bool
) -> PartitionState:
    part = live.parts.get(partition) if live else None
    match request.status if request else None:
        case "open":
            return "awaiting sign-off"
        case "approved":
            return "approved"
        case "rejected":
            return "rejected"
    if part is not None:
        return "published"
    return "empty" if empty else "up to date"
