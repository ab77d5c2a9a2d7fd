"""Documents whose text was erased on request. The audit chain says who asked and why, and keeps their digests.

A release that held such a document holds a tombstone in its place: the row says `forgotten` and carries the digest that
people signed, so the approved digest still holds. A tombstone counts only where a signed record says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from ai_assets.documents.by_document import Row
from ai_assets.signoff import audit, authority
from ai_assets.signoff.people import Person
from ai_assets.storage.digest import Json

STATUS = "forgotten"


@dataclass(frozen=True, kw_only=True)
class ForgottenDocument:
    """One document."""

    document: str
    by: str
    at: str
    why: str
    digests: frozenset[str]
    """Of its texts, this one and earlier ones."""
    leaves: frozenset[str]
    """The digests under which releases and candidates held it."""
    asked: bool
    """Somebody asked for this very document: it stays away whatever its text becomes. Another one had the same text."""

    @property
    def reason(self) -> str:
        return f"forgotten by {self.by} on {self.at[:10]}: {self.why}"


@dataclass(frozen=True)
class Register:
    """Those of one collection, by their id."""

    documents: Mapping[str, ForgottenDocument] = field(default_factory=dict)

    @property
    def version(self) -> str | None:
        """Another one whenever there is another one; None while there are none."""
        return ",".join(sorted(self.documents)) or None

    def of(self, row: Row) -> ForgottenDocument | None:
        """Also a document with another name and the text of a forgotten one."""
        found = self.documents.get(str(row["document_id"]))
        return found if found is not None and found.asked else self._by_digest.get(str(row.get("digest")))

    def leaf(self, row: Row) -> str | None:
        """The signed digest that a tombstone stands for; None for any other row."""
        if row.get("status") != STATUS or (found := self.documents.get(str(row["document_id"]))) is None:
            return None
        leaf = row.get("leaf")
        return leaf if leaf in found.leaves else None

    @cached_property
    def _by_digest(self) -> Mapping[str, ForgottenDocument]:
        return {digest: found for found in self.documents.values() for digest in found.digests}

    def withheld(self, row: Row) -> Row:
        """The row as the lake may hold it."""
        if not self.documents or (found := self.of(row)) is None or row["status"] == "deleted":
            return row
        return {**row, "status": "quarantined", "reason": found.reason, "duplicate_of": None, "title": None,
                "text": "", "language": None}  # fmt: skip


NONE = Register()


def of(connection: sa.Connection, collection: str) -> Register:
    """Raises `AuditBroken` for a record that was forged: it would let rows pass that nobody signed."""
    found: dict[str, ForgottenDocument] = {}
    for record in reversed(audit.select(connection, collections=[collection], actions=["forgotten"])):
        authority.require_signed(connection, record)
        subject: Mapping[str, Any] = record.subject
        for document, kept in subject["documents"].items():
            earlier = found.get(document)
            found[document] = ForgottenDocument(
                document=document,
                by=record.actor,
                at=record.recorded_at,
                why=subject["reason"],
                digests=frozenset(kept["digests"]) | (earlier.digests if earlier else frozenset()),
                asked=kept["asked"] or (earlier is not None and earlier.asked),
                leaves=frozenset(kept["leaves"]) | (earlier.leaves if earlier else frozenset()),
            )
    return Register(found)


def record(
    connection: sa.Connection,
    collection: str,
    documents: Mapping[str, Mapping[str, Iterable[str]]],
    asked: str,
    summaries: Mapping[str, str],
    *,
    by: Person,
    reason: str,
) -> None:
    """`documents`: digests and leaves of each. `summaries`: of requests that told of it, the digest of what is left."""
    kept: dict[str, Json] = {
        document: {
            **{name: list[Json](sorted(values)) for name, values in found.items()},
            "asked": document == asked,
        }
        for document, found in documents.items()
    }
    subject: dict[str, Json] = {
        "collection": collection, "documents": kept, "summaries": dict(summaries), "reason": reason,
        **by.recorded_rights(collection),
    }  # fmt: skip
    audit.append(connection, by.name, "forgotten", subject)
