"""Decisions that a person signs with a key of their own: what is signed, whose key it was, and whether it counts."""

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.collection.settings import SignoffSettings
from ai_assets.signoff import audit, authority, keys, personal_keys
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import AuditBroken, SignatureInvalid
from ai_assets.signoff.authority import Authority, require_stated
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now

if TYPE_CHECKING:
    from ai_assets.signoff.decisions import Choice

LONGEST = datetime.timedelta(minutes=15)
"""Between the writing of a statement and its record."""


@dataclass(frozen=True, kw_only=True)
class SignedDecision:
    """A decision as its person signed it."""

    values: Mapping[str, Json]
    key_id: str
    signature: str


def values(
    connection: sa.Connection,
    collection: str,
    choices: "Sequence[Choice]",
    verdict: str,
    *,
    by: str,
    reason: str | None,
    waivers: Mapping[str, str] | None = None,
) -> dict[str, Json]:
    """What a person signs, now."""
    return {
        "ai-assets": "decision",
        "chain": keys.of(connection).trust.chain,
        "person": by,
        "collections": [collection],
        "verdict": verdict,
        "requests": [[choice.request_id, choice.digest] for choice in choices],
        "reason": (reason or "").strip() or None,
        "waivers": dict(waivers or {}),
        "at": now(),
    }


def signed_by(connection: sa.Connection, name: str, said: Mapping[str, Json], signature: str) -> SignedDecision:
    """With whichever of the person's keys it was."""
    mine = authority.of(connection).own_keys(name)
    for key_id, own in mine.items():
        with contextlib.suppress(SignatureInvalid):
            personal_keys.verify(own.key, personal_keys.statement(said), signature)
            return SignedDecision(values=said, key_id=key_id, signature=signature)
    has = f"theirs are {', '.join(sorted(mine))}" if mine else "they have none"
    raise DecisionRefused(name, f"it is not signed with a key of theirs ({has}: ai-assets reviewers key list {name})")


def record(connection: sa.Connection, signed: SignedDecision, expected: Mapping[str, Json], name: str) -> int:
    """The statement in the chain; its number. It must say what is to be recorded, and have been made just now.

    It may be about further collections and requests, which are recorded one by one: it is in the chain once.
    """
    said, now_and_then = signed.values, {**signed.values, "at": expected["at"]}
    for part in ("collections", "requests"):
        listed, wanted = said.get(part), expected[part]
        if isinstance(listed, list) and isinstance(wanted, list) and all(item in listed for item in wanted):
            now_and_then[part] = wanted
    age = _moment(str(expected["at"])) - _moment(str(said.get("at")))
    if now_and_then != dict(expected) or not -LONGEST < age < LONGEST:
        raise DecisionRefused(name, "what was signed is not this decision, or was signed too long ago; sign it again")
    for earlier in audit.select(connection, actor=name, actions=["statement signed"], since=str(said["at"])):
        if earlier.subject["signature"] == signed.signature:
            return earlier.seq
    subject: dict[str, Json] = {"key_id": signed.key_id, "statement": dict(said), "signature": signed.signature}
    return audit.append(connection, name, "statement signed", subject).seq


def own_key(connection: sa.Connection, recorded: Authority, approval: Record) -> str | None:
    """The key of their own that somebody signed an approval with, if it was, and the key still counts."""
    number = approval.subject.get("statement")
    stated = audit.get(connection, number) if isinstance(number, int) else None
    if stated is None:
        return None
    try:
        recorded.require_signed(stated)
        recorded.require_statement(stated)
        require_stated(approval, stated)
    except AuditBroken:
        return None
    key_id = str(stated.subject["key_id"])
    return key_id if recorded.personal[key_id].until is None else None


def why_not_enough(name: str, key_id: str | None, rules: SignoffSettings) -> str | None:
    """Why an approval does not count where people sign with their own keys; None where it does."""
    if rules.personal_keys != "required":
        return None
    if key_id is None:
        return "approvals here are signed with a key of one's own (--key, or a passkey at the desk)"
    if name in rules.keys and key_id not in rules.declared_key_ids(name):
        return f"the key {key_id} is not among those that the collection declares for {name} (signoff.keys)"
    return None


def _moment(text: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
