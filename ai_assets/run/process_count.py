"""Over how many processes a run spreads its partitions: as many as keep its cores busy, where that pays."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import sqlalchemy as sa

from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.machine import usable_cores, usable_memory
from ai_assets.collection.deadlines import deadlines_of
from ai_assets.documents.source_listing import ListingEntry
from ai_assets.run.context import Work
from ai_assets.run.operations import load_operations
from ai_assets.storage.state import keys_of

MOST = 8
"""Unless more are declared: each has a pool of calls, a state store and a tokenizer of its own."""
CORES_OF_ASKING = 2
"""Of each process that asks models: one for its calls and its rows, one for what its texts alone decide. Two such
processes on two cores took longer than one."""
ENOUGH_FILES = 400
ENOUGH_BYTES = 4_000_000
"""Of files in partitions that are not up to date: a further process takes a second of a core to start."""
BYTES_EACH = 500_000_000
"""Of memory that must be free for each further process; one takes some 470 MB at 20,000 documents."""


class DueFiles:
    """In partitions that changed since they were last computed. The source is looked at once that is asked for."""

    def __init__(self, work: Work, partitions: Sequence[str]) -> None:
        self._work, self._partitions = work, partitions

    @property
    def are_enough(self) -> bool:
        due = [entry for partition in self._due for entry in self._listed(partition)]
        return len(due) >= ENOUGH_FILES or sum(entry.size for entry in due) >= ENOUGH_BYTES

    @property
    def new(self) -> int:
        """How many are in partitions that were never computed."""
        return sum(len(self._listed(partition)) for partition in self._due if partition not in self._known)

    @cached_property
    def _due(self) -> Sequence[str]:
        listing, settings = self._work.listing, self._work.collection.settings_digest
        return [
            partition
            for partition in self._partitions
            if self._known.get(partition) != ("ok", listing.digest_of(partition), settings)
        ]

    @cached_property
    def _known(self) -> Mapping[str, tuple[str, str, str]]:
        with self._work.stores.state.read() as connection:
            chosen = keys_of(connection.dialect.name, ":keys")
            query = sa.text(
                "SELECT partition, status, listing_digest, settings_digest FROM refreshes WHERE collection = :c "  # noqa: S608
                f"AND partition IN (SELECT value FROM {chosen})"
            )
            given = {"c": self._work.collection.name, "keys": json.dumps(list(self._partitions))}
            rows = connection.execute(query, given).all()
        return {row.partition: (row.status, row.listing_digest, row.settings_digest) for row in rows}

    def _listed(self, partition: str) -> Sequence[ListingEntry]:
        return self._work.listing.by_partition.get(partition, ())


def number_of_processes(work: Work, partitions: Sequence[str], due: DueFiles) -> int:
    """The run's own included. What travels by batch, and models that are loaded here, are of one process."""
    if len(partitions) < 2 or not can_be_spread(work):
        return 1
    declared = work.workers or _declared(work)
    if declared is not None:
        return min(declared, len(partitions))
    cores = usable_cores() // (CORES_OF_ASKING if work.collection.asks_models else 1)
    found = min(cores, MOST, len(partitions))
    if found < 2 or not due.are_enough:
        return 1
    return max(1, min(found, 1 + usable_memory() // BYTES_EACH))


def _declared(work: Work) -> int | None:
    try:
        return load_operations(work.stores.home.operations).workers
    except OperationsInvalid:
        return None  # the run's log says so where its sinks are made, and goes on


def can_be_spread(work: Work) -> bool:
    collection = work.collection
    by_batch = any(stage.by_batch for stage in collection.stages)
    by_batch |= any(each.settings.tier is not None for each in collection.embeddings)
    local = any(each.settings.is_local or each.settings.use is not None for each in collection.embeddings)
    local |= bool(collection.local_classifiers)
    return not (by_batch or local or deadlines_of(collection.settings))
