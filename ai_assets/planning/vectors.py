"""What a run would embed on a route: passages without a vector, and the golden questions of the evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any

from ai_assets.documents.by_document import ByDocument
from ai_assets.documents.chunk import chunk_document
from ai_assets.embedding.spec import WITHOUT
from ai_assets.inference.call_state import ticket_for
from ai_assets.inference.ledger_messages import answer_to
from ai_assets.inference.records import Request
from ai_assets.planning.findings import BLOCK, Found, Surroundings, new_call
from ai_assets.planning.partition_plan import Walk
from ai_assets.planning.past import look_up
from ai_assets.planning.preview import Unread
from ai_assets.planning.records import CERTAIN
from ai_assets.run.datasets.chunks import known_chunks, taken_over
from ai_assets.run.datasets.embeddings import settled, without_vectors
from ai_assets.stages.prompt import clean

EMBEDDINGS = "embeddings"
QUESTIONS = "evaluation_scores"
FILLED = 0.7
"""Of the characters that a passage may have, about so many are used."""


def passages_of(around: Surroundings, walk: Walk) -> Found:
    """The passages of one partition."""
    work, partition = around.work, walk.partition
    found = Found(stage=EMBEDDINGS, partition=partition)
    documents = walk.documents
    chunks = work.unchanged("chunks", partition, {"documents": documents.version}) if documents is not None else None
    if chunks is not None:
        same = settled(work, partition, {"chunks": chunks.manifest.version})
        if same is not None:
            found.documents, found.kept = same.documents_in, same.manifest.rows
            return found
    known = _known_digests(around, partition)
    texts: dict[str, tuple[str, str]] = {}
    for row in _passages(around, walk):
        if row["text_digest"] in known:
            found.kept += 1
        elif row["text"].strip():
            texts.setdefault(row["text_digest"], (row["document_id"], row["text"]))
    _look_up(around, found, texts.values())
    found.documents = len(walk.texts.documents)
    if unread := walk.texts.unread.files:
        settings = work.collection.settings.chunking
        room = max(settings.max_characters - settings.overlap, 1) * FILLED
        bytes_read = walk.texts.unread.text_bytes
        passages = max(walk.texts.unread.documents, bytes_read / room)
        more = 1 + settings.overlap / settings.max_characters
        found.unread.append((CERTAIN, Unread(files=unread, documents=passages, text_bytes=bytes_read * more)))
        found.unknown += round(walk.texts.unread.documents)
    return found


def questions_of(around: Surroundings) -> Found:
    """Golden questions are embedded as passages are, by the first partition that needs them."""
    found = Found(stage=QUESTIONS, partition="")
    queries = [("", query.query) for query in around.work.collection.golden_queries]
    found.documents = len(queries)
    _look_up(around, found, queries)
    return found


def _passages(around: Surroundings, walk: Walk) -> Iterator[dict[str, Any]]:
    """As a run would cut them."""
    settings = around.work.collection.settings.chunking
    known = ByDocument(known_chunks(around.work, walk.partition))
    for document in walk.texts.documents:
        if rows := taken_over(known, document.document_id, document.digest, document.title):
            yield from rows
            continue
        for chunk in chunk_document(
            document.document_id, document.text, max_characters=settings.max_characters, overlap=settings.overlap
        ):
            yield vars(chunk)


def _known_digests(around: Surroundings, partition: str) -> frozenset[str]:
    work = around.work
    previous = work.previous(EMBEDDINGS, partition)
    if previous is None or previous.code_version != work.collection.code_versions[EMBEDDINGS]:
        return frozenset()
    columns = ["text_digest", *([WITHOUT] if without_vectors(previous) else [])]
    return frozenset(row["text_digest"] for row in work.rows(previous, columns) if row.get(WITHOUT) is None)


def _look_up(around: Surroundings, found: Found, texts: Iterable[tuple[str, str]]) -> None:
    block: list[tuple[str, str]] = []
    for item in texts:
        block.append(item)
        if len(block) == BLOCK:
            _look_up_block(around, found, block)
            block = []
    _look_up_block(around, found, block)


def _look_up_block(around: Surroundings, found: Found, texts: list[tuple[str, str]]) -> None:
    embedding, work = around.work.collection.embedding, around.work
    caller = work.caller(found.stage, found.partition)
    requests = [
        Request(
            text=clean(text),
            dimensions=embedding.dimensions if embedding.shorten else None,
            route=work.collection.settings.embedding.route or "",
            kind="embed",
            document=document,
        )
        for document, text in texts
    ]
    tickets = [
        ticket_for(around.inference, around.accounts, request, caller, lambda _name: None) for request in requests
    ]
    keys = [hop.key for ticket in tickets for hop in ticket.claim.hops]
    with work.stores.state.read() as connection:
        known = look_up(connection, keys, bodies=False)
    for ticket in tickets:
        if (answered := answer_to(ticket.claim, known)) is not None:
            _, answer = answered
            found.reused += 1
            found.reused_nusd += answer.cost_nusd or 0
        else:
            found.calls.append(new_call(around, found.stage, ticket, ticket.claim.hops[0], CERTAIN, told=None))
        found.asked += 1
