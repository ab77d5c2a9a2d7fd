"""`ai-assets verify`: whether all that is kept still is what it was written as. Nothing is changed.

Area by area: the lake, frozen files, search indexes, model cards, the warehouse of costs, the ledger. The audit chain
has a command of its own. Each area names its first difference, and goes on to count the others.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from ai_assets.base.errors import AiAssetsError, DatasetDamaged, DatasetTooNew
from ai_assets.base.plural import plural
from ai_assets.costs.day_rows import ATTEMPTS, REUSES
from ai_assets.costs.ledger_days import due_days, standing
from ai_assets.inference.budget_sums import differences
from ai_assets.inference.prices import NUSD
from ai_assets.signoff import forgotten, live_index, release_cards, releases, served
from ai_assets.signoff.candidate import content_of_files
from ai_assets.signoff.errors import CardAltered, ReleaseAltered
from ai_assets.signoff.frozen_candidate import FrozenCandidate, snapshot_paths
from ai_assets.signoff.release_costs import costs_path
from ai_assets.signoff.releases import Release
from ai_assets.storage.content import has_own_bytes
from ai_assets.storage.lake import Manifest
from ai_assets.storage.shared_warehouse import warehouse_file
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import WarehouseMissing, reading

Name = Literal["lake", "snapshots", "index", "cards", "warehouse", "ledger"]
Advance = Callable[[Name, int, int], None]
"""Area, how much of it was looked at, how much there is."""
BODIES = 1_000


@dataclass
class Area:
    """What was looked at, and what is not as it was written."""

    name: Name
    checked: int = 0
    """Files, releases, days or rows."""
    differences: int = 0
    first: str | None = None
    """The first difference, in words."""
    notes: list[str] = field(default_factory=list)
    """What could not be looked at, and why."""

    def differ(self, what: str) -> None:
        self.differences += 1
        self.first = self.first or what


def verify(
    stores: Stores,
    collection: str | None = None,
    advance: Advance = lambda _area, _done, _total: None,
) -> Iterator[Area]:
    """Of one collection, or of all; warehouse and ledger are of all collections."""
    manifests, unreadable = _manifests(stores, collection)
    yield _lake(stores, manifests, unreadable, advance)
    with stores.state.read() as connection:
        names = _released(connection) if collection is None else [collection]
        found = {name: list(releases.read_all(connection, name)) for name in names}
        live = {name: _live(connection, name) for name in names}
    yield _snapshots(stores, manifests, found, live, advance)
    yield _indexes(stores, found, live, advance)
    yield _cards(stores, found, advance)
    yield _warehouse(stores, advance)
    yield _ledger(stores, advance)


Found = dict[str, list[tuple[int, Release | ReleaseAltered]]]
Live = dict[str, int | ReleaseAltered | None]


def _released(connection: sa.Connection) -> list[str]:
    query = "SELECT collection FROM releases UNION SELECT collection FROM live_releases ORDER BY 1"
    return list(connection.execute(sa.text(query)).scalars())


def _live(connection: sa.Connection, collection: str) -> int | ReleaseAltered | None:
    try:
        return releases.live_number(connection, collection)
    except ReleaseAltered as error:
        return error


# The lake


def _manifests(stores: Stores, collection: str | None) -> tuple[list[Manifest], list[str]]:
    """Of every dataset, and what is wrong with those that cannot be read."""
    lake, found, wrong = stores.lake, [], []
    for path in lake.manifests(collection):
        try:
            manifest = lake.read_manifest(path)
        except (DatasetDamaged, DatasetTooNew) as error:
            wrong.append(str(error))
            continue
        if manifest is not None and lake.folder_of(manifest) == path.parent:
            found.append(manifest)
        elif manifest is not None:
            wrong.append(f"{path} is the manifest of another dataset ({manifest.asset} of {manifest.partition})")
    return found, wrong


def _lake(stores: Stores, manifests: Sequence[Manifest], unreadable: Sequence[str], advance: Advance) -> Area:
    area = Area("lake")
    for problem in unreadable:
        area.differ(problem)
    for number, manifest in enumerate(manifests, start=1):
        path = stores.lake.path(manifest)
        if not path.is_file():
            area.differ(f"{path} is gone; {_again(manifest)}")
        elif not has_own_bytes(path):
            area.differ(f"{path} does not hold the bytes that its name says; {_again(manifest)}")
        area.checked += 1
        advance("lake", number, len(manifests))
    return area


def _again(manifest: Manifest) -> str:
    if manifest.collection == "costs":
        return "it is copied from the ledger again by the next build of the warehouse: ai-assets cost"
    return f"ai-assets run {manifest.collection} --partition {manifest.partition} makes it again"


# Frozen files


def _snapshots(stores: Stores, manifests: Sequence[Manifest], found: Found, live: Live, advance: Advance) -> Area:
    """Those of releases and of current candidates. An older release's may be gone; a live one's must be there."""
    area, gone = Area("snapshots"), 0
    wanted: dict[Path, str] = {}
    must: set[Path] = set()
    for name, every in found.items():
        for number, release in every:
            if isinstance(release, ReleaseAltered):
                continue  # said of the index
            for partition, part in release.parts.items():
                paths = [*snapshot_paths(stores.lake, name, partition, part)]
                costs = costs_path(stores.lake, name, partition, part)
                paths += [] if costs is None else [costs]
                wanted |= dict.fromkeys(paths, f"release {number} of {name}, {partition}")
                must |= set(paths) if live[name] == number else set()
    for manifest in manifests:
        if manifest.asset == "release_candidate":
            for path in FrozenCandidate.of(manifest).paths(stores.lake):
                wanted.setdefault(path, f"the candidate of {manifest.collection} {manifest.partition}")
                must.add(path)
    for number, (path, what) in enumerate(sorted(wanted.items()), start=1):
        if not path.is_file():
            gone += path not in must
            if path in must:
                area.differ(f"{path} ({what}) is gone")
        elif not has_own_bytes(path):
            area.differ(f"{path} ({what}) does not hold the bytes that its name says")
        area.checked += 1
        advance("snapshots", number, len(wanted))
    _contents(stores, found, live, area)
    if gone:
        area.notes.append(f"gone: {plural(gone, 'file')} of older releases")
    return area


def _contents(stores: Stores, found: Found, live: Live, area: Area) -> None:
    """The rows of live releases amount to what was signed."""
    for name, every in found.items():
        with stores.state.read() as connection:
            gone = forgotten.of(connection, name)
        for number, release in every:
            if isinstance(release, ReleaseAltered) or live[name] != number:
                continue
            for partition, part in release.parts.items():
                try:
                    content = content_of_files(*snapshot_paths(stores.lake, name, partition, part), gone).content
                except DatasetDamaged:
                    continue  # said already
                if content != part.content:
                    area.differ(f"release {number} of {name}, {partition}: its rows amount to {content[:12]}, and "
                                f"{part.content[:12]} was published")  # fmt: skip


# Indexes


def _indexes(stores: Stores, found: Found, live: Live, advance: Advance) -> Area:
    """Of every release whose index is still kept; that of the live one must be."""
    area = Area("index")
    total, done = sum(map(len, found.values())), 0
    for name, every in found.items():
        if isinstance(problem := live[name], ReleaseAltered):
            area.differ(str(problem))
        unsealed = []
        for number, release in every:
            done += 1
            advance("index", done, total)
            if isinstance(release, ReleaseAltered):
                area.differ(str(release))
                continue
            if release.index_seal is None:
                unsealed.append(number)
            if (difference := _index(stores, release, is_live=live[name] == number)) is not None:
                area.differ(f"release {number} of {name}: {difference}; ai-assets publish {name} makes it again")
            area.checked += 1
        _shown(stores, name, area)
        if unsealed:
            listed = ", ".join(map(str, unsealed[-5:]))
            area.notes.append(
                f"not sealed: {plural(len(unsealed), 'release')} of {name} (the last "
                f"ones {listed}) were published by an earlier "
                "version, and nothing is known of the bytes of their index; the next publication seals its own"
            )
    return area


def _shown(stores: Stores, name: str, area: Area) -> None:
    """What those are shown who open the index without us."""
    again = f"ai-assets publish {name} puts it right"
    with stores.state.read() as connection:
        try:
            found = live_index.difference(stores, connection, name, whole=True)
        except ReleaseAltered:
            return  # said above
    if found is not None and live_index.is_shown(stores, name):
        area.differ(f"{name}: {found}; {again}")
    elif found is not None:
        area.notes.append(f"{name}: an earlier version published it, so {found}; {again}")


def _index(stores: Stores, release: Release, *, is_live: bool) -> str | None:
    index = served.index_of(stores, release)
    try:
        if not index.holds(release.index_version):
            return "its search index is gone" if is_live else None
        if release.index_seal is None:
            return None
        if (found := served.altered_index(stores, release)) is not None:
            return f"its search index was altered: {found}"
        if is_live and (missing := index.missing(release.index_seal)):
            return f"its search index lacks {missing[0]}"
    except AiAssetsError as error:
        return str(error)
    return None


# Model cards


def _cards(stores: Stores, found: Found, advance: Advance) -> Area:
    """Of every release, against the digest that the audit chain has."""
    area = Area("cards")
    total, done = sum(map(len, found.values())), 0
    for name, every in found.items():
        without = []
        for number, _ in every:
            done += 1
            advance("cards", done, total)
            try:
                with stores.state.read() as connection:
                    kept = release_cards.kept_card(connection, name, number)
            except CardAltered as error:
                area.differ(str(error))
                continue
            area.checked += kept is not None
            without += [number] if kept is None else []
        if without:
            listed = ", ".join(map(str, without[-5:]))
            area.notes.append(
                f"{plural(len(without), 'release')} of {name} (the last ones {listed}) "
                "were published by an earlier version, "
                f"without a card; ai-assets card {name} --release {without[-1]} makes one of what is kept"
            )
    return area


# Money


def _warehouse(stores: Stores, advance: Advance) -> Area:
    """Its sums of each day against the ledger's own, for the days that have not changed since it was built."""
    area = Area("warehouse")
    try:
        with reading(warehouse_file(stores.home)) as warehouse:
            copied = warehouse.execute(_COPIED).fetchall()
    except WarehouseMissing:
        area.notes.append("there is none yet")
        return area
    except AiAssetsError as error:
        area.differ(str(error))
        return area
    changed = set(due_days(stores))
    if changed:
        area.notes.append(
            f"{plural(len(changed), 'day has', 'days have')} changed since they were copied, and were not compared"
        )
    for number, row in enumerate(copied, start=1):
        day, *ours = row
        if day not in changed:
            for name, here, there in zip(_SUMS, ours, _of_ledger(stores, day), strict=True):
                if int(here) != there:
                    area.differ(f"{day}: {name} is {_amount(name, int(here))} there, {_amount(name, there)} in the "
                                "ledger; ai-assets audit verify says whether the ledger was altered")  # fmt: skip
        area.checked += 1
        advance("warehouse", number, len(copied))
    return area


