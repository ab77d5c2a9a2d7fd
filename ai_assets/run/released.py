"""What is in a release: its documents a page at a time, found by name or label, and its difference to another one.

Files are named by their content, so one that was read is known for every release that holds it, and a partition that
two releases share is not looked at to compare them.
"""

import itertools
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.run.frozen_lines import light_rows, stages_in
from ai_assets.run.release_columns import partition_of
from ai_assets.signoff import releases
from ai_assets.signoff.errors import DocumentUnknown, ReleaseFilesRemoved
from ai_assets.signoff.forgotten import STATUS as FORGOTTEN
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Release
from ai_assets.storage.lake import parquet_columns, read_parquet_row
from ai_assets.storage.stores import Stores

KEPT_LINES = 60_000
"""So many lines are kept, over all files; a line is about a kilobyte."""
ABSENT = frozenset({"quarantined", FORGOTTEN})
"""Documents in such a state are in the release's files, and readers do not get them."""
Move = Literal["added", "removed", "changed", "relabelled"]
MOVES: tuple[Move, ...] = ("relabelled", "changed", "added", "removed")


@dataclass(frozen=True, kw_only=True)
class ReleasedLine:
    """A document of a release, without its text."""

    document_id: str
    partition: str
    title: str
    status: str
    headlines: Mapping[str, str | None]
    """By stage, what is said of it in short."""
    confidence: float | None
    """The lowest of its stages."""
    leaf: str
    place: int
    """Its row in the file of its partition."""

    @property
    def is_read(self) -> bool:
        """Whether readers get it."""
        return self.status not in ABSENT


@dataclass(frozen=True, kw_only=True)
class ReleasedPage:
    lines: Sequence[ReleasedLine]
    total: int


@dataclass(frozen=True, kw_only=True)
class ReleasedFilter:
    """What a line must be; what is empty does not matter."""

    text: str = ""
    """Characters of its name or title."""
    partition: str = ""
    stage: str = ""
    label: str = ""
    """What that stage says of it, in short."""
    status: str = ""

    def passes(self, line: ReleasedLine) -> bool:
        wanted = self.text.strip().casefold()
        return (
            (not wanted or wanted in line.document_id.casefold() or wanted in line.title.casefold())
            and (not self.partition or line.partition == self.partition)
            and (not self.stage or not self.label or line.headlines.get(self.stage) == self.label)
            and (not self.status or line.status == self.status)
        )

    @property
    def looks_at_lines(self) -> bool:
        return bool(self.text.strip() or (self.stage and self.label) or self.status)


@dataclass(frozen=True, kw_only=True)
class DocumentMove:
    """A document that readers of one release see otherwise than those of another."""

    document_id: str
    title: str
    partition: str
    """Where the newer side has it; of a removed one, where it was."""
    move: Move
    labels: Mapping[str, tuple[str | None, str | None]]
    """By stage whose headline differs: what it said, and what it says."""


@dataclass(frozen=True, kw_only=True)
class ReleaseDifference:
    collection: str
    base: int
    """The release that is gone from."""
    other: int
    """The release that is gone to."""
    moves: Sequence[DocumentMove]
    """Relabelled ones first, then changed, added and removed ones, each by name."""
    counts: Mapping[Move, int]
    partitions: Sequence[str]
    """Those whose content differs."""
    base_documents: int
    other_documents: int


def removed_files(connection: sa.Connection, release: Release) -> ReleaseFilesRemoved | None:
    """Why the documents of a release cannot be shown any more."""
    at = releases.pruned(connection, release.collection).get(release.number)
    return None if at is None else ReleaseFilesRemoved(release.collection, release.number, at)


def require_files(connection: sa.Connection, release: Release) -> None:
    """Raises that, where it is so."""
    if (removed := removed_files(connection, release)) is not None:
        raise removed


# Documents


def page_of(
    stores: Stores, collection: Collection, release: Release, *, first: int, most: int,
    only: ReleasedFilter = ReleasedFilter(),
) -> ReleasedPage:  # fmt: skip
    """Documents in the order of their partitions and names. Without a look at what lines say, only the files of the
    page are opened."""
    parts = [name for name in sorted(release.parts) if not only.partition or name == only.partition]
    if only.looks_at_lines:
        found = [line for name in parts for line in lines_of(stores, collection, release, name) if only.passes(line)]
        return ReleasedPage(lines=found[first : first + most], total=len(found))
    lines: list[ReleasedLine] = []
    before = 0
    for name in parts:
        held = release.parts[name].documents
        if before < first + most and before + held > first and len(lines) < most:
            start = max(0, first - before)
            lines += lines_of(stores, collection, release, name)[start : start + most - len(lines)]
        before += held
    return ReleasedPage(lines=lines, total=before)


