"""What every page of the desk works with: the stores, the settings, and the collections as they are declared now."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from starlette.requests import HTTPConnection

from ai_assets.base.errors import UserError
from ai_assets.base.tenants import Tenants, load_tenants
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.desk.settings import DeskSettings
from ai_assets.ops.dagster_client import DagsterApi, DagsterUnreachable
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signoff.people import EVERYWHERE, Person
from ai_assets.signoff.policy_facts import access_denied
from ai_assets.storage.stores import Stores

DAGSTER_TIMEOUT_S = 15.0


@dataclass
class Desk:
    stores: Stores
    settings: DeskSettings
    url: str
    """Its own address, for links; without a slash at the end."""
    dagster_url: str | None
    """Of its pages, for links."""
    dagster_api: str | None = None
    """Where the desk itself reaches Dagster; by default where its pages are."""
    _loaded: dict[str, tuple[tuple[int, ...], Collection]] = field(default_factory=dict)
    _tenants: tuple[int, Tenants] | None = None
    """As they were declared at that time (of the file), which is 0 where there is none; None before the first look."""

    @classmethod
    def of(cls, connection: HTTPConnection) -> "Desk":
        found: Desk = connection.app.state.desk
        return found

    def dagster(self) -> DagsterApi:
        """To start runs and to look at them. Raises where nobody has said where Dagster is, and no `up` runs here."""
        from ai_assets.ops.supervisor import running_at

        url = self.dagster_api or self.dagster_url or running_at(self.stores.home)
        if url is None:
            raise DagsterUnreachable(None, "no `ai-assets up` runs here, and desk.yaml has no `dagster_url`")
        return DagsterApi(url, timeout_s=DAGSTER_TIMEOUT_S)

    def collections(self) -> Mapping[str, Collection]:
        """All that are declared, and signed assets that the home knows.

        One whose declaration was broken by an edit stays as it was before.
        """
        catalog = Catalog(self.stores.home)
        tenants, declared_at = self.tenants(), self._tenants[0] if self._tenants else 0
        for name, entry in catalog.entries().items():
            try:
                changed = (entry.file.stat().st_mtime_ns, declared_at)
            except FileNotFoundError:
                continue  # it has just been taken away
            if name not in self._loaded or self._loaded[name][0] != changed:
                try:
                    self._loaded[name] = (changed, catalog.load(name))
                except UserError:
                    if name in self._loaded:
                        self._loaded[name] = (changed, self._loaded[name][1])
        declared = {name: collection for name, (_, collection) in self._loaded.items()}
        found = {**recorded(self.stores.state), **declared}
        return {name: each for name, each in found.items() if tenants.knows(each.settings.tenant)}

    def tenants(self) -> Tenants:
        """As they are declared now. Where an edit broke the file, those from before; at the first look that raises."""
        path = self.stores.home.operations
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            changed = 0
        known = self._tenants
        if known is None or changed != known[0]:
            try:
                known = (changed, load_tenants(path))
            except UserError:
                if known is None:
                    raise
                known = (changed, known[1])
            self._tenants = known
        return known[1]

    def knowing(self, person: Person) -> Person:
        """With what their roles in whole tenants reach."""
        if not self.tenants():
            return person
        return replace(person, tenant_of={name: each.settings.tenant for name, each in self.collections().items()})

    def dagster_pages_for(self, person: Person | None) -> str | None:
        """Dagster's own pages show everything, so where tenants are declared they are linked for who may see all."""
        if self.tenants() and not (person is not None and person.may("viewer", EVERYWHERE)):
            return None
        return self.dagster_url

    def seen_by(self, person: Person) -> dict[str, Collection]:
        """Those that the person may see."""
        return {
            name: item
            for name, item in self.collections().items()
            if person.may("viewer", name) and not access_denied(item, person, "open")
        }
