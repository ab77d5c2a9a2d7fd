"""What killed processes left behind: temporary files, unnamed data files, half-built warehouses; logs that are long."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ai_assets.base import temporary
from ai_assets.retention.leftovers import Leftover, RetentionContext, size_of, unlink
from ai_assets.retention.release_files import SNAPSHOTS
from ai_assets.storage.lake import MANIFEST, TEMPORARY, Lake
from ai_assets.storage.leases import hold
from ai_assets.storage.warehouse import BUILDING, LEASE

_HOME_LITTER = (".probe-*", ".keys-*", "trial-*.json", "dagster/.dagster.yaml.*")


def find(bench: RetentionContext) -> Iterator[Leftover]:
    yield from _lake(bench)
    yield from _warehouse(bench)
    age_s = bench.settings.litter_hours * 3600
    for pattern in _HOME_LITTER:
        for path in sorted(bench.stores.home.root.glob(pattern)):
            if bench.is_older(path, age_s):
                yield _file(path, bench.stores.home.root)
    yield from _temporary()
    yield from _logs(bench)


def _temporary() -> Iterator[Leftover]:
    """Outside of the home: what is read or sent lies there for a moment, texts of documents included."""
    for place in temporary.places():
        for path in temporary.abandoned(place):
            yield _file(path, place, partial(temporary.remove_abandoned, path))


def _lake(bench: RetentionContext) -> Iterator[Leftover]:
    root, age_s = bench.stores.lake.root, bench.settings.litter_hours * 3600
    shared = bench.stores.lake.in_bucket() is not None  # then what is here are copies: bucket_files looks at them
    for at, _, names in os.walk(root):
        folder = Path(at)
        named = Lake.manifest_or_none(folder) if MANIFEST in names else None
        for name in sorted(names):
            path = folder / name
            temporary = name.startswith(".") and name.endswith(TEMPORARY)
            orphan = name.endswith(".parquet") and name != named and MANIFEST in names
            lost = name.endswith(".parquet") and MANIFEST not in names and _is_dataset(folder.relative_to(root))
            if (temporary or ((orphan or lost) and not shared)) and bench.is_older(path, age_s):
                yield _file(path, root, partial(_remove_unnamed, bench, path))


def _is_dataset(folder: Path) -> bool:
    """A folder of one asset and partition, whose first manifest was never written."""
    return len(folder.parts) == 3 and folder.parts[1] != SNAPSHOTS


def _remove_unnamed(bench: RetentionContext, path: Path) -> None:
    """Looked at again: a writer that made the same content once more has a new file of that name."""
    old = bench.is_older(path, bench.settings.litter_hours * 3600)
    if old and Lake.manifest_or_none(path.parent) != path.name:
        unlink(path)


def _warehouse(bench: RetentionContext) -> Iterator[Leftover]:
    folder = bench.stores.home.warehouse.parent
    left = sorted(folder.glob(f"{BUILDING}*"))
    if left:
        yield Leftover(
            kind="litter", what=f"{len(left)} half-built warehouse{'s' * (len(left) > 1)}",
            size=sum(map(size_of, left)), remove=partial(_remove_half_built, bench, folder),
        )  # fmt: skip


def _remove_half_built(bench: RetentionContext, folder: Path) -> None:
    with hold(bench.stores.state, LEASE, wait_s=0):  # nobody builds now, so their builders are dead
        for path in folder.glob(f"{BUILDING}*"):
            shutil.rmtree(path, ignore_errors=True)


def _logs(bench: RetentionContext) -> Iterator[Leftover]:
    most = int(bench.settings.log_mb * 1_000_000)
    for path in sorted(bench.stores.home.logs.glob("*.log")):
        if (size := path.stat().st_size) > most:
            yield Leftover(
                kind="logs", what=f"the beginning of {path.name}", size=size,
                remove=partial(_rotate, path, most),
            )  # fmt: skip


def _rotate(path: Path, most: int) -> None:
    """The process that writes it goes on at its end: it has the file open to append."""
    kept = path.with_name(f"{path.name}.1")
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - most))
        log.readline()
        with kept.open("wb") as out:
            shutil.copyfileobj(log, out)
    os.truncate(path, 0)


def _file(path: Path, root: Path, remove: Callable[[], object] | None = None) -> Leftover:
    return Leftover(
        kind="litter", what=path.relative_to(root).as_posix(), size=size_of(path),
        remove=remove or partial(unlink, path),
    )  # fmt: skip
