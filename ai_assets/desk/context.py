"""What every page of the desk works with: the stores, the settings, and the collections as they are declared now."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from ai_assets.base.errors import UserError
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.desk.settings import DeskSettings
from ai_assets.ops.dagster_client import DagsterApi, DagsterUnreachable
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signoff.people import Person
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
    _loaded: dict[str, tuple[int, Collection]] = field(default_factory=dict)

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
        for name, entry in catalog.entries().items():
            try:
                changed = entry.file.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # it has just been taken away
            if name not in self._loaded or self._loaded[name][0] != changed:
                try:
                    self._loaded[name] = (changed, catalog.load(name))
                except UserError:
                    if name in self._loaded:
                        self._loaded[name] = (changed, self._loaded[name][1])
        declared = {name: collection for name, (_, collection) in self._loaded.items()}
        return {**recorded(self.stores.state), **declared}

    def seen_by(self, person: Person) -> dict[str, Collection]:
        """Those that the person may see."""
        return {name: item for name, item in self.collections().items() if person.may("viewer", name)}