_SUMS = ("attempts", "cost", "maybe billed", "saved", "cost of the marts")
_COPIED = """
SELECT CAST(days.day AS VARCHAR), days.attempts, days.cost_usd * 1000000000, days.maybe_usd * 1000000000,
    days.saved_usd * 1000000000,
    (SELECT coalesce(sum(spend.cost_usd), 0) * 1000000000 FROM marts.spend WHERE spend.day = days.day)
FROM raw.days ORDER BY 1"""


def _of_ledger(stores: Stores, day: str) -> tuple[int, ...]:
    with stores.state.read() as connection:
        made, used = standing(connection, ATTEMPTS, day), standing(connection, REUSES, day)
    return made.rows, made.cost_nusd, made.maybe_nusd, used.saved_nusd, made.cost_nusd


def _amount(name: str, value: int) -> str:
    return str(value) if name == "attempts" else f"${value / NUSD:.9f}"


def _ledger(stores: Stores, advance: Advance) -> Area:
    """The store itself, the sums of budgets, and that every answer that is used is there and can be read."""
    area = Area("ledger")
    with stores.state.read() as connection:
        if connection.dialect.name == "sqlite":
            for row in connection.exec_driver_sql("PRAGMA integrity_check(1)"):
                if row[0] != "ok":
                    area.differ(f"the file of the state store is damaged: {row[0]}")
        for budget, column, here, there in differences(connection):
            what = column.removesuffix("_nusd")
            area.differ(
                f"budget {budget}: {what} is {_amount(what, here)}, and its attempts come to {_amount(what, there)}"
            )
        total: int = connection.execute(sa.text("SELECT count(*) FROM calls")).scalar_one()
        rows = connection.execution_options(stream_results=True).execute(_ANSWERS)
        for chunk in rows.partitions(BODIES):
            for row in chunk:
                if row.state == "settled" and not _is_json(row.body):
                    found = "is gone" if row.body is None else "is no JSON"
                    area.differ(f"the answer of call {row.call_key[:16]} {found}; it was paid for")
            area.checked += len(chunk)
            advance("ledger", area.checked, total)
    return area


_ANSWERS = sa.text("""
SELECT calls.call_key, attempts.state, answers.body FROM calls
JOIN attempts ON attempts.attempt_id = calls.attempt_id LEFT JOIN answers ON answers.attempt_id = calls.attempt_id
ORDER BY calls.call_key""")


def _is_json(body: str | None) -> bool:
    try:
        json.loads(body or "")
    except ValueError:
        return False
    return True
