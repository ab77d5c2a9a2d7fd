"""What may be written in `desk.yaml`: how people sign in, and where messages and checkpoints go. See `load_desk`."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.home import DESK_URL_VARIABLE, variable
from ai_assets.base.yaml_settings import Strict, located, read_yaml, refuse, wrong
from ai_assets.signoff.witness_settings import CheckpointSettings

_TOKEN_NAME = r"^[A-Za-z_][A-Za-z0-9_]*TOKEN$"
"""Ends so that its value is masked in whatever is logged."""


class DeskInvalid(DeclarationInvalid):
    """`desk.yaml` is wrong."""


class ProxySettings(Strict):
    """A reverse proxy in front that has signed people in already."""

    header: str = "X-Forwarded-User"
    """Holds the person's name. Believed only from `addresses`; from anywhere else it is an error, not a name."""
    groups_header: str | None = None
    """Holds group names, divided by commas."""
    addresses: tuple[str, ...] = Field(min_length=1)
    """Addresses or networks of the proxy, such as 10.0.0.0/8."""

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                raise ValueError(f"'{address}' is no address or network: {error}") from error
        return addresses


class OidcSettings(Strict):
    """An OpenID Connect provider (authorization code flow with PKCE)."""

    name: str = "single sign-on"
    """What the button says."""
    issuer: str
    """Its address; `/.well-known/openid-configuration` below it is read."""
    client_id: str
    client_secret_env: str | None = None
    """The environment variable that holds the client secret; without it the client is public."""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    name_claim: str = "email"
    email_verified: Literal["required", "ignore"] = "required"
    """Whether an e-mail address names a person only where the provider says `email_verified: true`. `ignore` is for
    providers that never say it (Microsoft Entra ID), where only administrators choose addresses."""
    groups_claim: str | None = None

    @field_validator("issuer")
    @classmethod
    def _safe(cls, issuer: str) -> str:
        local = issuer.startswith(("http://127.0.0.1", "http://localhost"))
        if not issuer.startswith("https://") and not local:
            raise ValueError(f"'{issuer}' is not https")
        return issuer.rstrip("/")


class SignInSettings(Strict):
    local: bool = True
    """Accounts with passwords, made with `ai-assets reviewers add`."""
    proxy: ProxySettings | None = None
    oidc: OidcSettings | None = None

    @model_validator(mode="after")
    def _some_way_in(self) -> Self:
        if not (self.local or self.proxy or self.oidc):
            raise wrong("is off, and neither 'proxy' nor 'oidc' is declared: nobody could sign in", "local")
        return self


class SessionSettings(Strict):
    idle_minutes: float = Field(default=60, gt=0)
    """A session that is not used for so long ends."""
    longest_hours: float = Field(default=12, gt=0)
    """It ends after so long in any case."""


class ChannelSettings(Strict):
    """Where messages go: an Apprise URL, which holds a secret and so is in the environment."""

    url_env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")


class MetricsSettings(Strict):
    """Who may read `/metrics`: programs that send one of these tokens (docs/observability.md)."""

    token_env: str = Field(default="AI_ASSETS_METRICS_TOKEN", pattern=_TOKEN_NAME)
    """The environment variable with the token of a scraper that sees all."""
    tenants: dict[str, Annotated[str, Field(pattern=_TOKEN_NAME)]] = Field(default={})
    """By tenant, the variable with the token of a scraper that sees the series of that tenant alone."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = [self.token_env, *self.tenants.values()]
        refuse(wrong(f"names {name}, which is that of another scraper, too", "tenants", tenant)
               for tenant, name in self.tenants.items() if names.count(name) > 1)  # fmt: skip
        return self


class DeskSettings(Strict):
    url: str | None = None
    """Its address as people reach it, for links; by default where it listens."""
    dagster_url: str | None = None
    """Address of Dagster's pages, for links; by default those of the same `ai-assets up`."""
    sign_in: SignInSettings = SignInSettings()
    sessions: SessionSettings = SessionSettings()
    channels: dict[str, ChannelSettings] = Field(default={})
    checkpoints: CheckpointSettings = CheckpointSettings()
    metrics: MetricsSettings = MetricsSettings()

    @field_validator("url", "dagster_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError(f"'{url}' is no web address")
        return url.rstrip("/") if url else url

    @model_validator(mode="after")
    def _channels_of_witnesses(self) -> Self:
        known = ", ".join(sorted(self.channels)) or "none"
        refuse(
            wrong(f"names the channel '{witness.channel}', which is not declared (declared: {known})",
                  "checkpoints", "witnesses")
            for witness in self.checkpoints.witnesses
            if witness.channel is not None and witness.channel not in self.channels
        )  # fmt: skip
        return self


def load_desk(path: Path) -> DeskSettings:
    """The file as a whole, checked; one that does not exist declares nothing."""
    if not path.exists() and not path.is_symlink():
        return DeskSettings()
    node, data = read_yaml(path, DeskInvalid)
    try:
        return DeskSettings.model_validate({} if data is None else data)
    except ValidationError as error:
        raise located(path, node, error, DeskInvalid) from error


def desk_address(settings: DeskSettings) -> str | None:
    """Where people reach the desk, for links to it; None where nobody has said."""
    return settings.url or variable(DESK_URL_VARIABLE)
