"""Who decides on the command line: a name is only a claim until its password is given."""

import getpass
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.home import PASSWORD_VARIABLE, variable
from ai_assets.cli.errors import NoReviewers, PasswordMissing
from ai_assets.cli.output import home, signed_assets, stores
from ai_assets.collection.catalog import Catalog
from ai_assets.signoff import people, personal_keys, statements
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.signoff.passwords import authenticate
from ai_assets.signoff.people import Person
from ai_assets.signoff.statements import SignedDecision
from ai_assets.storage.digest import Json

ADDRESS = "command line"


def actor() -> str:
    """What the audit chain says of whoever manages people here: not a name that somebody could sign in with."""
    return f"cli:{getpass.getuser()}"


def signer(by: str | None) -> Person:
    """The person, proved by the password in AI_ASSETS_PASSWORD or one that is asked for."""
    name = people.known_as(by or getpass.getuser())
    state = stores().state
    with state.read() as connection:
        if not people.anybody(connection):
            raise NoReviewers(name)
    password = variable(PASSWORD_VARIABLE)
    if password is None:
        if not sys.stdin.isatty():
            raise PasswordMissing(name, PASSWORD_VARIABLE)
        password = getpass.getpass(f"Password of {name}: ")
    return with_tenants(authenticate(state, name, password, ADDRESS))


def administrator(by: str | None) -> Person | None:
    """The same; None in an installation where nobody is known, whose names are only noted."""
    with stores().state.read() as connection:
        is_known = people.anybody(connection)
    return signer(by) if is_known else None


def require_admin(person: Person | None, collection: str, what: str) -> None:
    """Of that collection, or of all for what belongs to none."""
    where = collection or people.EVERYWHERE
    if person is not None and not person.may("admin", where):
        raise DecisionRefused(person.name, f"{what} takes the role admin in {collection or 'all collections'}")


def signer_with(
    by: str | None, key: Path, values: Callable[[sa.Connection, str], Mapping[str, Json]]
) -> tuple[Person, SignedDecision]:
    """The person, proved by a signature with a key of their own of what `values` says."""
    name, state = people.known_as(by or getpass.getuser()), stores().state
    with state.read() as connection:
        said = dict(values(connection, name))
    signature = personal_keys.sign_with(key, personal_keys.statement(said))  # may wait for a passphrase or a touch
    with state.read() as connection:
        signed = statements.signed_by(connection, name, said, signature)
        person = people.find(connection, name)
    if person is None:
        raise DecisionRefused(name, "they are not known, or disabled")
    return with_tenants(person), signed


def with_tenants(person: Person) -> Person:
    """With what their roles in whole tenants reach."""
    tenant_of = dict(Catalog(home()).tenant_of())
    if tenant_of:
        tenant_of = {name: found.settings.tenant for name, found in signed_assets().items()} | tenant_of
    return replace(person, tenant_of=tenant_of)
