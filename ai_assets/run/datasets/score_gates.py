"""The gates of a collection held against stored scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ai_assets.collection.loading import Collection
from ai_assets.evaluation.gates import GateInputs, judge
from ai_assets.evaluation.scoring import OF_JUDGES, OF_QUERIES, Score, errors_by_score
from ai_assets.evaluation.slices import SliceScore
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.context import Work
from ai_assets.signoff import decisions, releases, requests
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Manifest


def gate_verdicts(work: Work, manifest: Manifest) -> list[GateVerdict]:
    """The declared gates held against stored scores."""
    gates, own = work.collection.settings.score_gates, work.collection.own
    compares = any(gate.no_worse_by is not None and gate.metric in OF_JUDGES for gate in gates)
    release, live = _live_scores(work, manifest.partition) if own.gates or compares else (None, ())
    asks_live = [gate for gate in gates if gate.no_worse_by is not None and gate.metric not in OF_JUDGES]
    bench = replace(
        _inputs_of(work.collection, manifest, work.read(manifest).to_pylist()),
        paired=work.corpus.paired if any(gate.metric not in OF_QUERIES for gate in asks_live) else None,
        paired_slices=work.corpus.paired_slices if any(gate.slices for gate in asks_live) else None,
        paired_search=work.corpus.paired_search if any(gate.metric in OF_QUERIES for gate in asks_live) else None,
        live=live,
        live_release=release,
    )
    return judge(gates, bench, own.gates)


def verdicts_by_scores(collection: Collection, manifest: Manifest) -> list[GateVerdict]:
    """The same of gates that need nothing beside: no live release to compare with, and no code of the user's own."""
    gates = [gate for gate in collection.settings.score_gates if gate.no_worse_by is None and gate.use is None]
    return judge(gates, _inputs_of(collection, manifest, manifest.stats["scores"]))


def _inputs_of(collection: Collection, manifest: Manifest, rows: Iterable[Mapping[str, Any]]) -> GateInputs:
    """What stored scores say; nothing that they are compared with."""
    details = manifest.stats["details"]
    return GateInputs(
        scores=_with_errors(rows, manifest),
        slices=[SliceScore.of(said) for said in manifest.stats.get("slices", ())],
        pending=details["pending"],
        absent=details["absent"],
        of_rows=frozenset((*OF_JUDGES, *(metric.name for metric in collection.own.metrics if metric.of == "rows"))),
        labels_to_come=collection.settings.golden.review,
    )


def _with_errors(rows: Iterable[Mapping[str, Any]], manifest: Manifest) -> list[Score]:
    """Scores with their standard errors, which are kept beside the rows."""
    errors = errors_by_score(manifest.stats.get("errors", ()))
    found = []
    for score in map(Score.of, rows):
        error, clusters = errors.get(tuple(score.key), (None, None))
        found.append(replace(score, error=error, clusters=clusters))
    return found


def _live_scores(work: Work, partition: str) -> tuple[int | None, Sequence[Score]]:
    """What was measured of the candidate of this partition that is live, and the number of its release."""
    with work.stores.state.read() as connection:
        live = releases.live(connection, work.collection.name)
        part = live.parts.get(partition) if live else None
        asked = requests.get(connection, part.request_id) if part else None
        recorded = decisions.standings(connection, [asked])[asked.request_id].summary if asked else None
    if live is None or asked is None:
        return None, ()
    if recorded != digest(asked.summary):  # a gate would let pass what is worse than these scores only seem to be
        raise AuditBroken(f"request {asked.request_id}", "its scores are not those that people were shown")
    return live.number, [Score.of(row) for row in asked.changes["scores"]]
