"""The documents of a request as a page of lines, with what people left on them."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.desk.access import known_view, request_seen
from ai_assets.desk.candidate_query import Candidate, DiffLine, candidate_of
from ai_assets.desk.context import Desk
from ai_assets.desk.views import DocumentPage, DocumentRow
from ai_assets.signoff import corrections, notes
from ai_assets.signoff.notes import Note
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.signoff.risk import LOW_CONFIDENCE, UNREADABLE, Change

LOOKED: tuple[notes.Kind, ...] = ("reviewed", "looked again")
MARKS: tuple[notes.Kind, ...] = (*LOOKED, "second look")
_ORDER: tuple[Change, ...] = ("relabelled", "changed", "added", "removed", "unreadable", "unchanged")
SORTS: Mapping[str, Callable[[DiffLine], tuple[Any, ...]]] = {
    "risk": lambda line: (-line.risk, line.document_id),
    "name": lambda line: (line.document_id,),
    "confidence": lambda line: (1.0 if line.confidence is None else line.confidence, line.document_id),
    "change": lambda line: (_ORDER.index(line.change), -line.risk, line.document_id),
}


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What people left on the documents of one candidate as they are in it."""

    reviewed_by: Mapping[str, Sequence[str]]
    carried_over: frozenset[str]
    second_look: frozenset[str]
    corrected: frozenset[str]

    def row(self, line: DiffLine) -> DocumentRow:
        name = line.document_id
        return DocumentRow(
            document_id=name,
            title=line.title,
            change=line.change,
            status=line.status,
            headlines=line.headlines,
            before=line.before,
            confidence=line.confidence,
            risk=line.risk,
            reviewed_by=self.reviewed_by.get(name, ()),
            carried_over=name in self.carried_over,
            second_look=name in self.second_look,
            corrected=name in self.corrected,
            without_vectors=line.without_vectors,
            reason=line.reason,
            asked=line.asked,
        )


def document_page(
    desk: Desk,
    person: Person,
    request_id: str,
    *,
    change: str = "all",
    text: str = "",
    sort: str = "risk",
    page: int = 1,
    per_page: int = 50,
) -> DocumentPage:
    known_view("order", sort, tuple(SORTS))
    with desk.stores.state.read() as connection:
        request, collection = request_seen(desk, person, connection, request_id)
        candidate = candidate_of(desk, connection, request, collection)
        marks = marks_of(connection, request, candidate)
    filters = _filters(marks)
    known_view("filter", change, tuple(filters))
    wanted = text.strip().casefold()
    found = [
        line
        for line in candidate.lines
        if filters[change](line)
        and (not wanted or wanted in line.document_id.casefold() or wanted in line.title.casefold())
    ]
    if sort != "risk":  # the order they are kept in
        found.sort(key=SORTS[sort])
    pages = max(1, math.ceil(len(found) / per_page))
    page = min(max(1, page), pages)
    return DocumentPage(
        rows=[marks.row(line) for line in found[(page - 1) * per_page : page * per_page]],
        total=len(found),
        page=page,
        pages=pages,
        counts=_counts(candidate, marks),
        damaged=candidate.damaged,
    )


def _counts(candidate: Candidate, marks: Marks) -> dict[str, int]:
    """By filter."""
    by_change = Counter(line.change for line in candidate.lines)
    every, reviewed = len(candidate.lines), len(marks.reviewed_by)
    return {
        "all": every,
        **{name: by_change[name] for name in _ORDER},
        "changed": by_change["changed"] + by_change["relabelled"],
        "quarantined": sum(map(_quarantined, candidate.lines)),
        "low confidence": sum(map(unsure, candidate.lines)),
        "without vectors": sum(map(_without_vectors, candidate.lines)),
        "second look": len(marks.second_look),
        "reviewed": reviewed,
        "not reviewed": every - reviewed,
    }


def line_of(desk: Desk, person: Person, request_id: str, document_id: str) -> tuple[SignoffRequest, DiffLine]:
    """The request, without its summary, and its line of one document."""
    with desk.stores.state.read() as connection:
        request, collection = request_seen(desk, person, connection, request_id)
        candidate = candidate_of(desk, connection, request, collection)
    return request, candidate.lines[candidate.place_of(document_id)]


def unsure(line: DiffLine) -> bool:
    """As the inbox counts them: what is live already is not counted again."""
    return (
        line.confidence is not None
        and line.confidence < LOW_CONFIDENCE
        and line.change not in ("unchanged", "removed", "unreadable")
    )


def _quarantined(line: DiffLine) -> bool:
    return line.status == UNREADABLE


def _without_vectors(line: DiffLine) -> bool:
    return line.without_vectors is not None and line.change != "removed"


def _filters(marks: Marks) -> dict[str, Callable[[DiffLine], bool]]:
    return {
        "all": lambda _line: True,
        "added": lambda line: line.change == "added",
        "changed": lambda line: line.change in ("changed", "relabelled"),
        "relabelled": lambda line: line.change == "relabelled",
        "removed": lambda line: line.change == "removed",
        "unchanged": lambda line: line.change == "unchanged",
        "quarantined": _quarantined,
        "low confidence": unsure,
        "without vectors": _without_vectors,
        "second look": lambda line: line.document_id in marks.second_look,
        "reviewed": lambda line: line.document_id in marks.reviewed_by,
        "not reviewed": lambda line: line.document_id not in marks.reviewed_by,
    }


def marks_of(connection: sa.Connection, request: SignoffRequest, candidate: Candidate) -> Marks:
    left = notes.of_documents(connection, request.collection, list(candidate.places), MARKS)
    given = corrections.current(connection, request.collection, request.partition)
    reviewed: dict[str, list[str]] = {}
    carried, second = set(), set()
    for name, found in left.items():
        line = candidate.lines[candidate.places[name]]
        here = [note for note in found if note.leaf == line.leaf]
        looks = [note for note in here if note.kind in LOOKED]
        if looks:
            reviewed[name] = _names(looks)
            if all(note.request_id != request.request_id for note in looks):
                carried.add(name)
        if notes.open_second_look(here) is not None:
            second.add(name)
    corrected = {
        name
        for (_, name), correction in given.items()
        if name in candidate.places
        and candidate.lines[candidate.places[name]].digest in ("", correction.document_digest)
    }
    return Marks(
        reviewed_by=reviewed,
        carried_over=frozenset(carried),
        second_look=frozenset(second),
        corrected=frozenset(corrected),
    )


def _names(found: Sequence[Note]) -> list[str]:
    return list(dict.fromkeys(note.author for note in found))
