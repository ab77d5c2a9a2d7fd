"""What adapting a stage of the built-in classifier would change: fitted to a sample, held to all documents.

Documents are those of the lake, as they were last computed; nothing is written here. A golden document is judged by a
classifier that was fitted without it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.collection.adaptations import embedder_space, labels_of
from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.planning.preview import PreviewWork
from ai_assets.run.datasets.admitted import admitted
from ai_assets.run.datasets.builtin_classifier import adapted_classifier, unfitted_classifier
from ai_assets.run.datasets.classification import COLUMNS
from ai_assets.run.datasets.golden_items import GoldenItems
from ai_assets.run.datasets.labelling import input_digest
from ai_assets.signoff.corrections import uncorrected
from ai_assets.signoff.golden_labels import partitions_of
from ai_assets.stages.classify.adaptation import Adaptation, FittedOn
from ai_assets.stages.classify.base import READ_CHARACTERS, Label
from ai_assets.stages.classify.builtin import ALGORITHM_VERSION, BuiltinClassifier
from ai_assets.stages.classify.cross_validation import FoldScores, JudgedLabels, calibration_error, judged_apart
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.classify.unlabelled import DOUBT, LEAST_DOCUMENTS, TEMPERATURE, fit_adaptation
from ai_assets.storage.digest import digest

if TYPE_CHECKING:
    import numpy as np

SHOWN = 10
LABELLED = ("document_id", "input_digest", "label", "confidence")
CORRECTABLE = ("corrected_by", "model_label")
Progress = Callable[[int, int], None]


class AdaptationRefused(UserError):
    """There is nothing that the stage could be adapted by."""

    def __init__(self, collection: str, stage: str, found: str) -> None:
        super().__init__(f"Stage '{stage}' of {collection} cannot be adapted: {found}.")


@dataclass(frozen=True, kw_only=True)
class DrawnText:
    document: str
    title: str
    text: str
    digest: str
    """Of all that the classifier reads."""


@dataclass(frozen=True, kw_only=True)
class DrawnSample:
    """Documents, and what the descriptions alone say of them."""

    texts: Sequence[DrawnText]
    of: int
    """How many texts there were to draw from."""
    scores: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True, kw_only=True)
class LabelChange:
    """A document that would get another label."""

    document: str
    title: str
    before: str
    before_confidence: float
    after: str
    after_confidence: float


@dataclass(frozen=True, kw_only=True)
class GoldenJudgement:
    """Of documents with a golden label, each judged by a fit without it."""

    documents: int
    before: JudgedLabels
    after: JudgedLabels


@dataclass(kw_only=True)
class AdaptationEffect:
    """On the labels that there are."""

    labelled: int = 0
    """Documents with a label of the text as it is."""
    changed: int = 0
    corrected: int = 0
    """Of those that would change, how many people have corrected: their label stays."""
    unlabelled: int = 0
    """Documents that the stage has not labelled yet."""
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[LabelChange] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ProposedAdaptation:
    adaptation: Adaptation
    effect: AdaptationEffect
    golden: GoldenJudgement | None


class StageDocuments:
    """Documents that a stage applies to, over all partitions."""

    def __init__(self, work: PreviewWork, stage: ClassifyStage) -> None:
        self._work, self._stage = work, stage
        self.partitions = partitions_of(work.stores, work.collection.name, "documents")

    def of(self, partition: str) -> Iterator[Row]:
        documents = self._work.manifest("documents", partition)
        earlier = {name: self._work.manifest(name, partition) for name in self._stage.when}
        made = {name: manifest for name, manifest in earlier.items() if manifest is not None}
        if documents is None or len(made) < len(earlier):
            return
        for row, _ in admitted(self._work, self._stage, documents, made, COLUMNS, conditions_only=True):
            yield {**row, "title": row["title"] or "", "text": row["text"][:READ_CHARACTERS]}

    def labelled(self, partition: str) -> Iterator[Row]:
        """As the classifier made them; `corrected_by` says who thinks otherwise."""
        manifest = self._work.previous(self._stage.name, partition)
        if manifest is None:
            return
        correctable = "corrected" in manifest.stats
        for row in self._work.rows(manifest, [*LABELLED, *(CORRECTABLE if correctable else ())]):
            yield {**(uncorrected(row) if correctable else row), "corrected_by": row.get("corrected_by")}

    def statuses(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for partition in self.partitions:
            if (manifest := self._work.manifest("documents", partition)) is not None:
                found.update(manifest.stats["statuses"])
        return found


class Adapting:
    """One proposal for one stage."""

    def __init__(self, work: PreviewWork, stage: ClassifyStage, *, size: int, seed: int) -> None:
        self._work, self._stage, self._size, self._seed = work, stage, size, seed
        self._documents = StageDocuments(work, stage)
        self._number = {name: number for number, name in enumerate(stage.names)}

    def proposed(self, at: str, say: Callable[[str], None], advance: Progress) -> ProposedAdaptation:
        say(f"Drawing {plural(self._size, 'document')}")
        drawn, golden, population = self._drawn()
        self._require_enough(drawn, population)
        say(f"Fitting to {plural(len(drawn), 'document')} without their labels")
        sample = self._read(drawn, population)
        adaptation = self._fitted(sample, at)
        after = adapted_classifier(self._work, self._stage, adaptation)
        judged = self._judged(golden, sample, at) if golden else None
        if golden:
            after = after.fitted_to(_scores(after, golden), self._numbers(golden))
        say("Comparing with the labels as they are")
        return ProposedAdaptation(adaptation=adaptation, effect=self._effect(after, advance), golden=judged)

    @cached_property
    def _golden_labels(self) -> Mapping[str, str]:
        if self._work.collection.judged_stage != self._stage or not self._work.collection.judges_labels:
            return {}
        golden = GoldenItems(self._work)
        return {name: label for name, label in golden.labels.items() if name not in golden.teaching}

    def _drawn(self) -> tuple[list[DrawnText], list[DrawnText], int]:
        """The sample; golden documents; and how many texts there were to draw from. A text that is there several times
        counts once."""
        kept: list[tuple[int, DrawnText]] = []
        golden: list[DrawnText] = []
        seen: set[int] = set()
        for partition in self._documents.partitions:
            for row in self._documents.of(partition):
                read = input_digest(self._stage, row["title"], row["digest"])
                text = DrawnText(document=row["document_id"], title=row["title"], text=row["text"], digest=read)
                if row["document_id"] in self._golden_labels:
                    golden.append(text)
                rank = int.from_bytes(hashlib.sha256(f"{self._seed}:{read}".encode()).digest()[:12])
                if rank in seen:
                    continue
                seen.add(rank)
                if len(kept) < self._size:
                    heapq.heappush(kept, (-rank, text))
                elif -rank > kept[0][0]:
                    heapq.heapreplace(kept, (-rank, text))
        golden.sort(key=lambda each: digest([self._seed, each.document]))  # so that folds are by chance
        return [text for _, text in sorted(kept, key=lambda each: -each[0])], golden, len(seen)

    def _require_enough(self, drawn: Sequence[DrawnText], population: int) -> None:
        if len(drawn) >= LEAST_DOCUMENTS:
            return
        statuses = self._documents.statuses()
        if not statuses:
            found = f"no document was computed yet; run it first: ai-assets run {self._work.collection.name}"
        elif not statuses.get("ok") and statuses.get("quarantined"):
            found = f"none of its documents can be read, {statuses['quarantined']} are quarantined"
        elif population >= LEAST_DOCUMENTS:
            found = f"{plural(len(drawn), 'document is', 'documents are')} too few; draw at least {LEAST_DOCUMENTS}"
        else:
            found = f"it applies to {plural(population, 'different text')}, and a fit takes at least {LEAST_DOCUMENTS}"
        raise AdaptationRefused(self._work.collection.name, self._stage.name, found)

    def _read(self, drawn: Sequence[DrawnText], population: int) -> DrawnSample:
        """By the labels' descriptions alone, whatever the stage has learnt, so that a correction leaves the fit as it
        is."""
        import numpy as np

        labels = [Label(name=each.name, description=each.description) for each in self._stage.labels]
        classifier = BuiltinClassifier(labels, BuiltinEmbedder())
        reads = [classifier.read(each.title, each.text) for each in drawn]
        return DrawnSample(
            texts=drawn,
            of=population,
            scores=np.stack([classifier.scores(read) for read in reads]),
            vectors=np.stack([read.vector for read in reads]).astype(np.float64),
        )

    def _fitted(self, sample: DrawnSample, at: str, without: Set[str] = frozenset()) -> Adaptation:
        """`without`: digests of texts that are left out."""
        kept = [number for number, each in enumerate(sample.texts) if each.digest not in without]
        numbers = fit_adaptation(sample.scores[kept], sample.vectors[kept])
        said = digest(sorted([sample.texts[number].document, sample.texts[number].digest] for number in kept))
        return Adaptation(
            collection=self._work.collection.name,
            stage=self._stage.name,
            classifier=ALGORITHM_VERSION,
            embedder=embedder_space(),
            labels=labels_of(self._stage),
            fitted_on=FittedOn(documents=len(kept), of=sample.of, seed=self._seed, digest=said, at=at),
            temperature=TEMPERATURE,
            doubt=DOUBT,
            numbers=dict(zip(self._stage.names, numbers.tolist(), strict=True)),
        )

    def _numbers(self, golden: Sequence[DrawnText]) -> np.ndarray:
        import numpy as np

        return np.array([self._number[self._golden_labels[each.document]] for each in golden])

    def _judged(self, golden: Sequence[DrawnText], sample: DrawnSample, at: str) -> GoldenJudgement:
        truth = self._numbers(golden)

        def without(apart: np.ndarray) -> FoldScores:
            texts = {each.digest for each, is_apart in zip(golden, apart, strict=True) if is_apart}
            made = adapted_classifier(self._work, self._stage, self._fitted(sample, at, texts))
            return made, _scores(made, golden)

        after = judged_apart(truth, without)
        return GoldenJudgement(documents=len(golden), before=self._judged_before(golden, truth), after=after)

    def _judged_before(self, golden: Sequence[DrawnText], truth: np.ndarray) -> JudgedLabels:
        import numpy as np

        before = unfitted_classifier(self._work, self._stage)
        if isinstance(before, BuiltinClassifier):
            made, scores = before, _scores(before, golden)
            return judged_apart(truth, lambda _: (made, scores))
        said = before.classify([(each.title, each.text) for each in golden])
        right = np.array([self._number[each.label] for each in said]) == truth
        ece = calibration_error(np.array([each.confidence for each in said]), right)
        return JudgedLabels(accuracy=float(right.mean()), ece=ece, fitted=False)

    def _effect(self, after: BuiltinClassifier, advance: Progress) -> AdaptationEffect:
        found, kept = AdaptationEffect(), list[tuple[str, LabelChange]]()
        total = len(self._documents.partitions)
        for done, partition in enumerate(self._documents.partitions, start=1):
            labelled = ByDocument(self._documents.labelled(partition))
            for row in self._documents.of(partition):
                before = labelled.one(row["document_id"])
                wanted = input_digest(self._stage, row["title"], row["digest"])
                if before is None or before["input_digest"] != wanted or before["label"] not in self._number:
                    found.unlabelled += 1
                    continue
                found.labelled += 1
                change = self._change(row, before, after)
                if change is not None:
                    found.changed += 1
                    found.corrected += before["corrected_by"] is not None
                    found.moves[change.before, change.after] += 1
                    kept = sorted([*kept, (wanted, change)], key=lambda each: each[0])[:SHOWN]
            advance(done, total)
        found.examples = [change for _, change in kept]
        return found

    def _change(self, row: Row, before: Row, after: BuiltinClassifier) -> LabelChange | None:
        shares = after.sureness.shares(after.scores(after.read(row["title"], row["text"])))
        best = int(shares.argmax())
        if self._stage.names[best] == before["label"]:
            return None
        return LabelChange(
            document=row["document_id"],
            title=row["title"],
            before=before["label"],
            before_confidence=before["confidence"],
            after=self._stage.names[best],
            after_confidence=float(shares[best]),
        )


def _scores(classifier: BuiltinClassifier, texts: Sequence[DrawnText]) -> np.ndarray:
    import numpy as np

    return np.stack([classifier.scores(classifier.read(each.title, each.text)) for each in texts])


def described(found: ProposedAdaptation) -> dict[str, Any]:
    """As JSON, without the numbers."""
    fitted_on, effect, golden = found.adaptation.fitted_on, found.effect, found.golden
    return {
        "collection": found.adaptation.collection,
        "stage": found.adaptation.stage,
        "digest": found.adaptation.digest,
        "fitted_on": vars(fitted_on),
        "price_usd": 0.0,
        "labelled": effect.labelled,
        "changed": effect.changed,
        "changed_and_corrected": effect.corrected,
        "not_labelled_yet": effect.unlabelled,
        "moves": [{"before": a, "after": b, "documents": n} for (a, b), n in effect.moves.most_common()],
        "examples": [vars(each) for each in effect.examples],
        "golden": golden
        and {"documents": golden.documents, "before": vars(golden.before), "after": vars(golden.after)},
    }
