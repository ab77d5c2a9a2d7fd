"""What a run would embed on a route: passages without a vector, and the golden questions of the evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.collection.settings import OWN_TEXT
from ai_assets.documents.by_document import ByDocument
from ai_assets.documents.passages import OF, cut, made_from, texts_of
from ai_assets.embedding.spec import FIRST, WITHOUT
from ai_assets.inference.call_state import fits, ticket_for
from ai_assets.inference.ledger_messages import answer_to
from ai_assets.inference.records import Request
from ai_assets.planning.findings import BLOCK, PlanContext, StageFindings, new_call
from ai_assets.planning.partition_plan import PartitionPlanner
from ai_assets.planning.past import look_up_claims
from ai_assets.planning.preview import UnreadFiles
from ai_assets.planning.records import CERTAIN, Chance
from ai_assets.run.context import Outcome
from ai_assets.run.datasets.chunks import known_chunks, taken_over
from ai_assets.run.datasets.documents import versions_of
from ai_assets.run.datasets.embeddings import settled, vectors_before, without_vectors
from ai_assets.stages.prompt import clean

QUESTIONS = "evaluation_scores"
USUAL_TEXT_BYTES = 600
"""Of a text that a stage makes, before there is one."""
FILLED = 0.7
"""Of the characters that a passage may have, about so many are used."""


def passages_of(around: PlanContext, walk: PartitionPlanner, each: DeclaredEmbedding) -> StageFindings:
    """The passages of one partition that this embedding is of, and the calls for those without a vector."""
    found, texts = texts_to_embed(around, walk, each)
    _look_up(around, found, each, texts)
    return found


def texts_to_embed(
    around: PlanContext, walk: PartitionPlanner, each: DeclaredEmbedding
) -> tuple[StageFindings, Sequence[tuple[str, str]]]:
    """Document and text of each that has no vector, once; and what is known of the others."""
    work, partition = around.work, walk.partition
    found = StageFindings(stage=each.asset, partition=partition)
    if (chunks := _unchanged(walk)) is not None:
        same = settled(work, partition, each.asset, {"chunks": chunks.manifest.version})
        if same is not None:
            found.documents, found.kept = same.documents_in, same.manifest.rows
            return found, ()
    known = _known_digests(around, partition, each)
    texts: dict[str, tuple[str, str]] = {}
    for row in _passages(around, walk):
        if each.embedding.of and row[OF] not in each.embedding.of:
            continue
        if row["text_digest"] in known:
            found.kept += 1
        elif row["text"].strip():
            texts.setdefault(row["text_digest"], (row["document_id"], row["text"]))
    found.documents = len(walk.texts.documents)
    unmade = _unmade(around, walk, each)
    found.unread += unmade
    found.unknown += len(unmade)
    if OWN_TEXT in each.settings.of and (unread := walk.texts.unread.files):
        settings, room = work.collection.settings.chunking, _room(around)
        bytes_read = walk.texts.unread.text_bytes
        passages = max(walk.texts.unread.documents, bytes_read / room)
        more = 1 + settings.overlap / settings.max_characters
        found.unread.append((CERTAIN, UnreadFiles(files=unread, documents=passages, text_bytes=bytes_read * more)))
        found.unknown += round(walk.texts.unread.documents)
    return found, list(texts.values())


def questions_name(each: DeclaredEmbedding) -> str:
    """Among the stages of a plan."""
    return QUESTIONS if each.name == FIRST else f"{QUESTIONS} ({each.name})"


def questions_of(around: PlanContext, each: DeclaredEmbedding) -> StageFindings:
    """Golden questions are embedded as passages are, by the first partition that needs them."""
    found = StageFindings(stage=questions_name(each), partition="")
    queries = [("", query.query) for query in around.work.collection.golden_queries]
    found.documents = len(queries)
    _look_up(around, found, each, queries)
    return found


def _unchanged(walk: PartitionPlanner) -> Outcome | None:
    """The chunks that a run would leave as they are."""
    work = walk.around.work
    earlier = walk.earlier(work.collection.embedded_stages)
    if walk.documents is None or earlier is None:
        return None
    return work.unchanged("chunks", walk.partition, versions_of(walk.documents, earlier))


def _passages(around: PlanContext, walk: PartitionPlanner) -> Iterator[dict[str, Any]]:
    """As a run would cut them, as far as their texts are known."""
    collection, settings = around.work.collection, around.work.collection.settings.chunking
    known = ByDocument(known_chunks(around.work, walk.partition))
    for document in walk.texts.documents:
        name = document.document_id
        said = {stage: walk.row(stage, name) for stage in collection.embedded_stages}
        texts = texts_of(collection.embedded, document.text, said)
        if rows := taken_over(known, name, made_from(document.digest, texts), document.title):
            yield from rows
        else:
            yield from cut(name, texts, max_characters=settings.max_characters, overlap=settings.overlap)


def _unmade(around: PlanContext, walk: PartitionPlanner, each: DeclaredEmbedding) -> list[tuple[Chance, UnreadFiles]]:
    """Texts that stages are still to make, about as long as those that they made before."""
    room = _room(around)
    found = []
    stages = {text.stage for text in around.work.collection.embedded if text.name in each.settings.of}
    for stage in around.work.collection.embedded_stages:
        if stage not in stages:
            continue
        size = around.answer_bytes.get(stage, USUAL_TEXT_BYTES)
        for document in walk.texts.documents:
            waiting = walk.open(stage).get(document.document_id)
            if waiting is not None and waiting.row is None:
                found.append((waiting.chance, UnreadFiles(documents=max(size / room, 1.0), text_bytes=size)))
    return found


def _room(around: PlanContext) -> float:
    settings = around.work.collection.settings.chunking
    return max(settings.max_characters - settings.overlap, 1) * FILLED


def _known_digests(around: PlanContext, partition: str, each: DeclaredEmbedding) -> frozenset[str]:
    previous = vectors_before(around.work, partition, each)
    if previous is None:
        return frozenset()
    columns = ["text_digest", *([WITHOUT] if without_vectors(previous) else [])]
    return frozenset(row["text_digest"] for row in around.work.rows(previous, columns) if row.get(WITHOUT) is None)


def _look_up(
    around: PlanContext, found: StageFindings, each: DeclaredEmbedding, texts: Iterable[tuple[str, str]]
) -> None:
    block: list[tuple[str, str]] = []
    for item in texts:
        block.append(item)
        if len(block) == BLOCK:
            _look_up_block(around, found, each, block)
            block = []
    _look_up_block(around, found, each, block)


def _look_up_block(
    around: PlanContext, found: StageFindings, each: DeclaredEmbedding, texts: list[tuple[str, str]]
) -> None:
    embedding, work = each.embedding, around.work
    caller = work.caller(found.stage if found.partition else QUESTIONS, found.partition)
    requests = [
        Request(
            text=clean(text),
            dimensions=embedding.dimensions if embedding.shorten else None,
            vector_length=embedding.dimensions,
            route=each.settings.route or "",
            kind="embed",
            document=document,
        )
        for document, text in texts
    ]
    moment, leaving = around.departures.moment(each.asset), around.departures
    tickets = [
        leaving.ticket(each.asset, ticket_for(around.inference, around.accounts, request, caller, moment))
        for request in requests
    ]
    with work.stores.state.read() as connection:
        known = look_up_claims(connection, [ticket.claim for ticket in tickets], bodies=True)
    for ticket in tickets:
        answered = answer_to(ticket.claim, known)
        if answered is not None and fits(ticket, answered[0], answered[1].body or ""):
            _, answer = answered
            found.reused += 1
            found.reused_nusd += answer.cost_nusd or 0
        else:
            found.calls.append(new_call(around, found.stage, ticket, ticket.claim.hops[0], CERTAIN, told=None))
        found.asked += 1
