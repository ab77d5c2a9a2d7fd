"""What people leave on documents: comments, reviews, and second looks that are asked for and given.

A note is about a document as it was: what has the same leaf in a later candidate is unchanged, and keeps its reviews.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.signoff import audit, requests
from ai_assets.signoff.errors import DecisionRefused, NoteRefused
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import canonical_json, sha256_hex
from ai_assets.storage.state import StateStore, now, rows_of

Kind = Literal["comment", "reviewed", "second look", "looked again"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST = 4_000
"""Characters of a text."""


@dataclass(frozen=True, kw_only=True)
class Note:
    note_id: str
    """Begins with its number among the notes of the document, which is their order even if the clock is moved."""
    collection: str
    document_id: str
    leaf: str
    """Digest of the document in the candidate that was looked at."""
    request_id: str
    kind: Kind
    author: str
    text: str
    made_at: str


TABLE = sa.table("document_notes", *(sa.column(field.name) for field in fields(Note)))


def add(
    state: StateStore, request: SignoffRequest, document_id: str, leaf: str, kind: Kind, text: str, *, by: Person
) -> Note:
    """Leave a note. The same review of the same request, made again, is the one that is there."""
    text = text.strip()
    if not by.may("reviewer", request.collection):
        raise DecisionRefused(by.name, f"notes take the role reviewer in {request.collection}")
    if problem := _problem(kind, text, leaf):
        raise NoteRefused(document_id, problem)
    with state.write() as connection:
        before = of_document(connection, request.collection, document_id)
        found = [note for note in before if note.leaf == leaf]
        mine = [note for note in found if (note.author, note.request_id) == (by.name, request.request_id)]
        if kind == "reviewed" and not text and any(note.kind == kind for note in mine):
            return next(note for note in mine if note.kind == kind)
        if kind == "looked again":
            _refuse_second_look(document_id, found, by)
        if kind == "second look" and (asked := open_second_look(found)):
            raise NoteRefused(document_id, f"{asked.author} has asked for a second look already")
        note = Note(
            note_id=f"{len(before) + 1:06d}-{uuid.uuid4().hex}",
            collection=request.collection,
            document_id=document_id,
            leaf=leaf,
            request_id=request.request_id,
            kind=kind,
            author=by.name,
            text=text,
            made_at=now(),
        )
        connection.execute(sa.insert(TABLE).values(vars(note)))
        told = {"document": document_id, "kind": kind, "leaf": leaf, "text": sha256_hex(text.encode())}
        audit.append(connection, by.name, "noted", {**requests.subject(request), **told})
    return note


def _problem(kind: str, text: str, leaf: str) -> str | None:
    if not leaf:
        return "the candidate's file with it cannot be read, so nobody can have seen it"
    if kind not in KINDS:
        return f"'{kind}' is no kind of note; known are {', '.join(KINDS)}"
    if kind == "comment" and not text:
        return "a comment needs a text"
    if len(text) > LONGEST:
        return f"the text has {plural(len(text), 'character')}, and at most {LONGEST:,} are kept"
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "the text holds a character that cannot be stored"
    return None


def _refuse_second_look(document_id: str, found: Sequence[Note], by: Person) -> None:
    asked = open_second_look(found)
    if asked is None:
        raise NoteRefused(document_id, "nobody has asked for a second look that is still to be given")
    if asked.author == by.name:
        raise NoteRefused(document_id, f"{by.name} asked for the second look, and it takes another pair of eyes")


def open_second_look(found: Sequence[Note]) -> Note | None:
    """The one that was asked for and not given; of notes on one document with one leaf, in order."""
    last = next((note for note in reversed(found) if note.kind in ("second look", "looked again")), None)
    return last if last is not None and last.kind == "second look" else None


def of_document(connection: sa.Connection, collection: str, document_id: str) -> list[Note]:
    """All, whatever the document was when they were made, the oldest first."""
    query = sa.select(TABLE).where(TABLE.c.collection == collection, TABLE.c.document_id == document_id)
    rows = connection.execute(query.order_by(TABLE.c.note_id)).mappings()
    return [Note(**row) for row in rows]


def of_documents(
    connection: sa.Connection, collection: str, document_ids: Sequence[str], kinds: Sequence[Kind] = KINDS
) -> Mapping[str, list[Note]]:
    """The same for many; one that has none is not there."""
    given = {"wanted": canonical_json([[document_id] for document_id in document_ids])}
    wanted = sa.text(rows_of(connection.dialect.name, ":wanted", document_id="TEXT")).columns(sa.column("document_id"))
    query = sa.select(TABLE).where(
        TABLE.c.collection == collection,
        TABLE.c.kind.in_(kinds),
        TABLE.c.document_id.in_(sa.select(wanted.subquery().c.document_id)),
    )
    found: dict[str, list[Note]] = {}
    for row in connection.execute(query.order_by(TABLE.c.note_id), given).mappings():
        found.setdefault(row["document_id"], []).append(Note(**row))
    return found
