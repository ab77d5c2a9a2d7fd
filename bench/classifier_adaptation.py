"""The built-in classifier adapted to unlabelled documents of the collection, as `ai-assets adapt` does it.

Per draw of a corpus: up to 1,000 texts without labels, at most half of them, are what it is adapted to; 100 others
are golden labels, examples come from the rest, and what is left is judged. How much each part counts was chosen on the
developing corpora; `python -m bench.classifier_adaptation` measures the final ones, and with `developing` the others.
"""

import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ai_assets.collection.adaptations import embedder_space
from ai_assets.stages.classify.adaptation import Adaptation, FittedOn
from ai_assets.stages.classify.base import Label, unit
from ai_assets.stages.classify.builtin import BuiltinClassifier
from ai_assets.stages.classify.cross_validation import calibration_error
from ai_assets.stages.classify.descriptions import ReadText
from ai_assets.stages.classify.unlabelled import DOCUMENTS, DOUBT, TEMPERATURE, fit_adaptation
from bench.classifier import EMBEDDER, EXAMPLES, GOLDEN, whole
from bench.classifier_corpora import SOURCES, Corpus, Text, corpus
from bench.measure import Figure

PER_LABEL = 500
DRAWS = 10
EXAMPLE_DRAWS = 3
JUDGED = 60
"""Of each label, with examples; without them all that are left."""


@dataclass(frozen=True, kw_only=True)
class AdaptedRow:
    """One corpus; means over the draws."""

    corpus: str
    labels: str
    documents: float
    """That it was adapted to."""
    cosine: float
    plain: float
    adapted: float
    plain_ece: float
    ece: float
    """Both with 100 golden labels."""

    def __str__(self) -> str:
        numbers = (self.cosine, self.plain, self.adapted, self.plain_ece, self.ece)
        shown = " | ".join(f"{each:.3f}" for each in numbers)
        return f"| {self.corpus} | {self.labels} | {self.documents:.0f} | {shown} | {self.adapted - self.cosine:+.3f} |"


@dataclass(frozen=True, kw_only=True)
class ExamplesRow:
    corpus: str
    examples: int
    centroid: float
    plain: float
    adapted: float
    zero: float
    """Adapted, without examples, on the same texts."""

    def __str__(self) -> str:
        numbers = (self.zero, self.centroid, self.plain, self.adapted)
        return f"| {self.corpus} | {self.examples} | {' | '.join(f'{each:.3f}' for each in numbers)} |"


class ReadCorpus:
    """Each text read once."""

    def __init__(self, found: Corpus) -> None:
        self.found, self.names = found, list(found.descriptions)
        self.plain = BuiltinClassifier(self._labels({}), EMBEDDER)
        self.reads = [self.plain.read(each.title, each.text) for each in found.texts]
        self.scores = np.stack([self.plain.scores(read) for read in self.reads])
        self.vectors = np.stack([read.vector for read in self.reads]).astype(np.float64)
        self.truth = np.array([self.names.index(each.label) for each in found.texts])

    def _labels(self, shown: Mapping[str, Sequence[Text]]) -> list[Label]:
        return [
            Label(name=name, description=said, examples=tuple(whole(each) for each in shown.get(name, ())))
            for name, said in self.found.descriptions.items()
        ]

    def drawn(self, seed: int, *, skewed: bool) -> list[int]:
        """`skewed`: of each label there are as many documents as chance says, not equally many."""
        drawn = random.Random(seed)
        kept = [drawn.expovariate(1) if skewed else 1.0 for _ in self.names]
        numbers = [n for n, label in enumerate(self.truth) if drawn.random() < kept[label] / max(kept)]
        drawn.shuffle(numbers)
        return numbers

    def adaptation(self, numbers: Sequence[int]) -> Adaptation:
        fitted = fit_adaptation(self.scores[list(numbers)], self.vectors[list(numbers)])
        on = FittedOn(documents=len(numbers), of=len(numbers), seed=0, digest="", at="2026-11-28T00:00:00+00:00")
        return Adaptation(
            collection="bench", stage="bench", classifier="2", embedder=embedder_space(), labels="", fitted_on=on,
            temperature=TEMPERATURE, doubt=DOUBT, numbers=dict(zip(self.names, fitted.tolist(), strict=True)),
        )  # fmt: skip

    def classifier(self, adaptation: Adaptation | None, shown: Mapping[str, Sequence[Text]]) -> BuiltinClassifier:
        return BuiltinClassifier(self._labels(shown), EMBEDDER, adaptation=adaptation)

    def reads_of(self, numbers: Sequence[int]) -> list[ReadText]:
        return [self.reads[number] for number in numbers]


def measure() -> list[Figure]:
    figures = []
    for name, source in SOURCES.items():
        if source.final:
            zero, shown = rows_of(name)
            figures += [*map(_above_cosine, zero), _calibrated(zero[0]), *map(_not_below, shown)]
    return figures


