"""One question to a model per document, and one row from its answer. Pure: the calls are made by the engine.

A row is never missing: what has no usable answer is quarantined with the reason, and asked again by the next run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ai_assets.evaluation.golden import GoldenLabel
from ai_assets.inference.prices import REQUEST_TOKENS, input_tokens_at_most
from ai_assets.inference.records import Answer, Request, Result, Unanswered
from ai_assets.stages.base import PromptStage, Row
from ai_assets.stages.prompt import Example, Prompt, PromptFailed, clean
from ai_assets.stages.registry import source_of
from ai_assets.storage.digest import Json, digest

ALGORITHM_VERSION = "llm-1"
TITLE_CHARACTERS = 1_000
FIRST_KINDS = frozenset({"classify", "extract", "summarise", "generate"})
"""Described as they were before kinds described themselves, so that nothing that was asked is asked again."""


@dataclass(frozen=True, kw_only=True)
class PromptDocument:
    document_id: str
    digest: str
    title: str | None
    text: str
    language: str | None
    path: str
    near_duplicate_of: str | None = None
    """The document that stands for it, where the collection declares that nothing is asked about such ones."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a stage asks of every document."""

    stage: PromptStage
    prompt: Prompt
    schema: Mapping[str, Json] | None
    models: tuple[tuple[str, str], ...]
    """Address and model of each endpoint of the route, in order."""
    examples: tuple[GoldenLabel, ...] = ()

    @property
    def identity(self) -> Json:
        """All that can change an answer. Not: keys, prices, limits, timeouts, how long answers are reused."""
        stage = self.stage
        if stage.kind not in FIRST_KINDS:
            models = [list(model) for model in self.models]
            of_kind = [stage.kind, source_of(stage), stage.decisive]
            return ["kind-1", *of_kind, self.prompt.identity, json.dumps(self.schema), models]
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
            *(["predict"] if stage.asks_labels else []),
            *([["outputs", outputs]] if (outputs := _outputs(stage)) else []),
        ]

    @cached_property
    def identity_digest(self) -> str:
        return digest(self.identity)

    @cached_property
    def demonstrations(self) -> tuple[tuple[str, str], ...]:
        """Turns before the document, in the very form in which it is shown."""
        columns = self.prompt.variables.stages
        nothing = {name: dict.fromkeys(columns[name]) for name in columns}
        turns: list[tuple[str, str]] = []
        for text, answer in self.stage.demonstrations():
            shown = {"title": None, "text": clean(text), "language": None, "path": ""}
            turns += [("user", self.prompt.render(shown, nothing)[1]), ("assistant", answer)]
        return tuple(turns)

    @cached_property
    def least_input_tokens(self) -> int:
        """What is reserved for the input when the document is of one letter."""
        document = PromptDocument(document_id="", digest="", title=None, text=".", language=None, path="")
        request = ask(self, document, dict.fromkeys(self.stage.upstream)).request
        return REQUEST_TOKENS if request is None else input_tokens_at_most(request, image_tokens=0)


@dataclass(frozen=True, kw_only=True)
class DocumentQuestion:
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
    document: PromptDocument,
    upstream: Mapping[str, Mapping[str, Any] | None],
    examples: Sequence[Example] = (),
) -> DocumentQuestion:
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
    shows = stage.shows(upstream)
    stages = {name: {column: (shows[name] or {}).get(column) for column in offered[name]} for name in offered}
    messages: tuple[tuple[str, str], ...] = ()
    problem = _unaskable(document, upstream) or stage.problem_with(upstream)
    if problem is None:
        try:
            system, user = question.prompt.render(shown, stages, examples)
            messages = (("system", system), *question.demonstrations, ("user", user))
        except PromptFailed as failed:
            problem = str(failed)
    request = None
    if problem is None:
        predicts = stage.asks_labels
        request = Request(
            messages=() if predicts else tuple({"role": role, "content": content} for role, content in messages),
            text=text if predicts else None,
            labels=predicts,
            schema=None if predicts else question.schema,
            temperature=None if predicts else stage.temperature,
            seed=stage.seed,
            max_output_tokens=stage.max_output_tokens,
            logprobs=stage.asks_logprobs and not predicts,
            choices=() if predicts else stage.choices,
            route=stage.route or "default",
            kind=stage.kind_name,
            document=document.document_id,
            prompt=question.prompt.version,
            timeout_s=stage.timeout_s,
            tier=stage.served_at,
            priority=stage.priority,
            hours=stage.hours,
            reuse_for_s=stage.reuse_for_s,
            on_ambiguous=stage.on_ambiguous,
            check=_check(stage, text),
        )
    return DocumentQuestion(
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


def _outputs(stage: PromptStage) -> list[Json]:
    """Labels that the model calls otherwise."""
    return [[label.name, label.output] for label in getattr(stage, "labels", ()) if label.output]


def _unaskable(document: PromptDocument, upstream: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    if not document.text.strip():
        return "empty: the document has no text"
    if document.near_duplicate_of is not None:
        return f"not asked: nearly the same as '{document.near_duplicate_of}' (near_duplicates.skip)"
    for name, row in upstream.items():
        if row is not None and row.get("status") == "quarantined":
            return f"'{name}' of this document is quarantined: {row.get('reason')}"
    return None


def row_of(asked: DocumentQuestion, result: Result | None) -> Row:
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


def _read(asked: DocumentQuestion, answer: Answer) -> Row | str:
    """The kind's own columns; or why this is no answer."""
    stage = asked.question.stage
    if answer.finish_reason == "length" and not stage.reads_cut_off:
        return f"cut off: the answer is longer than max_output_tokens ({stage.max_output_tokens})"
    return stage.read(answer, asked.text)


def _check(stage: PromptStage, text: str) -> Callable[[Answer], str | None]:
    """A complaint is made once, so that a model that cannot do better still gives a row.

    A quote that is not in the document is then dropped, and the row says so; a summary that is too long is kept, for
    what counts as a sentence differs between languages.
    """
    made: list[str] = []

    def once(answer: Answer) -> str | None:
        complaint = stage.complaint(answer, text) if not made else None
        if complaint is not None:
            made.append(complaint)
        return complaint

    return once
