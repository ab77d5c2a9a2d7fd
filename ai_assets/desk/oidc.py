"""Signing in with an OpenID Connect provider: authorization code flow with PKCE, state and nonce.

All that the provider says is checked here; whatever it says wrongly, or does not say, is one `ProviderRefused`.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import requests
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ai_assets.base.home import variable
from ai_assets.desk.errors import ProviderRefused
from ai_assets.desk.settings import OidcSettings

TIMEOUT_S = 10.0
KEPT_S = 3600.0
"""How long the provider's description and keys are used before they are read again."""
LEEWAY_S = 60
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Signatures that only the provider can make: none with a shared secret, and not `none`."""
UNVERIFIED = "the provider says that it has not verified the e-mail address (the claim 'email_verified')"
UNSAID = (
    "the provider does not say whether the e-mail address is verified: the claim 'email_verified' is missing. An "
    "administrator can have the provider send it, name people by another claim (sign_in.oidc.name_claim in desk.yaml) "
    "or, where nobody chooses their own address there, set sign_in.oidc.email_verified: ignore"
)


class Description(BaseModel):
    """The part of `.well-known/openid-configuration` that is used."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)

    @field_validator("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
    @classmethod
    def _safe(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError("is not https")
        return url


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What has to be remembered between leaving for the provider and coming back."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def begin(cls, next_path: str) -> Self:
        return cls(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(64),
            next=next_path,
        )


@dataclass(frozen=True, kw_only=True)
class Identity:
    name: str
    email: str | None
    groups: frozenset[str]


@dataclass
class OidcProvider:
    settings: OidcSettings
    _description: Description | None = None
    _keys: Any = None
    _read_at: float = 0.0

    def address(self, flow: Flow, redirect_uri: str) -> str:
        """Where to send the browser."""
        with self._speaking():
            description = self._described()
            with self._client(description, redirect_uri) as client:
                url, _ = client.create_authorization_url(
                    description.authorization_endpoint,
                    state=flow.state,
                    code_verifier=flow.verifier,
                    nonce=flow.nonce,
                )
        return str(url)

    def identity(self, flow: Flow, code: str, redirect_uri: str) -> Identity:
        """Who came back with this code."""
        with self._speaking():
            description = self._described()
            with self._client(description, redirect_uri) as client:
                token = client.fetch_token(
                    description.token_endpoint,
                    code=code,
                    code_verifier=flow.verifier,
                    grant_type="authorization_code",
                    timeout=TIMEOUT_S,
                )
            claims = self._claims(description, token.get("id_token"), flow.nonce)
            if self._lacks(claims) and description.userinfo_endpoint:
                claims = self._more(description.userinfo_endpoint, token, claims)
        return self._person(claims)

    def _person(self, claims: Mapping[str, Any]) -> Identity:
        name, groups = claims.get(self.settings.name_claim), claims.get(self.settings.groups_claim or "") or ()
        if not isinstance(name, str) or not name:
            raise self._refused(f"it does not say '{self.settings.name_claim}'")
        email, verified = claims.get("email"), self._verified(claims)
        if self.settings.name_claim == "email" and not verified:
            raise self._refused(UNSAID if claims.get("email_verified") is None else UNVERIFIED)
        return Identity(
            name=name,
            email=email if isinstance(email, str) and verified else None,
            groups=frozenset(map(str, groups)) if isinstance(groups, list) else frozenset(),
        )

    def _verified(self, claims: Mapping[str, Any]) -> bool:
        """Whether the e-mail address may name a person. A provider that says nothing of it has not verified it."""
        said = claims.get("email_verified")
        return said in (True, "true") or (said is None and self.settings.email_verified == "ignore")

    def _lacks(self, claims: Mapping[str, Any]) -> bool:
        """Whether the ID token leaves out what the userinfo of some providers has."""
        name = self.settings.name_claim
        return name not in claims or (name == "email" and claims.get("email_verified") is None)

    def _claims(self, description: Description, id_token: Any, nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        if not isinstance(id_token, str):
            raise self._refused("it gave no ID token")
        algorithms = [name for name in description.id_token_signing_alg_values_supported if name in ALGORITHMS]
        try:
            found = jwt.decode(id_token, self._key_set(), algorithms=algorithms)
        except JoseError:  # perhaps by a key that is newer than those we have
            self._keys = self._json(description.jwks_uri)
            found = jwt.decode(id_token, self._key_set(), algorithms=algorithms)
        expected = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": description.issuer},
            aud={"essential": True, "value": self.settings.client_id},
            exp={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        expected.validate(found.claims)
        party = found.claims.get("azp")
        several = isinstance(found.claims["aud"], list) and len(found.claims["aud"]) > 1
        if (party is not None or several) and party != self.settings.client_id:
            raise self._refused("its ID token was made for another client")
        return found.claims

    def _key_set(self) -> Any:
        from joserfc.jwk import KeySet

        return KeySet.import_key_set(self._keys)

    def _more(self, endpoint: str, token: Mapping[str, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
        """Some providers keep names out of the ID token."""
        more = self._json(endpoint, {"Authorization": f"Bearer {token.get('access_token')}"})
        if more.get("sub") != claims["sub"]:
            raise self._refused("it told of somebody else than who signed in")
        if claims.get("email") not in (None, more.get("email")):
            more.pop("email_verified", None)  # it is of another address than the one in the ID token
        return {**more, **claims}

    def _described(self) -> Description:
        if self._description is None or not 0 <= time.monotonic() - self._read_at < KEPT_S:
            description = Description.model_validate(
                self._json(f"{self.settings.issuer}/.well-known/openid-configuration")
            )
            if description.issuer.rstrip("/") != self.settings.issuer:
                raise self._refused(f"it calls itself {description.issuer[:200]}")
            self._keys = self._json(description.jwks_uri)
            self._description, self._read_at = description, time.monotonic()
        return self._description

    def _client(self, description: Description, redirect_uri: str) -> Any:
        from authlib.integrations.requests_client import OAuth2Session

        variable_name = self.settings.client_secret_env
        secret = variable(variable_name) if variable_name else None
        if variable_name and secret is None:
            raise self._refused(f"the environment variable {variable_name} of the desk is not set")
        offered = description.token_endpoint_auth_methods_supported
        method = "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"
        return OAuth2Session(
            self.settings.client_id,
            secret,
            token_endpoint_auth_method=method if secret else "none",
            scope=" ".join(self.settings.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
        )

    def _json(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        answer = requests.get(url, headers=headers, timeout=TIMEOUT_S, allow_redirects=False)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """The boundary to the provider and to the libraries that read what it says."""
        from authlib.common.errors import AuthlibBaseError
        from joserfc.errors import JoseError

        try:
            yield
        except requests.ConnectionError as error:
            raise self._refused("the provider does not answer") from error
        except requests.RequestException as error:
            raise self._refused("the provider answered with an error") from error
        except AuthlibBaseError as error:
            raise self._refused("the provider did not accept the sign-in") from error
        except JoseError as error:
            raise self._refused(f"its ID token does not hold ({error.error})") from error
        except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._refused("what the provider said could not be read") from error

    def _refused(self, found: str) -> ProviderRefused:
        return ProviderRefused(self.settings.name, found)
