"""One document of a request: its text with the evidence in it, what each stage says, where from, and its history."""

import urllib.parse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.money import dollars, in_full
from ai_assets.collection.loading import Collection
from ai_assets.desk.access import request_seen, told
from ai_assets.desk.answer_fields import MISSING, Field, fields_of, parsed
from ai_assets.desk.audit_query import entry_of
from ai_assets.desk.candidate_query import DiffLine, candidate_of
from ai_assets.desk.context import Desk
from ai_assets.desk.document_query import marks_of
from ai_assets.desk.evidence import MarkedText
from ai_assets.desk.inbox import facts_of, row_of
from ai_assets.desk.text_difference import TextDifference, text_difference, word_count
from ai_assets.desk.unanswered_query import retries_of
from ai_assets.desk.views import DocumentView, HistoryEntry, StageView
from ai_assets.inference import history as ledger
from ai_assets.inference.ways import way_of
from ai_assets.run.frozen_lines import StageColumns, stages_in
from ai_assets.run.places import places_or_why
from ai_assets.signoff import audit, corrections, decisions, notes, requests
from ai_assets.signoff.corrections import Correction
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.stages.base import StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import CORRECTED
from ai_assets.storage.lake import read_parquet_row
from ai_assets.storage.state import now

LONGEST_LABEL = 60
Row = Mapping[str, Any]
_ABOUT_DOCUMENTS = ("corrected", "noted", "retry asked")
_ELSEWHERE = ("viewed", "noted")
"""Views say nothing of a document; notes have a place of their own."""


def document_view(desk: Desk, person: Person, request_id: str, document_id: str, *, at: int = 0) -> DocumentView:
    """`at`: a place in the text; of a long text the part is shown that has it."""
    with desk.stores.state.read() as connection:
        request, collection = request_seen(desk, person, connection, request_id)
        candidate = candidate_of(desk, connection, request, collection)
        place = candidate.place_of(document_id)
        line = candidate.lines[place]
        damaged, row, live = candidate.damaged, _stored(line, None), None
        try:
            row = _stored(line, _row_at(candidate.path_of(line), line.place))
            live = _row_at(candidate.live_path, line.live_place)
        except DatasetDamaged as error:
            damaged = f"Not all of this document can be shown: {error}"
        reason = row["reason"]
        if line.removed and live is not None:  # it is there still, and cannot be read
            row, live = _stored(line, live), None
        places, unplaced = places_or_why(
            desk.stores.lake, collection.name, request.partition, row, candidate.chunks_of(line)
        )
        damaged = damaged or unplaced
        marked = MarkedText(row["text"] or "", places, at=at)
        given = corrections.current(connection, collection.name)
        stages = [
            _stage(connection, collection, stage, row, live, line, given.get((stage.name, document_id)), marked)
            for stage in stages_in(row, collection)
        ]
        marks = marks_of(connection, request, candidate)
        left = notes.of_document(connection, collection.name, document_id)
        history = _history(connection, request, document_id)
        standing = decisions.standings(connection, [request])[request_id]
        without = retries_of(connection, person, collection, partition=request.partition, document_id=document_id)
    text, part = marked.text, marked.part()
    made = {"authors": candidate.changes.get("authors", []), "launch": candidate.changes.get("launch")}
    light = told(request, **made)
    return DocumentView(
        request=row_of(person, light, facts_of(request, candidate.changes), standing, collection, now()),
        row=marks.row(line),
        leaf=line.leaf,
        path=row["path"] or document_id,
        language=row["language"],
        encoding=_encoding(row),
        near_duplicate=_near_duplicate(row),
        source_digest=row["source_digest"] or "",
        reason=reason,
        spans=marked.spans(),
        cut=part.end - part.start < part.length,
        part=part,
        position=place + 1,
        total=len(candidate.lines),
        lost=line.removed,
        words=word_count(marked.shown),
        difference=None if live is None or line.removed else text_difference(live.get("text"), text),
        risk_parts=line.risk_parts,
        stages=stages,
        history=history,
        notes=[
            HistoryEntry(
                seq=number,
                at=note.made_at,
                actor=note.author,
                action=note.kind,
                text=note.text,
                collection=note.collection,
                request_id=note.request_id,
            )
            for number, note in enumerate(left, start=1)
        ],
        previous=candidate.lines[place - 1].document_id if place else None,
        next=candidate.lines[place + 1].document_id if place + 1 < len(candidate.lines) else None,
        may_correct=person.may("reviewer", collection.name) and not line.removed and any(s.labels for s in stages),
        next_run=_next_run(collection, request.partition),
        retries=without,
        run_address=_run_address(person, collection, request.partition),
        next_ask=_when(collection, request.partition, "It is asked about"),
        damaged=damaged,
    )


