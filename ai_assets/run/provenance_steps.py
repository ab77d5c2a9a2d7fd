"""The first steps of a row's provenance: bytes, text, passages and vectors, and what models were asked of it."""

import math
from collections.abc import Iterator

import sqlalchemy as sa

from ai_assets.base.masking import masked
from ai_assets.documents.passages import STRUCTURE
from ai_assets.embedding.spec import FIRST, WITHOUT, vectors_asset
from ai_assets.inference import history
from ai_assets.inference.answer_query import packed_of
from ai_assets.inference.history import Attempt
from ai_assets.inference.sent import read_sent, unpacked
from ai_assets.inference.ways import way_of
from ai_assets.run.answer import masked_request, why_not_kept, without_others
from ai_assets.run.frozen_lines import StageColumns, stages_in
from ai_assets.run.places import rows_of
from ai_assets.run.provenance_records import Facts, ProvenanceStep, StepLink, known
from ai_assets.storage.digest import Json, sha256_hex
from ai_assets.storage.lake import parquet_columns, read_batches

SHOWN_CHARACTERS = 300
"""Of an answer; all of it is one link away."""


def made_steps(facts: Facts) -> Iterator[ProvenanceStep]:
    yield _bytes(facts)
    if facts.missing is None:
        yield _parse(facts)
        yield from _passages(facts)
        for stage in stages_in(list(facts.row), facts.collection):
            yield from _stage(facts, stage)


# Bytes, parse, passages


def _bytes(facts: Facts) -> ProvenanceStep:
    row = facts.row
    query = sa.text(
        "SELECT happened_at, event FROM document_history WHERE collection = :c AND document_id = :d "
        "ORDER BY happened_at"
    )
    seen = facts.connection.execute(query, {"c": facts.collection.name, "d": facts.found.document}).all()
    return ProvenanceStep(
        step="bytes",
        facts=known(
            path=row.get("path"),
            row_key=row.get("row_key"),
            sha256=row.get("source_digest"),
            partition=facts.found.partition,
            first_seen=seen[0].happened_at if seen else None,
            last_change=f"{seen[-1].event} {seen[-1].happened_at}" if seen else None,
        ),
        missing=facts.missing,
        link=facts.document_link(),
    )


def _parse(facts: Facts) -> ProvenanceStep:
    row = facts.row
    return ProvenanceStep(
        step="parse",
        facts=known(
            status=row.get("status"),
            reason=row.get("reason"),
            text_sha256=row.get("digest"),
            characters=len(row["text"]) if row.get("text") else None,
            title=row.get("title"),
            language=row.get("language"),
            duplicate_of=row.get("duplicate_of"),
            made_by=row.get("made_by"),
            code_version=facts.version("documents"),
        ),
        link=facts.run_link() or facts.document_link(),
    )


def _passages(facts: Facts) -> Iterator[ProvenanceStep]:
    path = facts.found.chunks
    if path is None:
        return
    there = parquet_columns(path)
    names = [name for name in ("document_id", "chunk_id", "text", "start", "end", *STRUCTURE, "of") if name in there]
    every = [row for batch in read_batches(path, names) for row in rows_of(batch, facts.found.document)]
    asked = next((row for row in every if row["chunk_id"] == facts.found.chunk), None)
    shown = {name: asked.get(name) for name in ("chunk_id", "of", "start", "end", "page", "headings")} if asked else {}
    start = asked.get("start") if asked else None
    yield ProvenanceStep(
        step="passages",
        facts=known(
            passages=len(every),
            **shown,
            text_sha256=sha256_hex(asked["text"].encode("utf-8", "surrogatepass")) if asked else None,
            code_version=facts.version("chunks"),
        ),
        link=facts.document_link(**({} if start is None else {"at": str(start)})),
    )
    yield from _vectors(facts, len(every))


def _vectors(facts: Facts, passages: int) -> Iterator[ProvenanceStep]:
    part = facts.found.part
    if part is None:
        for each in facts.collection.embeddings:
            yield ProvenanceStep(
                step="vectors", of=each.name or None, facts=known(code_version=facts.version(each.asset)),
                link=facts.run_link() or facts.document_link(),
            )  # fmt: skip
        return
    for name, by in part.embeddings.items():
        without = facts.row.get(WITHOUT) if name == FIRST else None
        yield ProvenanceStep(
            step="vectors",
            of=name or None,
            facts=known(
                model=by.model,
                version=by.version,
                dimensions=by.dimensions,
                vectors=None if without else passages,
                without=without,
                code_version=facts.version(vectors_asset(name)),
            ),
            link=facts.run_link(),
        )


