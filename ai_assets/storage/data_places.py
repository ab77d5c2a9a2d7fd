"""In which bucket the data of a collection lies: in that of its tenant, else in the one of the home."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Self

import sqlalchemy as sa

from ai_assets.base.collection_files import declared_collections
from ai_assets.base.home import Home
from ai_assets.base.tenants import data_places
from ai_assets.storage.state import StateStore


@dataclass(frozen=True)
class DataPlaces:
    home: Home
    state: StateStore
    """It knows whose the signed assets are, which no file declares."""
    _own: Mapping[str, str]
    """By tenant."""
    _known: dict[str, str | None] = field(default_factory=dict)
    """By collection."""

    @classmethod
    def of(cls, home: Home, state: StateStore) -> Self:
        """Raises where tenants have buckets and the home has none beside them."""
        return cls(home, state, data_places(home))

    @property
    def of_tenants(self) -> Collection[str]:
        return self._own.values()

    def url_of(self, collection: str) -> str | None:
        """None where it lies below the home."""
        return self.own_url_of(collection) or self.home.data_url

    def own_url_of(self, collection: str) -> str | None:
        """None where it lies with what is of no tenant, such as the days of the ledger, which no file declares."""
        if self._own and collection not in self._known:
            tenant = self._tenant_of(collection)
            if tenant is None:
                return None
            self._known[collection] = self._own.get(tenant)
        return self._known.get(collection)

    def _tenant_of(self, collection: str) -> str | None:
        entry = declared_collections(self.home).get(collection)
        return entry.tenant if entry is not None else self._tenant_of_signed(collection)

    def _tenant_of_signed(self, name: str) -> str | None:
        with self.state.read() as connection:
            query = sa.text("SELECT declared FROM signed_assets WHERE name = :name")
            declared = connection.execute(query, {"name": name}).scalar_one_or_none()
        return None if declared is None else str(json.loads(declared)["tenant"])
