"""Evaluations as the desk shows them, for one person: scores over releases, slices, who is mistaken for whom."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen, collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.score_charts import ScorePoint
from ai_assets.desk.slice_charts import SliceMark
from ai_assets.desk.unanswered_query import stopped_candidates
from ai_assets.desk.views import GateStopView, StoppedCandidates
from ai_assets.evaluation.floors import slice_chances, slice_ruling
from ai_assets.evaluation.gates import Gate
from ai_assets.evaluation.scoring import Score
from ai_assets.evaluation.slices import SliceScore
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.evaluated import (
    Evaluation,
    JudgedDocument,
    ReleaseScores,
    newest_evaluation,
    newest_verdicts,
    scores_of_releases,
)
from ai_assets.run.provenance import places_by_history
from ai_assets.signoff import gate_stops, requests
from ai_assets.signoff.gate_stops import GateStop
from ai_assets.signoff.people import Person
from ai_assets.signoff.release_cards import scores_in
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.statistics.intervals import share_bounds
from ai_assets.storage.lake import place_in_parquet, read_parquet_row

LONGEST_TEXT = 50_000
LEVEL = 0.95
MOST_STOPS = 30
ACCURACY = "accuracy"
MISSING = "*"
"""In an address: the model gave no label that is declared."""


@dataclass(frozen=True, kw_only=True)
class MetricHistory:
    metric: str
    stage: str | None
    points: Sequence[ScorePoint]
    """By release, in order."""
    now: Score | None
    """As it was measured last, released or not."""

    @property
    def name(self) -> str:
        return f"{self.metric} of {self.stage}" if self.stage else self.metric


@dataclass(frozen=True, kw_only=True)
class Cell:
    golden: str
    said: str | None
    count: int
    depth: int
    """0 to 4: how large its share of its row is."""

    @property
    def right(self) -> bool:
        return self.golden == self.said


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    golden: str
    cells: Sequence[Cell]


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    collection: str
    evaluation: Evaluation | None
    """The newest; None before the first run with golden data."""
    history: Sequence[MetricHistory]
    marks: Sequence[SliceMark]
    """All golden documents, then the slices, the worst first; empty where no gate asks for slices."""
    live: int | None
    """The release that the marks are drawn beside; None where nothing is live, or it is the same."""
    columns: Sequence[str | None]
    """Of the matrix: labels that the model gave, and None for none."""
    matrix: Sequence[MatrixRow]
    gates: Sequence[GateVerdict]
    request_id: str | None
    """In which these verdicts were shown; None where they are of scores that led to no request."""
    not_judged: Sequence[str]
    """Gates that only a run can judge, where there is no request of it."""
    stopped: Sequence[StoppedCandidates]
    """What gates stopped when it was run last."""
    stops: Sequence[GateStopView]
    """What gates ever stopped, the newest first; of many the last."""
    holds: bool
    """Some stage of it holds documents."""


@dataclass(frozen=True, kw_only=True)
class OverviewLine:
    collection: str
    evaluation: Evaluation | None


@dataclass(frozen=True, kw_only=True)
class JudgedText:
    judged: JudgedDocument
    partition: str | None
    title: str
    path: str
    text: str
    cut: bool
    digest: str
    """Of its text; empty where there is none."""


def overview(desk: Desk, person: Person) -> list[OverviewLine]:
    """Of the collections that the person may see and that have golden data."""
    seen = desk.seen_by(person)
    return [
        OverviewLine(collection=name, evaluation=newest_evaluation(desk.stores, seen[name]))
        for name in sorted(seen)
        if seen[name].evaluates
    ]


def evaluation_view(desk: Desk, person: Person, name: str) -> EvaluationView:
    collection = collection_seen(desk, person, name)
    found = newest_evaluation(desk.stores, collection)
    with desk.stores.state.read() as connection:
        asked = requests.latest_of(connection, collection.name, found.partition) if found else None
        released = scores_of_releases(connection, collection.name)
        stopped = stopped_candidates(connection, {collection.name: collection})
        stops = gate_stops.find(connection, collection.name, limit=MOST_STOPS)
    if asked is not None and not _is_of(asked, found):
        asked = None
    gates = asked.verdicts if asked else newest_verdicts(desk.stores, collection)
    judged = {each.name for each in gates}
    columns, matrix = _matrix(found)
    before = _before(released, found)
    return EvaluationView(
        collection=collection.name,
        evaluation=found,
        history=_history(released, found),
        marks=list(_marks(collection, found, before)),
        live=before.release if before else None,
        columns=columns,
        matrix=matrix,
        gates=gates,
        request_id=asked.request_id if asked else None,
        not_judged=[] if asked else [each.name for each in collection.settings.score_gates if each.name not in judged],
        stopped=stopped,
        stops=list(map(_stop, stops)),
        holds=bool(collection.holding),
    )


def stops_of(desk: Desk, person: Person, name: str, limit: int) -> list[GateStopView]:
    """The newest first."""
    collection = collection_seen(desk, person, name)
    with desk.stores.state.read() as connection:
        return list(map(_stop, gate_stops.find(connection, collection.name, limit=limit)))


def _stop(found: GateStop) -> GateStopView:
    judged = found.judged
    return GateStopView(
        at=found.made_at,
        partition=found.partition,
        gate=found.gate,
        verdict=judged.verdict,
        slice=judged.slice,
        value=judged.value,
        interval=judged.interval,
        n=judged.n,
        sentence=judged.sentence,
        candidate=found.candidate,
        digest=found.digest,
        datasets=found.shown_by["datasets"],
        run_id=found.run_id,
    )


def _is_of(asked: SignoffRequest, found: Evaluation | None) -> bool:
    """A candidate that a gate stopped has scores and no request; that of the candidate before it shows others."""
    return found is not None and set(scores_in(asked.changes)) == set(found.scores)


def _history(released: Sequence[ReleaseScores], found: Evaluation | None) -> list[MetricHistory]:
    """Metrics as they are measured now come first, then those of older releases alone."""
    now = {(each.metric, each.stage): each for each in (found.of_corpus if found else ())}
    points: dict[tuple[str, str | None], list[ScorePoint]] = {key: [] for key in now}
    for release in released:
        for each in release.scores:
            if each.value is not None:
                point = ScorePoint(release=release.release, value=each.value, n=each.n, interval=each.interval)
                points.setdefault((each.metric, each.stage), []).append(point)
    return [
        MetricHistory(metric=metric, stage=stage, points=line, now=now.get((metric, stage)))
        for (metric, stage), line in points.items()
    ]


def _before(released: Sequence[ReleaseScores], found: Evaluation | None) -> ReleaseScores | None:
    """The newest release, where it was measured otherwise than what is shown."""
    if found is None or not released:
        return None
    newest = released[-1]
    same = set(newest.scores) == set(found.of_corpus) and set(newest.slices) == set(found.slices)
    return None if same else newest


def _marks(collection: Collection, found: Evaluation | None, before: ReleaseScores | None) -> Iterator[SliceMark]:
    if found is None or not found.slices:
        return
    gates = [each for each in collection.settings.score_gates if each.metric == ACCURACY and each.min is not None]
    live = {each.slice: each.value for each in before.slices} if before else {}
    of_all = _accuracy(found.of_corpus, found.stage)
    if of_all is not None and of_all.value is not None:
        asked = next((each.least for each in gates if not each.slices and each.at == "value"), None)
        was = _accuracy(before.scores, found.stage) if before else None
        yield SliceMark(
            name="all golden documents",
            value=of_all.value,
            low=of_all.interval.low if of_all.interval else None,
            high=of_all.interval.high if of_all.interval else None,
            n=of_all.n,
            minimum=asked,
            ruling=None if asked is None else "passed" if of_all.value >= asked else "failed",
            live=was.value if was else None,
        )
    for each in found.slices:
        yield _mark(each, [gate for gate in gates if gate.slices], found.slices, live.get(each.slice))


def _accuracy(scores: Sequence[Score], stage: str | None) -> Score | None:
    return next((each for each in scores if (each.metric, each.stage) == (ACCURACY, stage)), None)


def _mark(each: SliceScore, gates: Sequence[Gate], every: Sequence[SliceScore], live: float | None) -> SliceMark:
    error = math.sqrt(each.value * (1 - each.value) / each.n)
    bounds = share_bounds(each.value, error, each.n, LEVEL)
    gate = max((gate for gate in gates if each.by in gate.slices), key=lambda gate: gate.least, default=None)
    ruling = None
    if gate is not None:
        judged = [other for other in every if other.by in gate.slices]
        ruling = slice_ruling(gate, each, slice_chances(gate, judged).get(each.slice))
    return SliceMark(
        name=each.slice,
        value=each.value,
        low=bounds.low if bounds else None,
        high=bounds.high if bounds else None,
        n=each.n,
        minimum=None if gate is None else gate.least,
        ruling=ruling,
        live=live,
    )


def _matrix(found: Evaluation | None) -> tuple[list[str | None], list[MatrixRow]]:
    """Rows and columns without a document are left out."""
    if found is None or found.confusion is None:
        return [], []
    names: list[str | None] = [*found.confusion.labels, None]
    counts = found.confusion.counts
    used = [place for place in range(len(names)) if any(row[place] for row in counts)]
    rows = []
    for place, row in enumerate(counts):
        if total := sum(row):
            golden = found.confusion.labels[place]
            cells = [
                Cell(golden=golden, said=names[j], count=row[j], depth=math.ceil(4 * row[j] / total)) for j in used
            ]
            rows.append(MatrixRow(golden=golden, cells=cells))
    return [names[place] for place in used], rows


def cell_documents(
    desk: Desk, person: Person, name: str, golden: str, said: str
) -> tuple[Evaluation, Sequence[JudgedDocument], int]:
    """Documents of a cell as far as they are named, and how many there are."""
    found = _evaluated(desk, person, name)
    label = None if said == MISSING else said
    confusion = found.confusion
    known = confusion.labels if confusion else ()
    if confusion is None or golden not in known or (label is not None and label not in known):
        raise NotSeen(f"cell of golden label '{golden[:60]}' and label '{said[:60]}'")
    column = len(known) if label is None else known.index(label)
    return found, found.cell(golden, label), confusion.counts[known.index(golden)][column]


def judged_text(desk: Desk, person: Person, name: str, document: str) -> JudgedText:
    """A golden document that the newest evaluation names, with its text as last computed."""
    found = _evaluated(desk, person, name)
    judged = found.judged(document)
    if judged is None:
        raise NotSeen(f"judged document '{document[:200]}'")
    partition, row = _row(desk, found.collection, document)
    text = str(row.get("text") or "")
    return JudgedText(
        judged=judged,
        partition=partition,
        title=str(row.get("title") or document),
        path=str(row.get("path") or ""),
        text=text[:LONGEST_TEXT],
        cut=len(text) > LONGEST_TEXT,
        digest=str(row.get("digest") or ""),
    )


def _evaluated(desk: Desk, person: Person, name: str) -> Evaluation:
    found = newest_evaluation(desk.stores, collection_seen(desk, person, name))
    if found is None:
        raise NotSeen(f"evaluation of '{name}'")
    return found


def _row(desk: Desk, collection: str, document: str) -> tuple[str | None, Mapping[str, object]]:
    """Where the document was seen last, and its row there; nothing of one that is gone."""
    with desk.stores.state.read() as connection:
        places = places_by_history(connection, collection, document)
    lake = desk.stores.lake
    for partition in places:
        manifest = lake.manifest(collection, "documents", partition)
        path = lake.path(manifest) if manifest is not None else None
        if path is not None and (place := place_in_parquet(path, "document_id", document)) is not None:
            row = read_parquet_row(path, place)
            if row["status"] == "ok":
                return partition, row
    return None, {}
