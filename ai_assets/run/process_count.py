"""Over how many processes a run spreads its partitions: as many as there are cores, where that pays."""

import json
from collections.abc import Sequence

import sqlalchemy as sa

from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.machine import usable_cores, usable_memory
from ai_assets.collection.deadlines import deadlines_of
from ai_assets.run.context import Work
from ai_assets.run.operations import load_operations
from ai_assets.storage.state import keys_of

MOST = 8
"""Unless more are declared: each has a pool of calls, a state store and a tokenizer of its own."""
ENOUGH_FILES = 400
ENOUGH_BYTES = 4_000_000
"""Of files in partitions that are not up to date: a further process takes a second of a core to start."""
BYTES_EACH = 500_000_000
"""Of memory that must be free for each further process; one takes some 470 MB at 20,000 documents."""


def number_of_processes(work: Work, partitions: Sequence[str]) -> int:
    """The run's own included. What travels by batch, and models that are loaded here, are of one process."""
    if len(partitions) < 2 or not can_be_spread(work):
        return 1
    declared = work.workers or _declared(work)
    if declared is not None:
        return min(declared, len(partitions))
    found = min(usable_cores(), MOST, len(partitions))
    if found < 2 or not is_enough(work, partitions):
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
    return not (by_batch or local or deadlines_of(collection.settings))


def is_enough(work: Work, partitions: Sequence[str]) -> bool:
    """Whether partitions that changed since they were last computed hold enough files."""
    with work.stores.state.read() as connection:
        chosen = keys_of(connection.dialect.name, ":keys")
        query = sa.text(
            "SELECT partition, listing_digest, settings_digest FROM refreshes WHERE collection = :c "  # noqa: S608
            f"AND status = 'ok' AND partition IN (SELECT value FROM {chosen})"
        )
        given = {"c": work.collection.name, "keys": json.dumps(list(partitions))}
        rows = connection.execute(query, given).all()
    known = {row.partition: (row.listing_digest, row.settings_digest) for row in rows}
    files = size = 0
    for partition in partitions:
        if known.get(partition) == (work.listing.digest_of(partition), work.collection.settings_digest):
            continue
        for entry in work.listing.by_partition.get(partition, ()):
            files, size = files + 1, size + entry.size
            if files >= ENOUGH_FILES or size >= ENOUGH_BYTES:
                return True
    return False
