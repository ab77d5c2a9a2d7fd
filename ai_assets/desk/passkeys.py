"""Passkeys (WebAuthn): how a person adds one at the desk, and signs a decision with it.

A browser knows passkeys of a name, never of an IP address. So `ai-assets up` announces `localhost`, and a desk that is
reached by an address says where to open it instead.
"""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ai_assets.desk.context import Desk
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import authority, key_changes, personal_keys, statements
from ai_assets.signoff.authority import EnrolledKey
from ai_assets.signoff.decisions import Choice
from ai_assets.signoff.errors import DecisionRefused, OwnKeyRefused
from ai_assets.signoff.people import Person
from ai_assets.signoff.personal_keys import PersonalKey, from_base64url, to_base64url
from ai_assets.signoff.statements import SignedDecision
from ai_assets.storage.digest import Json, canonical_json, sha256_hex

if TYPE_CHECKING:
    from fido2.server import Fido2Server

LONGEST_S = 600.0
"""From the begin of a ceremony to its end."""
ADDING, VOUCHING = "passkey to be added", "passkey to be vouched for"


def site_of(desk: Desk) -> str | None:
    """The name that passkeys of this desk are for; None where it is reached by an address."""
    name = urlsplit(desk.url).hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name or None
    return None


def of(desk: Desk, name: str) -> dict[str, EnrolledKey]:
    """The passkeys of a person that this desk can ask for."""
    with desk.stores.state.read() as connection:
        mine = authority.of(connection).own_keys(name)
    site = site_of(desk)
    return {
        key_id: own
        for key_id, own in mine.items()
        if own.key.type == "webauthn" and json.loads(own.key.public)["site"] == site
    }


@dataclass(frozen=True, kw_only=True)
class SigningRequest:
    """What a browser is asked to have signed, as its JSON."""

    said: str
    """The statement."""
    options: Mapping[str, Any]

    @classmethod
    def of(cls, said: Mapping[str, Json], mine: Mapping[str, EnrolledKey]) -> "SigningRequest":
        credentials = [json.loads(own.key.public)["credential"] for own in mine.values()]
        site = json.loads(next(iter(mine.values())).key.public)["site"]
        challenge = personal_keys.challenge(personal_keys.statement(said))
        return cls(
            said=canonical_json(said),
            options={
                "challenge": to_base64url(challenge),
                "rpId": site,
                "allowCredentials": [{"type": "public-key", "id": credential} for credential in credentials],
                "userVerification": "preferred",
            },
        )


def decision_to_sign(
    desk: Desk,
    person: Person,
    collections: Sequence[str],
    choices: Sequence[Choice],
    verdict: str,
    reason: str,
    waivers: Mapping[str, str],
) -> SigningRequest:
    mine = of(desk, person.name)
    if not mine:
        raise DecisionRefused(
            person.name, "they have no passkey at this desk; one is added on the page of their account"
        )
    with desk.stores.state.read() as connection:
        said = statements.values(connection, "", choices, verdict, by=person.name, reason=reason, waivers=waivers)
    return SigningRequest.of({**said, "collections": sorted(set(collections))}, mine)


def signed_decision(desk: Desk, person: Person, said: str, assertion: str) -> SignedDecision | None:
    """What the browser had signed; None where it sent nothing of the kind."""
    if not said:
        return None
    with desk.stores.state.read() as connection:
        return statements.signed_by(connection, person.name, _object(person, said), _signature(person, assertion))


def begin_adding(desk: Desk, person: Person) -> dict[str, Any]:
    """Options for the browser, and what it brings back with its answer."""
    from fido2.webauthn import PublicKeyCredentialDescriptor, PublicKeyCredentialType, PublicKeyCredentialUserEntity

    there = [
        PublicKeyCredentialDescriptor(
            type=PublicKeyCredentialType.PUBLIC_KEY, id=from_base64url(json.loads(own.key.public)["credential"])
        )
        for own in of(desk, person.name).values()
    ]
    user = PublicKeyCredentialUserEntity(
        name=person.name, id=bytes.fromhex(sha256_hex(person.name.encode())), display_name=person.name
    )
    options, state = _server(desk, person).register_begin(user, there, user_verification=_preferred())
    kept = {"person": person.name, "state": json.dumps(state)}
    return {"options": dict(options)["publicKey"], "kept": Seal.of(desk.stores.home).sealed(ADDING, kept)}


