"""Who is signed in: opaque tokens, of which the store keeps only the digest; they end by time, by hand, or with rights.

A session says who somebody is, never what they may: that is read anew at every request.
"""

import datetime
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.desk.settings import SessionSettings, SignInSettings
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import audit, people
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore, now, storable

Via = Literal["password", "oidc"]
CLOCK_MAY_STEP = datetime.timedelta(minutes=5)
"""Further in the future a session cannot have been made: the clock was moved back, and how old it is nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Session:
    token_digest: str
    person: str
    via: Via
    groups: frozenset[str]
    """Those that a provider told of when they signed in."""
    created_at: str
    seen_at: str
    expires_at: str
    address: str
    agent: str


def open_session(
    connection: sa.Connection,
    person: str,
    *,
    via: Via,
    groups: Iterable[str] = (),
    seal: Seal,
    rules: SessionSettings,
    address: str,
    agent: str,
    replaces: Session | None = None,
) -> tuple[str, Session]:
    """A new token, which only the browser will know, and its session; one that the browser had before ends."""
    query = sa.text("DELETE FROM sessions WHERE expires_at < :now OR token_digest = :replaced")
    connection.execute(query, {"now": now(), "replaced": replaces.token_digest if replaces else ""})
    token = secrets.token_urlsafe(32)
    session = Session(
        token_digest=_digest(token),
        person=person,
        via=via,
        groups=frozenset(groups),
        created_at=now(),
        seen_at=now(),
        expires_at=_text(_moment(now()) + datetime.timedelta(hours=rules.longest_hours)),
        address=address[:100],
        agent=storable(agent[:200]) or "",
    )
    connection.execute(
        sa.text(
            "INSERT INTO sessions "
            "(token_digest, person, via, groups, created_at, seen_at, expires_at, address, agent, seal) VALUES "
            "(:token_digest, :person, :via, :groups, :created_at, :seen_at, :expires_at, :address, :agent, :seal)"
        ),
        {**vars(session), "groups": json.dumps(sorted(session.groups)), "seal": _sealed(session, seal)},
    )
    return token, session


def find(connection: sa.Connection, token: str, rules: SessionSettings, seal: Seal) -> Session | None:
    """The session of a token, while it lasts. A row that the desk did not make is none, whoever wrote it."""
    row = connection.execute(
        sa.text("SELECT * FROM sessions WHERE token_digest = :digest"), {"digest": _digest(token)}
    ).one_or_none()
    session = _session(row) if row else None
    if row is None or session is None or not hmac.compare_digest(row.seal, _sealed(session, seal)):
        return None
    return session if lasts(session, rules) else None


def csrf(token: str) -> str:
    """What a form of this session carries to prove that one of our pages made it."""
    return hmac.new(token.encode("utf-8", "surrogatepass"), b"csrf", sha256).hexdigest()


def lasts(session: Session, rules: SessionSettings) -> bool:
    """By the present rules: shorter ones hold for sessions that were opened before."""
    moment = _moment(now())
    created, seen = _moment(session.created_at), _moment(session.seen_at)
    if max(created, seen) > moment + CLOCK_MAY_STEP:
        return False
    ends = (
        _moment(session.expires_at),
        created + datetime.timedelta(hours=rules.longest_hours),
        seen + datetime.timedelta(minutes=rules.idle_minutes),
    )
    return moment < min(ends)


def admits(session: Session, ways: SignInSettings) -> bool:
    """Whether the way they came in is still open."""
    return ways.local if session.via == "password" else ways.oidc is not None


def to_be_noted(session: Session, rules: SessionSettings) -> bool:
    """Whether that it was used is worth a write: once a minute is enough, unless it would be idle by then."""
    step = min(60.0, rules.idle_minutes * 60 / 4)
    return (_moment(now()) - _moment(session.seen_at)).total_seconds() >= step


def note(state: StateStore, session: Session) -> None:
    """That it was used now."""
    with state.write() as connection:
        connection.execute(
            sa.text("UPDATE sessions SET seen_at = :now WHERE token_digest = :digest"),
            {"now": now(), "digest": session.token_digest},
        )


def of(connection: sa.Connection, person: str | None = None) -> list[Session]:
    """Of one person or of all; those that ran out among them."""
    query = "SELECT * FROM sessions WHERE person = :person" if person else "SELECT * FROM sessions"
    rows = connection.execute(sa.text(f"{query} ORDER BY person, created_at"), {"person": person} if person else {})
    return [_session(row) for row in rows]


def end(state: StateStore, token_digest: str, person: Person, *, by: str) -> bool:
    """One session of that person; False where it is none of theirs. Whoever ends another's session is recorded."""
    with state.write() as connection:
        query = sa.text("DELETE FROM sessions WHERE token_digest = :digest AND person = :person")
        ended = connection.execute(query, {"digest": token_digest, "person": person.name}).rowcount > 0
        if ended and by != person.name:
            audit.append(connection, by, "session ended", {"person": person.name, "sessions": 1})
    return ended


def end_all(connection: sa.Connection, person: str, *, by: str) -> int:
    """All of a person; how many there were."""
    ended = connection.execute(sa.text("DELETE FROM sessions WHERE person = :person"), {"person": person}).rowcount
    if ended and by != person:
        audit.append(connection, by, "session ended", {"person": person, "sessions": ended})
    return ended


def vouched(
    state: StateStore, name: str, *, email: str | None, groups: Iterable[str], by: Literal["proxy", "oidc"]
) -> Person | None:
    """Somebody whom a proxy or a provider knows. New ones are added without a role; None for whom is disabled here."""
    name, told = people.known_as(name), frozenset(groups)
    with state.read() as connection:
        if people.standing(connection, name) != "unknown":
            return people.find(connection, name, told)
    with state.write() as connection:
        if people.standing(connection, name) == "unknown":
            people.add(connection, name, email=email, password_hash=None, by=by)
        return people.find(connection, name, told)


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _session(row: Any) -> Session:
    columns = {field.name: row._mapping[field.name] for field in fields(Session)}
    return Session(**{**columns, "groups": frozenset(json.loads(row.groups))})


def _sealed(session: Session, seal: Seal) -> str:
    """What only the desk can say of a token: whose it is, and how they came in."""
    return seal.token("session", session.token_digest, session.person, session.via, *sorted(session.groups))


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
