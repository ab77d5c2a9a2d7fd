"""Passwords, and the one door through which a name and a password become a person: for the desk and the command line.

Whoever knocks learns only that it did not open: an unknown name, a wrong password, a disabled person and one without a
password look the same and take the same time.
"""

import secrets
import threading
import time
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.signoff import authority, people, throttle
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import PasswordUnsuitable, SignInRefused, SignInThrottled
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore, storable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 10, 1000
READABLE = "abcdefghjkmnpqrstuvwxyz23456789"
"""No i, l, o, 0 or 1: 31 signs, so 20 of them are 99 bits."""
_AT_ONCE = threading.BoundedSemaphore(4)
"""Each hash takes 64 MiB of memory, and anybody may ask for one."""


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobodys() -> str:
    """What is compared for whom no hash is kept, so that it takes as long."""
    return hashed(random_password())


def _bytes(password: str) -> bytes:
    """The same for the same signs, however a keyboard composes them."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def hashed(password: str) -> str:
    """Argon2id, with the library's present parameters."""
    with _AT_ONCE:
        return _hasher().hash(_bytes(password))


def matches(stored: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        with _AT_ONCE:
            return _hasher().verify(stored, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def random_password() -> str:
    """To be read out and typed: four groups of five."""
    return "-".join("".join(secrets.choice(READABLE) for _ in range(5)) for _ in range(4))


def chosen(password: str) -> str:
    """The password, if it may be one."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordUnsuitable(len(password), SHORTEST, LONGEST)
    return password


def change(connection: sa.Connection, name: str, password_hash: str, *, by: str) -> None:
    """Another password for somebody who is known and not disabled; their sessions end."""
    people.set_password_hash(connection, name, password_hash, by=by)


def authenticate(state: StateStore, name: str, password: str, address: str) -> Person:
    """Who this is, or a refusal. `address` is where the try comes from."""
    nobodys, at = _nobodys(), time.time()
    counted = throttle.counted_for(name, address)
    known = name.strip().casefold()
    with state.write() as connection:
        wait = throttle.count(connection, counted, at)
        stored = _hash_of(connection, known)
    if wait > 0:
        raise SignInThrottled(wait)
    right = matches(stored or nobodys, password[:LONGEST])
    if not (right and stored and len(password) <= LONGEST):
        raise SignInRefused
    newer = hashed(password) if _hasher().check_needs_rehash(stored) else stored
    with state.write() as connection:
        person = people.find(connection, known)
        if person is None or _hash_of(connection, known) != stored:
            raise SignInRefused
        throttle.succeeded(connection, counted, at)
        if authority.of(connection).people[known].password != authority.password_digest(stored):
            raise AuditBroken(f"password of {known}", "the table holds another one than was recorded")
        if newer != stored:
            people.keep_hash(connection, known, newer, by=known)
    return person


def _hash_of(connection: sa.Connection, name: str) -> str | None:
    """None for whom nobody knows, who is disabled, or who has no password."""
    query = sa.text("SELECT password_hash FROM people WHERE name = :name AND disabled_at IS NULL")
    found: str | None = connection.execute(query, {"name": storable(name)}).scalar_one_or_none()
    return found
