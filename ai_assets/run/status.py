"""Where every partition and document of a collection stands: a few queries over the state store, no dataset is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.documents import retries
from ai_assets.documents.retries import Retry, RetrySummary
from ai_assets.documents.source_listing import Listing, unassigned_files
from ai_assets.embedding.spec import WITHOUT
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.jobs import BatchWait
from ai_assets.run import file_looks, window_waits
from ai_assets.run.adaptation_age import AdaptationAge, adaptation_ages
from ai_assets.run.intact_files import intact_partitions
from ai_assets.run.partition_states import DUE, WAITING, PartitionState, observed_states
from ai_assets.run.window_waits import WindowWait
from ai_assets.signoff import holds, releases, requests
from ai_assets.signoff.policy_facts import denials
from ai_assets.storage import partition_facts
from ai_assets.storage.partition_facts import STATUSES
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores
from ai_assets.targets import serving
from ai_assets.targets.serving import TargetState


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
    name = collection.name
    with stores.state.read() as connection:
        documents = {
            status.removeprefix(STATUSES): number
            for status, number in partition_facts.totals(connection, name, "documents").items()
            if status.startswith(STATUSES)
        }
        vectors = (partition_facts.totals(connection, name, each.asset) for each in collection.embeddings)
        if without := sum(found.get(WITHOUT, 0) for found in vectors):
            documents["without vectors"] = without
        if collection.holding:
            documents["held"] = holds.count_documents(connection, name)
        errors = connection.execute(
            sa.text("SELECT partition, error FROM refreshes WHERE collection = :c AND status = 'failed'"), {"c": name}
        ).all()
        live = releases.live_number(connection, name)
        people = retries.need_a_person(connection, collection)
        targets = serving.states(connection, collection)
        adaptations = adaptation_ages(connection, collection)
        windows = window_waits.waits(connection, name)
    partitions, waiting = observed_states(collection, stores)
    return CollectionStatus(
        collection=name,
        partitions=partitions,
        documents=documents,
        errors={row.partition: row.error for row in errors},
        live_release=live,
        unassigned=unassigned_files(name, stores.lake),
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
    with a file gone or damaged (`file_looks.py` says which of many are looked at).
    """
    states, _ = observed_states(collection, stores, listing, only=(*DUE, *WAITING))
    with stores.state.read() as connection:
        answered = {wait.partition for wait in jobs.waits(connection, collection.name) if not wait.waiting}
        looked_at = file_looks.next_of(keys, file_looks.after(connection, collection.name))
        known = partition_facts.facts_of(connection, collection.name, looked_at)
    answered |= {*window_waits.opened_partitions(collection, stores)}
    due = {key for key, state in states.items() if state in DUE}
    due |= {key for key in answered if states.get(key) not in WAITING}
    has_files = [key for key, facts in known.items() if facts.listed or facts.request == "published"]
    made = [key for key in has_files if key not in states and key not in due]
    due |= {*made} - {*intact_partitions(collection, stores, made)}
    return [key for key in keys if key in due]


def answered_partitions(collection: Collection, stores: Stores) -> list[str]:
    """Those that waited for batches, all of which have ended, and that nobody has stopped. One whose run failed
    afterwards is among them when its back-off is over."""
    with stores.state.read() as connection:
        waits = jobs.waits(connection, collection.name)
        failed = failed_waiting(connection, waits)
        known = retries.waiting(connection, collection) if failed else {}
    at = now()
    stay = {wait.partition for wait in waits if wait.waiting or wait.held_by}
    stay |= {key for key in failed if key not in known or not known[key].failed_is_due(at)}
    return list(dict.fromkeys(wait.partition for wait in waits if wait.partition not in stay))


def failed_waiting(connection: sa.Connection, waits: Sequence[BatchWait]) -> frozenset[str]:
    """Of the partitions of these waits those that a run took up and that failed, so that no batch says when they go
    on."""
    begun: dict[str, str] = {}
    for wait in waits:
        begun[wait.partition] = min(wait.since, begun.get(wait.partition, wait.since))
    left = begun.keys() - {wait.partition for wait in waits if wait.has_news or wait.waiting}
    if not left:
        return frozenset()
    query = sa.text("SELECT partition, finished_at FROM refreshes WHERE collection = :c AND status = 'failed'")
    rows = connection.execute(query, {"c": waits[0].collection})
    return frozenset(row.partition for row in rows if row.partition in left and row.finished_at >= begun[row.partition])
