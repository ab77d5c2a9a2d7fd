"""One question to a model per document, and one row from its answer. Pure: the calls are made by the engine.

A row is never missing: what has no usable answer is quarantined with the reason, and asked again by the next run.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

from ai_assets.evaluation.golden import GoldenLabel
from ai_assets.inference.prices import REQUEST_TOKENS, input_tokens_at_most
from ai_assets.inference.records import Answer, Request, Result, Unanswered
from ai_assets.stages.prompt import Example, Prompt, PromptFailed, clean
from ai_assets.stages.settings import ClassifyStage, Stage, SummariseStage
from ai_assets.storage.digest import Json, digest

ALGORITHM_VERSION = "llm-1"
TITLE_CHARACTERS = 1_000
SHOWN_MISSING = 3
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Document:
    document_id: str
    digest: str
    title: str | None
    text: str
    language: str | None
    path: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a stage asks of every document."""

    stage: Stage
    prompt: Prompt
    schema: Mapping[str, Json] | None
    models: tuple[tuple[str, str], ...]
    """Address and model of each endpoint of the route, in order."""
    examples: tuple[GoldenLabel, ...] = ()

    @property
    def identity(self) -> Json:
        """All that can change an answer. Not: keys, prices, limits, timeouts, how long answers are reused."""
        stage = self.stage
        return [
            ALGORITHM_VERSION,
            stage.kind,
            self.prompt.identity,
            [[label.name, label.description, list(label.examples)] for label in getattr(stage, "labels", ())],
            json.dumps(self.schema),  # in a schema the order of keys is the order of the answer
            [list(model) for model in self.models],
            [stage.temperature, stage.seed, stage.max_output_tokens, stage.max_input_characters],
            [getattr(stage, name, None) for name in ("logprobs", "max_sentences", "max_words")],
            [[item.document, item.label] for item in self.examples],
        ]

    @cached_property
    def identity_digest(self) -> str:
        return digest(self.identity)

    @cached_property
    def least_input_tokens(self) -> int:
        """What is reserved for the input when the document is of one letter."""
        document = Document(document_id="", digest="", title=None, text=".", language=None, path="")
        request = ask(self, document, dict.fromkeys(self.stage.upstream)).request
        return REQUEST_TOKENS if request is None else input_tokens_at_most(request, image_tokens=0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The question about one document."""

    question: Question
    document_id: str
    input_digest: str
    """Of all that decides the row: an equal one needs no new answer."""
    text: str
    """As the model may read it: cut, and without what no request can hold."""
    truncated: bool
    request: Request | None
    problem: str | None = None
    """Why nothing is asked."""


def ask(
    question: Question,
    document: Document,
    upstream: Mapping[str, Mapping[str, Any] | None],
    examples: Sequence[Example] = (),
) -> Asked:
    """`upstream` holds the document's row of each stage the prompt may use, None where that stage left it out."""
    stage = question.stage
    text = clean(document.text[: stage.max_input_characters])
    shown = {
        "title": (document.title or "")[:TITLE_CHARACTERS] or None,
        "text": text,
        "language": document.language,
        "path": document.path,
    }
    offered = question.prompt.variables.stages
    stages = {name: {column: (upstream[name] or {}).get(column) for column in offered[name]} for name in offered}
    messages: tuple[tuple[str, str], ...] = ()
    problem = _unaskable(document, upstream)
    if problem is None:
        try:
            system, user = question.prompt.render(shown, stages, examples)
            messages = (("system", system), ("user", user))
        except PromptFailed as failed:
            problem = str(failed)
    request = None
    if problem is None:
        request = Request(
            messages=tuple({"role": role, "content": content} for role, content in messages),
            schema=question.schema,
            temperature=stage.temperature,
            seed=stage.seed,
            max_output_tokens=stage.max_output_tokens,
            logprobs=isinstance(stage, ClassifyStage) and stage.logprobs,
            route=stage.route or "default",
            kind=stage.kind,
            document=document.document_id,
            prompt=question.prompt.version,
            timeout_s=stage.timeout_s,
            reuse_for_s=stage.reuse_for_s,
            on_ambiguous=stage.on_ambiguous,
            check=_check(stage, text),
        )
    return Asked(
        question=question,
        document_id=document.document_id,
        input_digest=digest(
            [question.identity_digest, document.digest, problem, [list(message) for message in messages]]
        ),
        text=text,
        truncated=len(document.text) > len(text),
        request=request,
        problem=problem,
    )


def _unaskable(document: Document, upstream: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    if not document.text.strip():
        return "empty: the document has no text"
    for name, row in upstream.items():
        if row is not None and row.get("status") == "quarantined":
            return f"'{name}' of this document is quarantined: {row.get('reason')}"
    return None


def row_of(asked: Asked, result: Result | None) -> Row:
    """The row of the dataset; `result` is None where nothing was asked."""
    row: Row = {
        **dict.fromkeys(asked.question.stage.columns.dataset),
        "document_id": asked.document_id,
        "input_digest": asked.input_digest,
        "prompt_version": asked.question.prompt.version,
        "status": "ok",
        "cost_usd": 0.0,
        "reused": False,
        "truncated": asked.truncated,
    }
    if result is None:
        return {**row, "status": "quarantined", "reason": asked.problem}
    row["call"], row["endpoint"] = result.call or None, result.endpoint or None
    row["cost_usd"] = result.cost_usd + result.saved_usd
    if isinstance(result, Unanswered):
        raw = None if result.raw is None else clean(result.raw)
        return {**row, "status": "quarantined", "reason": clean(f"{result.error}: {result.message}"), "raw": raw}
    row |= {"model": result.model, "finish_reason": result.finish_reason, "reused": result.reused}
    found = _read(asked, result)
    if isinstance(found, str):
        return {**row, "status": "quarantined", "reason": found, "raw": clean(result.text)}
    return {**row, **found}


def _read(asked: Asked, answer: Answer) -> Row | str:
    """The kind's own columns; or why this is no answer."""
    stage = asked.question.stage
    if answer.finish_reason == "length":
        return f"cut off: the answer is longer than max_output_tokens ({stage.max_output_tokens})"
    if isinstance(stage, ClassifyStage):
        return _classification(stage, asked.text, answer)
    if stage.kind == "extract":
        return _extraction(asked.text, answer)
    text = clean(answer.text).strip()
    return {"text": text} if text else "empty answer"


# Classification


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


def _classification(stage: ClassifyStage, text: str, answer: Answer) -> Row | str:
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
    total, position = 0.0, 0
    for token, logprob in tokens:
        if position < found.end(1) and position + len(token) > found.start(1):
            total += logprob
        position += len(token)
    return _probability(math.exp(min(total, 0.0)))


def _probability(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, float(value)))


# Extraction


def _extraction(text: str, answer: Answer) -> Row | str:
    if not isinstance(answer.data, Mapping):
        return "invalid_output: not an object"
    try:
        data = clean(json.dumps(answer.data, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return f"invalid_output: {error}"
    quotes = _quotes(answer.data)
    return {"data": data, "evidence_found": not missing_quotes(quotes, text) if quotes else None}


def _quotes(data: Json) -> list[str]:
    """What the property `evidence` of an answer holds: a quote, or several."""
    evidence = data.get("evidence") if isinstance(data, Mapping) else None
    listed = [evidence] if isinstance(evidence, str) else evidence if isinstance(evidence, Sequence) else []
    return [quote for quote in listed if isinstance(quote, str) and quote.strip()]


# Quotes

_MARKS = " \t\n\"'`“”„‘’‚«»…."


def find_quote(quote: str, text: str) -> tuple[int, int] | None:
    """Where the text says this word for word; white space, and quotation marks around it, do not count."""
    unescaped = quote.replace("&lt;", "<")
    for wanted in (unescaped, unescaped.strip(_MARKS)):
        compact = "".join(wanted.split())
        if not any(map(str.isalnum, compact)):
            continue
        at = _compact(text).find(compact)
        if at >= 0:
            first = _place(text, at)
            return first, _place(text, at + len(compact) - 1) + 1
    return None


@lru_cache(maxsize=8)
def _compact(text: str) -> str:
    return "".join(text.split())


def _place(text: str, number: int) -> int:
    """The position of the nth character that is no white space; `split` and `isspace` agree on what that is."""
    return next(islice((at for at, character in enumerate(text) if not character.isspace()), number, None))


def missing_quotes(quotes: Sequence[str], text: str) -> list[str]:
    return [quote for quote in quotes if find_quote(quote, text) is None]


# What the engine asks the model to mend


def _check(stage: Stage, text: str) -> Callable[[Answer], str | None] | None:
    """A complaint is made once, so that a model that cannot do better still gives a row.

    A quote that is not in the document is then dropped, and the row says so; a summary that is too long is kept, for
    what counts as a sentence differs between languages.
    """
    complain = _complaint_of(stage, text)
    if complain is None:
        return None
    made: list[str] = []

    def once(answer: Answer) -> str | None:
        complaint = complain(answer) if not made else None
        if complaint is not None:
            made.append(complaint)
        return complaint

    return once


def _complaint_of(stage: Stage, text: str) -> Callable[[Answer], str | None] | None:
    if stage.kind in ("classify", "extract"):
        return lambda answer: _wrong_quotes(_quotes(answer.data), text)
    if isinstance(stage, SummariseStage) and (stage.max_sentences or stage.max_words):
        return lambda answer: too_long(answer.text, stage.max_sentences, stage.max_words)
    return None


def _wrong_quotes(quotes: Sequence[str], text: str) -> str | None:
    missing = missing_quotes(quotes, text)
    if not missing:
        return None
    listed = "; ".join(json.dumps(quote[:200], ensure_ascii=False) for quote in missing[:SHOWN_MISSING])
    return f"evidence must be copied word for word from the document, and this is not in it: {listed}"


_SENTENCE_END = re.compile(r"(?<!\b\w)(?<!\b[A-Za-z]{2})[.!?؟।]+[\"'”’)\]]*(?=\s+[^\sa-z]|\s*\Z)|[。！？]+")


def too_long(text: str, max_sentences: int | None, max_words: int | None) -> str | None:
    """Counted in the text's favour: neither '3. May' nor 'e.g. this' nor 'Dr. Ash' ends a sentence."""
    sentences, words = len(_SENTENCE_END.findall(text.strip())), len(text.split())
    if max_sentences is not None and sentences > max_sentences:
        return f"it has {sentences} sentences; write at most {max_sentences}"
    if max_words is not None and words > max_words:
        return f"it has {words} words; write at most {max_words}"
    return None
