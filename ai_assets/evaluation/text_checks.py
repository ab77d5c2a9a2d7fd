"""Metrics of generated text that need no judge: each is the share of outputs that pass a check, with its interval.

A collection names them by `use` (`CHECKS` in `base/kinds.py`) and says whose outputs under `stage`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ai_assets.documents.by_document import ByDocument
from ai_assets.documents.languages import language_of
from ai_assets.evaluation.metrics import Evidence, Measure, metric
from ai_assets.evaluation.verdict import Interval
from ai_assets.stages.quotes import find_quote
from ai_assets.stages.summarise import too_long

LEVEL = 0.95
QUOTED_WORDS = 3
"""That a passage between quotation marks must have: one word in quotation marks is seldom a quote."""
_QUOTED = re.compile('“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|"([^"\n]+)"')


@metric(of="rows")
def schema_valid(evidence: Evidence, *, schema: Mapping[str, Any] | None = None, column: str | None = None) -> Measure:
    """Of outputs that are JSON: fits the schema, by default that of the stage."""
    from jsonschema import Draft202012Validator

    wanted = evidence.schema if schema is None else schema
    if wanted is None:
        raise ValueError("the stage has no schema; give one under options: {schema: {...}}")
    validator = Draft202012Validator(dict(wanted))
    return _share(_fits(validator, text) for _, text in _outputs(evidence, column))


@metric(of="rows")
def quotes_found(evidence: Evidence, *, column: str | None = None) -> Measure:
    """Stands in the document word for word: the evidence of an extraction or a label, or what is between quotation
    marks. Outputs that quote nothing are not counted."""
    if column is None and "evidence_found" in evidence.columns:
        rows = evidence.rows(["document_id", "status", "evidence_found"])
        found = (row["evidence_found"] for row in rows if row.get("status") == "ok")
        return _share(each for each in found if each is not None)
    return _share(
        all(find_quote(quote, text) is not None for quote in quotes)
        for row, text, written in _with_documents(evidence, column, "text")
        if (quotes := _quotes_in(written))
    )


@metric(of="rows")
def length_within(
    evidence: Evidence,
    *,
    min_words: int = 0,
    max_words: int | None = None,
    max_sentences: int | None = None,
    column: str | None = None,
) -> Measure:
    """Has no fewer and no more words, and no more sentences."""
    return _share(
        len(text.split()) >= min_words and too_long(text, max_sentences, max_words) is None
        for _, text in _outputs(evidence, column)
    )


@metric(of="rows")
def same_language(evidence: Evidence, *, language: str | None = None, column: str | None = None) -> Measure:
    """Is in the language of its document, or in that one (`de`). Texts too short to tell are not counted."""
    if language is not None:
        told = (language_of(text) for _, text in _outputs(evidence, column))
        return _share(each == language for each in told if each is not None)
    return _share(
        said == there
        for _, there, written in _with_documents(evidence, column, "language")
        if there is not None and (said := language_of(written)) is not None
    )


def _outputs(evidence: Evidence, column: str | None) -> Iterator[tuple[str, str]]:
    """Document and text of every usable output."""
    wanted = column or evidence.headline
    if wanted is None:
        raise ValueError("say under options which 'column' is checked")
    known = [name for name in ("document_id", "status") if name in evidence.columns]
    for row in evidence.rows([*known, wanted]):
        text = row[wanted]
        if row.get("status", "ok") == "ok" and isinstance(text, str) and text.strip():
            yield row["document_id"], text


def _with_documents(evidence: Evidence, column: str | None, of: str) -> Iterator[tuple[str, Any, str]]:
    """The same, beside a column of the document."""
    documents = ByDocument(dict(row) for row in evidence.documents(["document_id", of]))
    for document, text in _outputs(evidence, column):
        row = documents.one(document)
        if row is not None and row[of] is not None:
            yield document, row[of], text


def _quotes_in(text: str) -> list[str]:
    found = ("".join(groups) for groups in _QUOTED.findall(text))
    return [quote for quote in found if len(quote.split()) >= QUOTED_WORDS]


def _fits(validator: Any, text: str) -> bool:
    try:
        return bool(validator.is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return False


def _share(passed: Iterator[bool]) -> Measure:
    from ai_assets.statistics.intervals import mean_bounds, mean_error

    values = [float(each) for each in passed]
    if not values:
        return Measure(value=None, n=0)
    places = range(len(values))
    error, clusters = mean_error(values, places)
    bounds = mean_bounds(values, places, LEVEL)
    return Measure(
        value=sum(values) / len(values),
        n=len(values),
        interval=None if bounds is None else Interval(low=bounds.low, high=bounds.high, level=LEVEL),
        error=error,
        clusters=clusters if error is not None else None,
    )
