"""Which of a set of labels a document has, by the descriptions in the prompt.

The first version of the built-in classifier answers, also where a better one labels documents: a request has the same
answer after an upgrade.
"""

import functools
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace

from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.rehearsal.letters import tells
from ai_assets.rehearsal.reading import Reading
from ai_assets.stages.classify.base import Classification, Label
from ai_assets.stages.classify.first_version import FirstClassifier

_QUICK_STEPS = 1000
_READ_SENTENCES = 300
_TELLING = re.compile(r"[^\W\d_]{5}")


def classify(reading: Reading, names: tuple[str, ...], described: str = "") -> Classification:
    """The label of the document; `described` is what the schema says of the labels."""
    said = _first(reading, names, described)
    if not reading.second or said.runner_up is None:
        return said
    return replace(
        said, label=said.runner_up, runner_up=said.label, confidence=said.runner_up_confidence or 0.0,
        runner_up_confidence=said.confidence,
    )  # fmt: skip


def _first(reading: Reading, names: tuple[str, ...], described: str) -> Classification:
    if reading.quick:
        return _by_hash(reading, names)
    labels = _labels(f"{reading.prompt}\n{described}", names)
    said = _classifier(labels).classify([(reading.title, reading.body)])[0]
    if tells(said.evidence or ""):
        return said
    described = next(label.description for label in labels if label.name == said.label)
    evidence = _likest(described, reading.told[:_READ_SENTENCES])
    return replace(said, evidence=evidence, evidence_start=reading.body.find(evidence)) if evidence else said


def _likest(text: str, sentences: Sequence[str]) -> str:
    """The sentence that is most like the text: a model quotes what says something, and no salutation."""
    if not sentences:
        return ""
    rows = embedder().embed([text, *sentences])
    likeness = rows[1:] @ rows[0]
    return sentences[max(range(len(sentences)), key=lambda number: (round(float(likeness[number]), 6), -number))]


def _by_hash(reading: Reading, names: tuple[str, ...]) -> Classification:
    drawn = zlib.crc32(reading.text.encode("utf-8", "replace"))
    least = 1 / len(names)
    confidence = least + (1 - least) * (drawn // len(names) % _QUICK_STEPS + 1) / (_QUICK_STEPS + 1)
    return Classification(
        label=names[drawn % len(names)],
        confidence=confidence,
        runner_up=names[(drawn + 1) % len(names)] if len(names) > 1 else None,
        runner_up_confidence=(1 - confidence) / (len(names) - 1) if len(names) > 1 else None,
        evidence=reading.text.partition("\n")[0],
        evidence_start=0,
    )


@functools.lru_cache(maxsize=256)
def _labels(prompt: str, names: tuple[str, ...]) -> tuple[Label, ...]:
    said = [_description(prompt, name) or _spoken(name) for name in names]
    if not any(_TELLING.search(description) for description in said):
        said = [f"{description} document" for description in said]  # the classifier needs a word to compare with
    return tuple([Label(name=name, description=text) for name, text in zip(names, said, strict=True)])


@functools.lru_cache(maxsize=64)
def _classifier(labels: tuple[Label, ...]) -> FirstClassifier:
    return FirstClassifier(labels, embedder())


@functools.cache
def embedder() -> BuiltinEmbedder:
    return BuiltinEmbedder()


def _description(prompt: str, name: str) -> str:
    """From a line such as '- name: description'."""
    line = rf"^[ \t]*(?:[-*•]|\d+[.)])?[ \t]*[`\"'*]*{re.escape(name)}[`\"'*]*[ \t]*[:=–—-][ \t]*[\"']?(\S.*?)[\"',;]*$"
    match = re.search(line, prompt, re.MULTILINE)
    return match[1] if match else ""


def _spoken(name: str) -> str:
    """A name as words, for a label that nobody described."""
    return re.sub(r"[_\W]+", " ", name).strip() or name
