"""`classify`: one label of a declared set, by a model or by the built-in classifier."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.device_names import DeviceChoice
from ai_assets.base.yaml_settings import Strict, refuse, wrong
from ai_assets.stages.base import PromptStage, Row
from ai_assets.stages.classify.label_text import NamedLabels, alike, named_labels
from ai_assets.stages.columns import BUILTIN_CLASSIFY, CORRECTED, Columns, ColumnType
from ai_assets.stages.prompt import DEFAULTS, clean
from ai_assets.stages.quotes import find_quote, quotes_of, wrong_quotes
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer


LABEL_PROMPT = DEFAULTS / "classify_label.md"
MOST_LEARNED = 5000
LABEL_TOKENS = 32
MOST_TOGETHER = 1.02
"""Probabilities in half precision come to as much together, where a server rounds them."""
MOST_SHOWN = 100
"""In a prompt."""

_CHAT_ONLY = frozenset({
    "prompt", "after", "answer", "examples", "learn", "logprobs", "temperature", "seed", "max_output_tokens",
})  # fmt: skip
_OF_BUILTIN = frozenset({"name", "kind", "backend", "labels", "when", "route", "learn", "adapted", "compute", "hold"})
_OF_TORCH = frozenset({
    "name", "kind", "backend", "llm", "device", "labels", "when", "max_input_characters", "windows", "priority",
    "compute", "hold",
})  # fmt: skip
OF_BUILTIN = (
    "A row is a document with its label ({labels}), confidence, runner-up and an evidence sentence. A person's "
    "correction overrides the classifier's label. Stale when the document, the labels, the classifier or the "
    "corrections change."
)
OF_TORCH = (
    "A row is a document with its label ({labels}), confidence and runner-up, by a model that is loaded here. A "
    "person's correction overrides the model's label. Stale when the document, the labels, the model or the "
    "corrections change."
)


class LabelSettings(Strict):
    name: str = Field(min_length=1, max_length=80)
    description: str = Field(min_length=10)
    """What such a document is, in a sentence or three: the classifier reads this."""
    examples: tuple[str, ...] = ()
    """Short phrases typical of such documents; never taken from the golden set (the load refuses it)."""
    output: str | None = Field(default=None, min_length=1)
    """What a classification model calls it (its `id2label`), where that is another name."""

    @property
    def said_as(self) -> str:
        return self.output or self.name


class ClassifyStage(PromptStage):
    """Gives each document one label of a declared set, with confidence, runner-up and an evidence sentence."""

    DESCRIPTION: ClassVar[str] = (
        "A row is a document with its label ({labels}), confidence, reason and a quote as evidence; or why it has "
        "none. A person's correction overrides the model's label. Stale when the document, the prompt, the labels, "
        "the model, what the prompt uses or the corrections change."
    )
    COLUMNS: ClassVar[Mapping[str, ColumnType]] = {
        "label": "text",
        "confidence": "number",
        "confidence_from": "text",
        "runner_up": "text",
        "runner_up_confidence": "number",
        "rationale": "text",
        "evidence": "text",
        "evidence_start": "integer",
        "evidence_found": "truth",
        **CORRECTED,
    }
    HEADLINE: ClassVar[str] = "label"
    PROMPT: ClassVar[Path] = DEFAULTS / "classify.md"
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (15, 80)
    AROUND_BYTES: ClassVar[int] = 1500

    kind: Literal["classify"]
    route: str | None = None
    backend: Literal["builtin", "torch"] = "builtin"
    """Without a route. `torch`: a sequence classifier that is loaded here, and given the text alone."""
    llm: str | None = Field(default=None, alias="model", min_length=1)
    """Of `torch`: a folder relative to this file, or an installed package that has one inside."""
    device: DeviceChoice | None = None
    """Where it runs; `auto`, the default, takes a GPU where there is one."""
    ask: Literal["chat", "predict"] = "chat"
    """On a route: a chat model is asked in words, a classification model (`tei`, `kserve`) for its own labels."""
    labels: tuple[LabelSettings, ...] = Field(min_length=2)
    examples: tuple[str, ...] = ()
    """Documents with a golden label that the prompt shows as examples; the evaluation leaves them out."""
    learn: int = Field(default=0, ge=0, le=MOST_LEARNED)
    """How many of the newest corrections it is shown as examples; their documents judge nothing meanwhile. On a route
    at most 100, because each is part of every prompt."""
    adapted: str | None = Field(default=None, min_length=1)
    """A file that `ai-assets adapt` made, relative to the declaration: what the built-in classifier took from
    documents of the collection without labels."""
    answer: Literal["reasoned", "label"] = "reasoned"
    """`label`: the label alone, as plain text, which small models can give; without a reason and a quote."""
    logprobs: bool = True
    """Take the confidence from the probability of the label's tokens, where the endpoint gives it."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[LabelSettings, ...]) -> tuple[LabelSettings, ...]:
        counted = Counter(label.name for label in labels)
        refuse(wrong(f"label '{name}' is declared twice") for name, count in counted.items() if count > 1)
        outputs = Counter(label.said_as for label in labels)
        refuse(wrong(f"two labels have the output '{name}'") for name, count in outputs.items() if count > 1)
        return labels

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        """A label is short, and a small model may go on talking."""
        if isinstance(data, Mapping) and data.get("answer") == "label":
            return {"max_output_tokens": LABEL_TOKENS, **data}
        return data

    @model_validator(mode="after")
    def _one_backend(self) -> Self:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[PydanticCustomError]:
        if self.route is not None and "backend" in self.model_fields_set:
            yield wrong("a stage has a 'backend' or a 'route', not both", "backend")
        if self.route is not None and self.learn > MOST_SHOWN:
            yield wrong(f"should be at most {MOST_SHOWN} on a route: each is part of every prompt", "learn")
        if self.asks_labels:
            for key in sorted(self.model_fields_set & _CHAT_ONLY):
                yield wrong(f"'{key}' has no meaning with 'ask: predict': the model is given the text alone", key)
        if self.route is not None and self.adapted is not None:
            yield wrong(
                "only the built-in classifier is adapted: a stage has a 'route' or 'adapted', not both", "adapted"
            )
        if self.answer == "label":
            for one, other in alike(self.names):
                said = "no answer in words tells them apart, in which case and punctuation do not count; rename one"
                yield wrong(f"labels '{one}' and '{other}' read the same with 'answer: label': {said}", "labels")
            if not all(name.strip() for name in self.names):
                yield wrong("a label is blank, and 'answer: label' needs its words in the answer", "labels")
        if self.is_local:
            yield from self._misfits_of_local()
        elif self.route is None:
            for key in sorted(self.model_fields_set - _OF_BUILTIN - {"llm", "device"}):
                yield wrong(f"'{key}' has no meaning without a 'route': the built-in classifier has no prompt", key)
        for key, name in (("llm", "model"), ("device", "device")):
            if key in self.model_fields_set and not self.is_local:
                yield wrong("it has no meaning without 'backend: torch', which loads a model here", name)
        if not (self.is_local or self.asks_labels) and (outputs := [each for each in self.labels if each.output]):
            said = "which has a meaning with 'ask: predict' and 'backend: torch' alone"
            yield wrong(f"'{outputs[0].name}' has an 'output', {said}", "labels")

    def _misfits_of_local(self) -> Iterator[PydanticCustomError]:
        if self.llm is None:
            yield wrong(
                "is missing: write a folder with a sequence classifier, or an installed package with one", "model"
            )
        for key in sorted(self.model_fields_set - _OF_TORCH - {"route"}):
            yield wrong(f"'{key}' has no meaning with 'backend: torch': the model is given the text alone", key)

    @property
    def is_builtin(self) -> bool:
        return self.route is None and self.backend == "builtin"

    @property
    def is_local(self) -> bool:
        """A model is loaded here for it."""
        return self.route is None and self.backend == "torch"

    @property
    def columns(self) -> Columns:
        return super().columns if self.route else BUILTIN_CLASSIFY

    def describe(self) -> str:
        labels = ", ".join(label.name for label in self.labels)
        without_route = OF_TORCH if self.is_local else OF_BUILTIN
        return (self.DESCRIPTION if self.route else without_route).format(labels=labels)

    @property
    def asks_labels(self) -> bool:
        return self.ask == "predict"

    @property
    def asks_logprobs(self) -> bool:
        return self.logprobs

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.labels]

    def answer_schema(self, folder: Path) -> Mapping[str, Json] | None:
        return None if self.answer == "label" else classification_schema(self.names)

    @property
    def own_prompt(self) -> Path:
        return LABEL_PROMPT if self.answer == "label" else self.PROMPT

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(self.names) if self.answer == "label" else ()

    @property
    def reads_cut_off(self) -> bool:
        return self.answer == "label"

    def demonstrations(self) -> Sequence[tuple[str, str]]:
        """Each label's description as a document of it: small models repeat the form of what they are shown, and do
        not follow a description of it."""
        return [(label.description, label.name) for label in self.labels] if self.answer == "label" else ()

    def prompt_values(self) -> Mapping[str, Any]:
        labels = [
            {"name": label.name, "description": label.description, "examples": list(label.examples)}
            for label in self.labels
        ]
        return {**super().prompt_values(), "labels": labels}

    def complaint(self, answer: "Answer", text: str) -> str | None:
        if self.asks_labels:
            return None
        if self.answer == "label":
            problem = _not_one(named_labels(answer.text, self.names))
            return None if problem is None else f"{problem}; answer with one of these alone: {', '.join(self.names)}"
        return wrong_quotes(quotes_of(answer.data), text)

    def read(self, answer: "Answer", text: str) -> Row | str:
        if self.asks_labels:
            return _predicted(self, answer)
        return _label_alone(self, answer) if self.answer == "label" else _classification(self, text, answer)


