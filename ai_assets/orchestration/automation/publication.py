"""The gate: an approval becomes one publication run. Nothing is held while it waits; Dagster's events do not count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.orchestration import publishing_runs
from ai_assets.orchestration.published import sign_off_event
from ai_assets.storage.digest import digest

if TYPE_CHECKING:
    from ai_assets.targets.serving import TargetState

INTERVAL_S = 15
ATTEMPT_TAG = "ai_assets/publication"


def publication(collection: Collection) -> dg.SensorDefinition:
    """Mirrors new approvals as `sign_off` events and asks for the publication of what is approved."""

    @dg.sensor(
        name=f"{collection.name}__publication",
        job_name=f"{collection.name}__publish",
        minimum_interval_seconds=INTERVAL_S,
        description="Publishes approved candidates within a minute, and keeps what others open on the live release. "
        "Never approves anything itself.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ai_assets.inference.canary import records
        from ai_assets.signoff import live_index, requests
        from ai_assets.storage.stores import Stores
        from ai_assets.targets import serving

        with Stores.at(Home.from_environment()) as stores:
            repaired = live_index.repair(stores, collection.name)
            with stores.state.read() as connection:
                approved = requests.find(connection, collection.name, statuses=("approved",))
                waiting = requests.count_open(connection, collection.name)
                accepted = records.last_accepted(connection) if collection.canaries else None
                targets = serving.due(connection, collection)
                failing = serving.failures_in_words(serving.states(connection, collection))
        if not approved and not targets:
            said = f"nothing approved; {waiting} waiting for sign-off"
            return dg.SkipReason("; ".join([said, *failing, *filter(None, [repaired])]))
        return publishing_runs.ask(
            context,
            batch=_batch(
                [
                    *(request.request_id for request in approved),
                    *_policies(collection),
                    *filter(None, [accepted]),  # what a changed model held back is tried again
                ],
                targets,
            ),
            approved=approved,
            event_of=lambda request: sign_off_event(
                collection, request.partition, request.digest, request.closed_by or ""
            ),
            tag=ATTEMPT_TAG,
            remedy=f"then: ai-assets publish {collection.name}",
        )

    return body


def _policies(collection: Collection) -> list[str]:
    """Their digest, where there are any: what they forbade is tried again once they are others."""
    found = collection.policies
    return [found.digest] if found else []


def _batch(approved: Sequence[str], targets: "Sequence[TargetState]") -> str:
    """What is to be done; a target that failed makes another one of its next try."""
    if not targets:
        return digest(sorted(approved))[:16]
    return digest([sorted(approved), [[state.target, state.serves, state.tries] for state in targets]])[:16]
