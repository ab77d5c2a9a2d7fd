"""A plan: what a run of some partitions would ask and cost. No model is called, and nothing is written."""

import gc
import math
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as Names
from contextlib import contextmanager

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.collection.loading import Collection
from ai_assets.collection.reranking import RERANKED
from ai_assets.costs.funding import in_dollars
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import InferenceSettings
from ai_assets.local_models.presence import why_not_here
from ai_assets.local_models.spec import AUTO
from ai_assets.planning.at_once import ConcurrentReservations
from ai_assets.planning.budget_check import PlannedCalls, has_document_budgets, outlooks
from ai_assets.planning.devices import device_tallies
from ai_assets.planning.estimate import Estimate, estimate
from ai_assets.planning.findings import PlanContext, StageFindings
from ai_assets.planning.partition_plan import ChosenPlanner, PartitionPlanner
from ai_assets.planning.past import ENOUGH, PastQuestions, labels_so_far, past_of, past_of_kind, spent_by
from ai_assets.planning.preview import PreviewWork, ReadAhead, changed_files, current_documents
from ai_assets.planning.records import Alternative, BudgetOutlook, Money, Plan, Range, StagePlan, decimal, described
from ai_assets.planning.summary import Summary
from ai_assets.planning.tokens import TOKEN_BYTES, counter_for
from ai_assets.planning.totals import Tally
from ai_assets.planning.vectors import QUESTIONS, passages_of, questions_name, questions_of
from ai_assets.run.concurrency import LANES
from ai_assets.run.status import due_partitions, partition_states
from ai_assets.run.window_waits import waits
from ai_assets.stages.base import BATCH, PromptStage
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.storage.stores import Stores

__all__ = [
    "Alternative",
    "BudgetOutlook",
    "Money",
    "Plan",
    "Range",
    "StagePlan",
    "StageUnknown",
    "decimal",
    "described",
    "plan",
    "plan_of_documents",
]
COUNTED = 2_000
"""About so many calls of a stage are counted where there are many more."""


class StageUnknown(UserError):
    def __init__(self, collection: str, stage: str, known: Sequence[str]) -> None:
        hint = nearest(stage, list(known), "it has none")
        super().__init__(f"Collection '{collection}' has no stage '{stage}' that asks a model{hint}")


