"""What a change of a model concerns: rows and releases that were made after it, and who took it as the new baseline.

A row is made after a change where the attempt that answered it, or whose answer it used again, was sent after the last
run of the canary that was alike. Of stages whose rows name their call it is that call; of others, such as embeddings
and functions, every answer that the partition was given since.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.blocking import Blocks
from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.plural import plural
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.inference.canary import records
from ai_assets.inference.canary.records import CanaryChange
from ai_assets.inference.settings import InferenceSettings
from ai_assets.signoff import audit, outbox, releases
from ai_assets.signoff.errors import CanaryAcceptRefused
from ai_assets.signoff.frozen_candidate import SnapshotFiles, snapshot_paths
from ai_assets.signoff.people import EVERYWHERE, Person
from ai_assets.storage.digest import Json
from ai_assets.storage.lake import parquet_columns, read_rows
from ai_assets.storage.stores import Stores

GATE = "canary"
MOST_NAMED = 5
_COLUMNS = "callers.tenant, callers.collection, callers.asset, callers.partition"
_ROWS = f"""
SELECT {_COLUMNS}, attempts.document, attempts.call_key AS call, attempts.sent_at FROM attempts
JOIN callers ON callers.caller_id = attempts.caller_id
WHERE attempts.sent_at > :since AND attempts.endpoint = :endpoint AND attempts.state = 'settled'
    AND callers.collection <> '' {{theirs}}
UNION
SELECT {_COLUMNS}, reuses.document, attempts.call_key, attempts.sent_at FROM attempts
JOIN reuses ON reuses.attempt_id = attempts.attempt_id JOIN callers ON callers.caller_id = reuses.caller_id
WHERE attempts.sent_at > :since AND attempts.endpoint = :endpoint AND attempts.state = 'settled'
    AND callers.collection <> '' {{theirs}}
ORDER BY 2, 3, 4, 5
"""  # noqa: S608 - the parts put together are all from here


@dataclass(frozen=True, kw_only=True)
class RowMadeAfter:
    tenant: str
    collection: str
    asset: str
    partition: str
    document: str
    call: str
    sent_at: str


def rows_after(
    connection: sa.Connection, change: CanaryChange, *, collection: str | None = None, partition: str | None = None
) -> list[RowMadeAfter]:
    """By the ledger alone: some of them may have been made again since."""
    said = {"collection": collection, "partition": partition}
    given = {name: value for name, value in said.items() if value is not None}
    theirs = "".join(f" AND callers.{name} = :{name}" for name in given)
    found = connection.execute(
        sa.text(_ROWS.format(theirs=theirs)), {"since": change.alike_at, "endpoint": change.endpoint, **given}
    ).mappings()
    return [RowMadeAfter(**row) for row in found]


def still_in(
    stores: Stores, collection: str, partition: str, files: SnapshotFiles, rows: Sequence[RowMadeAfter]
) -> list[RowMadeAfter]:
    """Of these, those whose answer is in the files of a candidate or a release; all where those cannot be read."""
    if not rows:
        return []
    try:
        path, _ = snapshot_paths(stores.lake, collection, partition, files)
        named = {row.asset: f"{row.asset}_call" for row in rows}
        there = {asset: column for asset, column in named.items() if column in parquet_columns(path)}
        calls = {
            (asset, row["document_id"], row[column])
            for row in read_rows(path, ["document_id", *there.values()])
            for asset, column in there.items()
        }
    except DatasetDamaged:
        return list(rows)
    return [row for row in rows if row.asset not in there or (row.asset, row.document, row.call) in calls]


@dataclass(frozen=True, kw_only=True)
class CanaryFinding:
    """Changes that wait to be accepted, with the rows of one candidate that were made after each."""

    made: Mapping[CanaryChange, Sequence[RowMadeAfter]]
    verdict: GateVerdict

    @property
    def sentences(self) -> list[str]:
        return [f"{_counted(rows)} made after {change.sentence}" for change, rows in self.made.items()]


def teller(inference: InferenceSettings) -> Callable[[sa.Connection, CanaryChange], None]:
    """Puts a message into the outbox for each change, to the channels that the endpoint's canary names."""

    def tell(connection: sa.Connection, change: CanaryChange) -> None:
        declared = inference.endpoints.get(change.endpoint)
        to = () if declared is None or declared.canary is None else declared.canary.notify
        blocks = blocks_of(inference, change.endpoint)
        held = "Rows made since hold no candidate back." if blocks == "no" else (
            "Candidates with rows made since are held back until somebody takes the new model as it is."
        )  # fmt: skip
        news = outbox.CanaryNews(
            about=f"canary {change.endpoint} {change.change_id}",
            title=f"{change.endpoint} ({change.model}) answers otherwise under the same name",
            body="\n".join([
                f"{change.sentence}.", held, f"What was made since: ai-assets canary changes {change.endpoint}",
                f"Take it as it is: ai-assets canary accept {change.endpoint} --reason WHY",
            ]),
        )  # fmt: skip
        outbox.make(connection, [news], to, change.found_at)

    return tell


