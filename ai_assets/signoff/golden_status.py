"""Where the golden labels of a collection stand: what is there, what waits, how many are missing for its gates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.collection.loading import Collection
from ai_assets.evaluation.decidable import Decidable, decidable, decidable_at_any_time
from ai_assets.evaluation.gates import Gate
from ai_assets.signoff import corrections, golden_labels, golden_samples

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

EVALUATION = "evaluation_scores"
ACCURACY = "accuracy"
"""The metric that is a share of right labels, so that an exact rule says when it is decided."""
OF_ALL = ("min", "lower bound", "any time")
"""Gates that ask for so much over all golden labels, and not against another release or in each slice."""


@dataclass(frozen=True, kw_only=True)
class GateStanding:
    """A floor under accuracy, and what it takes to decide it."""

    gate: str
    standing: Decidable


@dataclass(frozen=True, kw_only=True)
class GoldenStatus:
    collection: str
    stage: str | None
    """The one that golden labels judge; None of a collection that has golden queries alone."""
    queries: int
    """Golden queries that judge its search."""
    by_source: Mapping[str, int]
    """Labels of the present texts: of the file, and of people by how their documents were chosen."""
    scored: int
    """Labels that the metrics count: all but those of uncertain documents."""
    right: int
    """Of those, where the model says the same."""
    disagreed: Sequence[str]
    """Documents of which people say different things."""
    outdated: int
    """Labels of texts that have changed since, or are gone."""
    drawn: int
    waiting: int
    """Documents of the samples that still lack a label."""
    unsure: int
    """Documents of the samples of which somebody could not say what they are, and nobody else did."""
    gates: Sequence[GateStanding]
    retired: Sequence[Mapping[str, str]]
    """`item`, `by` and `why` of what judges nothing any more; without `by` where the file says so."""
    judged: "LastJudged"

    @property
    def missing(self) -> int | None:
        """What the gate that needs most lacks; None where no number of labels would do, 0 where all are decided."""
        found = [gate.standing.missing for gate in self.gates]
        return None if None in found else max((number for number in found if number is not None), default=0)


@dataclass(frozen=True, kw_only=True)
class LastJudged:
    """What the newest scores say of the golden items that they are by; nothing of scores of earlier versions."""

    set: int | None = None
    digest: str = ""
    leaked: Sequence[Mapping[str, Any]] = ()
    """`kind`, `item`, `where` and `share` of golden items that a prompt or an example shows."""
    disputed: Sequence[Mapping[str, Any]] = ()
    """`document` and `said` of those of which not all say the same."""
    unknown: Sequence[str] = ()
    """Documents of the golden files that the source does not have, with file and line."""


def last_judged(stores: "Stores", collection: str) -> LastJudged:
    manifests = (
        stores.lake.manifest(collection, EVALUATION, partition)
        for partition in golden_labels.partitions_of(stores, collection, EVALUATION)
    )
    made = [manifest for manifest in manifests if manifest is not None and "golden" in manifest.stats]
    if not made:
        return LastJudged()
    stats = max(made, key=lambda manifest: manifest.written_at).stats
    golden, details = stats["golden"], stats["details"]
    return LastJudged(
        set=golden["set"], digest=golden["digest"], leaked=details.get("leaked", ()),
        disputed=details.get("disputed", ()), unknown=details.get("unknown", ()),
    )  # fmt: skip


def golden_status(collection: Collection, stores: "Stores") -> GoldenStatus:
    """Raises `GoldenLabelRefused` where the collection has nothing golden: neither queries nor a stage to label."""
    judged = last_judged(stores, collection.name)
    if collection.golden_queries and not collection.judges_labels:
        return _of_queries(collection, judged)
    stage = golden_labels.stage_of(collection)
    with stores.state.read() as connection:
        found = golden_labels.in_force(connection, collection)
        asked = golden_samples.asked(connection, collection, stage)
        given = corrections.in_force(connection, collection)
    present = golden_labels.of_present_texts(stores, collection.name, found.agreed.values())
    taught = {item.document_id for item in given.taught.get(stage.name, ())} | collection.shown
    out = taught | found.retired.keys()
    if collection.settings.golden.leaked == "exclude":
        out |= {each["item"] for each in judged.leaked if each["kind"] == "label"}
    truth = {item.document: item.label for item in collection.golden_labels}
    truth |= {item.document_id: item.label for item in present if item.stratum in golden_labels.SCORED}
    said = golden_labels.model_labels(stores, collection.name, stage.name)
    counted = {name: label for name, label in truth.items() if name in said and name not in out}
    right = sum(said[name] == label for name, label in counted.items())
    gates = [
        GateStanding(gate=gate.in_words, standing=_standing(gate, len(counted), right))
        for gate in collection.settings.score_gates
        if gate.metric == ACCURACY and gate.use is None and gate.stage in (None, stage.name) and gate.judge in OF_ALL
    ]
    short = [
        item
        for item in asked
        if not item.is_retired and sum(each.answer == "label" for each in item.answers) < item.opinions
    ]
    return GoldenStatus(
        collection=collection.name,
        stage=stage.name,
        queries=_judging_queries(collection, judged),
        by_source={"file": len(collection.golden_labels), **Counter(item.stratum for item in present)},
        scored=len(counted),
        right=right,
        disagreed=sorted(found.disagreed),
        outdated=len(found.agreed) - len(present),
        drawn=len(asked),
        waiting=sum(not any(each.answer == "unsure" for each in item.answers) for item in short),
        unsure=sum(any(each.answer == "unsure" for each in item.answers) for item in short),
        gates=gates,
        retired=[
            *({"item": name, "by": item.author, "why": item.note} for name, item in sorted(found.retired.items())),
            *_retired_in_files(collection),
        ],
        judged=judged,
    )


def _of_queries(collection: Collection, judged: LastJudged) -> GoldenStatus:
    return GoldenStatus(
        collection=collection.name, stage=None, queries=_judging_queries(collection, judged), by_source={}, scored=0,
        right=0, disagreed=(), outdated=0, drawn=0, waiting=0, unsure=0, gates=(),
        retired=_retired_in_files(collection), judged=judged,
    )  # fmt: skip


def _judging_queries(collection: Collection, judged: LastJudged) -> int:
    """But for those that a prompt showed when they were looked at last."""
    leaked = {each["item"] for each in judged.leaked if each["kind"] == "query"}
    out = leaked if collection.settings.golden.leaked == "exclude" else set()
    return sum(each.query not in out for each in collection.golden_queries)


def _retired_in_files(collection: Collection) -> list[dict[str, str]]:
    return [{"item": name, "by": "", "why": why} for name, why in sorted(collection.retired_in_files.items())]


def _standing(gate: Gate, labels: int, right: int) -> Decidable:
    if gate.at == "any_time":
        return decidable_at_any_time(gate.least, labels, right, gate.confidence)
    return decidable(gate.least, labels, right)
