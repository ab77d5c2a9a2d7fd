"""The segment of a collection in which something declares `compute:`: a graph of ops, one for each step.

The steps go one after another. `DONE` orders them: it is an output of no asset, so that assets whose events the body
yields itself may stay skippable. Dagster selects it exactly where a later step has something to do.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import dagster as dg

from ai_assets.collection.loading import Collection
from ai_assets.collection.steps import SegmentStep
from ai_assets.orchestration.errors import ChecksAlone
from ai_assets.orchestration.op_settings import op_settings, tried_once
from ai_assets.orchestration.segment import Made, computed, failure, segment
from ai_assets.orchestration.specs import asset_spec, check_specs

DONE = "done"
BEFORE = "before"


def segment_of(collection: Collection) -> dg.AssetsDefinition:
    return segment(collection) if len(collection.steps) == 1 else _cut(collection)


@dataclass(frozen=True, kw_only=True)
class _StepOp:
    """One op of the graph, and which outputs of it are what."""

    step: SegmentStep
    name: str
    checks: Mapping[str, dg.AssetCheckSpec]
    """By output."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return (*self.step.assets, *self.checks)


def _cut(collection: Collection) -> dg.AssetsDefinition:
    ops = _ops_of(collection)
    bodies = [_op(collection, op, first=number == 0) for number, op in enumerate(ops)]
    graph = dg.GraphDefinition(
        name=f"{collection.name}__segment",
        node_defs=bodies,
        dependencies={
            op.name: {BEFORE: dg.DependencyDefinition(before.name, DONE)} for before, op in itertools.pairwise(ops)
        },
        output_mappings=[
            dg.OutputMapping(graph_output_name=output, mapped_node_name=op.name, mapped_node_output_name=output)
            for op in ops
            for output in op.outputs
        ],
    )
    return dg.AssetsDefinition(
        node_def=graph,
        keys_by_input_name={},
        keys_by_output_name={spec.key.path[-1]: spec.key for spec in _specs(collection)},
        specs=_specs(collection),
        check_specs_by_output_name={output: spec for op in ops for output, spec in op.checks.items()},
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(collection.settings.partitions.per_run),
    )


def _specs(collection: Collection) -> list[dg.AssetSpec]:
    return [asset_spec(collection, asset) for asset in collection.asset_names]


def _ops_of(collection: Collection) -> list[_StepOp]:
    specs = check_specs(collection)
    found = []
    for step in collection.steps:
        own = [spec for spec in specs if spec.asset_key.path[-1] in step.assets]
        checks = {f"check__{spec.asset_key.path[-1]}__{spec.name}": spec for spec in own}
        found.append(_StepOp(step=step, name=f"{collection.name}__{step.name}", checks=checks))
    return found


def _op(collection: Collection, op: _StepOp, *, first: bool) -> dg.OpDefinition:
    settings = op_settings(collection, op.step)

    @dg.op(
        name=op.name,
        description=f"Computes {', '.join(op.step.assets)}.",
        ins={} if first else {BEFORE: dg.In(dg.Nothing)},
        out={**{output: dg.Out(dg.Nothing, is_required=False) for output in op.outputs}, DONE: dg.Out(dg.Nothing)},
        pool=settings.pool,
        tags=settings.tags,
        retry_policy=settings.retries,
    )
    def body(context: dg.AssetExecutionContext) -> Iterator[Made]:
        chosen = context.op_execution_context.selected_output_names
        assets = [asset for asset in op.step.assets if asset in chosen]
        checks = {output: spec for output, spec in op.checks.items() if output in chosen}
        if not assets and checks:
            raise failure(ChecksAlone(collection.name))
        if assets:
            with tried_once(settings):
                yield from _computed(context, collection, op.step, assets, set(checks.values()))
        yield from (dg.Output(None, output_name=output) for output in checks)
        if DONE in chosen:
            yield dg.Output(None, output_name=DONE)

    return body


def _computed(
    context: dg.AssetExecutionContext,
    collection: Collection,
    step: SegmentStep,
    assets: list[str],
    checks: set[dg.AssetCheckSpec],
) -> Iterator[Made]:
    from ai_assets.run.hand_over import RunPart

    selected = {key.path[-1] for key in context.assets_def.keys}
    part = RunPart(
        step=step.name,
        goes_on=DONE in context.op_execution_context.selected_output_names,
        whole=selected == set(collection.asset_names),
    )
    chosen = {(spec.asset_key.path[-1], spec.name) for spec in checks}
    yield from computed(context, collection, assets, chosen, part)
