"""Asking for the run that publishes what is approved: again where it failed, and not for ever."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.orchestration.held_back import held_back
from ai_assets.orchestration.interrupted import is_under_way

if TYPE_CHECKING:
    from ai_assets.signoff.requests import SignoffRequest

MOST_TRIES = 3


def ask(
    context: dg.SensorEvaluationContext,
    *,
    batch: str,
    approved: "Sequence[SignoffRequest]",
    event_of: "Callable[[SignoffRequest], dg.AssetMaterialization]",
    tag: str,
    remedy: str,
) -> dg.SensorResult | dg.SkipReason:
    """One run for what `batch` stands for, with the `sign_off` events of the approvals that have not been told of yet.

    `tag` is what its runs are found by; `remedy` what to do once it failed too often.
    """
    if held := held_back(Home.from_environment()):
        return dg.SkipReason(held)  # and no try is counted
    cursor = json.loads(context.cursor or "{}")
    tries = cursor.get("tries", 0) if cursor.get("batch") == batch else 0
    if tries >= MOST_TRIES:
        return dg.SkipReason(f"publication failed {plural(tries, 'time')}; see its runs, {remedy}")
    if tries and is_under_way(context.instance, tag, f"{batch}-{tries}"):
        return dg.SkipReason("the publication is under way")
    attempt, mirrored = f"{batch}-{tries + 1}", set(cursor.get("mirrored", []))
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=attempt, tags={tag: attempt})],
        asset_events=[event_of(request) for request in approved if request.request_id not in mirrored],
        cursor=json.dumps(
            {"batch": batch, "tries": tries + 1, "mirrored": [request.request_id for request in approved]}
        ),
    )
