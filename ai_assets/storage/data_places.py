"""In which bucket the data of a collection lies: in that of its tenant, else in the one of the home."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from ai_assets.base.collection_files import UNREADABLE, declared_collections
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.tenants import data_places
from ai_assets.storage.state import StateStore


class DataPlaceUnknown(UserError):
    def __init__(self, collection: str, file: Path) -> None:
        super().__init__(
            f"Where the data of collection '{collection}' lies is not known: it says so by its tenant, and {file} "
            "cannot be read. Correct that file; `ai-assets doctor` names the mistake."
        )


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

    @property
    def by_tenant(self) -> Mapping[str, str]:
        return self._own

    def may_hold(self, tenant: str | None, collection: str) -> bool:
        """Whether what has that name in the bucket of a tenant, or of the home, is not known to be another one's."""
        if not self._own or not (known := self._tenant_of(collection)):
            return True
        return (known if known in self._own else None) == tenant

    def url_of(self, collection: str) -> str | None:
        """None where it lies below the home."""
        return self.own_url_of(collection) or self.home.data_url

    def is_known(self, collection: str) -> bool:
        """Not where its file cannot be read, and tenants have buckets."""
        return not self._own or collection in self._known or self._tenant_of(collection) != UNREADABLE

    def own_url_of(self, collection: str) -> str | None:
        """None where it lies with what is of no tenant, such as the days of the ledger, which no file declares.

        Raises where that cannot be told: in another bucket it would be found empty, and nothing of it erased."""
        if self._own and collection not in self._known:
            tenant = self._tenant_of(collection)
            if tenant is None:
                return None
            if tenant == UNREADABLE:
                raise DataPlaceUnknown(collection, declared_collections(self.home)[collection].file)
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
