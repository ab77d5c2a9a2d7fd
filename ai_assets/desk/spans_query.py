"""A run on the desk: when its assets were computed, as records and as what the picture of it is drawn from."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.desk.access import NotSeen, collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.runs_query import line_of
from ai_assets.desk.runs_views import AssetLine, RunLine, RunView, SpanLine
from ai_assets.desk.timeline import Lane, Stretch, epoch_s, length
from ai_assets.run import spans
from ai_assets.signoff.people import Person

MOST_SPANS = 200
"""Of a run, on its page."""
MOST_LANES = 36
"""Of the picture; of a run with more, a lane is an asset with all of its partitions."""
MERGED_SHARE = 0.004
"""Of the picture's width: what is nearer together is drawn as one."""


def run_view(desk: Desk, person: Person, name: str, run_id: str) -> RunView:
    collection_seen(desk, person, name)
    with desk.stores.state.read() as connection:
        line, problem = _line(connection, desk, person, name, run_id)
        found = spans.of_run(connection, name, run_id)
        if found is None and line is None:
            raise NotSeen(f"run '{run_id}' of {name}" if problem is None else f"run '{run_id}' of {name} with spans")
        shown = spans.longest(connection, name, run_id, MOST_SPANS) if found else ()
        assets = spans.by_asset(connection, name, run_id) if found else ()
    return RunView(
        collection=name,
        run_id=run_id,
        line=line,
        problem=problem,
        began_at=found.began_at if found else None,
        ended_at=found.ended_at if found else None,
        partitions=found.partitions if found else 0,
        calls=found.calls if found else 0,
        failed=found.failed if found else 0,
        unchanged=found.unchanged if found else 0,
        total=found.spans if found else 0,
        spans=[SpanLine(**vars(span)) for span in shown],
        assets=[AssetLine(**vars(asset)) for asset in assets],
    )


def _line(
    connection: sa.Connection, desk: Desk, person: Person, name: str, run_id: str
) -> tuple[RunLine | None, str | None]:
    """What Dagster says of it; or why it cannot be asked."""
    try:
        with desk.dagster() as dagster:
            run = dagster.run(name, run_id)
    except UserError as error:
        return None, str(error)
    return (None if run is None else line_of(connection, desk, person, run)), None


def lanes(desk: Desk, view: RunView) -> Sequence[Lane]:
    """What was computed, over time: a lane for each asset of a partition, or of many for each asset."""
    if view.total - view.unchanged <= MOST_LANES:
        return _by_partition(view)
    with desk.stores.state.read() as connection:
        return _by_asset(view, spans.times(connection, view.collection, view.run_id))


def _by_partition(view: RunView) -> Sequence[Lane]:
    found: dict[str, dict[str, list[SpanLine]]] = {}
    for span in view.spans:
        if not span.unchanged:
            found.setdefault(span.partition, {}).setdefault(span.asset, []).append(span)
    places = _places(view)
    return [
        Lane(
            label=f"{partition} {asset}",
            said="failed" if mine[-1].error is not None else length(sum(span.seconds for span in mine)),
            series=places[asset],
            stretches=[
                Stretch(
                    began_at=span.began_at, ended_at=span.ended_at, failed=span.error is not None,
                    said=f"{partition} {asset}{', failed' if span.error is not None else ''}: {length(span.seconds)}",
                )
                for span in mine
            ],
        )
        for partition, assets in found.items()
        for asset, mine in assets.items()
    ]  # fmt: skip


def _by_asset(view: RunView, times: Iterable[tuple[str, str, str]]) -> Sequence[Lane]:
    places = _places(view)
    found: dict[str, list[tuple[str, str]]] = {}
    for asset, began_at, ended_at in times:
        found.setdefault(asset, []).append((began_at, ended_at))
    by_name = {line.asset: line for line in view.assets}
    made = []
    for asset in sorted(found, key=places.__getitem__):
        line = by_name[asset]
        counted = plural(line.partitions, "partition")
        merged = _merged(found[asset], _shortest_pause(view))
        made.append(
            Lane(
                label=asset,
                said=f"{counted}, {line.failed:,} failed" if line.failed else counted,
                series=places[asset],
                stretches=[
                    Stretch(began_at=began, ended_at=ended, failed=False, said=f"{asset}: {_lasted(began, ended)}")
                    for began, ended in merged
                ],
            )
        )
    return made


def _places(view: RunView) -> Mapping[str, int]:
    return {line.asset: place for place, line in enumerate(view.assets)}


def _shortest_pause(view: RunView) -> float:
    assert view.began_at is not None
    assert view.ended_at is not None
    return (epoch_s(view.ended_at) - epoch_s(view.began_at)) * MERGED_SHARE


def _merged(times: list[tuple[str, str]], pause: float) -> Sequence[tuple[str, str]]:
    """When at least one was under way."""
    merged: list[tuple[str, str]] = []
    for began, ended in sorted(times):
        if merged and epoch_s(began) - epoch_s(merged[-1][1]) <= pause:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged


def _lasted(began: str, ended: str) -> str:
    return length(epoch_s(ended) - epoch_s(began))
