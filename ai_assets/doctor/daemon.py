"""What starts runs: whether `ai-assets up` runs, its daemons give signs of life, and sensors and schedules tick."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from ai_assets.base.environment import CLUSTER, LOCAL
from ai_assets.base.home import DAGSTER_URL_VARIABLE, variable
from ai_assets.base.processes import standing
from ai_assets.doctor.findings import Finding, fine, noted, warned, wrong
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import looking, tables_of
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable
from ai_assets.ops.supervisor import UP_LOCK

HEARTBEAT_S = 300.0
"""A daemon gives a sign of life every 30 s."""
ASKED_S = 10.0
MOST_SHOWN = 5
_LAST_TICKS = (
    "SELECT tick_body, timestamp FROM job_ticks WHERE id IN (SELECT max(id) FROM job_ticks GROUP BY selector_id) "
    "AND status = 'FAILURE' ORDER BY timestamp DESC"
)


def look(at: Installation) -> Iterator[Finding]:
    url = variable(DAGSTER_URL_VARIABLE)
    up, of_up = _up(at.home.root / UP_LOCK)
    if of_up is not None or url is not None:
        yield from _asked(url or of_up or "", at)
    elif at.environment == CLUSTER:
        yield noted(
            "Dagster",
            found=f"it was not asked: {DAGSTER_URL_VARIABLE} is not set",
            fix="Run this where it is, such as in a pod of the web server.",
        )
    else:
        yield noted(
            "ai-assets up",
            found=up,
            fix="ai-assets up: without it no schedule or sensor ticks, and no queued run begins.",
        )
    if at.tenant is None:  # what fails there names collections of all
        yield from _ticks(at)


def _up(lock: Path) -> tuple[str, str | None]:
    """What can be said of it, and the address of its web server where it runs."""
    try:
        identity, _, url = lock.read_text(encoding="utf-8").strip().partition("\n")
    except (OSError, UnicodeDecodeError):
        return "it has not run here", None
    match standing(identity):
        case "running":
            return "it runs", url
        case "out of sight":
            return "it ran in another container or on another machine, where it cannot be seen from here", None
        case _:
            return "it does not run", None


def _asked(url: str, at: Installation) -> Iterator[Finding]:
    what = f"Dagster at {url}"
    try:
        with DagsterApi(url, timeout_s=ASKED_S) as api:
            health = api.health(heartbeats_after=time.time() - HEARTBEAT_S)
    except (DagsterUnreachable, DagsterRefused) as error:
        yield wrong(
            what, found=str(error).partition(". ")[0], fix="Look into <home>/logs, and start `ai-assets up` again."
        )
        return
    for name, found in health.code_errors.items():
        said = found if at.tenant is None else "it does not load"  # the sentence may be about another's collection
        yield wrong(
            f"code location {name or 'of the workspace'} in Dagster",
            found=said,
            fix="Correct it; a running `ai-assets up` reloads it by itself.",
        )
    for name in health.code_missing:
        yield warned(
            f"code location {name} in Dagster",
            found="it is being loaded",
            fix="Look again in a moment; see <home>/logs/code-server.log where it stays so.",
        )
    for name in health.daemons_missing:
        yield wrong(
            f"daemon {name}",
            found=f"it gave no sign of life for {HEARTBEAT_S:.0f} s",
            fix="Look into <home>/logs/daemon.log, and start `ai-assets up` again.",
        )
    if health.code_loaded and not health.daemons_missing:
        yield fine(what, "its code locations are loaded and its daemons alive")


def _ticks(at: Installation) -> Iterator[Finding]:
    """Of each sensor and schedule the last, where it failed."""
    failed = list(_failed(at))
    for body, _moment in failed[:MOST_SHOWN]:
        tick = json.loads(body)
        said = (tick.get("error") or {}).get("message") or "no more is said"
        yield warned(
            f"sensor or schedule {tick.get('job_name') or tick.get('instigator_name')}",
            found=f"its last tick failed: {said.strip().splitlines()[0][:300]}",
            fix="Its page in Dagster has the rest; the next tick tries again.",
        )
    if len(failed) > MOST_SHOWN:
        yield warned(
            "sensors and schedules",
            found=f"the last ticks of {len(failed) - MOST_SHOWN} more failed",
            fix="See Dagster's pages.",
        )


def _failed(at: Installation) -> Iterator[tuple[str, Any]]:
    if at.environment != LOCAL:
        with looking(at) as connection:
            if "job_ticks" in tables_of(connection):
                yield from ((row.tick_body, row.timestamp) for row in connection.execute(sa.text(_LAST_TICKS)))
        return
    store = at.home.dagster / "schedules" / "schedules.db"
    if not store.is_file():
        return
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{quote(str(store))}?mode=ro", uri=True, timeout=5)) as connection,
    ):
        yield from connection.execute(_LAST_TICKS).fetchall()
