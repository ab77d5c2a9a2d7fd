"""Evaluations as runs stored them: scores, slices, who was mistaken for whom, and scores over releases.

Nothing is measured here and nobody is asked; what judges the scores is `gate_verdicts`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.evaluation.scoring import Confusion, Score
from ai_assets.evaluation.slices import SliceScore
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.context import Work
from ai_assets.run.datasets.answered import verdict_of
from ai_assets.run.datasets.score_gates import gate_verdicts, verdicts_by_scores
from ai_assets.signoff import releases, requests
from ai_assets.signoff.errors import ReleaseAltered
from ai_assets.signoff.release_cards import scores_in, with_intervals
from ai_assets.signoff.releases import Release
from ai_assets.storage.lake import Manifest
from ai_assets.storage.stores import Stores

EVALUATION = "evaluation_scores"
NOT_FOUND = "not_found_in_5"
MOST_RELEASES = 30


@dataclass(frozen=True, kw_only=True)
class JudgedDocument:
    document: str
    golden: str
    said: str | None
    """The model's own label; None where it gave none, or one that is not declared any more."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """As it was stored with one partition: over the corpus at that time, and of the partition alone."""

    collection: str
    partition: str
    written_at: str
    run_id: str
    stage: str | None
    """Whose labels were judged; None where there are no golden labels."""
    scores: tuple[Score, ...]
    slices: tuple[SliceScore, ...]
    """The worst first; of what gates ask for."""
    confusion: Confusion | None
    """None where an earlier version stored it."""
    mislabelled: tuple[JudgedDocument, ...]
    agreed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By label, the first documents that the model labelled so, and rightly."""
    not_found: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By embedding, golden queries whose documents are not among the first five found."""

    unknown: tuple[str, ...] = ()
    """Documents of the golden files that the source does not have, with file and line."""
    reliability: Mapping[str, Any] | None = None
    """Bins of confidence with the share of right labels, and the calibration error; where the evaluation has them."""

    @property
    def of_corpus(self) -> list[Score]:
        return [each for each in self.scores if each.scope == "corpus"]

    def cell(self, golden: str, said: str | None) -> list[JudgedDocument]:
        """Documents of one cell of the confusion matrix, as far as they are kept."""
        if golden == said:
            return [JudgedDocument(document=name, golden=golden, said=said) for name in self.agreed.get(golden, ())]
        return [each for each in self.mislabelled if (each.golden, self._declared(each.said)) == (golden, said)]

    def judged(self, document: str) -> JudgedDocument | None:
        right = (JudgedDocument(document=name, golden=label, said=label)
                 for label, names in self.agreed.items() for name in names)  # fmt: skip
        return next((each for each in (*self.mislabelled, *right) if each.document == document), None)

    def _declared(self, label: str | None) -> str | None:
        return label if self.confusion is None or label in self.confusion.labels else None


def evaluated_partitions(connection: sa.Connection, collection: str) -> list[str]:
    """The one that was evaluated last comes first."""
    query = "SELECT partition FROM datasets WHERE collection = :c AND asset = :a ORDER BY written_at DESC, partition"
    return list(connection.execute(sa.text(query), {"c": collection, "a": EVALUATION}).scalars())


def newest_evaluation(stores: Stores, collection: Collection) -> Evaluation | None:
    """Whose scores over the corpus are the newest."""
    manifest = _newest_manifest(stores, collection)
    return None if manifest is None else evaluation_of(collection, manifest)


def newest_verdicts(stores: Stores, collection: Collection) -> list[GateVerdict]:
    """The declared gates, held against these scores; without those that compare with the live release, or are the
    user's own code."""
    manifest = _newest_manifest(stores, collection)
    return [] if manifest is None else verdicts_by_scores(collection, manifest)


def _newest_manifest(stores: Stores, collection: Collection) -> Manifest | None:
    with stores.state.read() as connection:
        partitions = evaluated_partitions(connection, collection.name)
    found = (stores.lake.manifest(collection.name, EVALUATION, name) for name in partitions)
    return next((manifest for manifest in found if manifest is not None), None)


