"""Where the disk goes: how much each part of a home takes, and how much of it may go."""

import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.folders import files_below
from ai_assets.base.home import Home
from ai_assets.retention.leftovers import KINDS, Kind, RetentionContext, size_of
from ai_assets.retention.sweep import find


@dataclass(frozen=True, kw_only=True)
class Place:
    name: str
    size: int
    files: int


@dataclass(frozen=True, kw_only=True)
class RemovableItems:
    kind: Kind
    what: str
    number: int
    size: int | None
    """Bytes; None where only removing them shows."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    home: str
    free: int
    places: list[Place]
    may_go: list[RemovableItems]


def usage(home: Home) -> list[Place]:
    """The parts of a home, the largest first."""
    parts: dict[str, Path] = {
        "lake": home.lake, "search indexes": home.index, "Dagster's runs and events": home.dagster,
        "cost warehouse": home.warehouse.parent, "logs": home.logs, "drift": home.drift,
        "language model": home.languages,
    }  # fmt: skip
    found = [Place(name=name, size=size_of(path), files=_files(path)) for name, path in parts.items()]
    state = sorted(home.root.glob("state.db*"))
    found.append(Place(name="state store", size=sum(map(size_of, state)), files=len(state)))
    known = {*parts.values(), *state}
    others = [path for path in home.root.glob("*") if path not in known]
    found.append(Place(name="other", size=sum(map(size_of, others)), files=sum(map(_files, others))))
    return sorted(found, key=lambda place: -place.size)


def _files(path: Path) -> int:
    return sum(1 for _ in files_below(path)) if path.is_dir() else int(path.exists())


def disk(bench: RetentionContext) -> Disk:
    home = bench.stores.home
    number: defaultdict[Kind, int] = defaultdict(int)
    sizes: defaultdict[Kind, list[int]] = defaultdict(list)
    for leftover in find(bench):
        number[leftover.kind] += 1
        if leftover.size is not None:
            sizes[leftover.kind].append(leftover.size)
    may_go = [
        RemovableItems(kind=kind, what=KINDS[kind], number=number[kind], size=sum(sizes[kind]) if sizes[kind] else None)
        for kind in KINDS
        if number[kind]
    ]
    there = next(path for path in (home.root, *home.root.parents) if path.exists())
    return Disk(home=str(home.root), free=shutil.disk_usage(there).free, places=usage(home), may_go=may_go)
