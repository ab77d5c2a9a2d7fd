"""Asks the canaries that are due: a few at each tick, each by one process however many watch."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.errors import LeaseBusy, UserError
from ai_assets.base.home import Home
from ai_assets.base.printable import printable

if TYPE_CHECKING:
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.storage.stores import Stores

INTERVAL_S = 60
WITHIN_S = 20.0
"""After so long no further endpoint is begun. Dagster ends a tick that takes 60 seconds; a run that it ends goes on at
the next one, and what was answered is not asked again."""


def canaries() -> dg.SensorDefinition:
    """One for the installation. It asks for no runs, so it has no job."""

    @dg.sensor(
        name="canaries",
        minimum_interval_seconds=INTERVAL_S,
        description="Asks the fixed sets of inference.yaml that are due, and notices models that were changed.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from ai_assets.inference.canary.asking import canaries as declared_at
        from ai_assets.inference.load import inference_at
        from ai_assets.storage.stores import Stores

        home = Home.from_environment()
        try:
            settings = inference_at(home)
        except UserError as error:
            return dg.SkipReason(f"no canary was asked: {error}")
        names = declared_at(settings)
        if not names:
            return dg.SkipReason("no endpoint of inference.yaml declares a canary")
        with Stores.at(home) as stores:
            said = _asked(names, settings, stores, lambda line: context.log.warning(printable(line)))
        return dg.SkipReason("; ".join(said) or "no canary is due")

    return body


def _asked(
    names: list[str], settings: "InferenceSettings", stores: "Stores", report: Callable[[str], None]
) -> list[str]:
    from ai_assets.inference.canary.asking import asked, declared
    from ai_assets.inference.canary.records import changes_of
    from ai_assets.signoff.canaries import teller
    from ai_assets.telemetry.command_span import canary_span

    started, said = time.monotonic(), []
    for name in names:
        if time.monotonic() - started > WITHIN_S:
            said.append(f"{name} and those after it wait for the next tick")
            break
        try:
            canary = declared(name, settings, stores.home.inference)
            run = asked(canary, settings, stores.state, only_due=True, tell=teller(settings), hear=canary_span(report))
        except LeaseBusy:
            said.append(f"{name} is being asked by another process")
            continue
        except UserError as error:
            said.append(f"{name}: {error}")
            continue
        if run is None:
            continue
        with stores.state.read() as connection:
            found = [each for each in changes_of(connection, name, only_open=True) if each.run_id == run.run_id]
        said.append(found[0].sentence if found else f"{name}: {run.problem if run.state == 'no answer' else 'asked'}")
    return said
