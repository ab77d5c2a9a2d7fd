"""One shadow: what is compared, its price, then the calls, and what came of it."""

import functools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.inference.records import SHADOW
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.backfills import usual_cap
from ai_assets.planning.plan import plan, plan_of_documents
from ai_assets.planning.records import NOTHING, Money, Plan
from ai_assets.run.datasets.golden_items import GoldenItems
from ai_assets.run.spending_policy import SpendingQuestion
from ai_assets.shadow import records
from ai_assets.shadow.asking import ShadowCap, ShadowWork, compared, run_id_of
from ai_assets.shadow.comparing import (
    CallFacts,
    moves_of,
    price_of,
    qualities,
    sampled,
    verdict,
    worst_slices,
)
from ai_assets.shadow.drawing import Drawn, LiveSide, Sampler, live_side, parsed_slices
from ai_assets.shadow.errors import ShadowRefused
from ai_assets.shadow.spec import (
    ComparedDocument,
    MoneyRange,
    Shadow,
    ShadowResults,
    ShadowSpec,
    VariantResult,
)
from ai_assets.shadow.variants import (
    Variant,
    WantedVariant,
    comparable_stage,
    declared_file,
    digest_of,
    require_any,
    variant_of,
)
from ai_assets.signoff.launches import Launch
from ai_assets.stages.base import PromptStage
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.leases import hold
from ai_assets.storage.stores import Stores
from ai_assets.telemetry.command_span import command_span