def canary_finding(
    stores: Stores, collection: str, partition: str, files: SnapshotFiles, inference: InferenceSettings
) -> CanaryFinding:
    made: dict[CanaryChange, Sequence[RowMadeAfter]] = {}
    with stores.state.read() as connection:
        found = {
            change: rows_after(connection, change, collection=collection, partition=partition)
            for change in records.changes_of(connection, only_open=True)
        }
    for change, rows in found.items():
        if here := still_in(stores, collection, partition, files, rows):
            made[change] = here
    return CanaryFinding(made=made, verdict=_verdict(made, inference))


def _verdict(made: Mapping[CanaryChange, Sequence[RowMadeAfter]], inference: InferenceSettings) -> GateVerdict:
    blocks = {change: blocks_of(inference, change.endpoint) for change in made}
    strictest: Blocks = max(blocks.values(), key=("no", "waivable", "yes").index, default="no")
    holding = {change: rows for change, rows in made.items() if blocks[change] != "no"}
    number = len({(row.asset, row.document) for rows in made.values() for row in rows})
    sentence = "no row was made after a change of its model"
    if made:
        accept = "; ".join(f"ai-assets canary accept {name}" for name in sorted({each.endpoint for each in made}))
        sentence = "; ".join(f"{_counted(rows)} made after {change.sentence}" for change, rows in made.items())
        sentence += f" (until somebody takes the new model as it is: {accept})"
    return GateVerdict(
        name=GATE, metric="rows made after a change", stage=None, judge=GATE, value=float(number), n=number,
        verdict="failed" if holding else "undecided" if made else "passed", holds=bool(holding),
        waivable=strictest != "yes", sentence=f"canary: {sentence}",
    )  # fmt: skip


def blocks_of(inference: InferenceSettings, endpoint: str) -> Blocks:
    declared = inference.endpoints.get(endpoint)
    return "no" if declared is None or declared.canary is None else declared.canary.blocks


def _counted(rows: Sequence[RowMadeAfter]) -> str:
    names = sorted({row.document for row in rows if row.document})
    number = len({(row.asset, row.document) for row in rows})
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    shown = f" ({', '.join(names[:MOST_NAMED])}{more})" if names else ""
    return f"{plural(number, 'row was', 'rows were')}{shown}"


@dataclass(frozen=True, kw_only=True)
class ReleaseMadeAfter:
    collection: str
    number: int
    created_at: str
    partitions: tuple[str, ...]
    """Those with such rows."""
    live: bool


def releases_after(stores: Stores, change: CanaryChange, collection: str) -> list[ReleaseMadeAfter]:
    """Of a collection, those that hold rows that were made after a change."""
    with stores.state.read() as connection:
        rows = rows_after(connection, change, collection=collection)
        every = [each for each in releases.find(connection, collection) if each.created_at > change.alike_at]
        live = releases.live(connection, collection)
    by_partition: dict[str, list[RowMadeAfter]] = {}
    for row in rows:
        by_partition.setdefault(row.partition, []).append(row)
    found = []
    for release in every if by_partition else ():
        concerned = tuple(
            partition for partition, part in sorted(release.parts.items())
            if still_in(stores, collection, partition, part, by_partition.get(partition, ()))
        )  # fmt: skip
        if concerned:
            found.append(ReleaseMadeAfter(
                collection=collection, number=release.number, created_at=release.created_at, partitions=concerned,
                live=live is not None and live.number == release.number,
            ))  # fmt: skip
    return found


def accept(connection: sa.Connection, endpoint: str, *, by: Person, reason: str) -> list[CanaryChange]:
    """The model as it answers since the last change is the baseline; in the caller's transaction, with its record."""
    if not by.may("admin", EVERYWHERE):
        said = f"'{by.name}' cannot: an endpoint is of all collections, and that takes the role admin everywhere"
        raise CanaryAcceptRefused(endpoint, f"{said} (ai-assets reviewers grant {by.name} admin '{EVERYWHERE}')")
    if not reason.strip():
        raise CanaryAcceptRefused(endpoint, "say why the new model is as good as the old one with --reason")
    waiting = records.changes_of(connection, endpoint, only_open=True)
    if not waiting:
        raise CanaryAcceptRefused(endpoint, "no change of it waits; see: ai-assets canary status")
    facts = [change.sentence for change in waiting]
    subject: dict[str, Json] = {
        "endpoint": endpoint,
        "changes": [each.change_id for each in waiting],
        "facts": facts,
        "reason": reason,
    }
    record = audit.append(connection, by.name, "canary accepted", subject)
    records.close_changes(connection, endpoint, by=by.name, reason=reason, at=record.recorded_at)
    return waiting