def lines_of(stores: Stores, collection: Collection, release: Release, partition: str) -> Sequence[ReleasedLine]:
    """Of one partition, in the order of its file."""
    path, _ = snapshot_paths(stores.lake, release.collection, partition, release.parts[partition])
    return RECENT.of(path, collection, partition)


def stages_of(stores: Stores, collection: Collection, release: Release) -> list[str]:
    """Stages that its documents have something of, in the order of the declaration."""
    for partition, part in release.parts.items():
        path, _ = snapshot_paths(stores.lake, release.collection, partition, part)
        return [stage.name for stage in stages_in(parquet_columns(path), collection)]
    return []


def labels_of(
    stores: Stores, collection: Collection, release: Release, stage: str, most: int
) -> Mapping[str, int]:  # fmt: skip
    """What the stage says of documents, by how many; the most frequent first. All files are read for it."""
    counts = Counter(
        said
        for name in release.parts
        for line in lines_of(stores, collection, release, name)
        if line.is_read and (said := line.headlines.get(stage)) is not None
    )
    return dict(counts.most_common(most))


def document_of(
    stores: Stores, collection: Collection, release: Release, document_id: str, partition: str = ""
) -> tuple[ReleasedLine, Mapping[str, Any]]:
    """A document with its whole row. Without a partition all of them are looked through."""
    name = partition if partition in release.parts else partition_of(stores, collection, release, document_id)
    for line in lines_of(stores, collection, release, name) if name is not None else ():
        if line.document_id == document_id:
            path, _ = snapshot_paths(stores.lake, release.collection, line.partition, release.parts[line.partition])
            return line, read_parquet_row(path, line.place)
    raise DocumentUnknown(release.collection, document_id, f" in release {release.number}.")


@dataclass
class LineCache:
    """Lines of the files that were looked at last."""

    most: int
    _kept: "OrderedDict[tuple[Path, str], Sequence[ReleasedLine]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, path: Path, collection: Collection, partition: str) -> Sequence[ReleasedLine]:
        key = (path, ",".join(stage.name for stage in collection.stages))
        with self._lock:
            if key in self._kept and path.is_file():
                self._kept.move_to_end(key)
                return self._kept[key]
        found = [_line(row, partition) for row in light_rows(path, collection)]
        with self._lock:
            self._kept[key] = found
            total = sum(map(len, self._kept.values()))
            while total > self.most and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                total -= len(oldest)
        return found


RECENT = LineCache(KEPT_LINES)


def _line(row: Mapping[str, Any], partition: str) -> ReleasedLine:
    return ReleasedLine(
        document_id=row["document_id"],
        partition=partition,
        title=row.get("title") or row["document_id"],
        status=row["status"],
        headlines=row["headlines"],
        confidence=min(row["confidences"], default=None),
        leaf=row["leaf"] or "",
        place=row["place"],
    )


# The difference


def difference(stores: Stores, collection: Collection, base: Release, other: Release) -> ReleaseDifference:
    """What readers of `base` would see otherwise if `other` were live. Raises `ReleaseFilesRemoved`."""
    with stores.state.read() as connection:
        for release in (base, other):
            require_files(connection, release)
    differing = sorted({name for name, _ in base.contents.items() ^ other.contents.items()})
    before = {line.document_id: line for line in _read_lines(stores, collection, base, differing)}
    after = {line.document_id: line for line in _read_lines(stores, collection, other, differing)}
    moves = [move for name in sorted({*before, *after}) if (move := _move(before.get(name), after.get(name)))]
    moves.sort(key=lambda move: (MOVES.index(move.move), move.document_id))
    counts = Counter(move.move for move in moves)
    return ReleaseDifference(
        collection=base.collection,
        base=base.number,
        other=other.number,
        moves=moves,
        counts={name: counts[name] for name in MOVES},
        partitions=differing,
        base_documents=base.documents,
        other_documents=other.documents,
    )


def _read_lines(
    stores: Stores, collection: Collection, release: Release, partitions: Sequence[str]
) -> Iterator[ReleasedLine]:  # fmt: skip
    there = (name for name in partitions if name in release.parts)
    lines = itertools.chain.from_iterable(lines_of(stores, collection, release, name) for name in there)
    return (line for line in lines if line.is_read)


def _move(before: ReleasedLine | None, after: ReleasedLine | None) -> DocumentMove | None:
    shown = after or before
    assert shown is not None
    labels: dict[str, tuple[str | None, str | None]] = {}
    if before is None:
        move: Move = "added"
    elif after is None:
        move = "removed"
    elif before.leaf and before.leaf == after.leaf:
        return None
    else:
        both = [stage for stage in after.headlines if stage in before.headlines]
        labels = {
            stage: (before.headlines[stage], after.headlines[stage])
            for stage in both
            if before.headlines[stage] != after.headlines[stage]
        }
        move = "relabelled" if labels else "changed"
    return DocumentMove(
        document_id=shown.document_id, title=shown.title, partition=shown.partition, move=move, labels=labels
    )
