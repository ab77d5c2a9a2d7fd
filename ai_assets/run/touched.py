"""What a prompt, a model or a call reached: rows as computed last, and rows of releases, live and past, with dollars.

Releases are asked by their model cards, so only files that hold such rows are opened; a release whose files are gone
still says how many there were. What answers cost is looked up in the ledger by their keys, and by nothing else.
"""

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import consecutive
from ai_assets.documents.source_listing import known_folders
from ai_assets.inference import history
from ai_assets.inference.answer_query import DocumentReuse, answers_behind, reuses_of
from ai_assets.inference.history import Attempt
from ai_assets.run.errors import NothingTouched
from ai_assets.signoff import release_cards, releases
from ai_assets.signoff.frozen_candidate import has_snapshot, snapshot_paths
from ai_assets.signoff.golden_labels import computed_partitions
from ai_assets.signoff.releases import Part, Release
from ai_assets.storage.lake import parquet_columns, read_parquet
from ai_assets.storage.stores import Stores

By = Literal["prompt", "model", "call"]
_COLUMN: Mapping[By, str] = {"prompt": "prompt_version", "model": "model", "call": "call"}
MOST_COMMANDS = 10
"""Backfills that are named; together they are of all partitions."""


@dataclass(frozen=True, kw_only=True)
class TouchedBy:
    """What is asked."""

    by: By
    value: str
    """Of a call its whole key."""
    stage: str | None = None
    """Only of this stage: two may have prompts of the same version."""

    def is_met_by(self, value: str | None) -> bool:
        """A built-in model is also found without its version, which stands behind its name."""
        name = value.partition(" ")[0] if value is not None and self.by == "model" else value
        return self.value in (value, name)


@dataclass(frozen=True, kw_only=True)
class TouchedRow:
    stage: str
    partition: str
    document: str
    current: bool
    """The row as computed last says so."""
    releases: tuple[int, ...]
    """Those whose files are kept, the newest first."""
    live: bool
    calls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TouchedRelease:
    number: int
    live: bool
    published_at: str
    rows: int
    partitions: tuple[str, ...]
    files_kept: bool
    """If not, rows are counted by its model card and cannot be named."""


@dataclass(frozen=True, kw_only=True)
class Touched:
    collection: str
    asked: TouchedBy
    stages: tuple[str, ...]
    partitions: Mapping[str, int]
    """By partition, how many rows, as computed last or in a release."""
    rows: tuple[TouchedRow, ...]
    releases: tuple[TouchedRelease, ...]
    """The newest first."""
    answers: int
    cost_usd: float
    """Of the answers of these rows, when they were paid for."""
    unpriced: int
    """Answers whose dollars the ledger does not have."""
    backfills: tuple[str, ...]
    """Commands that say what making the current rows again would cost, and ask."""
    more_backfills: int

    @property
    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def current(self) -> list[TouchedRow]:
        return [row for row in self.rows if row.current]


@dataclass(frozen=True)
class _Line:
    stage: str
    partition: str
    document: str


@dataclass
class _Found:
    current: set[_Line] = field(default_factory=set)
    releases: "defaultdict[_Line, list[int]]" = field(default_factory=lambda: defaultdict(list))
    calls: "defaultdict[_Line, set[str]]" = field(default_factory=lambda: defaultdict(set))
    told: list[TouchedRelease] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    """Other values that were met, for who misspelt one."""


def touched(collection: Collection, stores: Stores, reach: TouchedBy) -> Touched:
    """Raises `NothingTouched` where no row and no release says so."""
    with stores.state.read() as connection:
        places = _places_of_call(connection, collection.name, reach) if reach.by == "call" else None
        found, live = _Found(), releases.live_number(connection, collection.name)
        _in_releases(connection, stores, collection, reach, places, live, found)
        _now(connection, stores, collection, reach, places, found)
        lines = sorted({*found.current, *found.releases}, key=lambda line: (line.partition, line.document, line.stage))
        if not lines and not found.told:
            raise NothingTouched(collection.name, reach.by, reach.value, _hint(reach, found))
        calls = {call for line in lines for call in found.calls[line]}
        paid = answers_behind(connection, calls)
    costs = [item.cost_usd for item in paid.values()]
    rows = tuple(
        TouchedRow(
            stage=line.stage,
            partition=line.partition,
            document=line.document,
            current=line in found.current,
            releases=tuple(found.releases.get(line, ())),
            live=live in found.releases.get(line, ()),
            calls=tuple(sorted(found.calls[line])),
        )
        for line in lines
    )
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.partition] += 1
    commands = _backfills(collection, stores, rows)
    return Touched(
        collection=collection.name,
        asked=reach,
        stages=tuple(dict.fromkeys(row.stage for row in rows)),
        partitions=dict(counts),
        rows=rows,
        releases=tuple(found.told),
        answers=len(calls),
        cost_usd=math.fsum(cost for cost in costs if cost is not None),
        unpriced=len(calls) - len([cost for cost in costs if cost is not None]),
        backfills=tuple(commands[:MOST_COMMANDS]),
        more_backfills=max(0, len(commands) - MOST_COMMANDS),
    )


def _hint(reach: TouchedBy, found: _Found) -> str:
    if reach.by == "call" or not found.known:
        return "."
    return nearest(reach.value, sorted(found.known))


def _places_of_call(connection: sa.Connection, collection: str, reach: TouchedBy) -> set[str]:
    """Partitions that it was asked for in, by the ledger."""
    made = history.attempts_of(connection, reach.value)
    every: list[Attempt | DocumentReuse] = [*made, *reuses_of(connection, made)]
    return {item.partition for item in every if item.collection == collection}


