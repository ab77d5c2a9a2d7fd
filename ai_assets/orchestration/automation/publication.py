"""The gate: an approval becomes one publication run. Nothing is held while it waits; Dagster's events do not count."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.interrupted import is_orphaned
from ai_assets.orchestration.published import sign_off_event
from ai_assets.storage.digest import digest

if TYPE_CHECKING:
    from ai_assets.targets.serving import TargetState

INTERVAL_S = 15
MOST_TRIES = 3


def publication(collection: Collection) -> dg.SensorDefinition:
    """Mirrors new approvals as `sign_off` events and asks for the publication of what is approved."""

    @dg.sensor(
        name=f"{collection.name}__publication",
        job_name=f"{collection.name}__publish",
        minimum_interval_seconds=INTERVAL_S,
        description="Publishes approved candidates within a minute. Never approves anything itself.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ai_assets.signoff import requests
        from ai_assets.storage.stores import Stores
        from ai_assets.targets import serving

        with Stores.at(Home.from_environment()) as stores, stores.state.read() as connection:
            approved = requests.find(connection, collection.name, statuses=("approved",))
            waiting = requests.count_open(connection, collection.name)
            targets = serving.due(connection, collection)
            failing = serving.failures_in_words(serving.states(connection, collection))
        if not approved and not targets:
            said = f"nothing approved; {waiting} waiting for sign-off"
            return dg.SkipReason("; ".join([said, *failing]))
        cursor = json.loads(context.cursor or "{}")
        batch = _batch([request.request_id for request in approved], targets)
        tries = cursor.get("tries", 0) if cursor.get("batch") == batch else 0
        if tries >= MOST_TRIES:
            return dg.SkipReason(
                f"publication failed {tries} times; see its runs, then: ai-assets publish {collection.name}"
            )
        if tries and _under_way(context.instance, f"{batch}-{tries}"):
            return dg.SkipReason("the publication is under way")
        mirrored = set(cursor.get("mirrored", []))
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=f"{batch}-{tries + 1}", tags={"ai_assets/publication": f"{batch}-{tries + 1}"})
            ],
            asset_events=[
                sign_off_event(collection, request.partition, request.digest, request.closed_by or "")
                for request in approved
                if request.request_id not in mirrored
            ],
            cursor=json.dumps(
                {"batch": batch, "tries": tries + 1, "mirrored": [request.request_id for request in approved]}
            ),
        )

    return body


def _batch(approved: Sequence[str], targets: "Sequence[TargetState]") -> str:
    """What is to be done; a target that failed makes another one of its next try."""
    if not targets:
        return digest(sorted(approved))[:16]
    return digest([sorted(approved), [[state.target, state.serves, state.tries] for state in targets]])[:16]


def _under_way(instance: dg.DagsterInstance, attempt: str) -> bool:
    runs = instance.get_runs(dg.RunsFilter(tags={"ai_assets/publication": attempt}), limit=1)
    return bool(runs) and not runs[0].is_finished and not is_orphaned(instance, runs[0])
