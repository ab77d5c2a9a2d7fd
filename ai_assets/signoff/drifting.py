"""Candidates held against the live release: which partitions of it, and what each of them was like.

What a released partition was like is read from its files, so releases of earlier versions can be compared with. That
takes time, so it is kept below `drift/` in the home, where it can be made again.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ai_assets.base.folders import files_below
from ai_assets.base.plural import plural
from ai_assets.collection.drift_settings import Against, DriftSettings
from ai_assets.collection.loading import Collection
from ai_assets.documents.by_document import Row
from ai_assets.embedding.spec import FIRST, Embedding, vector_column
from ai_assets.evaluation.drift import Comparison, compare, judge_drift
from ai_assets.evaluation.profile import FORMAT, Profile, ProfileBuilder, Reference
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.signoff import releases
from ai_assets.signoff.frozen_candidate import FrozenCandidate, SnapshotFiles, has_snapshot, snapshot_paths
from ai_assets.signoff.releases import Part, Release
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.lake import parquet_columns, read_batches, write_file
from ai_assets.storage.stores import Stores

MOST_PARTITIONS = 100
"""Of a release, chosen by digest where it has more."""
KEPT_S = 40 * 86400.0
"""What no candidate was held against for so long goes."""
_IN_MEMORY = 160
"""Profiles of the live release, some 300 KB each: those of two sides at once."""
_SIDES = 4
"""Sides that are put together and wait for further candidates. Those of shards are the same for all of them."""


@dataclass(frozen=True, kw_only=True)
class DriftFound:
    """Of one candidate."""

    comparisons: tuple[Comparison, ...]
    verdict: GateVerdict
    live: int | None

    @property
    def drifted(self) -> tuple[Comparison, ...]:
        return tuple(each for each in self.comparisons if each.drifted)

    @property
    def suspends(self) -> str | None:
        """Why a certified threshold does not count for these documents: they drifted, or too little is known and that
        is declared to hold back."""
        if self.drifted:
            more = f" and {len(self.drifted) - 3} more" if len(self.drifted) > 3 else ""
            return f"drift of {', '.join(f'{each.place} against {each.against}' for each in self.drifted[:3])}{more}"
        return self.verdict.sentence if self.verdict.verdict == "undecided" and self.verdict.holds else None


@dataclass(kw_only=True)
class DriftBench:
    """Holds candidates of one collection against what was live when it was first asked."""

    stores: Stores
    collection: Collection
    _found: dict[str, DriftFound] = field(default_factory=dict)
    _looked_at: dict[str, DriftFound] = field(default_factory=dict)
    """By partition, what was found before its candidate was frozen."""
    _profiles: OrderedDict[tuple[str, str], Profile | None] = field(default_factory=OrderedDict)
    _references: OrderedDict[tuple[str, ...], Reference] = field(default_factory=OrderedDict)
    _is_swept: bool = False
    _one_at_a_time: threading.RLock = field(default_factory=threading.RLock)

    @property
    def settings(self) -> DriftSettings:
        assert self.collection.settings.drift is not None
        return self.collection.settings.drift

    @cached_property
    def live(self) -> Release | None:
        with self.stores.state.read() as connection:
            return releases.live(connection, self.collection.name)

    def found(self, frozen: FrozenCandidate) -> DriftFound:
        """Of a candidate. Where a certified threshold was suspended by it, what was found before that: of the documents
        that would be published with the threshold, for most of them are held now."""
        with self._one_at_a_time:
            if (before := self._looked_at.get(frozen.partition)) is not None:
                return before
            if frozen.digest not in self._found:
                profile = self._profile(frozen.partition, frozen, frozen.embeddings) if self.live else None
                documents = frozen.documents - frozen.quarantined
                self._found[frozen.digest] = self._compared(frozen.partition, profile, documents, frozen.content)
            return self._found[frozen.digest]

    def look(self, partition: str, rows: Iterable[Row], passages: Iterable[Any], space: str, named: str) -> DriftFound:
        """Before a candidate is frozen. `named`: what the rows are made from; of the same they are read once."""
        with self._one_at_a_time:
            if self.live is None:
                return self._compared(partition, None, 0, named)
            builder = _builder(self.collection, space)
            said: list[Json] = [FORMAT, named, list(builder.columns), list(builder.slices), space]
            key = partition, digest(said)[:32]
            new = self._kept(key)
            if new is None:
                _take_rows(builder, rows)
                _take_vectors(builder, passages)
                if not self._looked_at:
                    _sweep(self._path(key).parent)
                encoded = builder.profile().encoded()
                write_file(self._path(key), encoded)
                new = Profile.of(encoded)  # as it will be kept: its numbers are rounded
            documents = 0 if new is None else new.documents
            self._looked_at[partition] = found = self._compared(partition, new, documents, named)
            return found

    def _compared(self, partition: str, new: Profile | None, documents: int, named: str) -> DriftFound:
        live = self.live
        comparisons: tuple[Comparison, ...] = ()
        if live is not None and new is not None:
            sides = {name: side for name, side in self._sides(partition, live) if side.profiles}
            if sides:
                seed = int(digest([named, self.settings.significance])[:12], 16)
                comparisons = compare(new, sides, self.settings, seed)
        verdict = judge_drift(comparisons, documents, live.number if live else None, self.settings)
        return DriftFound(comparisons=comparisons, verdict=verdict, live=live.number if live else None)

    def _sides(self, partition: str, live: Release) -> Iterator[tuple[str, Reference]]:
        """By how a person would say it."""
        names: dict[Against, str] = {
            "live": f"release {live.number}",
            "trailing": f"the {plural(self.settings.trailing, 'partition')} before it",
            "itself": f"the same partition in release {live.number}",
        }
        seen = []
        for side in self.settings.sides(self.collection.settings.partitions):
            if (chosen := self._partitions(side, partition, live)) not in seen:
                seen.append(chosen)
                yield names[side], self._reference(live, chosen)

    def _partitions(self, side: Against, partition: str, live: Release) -> Sequence[str]:
        match side:
            case "itself":
                return [partition] if partition in live.parts else []
            case "trailing":
                return sorted(name for name in live.parts if name < partition)[-self.settings.trailing :]
            case "live":
                return sorted(sorted(live.parts, key=lambda name: digest([name]))[:MOST_PARTITIONS])

    def _reference(self, live: Release, partitions: Sequence[str]) -> Reference:
        if (known := self._references.get(tuple(partitions))) is not None:
            return known
        found = [self._released(name, live.parts[name]) for name in partitions]
        made = Reference(profiles=[each for each in found if each is not None])
        self._references[tuple(partitions)] = made
        if len(self._references) > _SIDES:
            self._references.popitem(last=False)
        return made

    def _released(self, partition: str, part: Part) -> Profile | None:
        """Of the live release: what candidates are held against, one after the other."""
        key, builder = self._named(partition, part, part.embeddings)
        if key not in self._profiles:
            self._profiles[key] = self._kept(key) or self._made(key, part, builder)
            if len(self._profiles) > _IN_MEMORY:
                self._profiles.popitem(last=False)
        self._profiles.move_to_end(key)
        return self._profiles[key]

    def _profile(self, partition: str, files: SnapshotFiles, embeddings: Mapping[str, Embedding]) -> Profile | None:
        """None where its files are gone."""
        key, builder = self._named(partition, files, embeddings)
        return self._kept(key) or self._made(key, files, builder)

    def _named(
        self, partition: str, files: SnapshotFiles, embeddings: Mapping[str, Embedding]
    ) -> tuple[tuple[str, str], ProfileBuilder]:
        """How the profile of these files is kept, and what makes it."""
        space = embeddings[FIRST].space_key if FIRST in embeddings else ""
        builder = _builder(self.collection, space)
        named: list[Json] = [
            FORMAT, files.documents_file, files.chunks_file, list(builder.columns), list(builder.slices), space,
        ]  # fmt: skip
        return (partition, digest(named)[:32]), builder

    def _path(self, key: tuple[str, str]) -> Path:
        return profiles_of(self.stores, self.collection.name) / f"{key[1]}.npz"

    def _kept(self, key: tuple[str, str]) -> Profile | None:
        path = self._path(key)
        try:
            found = Profile.of(path.read_bytes())
            os.utime(path)
        except OSError:
            return None
        return found

    def _made(self, key: tuple[str, str], files: SnapshotFiles, builder: ProfileBuilder) -> Profile | None:
        if not has_snapshot(self.stores.lake, self.collection.name, key[0], files):
            return None
        documents, chunks = snapshot_paths(self.stores.lake, self.collection.name, key[0], files)
        _take_in(builder, documents, chunks)
        if not self._is_swept:
            self._is_swept = True
            _sweep(self._path(key).parent)
        encoded = builder.profile().encoded()
        write_file(self._path(key), encoded)
        return Profile.of(encoded)  # as it will be read again: its numbers are rounded


def profiles_of(stores: Stores, collection: str) -> Path:
    return stores.home.drift / hashlib.sha256(collection.encode()).hexdigest()[:16]


def _sweep(folder: Path) -> None:
    for path in files_below(folder):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink()


def forget_profiles(stores: Stores, collection: str) -> int:
    """They hold vectors of documents. How many there were."""
    found = list(files_below(profiles_of(stores, collection)))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _builder(collection: Collection, space: str) -> ProfileBuilder:
    published = [(stage.name, stage.columns.published) for stage in collection.stages]
    settings = collection.settings.drift
    return ProfileBuilder(
        labels=[f"{name}_label" for name, columns in published if "label" in columns],
        sure=[f"{name}_confidence" for name, columns in published if "confidence" in columns],
        slices=list(settings.slices) if settings else [],
        space=space,
    )


def _take_in(builder: ProfileBuilder, documents: Path, chunks: Path) -> None:
    there = set(parquet_columns(documents))
    builder.labels = [name for name in builder.labels if name in there]
    builder.sure = [name for name in builder.sure if name in there]
    _take_rows(builder, (row for batch in read_batches(documents, builder.columns) for row in batch.to_pylist()))
    if (column := vector_column(FIRST)) in parquet_columns(chunks):
        _take_vectors(builder, read_batches(chunks, ["chunk_id", column]))


def _take_rows(builder: ProfileBuilder, rows: Iterable[Row]) -> None:
    for row in rows:
        builder.add(row)


def _take_vectors(builder: ProfileBuilder, batches: Iterable[Any]) -> None:
    column = vector_column(FIRST)
    for batch in batches:
        places = {name: place for place, name in enumerate(batch["chunk_id"].to_pylist())}
        vectors = batch[column]
        for name, place in places.items():
            if builder.wants_vector(name) and vectors[place].is_valid:
                builder.add_vector(name, vectors[place].values.to_numpy(zero_copy_only=False))