# Releases


def _in_releases(
    connection: sa.Connection, stores: Stores, collection: Collection, reach: TouchedBy, places: set[str] | None,
    live: int | None, found: _Found,
) -> None:  # fmt: skip
    cards = release_cards.kept_texts(connection, collection.name)
    gone = releases.pruned(connection, collection.name)
    read: dict[str, list[tuple[_Line, str | None]]] = {}
    for release in reversed(releases.find(connection, collection.name)):
        counted = _by_card(cards.get(release.number), reach, found)
        rows, there, kept = 0, [], release.number not in gone
        for partition, part in sorted(release.parts.items()):
            if (places is not None and partition not in places) or (counted is not None and partition not in counted):
                continue
            if not kept or not has_snapshot(stores.lake, collection.name, partition, part):
                kept, number = False, (counted or {}).get(partition, 0)
            else:
                lines = _of_part(stores, collection, partition, part, reach, read, found)
                number = len({line for line, _ in lines})
                for line, call in lines:
                    if release.number not in found.releases[line]:
                        found.releases[line].append(release.number)
                    found.calls[line] |= {call} if call else set()
            rows += number
            there += [partition] if number else []
        if rows:
            found.told.append(_told(release, live, rows, there, kept=kept))


def _told(release: Release, live: int | None, rows: int, there: Sequence[str], *, kept: bool) -> TouchedRelease:
    return TouchedRelease(
        number=release.number, live=release.number == live, published_at=release.created_at, rows=rows,
        partitions=tuple(there), files_kept=kept,
    )  # fmt: skip


def _by_card(card: str | None, reach: TouchedBy, found: _Found) -> Mapping[str, int] | None:
    """By partition, how many documents; None where there is no card that could say so."""
    if card is None or reach.by == "call":
        return None
    counted: dict[str, int] = {}
    for partition, told in json.loads(card)["partitions"].items():
        if told["unknown"]:
            return None
        for answer in told["answers"]:
            value = answer["model" if reach.by == "model" else "prompt"]
            if reach.stage not in (None, answer["stage"]):
                continue
            found.known |= {value} if value else set()
            if reach.is_met_by(value):
                counted[partition] = counted.get(partition, 0) + answer["documents"]
    return counted


def _of_part(
    stores: Stores, collection: Collection, partition: str, part: Part, reach: TouchedBy,
    read: dict[str, list[tuple[_Line, str | None]]], found: _Found,
) -> list[tuple[_Line, str | None]]:  # fmt: skip
    if part.documents_file not in read:
        path, _ = snapshot_paths(stores.lake, collection.name, partition, part)
        columns, stages = set(parquet_columns(path)), []
        for name in columns:
            stage = name.removesuffix("_model")
            if stage != name and f"{stage}_{_COLUMN[reach.by]}" in columns and reach.stage in (None, stage):
                stages.append(stage)
        read[part.documents_file] = [
            line for stage in sorted(stages) for line in _lines(path, f"{stage}_", stage, partition, reach, found)
        ]
    return read[part.documents_file]


def _lines(
    path: Path, prefix: str, stage: str, partition: str, reach: TouchedBy, found: _Found
) -> Iterator[tuple[_Line, str | None]]:
    """Of one file those that are asked for, each with its call."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there, asked, call = set(parquet_columns(path)), prefix + _COLUMN[reach.by], f"{prefix}call"
    if asked not in there:
        return
    table = read_parquet(path, list(dict.fromkeys(["document_id", asked, *([call] if call in there else [])])))
    values = {str(value) for value in pc.unique(table[asked]).to_pylist() if value is not None}
    found.known |= values
    wanted = pa.array([value for value in values if reach.is_met_by(value)], pa.string())
    table = table.filter(pc.is_in(table[asked], wanted))
    calls = table[call].to_pylist() if call in there else [None] * table.num_rows
    for document, key in zip(table["document_id"].to_pylist(), calls, strict=True):
        yield _Line(stage, partition, document), key


# Now


def _now(
    connection: sa.Connection, stores: Stores, collection: Collection, reach: TouchedBy, places: set[str] | None,
    found: _Found,
) -> None:  # fmt: skip
    for stage in collection.stages:
        if reach.stage not in (None, stage.name):
            continue
        for partition in computed_partitions(connection, collection.name, stage.name):
            if places is not None and partition not in places:
                continue
            manifest = stores.lake.manifest(collection.name, stage.name, partition)
            if manifest is None:
                continue
            for line, call in _lines(stores.lake.path(manifest), "", stage.name, partition, reach, found):
                found.current.add(line)
                found.calls[line] |= {call} if call else set()


def _backfills(collection: Collection, stores: Stores, rows: Sequence[TouchedRow]) -> list[str]:
    """Of the partitions and stages of the rows that are current: what is in releases alone is not made again."""
    now = [row for row in rows if row.current and row.stage in collection.asking]
    stages = [part for stage in dict.fromkeys(row.stage for row in now) for part in ("--stage", stage)]
    order = collection.scheme.keys(known_folders(stores.state, collection.name))
    commands = []
    for group in consecutive(order, {row.partition for row in now}, len(order) or 1):
        only = ["--partition", group[0]] if len(group) == 1 else ["--partitions", f"{group[0]}...{group[-1]}"]
        commands.append(shlex.join(["ai-assets", "backfill", collection.name, *only, *stages]))
    return commands