def _above_cosine(row: AdaptedRow) -> Figure:
    return Figure(
        name=f"{row.corpus}, labels {row.labels}: adapted zero-shot above cosine", value=row.adapted - row.cosine,
        limit=0.05, at_most=False, detail=f"{row.adapted:.3f}; {row.plain:.3f} unadapted, cosine {row.cosine:.3f}",
    )  # fmt: skip


def _calibrated(row: AdaptedRow) -> Figure:
    """Of labels equally many: where only 400 texts are left to judge, confidence that is right to the last digit
    comes to 0.046 by chance."""
    return Figure(
        name=f"{row.corpus}, labels {row.labels}: ECE with 100 golden labels, adapted", value=row.ece, limit=0.05,
        at_most=True, detail=f"{row.plain_ece:.3f} unadapted",
    )  # fmt: skip


def _not_below(row: ExamplesRow) -> Figure:
    return Figure(
        name=f"{row.corpus}: adapted with {row.examples} examples above zero-shot and centroid",
        value=row.adapted - max(row.zero, row.centroid), limit=-0.01, at_most=False,
        detail=f"{row.adapted:.3f}; zero-shot {row.zero:.3f}, centroid {row.centroid:.3f}",
    )  # fmt: skip


def rows_of(name: str) -> tuple[list[AdaptedRow], list[ExamplesRow]]:
    with tempfile.TemporaryDirectory() as folder:
        found = ReadCorpus(corpus(name, Path(folder), PER_LABEL))
    zero = [_zero_shot(found, skewed=skewed) for skewed in (False, True)]
    return zero, _with_examples(found)


def _zero_shot(found: ReadCorpus, *, skewed: bool) -> AdaptedRow:
    described = EMBEDDER.embed(list(found.found.descriptions.values()))
    drawn = []
    for seed in range(DRAWS):
        numbers = found.drawn(seed, skewed=skewed)
        size = min(DOCUMENTS, len(numbers) // 2)
        golden, judged = numbers[size : size + GOLDEN], numbers[size + GOLDEN :]
        adapted = found.classifier(found.adaptation(numbers[:size]), {})
        nearest = (found.vectors[judged] @ described.T).argmax(axis=1) == found.truth[judged]
        by_plain = _judged(found, found.plain, golden, judged)
        drawn.append((size, float(nearest.mean()), *by_plain, *_judged(found, adapted, golden, judged)))
    documents, cosine, plain, plain_ece, adapted_right, ece = np.mean(drawn, axis=0).tolist()
    return AdaptedRow(
        corpus=found.found.name, labels="by chance" if skewed else "equally many", documents=documents, cosine=cosine,
        plain=plain, adapted=adapted_right, plain_ece=plain_ece, ece=ece,
    )  # fmt: skip


def _judged(
    found: ReadCorpus, made: BuiltinClassifier, golden: Sequence[int], judged: Sequence[int]
) -> tuple[float, float]:
    """Accuracy, and the calibration error after a fit to the golden ones."""
    known = np.stack([made.scores(read) for read in found.reads_of(golden)])
    scores = np.stack([made.scores(read) for read in found.reads_of(judged)])
    shares = made.fitted_to(known, found.truth[list(golden)]).sureness.shares(scores)
    right = shares.argmax(axis=1) == found.truth[list(judged)]
    return float(right.mean()), calibration_error(shares.max(axis=1), right)


def _with_examples(found: ReadCorpus) -> list[ExamplesRow]:
    rows = []
    for examples in EXAMPLES:
        drawn = [_examples_drawn(found, examples, seed) for seed in range(EXAMPLE_DRAWS)]
        centroid, plain, adapted, zero = np.mean(drawn, axis=0).tolist()
        rows.append(
            ExamplesRow(
                corpus=found.found.name, examples=examples, centroid=centroid, plain=plain, adapted=adapted, zero=zero
            )
        )
    return rows


def _examples_drawn(found: ReadCorpus, examples: int, seed: int) -> tuple[float, ...]:
    numbers = found.drawn(seed, skewed=False)
    size = min(DOCUMENTS, len(numbers) // 2)
    adaptation = found.adaptation(numbers[:size])
    shown: dict[str, list[Text]] = {}
    vectors, judged = [], []
    for label, name in enumerate(found.names):
        left = [number for number in numbers[size:] if found.truth[number] == label]
        last = min(JUDGED, max(1, len(left) // 2))
        judged += left[-last:]
        taken = left[:-last][:examples]
        shown[name] = [found.found.texts[number] for number in taken]
        vectors.append(found.vectors[taken].mean(axis=0))
    truth = found.truth[judged]

    def right(made: BuiltinClassifier) -> float:
        scores = np.stack([made.scores(read) for read in found.reads_of(judged)])
        return float((scores.argmax(axis=1) == truth).mean())

    nearest = (found.vectors[judged] @ unit(np.stack(vectors)).T).argmax(axis=1) == truth
    learned = (right(found.classifier(each, shown)) for each in (None, adaptation))
    return float(nearest.mean()), *learned, right(found.classifier(adaptation, {}))


if __name__ == "__main__":
    final = "developing" not in sys.argv[1:]
    for name, source in SOURCES.items():
        if source.final == final:
            for rows in rows_of(name):
                print(*rows, sep="\n", flush=True)
