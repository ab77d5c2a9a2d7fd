"""The Dagster instance of a home: its `dagster.yaml`, safe by default, and how to open it in this process."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ai_assets.base.cluster import cluster_in
from ai_assets.base.environment import CLUSTER, LOCAL
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.machine import usable_cores

if TYPE_CHECKING:
    from dagster import DagsterInstance

# Dagster copies what a step prints through a `tail` process, which outlives a run killed by SIGKILL and keeps the
# command's output open. A run in our own process prints to the person who started it; only `up` needs the copies.
_NO_CAPTURE = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
_IN_POSTGRES = {"storage": {"custom": {"module": "ai_assets.orchestration.dagster_storage", "class": "HomeStorage"}}}
_QUEUE: dict[str, Any] = {"dequeue_interval_seconds": 1}
_ATTRIBUTING: dict[str, Any] = {
    "run_coordinator": {
        "module": "ai_assets.orchestration.run_attribution",
        "class": "AttributingRunCoordinator",
        "config": _QUEUE,
    }
}
_MARK = "# Written by ai-assets (digest "
_MARK_END = "). Change anything below and the file is yours: it is then left alone."


class InstanceUnusable(UserError):
    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"Dagster does not accept {path}: {found} Mend it, or delete it to have a working one written."
        )


@dataclass(frozen=True, kw_only=True)
class InstanceFile:
    """What `write_instance_file` found and did."""

    path: Path
    written: bool
    note: str | None = None
    """Set when a person's own file was left as it is."""


def instance_settings(
    max_concurrent_runs: int,
    *,
    behind_proxy: bool = False,
    in_postgres: bool = False,
    launcher: Mapping[str, Any] | None = None,
    resumes: int = 0,
) -> dict[str, Any]:
    """Where storage is not named, Dagster uses SQLite below the home, which so can be moved. No address is written.

    `behind_proxy`: a declared proxy signs people in, so runs can be attributed to whom it names. `resumes`: how often a
    run whose pod was ended from outside goes on in another; steps that are processes would end with theirs.
    """
    skipped_days = 3
    """A sensor that looks every 30 seconds skips 2880 times a day; those ticks tell nobody anything later."""
    told_days = 30
    """Ticks that started a run or failed."""
    days = {"skipped": skipped_days, "success": told_days, "failure": told_days, "started": told_days}
    retention = {"purge_after_days": days}
    return {
        **(_IN_POSTGRES if in_postgres else {}),
        # Pods print for whoever reads their logs; the folder of dagster.yaml belongs to root in a pod.
        **({"run_launcher": dict(launcher), **_NO_CAPTURE} if launcher is not None else {}),
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        # A retried run would multiply with the retries of the calls inside it.
        "run_retries": {"enabled": False, "retry_on_asset_or_op_failure": False},
        **(_ATTRIBUTING if behind_proxy else {"run_queue": _QUEUE}),
        "concurrency": {"pools": {"granularity": "op"}, "runs": {"max_concurrent_runs": max_concurrent_runs}},
        # Without the last key a run that died keeps its pool slots for good.
        "run_monitoring": {
            "enabled": True,
            "start_timeout_seconds": 300,
            "free_slots_after_run_end_seconds": 60,
            **({"max_resume_run_attempts": resumes} if resumes else {}),
        },
        "retention": {"schedule": retention, "sensor": retention, "auto_materialize": retention},
    }


def write_instance_file(home: Home, max_concurrent_runs: int | None = None) -> InstanceFile:
    """Write `dagster.yaml`, unless a person has changed it. `max_concurrent_runs` defaults to the cores we may use."""
    path = home.dagster / "dagster.yaml"
    settings = instance_settings(
        max_concurrent_runs or _runs_at_once(home),
        behind_proxy=_behind_proxy(home),
        in_postgres=home.environment != LOCAL,
        launcher=_launcher(home),
        resumes=cluster_in(home.operations).retries if home.environment == CLUSTER else 0,
    )
    body = yaml.safe_dump(settings, sort_keys=False)
    wanted = f"{_MARK}{_digest(body)}{_MARK_END}\n{body}"
    found = path.read_text(encoding="utf-8") if path.exists() else None
    if found is not None and not _is_ours(found):
        return InstanceFile(path=path, written=False, note=f"{path} was edited by hand and is used as it is.")
    if found == wanted:
        return InstanceFile(path=path, written=False)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(wanted, encoding="utf-8")
    partial.replace(path)
    return InstanceFile(path=path, written=True)


def _runs_at_once(home: Home) -> int:
    return cluster_in(home.operations).max_concurrent_runs if home.environment == CLUSTER else usable_cores()


def _launcher(home: Home) -> Mapping[str, Any] | None:
    """What starts runs; None for Dagster's own, which starts processes here."""
    if home.environment != CLUSTER:
        return None
    from ai_assets.orchestration.cluster.launcher_config import launcher_config

    return launcher_config(cluster_in(home.operations), home.operations)


def _behind_proxy(home: Home) -> bool:
    from ai_assets.desk.settings import DeskInvalid, load_desk

    try:
        return load_desk(home.desk).sign_in.proxy is not None
    except DeskInvalid:  # that is for the desk to say
        return False


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:16]


def _is_ours(content: str) -> bool:
    first, _, body = content.partition("\n")
    return first == f"{_MARK}{_digest(body)}{_MARK_END}"


def use_home(home: Home) -> InstanceFile:
    """Make `home` the one of this process, for Dagster as for us."""
    home.ensure()
    home.export()
    return write_instance_file(home)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Of all processes: two that make Dagster's databases at once get in each other's way."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also by death
        yield


@contextmanager
def instance(home: Home) -> Iterator["DagsterInstance"]:
    """The Dagster instance of `home`; its databases are created when missing."""
    from dagster import DagsterInstance
    from dagster._core.errors import DagsterInvalidConfigError
    from dagster._core.instance.ref import InstanceRef

    use_home(home)
    path = home.dagster / "dagster.yaml"
    try:
        with _alone(home.dagster / ".opening"):
            opened = DagsterInstance.from_ref(InstanceRef.from_dir(str(home.dagster), overrides=_NO_CAPTURE))
    except DagsterInvalidConfigError as e:
        raise InstanceUnusable(path, " ".join(error.message for error in e.errors) or str(e)) from e
    except yaml.YAMLError as e:
        raise InstanceUnusable(path, f"it is not YAML ({' '.join(str(e).split())}).") from e
    with opened:
        yield opened
