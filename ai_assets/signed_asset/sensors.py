"""What watches a signed asset: its new rows are asked about, what is approved is published, deadlines are kept.

Each tick looks at how things are, not at what happened last, so that a run that was killed is made again.
"""

import json
from typing import Any

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.orchestration import publishing_runs
from ai_assets.orchestration.events import DATA_VERSION, INPUT_POINTER
from ai_assets.orchestration.interrupted import is_under_way
from ai_assets.signed_asset.declaration import CANDIDATE, PUBLISHED, SignedAsset, path_of, record
from ai_assets.storage.digest import digest

INTERVAL_S = 15
MOST_TRIES = 3
MOST_RECORDS = 1_000
"""Materializations that one tick looks at."""
MOST_RUNS = 25
"""Partitions that one tick asks about."""
ATTEMPT_TAG = "ai_assets/signed_attempt"


def requests_of(declared: SignedAsset, asset: dg.AssetKey) -> dg.SensorDefinition:
    """Asks for sign-off of rows that were materialized later than the candidate was made."""

    @dg.sensor(
        name=f"{declared.name}__requests",
        job_name=f"{declared.name}__request",
        minimum_interval_seconds=INTERVAL_S,
        description=f"Asks people to sign the new rows of {declared.asset}.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = json.loads(context.cursor or "{}")
        due: dict[str, list[int]] = cursor.get("due", {})
        seen = _look(context.instance, asset, cursor.get("seen", 0), due)
        candidate = dg.AssetKey(path_of(declared.name, CANDIDATE))
        runs, failed = list[dg.RunRequest](), list[str]()
        for partition, (made, tries) in sorted(due.items()):
            if _covers(context.instance, candidate, asset, partition, made):
                del due[partition]
            elif tries >= MOST_TRIES:
                failed.append(partition or declared.asset)
            elif len(runs) < MOST_RUNS and not is_under_way(
                context.instance, ATTEMPT_TAG, f"{partition}:{made}-{tries}"
            ):
                due[partition] = [made, tries + 1]
                attempt = f"{partition}:{made}-{tries + 1}"
                runs.append(
                    dg.RunRequest(run_key=attempt, partition_key=partition or None, tags={ATTEMPT_TAG: attempt})
                )
        told = json.dumps({"seen": seen, "due": due})
        if runs:
            return dg.SensorResult(run_requests=runs, cursor=told)
        said = "the candidates are being made" if due else "no new rows"
        if failed:
            said = f"asking for sign-off failed {MOST_TRIES} times: {', '.join(failed)}; see its runs"
        return dg.SensorResult(skip_reason=said, cursor=told)

    return body


def _look(instance: dg.DagsterInstance, asset: dg.AssetKey, seen: int, due: dict[str, list[int]]) -> int:
    """Note what was materialized since; up to where it looked."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, after_storage_id=seen)
    for each in instance.fetch_materializations(wanted, limit=MOST_RECORDS, ascending=True).records:
        due[each.partition_key or ""] = [each.storage_id, 0]
        seen = each.storage_id
    return seen


def _covers(
    instance: dg.DagsterInstance, candidate: dg.AssetKey, asset: dg.AssetKey, partition: str, made: int
) -> bool:
    """Whether the newest candidate was made from that materialization or a later one."""
    found = _newest(instance, candidate, partition)
    if found is None or found.asset_materialization is None:
        return False
    pointer = (found.asset_materialization.tags or {}).get(f"{INPUT_POINTER}/{asset.to_user_string()}", "")
    return pointer.isdigit() and int(pointer) >= made


def _newest(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str = "") -> dg.EventLogRecord | None:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0] if records else None


def publication_of(declared: SignedAsset) -> dg.SensorDefinition:
    """Publishes what is approved, and gives out the live release where Dagster last gave out another one."""
    published = dg.AssetKey(path_of(declared.name, PUBLISHED))

    @dg.sensor(
        name=f"{declared.name}__publication",
        job_name=f"{declared.name}__publish",
        minimum_interval_seconds=INTERVAL_S,
        description="Publishes approved rows within a minute, and follows a rollback. Never approves anything itself.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ai_assets.signed_asset.definitions import sign_off_event
        from ai_assets.signoff import releases, requests
        from ai_assets.storage.stores import Stores

        home = Home.from_environment()
        with Stores.at(home) as stores:
            with stores.state.read() as connection:
                approved = requests.find(connection, declared.name, statuses=("approved",))
                waiting = requests.count_open(connection, declared.name)
                live = releases.live(connection, declared.name)
            if approved or waiting or live:
                record(stores.state, declared, home)
        given = _data_version(context.instance, published)
        if not approved and (live is None or live.digest == given):
            return dg.SkipReason(f"nothing approved; {waiting} waiting for sign-off")
        wanted = [live.digest if live else "", *sorted(request.request_id for request in approved)]
        return publishing_runs.ask(
            context,
            batch=digest([wanted, given])[:16],
            approved=approved,
            event_of=lambda request: sign_off_event(
                declared, request.partition, request.digest, request.closed_by or ""
            ),
            tag=ATTEMPT_TAG,
            remedy=f"then materialize {published.to_user_string()}",
        )

    return body


def deadlines_of(declared: SignedAsset) -> dg.SensorDefinition:
    from ai_assets.orchestration.automation.deadlines import deadlines

    return deadlines([declared.collection()], name=f"{declared.name}__deadlines")


def _data_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    found: Any = _newest(instance, key)
    return None if found is None else (found.asset_materialization.tags or {}).get(DATA_VERSION)