def _row_at(path: Path | None, place: int | None) -> Row | None:
    return None if path is None or place is None else read_parquet_row(path, place)


def _stored(line: DiffLine, row: Row | None) -> Row:
    """The row, or what is known without it."""
    bare = {"document_id": line.document_id, **dict.fromkeys(("path", "text", "language", "source_digest", "reason"))}
    return {**bare, **(row or {})}


def _encoding(row: Row) -> str | None:
    name, certainty = row.get("encoding"), row.get("encoding_certainty")
    return None if name is None else f"{name}, a guess ({certainty or 0:.0%} certain)"


def _near_duplicate(row: Row) -> str | None:
    name, similarity = row.get("near_duplicate_of"), row.get("similarity")
    return None if name is None else f"{name} ({similarity or 0:.0%} alike)"


# What the stages say


def _stage(
    connection: sa.Connection,
    collection: Collection,
    stage: StageColumns,
    row: Row,
    live: Row | None,
    line: DiffLine,
    correction: Correction | None,
    marked: MarkedText,
) -> StageView:
    evidence = marked.evidence(row, stage.name, parsed(_said(row.get(stage.headline))))
    declared = next((item for item in collection.stages if item.name == stage.name), None)
    found = {
        name: row.get(f"{stage.name}_{name}")
        for name in ("confidence", "runner_up", "runner_up_confidence", "rationale", "evidence", "status", "reason")
    }
    return StageView(
        stage=stage.name,
        kind=stage.kind,
        headline=_said(row.get(stage.headline)),
        before=None if line.removed else line.before.get(stage.name),
        **found,
        asked=row.get(stage.headline) is not None or found["status"] is not None,
        evidence_at=evidence,
        **_against_live(stage, declared, row, live, marked),
        columns={} if declared is None else _beside(declared, row),
        provenance=_provenance(connection, row, stage.name),
        labels=[label.name for label in declared.labels] if isinstance(declared, ClassifyStage) else [],
        correction=_in_force(correction, row, stage, line),
    )


_NOT_COMPARED = frozenset({"call", "evidence_start", "truncated", "confidence_from"})
"""Columns of which another value says nothing to a person."""


class _Compared(TypedDict):
    fields: Sequence[Field]
    difference: TextDifference | None
    changes: Sequence[Field]


def _against_live(
    stage: StageColumns, declared: StageSettings | None, row: Row, live: Row | None, marked: MarkedText
) -> _Compared:  # fmt: skip
    """The headline by its kind, and all other columns that differ."""
    said, before = _said(row.get(stage.headline)), None if live is None else _said(live.get(stage.headline))
    data, was = parsed(said), MISSING if live is None else parsed(before)
    fields = [] if data is MISSING else fields_of(data, was, find=partial(marked.value, stage.name))
    found = _Compared(fields=fields, difference=None, changes=())
    if live is None:
        return found
    if data is MISSING and said != before and _is_prose(said, before):
        found["difference"] = text_difference(before, said)
    published = declared.columns.published if declared is not None else ()
    names = [name for name in published if name not in _NOT_COMPARED and f"{stage.name}_{name}" != stage.headline]
    columns = {name: f"{stage.name}_{name}" for name in names}
    compared = fields_of(
        {name: _rounded(row.get(column)) for name, column in columns.items()},
        {name: _rounded(live.get(column)) for name, column in columns.items()},
    )
    found["changes"] = [field for field in compared if field.change != "same"]
    return found


