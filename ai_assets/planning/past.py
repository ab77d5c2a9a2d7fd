# ruff: noqa: S608 - the parts put together are all from here
"""What the ledger knows that a plan can use: answers by key, and how past questions of a stage went. Queries only."""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa

from ai_assets.inference.ledger_messages import Claim
from ai_assets.inference.records import SHADOW
from ai_assets.inference.tenant_answers import with_own_answers
from ai_assets.storage.state import keys_of

CALLERS_READ = 200
ATTEMPTS_READ = 4_000
ENOUGH = 5
"""Fewer past questions than this say nothing about the next ones."""
KEYS_PER_QUERY = 5_000


class PastAttempt(NamedTuple):
    """The attempt that a call points to."""

    attempt_id: int
    state: str
    ended_at: str | None
    cost_nusd: int | None
    input_tokens: int | None
    error: str | None
    body: str | None


def look_up_claims(connection: sa.Connection, claims: Sequence[Claim], *, bodies: bool) -> Mapping[str, PastAttempt]:
    """What the ledger would find for them, by key."""
    keys = [hop.key for claim in claims for hop in claim.hops]
    found = look_up(connection, keys, bodies=bodies)
    return with_own_answers(connection, claims, found, lambda own: look_up(connection, own, bodies=bodies))


def look_up(connection: sa.Connection, keys: Sequence[str], *, bodies: bool) -> dict[str, PastAttempt]:
    """By key; the answer itself only where somebody reads it."""
    found: dict[str, PastAttempt] = {}
    body, joined = "NULL", ""
    if bodies:
        body = "answers.body"
        joined = "LEFT JOIN answers ON answers.attempt_id = calls.attempt_id AND attempts.state = 'settled'"
    statement = sa.text(
        "SELECT calls.call_key, attempts.attempt_id, attempts.state, attempts.ended_at, attempts.cost_nusd, "
        f"attempts.input_tokens, attempts.error, {body} AS body "
        f"FROM {keys_of(connection.dialect.name, ':keys')} CROSS JOIN calls "
        f"JOIN attempts ON attempts.attempt_id = calls.attempt_id {joined} WHERE calls.call_key = json_each.value"
    )
    for start in range(0, len(keys), KEYS_PER_QUERY):
        given = {"keys": json.dumps(keys[start : start + KEYS_PER_QUERY])}
        for row in connection.execute(statement, given):
            found[row.call_key] = PastAttempt(
                row.attempt_id, row.state, row.ended_at, row.cost_nusd, row.input_tokens, row.error, row.body
            )
    return found


@dataclass(frozen=True, kw_only=True)
class PastQuestion:
    """One past question: its first answer, and what else was paid for it."""

    key: str
    document: str
    model: str
    prompt: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nusd: int
    """Of the first answer."""
    more_nusd: int
    """Of repairs, fallbacks and paid failures."""
    calls: int
    latency_s: float | None


@dataclass(frozen=True)
class PastQuestions:
    """Past questions of one stage, the latest first."""

    asked: Sequence[PastQuestion] = field(default=())

    @cached_property
    def by_key(self) -> Mapping[str, int]:
        return {item.key: item.input_tokens for item in self.asked}

    @cached_property
    def by_document(self) -> Mapping[str, int]:
        return {item.document: item.input_tokens for item in reversed(self.asked)}

    @property
    def p50_s(self) -> float | None:
        found = [item.latency_s for item in self.asked if item.latency_s is not None]
        return statistics.median(found) if found else None

    def alike(self, model: str, prompt: str) -> tuple["PastQuestions", str]:
        """Those most like what comes, where there are enough of them; and which those are, in words."""
        same = [item for item in self.asked if item.model == model and item.prompt == prompt]
        if len(same) >= ENOUGH:
            return PastQuestions(same), "of this prompt"
        near = [item for item in self.asked if item.model == model]
        if len(near) >= ENOUGH:
            return PastQuestions(near), "of earlier prompts of this stage"
        return (self, "of this stage by other models") if len(self.asked) >= ENOUGH else (PastQuestions(), "")


