"""Tenants: departments that share an installation. The key `tenants` of `operations.yaml`, which all layers read.

Where none is declared, `tenant:` of a collection is a name for money alone, and nothing here has an effect.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.errors import UserError
from ai_assets.base.yaml_settings import Strict, located, nearest, read_yaml, refuse, wrong

KEY = "tenants"
PLACE = "tenant:"
"""Before the name of a tenant where roles name places: `tenant:legal` is all of its collections."""
ANOTHER = "another tenant"
"""What one tenant is told of the others."""
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


def _whole(declared: dict[str, TenantSettings]) -> dict[str, TenantSettings]:
    refuse(_problems(declared))
    return declared


def _problems(declared: Mapping[str, TenantSettings]) -> Iterator[PydanticCustomError]:
    for name, settings in declared.items():
        if settings.budget is None:
            yield wrong(f"tenant '{name}' has no budget; write budget: {{limit_usd: 500, per: month}}", name)


DeclaredTenants = Annotated[dict[TenantName, TenantSettings], AfterValidator(_whole)]


class _TenantsOfFile(BaseModel):
    """The one key; `load_operations` checks the others."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tenants: DeclaredTenants = {}


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
    if not operations.exists() and not operations.is_symlink():
        return NO_TENANTS
    node, data = read_yaml(operations, OperationsInvalid)
    if not isinstance(data, dict) or KEY not in data:
        return NO_TENANTS
    try:
        found = _TenantsOfFile.model_validate({KEY: data[KEY]})
    except ValidationError as error:
        raise located(operations, node, error, OperationsInvalid) from error
    return Tenants(declared=found.tenants, path=operations)