def _rounded(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def _is_prose(*texts: str | None) -> bool:
    """Longer than a label: a difference word by word says more than both beside each other."""
    return any(text is not None and (len(text) > LONGEST_LABEL or "\n" in text) for text in texts)


SHOWN = frozenset({
    "confidence", "confidence_from", "runner_up", "runner_up_confidence", "rationale", "evidence", "evidence_start",
    "evidence_found", "status", "reason", "model", "prompt_version", "call", "truncated", *CORRECTED,
})  # fmt: skip
"""Columns of a stage that have a place of their own on the page, or say nothing to a person."""


def _beside(stage: StageSettings, row: Row) -> dict[str, str]:
    """What it publishes beside its headline."""
    names = [name for name in stage.columns.published if name not in SHOWN and name != stage.columns.headline]
    values = {name: _said(row.get(f"{stage.name}_{name}")) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _said(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_force(correction: Correction | None, row: Row, stage: StageColumns, line: DiffLine) -> Mapping[str, str] | None:
    if correction is None or correction.label is None or line.digest != correction.document_digest:
        return None
    used = (row.get(stage.headline), row.get(f"{stage.name}_corrected_by")) == (correction.label, correction.author)
    told = {name: str(getattr(correction, name)) for name in ("label", "author", "reason", "made_at")}
    return {**told, "used": "yes" if used else "no"}


def _provenance(connection: sa.Connection, row: Row, stage: str) -> dict[str, str]:
    """Where an answer comes from, by name; what is not known is not there."""
    named = {
        "model": "model", "prompt": "prompt_version", "call": "call", "model said": "model_label",
        "corrected by": "corrected_by",
    }  # fmt: skip
    found = {name: row.get(f"{stage}_{column}") for name, column in named.items()}
    if found["corrected by"] is None:
        found["model said"] = None  # nothing else than the label
    if found["call"]:
        found |= _paid(connection, found["call"])
    return {name: str(value) for name, value in found.items() if value}


def _paid(connection: sa.Connection, call: str) -> dict[str, str | None]:
    """What the ledger knows of a call: who answered, and what all its attempts cost."""
    made = ledger.attempts_of(connection, call)
    answered = next((attempt for attempt in reversed(made) if attempt.state == "settled"), None)
    if answered is None:
        return {}
    known = sum(attempt.cost_usd or 0.0 for attempt in made)
    maybe = sum(attempt.reserved_usd for attempt in made if attempt.state == "ambiguous")
    more = f", and {dollars(maybe, at_least=4)} more at most" if maybe else ""
    chosen = way_of(connection, call)
    return {
        "endpoint": answered.endpoint,
        "tier": answered.tier,
        "asked": None if chosen is None else f"by {chosen.said}",
        "dollars": f"{in_full(known)}{more}",
    }


# What happened


def _history(connection: sa.Connection, request: SignoffRequest, document_id: str) -> list[HistoryEntry]:
    """Decisions on this request, and corrections of the document in any request of its partition."""
    query = sa.select(requests.TABLE.c.request_id).where(
        requests.TABLE.c.collection == request.collection, requests.TABLE.c.partition == request.partition
    )
    ids: list[str] = list(connection.execute(query).scalars())
    return [
        entry_of(record)
        for record in audit.records(connection, request_ids=ids)
        if record.action not in _ELSEWHERE
        and (
            record.subject.get("document") == document_id
            if record.action in _ABOUT_DOCUMENTS
            else record.subject.get("request_id") == request.request_id
        )
    ]


def _next_run(collection: Collection, partition: str) -> str:
    return _when(collection, partition, "A correction is used")


def _when(collection: Collection, partition: str, what: str) -> str:
    schedule = collection.settings.schedule
    if collection.settings.watch:
        return f"{what} by the run that starts within a minute of it."
    if schedule is not None and schedule.enabled:
        return f"{what} by the next scheduled run, at '{schedule.cron}' ({schedule.timezone}), or when you run it."
    return f"{what} by the next run of {partition}."


def _run_address(person: Person, collection: Collection, partition: str) -> str | None:
    """Where the partition is run now, after a look at its plan; None for who may not, or where it is run elsewhere."""
    if collection.signed_asset is not None or not person.may("reviewer", collection.name):
        return None
    return f"/runs/{collection.name}?{urllib.parse.urlencode({'price': 'yes', 'first': partition})}#price"
