"""What the page of costs shows to one person: the sums over the collections that they may see, and nothing else."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ai_assets.base.errors import DatasetDamaged, DatasetTooNew
from ai_assets.base.tenants import PLACE
from ai_assets.costs import cost_query
from ai_assets.costs.figures import Dimension, WarehouseTimes
from ai_assets.costs.window import Scope, Window, WindowInvalid, day
from ai_assets.desk.access import NotSeen, known_view
from ai_assets.desk.context import Desk
from ai_assets.inference.in_flight import InFlight, in_flight
from ai_assets.signoff import requests
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.signoff.people import EVERYWHERE, Person
from ai_assets.signoff.requests import SignoffRequest

DAYS = (7, 30, 90)
GROUPS: tuple[Dimension, ...] = ("model", "asset", "collection")


@dataclass(frozen=True, kw_only=True)
class CostParameters:
    """As the address has it; empty is not said."""

    days: str = ""
    first: str = ""
    last: str = ""
    collection: str = ""
    by: str = ""


def everything(person: Person) -> bool:
    """Whether tenants, and what belongs to no collection, are theirs to see."""
    return person.may("viewer", EVERYWHERE)


def groups(person: Person) -> tuple[Dimension, ...]:
    return (*GROUPS, "tenant") if everything(person) else GROUPS


def grouped(person: Person, asked: CostParameters) -> Dimension:
    known = groups(person)
    by = known_view("group", asked.by or GROUPS[0], known)
    return next(found for found in known if found == by)


def collections(desk: Desk, person: Person) -> list[str]:
    """Those that can be chosen."""
    return sorted(desk.seen_by(person))


def scope(desk: Desk, person: Person, asked: CostParameters, today: datetime.date) -> Scope:
    seen = collections(desk, person)
    if asked.collection and asked.collection not in seen:
        raise NotSeen(f"collection '{asked.collection}'")
    window = _window(asked, today)
    if asked.collection:
        return Scope(window=window, collections=[asked.collection])
    if everything(person):
        return Scope(window=window)
    whole = [name for name in desk.tenants().declared if person.may("viewer", f"{PLACE}{name}")]
    return Scope(window=window, collections=seen, budgets_of=whole)


def behind(desk: Desk, found: Scope, built: WarehouseTimes) -> int:
    """Calls that the warehouse does not show yet."""
    with desk.stores.state.read() as connection:
        return cost_query.behind(connection, built, found.collections)


def flying(desk: Desk, found: Scope) -> InFlight:
    """What is in flight at this moment, from the ledger itself."""
    with desk.stores.state.read() as connection:
        return in_flight(connection, collections=found.collections)


def _window(asked: CostParameters, today: datetime.date) -> Window:
    if not asked.first and not asked.last:
        if asked.days and asked.days not in map(str, DAYS):
            raise WindowInvalid(asked.days, "is no number of days that this page offers")
        return Window.of_days(int(asked.days or DAYS[1]), today)
    last = min(day(asked.last), today) if asked.last else today
    first = day(asked.first) if asked.first else datetime.date.fromordinal(max(1, last.toordinal() - DAYS[1] + 1))
    if first > last:
        raise WindowInvalid(asked.first or asked.last, f"begins after its end, {last}")
    return Window(first=first, last=last)


def addresses(desk: Desk, person: Person, documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Of the pages of those documents that the newest request of their partition holds."""
    partitions: dict[tuple[str, str], list[str]] = {}
    for item in documents:
        partitions.setdefault((item["collection"], item["partition"]), []).append(item["document"])
    found = {}
    with desk.stores.state.read() as connection:
        for (collection, partition), names in partitions.items():
            request = requests.latest_of(connection, collection, partition)
            if request is None or collection not in desk.seen_by(person):
                continue
            there = _documents_of(desk, request)
            found.update({
                (collection, name): f"/requests/{request.request_id}/document?{urlencode({'id': name})}"
                for name in names
                if name in there
            })  # fmt: skip
    return found


def _documents_of(desk: Desk, request: SignoffRequest) -> set[str]:
    """As long as its candidate is the newest; of none that cannot be read."""
    try:
        manifest = desk.stores.lake.manifest(request.collection, "release_candidate", request.partition)
        if manifest is None or FrozenCandidate.of(manifest).digest != request.digest:
            return set()
        return set(desk.stores.lake.read(manifest, ["document_id"])["document_id"].to_pylist())
    except (DatasetDamaged, DatasetTooNew):
        return set()