def add(desk: Desk, person: Person, kept: str, response: Mapping[str, Any]) -> dict[str, Any]:
    """The new passkey, if the browser made it; or what one that is there must sign about it first."""
    values = Seal.of(desk.stores.home).opened(ADDING, kept, LONGEST_S)
    if values is None or values["person"] != person.name:
        raise OwnKeyRefused(person.name, "this was begun too long ago, or by somebody else; begin again")
    try:
        made = _server(desk, person).register_complete(json.loads(values["state"]), response)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OwnKeyRefused(person.name, f"the browser's answer is no new passkey ({error})") from error
    credential = made.credential_data
    if credential is None:
        raise OwnKeyRefused(person.name, "the browser's answer holds no passkey")
    from fido2 import cbor

    key = personal_keys.passkey(_site(desk, person), credential.credential_id, cbor.encode(credential.public_key))
    with desk.stores.state.write() as connection:
        said = key_changes.enrolment(connection, person.name, key)
        has_keys = bool(authority.of(connection).own_keys(person.name))
    if not has_keys:
        key_changes.add_own(desk.stores.state, person, key, said, proof=None, vouched=None)
        return {"added": key.key_id}
    mine = of(desk, person.name)
    if not mine:
        raise OwnKeyRefused(
            person.name,
            "a key they have must vouch for a passkey, and theirs are on the command line only",
        )
    sign = SigningRequest.of(said, mine)
    sealed = Seal.of(desk.stores.home).sealed(VOUCHING, {"public": key.public, "said": sign.said})
    return {"sign": sign.options, "kept": sealed}


def vouch(desk: Desk, person: Person, kept: str, assertion: str) -> dict[str, Any]:
    """The new passkey, after one that was there has signed it."""
    values = Seal.of(desk.stores.home).opened(VOUCHING, kept, LONGEST_S)
    if values is None:
        raise OwnKeyRefused(person.name, "this was begun too long ago; begin again")
    key = PersonalKey(type="webauthn", public=values["public"])
    said = _object(person, values["said"])
    vouched = _signature(person, assertion)
    key_changes.add_own(desk.stores.state, person, key, said, proof=None, vouched=vouched)
    return {"added": key.key_id}


def _server(desk: Desk, person: Person) -> "Fido2Server":
    from fido2.server import Fido2Server
    from fido2.webauthn import PublicKeyCredentialRpEntity

    return Fido2Server(PublicKeyCredentialRpEntity(name="Sign-off desk", id=_site(desk, person)))


def _site(desk: Desk, person: Person) -> str:
    site = site_of(desk)
    if site is None:
        raise OwnKeyRefused(person.name, f"the desk is at {desk.url}, and browsers know passkeys of a name only")
    return site


def _preferred() -> Any:
    from fido2.webauthn import UserVerificationRequirement

    return UserVerificationRequirement.PREFERRED


def _object(person: Person, text: str) -> dict[str, Json]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DecisionRefused(person.name, "what was signed cannot be read; sign it again")
    return found


def _signature(person: Person, assertion: str) -> str:
    """As the chain keeps it, of a browser's answer."""
    response = _object(person, assertion).get("response")
    try:
        parts = {
            "client_data": response["clientDataJSON"],  # type: ignore[index, call-overload]
            "authenticator_data": response["authenticatorData"],  # type: ignore[index, call-overload]
            "signature": response["signature"],  # type: ignore[index, call-overload]
        }
    except (KeyError, TypeError) as error:
        raise DecisionRefused(person.name, "the browser's answer is no signature; sign it again") from error
    return canonical_json(parts)
