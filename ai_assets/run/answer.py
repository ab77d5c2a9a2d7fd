"""One answer of a model, opened: what was sent, what came back, what it cost, and the rows and releases that use it.

Whoever may see a collection may see its answers. What an answer has to do with other collections stays out, also where
both asked the very same thing and it was paid for once.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.masking import masked
from ai_assets.inference import history
from ai_assets.inference.answer_query import DocumentReuse, packed_of, reuses_of
from ai_assets.inference.answer_text import answer_text
from ai_assets.inference.history import Attempt
from ai_assets.inference.sent import SentMessage, SentRequest, read_sent, unpacked
from ai_assets.run.operations import load_operations
from ai_assets.signoff import forgotten, releases
from ai_assets.signoff.errors import ReleaseAltered
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Release
from ai_assets.storage.digest import Json
from ai_assets.storage.lake import Manifest, parquet_columns, read_parquet
from ai_assets.storage.stores import Stores

MOST_PLACES = 40
"""Partitions of stages whose rows are looked through; of an answer that more ask for, their number is said."""
Sees = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class AnswerUse:
    """A document whose row of a stage comes from the answer."""

    collection: str
    stage: str
    partition: str
    document: str
    current: bool | None
    """Whether the row as last computed uses it; None where the stage does not say which answers its rows use."""
    releases: tuple[int, ...]
    """Those whose row of the document uses it, of releases whose files are kept."""
    live: bool
    """The live release is among them."""


@dataclass(frozen=True, kw_only=True)
class AnswerRecord:
    call: str
    kind: str
    model: str
    answered_model: str | None
    """As the provider named it."""
    endpoint: str
    protocol: str
    prompt: str
    """The version of the prompt; empty where there is none."""
    answered_by: str | None
    """The attempt whose answer is used; None where none was answered."""
    text: str | None
    """What the answer says."""
    body: str | None
    """The answer as it came; of a call without one, the last thing that came."""
    data: Json
    """The text as JSON, where it is JSON."""
    sent: SentRequest | None
    sent_missing: str | None
    """Why what was sent cannot be shown, in a sentence."""
    erased: str | None
    """Why neither can be shown any more, in a sentence."""
    attempts: Sequence[Attempt]
    """Of one for a collection that may not be seen, who asked is empty."""
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float
    maybe_usd: float
    saved_usd: float
    """By the times that it was used again, in what may be seen."""
    reused: int
    uses: Sequence[AnswerUse]
    more_places: int
    """Partitions that were not looked through."""


def open_answer(stores: Stores, key: str, sees: Sees = lambda _collection: True) -> AnswerRecord | None:
    """None where there is no such answer, or it is of collections that may not be seen: nobody learns which."""
    with stores.state.read() as connection:
        made, erased = history.attempts_of(connection, key), None
        if not made and (made := history.left_of(connection, key)):
            erased = _why_erased(connection, made, sees)
        reuses = reuses_of(connection, made)
        places = _places(made, reuses, sees)
        if not places:
            return None
        found = history.call(connection, key)
        packed = packed_of(connection, made)
        kept = {name: _kept_releases(connection, name) for name in {place[0] for place in places}}
        missing = None if packed or erased else why_not_kept(connection, stores, packed, made, sees)
    answered = next((item for item in made if item.attempt == found.answered_by), None)
    shown = answered or made[-1]
    text = None if found.body is None else answer_text(found.body, shown.protocol, stores.home.inference)
    sent = masked_request(read_sent(unpacked(packed))) if packed else None
    mine = [item for item in reuses if sees(item.collection)]
    uses = [use for place in list(places)[:MOST_PLACES] for use in _uses(stores, key, place, places[place], kept)]
    return AnswerRecord(
        call=key,
        kind=shown.kind,
        model=shown.model,
        answered_model=shown.answered_model,
        endpoint=shown.endpoint,
        protocol=shown.protocol,
        prompt=shown.prompt,
        answered_by=found.answered_by,
        text=None if text is None else masked(text),
        body=None if found.body is None else masked(found.body),
        data=_json(masked(text)) if text is not None else None,
        sent=sent,
        sent_missing=missing,
        erased=erased,
        attempts=[without_others(item, sees) for item in made],
        input_tokens=answered.input_tokens if answered else None,
        output_tokens=answered.output_tokens if answered else None,
        cost_usd=math.fsum(item.cost_usd or 0.0 for item in made),
        maybe_usd=math.fsum(item.reserved_usd for item in made if item.state == "ambiguous"),
        saved_usd=math.fsum(item.saved_usd for item in mine),
        reused=len(mine),
        uses=uses,
        more_places=max(0, len(places) - MOST_PLACES),
    )


# What the ledger has of it


def _why_erased(connection: sa.Connection, made: Sequence[Attempt], sees: Sees) -> str:
    for item in made:
        if sees(item.collection):
            told = forgotten.of(connection, item.collection).documents.get(item.document)
            if told is not None:
                return f"The question and the answer were erased: '{item.document}' was {told.reason}."
    return "The question and the answer were erased with a document that was forgotten."


def why_not_kept(
    connection: sa.Connection, stores: Stores, packed: str | None, made: Sequence[Attempt], sees: Sees
) -> str:
    if packed == "":
        return "What was sent is too long to be kept beside its answer."
    for item in made:
        if item.kind == "classify" and sees(item.collection) and _forgotten_since(connection, item):
            return "What was sent was erased with a forgotten document, which it can have shown as an example."
    operations = load_operations(stores.home.operations)
    own = operations.tenants.get(made[0].tenant)
    days = (own.retention.request_days if own else None) or operations.retention.request_days
    return (
        "What was sent is not kept any more: retention removes it after "
        f"{days:g} days (retention.request_days), and versions before this one did not keep it. It was asked "
        f"{made[0].sent_at[:10]}."
    )


def _forgotten_since(connection: sa.Connection, item: Attempt) -> bool:
    return any(found.at > item.sent_at for found in forgotten.of(connection, item.collection).documents.values())


def without_others(item: Attempt, sees: Sees) -> Attempt:
    shown = replace(item, message=None if item.message is None else masked(item.message))
    if sees(item.collection):
        return shown
    return replace(
        shown, tenant="", collection="", asset="", partition="", run_id="", backfill="", document="", key_id=None
    )


def masked_request(found: SentRequest) -> SentRequest:
    schema, settings = (json.loads(masked(json.dumps(part))) for part in (found.schema, dict(found.settings)))
    return replace(
        found,
        messages=tuple(SentMessage(role=each.role, content=masked(each.content)) for each in found.messages),
        schema=schema,
        settings=settings,
        body=masked(found.body),
    )


def _json(text: str) -> Json:
    try:
        found: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


# Where it is used

Place = tuple[str, str, str]
"""Collection, stage and partition."""


def _places(made: Iterable[Attempt], reuses: Iterable[DocumentReuse], sees: Sees) -> dict[Place, list[str]]:
    """With the documents that it was asked about there; the first to ask comes first."""
    found: dict[Place, list[str]] = {}
    every: Iterable[Attempt | DocumentReuse] = (*made, *reuses)
    for item in every:
        if sees(item.collection):
            documents = found.setdefault((item.collection, item.asset, item.partition), [])
            if item.document not in documents:
                documents.append(item.document)
    return found


def _kept_releases(connection: sa.Connection, collection: str) -> tuple[list[Release], int | None]:
    """Those whose files are there, the newest first, and which is live. What was altered is passed over."""
    gone = releases.pruned(connection, collection)
    there = [found for number, found in releases.read_all(connection, collection)
             if isinstance(found, Release) and number not in gone]  # fmt: skip
    try:
        live = releases.live_number(connection, collection)
    except ReleaseAltered:
        live = None
    return there[::-1], live


def _uses(
    stores: Stores, key: str, place: Place, asked: Sequence[str],
    kept: Mapping[str, tuple[Sequence[Release], int | None]],
) -> Iterator[AnswerUse]:  # fmt: skip
    collection, stage, partition = place
    now = _current(stores, key, stores.lake.manifest(collection, stage, partition))
    found, live = kept[collection]
    released: dict[str, list[int]] = {}
    read: dict[str, list[str]] = {}
    for release in found:
        part = release.parts.get(partition)
        if part is not None:
            path, _ = snapshot_paths(stores.lake, collection, partition, part)
            if part.documents_file not in read:
                read[part.documents_file] = _with_call(path, f"{stage}_call", key)
            for document in read[part.documents_file]:
                released.setdefault(document, []).append(release.number)
    for document in dict.fromkeys([*asked, *(now or ()), *released]):
        yield AnswerUse(
            collection=collection,
            stage=stage,
            partition=partition,
            document=document,
            current=None if now is None else document in now,
            releases=tuple(released.get(document, ())),
            live=live in released.get(document, ()),
        )


def _current(stores: Stores, key: str, manifest: Manifest | None) -> list[str] | None:
    """Documents whose row uses it; None where the rows do not say, or are not there."""
    if manifest is None:
        return None
    path = stores.lake.path(manifest)
    try:
        return _with_call(path, "call", key) if "call" in parquet_columns(path) else None
    except DatasetDamaged:
        return None


def _with_call(path: Path, column: str, key: str) -> list[str]:
    import pyarrow.compute as pc

    try:
        if column not in parquet_columns(path):
            return []
        table = read_parquet(path, ["document_id", column])
    except DatasetDamaged:
        return []  # such as a snapshot that retention is removing; what is damaged is said where it is read
    found: list[str] = table.filter(pc.equal(table[column], key))["document_id"].to_pylist()
    return found