def _not_one(found: NamedLabels) -> str | None:
    if found.label is not None:
        return None
    if found.names:
        return f"the answer names several labels ({', '.join(found.names)})"
    return f"the answer names no label of this stage{f' ({found.doubt})' if found.doubt else ''}"


def _label_alone(stage: ClassifyStage, answer: "Answer") -> Row | str:
    found = named_labels(answer.text, stage.names)
    if (problem := _not_one(found)) is not None:
        return f"invalid_output: {problem}"
    measured = _joint_probability(answer.token_logprobs or (), found.start, found.end)
    return {
        "label": found.label,
        "confidence": measured,
        "confidence_from": None if measured is None else "logprobs",
        "runner_up": None,
        "runner_up_confidence": None,
    }


def classification_schema(labels: Sequence[str]) -> Mapping[str, Json]:
    """The label comes first, so that its probability is that of a judgement and not of a reason already written."""
    return {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": list(labels)},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "rationale": {"type": "string"},
            "evidence": {"type": "string", "description": "A passage copied word for word from the document."},
        },
        "required": ["label", "confidence", "rationale", "evidence"],
        "additionalProperties": False,
    }


def _classification(stage: ClassifyStage, text: str, answer: "Answer") -> Row | str:
    data = answer.data
    names = [label.name for label in stage.labels]
    if not isinstance(data, Mapping) or data.get("label") not in names:
        return "invalid_output: no label of this stage"
    label = data["label"]
    measured = label_probability(str(label), answer.token_logprobs)
    confidence = _probability(data.get("confidence")) if measured is None else measured
    others = [name for name in names if name != label]
    only = others[0] if len(others) == 1 and confidence is not None else None
    found = find_quote(str(data.get("evidence") or ""), text)
    return {
        "label": label,
        "confidence": confidence,
        "confidence_from": None if confidence is None else "stated" if measured is None else "logprobs",
        # Of more than two labels an answer does not say which came second.
        "runner_up": only,
        "runner_up_confidence": 1 - confidence if only and confidence is not None else None,
        "rationale": clean(str(data.get("rationale") or "")),
        "evidence": text[found[0] : found[1]] if found else None,
        "evidence_start": found[0] if found else None,
        "evidence_found": found is not None,
    }


