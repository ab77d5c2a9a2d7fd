"""Tokens that start runs in a person's name, or read what is published in it, for programs. They decide nothing.

A token does one of the two, and its identity, which is signed, says which.

The store keeps a digest, signed with the decision key: a row that somebody writes there is no token. A revocation is a
record of the audit chain, so that clearing a column gives nothing back.
"""

import datetime
import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from ai_assets.signoff import audit, authority, keys, people
from ai_assets.signoff.audit_errors import SignatureInvalid
from ai_assets.signoff.errors import TokenRefused, TokenUnknown
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.state import now

LONGEST_DAYS = 366
_READS = "r"
_FORM = re.compile(r"aia-([r0-9a-f][0-9a-f]{11})-([\w-]{43})")
_PURPOSE = "ai-assets launch token"


@dataclass(frozen=True, kw_only=True)
class Token:
    """What is kept of one; its secret is not."""

    token_id: str
    person: str
    made_at: str
    made_by: str
    expires_at: str
    revoked_at: str | None

    @property
    def reads(self) -> bool:
        """Whether it is for the search server, and starts nothing."""
        return self.token_id.startswith(_READS)

    @property
    def does(self) -> str:
        return "reads" if self.reads else "starts runs"

    @property
    def state(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now() else "valid"


_COLUMNS = "token_id, person, made_at, made_by, expires_at, revoked_at"


def make(connection: sa.Connection, person: str, *, days: int, by: str, reads: bool = False) -> tuple[str, Token]:
    """The token itself, which is shown once, and what is kept of it."""
    people.require(connection, person)
    made_at = datetime.datetime.now(datetime.UTC)
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    if reads:
        token_id = f"{_READS}{token_id[1:]}"
    text = f"aia-{token_id}-{secret}"
    found = Token(
        token_id=token_id,
        person=person,
        made_at=made_at.isoformat(timespec="milliseconds"),
        made_by=by,
        expires_at=(made_at + datetime.timedelta(days=days)).isoformat(timespec="milliseconds"),
        revoked_at=None,
    )
    ring, token_digest = keys.of(connection), _digest(text)
    signed = ring.sign("decision", _signed_data(ring.trust.chain, found, token_digest))
    connection.execute(
        sa.text(
            f"INSERT INTO launch_tokens ({_COLUMNS}, token_digest, key_id, signature) VALUES "  # noqa: S608
            "(:token_id, :person, :made_at, :made_by, :expires_at, :revoked_at, :token_digest, :key_id, :signature)"
        ),
        {**vars(found), "token_digest": token_digest, **vars(signed)},
    )
    audit.append(connection, by, "token made", {"person": person, "token": token_id, "expires_at": found.expires_at})
    return text, found


def revoke(connection: sa.Connection, token_id: str, *, by: str) -> Token:
    found = next((token for token in listed(connection) if token.token_id == token_id), None)
    if found is None:
        raise TokenUnknown(token_id)
    if found.revoked_at is None:
        statement = sa.text("UPDATE launch_tokens SET revoked_at = :at WHERE token_id = :id")
        connection.execute(statement, {"at": now(), "id": token_id})
        audit.append(connection, by, "token revoked", {"person": found.person, "token": token_id})
    return found


def listed(connection: sa.Connection, person: str | None = None) -> list[Token]:
    """Those of one person, or all; the newest first."""
    rows = connection.execute(sa.text(f"SELECT {_COLUMNS} FROM launch_tokens ORDER BY made_at DESC"))  # noqa: S608
    found = [Token(**row._mapping) for row in rows]
    return [token for token in found if person is None or token.person == person]


def holder(connection: sa.Connection, text: str, *, reads: bool = False) -> str:
    """The person whose token this is. Raises where it does not count (any more), or is for the other purpose."""
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise TokenRefused("it has not the form of one (aia-...)")
    row = connection.execute(
        sa.text(f"SELECT {_COLUMNS}, token_digest, key_id, signature FROM launch_tokens WHERE token_id = :id"),  # noqa: S608
        {"id": form[1]},
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.token_digest, _digest(text.strip())):
        raise TokenRefused("it is none of this installation")
    found = Token(**{name: getattr(row, name) for name in Token.__dataclass_fields__})
    _require_signed(connection, found, row.token_digest, row.key_id, row.signature)
    if found.revoked_at is not None or _revoked(connection, found.token_id):
        raise TokenRefused(f"{found.token_id} of {found.person} was revoked")
    if found.expires_at <= now():
        raise TokenRefused(f"{found.token_id} of {found.person} ran out at {found.expires_at[:16]} (UTC)")
    if people.standing(connection, found.person) != "known":
        raise TokenRefused(f"{found.person} is disabled")
    if found.reads != reads:
        raise TokenRefused(
            f"{found.token_id} of {found.person} {'reads and starts nothing' if found.reads else 'starts runs'}"
        )
    return found.person


def _require_signed(connection: sa.Connection, found: Token, token_digest: str, key_id: str, signature: str) -> None:
    known = authority.of(connection)
    chain = known.trust.chain if known.trust else ""
    last: int = connection.execute(sa.text("SELECT COALESCE(MAX(seq), 0) FROM audit")).scalar_one()
    try:
        known.check(("decision",), key_id, last + 1, _signed_data(chain, found, token_digest), signature)
    except SignatureInvalid as error:
        raise TokenRefused(f"{found.token_id} is not signed by this installation") from error


def _revoked(connection: sa.Connection, token_id: str) -> bool:
    return any(
        record.subject.get("token") == token_id for record in audit.select(connection, actions=["token revoked"])
    )


def _signed_data(chain: str, token: Token, token_digest: str) -> bytes:
    said = {name: getattr(token, name) for name in ("token_id", "person", "made_at", "expires_at")}
    return f"{_PURPOSE}\n{chain}\n{canonical_json({**said, 'digest': token_digest})}".encode()


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
