"""A request's candidate as it is looked at: a line per document, without its text, in order of risk.

Candidates never change, so the latest few that somebody looked at are kept in memory, by request and digest.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen
from ai_assets.desk.context import Desk
from ai_assets.embedding.spec import WITHOUT
from ai_assets.run.frozen_lines import light_rows
from ai_assets.signoff import requests
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.signoff.risk import UNREADABLE, Change, RiskPart, document_risk_parts, summed

KEPT_DOCUMENTS = 60_000
"""So many lines are kept at most, over all requests; a line is about a kilobyte."""
UNKNOWN_STATUS = "unknown"


@dataclass(frozen=True, kw_only=True)
class DiffLine:
    document_id: str
    title: str
    change: Change
    status: str
    headlines: Mapping[str, str | None]
    before: Mapping[str, str | None]
    confidence: float | None
    risk: float
    leaf: str
    digest: str
    """Of its text."""
    place: int | None
    """Its row in the file; None where the file is damaged."""
    without_vectors: str | None = None
    """Why only its words can find it."""
    reason: str | None = None
    """Why it has no text, or a stage no answer for it."""
    asked: Sequence[str] = ()
    """Stages that were asked about it."""
    live_place: int | None = None
    """Its row in the live file, where it is there and differs."""
    risk_parts: Sequence[RiskPart] = ()

    @property
    def removed(self) -> bool:
        return self.change == "removed"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    request_id: str
    changes: Mapping[str, Any]
    """The request's summary."""
    lines: Sequence[DiffLine]
    """The riskiest first."""
    places: Mapping[str, int]
    """Where in `lines` a document is."""
    documents_path: Path | None
    live_path: Path | None
    chunks_path: Path | None
    """Of the passages of its documents."""
    live_chunks_path: Path | None
    damaged: str | None
    """What of it cannot be shown, in a sentence."""

    def path_of(self, line: DiffLine) -> Path | None:
        """The file that its `place` is in: of the candidate, where it has the document at all."""
        return self.live_path if line.removed and line.status != UNREADABLE else self.documents_path

    def chunks_of(self, line: DiffLine) -> Path | None:
        """The passages of the text that is shown: of the live release, where readers would lose the document."""
        return self.live_chunks_path if line.removed else self.chunks_path

    def place_of(self, document_id: str) -> int:
        """Where in `lines` it is; it must be somewhere."""
        if document_id not in self.places:
            raise NotSeen(f"document '{document_id}' in request {self.request_id}")
        return self.places[document_id]


@dataclass
class CandidateCache:
    """The candidates looked at last, up to a number of documents."""

    most: int
    _kept: OrderedDict[tuple[str, ...], Candidate] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[str, ...]) -> Candidate | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[str, ...], candidate: Candidate) -> None:
        with self._lock:
            self._kept[key] = candidate
            total = sum(len(item.lines) for item in self._kept.values())
            while total > self.most and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                total -= len(oldest.lines)


RECENT = CandidateCache(KEPT_DOCUMENTS)


def candidate_of(desk: Desk, connection: sa.Connection, request: SignoffRequest, collection: Collection) -> Candidate:
    """Read anew each time where its files are damaged: they may be brought back."""
    key = (str(desk.stores.lake.root), request.request_id, request.digest)
    if (kept := RECENT.get(key)) is not None:
        return kept
    query = sa.select(requests.TABLE.c.summary).where(requests.TABLE.c.request_id == request.request_id)
    changes = json.loads(connection.execute(query).scalar_one())
    found = _read(desk, request, collection, changes)
    if found.damaged is None:
        RECENT.put(key, found)
    return found


def _read(desk: Desk, request: SignoffRequest, collection: Collection, changes: Mapping[str, Any]) -> Candidate:
    folder = snapshot_folder(desk.stores.lake.root, request.collection, request.partition)
    files, live_files = _files(desk, request, changes), changes.get("live_files")
    bring = desk.stores.lake.bring
    path = bring(folder / files["documents_file"]) if files else None
    live_path = bring(folder / live_files["documents_file"]) if live_files else None
    problems: list[str] = []
    lines: list[DiffLine] = []
    try:
        if path is None:
            problems.append("an earlier version asked for it, and did not note its files")
        else:
            lines += _lines(path, request, collection, changes)
    except DatasetDamaged as error:
        problems.append(str(error))
    if path is None or problems:
        lines += _lines_told(changes)
    there = {line.document_id for line in lines}
    gone = [name for name in changes["removed"] if name not in there]
    try:
        if live_path is not None:
            lines = _beside_live(live_path, collection, lines, gone)
        else:
            lines += [_bare(name, "removed", {}) for name in gone]
    except DatasetDamaged as error:
        problems.append(str(error))
        lines += [_bare(name, "removed", {}) for name in gone]
    lines.sort(key=lambda line: (-line.risk, line.document_id))
    return Candidate(
        request_id=request.request_id,
        changes=changes,
        lines=lines,
        places={line.document_id: place for place, line in enumerate(lines)},
        documents_path=path,
        live_path=live_path,
        chunks_path=_beside(folder, files),
        live_chunks_path=_beside(folder, live_files),
        damaged=f"Not all of this request can be shown: {' '.join(problems)}" if problems else None,
    )