def evaluation_of(collection: Collection, manifest: Manifest) -> Evaluation:
    stats, details = manifest.stats, manifest.stats["details"]
    counted = details.get("confusion_counts")
    judged = collection.judged_stage
    return Evaluation(
        collection=collection.name,
        partition=manifest.partition,
        written_at=manifest.written_at,
        run_id=manifest.run_id,
        stage=judged.name if judged is not None and "mislabelled" in details else None,
        scores=with_intervals(stats["scores"], stats.get("errors", ())),
        slices=tuple(SliceScore.of(said) for said in stats.get("slices", ())),
        confusion=None if counted is None else Confusion(
            labels=tuple(counted["labels"]), counts=tuple(map(tuple, counted["counts"]))
        ),
        mislabelled=tuple(
            JudgedDocument(document=each["document"], golden=each["golden"], said=each["label"])
            for each in details.get("mislabelled", ())
        ),
        agreed=details.get("agreed", {}),
        unknown=tuple(details.get("unknown", ())),
        reliability=stats.get("reliability"),
        not_found={
            name.removeprefix(NOT_FOUND).strip() or "search": queries
            for name, queries in details.items()
            if name.startswith(NOT_FOUND) and queries
        },
    )  # fmt: skip


def stored_verdicts(work: Work, partition: str) -> list[GateVerdict]:
    """The declared gates, held against what is stored of the partition; what was not computed yet is not judged."""
    found: list[GateVerdict] = []
    scores = work.manifest(EVALUATION, partition)
    if scores is not None and work.collection.settings.score_gates:
        found += gate_verdicts(work, scores)
    for stage in work.collection.stages:
        if stage.name in work.collection.questions and (made := work.manifest(stage.name, partition)) is not None:
            found.append(verdict_of(work, made))
    return found


# Over releases


@dataclass(frozen=True, kw_only=True)
class ReleaseScores:
    release: int
    created_at: str
    scores: tuple[Score, ...]
    """Over the corpus, as its newest request had them."""
    slices: tuple[SliceScore, ...]


def scores_of_releases(
    connection: sa.Connection, collection: str, most: int = MOST_RELEASES
) -> Sequence[ReleaseScores]:
    """The last ones, in order. One that was altered is left out: the page of releases says so."""
    found = releases.read_all(connection, collection, newest=most)
    return list(_scores_of(connection, [each for _, each in found if not isinstance(each, ReleaseAltered)]))


def _scores_of(connection: sa.Connection, found: Sequence[Release]) -> Iterator[ReleaseScores]:
    known: dict[str, tuple[tuple[Score, ...], tuple[SliceScore, ...]]] = {}
    for release in found:
        newest = _newest_request(connection, release)
        if newest is None:
            continue
        if newest not in known:
            asked = requests.get(connection, newest)
            said: Mapping[str, Any] = asked.changes if asked else {}
            of_corpus = tuple(each for each in scores_in(said) if each.scope == "corpus")
            slices = tuple(SliceScore.of(each) for each in said.get("evaluation", {}).get("slices", ()))
            known[newest] = of_corpus, slices
        scores, slices = known[newest]
        yield ReleaseScores(release=release.number, created_at=release.created_at, scores=scores, slices=slices)


_newest_requests: dict[tuple[str, str, int, str], str] = {}
"""By store and release: it does not change any more, and is looked for among as many as it has partitions."""
MOST_REMEMBERED = 1_000


def _newest_request(connection: sa.Connection, release: Release) -> str | None:
    place = str(connection.engine.url), release.collection, release.number, release.digest
    if (known := _newest_requests.get(place)) is not None:
        return known
    newest = requests.newest_of(connection, [part.request_id for part in release.parts.values()])
    if newest is not None:
        if len(_newest_requests) >= MOST_REMEMBERED:
            _newest_requests.clear()
        _newest_requests[place] = newest
    return newest