def plan(
    collection: Collection,
    stores: Stores,
    inference: InferenceSettings,
    *,
    partitions: Sequence[str] | None = None,
    stages: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda _line: None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> Plan:
    """What a run would cost: of all that is due, or of these partitions; of all stages that ask models, or of these."""
    paid = _paid(collection)
    for name in stages or ():
        if name not in paid:
            raise StageUnknown(collection.name, name, paid)
    chosen = [name for name in paid if stages is None or name in stages]
    with PreviewWork(collection, stores, "plan") as work, _undisturbed():
        say(f"Looking at {collection.source_path} …")
        states = partition_states(collection, stores, work.listing)
        for key in partitions or ():
            if key not in states:
                raise collection.scheme.unknown(key, list(states))
        if partitions is None:
            keys = due_partitions(collection, stores, list(states), work.listing)
        else:
            keys = list(dict.fromkeys(partitions))
        work.patient = partitions is None  # as `ai-assets run` does with the same arguments
        around = _surroundings(work, inference, keys)
        return _planned(around, states, keys, chosen, advance, wants_devices=stages is None)


def plan_of_documents(
    work: PreviewWork, inference: InferenceSettings, stage: PromptStage, chosen: Mapping[str, Names[str]]
) -> Plan:
    """What asking about these documents of the lake would cost in one stage; `chosen` has their names by partition."""
    with _undisturbed():
        around = _surroundings(work, inference, ())
        tally, seen, spans, dearest = _tally(around, stage.name), set[str](), list[PlannedCalls](), 0
        for partition, names in chosen.items():
            found = ChosenPlanner(around, stage, partition, names).found()
            dearest = max([dearest, *(call.reserve_nusd for call in found.calls)])
            spans.append(_span(found, has_document_budgets(inference)))
            tally.add(found, seen)
        summary = Summary(around, {stage.name: tally}, {stage.name: _estimated(around, tally)})
        _divide(spans, {stage.name: summary.money})
        with work.stores.state.read() as connection:
            budgets = outlooks(connection, inference, spans, work.caller("", ""))
    return Plan(
        collection=work.collection.name,
        partitions={},
        planned=list(chosen),
        documents={"ok": sum(map(len, chosen.values()))},
        stages=summary.stages,
        money=summary.money,
        seconds=summary.seconds,
        alternatives=(),
        budgets=budgets,
        already_nusd=tally.reused_nusd,
        dearest_call_nusd=dearest,
        notes=list(summary.notes()),
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Garbage is looked for among what is made here alone, which spares a large plan a fifth of its time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _paid(collection: Collection) -> list[str]:
    """The assets of a collection that ask models, in the order of a run."""
    asking = _embedding_asks(collection)
    embeds = [each.asset for each in asking]
    evaluates = [questions_name(each) for each in asking] if collection.golden_queries else []
    return [*embeds, *(stage.name for stage in collection.stages if stage.route is not None), *evaluates]


def _embedding_asks(collection: Collection) -> list[DeclaredEmbedding]:
    """The embeddings by a model on a route."""
    return [each for each in collection.embeddings if each.models]


def _surroundings(work: PreviewWork, inference: InferenceSettings, keys: Sequence[str]) -> PlanContext:
    collection, folder = work.collection, work.stores.home.inference.parent
    changed = {key: changed_files(work, key) for key in keys if current_documents(work, key) is None}
    routed = [question.stage for question in collection.questions.values()]
    with work.stores.state.read() as connection:
        embeds = {questions_name(each): QUESTIONS for each in _embedding_asks(collection)}
        past = {
            name: past_of(
                connection,
                collection.name,
                embeds.get(name, name),
                per_call=collection.embedding_of(name) is not None,
            )
            for name in _paid(collection)
        }
        labels = {stage.name: labels_so_far(connection, collection.name, stage.name) for stage in collection.stages}
    used = {
        name
        for route in [
            *(stage.route or "" for stage in routed),
            *(each.settings.route or "" for each in collection.embeddings),
        ]
        for name in names_of(inference, route)
    }
    files = sum(len(work.listing.by_partition.get(key, ())) for key in keys)
    return PlanContext(
        work=work,
        inference=inference,
        read_ahead=ReadAhead(work, changed),
        counters={name: counter_for(name, inference.endpoints[name], folder) for name in used},
        past=past,
        labels=labels,
        answer_bytes={stage.name: _answer_bytes(stage, past[stage.name]) for stage in routed},
        every=max(1, files // COUNTED),
    )


def _answer_bytes(stage: PromptStage, past: PastQuestions) -> int:
    given = [item.output_tokens for item in past.asked]
    tokens = sum(given) / len(given) if given else stage.OUTPUT_TOKENS[1]
    return round(tokens * TOKEN_BYTES)


def _planned(
    around: PlanContext,
    states: Mapping[str, str],
    keys: Sequence[str],
    chosen: Sequence[str],
    advance: Callable[[int, int], None],
    *,
    wants_devices: bool,
) -> Plan:
    work, inference = around.work, around.inference
    tallies = {name: _tally(around, name) for name in _paid(work.collection)}
    seen: set[str] = set()
    spans: list[PlannedCalls] = []
    at_once = ConcurrentReservations(inference)
    documents: Counts[str] = Counts()
    devices = device_tallies(work.collection) if wants_devices else []
    for number, key in enumerate(keys, start=1):
        walk = PartitionPlanner(around, key)
        for found in _found(around, walk):
            if found.stage in chosen:
                at_once.add(found, tallies[found.stage], seen)
            tallies[found.stage].add(found, seen)
            if found.stage in chosen:
                spans.append(_span(found, has_document_budgets(inference)))
        for tally in devices:
            tally.add(around, walk)
        documents.update({name: count for name, count in walk.statuses.items() if name != "deleted"})
        if walk.documents is None:
            documents["unread"] += math.ceil(walk.texts.unread.documents)
        advance(number, len(keys))
    for each in _embedding_asks(work.collection) if keys and work.collection.golden_queries else ():
        asked = questions_of(around, each)
        if asked.stage in chosen:
            at_once.add(asked, tallies[asked.stage], seen)
        tallies[asked.stage].add(asked, seen)
    summary = Summary(around, tallies, {name: _estimated(around, tallies[name]) for name in chosen})
    in_flight = at_once.bound({stage.stage for stage in summary.stages if stage.tier == BATCH})
    _divide(spans, {stage.stage: stage.money for stage in summary.stages})
    spans = _in_order(spans, keys, chosen)
    with work.stores.state.read() as connection:
        budgets = outlooks(connection, inference, spans, work.caller("", ""))
    planned = set(keys)
    return Plan(
        collection=work.collection.name,
        partitions={key: state for key, state in states.items() if key in planned or state != "empty"},
        planned=list(keys),
        documents={name: count for name, count in sorted(documents.items()) if count},
        stages=summary.stages,
        money=summary.money,
        seconds=summary.seconds,
        alternatives=summary.alternatives(),
        budgets=budgets,
        already_nusd=sum(tallies[name].reused_nusd for name in chosen),
        dearest_call_nusd=max((span.reserve_nusd for span in spans if span.calls), default=0),
        in_flight_calls=in_flight.calls,
        in_flight_nusd=in_flight.nusd,
        devices=[tally.plan(around) for tally in devices if keys],
        notes=[
            *summary.notes(),
            *(f"{tally.asset}: {said}." for tally in devices if (said := around.departures.said(tally.asset))),
            *(
                f"{tally.asset} could not be computed on this machine: {said.rstrip('.')}."
                for tally in devices
                if keys and (said := tally.why_not_here)
            ),
            *_of_functions(around, documents.get("ok", 0) + documents.get("unread", 0)),
            *(_of_reranker(around) if keys else ()),
            *_waiting(around, keys),
        ],
    )


def _waiting(around: PlanContext, planned: Sequence[str]) -> Iterator[str]:
    """Partitions that are not due because they wait."""
    collection, stores = around.work.collection, around.work.stores
    with stores.state.read() as connection:
        found = waits(connection, collection.name)
    for wait in found:
        if wait.partition not in planned:
            yield f"{wait.partition} {wait.asset}: {wait.said(around.departures.now)}."


def _of_functions(around: PlanContext, documents: int) -> Iterator[str]:
    """What a function asks is known when it has asked: what it cost so far is told beside the plan."""
    work = around.work
    for stage in work.collection.stages:
        if not isinstance(stage, FunctionStage) or stage.models is None or not documents:
            continue
        if said := around.departures.said(stage.name):
            yield f"{stage.name}: {said}."
        with work.stores.state.read() as connection:
            past = spent_by(connection, work.collection.name, stage.name)
        if not past.documents:
            yield (
                f"{stage.name} is a function that asks as it goes: what it costs is unknown before its first run, and "
                "is not in the sum."
            )
            continue
        each = past.nusd / past.documents
        so_far, at_most = in_dollars(round(each)), in_dollars(round(each * documents))
        yield (
            f"{stage.name} is a function: so far {past.calls / past.documents:.1f} calls and {so_far} per document. "
            f"For at most {plural(documents, 'document')} here that is at most {at_most}, which is not in the sum."
        )


def _of_reranker(around: PlanContext) -> Iterator[str]:
    """Which passages golden queries find is known when the index is made: so many calls at most are told beside the
    plan."""
    collection, work = around.work.collection, around.work
    reranker, queries = collection.reranker, len(collection.golden_queries)
    if reranker is None or not queries:
        return
    if reranker.backend != "route":
        device = collection.settings.rerank.device if collection.settings.rerank else None
        if (said := why_not_here(reranker.backend, device or AUTO)) is not None:
            yield f"What golden queries find could not be reranked on this machine: {said.rstrip('.')}."
        return
    calls = queries * RERANKED * len(collection.embeddings)
    with work.stores.state.read() as connection:
        past = spent_by(connection, collection.name, QUESTIONS, "rerank")
    if past.calls:
        each = past.nusd / past.calls
        price = f"so far {in_dollars(round(each))} a call, so at most {in_dollars(round(each * calls))} each time"
    else:
        price = "what a call costs is known after the first"
    yield (
        f"Reranking on '{reranker.said}': at most {plural(calls, 'call')} for the "
        "golden queries when the candidate is judged, "
        f"and as many when its index goes live, less those that the ledger answers; {price}. They are not in the sum."
    )


def _found(around: PlanContext, walk: PartitionPlanner) -> Sequence[StageFindings]:
    stages = list(walk.stages())  # first: passages may be cut from what they make
    embeds = [passages_of(around, walk, each) for each in _embedding_asks(around.work.collection)]
    return [*embeds, *stages]


def _tally(around: PlanContext, name: str) -> Tally:
    collection, leaving = around.work.collection, around.departures
    embeds = next((each for each in collection.embeddings if name in (each.asset, questions_name(each))), None)
    if embeds is not None:
        route = embeds.settings.route or ""
        return Tally(
            stage=name,
            kind="embed",
            route=route,
            endpoint=leaving.names(embeds.asset, route)[0],
            max_output_tokens=0,
            prompt="",
        )
    question = collection.questions[name]
    route = question.stage.route or ""
    return Tally(
        stage=name,
        kind=question.stage.kind_name,
        route=route,
        endpoint=leaving.names(name, route)[0],
        max_output_tokens=question.stage.max_output_tokens,
        prompt=question.prompt.version,
        usual_output=question.stage.OUTPUT_TOKENS,
        usual_around=question.stage.AROUND_BYTES,
    )


def _span(found: StageFindings, of_documents: bool) -> PlannedCalls:
    reserves: dict[str, int] = {}
    for call in found.calls if of_documents else ():
        reserves[call.document] = max(reserves.get(call.document, 0), call.reserve_nusd)
    unread = [(chance, each) for chance, each in found.unread]
    return PlannedCalls(
        partition=found.partition,
        stage=found.stage,
        calls=sum(call.chance.likely for call in found.calls)
        + sum(chance.likely * each.documents for chance, each in unread),
        size=sum(call.size * call.chance.likely for call in found.calls)
        + sum(chance.likely * each.text_bytes for chance, each in unread),
        reserve_nusd=max((call.reserve_nusd for call in found.calls), default=0),
        documents=reserves,
    )


def _in_order(spans: Sequence[PlannedCalls], keys: Sequence[str], stages: Sequence[str]) -> list[PlannedCalls]:
    """As a run asks: some partitions are under way at once, each stage by stage."""
    lane = {key: number // LANES for number, key in enumerate(keys)}
    return sorted(spans, key=lambda span: (lane[span.partition], stages.index(span.stage)))


def _divide(spans: Sequence[PlannedCalls], money: Mapping[str, Money]) -> None:
    """What a stage costs is shared out by the size of the questions."""
    totals: dict[str, float] = {}
    for span in spans:
        totals[span.stage] = totals.get(span.stage, 0.0) + span.size
    for span in spans:
        share = span.size / totals[span.stage] if totals[span.stage] else 0.0
        whole = money[span.stage]
        span.money = Money(
            low_nusd=round(whole.low_nusd * share),
            likely_nusd=round(whole.likely_nusd * share),
            high_nusd=round(whole.high_nusd * share),
        )


def _estimated(around: PlanContext, tally: Tally) -> Estimate:
    model = around.inference.endpoints[tally.endpoint].llm
    past = around.past[tally.stage]
    alike, words = past.alike(model, tally.prompt)
    if not alike.asked and tally.kind != "embed":
        with around.work.stores.state.read() as connection:
            alike = past_of_kind(connection, tally.kind, model)
        alike, words = (alike, f"of other {tally.kind} stages") if len(alike.asked) >= ENOUGH else (PastQuestions(), "")
    return estimate(tally, around.inference.endpoints, past, alike, words)