def _beside(folder: Path, files: Mapping[str, str] | None) -> Path | None:
    name = files.get("chunks_file") if files else None
    return folder / name if name else None


def _files(desk: Desk, request: SignoffRequest, changes: Mapping[str, Any]) -> Mapping[str, str] | None:
    found: Mapping[str, str] | None = changes.get("files")
    if found is not None:
        return found
    manifest = desk.stores.lake.manifest(request.collection, "release_candidate", request.partition)
    return manifest.stats if manifest is not None and manifest.stats.get("digest") == request.digest else None


def _lines(
    path: Path, request: SignoffRequest, collection: Collection, changes: Mapping[str, Any]
) -> Iterator[DiffLine]:
    added, changed, relabelled = set(changes["added"]), set(changes["changed"]), changes["relabelled"]
    removed, unreadable = set(changes["removed"]), set(changes.get("unreadable", ()))

    def change_of(document_id: str, status: str) -> Change:
        if status == UNREADABLE:  # as `difference` counts, and as it did not in requests of earlier versions
            if document_id in removed or document_id in changed:
                return "removed"
            return "unreadable" if document_id in unreadable or document_id in added else "unchanged"
        if document_id in added:
            return "added"
        if document_id in relabelled:
            return "relabelled"
        return "changed" if document_id in changed else "unchanged"

    for row in light_rows(path, collection):
        change = change_of(row["document_id"], row["status"])
        moves = relabelled.get(row["document_id"], ())
        # Without a leaf, which earlier versions did not write, nothing may pass for unchanged.
        leaf = row["leaf"] or f"{request.digest}:{row['document_id']}"
        yield _line({**row, "leaf": leaf}, change, {move["stage"]: move["from"] for move in moves})


def _beside_live(path: Path, collection: Collection, lines: Sequence[DiffLine], gone: Sequence[str]) -> list[DiffLine]:
    """Each that differs with its row in the live file; what cannot be read any more, with what readers lose; and the
    documents that only the live file has."""
    differing = {line.document_id: line for line in lines if line.change in ("changed", "relabelled", "removed")}
    if not differing and not gone:
        return list(lines)
    found: dict[str, DiffLine] = {}
    lost = {name: _bare(name, "removed", {}) for name in gone}
    for row in light_rows(path, collection):
        name = row["document_id"]
        if name in lost:
            lost[name] = _line(row, "removed", {})
        elif (line := differing.get(name)) is not None:
            found[name] = replace(line, live_place=row["place"])
            if line.removed:
                said = {stage: row["headlines"][stage] for stage in row["headlines"] if stage in row["asked"]}
                found[name] = replace(found[name], before=said, asked=tuple(said), title=row["title"] or line.title)
    return [*(found.get(line.document_id, line) for line in lines), *lost.values()]


def _lines_told(changes: Mapping[str, Any]) -> Iterator[DiffLine]:
    """What the summary alone says of documents, where the file cannot."""
    relabelled = changes["relabelled"]
    for name in changes["added"]:
        yield _bare(name, "added", {})
    for name in changes["changed"]:
        moves = relabelled.get(name, ())
        line = _bare(name, "relabelled" if moves else "changed", {move["stage"]: move["to"] for move in moves})
        yield replace(line, before={move["stage"]: move["from"] for move in moves})
    for name in changes.get("unreadable", ()):
        yield replace(_bare(name, "unreadable", {}), status=UNREADABLE)


def _bare(document_id: str, change: Change, headlines: Mapping[str, str | None]) -> DiffLine:
    parts = document_risk_parts(change, None, ())
    return DiffLine(
        document_id=document_id,
        title=document_id,
        change=change,
        status=UNKNOWN_STATUS,
        headlines=headlines,
        before={},
        confidence=None,
        risk=summed(parts),
        leaf="",
        digest="",
        place=None,
        risk_parts=parts,
    )


def _line(row: Mapping[str, Any], change: Change, before: Mapping[str, str | None]) -> DiffLine:
    worst = "quarantined" if "quarantined" in row["stage_statuses"] else row["status"]
    worst = "without vectors" if worst == "ok" and row[WITHOUT] else worst
    parts = document_risk_parts(change, worst, row["confidences"])
    return DiffLine(
        document_id=row["document_id"],
        title=row["title"] or row["document_id"],
        change=change,
        status=row["status"],
        headlines=row["headlines"],
        before=before,
        confidence=min(row["confidences"], default=None),
        risk=summed(parts),
        leaf=row["leaf"] or "",
        digest=row["digest"] or "",
        place=row["place"],
        without_vectors=row[WITHOUT],
        asked=tuple(name for name in row["headlines"] if name in row["asked"]),
        reason=row["reason"] or "; ".join(row["stage_reasons"]) or None,
        risk_parts=parts,
    )
