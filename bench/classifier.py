"""The built-in classifier on texts of others, beside the cosine to the descriptions, a centroid and its first version.

Of each corpus, 100 texts per label are judged; examples and golden labels are drawn from the others. `python -m
bench.classifier developing` measures the corpora that may be looked at while the classifier is changed, and
`python -m bench.classifier` the final ones, as `make bench` does. It takes Debian's `apt-get` and its mirror.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.stages.classify.base import Classification, Label, unit
from ai_assets.stages.classify.builtin import BuiltinClassifier
from ai_assets.stages.classify.first_version import FirstClassifier
from bench.classifier_corpora import SOURCES, Corpus, Text, corpus
from bench.measure import Figure

PER_LABEL = 300
JUDGED = 100
DRAWS = 3
EXAMPLES = (1, 5, 20)
GOLDEN = 100
BINS = 10
EMBEDDER = BuiltinEmbedder()


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one corpus came to with so many examples per label; means over the draws."""

    corpus: str
    examples: int
    cosine: float
    centroid: float | None
    first: float
    now: float
    first_ece: float
    ece: float
    golden_ece: float
    """With the confidence fitted to 100 golden labels."""


def measure() -> list[Figure]:
    figures = []
    for name, source in SOURCES.items():
        if source.final:
            figures += figures_of(rows_of(name))
    return figures


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    zero = rows[0]
    found = [
        Figure(
            name=f"{zero.corpus}: zero-shot above cosine", value=zero.now - zero.cosine, limit=0.05, at_most=False,
            detail=f"{zero.now:.3f} against {zero.cosine:.3f}",
        )
    ]  # fmt: skip
    for row in rows[1:]:
        least = max(zero.now, row.centroid or 0.0)
        found.append(
            Figure(
                name=f"{row.corpus}: {row.examples} examples above zero-shot and centroid", value=row.now - least,
                limit=-0.01, at_most=False,
                detail=f"{row.now:.3f}; zero-shot {zero.now:.3f}, centroid {row.centroid:.3f}",
            )
        )  # fmt: skip
    found += [
        Figure(
            name=f"{row.corpus}: ECE with 100 golden labels, {row.examples} examples", value=row.golden_ece, limit=0.05,
            at_most=True, detail=f"{row.ece:.3f} without them, {row.first_ece:.3f} of the first version",
        )
        for row in rows
    ]  # fmt: skip
    return found


def rows_of(name: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        found = corpus(name, Path(folder), PER_LABEL)
    return [_row(found, 0, draws=1), *(_row(found, number, draws=DRAWS) for number in EXAMPLES)]


def _row(found: Corpus, examples: int, draws: int) -> Row:
    drawn = [_drawn(found, examples, seed) for seed in range(draws)]
    means = [float(np.mean(column)) for column in zip(*drawn, strict=True)]
    cosine, centroid, first, now, first_ece, ece, golden_ece = means
    return Row(
        corpus=found.name, examples=examples, cosine=cosine, centroid=centroid if examples else None, first=first,
        now=now, first_ece=first_ece, ece=ece, golden_ece=golden_ece,
    )  # fmt: skip


def _drawn(found: Corpus, examples: int, seed: int) -> tuple[float, ...]:
    judged, shown, golden = _split(found, examples, seed)
    labels = [
        Label(name=name, description=said, examples=tuple(whole(each) for each in shown[name]))
        for name, said in found.descriptions.items()
    ]
    asked, truth = [(each.title, each.text) for each in judged], [each.label for each in judged]
    first = FirstClassifier(labels, EMBEDDER).classify(asked)
    classifier = BuiltinClassifier(labels, EMBEDDER)
    now = classifier.classify(asked)
    fitted = classifier.calibrated([(each.title, each.text, each.label) for each in golden]).classify(asked)
    return (
        _nearest(judged, EMBEDDER.embed(list(found.descriptions.values())), list(found.descriptions)),
        _nearest(judged, _centroids(shown), list(shown)) if examples else 0.0,
        accuracy(first, truth),
        accuracy(now, truth),
        calibration_error(first, truth),
        calibration_error(now, truth),
        calibration_error(fitted, truth),
    )


def _split(found: Corpus, examples: int, seed: int) -> tuple[list[Text], dict[str, list[Text]], list[Text]]:
    """The judged texts are the same in every draw; of a label with few texts at most half are judged."""
    drawn = random.Random(seed)
    judged, shown, rest = [], {}, []
    for label in found.descriptions:
        texts = [each for each in found.texts if each.label == label]
        last = min(JUDGED, len(texts) // 2)
        judged += texts[-last:]
        others = texts[:-last]
        drawn.shuffle(others)
        shown[label] = others[:examples]
        rest += others[examples:]
    drawn.shuffle(rest)
    return judged, shown, rest[:GOLDEN]


def whole(text: Text) -> str:
    return f"{text.title}\n{text.text}" if text.title else text.text


def _centroids(shown: dict[str, list[Text]]) -> np.ndarray:
    return np.stack([EMBEDDER.embed([whole(each) for each in texts]).mean(axis=0) for texts in shown.values()])


def _nearest(judged: Sequence[Text], rows: np.ndarray, names: Sequence[str]) -> float:
    likeness = EMBEDDER.embed([whole(each) for each in judged]) @ unit(rows).T
    return float(
        np.mean([names[best] == each.label for best, each in zip(likeness.argmax(axis=1), judged, strict=True)])
    )


def accuracy(found: Sequence[Classification], truth: Sequence[str]) -> float:
    return float(np.mean([each.label == label for each, label in zip(found, truth, strict=True)]))


def calibration_error(found: Sequence[Classification], truth: Sequence[str]) -> float:
    """Expected calibration error: how far confidence is from the share of right answers, in bins of a tenth."""
    sure = np.array([each.confidence for each in found])
    right = np.array([each.label == label for each, label in zip(found, truth, strict=True)], dtype=float)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return sum(abs(float((sure - right)[bins == number].sum())) for number in range(BINS)) / len(found)


def table(rows: Sequence[Row]) -> str:
    """As it stands in docs/classifier.md."""
    lines = [
        "| corpus | examples | cosine | centroid | first version | now | ECE, first version | ECE | ECE, 100 golden |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        centroid = "" if row.centroid is None else f"{row.centroid:.3f}"
        figures = [f"{row.cosine:.3f}" if not row.examples else "", centroid, f"{row.first:.3f}", f"{row.now:.3f}"]
        figures += [f"{each:.3f}" for each in (row.first_ece, row.ece, row.golden_ece)]
        lines.append(f"| {row.corpus} | {row.examples} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    final = "developing" not in sys.argv[1:]
    for name, source in SOURCES.items():
        if source.final == final:
            print(table(rows_of(name)), flush=True)