_COLUMNS = """
SELECT call_key, caller_id, document, model, prompt, state, input_tokens, cached_tokens, output_tokens, cost_nusd,
    latency_s FROM attempts"""


def past_of(connection: sa.Connection, collection: str, asset: str, *, per_call: bool) -> PastQuestions:
    """The latest questions of a stage, its shadows included; `per_call`: each call is one, and not each document."""
    callers = (
        "SELECT caller_id FROM callers WHERE collection = :c AND asset IN (:a, :shadow) "
        "ORDER BY caller_id DESC LIMIT :most"
    )
    rows = connection.execute(
        sa.text(
            f"{_COLUMNS} WHERE caller_id IN ({callers}) AND state IN ('settled', 'failed') "
            "ORDER BY attempt_id DESC LIMIT :limit"
        ),
        {"c": collection, "a": asset, "shadow": asset + SHADOW, "most": CALLERS_READ, "limit": ATTEMPTS_READ},
    ).all()
    return _questions(rows, per_call=per_call)


def past_of_kind(connection: sa.Connection, kind: str, model: str) -> PastQuestions:
    """The latest questions of such stages anywhere, to the same model."""
    rows = connection.execute(
        sa.text(f"SELECT * FROM ({_COLUMNS_WITH_KIND} ORDER BY sent_at DESC LIMIT :limit) AS latest "
                "WHERE kind = :kind AND model = :model AND state IN ('settled', 'failed')"),
        {"kind": kind, "model": model, "limit": ATTEMPTS_READ},
    ).all()  # fmt: skip
    return _questions(rows, per_call=kind == "embed")


_COLUMNS_WITH_KIND = _COLUMNS.replace("latency_s FROM", "latency_s, kind FROM")


def _questions(rows: Sequence[sa.Row[tuple[object, ...]]], *, per_call: bool) -> PastQuestions:
    """Attempts of one caller about one document are one question, its repair included."""
    grouped: dict[tuple[object, ...], list[sa.Row[tuple[object, ...]]]] = defaultdict(list)
    for row in reversed(rows):
        grouped[(row.call_key,) if per_call else (row.caller_id, row.document)].append(row)
    found = []
    for made in grouped.values():
        first = next((row for row in made if row.state == "settled"), None)
        if first is None or first.input_tokens is None:
            continue
        found.append(
            PastQuestion(
                key=first.call_key,
                document=first.document,
                model=first.model,
                prompt=first.prompt,
                input_tokens=first.input_tokens,
                cached_tokens=first.cached_tokens or 0,
                output_tokens=first.output_tokens or 0,
                cost_nusd=first.cost_nusd or 0,
                more_nusd=sum(row.cost_nusd or 0 for row in made) - (first.cost_nusd or 0),
                calls=len(made),
                latency_s=first.latency_s,
            )
        )
    return PastQuestions(list(reversed(found)))


def labels_so_far(connection: sa.Connection, collection: str, asset: str) -> dict[str, int]:
    """How often each label was given in the datasets of a stage."""
    found: dict[str, int] = defaultdict(int)
    statement = sa.text("SELECT stats FROM datasets WHERE collection = :c AND asset = :a")
    for row in connection.execute(statement, {"c": collection, "a": asset}):
        for label, number in (json.loads(row.stats).get("labels") or {}).items():
            found[label] += number
    return dict(found)


class StageSpend(NamedTuple):
    """What the documents of a stage came to so far, of whatever version of it."""

    documents: int
    calls: int
    nusd: int


def spent_by(connection: sa.Connection, collection: str, stage: str, kind: str | None = None) -> StageSpend:
    """`kind`: of calls; all by default."""
    query = sa.text(
        "SELECT count(DISTINCT attempts.document), count(DISTINCT attempts.call_key), "
        "coalesce(sum(attempts.cost_nusd), 0) FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
        "WHERE callers.collection = :collection AND callers.asset = :stage AND attempts.state = 'settled' "
        "AND coalesce(:kind, attempts.kind) = attempts.kind"
    )
    row: Any = connection.execute(query, {"collection": collection, "stage": stage, "kind": kind}).one()
    return StageSpend(row[0], row[1], int(row[2]))