SAMPLE = 200
KEYS_AT_ONCE = 500
Say = Callable[[str], None]
Advance = Callable[[int, int], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShadowRequest:
    """What a person asks for."""

    stage: str
    variants: Sequence[WantedVariant]
    sample: int | None = None
    seed: int = 1
    slices: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ProposedShadow:
    """Before anything is asked."""

    collection: Collection
    stage: PromptStage
    spec: ShadowSpec
    variants: Sequence[Variant]
    drawn: Drawn
    plans: Mapping[str, Plan]
    """By variant."""

    @property
    def money(self) -> Money:
        return functools.reduce(operator.add, (each.money for each in self.plans.values()), NOTHING)

    @property
    def new_calls(self) -> int:
        return sum(each.new_calls for each in self.plans.values())

    @property
    def most_calls(self) -> float:
        return sum(stage.calls.high for each in self.plans.values() for stage in each.stages)

    @property
    def cap_nusd(self) -> int:
        """What it costs at most, with room for the last call's reservation of each variant."""
        return sum(map(usual_cap, self.plans.values()))


def propose(
    collection: Collection, stores: Stores, wanted: ShadowRequest, say: Say = lambda _line: None
) -> ProposedShadow:
    """Nothing is asked and nothing written."""
    stage = comparable_stage(collection, wanted.stage)
    require_any(wanted.variants, collection, stage.name)
    if wanted.sample is not None and wanted.sample < 1:
        raise ShadowRefused(
            collection.name, stage.name, f"a sample of {plural(wanted.sample, 'document')} shows nothing"
        )
    slices = parsed_slices(collection, stage, wanted.slices)
    inference = Catalog(stores.home).inference_of(collection.name)
    variants = [variant_of(collection, stage, each, inference) for each in wanted.variants]
    size = SAMPLE if wanted.sample is None and not slices else wanted.sample
    with ShadowWork(collection, stores, "plan") as work:
        say("Drawing documents")
        live = live_side(work)
        drawn = Sampler(work=work, stage=stage, live=live, slices=slices, size=size, seed=wanted.seed,
                        golden=_golden(work, stage)).drawn()  # fmt: skip
    say(f"Counting what {plural(len(drawn.documents), 'document')} would cost")
    spec = _spec(collection, stage, wanted, variants, size, live)
    plans = {each.spec.name: _plan(stores, each, stage, drawn, inference) for each in variants}
    return ProposedShadow(
        collection=collection, stage=stage, spec=spec, variants=variants, drawn=drawn, plans=plans
    )  # fmt: skip


def _golden(work: ShadowWork, stage: PromptStage) -> Mapping[str, str]:
    """Golden labels of the stage by document, where they judge it; none that it is shown."""
    if work.collection.judged_stage != stage or not work.collection.judges_labels:
        return {}
    return GoldenItems(work).truth


def _spec(
    collection: Collection,
    stage: PromptStage,
    wanted: ShadowRequest,
    variants: Sequence[Variant],
    size: int | None,
    live: LiveSide,
) -> ShadowSpec:
    path = declared_file(collection, stage)
    return ShadowSpec(
        stage=stage.name,
        kind=stage.kind_name,
        variants=tuple(each.spec for each in variants),
        declared_prompt=stage.prompt,
        declared_digest=digest_of(path),
        declared_version=collection.questions[stage.name].prompt.version,
        declared_route=stage.route or "",
        sample=size,
        seed=wanted.seed,
        slices=tuple(wanted.slices),
        release=live.release,
    )


def _plan(stores: Stores, variant: Variant, stage: PromptStage, drawn: Drawn, inference: InferenceSettings) -> Plan:
    chosen = {partition: set(found) for partition, found in drawn.by_partition.items()}
    with ShadowWork(variant.asking, stores, "plan") as work:
        return plan_of_documents(work, inference, variant.question(stage.name).stage, chosen)


def require_allowed(proposed: ProposedShadow, stores: Stores, launch: Launch) -> None:
    """What policies say of spending. Raises SpendingDenied."""
    for variant in proposed.variants:
        found = proposed.plans[variant.spec.name]
        SpendingQuestion(
            collection=variant.asking, stores=stores, inference=Catalog(stores.home).inference_of(found.collection),
            partitions=found.planned, launch=launch, plan=found,
        ).require()  # fmt: skip


def carry_out(
    proposed: ProposedShadow,
    stores: Stores,
    *,
    cap_nusd: int,
    by: str,
    say: Say = lambda _line: None,
    advance: Advance = lambda _done, _total: None,
    report: Say = _log.warning,
) -> Shadow:
    """Ask what is not answered yet, and record what came of it. `report` hears of a collector in trouble."""
    collection, spec, stage = proposed.collection, proposed.spec, proposed.stage
    with hold(stores.state, f"shadow:{collection.name}", wait_s=1.0):
        shadow = records.begin(stores.state, collection.name, spec, by)
        total, done = len(proposed.drawn.documents) * len(proposed.variants), 0
        found: dict[str, list[ComparedDocument]] = {}
        reused: dict[str, int] = {}
        paid: dict[str, int] = {}
        cap = ShadowCap.approved(stores, shadow, cap_nusd)
        about = {"collection": collection.name, "stage": stage.name, "shadow": shadow.name}
        with command_span(f"shadow {collection.name} {shadow.name}", about, report) as hearing:
            for variant in proposed.variants:
                name = variant.spec.name
                say(f"Asking {name}")
                with ShadowWork(variant.asking, stores, run_id_of(shadow, name), cap, hearing.calls) as work:
                    found[name], reused[name] = compared(
                        work, shadow, name, variant.question(stage.name), proposed.drawn,
                        functools.partial(_advanced, advance, done, total),
                    )  # fmt: skip
                done += len(found[name])
                paid[name] = _spent(stores, shadow, name)
        say("Counting what all documents would cost")
        results = _results(proposed, stores, found, reused, paid)
        return records.finish(stores.state, shadow, results, [each for those in found.values() for each in those])


def _advanced(advance: Advance, before: int, total: int, done: int) -> None:
    advance(before + done, total)


def _results(
    proposed: ProposedShadow,
    stores: Stores,
    found: Mapping[str, Sequence[ComparedDocument]],
    reused: Mapping[str, int],
    paid: Mapping[str, int],
) -> ShadowResults:
    stage, of_labels = proposed.stage, isinstance(proposed.stage, ClassifyStage)
    judged = qualities(found, proposed.spec.release)
    calls = {call for those in found.values() for each in those for call in (each.live_call, each.new_call) if call}
    facts = _facts(stores, sorted(calls))
    slices = {
        each.document_id: [f"language {each.facts['language']}", f"source {each.facts['source']}",
                           *([f"{stage.name} {each.live.said}"] if of_labels and each.live.said else [])]
        for each in proposed.drawn.documents
    }  # fmt: skip
    notes: list[str] = []
    results = []
    for variant in proposed.variants:
        name = variant.spec.name
        those = sampled(found[name])
        unanswered = sum(each.new_said is None for each in those)
        results.append(
            VariantResult(
                name=name,
                documents=len(those),
                changed=sum(each.is_changed for each in those),
                unanswered=unanswered,
                moves=moves_of(those) if of_labels else (),
                quality=judged.get(name),
                slices=worst_slices(found[name], slices),
                live=price_of((each.live_call for each in found[name]), facts),
                new=price_of((each.new_call for each in found[name]), facts),
                paid_nusd=paid[name],
                reused=reused[name],
                migration=_migration(variant, stores, stage, notes),
            )
        )
    names = [each.spec.name for each in proposed.variants]
    return ShadowResults(
        population=proposed.drawn.population,
        left_out=proposed.drawn.left_out,
        variants=tuple(results),
        verdict=verdict(names, judged, of_labels=of_labels),
        notes=tuple(notes),
    )


def _migration(variant: Variant, stores: Stores, stage: PromptStage, notes: list[str]) -> MoneyRange | None:
    """What asking about all documents would cost by now; answers of the ledger are not paid again."""
    try:
        found = migration_plan(variant.promoted, stores, stage.name)
    except UserError as error:
        notes.append(f"{variant.spec.name}: what a migration would cost is not known: {error}")
        return None
    (planned,) = found.stages
    money = planned.money
    return MoneyRange(
        low_nusd=money.low_nusd, likely_nusd=money.likely_nusd, high_nusd=money.high_nusd, calls=planned.new_calls,
        answered=planned.reused,
    )  # fmt: skip


def migration_plan(promoted: Collection, stores: Stores, stage: str) -> Plan:
    """Of that stage alone, over all partitions: what is made from it is planned when its answers are there."""
    return plan(promoted, stores, Catalog(stores.home).inference_of(promoted.name), stages=[stage])


def _spent(stores: Stores, shadow: Shadow, variant: str) -> int:
    """Also before it was interrupted."""
    query = sa.text(
        "SELECT COALESCE(SUM(attempts.cost_nusd), 0) FROM attempts JOIN callers "
        "ON callers.caller_id = attempts.caller_id WHERE callers.collection = :c AND callers.asset = :a "
        "AND callers.run_id = :r"
    )
    asked = {"c": shadow.collection, "a": shadow.spec.stage + SHADOW, "r": run_id_of(shadow, variant)}
    with stores.state.read() as connection:
        return int(connection.execute(query, asked).scalar_one())


def _facts(stores: Stores, calls: Sequence[str]) -> dict[str, CallFacts]:
    """What the ledger has of these answers, by call."""
    query = sa.text(
        "SELECT calls.call_key, attempts.cost_nusd, attempts.latency_s FROM calls JOIN attempts "
        "ON attempts.attempt_id = calls.attempt_id WHERE attempts.state = 'settled' AND calls.call_key IN :keys"
    ).bindparams(sa.bindparam("keys", expanding=True))
    found: dict[str, CallFacts] = {}
    with stores.state.read() as connection:
        for start in range(0, len(calls), KEYS_AT_ONCE):
            for row in connection.execute(query, {"keys": list(calls[start : start + KEYS_AT_ONCE])}):
                found[row.call_key] = CallFacts(cost_nusd=row.cost_nusd, latency_s=row.latency_s)
    return found
