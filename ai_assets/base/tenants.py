"""Tenants: departments that share an installation. The key `tenants` of `operations.yaml`, which all layers read.

Where none is declared, `tenant:` of a collection is a name for money alone, and nothing here has an effect.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.errors import UserError
from ai_assets.base.home import DATA_URL_VARIABLE, TENANT_VARIABLE, Home, variable
from ai_assets.base.operations_file import SomeKeys, read_operations
from ai_assets.base.yaml_settings import Strict, nearest, refuse, wrong

KEY = "tenants"
PLACE = "tenant:"
"""Before the name of a tenant where roles name places: `tenant:legal` is all of its collections."""
ANOTHER = "another tenant"
"""What one tenant is told of the others."""
DEFAULT = "default"
"""Of a collection that names none."""
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]


class TenantUndeclared(UserError):
    def __init__(self, what: str, tenant: str, known: list[str], path: Path) -> None:
        hint = nearest(tenant, known).rstrip("?")
        super().__init__(
            f"{what} is of tenant '{tenant}', and {path.name} declares no such tenant{hint}. "
            f"Declare it under `{KEY}` in {path}, or name another one with `tenant:`."
        )


class TenantUnknown(UserError):
    def __init__(self, tenant: str, known: list[str], path: Path) -> None:
        hint = nearest(tenant, known) if known else "; it declares none"
        super().__init__(f"{path.name} declares no tenant '{tenant}'{hint}")


class ServedTenantUnknown(UserError):
    def __init__(self, tenant: str, where: str, known: Collection[str]) -> None:
        super().__init__(
            f"{TENANT_VARIABLE} is '{tenant}', and {where} no such tenant{nearest(tenant, sorted(known)).rstrip('?')}. "
            f"Set {TENANT_VARIABLE} to a tenant whose collections are to be served, or unset it to serve all."
        )


class TenantDataMisplaced(UserError):
    def __init__(self, tenant: str, path: Path, found: str) -> None:
        super().__init__(
            f"{path.name} puts the data of tenant '{tenant}' into a bucket of its own, and {found}. "
            f"Set {DATA_URL_VARIABLE} to another bucket or prefix, which holds what is of no such tenant."
        )


class TenantBudget(Strict):
    """What all calls of a tenant together may cost."""

    limit_usd: float = Field(ge=0, le=1e9)
    per: Literal["day", "month"] | None = None
    """UTC; without it, for good."""
    notify: tuple[str, ...] = ()
    """Channels of desk.yaml that are told when half, 80 % and all of it is used."""


class TenantRetention(Strict):
    """In place of the same keys of `retention`, for the collections of the tenant."""

    rollback_releases: int | None = Field(default=None, ge=1)
    candidate_days: float | None = Field(default=None, ge=0)
    span_days: float | None = Field(default=None, ge=0)
    request_days: float | None = Field(default=None, ge=0)

    @property
    def said(self) -> Mapping[str, float]:
        return {name: value for name, value in self if value is not None}


def _bucket(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.hostname:
        raise wrong("it is not the address of a bucket; write s3://bucket/prefix?endpoint_override=...&region=...")
    if parts.username or parts.password:
        raise wrong("it holds credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    return url


class TenantSettings(Strict):
    budget: TenantBudget | None = None
    """Needed: a tenant without one could spend what is meant for the others."""
    share: float = Field(default=1.0, gt=0, le=1000)
    """Its weight at every endpoint whose places several tenants want at once."""
    priority: Literal["normal", "batch"] = "normal"
    """Of its calls that have none of their own."""
    endpoints: tuple[str, ...] | None = None
    """The only endpoints of inference.yaml that it may ask; without it all."""
    keys: tuple[str, ...] = ()
    """Environment variables of keys that are its own: no other tenant asks with them, unless it names them too."""
    pool: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]{1,63}$")
    """The Dagster pool that the steps of its collections take a slot of."""
    retention: TenantRetention = TenantRetention()
    data: Annotated[str, AfterValidator(_bucket)] | None = None
    """The bucket of its own that holds datasets, indexes and snapshots of its collections, as `AI_ASSETS_DATA_URL`
    does those of the others."""


def _whole(declared: dict[str, TenantSettings]) -> dict[str, TenantSettings]:
    refuse(_problems(declared))
    return declared


def _problems(declared: Mapping[str, TenantSettings]) -> Iterator[PydanticCustomError]:
    for name, settings in declared.items():
        if settings.budget is None:
            yield wrong(f"tenant '{name}' has no budget; write budget: {{limit_usd: 500, per: month}}", name)
    placed = [(name, settings.data) for name, settings in declared.items() if settings.data is not None]
    for (first, there), (name, here) in itertools.combinations(placed, 2):
        if _overlap(there, here):
            yield wrong(
                f"lies in the data of tenant '{first}'; give '{name}' a bucket or prefix of its own", name, "data"
            )


def _overlap(one: str, other: str) -> bool:
    """Whether one is the other, or lies below it; a bucket of the same name at another address counts as the same."""
    first, second = (f"{parts.hostname}/{unquote(parts.path).strip('/')}".rstrip("/") + "/" for parts in
                     (urlsplit(one), urlsplit(other)))  # fmt: skip
    return first.startswith(second) or second.startswith(first)


DeclaredTenants = Annotated[dict[TenantName, TenantSettings], AfterValidator(_whole)]


class _NamespacesOfFile(SomeKeys):
    tenants: dict[str, Any] = Field(default={})


class _TenantsOfFile(SomeKeys):
    """With the names that `cluster.tenants` gives a namespace; what else it says of them, the cluster reads."""

    tenants: DeclaredTenants = Field(default={})
    cluster: _NamespacesOfFile = _NamespacesOfFile()

    @model_validator(mode="after")
    def _alike(self) -> "_TenantsOfFile":
        refuse_unlike(self.tenants, self.cluster.tenants)
        return self


def refuse_unlike(declared: Collection[str], with_namespace: Collection[str]) -> None:
    """Where tenants are declared and some have namespaces, both name the same; `default` may be in that of the
    deployment."""
    if declared and with_namespace:
        refuse(_unlike(declared, with_namespace))


def _unlike(declared: Collection[str], with_namespace: Collection[str]) -> Iterator[PydanticCustomError]:
    for name in sorted(set(with_namespace) - set(declared)):
        hint = nearest(name, list(declared)).rstrip("?")
        yield wrong(f"cluster.tenants names '{name}', and `{KEY}` declares no such tenant{hint}", "cluster", KEY, name)
    for name in sorted(set(declared) - set(with_namespace) - {DEFAULT}):
        said = (
            f"tenant '{name}' has no namespace under cluster.tenants, so its pods would share quota and secrets of the "
            f"deployment; write cluster: {{tenants: {{{name}: {{namespace: ai-assets-{name.lower()}}}}}}}"
        )
        yield wrong(said, KEY, name)


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """All that are declared; false where none is."""

    declared: Mapping[str, TenantSettings] = field(default_factory=dict)
    path: Path = Path("operations.yaml")

    def __bool__(self) -> bool:
        return bool(self.declared)

    def require(self, tenant: str, what: str) -> None:
        """Raises `TenantUndeclared` where tenants are declared and this one is not. `what` is of that tenant."""
        if self.declared and tenant not in self.declared:
            raise TenantUndeclared(what, tenant, list(self.declared), self.path)

    def require_place(self, place: str) -> None:
        """Raises where `place` is `tenant:NAME` of none that is declared."""
        if (name := place.removeprefix(PLACE)) not in self.declared:
            raise TenantUnknown(name, list(self.declared), self.path)

    def knows(self, tenant: str) -> bool:
        return not self.declared or tenant in self.declared

    def settings_of(self, tenant: str) -> TenantSettings:
        """Of one that is not declared, what counts where nothing is said."""
        return self.declared.get(tenant, TenantSettings())

    def why_not(self, tenant: str, endpoint: str, key: str | None) -> str | None:
        """Why calls of a tenant may not go to an endpoint, which takes its key from that variable."""
        own = self.settings_of(tenant)
        if own.endpoints is not None and endpoint not in own.endpoints:
            return f"tenant '{tenant}' may ask {', '.join(own.endpoints) or 'none'}"
        holders = [name for name, settings in self.declared.items() if key is not None and key in settings.keys]
        if holders and tenant not in holders:
            return f"its key {key} is {ANOTHER}'s"
        return None


NO_TENANTS = Tenants()


def load_tenants(operations: Path) -> Tenants:
    """As the file declares them; a file or key that does not exist declares none."""
    found = read_operations(operations, _TenantsOfFile)
    return Tenants(declared=found.tenants, path=operations) if found.tenants else NO_TENANTS


def data_places(home: Home) -> Mapping[str, str]:
    """By tenant, the buckets of those that have one of their own. Raises where the home's own is none beside them."""
    tenants = load_tenants(home.operations)
    places = {name: settings.data for name, settings in tenants.declared.items() if settings.data is not None}
    for name, url in places.items():
        if home.data_url is None:
            raise TenantDataMisplaced(name, tenants.path, f"{DATA_URL_VARIABLE} is not set")
        if _overlap(url, home.data_url):
            raise TenantDataMisplaced(
                name, tenants.path, f"{DATA_URL_VARIABLE} is that one, or one of them is within the other"
            )
    return places


def is_served(tenant: str, home: Home) -> bool:
    """Whether this process is of all tenants, or of that one. Raises where it is to be of one that is not declared."""
    served = _served()
    if not served:
        return True
    tenants = load_tenants(home.operations)
    for name in served:
        if not tenants.knows(name):
            raise ServedTenantUnknown(name, f"{home.operations.name} declares", tenants.declared)
    return tenant in served


def refuse_serving_none(of_collections: Collection[str], home: Home) -> None:
    """Where no tenants are declared, those are known that a collection has."""
    if not of_collections or load_tenants(home.operations):
        return
    for name in _served():
        if name not in of_collections:
            raise ServedTenantUnknown(name, "the collections here have", set(of_collections))


def _served() -> Collection[str]:
    return [name.strip() for name in (variable(TENANT_VARIABLE) or "").split(",") if name.strip()]
