"""Bringing every target to the live release: written once, pointed at, and checked. One that fails leaves the others.

What a target has is in the state store: a receipt per release, and which one it serves. So nothing is written twice
after a kill, and a rollback only points back.
"""

import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.base.errors import LeaseLost, OwnCodeFailed, UserError
from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.embedding.spec import FIRST, further_columns
from ai_assets.own import OwnTarget
from ai_assets.signoff import releases
from ai_assets.signoff.candidate import HIDDEN
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Release
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.lake import parquet_schema, read_batches, read_rows
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import Stores
from ai_assets.targets.base import Receipt, Row, Target, TargetRelease

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
"""Between tries of a target that fails: doubled each time."""


@dataclass(frozen=True, kw_only=True)
class TargetState:
    """Where a target stands."""

    target: str
    serves: int | None
    """The release that it was last made to serve."""
    error: str | None
    """Why the last try failed."""
    tries: int
    """Since it last worked."""
    next_try_at: str | None

    def is_due(self, live: int | None, at: str) -> bool:
        return live is not None and self.serves != live and (self.next_try_at is None or self.next_try_at <= at)


def states(connection: sa.Connection, collection: Collection) -> list[TargetState]:
    """Of every declared target, in order."""
    rows = connection.execute(
        sa.text("SELECT * FROM target_states WHERE collection = :c"), {"c": collection.name}
    ).mappings()
    known = {row["target"]: row for row in rows}
    return [_state(target.name, known.get(target.name)) for target in collection.own.targets]


def _state(name: str, row: "sa.RowMapping | None") -> TargetState:
    if row is None:
        return TargetState(target=name, serves=None, error=None, tries=0, next_try_at=None)
    return TargetState(
        target=name, serves=row["serves"], error=row["error"], tries=row["tries"], next_try_at=row["next_try_at"]
    )


def due(connection: sa.Connection, collection: Collection, *, at_once: bool = False) -> list[TargetState]:
    """Those that do not serve the live release and may be tried now; `at_once`: also those that wait for a pause."""
    if not collection.own.targets:
        return []
    live = releases.live_number(connection, collection.name)
    at = "9999" if at_once else now()
    return [state for state in states(connection, collection) if state.is_due(live, at)]


def serve(collection: Collection, stores: Stores, say: Callable[[str], None]) -> list[TargetState]:
    """Every target is brought to the live release; where they stand then."""
    for target in collection.own.targets:
        with hold(stores.state, f"target:{collection.name}:{target.name}", say=say) as lease:
            with stores.state.read() as connection:
                live = releases.live(connection, collection.name)
            if live is not None:
                _serve(collection, stores, lease, target, live, say)
    with stores.state.read() as connection:
        return states(connection, collection)


def _serve(
    collection: Collection, stores: Stores, lease: Lease, target: OwnTarget, live: Release, say: Callable[[str], None]
) -> None:
    key = {"collection": collection.name, "target": target.name}
    with stores.state.read() as connection:
        state = next(found for found in states(connection, collection) if found.target == target.name)
    if state.serves == live.number:
        return
    try:
        with closing(target.make()) as made:
            receipt = _written(stores, lease, key, made, live, say)
            lease.check()
            point(made, target, receipt)
    except LeaseLost:
        raise
    except Exception as error:  # noqa: BLE001  # what a target raises is its own; the other targets go on
        _record_failure(lease, key, state, error)
        say(f"{target.name} does not serve release {live.number}: {in_words(error)}")
    else:
        with lease.fenced() as connection:
            record_served(connection, key, live.number)
        say(f"{target.name} serves release {live.number}")


def _written(
    stores: Stores, lease: Lease, key: Mapping[str, str], made: Target, live: Release, say: Callable[[str], None]
) -> Receipt:
    """The receipt of the release, which is written now if the target has none for it."""
    with stores.state.read() as connection:
        known = receipt_of(connection, key, live)
    if known is not None:
        return known
    say(f"writing release {live.number} to {key['target']}: {plural(live.documents, 'document')}")
    receipt = made.write(release_of(stores, live))
    with lease.fenced() as connection:
        return record_receipt(connection, key, live, receipt)


def point(made: Target, target: OwnTarget, receipt: Receipt) -> None:
    """Make readers see it, and hear from the target that they do."""
    made.point(receipt)
    found = made.read()
    if found is None or dict(found) != dict(receipt):
        raise OwnCodeFailed("target", target.use, f"after point({dict(receipt)}) read() gives {found}")


def receipt_of(connection: sa.Connection, key: Mapping[str, str], release: Release) -> Receipt | None:
    query = (
        "SELECT receipt FROM target_receipts WHERE collection = :collection AND target = :target "
        "AND release_number = :number AND release_digest = :digest"
    )
    given = {**key, "number": release.number, "digest": release.digest}
    known = connection.execute(sa.text(query), given).scalar()
    return None if known is None else dict(json.loads(known))


def record_receipt(connection: sa.Connection, key: Mapping[str, str], release: Release, receipt: Receipt) -> Receipt:
    """In place of the one before; as it will be read again."""
    text = canonical_json(dict(receipt))
    values = {"release_digest": release.digest, "receipt": text, "written_at": now()}
    upsert(connection, "target_receipts", {**key, "release_number": release.number}, values)
    return dict(json.loads(text))


def record_served(connection: sa.Connection, key: Mapping[str, str], release: int) -> None:
    values = {"serves": release, "pointed_at": now(), "error": None, "tries": 0, "next_try_at": None}
    upsert(connection, "target_states", key, values)


def release_of(stores: Stores, release: Release) -> TargetRelease:
    def reading(of: str, partition: str) -> Iterator[Row]:
        documents, chunks = snapshot_paths(stores.lake, release.collection, partition, release.parts[partition])
        for row in read_rows(documents if of == "documents" else chunks):
            yield {"partition": partition, **{name: value for name, value in row.items() if name not in HIDDEN}}

    def reading_batches(of: str, partition: str) -> "pa.RecordBatchReader":
        import pyarrow as pa

        documents, chunks = snapshot_paths(stores.lake, release.collection, partition, release.parts[partition])
        path = documents if of == "documents" else chunks
        own = [each for each in parquet_schema(path) if each.name not in HIDDEN]
        schema, names = pa.schema([pa.field("partition", pa.string()), *own]), [each.name for each in own]

        def batches() -> "Iterator[pa.RecordBatch]":
            for batch in read_batches(path, names):
                named = pa.array([partition] * batch.num_rows, pa.string())
                yield pa.RecordBatch.from_arrays([named, *(batch[name] for name in names)], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    return TargetRelease(
        collection=release.collection,
        number=release.number,
        digest=release.digest,
        partitions={name: part.content for name, part in release.parts.items()},
        dimensions=release.embeddings[FIRST].dimensions if release.embeddings else None,
        further=further_columns(release.embeddings),
        reading=reading,
        reading_batches=reading_batches,
    )


def _record_failure(lease: Lease, key: Mapping[str, str], state: TargetState, error: Exception) -> None:
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**state.tries)
    again = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=pause)
    values: dict[str, Any] = {
        "serves": state.serves, "error": in_words(error), "tries": state.tries + 1,
        "next_try_at": again.isoformat(timespec="milliseconds"),
    }  # fmt: skip
    with lease.fenced() as connection:
        upsert(connection, "target_states", key, values)


def in_words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:500]


def failures_in_words(found: Sequence[TargetState]) -> list[str]:
    return [f"{state.target}: {state.error}" for state in found if state.error is not None]