def _predicted(stage: ClassifyStage, answer: "Answer") -> Row | str:
    """The likeliest of the declared labels; a model may know others, or give scores that are no probabilities."""
    names = {label.said_as: label.name for label in stage.labels}
    known = [each for each in answer.labels if each.label in names]
    if not known:
        said = ", ".join(f"'{each.label}'" for each in answer.labels[:5]) or "none"
        return f"invalid_output: no label of this stage; the model's are {said}"
    best, second = known[0], known[1] if len(known) > 1 else None
    surely = _are_probabilities([each.score for each in answer.labels])
    return {
        "label": names[best.label],
        "confidence": best.score if surely else None,
        "confidence_from": "scores" if surely else "raw_scores",
        "runner_up": names[second.label] if second else None,
        "runner_up_confidence": second.score if surely and second else None,
        "rationale": "",
        "evidence_found": False,
    }


def _are_probabilities(scores: Sequence[float]) -> bool:
    """Of labels of which one holds; logits are none."""
    return all(0 <= score <= 1 for score in scores) and sum(scores) <= MOST_TOGETHER


_LABEL = re.compile(r'"label"\s*:\s*"((?:[^"\\]|\\.)*)"')


def label_probability(label: str, tokens: Sequence[tuple[str, float]] | None) -> float | None:
    """How probable the model found this label: the joint probability of its tokens. None where that is not known.

    Joint and not per token: after its first distinguishing token the rest of a label is all but certain, and a mean
    would make long names look surer than short ones.
    """
    if not tokens:
        return None
    found = _LABEL.search("".join(token for token, _ in tokens))
    if found is None:
        return None
    try:
        if json.loads(f'"{found[1]}"') != label:
            return None
    except ValueError:
        return None
    return _joint_probability(tokens, found.start(1), found.end(1))


def _joint_probability(tokens: Sequence[tuple[str, float]], start: int, end: int) -> float | None:
    """Of the tokens that make up this span of the answer."""
    if not tokens:
        return None
    total, position = 0.0, 0
    for token, logprob in tokens:
        if position < end and position + len(token) > start:
            total += logprob
        position += len(token)
    return _probability(math.exp(min(total, 0.0)))


def _probability(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, float(value)))