# Stages: prompt, calls, answer


def _stage(facts: Facts, stage: StageColumns) -> Iterator[ProvenanceStep]:
    said = {
        name: facts.row.get(f"{stage.name}_{name}")
        for name in ("status", "reason", "model", "call", "prompt_version", "confidence", "corrected_by", "model_label",
                     "rationale", "endpoint")
    }  # fmt: skip
    headline = facts.row.get(stage.headline)
    if headline is None and said["status"] is None and said["model"] is None:
        return  # it was not asked
    call = said["call"]
    if call:
        yield from _call(facts, stage, call, said["prompt_version"])
    text = None if headline is None else masked(str(headline))
    yield ProvenanceStep(
        step="answer",
        of=stage.name,
        facts=known(
            answer=None if text is None else text[:SHOWN_CHARACTERS] + "…" * (len(text) > SHOWN_CHARACTERS),
            status=said["status"],
            reason=said["reason"],
            confidence=said["confidence"],
            model=said["model"],
            model_said=said["model_label"] if said["corrected_by"] else None,
            corrected_by=said["corrected_by"],
            code_version=facts.version(stage.name),
        ),
        link=_answer_link(call) if call else facts.document_link(),
    )


def _answer_link(call: str) -> StepLink:
    return StepLink(kind="answer", names={"call": call})


def _call(facts: Facts, stage: StageColumns, call: str, prompt: str | None) -> Iterator[ProvenanceStep]:
    every = history.attempts_of(facts.connection, call)
    own = [item for item in every if facts.sees(item.collection)]
    made = own if facts.own_only else [without_others(item, facts.sees) for item in every]
    packed = packed_of(facts.connection, every) if every else None
    sent = masked_request(read_sent(unpacked(packed))) if packed else None
    missing = None
    if not every:
        missing = "the ledger has no such call any more: it was erased with a forgotten document"
    elif not packed:
        missing = why_not_kept(facts.connection, facts.stores, packed, every, facts.sees)
    yield ProvenanceStep(
        step="prompt",
        of=stage.name,
        facts=known(
            version=prompt or (every[-1].prompt if every else None) or None,
            code_version=facts.version(stage.name),
            sent_sha256=sha256_hex(sent.body.encode("utf-8", "surrogatepass")) if sent else None,
        ),
        messages=tuple({"role": each.role, "content": each.content} for each in sent.messages) if sent else (),
        missing=missing,
        link=_answer_link(call),
    )
    cost = math.fsum(item.cost_usd or 0.0 for item in made)
    maybe = math.fsum(item.reserved_usd for item in made if item.state == "ambiguous")
    facts.cost_usd, facts.maybe_usd = facts.cost_usd + cost, facts.maybe_usd + maybe
    answered = next((item for item in reversed(made) if item.state == "settled"), None)
    chosen = way_of(facts.connection, call) if answered is not None else None
    yield ProvenanceStep(
        step="call",
        of=stage.name,
        facts=known(
            call=call,
            model=(answered.answered_model or answered.model) if answered else None,
            endpoint=answered.endpoint if answered else None,
            asked=None if chosen is None else f"by {chosen.said}",
            cost_usd=cost,
            maybe_usd=maybe or None,
            attempts=[_attempt(item) for item in made],
        ),
        missing="who paid for it is not yours to see" if every and not made else missing if not every else None,
        link=_answer_link(call),
    )


def _attempt(item: Attempt) -> dict[str, Json]:
    return known(
        attempt=item.attempt,
        endpoint=item.endpoint,
        model=item.model,
        state=item.state,
        error=item.error,
        sent_at=item.sent_at,
        cost_usd=item.cost_usd,
        reserved_usd=item.reserved_usd if item.cost_usd is None else None,
        input_tokens=item.input_tokens,
        output_tokens=item.output_tokens,
        run_id=item.run_id or None,
        duplicate_of=item.duplicate_of,
    )
