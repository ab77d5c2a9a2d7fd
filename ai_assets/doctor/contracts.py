"""What readers were promised: whether what is declared now can follow on it, and the definitions keep it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_assets.base.errors import UserError
from ai_assets.collection.contract_reading import broken_by_definition
from ai_assets.doctor.findings import Finding, fine, of_error, wrong
from ai_assets.doctor.installation import CannotLook, Installation
from ai_assets.doctor.state import NoStoreYet, looking, tables_of
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signoff.contracts import PublishedContracts, published_contracts, why_undeclarable
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection


def look(at: Installation) -> Iterator[Finding]:
    kept = []
    for name, collection in {**_signed_assets(at), **at.collections.loaded}.items():
        try:
            published = _published(at, name)
        except CannotLook:
            raise  # of all of them alike
        except UserError as error:
            yield of_error(f"contract of {name}", error)
            continue
        problem = why_undeclarable(collection, published)
        broken = [str(each) for each in broken_by_definition(collection)]
        if problem is not None or broken:
            said = [*([problem] if problem else []), *broken]
            yield wrong(f"contract of {name}", found="; ".join(said), fix=f"See: ai-assets contract {name}")
        elif collection.contract is not None:
            kept.append(f"{name} (version {collection.contract.contract.version})")
    if kept:
        yield fine("contracts", f"kept by the definitions: {', '.join(kept)}")


def _signed_assets(at: Installation) -> "dict[str, Collection]":
    """As the home recorded them."""
    try:
        with looking(at) as connection:
            if "signed_assets" not in tables_of(connection):
                return {}
    except (NoStoreYet, UserError):
        return {}
    with Stores.reading(at.home, lambda _line: None) as stores:
        return recorded(stores.state)


def _published(at: Installation, name: str) -> PublishedContracts:
    """Nothing, where no store is there yet. Releases are read with the home's keys, which a bare look has not."""
    nothing = PublishedContracts(live=None, newest=None)
    try:
        with looking(at) as connection:
            if not {"releases", "live_releases", "audit"} <= tables_of(connection):
                return nothing
    except NoStoreYet:
        return nothing
    with Stores.reading(at.home, lambda _line: None) as stores, stores.state.read() as connection:
        return published_contracts(connection, name)
