"""What the built-in classifier would gain from unlabelled documents of the collection; it does not do this yet.

It labels 300 documents by their descriptions, fits a ridge regression from their vectors to those shares, three times
over, and adds it to the scores of others. How it counts was chosen on the developing corpora; `python -m
bench.classifier_adaptation` measures the final ones, and with `developing` those that may be looked at.
"""

import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from ai_assets.stages.classify.base import Label
from ai_assets.stages.classify.builtin import BuiltinClassifier
from bench.classifier import EMBEDDER, whole
from bench.classifier_corpora import SOURCES, Corpus, Text, corpus

PER_LABEL = 250
UNLABELLED = 300
DRAWS = 5
WEIGHT, RIDGE, ROUNDS = 10.0, 5.0, 3


def adapted(scores: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of unlabelled documents: the mean of their vectors, and what a vector's distance from it adds to each score."""
    centre = vectors.mean(axis=0)
    rows = vectors - centre
    inverse = np.linalg.inv(rows.T @ rows + RIDGE * np.eye(rows.shape[1]))
    head = np.zeros((rows.shape[1], scores.shape[1]))
    for _ in range(ROUNDS):
        head = inverse @ rows.T @ (_shares(scores + WEIGHT * rows @ head) - 1 / scores.shape[1])
    return centre, WEIGHT * head


def _shares(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return shares


def gains(found: Corpus, *, skewed: bool) -> tuple[float, float, float]:
    """Accuracy of the nearest description, of the classifier, and of the classifier with what it adapted to. `skewed`:
    of each label there are as many documents as chance says, not equally many."""
    names = list(found.descriptions)
    classifier = BuiltinClassifier([Label(name=n, description=d) for n, d in found.descriptions.items()], EMBEDDER)
    scores = np.stack([classifier._scores(each.title, each.text) for each in found.texts])
    vectors = EMBEDDER.embed([whole(each) for each in found.texts]).astype(np.float64)
    described = EMBEDDER.embed(list(found.descriptions.values()))
    truth = np.array([names.index(each.label) for each in found.texts])
    figures = []
    for seed in range(DRAWS):
        drawn = np.array(_drawn(found.texts, names, random.Random(seed), skewed=skewed))
        last = max(len(drawn) - UNLABELLED, len(drawn) // 2)
        judged, others = drawn[:last], drawn[last:]
        centre, head = adapted(scores[others], vectors[others])
        said = (vectors[judged] @ described.T, scores[judged], scores[judged] + (vectors[judged] - centre) @ head)
        figures.append([float((each.argmax(axis=1) == truth[judged]).mean()) for each in said])
    cosine, now, then = np.mean(figures, axis=0).tolist()
    return cosine, now, then


def _drawn(texts: tuple[Text, ...], names: list[str], drawn: random.Random, *, skewed: bool) -> list[int]:
    kept = {name: drawn.expovariate(1) if skewed else 1.0 for name in names}
    most = max(kept.values())
    numbers = [number for number, each in enumerate(texts) if drawn.random() < kept[each.label] / most]
    drawn.shuffle(numbers)
    return numbers


if __name__ == "__main__":
    final = "developing" not in sys.argv[1:]
    print("| corpus | labels | cosine | now | with 300 unlabelled documents |\n|---|---|---|---|---|")
    for name, source in SOURCES.items():
        if source.final == final:
            with tempfile.TemporaryDirectory() as folder:
                texts = corpus(name, Path(folder), PER_LABEL)
            for skewed in (False, True):
                row = " | ".join(f"{each:.3f}" for each in gains(texts, skewed=skewed))
                print(f"| {name} | {'by chance' if skewed else 'equally many'} | {row} |", flush=True)
