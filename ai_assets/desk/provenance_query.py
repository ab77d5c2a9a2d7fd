"""Where a row comes from, and what a prompt, model or call touched, as one person may see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.retention import holds as legal_holds
from ai_assets.run import provenance
from ai_assets.run.provenance import Provenance, Sight, provenance_of
from ai_assets.run.provenance_records import ProvenanceStep, StepLink
from ai_assets.run.touched import By, Touched, TouchedBy, touched
from ai_assets.signoff.people import EVERYWHERE, Person
from ai_assets.storage.digest import Json
from ai_assets.storage.state import storable

LONGEST_MESSAGE = 20_000
"""Characters of each message of a prompt on the page; the answer's own page has more, the command all."""


@dataclass(frozen=True, kw_only=True)
class StepView:
    step: ProvenanceStep
    address: str | None


@dataclass(frozen=True, kw_only=True)
class ProvenanceView:
    found: Provenance
    steps: Sequence[StepView]
    holds: Sequence[str]
    """Legal holds on the release, in sentences."""


@dataclass(frozen=True, kw_only=True)
class TouchedView:
    found: Touched
    price: str | None
    """Where a backfill of the partitions is priced; None where nothing would be made again, or not by this person."""


def sight_of(desk: Desk, person: Person) -> Sight:
    seen, everything = set(desk.seen_by(person)), person.may("viewer", EVERYWHERE)
    return Sight(sees=lambda name: everything or name in seen, own_only=bool(desk.tenants()) and not everything)


def provenance_seen(desk: Desk, person: Person, name: str, asked: str, number: int | None = None) -> Provenance:
    collection = collection_seen(desk, person, name)
    return provenance_of(
        collection, desk.stores, storable(asked) or "", number=number, sight=sight_of(desk, person)
    )  # fmt: skip


def provenance_view(desk: Desk, person: Person, name: str, asked: str, number: int | None) -> ProvenanceView:
    found = provenance_seen(desk, person, name, asked, number)
    with desk.stores.state.read() as connection:
        held = legal_holds.current(connection)
    return ProvenanceView(
        found=found,
        steps=[StepView(step=step, address=address_of(step.link)) for step in found.steps],
        holds=[
            f"Under a legal hold by {each.by} since {each.at[:10]}: {each.reason}"
            for each in held
            if each.collection == name and (found.release is None or each.covers(name, found.release))
        ],
    )


def statement_of(desk: Desk, person: Person, name: str, asked: str, number: int | None) -> dict[str, Json]:
    return provenance.statement_of(desk.stores, provenance_seen(desk, person, name, asked, number))


def address_of(link: StepLink | None) -> str | None:
    """On the desk."""
    if link is None:
        return None
    names = {name: quote(value, safe="") for name, value in link.names.items()}
    match link.kind:
        case "answer":
            return f"/answers/{names['call']}"
        case "request":
            return f"/requests/{names['request']}"
        case "document":
            return f"/requests/{names['request']}/document?{_asked(link, id='document', at='at')}"
        case "released":
            wanted = _asked(link, id="document", partition="partition", at="at")
            return f"/releases/{names['collection']}/{names['release']}/document?{wanted}"
        case "release":
            return f"/releases/{names['collection']}/{names['release']}"
        case "held":
            return f"/held/{names['collection']}"
        case "run":
            return f"/runs/{names['collection']}/{names['run']}"
        case "quality":
            return f"/quality?{_asked(link, collection='collection')}"


def _asked(link: StepLink, **names: str) -> str:
    return urlencode({key: link.names[name] for key, name in names.items() if name in link.names})


def touched_view(desk: Desk, person: Person, name: str, by: By, value: str, stage: str | None) -> TouchedView:
    collection = collection_seen(desk, person, name)
    found = touched(collection, desk.stores, TouchedBy(by=by, value=storable(value) or "", stage=stage))
    now = sorted({row.partition for row in found.current if row.stage in collection.asking})
    price = None
    if now and collection.signed_asset is None and person.may("reviewer", name):
        asked = {"price": "yes", "first": now[0], "last": now[-1]}
        price = f"/runs/{quote(name, safe='')}?{urlencode(asked)}#price"
    return TouchedView(found=found, price=price)
