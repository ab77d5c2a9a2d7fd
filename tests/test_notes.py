"""Claims about notes on documents: who may leave them, what the chain keeps of them, and when they carry over."""

import json
from typing import Any

import pytest
from signing import current, known

from ai_assets.signoff import audit, notes, requests, verification
from ai_assets.signoff.errors import DecisionRefused, NoteRefused
from ai_assets.signoff.notes import LONGEST, Kind, Note
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import sha256_hex
from ai_assets.storage.state import StateStore

FACTS = {"documents": 1, "added": 1, "changed": 0, "removed": 0, "relabelled": 0, "low_confidence": 0}
SUMMARY: dict[str, Any] = {"added": ["a.txt"], "gates": []}


@pytest.fixture
def request_(state: StateStore) -> SignoffRequest:
    with state.write() as connection:
        requests.open_request(
            connection, "notes", "2026-10-05", "d" * 64, summary=SUMMARY, facts=FACTS, risk=0.1, nothing_new=False
        )
    return current(state, "2026-10-05")


@pytest.fixture
def ann(state: StateStore) -> Person:
    return known(state, "ann", "reviewer", "notes")


def left(state: StateStore, document_id: str = "a.txt") -> list[Note]:
    with state.read() as connection:
        return notes.of_document(connection, "notes", document_id)


def add(state: StateStore, request: SignoffRequest, kind: Kind, by: Person, text: str = "", leaf: str = "leaf") -> Note:
    return notes.add(state, request, "a.txt", leaf, kind, text, by=by)


def test_a_note_is_kept_and_the_chain_has_its_kind_and_the_digest_of_its_text(
    state: StateStore, request_: SignoffRequest, ann: Person
) -> None:
    made = add(state, request_, "comment", ann, "  Look at the total.  ")
    assert (made.text, made.author, made.kind) == ("Look at the total.", "ann", "comment")
    assert left(state) == [made]
    with state.read() as connection:
        record = audit.select(connection, actions=["noted"])[0]
    assert (record.actor, record.subject["kind"], record.subject["document"]) == ("ann", "comment", "a.txt")
    assert record.subject["text"] == sha256_hex(b"Look at the total.")
    assert "Look at" not in json.dumps(dict(record.subject))
    verification.verify(state)


@pytest.mark.parametrize(
    ("kind", "text", "leaf", "said"),
    [
        ("comment", "   ", "leaf", "a comment needs a text"),
        ("comment", "x" * (LONGEST + 1), "leaf", "4,001 characters"),
        ("comment", "a\0b", "leaf", "cannot be stored"),
        ("comment", "a\ud800b", "leaf", "cannot be stored"),
        ("praise", "good", "leaf", "'praise' is no kind of note; known are comment, reviewed"),
        ("reviewed", "", "", "nobody can have seen it"),
        ("looked again", "", "leaf", "nobody has asked for a second look"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    state: StateStore, request_: SignoffRequest, ann: Person, kind: Any, text: str, leaf: str, said: str
) -> None:
    with pytest.raises(NoteRefused, match=said):
        add(state, request_, kind, ann, text, leaf)
    assert left(state) == []


def test_who_may_only_look_leaves_no_note(state: StateStore, request_: SignoffRequest) -> None:
    viewer = known(state, "vic", "viewer", "notes")
    with pytest.raises(DecisionRefused, match="notes take the role reviewer in notes"):
        add(state, request_, "reviewed", viewer)


def test_a_review_made_twice_is_one(state: StateStore, request_: SignoffRequest, ann: Person) -> None:
    first = add(state, request_, "reviewed", ann)
    assert add(state, request_, "reviewed", ann) == first
    assert len(left(state)) == 1


def test_a_second_look_is_given_by_somebody_else(state: StateStore, request_: SignoffRequest, ann: Person) -> None:
    ben = known(state, "ben", "reviewer", "notes")
    asked = add(state, request_, "second look", ann, "Is this an invoice?")
    with pytest.raises(NoteRefused, match="ann has asked for a second look already"):
        add(state, request_, "second look", ben)
    with pytest.raises(NoteRefused, match="another pair of eyes"):
        add(state, request_, "looked again", ann)
    assert notes.open_second_look(left(state)) == asked
    add(state, request_, "looked again", ben)
    assert notes.open_second_look(left(state)) is None
    again = add(state, request_, "second look", ben)
    assert notes.open_second_look(left(state)) == again


def test_notes_keep_their_order_whatever_the_clock_says(
    state: StateStore, request_: SignoffRequest, ann: Person
) -> None:
    for number in range(12):
        add(state, request_, "comment", ann, f"{number}")
    assert [note.text for note in left(state)] == [f"{number}" for number in range(12)]


def test_notes_on_many_documents_are_found_at_once_and_only_those(
    state: StateStore, request_: SignoffRequest, ann: Person
) -> None:
    names = ["a.txt", 'quote".txt', "ünï/çode?.txt", "other.txt"]
    for name in names:
        notes.add(state, request_, name, "leaf", "reviewed", "", by=ann)
        notes.add(state, request_, name, "leaf", "comment", "seen", by=ann)
    with state.read() as connection:
        found = notes.of_documents(connection, "notes", [*names[:3], "unknown.txt"], ["reviewed"])
        elsewhere = notes.of_documents(connection, "mail", names)
    assert {name: [note.kind for note in item] for name, item in found.items()} == {
        name: ["reviewed"] for name in names[:3]
    }
    assert elsewhere == {}
