"""The clock of money: alerts are given, backfills that died give theirs back, and the ticks say how budgets stand."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection

if TYPE_CHECKING:
    from ai_assets.inference.budget_status import AccountStatus
    from ai_assets.inference.settings import InferenceSettings

INTERVAL_S = 60
_log = logging.getLogger("ai_assets.budgets")


def budgets(collections: Sequence[Collection]) -> dg.SensorDefinition:
    """One for all collections. It asks for no runs, so it has no job."""
    _hold_scopes(collections)

    @dg.sensor(
        name="budget_alerts",
        minimum_interval_seconds=INTERVAL_S,
        description="Tells people when a budget is used up to a declared share, once each. Changes no limit.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from ai_assets.costs import alerts, funding
        from ai_assets.inference.budget_status import all_standing
        from ai_assets.inference.load import inference_at
        from ai_assets.planning import backfills
        from ai_assets.storage.state import now
        from ai_assets.storage.stores import Stores

        moment = now()
        with Stores.at(Home.from_environment()) as stores:
            ended = backfills.sweep(stores, context.instance)
            try:
                settings = inference_at(stores.home)
            except UserError as error:
                return dg.SkipReason(f"no alert was given: {error}")
            given = alerts.give(stores.state, settings, moment, collections)
            on = funding.day_of(moment)
            with stores.state.read() as connection:
                standings = all_standing(connection, settings, on, most=1)
                poor = [funding.no_money(connection, collection, settings, on) for collection in collections]
        said = [
            f"{plural(len(ended), 'backfill')} ended, and gave back what was set aside" if ended else "",
            f"{plural(len(given), 'alert')} given" if given else "",
            _worst(standings),
            *poor,
        ]
        return dg.SkipReason("; ".join(part for part in said if part) or "no budget is used")

    return body


def _worst(standings: "Sequence[AccountStatus]") -> str:
    """Where the largest share of a limit is used."""
    from ai_assets.costs.funding import used

    worst = max(standings, key=lambda found: found.share, default=None)
    return used(worst) if worst is not None and worst.used_nusd else ""


def _hold_scopes(collections: Sequence[Collection]) -> None:
    """Refuse a budget whose tenant, collection or asset is misspelt, and tell of one, or of a share, that none has."""
    path = Home.from_environment().inference
    if not path.is_file():
        return
    from ai_assets.costs import scopes
    from ai_assets.inference.load import inference_at, load_inference

    declared = load_inference(path)
    scopes.refuse_of_other_tenants(inference_at(Home.from_environment()), collections)
    settings, elsewhere = _of_here(declared, collections)
    scopes.refuse_misspelt(path, settings, collections)
    for doubt in (*scopes.doubts(settings, collections), *scopes.strangers(declared, collections, elsewhere)):
        _log.warning("%s", scopes.located(path, doubt))


def _of_here(settings: "InferenceSettings", collections: Sequence[Collection]) -> tuple["InferenceSettings", set[str]]:
    """Without budgets of collections that other code locations of the home have; and the names of these."""
    from ai_assets.collection.catalog import Catalog

    elsewhere = {*Catalog(Home.from_environment()).names()} - {collection.name for collection in collections}
    kept = [budget for budget in settings.budgets if budget.of.get("collection") not in elsewhere]
    return settings.model_copy(update={"budgets": kept}), elsewhere
