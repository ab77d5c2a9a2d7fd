"""Removes what is no longer needed: a bit at a time, so that a tick never takes long."""

from collections.abc import Sequence

import dagster as dg

from ai_assets.base.errors import LeaseBusy, UserError
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection

INTERVAL_S = 60
BUDGET_S = 20.0
"""Of one tick; Dagster ends one that takes 60 seconds."""


def retention(collections: Sequence[Collection]) -> dg.SensorDefinition:
    """One for the installation."""

    @dg.sensor(
        name="retention",
        minimum_interval_seconds=INTERVAL_S,
        description="Removes runs, releases, candidates and litter that operations.yaml does not keep.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from ai_assets.base.tenants import load_tenants
        from ai_assets.retention.leftovers import RetentionContext
        from ai_assets.retention.sweep import sweep
        from ai_assets.run.operations import load_operations
        from ai_assets.storage.stores import Stores

        home = Home.from_environment()
        try:
            settings, tenants = load_operations(home.operations).retention, load_tenants(home.operations)
        except UserError as error:
            return dg.SkipReason(f"nothing was removed: {error}")
        if not settings.enabled:
            return dg.SkipReason("retention.enabled is false in operations.yaml")
        with Stores.at(home) as stores:
            bench = RetentionContext(
                stores=stores, settings=settings, collections=collections, tenants=tenants, instance=context.instance
            )
            if bench.moment_s - float(context.cursor or 0) < settings.every_hours * 3600:
                return dg.SkipReason(f"nothing to remove until {settings.every_hours:g} hours after the last time")
            try:
                swept = sweep(bench, budget_s=BUDGET_S)
            except LeaseBusy as error:
                return dg.SkipReason(str(error))
        if swept.done and not swept.in_use:
            context.update_cursor(str(bench.moment_s))
        said = ", ".join(f"{number} {kind}" for kind, number in swept.number.items()) or "nothing"
        return dg.SkipReason(f"removed {said}" + ("" if swept.done else "; goes on at the next tick"))

    return body
