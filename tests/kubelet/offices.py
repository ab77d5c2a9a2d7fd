"""A small project of 20 days with paid calls, in a cluster and on this machine, for the suite of tests."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conftest import Project, free_port
from engines import rows
from postgres_server import Postgres
from provider import Provider
from test_llm_stages import BILL
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.storage.lake import MANIFEST
from kubelet.cluster import OwnCluster
from kubelet.containers import Mount
from kubelet.deployment import HOME, ClusterDeployment, project_settings

DAYS = [f"2026-10-{day:02d}" for day in range(5, 25)]
PER_DAY = 2
AT_ONCE = 4
PRICED = f"""\
endpoints:
  small:
    base_url: rehearsal
    model: mini
    timeout_s: 20
    limits: {{concurrency: {AT_ONCE}}}
    prices: [{{from: 2026-01-01, input: 10, output: 20}}]
routes:
  default: {{endpoints: [small]}}
retries: {{all: {{server_error: {{attempts: 3, base_s: 0}}, connection_lost: {{attempts: 3, base_s: 0}}}}}}
budgets:
  - {{name: all, limit_usd: 20}}
"""
SOUTH, OTHER = "south", "damages"
"""A tenant with a namespace of its own, and its collection."""
STAGE = {**KIND, "max_output_tokens": 60}
GROWING = {"name": "grown", "kind": "function", "function": "./own.py:grow"}
GROWS = """
import os
from pathlib import Path

from ai_assets import Document, stage


@stage(version="1", columns={"length": int})
def grow(document: Document) -> dict:
    before = Path(os.environ["AI_ASSETS_HOME"]) / "grown"
    if not before.exists():
        before.touch()
        len(b"x" * (3 * 2**29))
    return {"length": len(document.text)}
"""
"""Takes more memory than a pod has, once: while a file is missing."""


_SILENT = {"FRESHNESS_STATE_CHANGE", "ASSET_MATERIALIZATION_PLANNED", "ASSET_CHECK_EVALUATION_PLANNED", None}


@dataclass(kw_only=True)
class ClusterOffice:
    """A project whose runs are pods, and its deployment."""

    project: Project
    collection: Collection
    deployment: ClusterDeployment
    provider: Provider
    home: Path
    """What all pods share; the place of the lake until data is on S3."""

    @property
    def state_url(self) -> str:
        return self.project.home.state_url

    def backfill(self, days: list[str], **tags: str) -> str:
        assets = [("notes", asset) for asset in self.collection.asset_names]
        return self.deployment.api.launch_backfill(assets, days, "of the suite", tags)

    def said(self) -> list[str]:
        """By engine and steps, in order: what a person reads in the UI."""
        found = []
        for row in rows(self.state_url, "SELECT event FROM event_logs ORDER BY id"):
            entry = json.loads(row.event)
            event = entry.get("dagster_event") or {}
            data = event.get("event_specific_data") or {}
            error = (data.get("error") or {}).get("message", "") if isinstance(data, dict) else ""
            if event.get("event_type_value") not in _SILENT:
                found.append(f"{event.get('event_type_value')} {event.get('message')} {error}".strip())
        return found

    def calls(self) -> int:
        return len(rows(self.state_url, "SELECT call_key FROM attempts WHERE state = 'settled'"))

    def paid_twice(self) -> list[Any]:
        return rows(
            self.state_url,
            "SELECT call_key FROM attempts WHERE state = 'settled' GROUP BY call_key HAVING count(*) > 1",
        )


def write_office(project: Project) -> Collection:
    (project.root / "inference.yaml").write_text(PRICED)
    for number in range(PER_DAY * len(DAYS)):
        project.document(f"{DAYS[number // PER_DAY]}/bill-{number}.txt", BILL.format(n=number + 1))
    partitions = {"by": "day", "start": DAYS[0], "end": DAYS[-1], "per_run": 7}
    (project.root / "collections/notes/own.py").write_text(GROWS)
    found = declare(project, [dict(STAGE), dict(GROWING)], partitions=partitions)
    shutil.copytree(project.root / "collections/notes/prompts", project.root / f"collections/{OTHER}/prompts")
    for number in range(PER_DAY):
        project.document(f"{DAYS[0]}/damage-{number}.txt", BILL.format(n=100 + number), OTHER)
    of_day = {"by": "day", "start": DAYS[0], "end": DAYS[0]}
    project.declare(OTHER, stages=[dict(STAGE)], partitions=of_day, tenant=SOUTH)
    return found


def office_in(
    cluster: OwnCluster, project: Project, postgres: Postgres, provider: Provider, namespace: str, **settings: Any
) -> ClusterOffice:
    """Prepared, not started."""
    url = postgres.database(f"k{uuid.uuid4().hex}", template="tables")
    collection = write_office(project)
    home = cluster.folder / f"home-{namespace}"
    home.mkdir()
    home.chmod(0o777)
    (home / "grown").touch()
    image = cluster.image(f"ours:{namespace}", *mounts_of(project.root, home), folder=str(project.root))
    own = {"namespace": f"{namespace}-{SOUTH}", "secrets": [f"{SOUTH}-secrets"], "quota": {"memory": "12Gi", "pods": 9}}
    more = {"grace_s": 120, **settings}  # that a pod ends by itself within it is no question of how busy the machine is
    given = project_settings(namespace, image, tenants={SOUTH: own}, **more)
    (project.root / "operations.yaml").write_text(given)
    keys = project.root.parent / f"keys-{namespace}"
    assert project.cli("keys", "new", str(keys)).returncode == 0
    trust = shutil.copy(keys / "trust.json", project.root)
    rendered = project.root.parent / f"rendered-{namespace}"
    made = project.cli("deploy", "render", str(rendered), AI_ASSETS_STATE_URL=url)
    assert made.returncode == 0, made.stdout + made.stderr
    deployment = ClusterDeployment(
        cluster=cluster, rendered=rendered, namespace=namespace, project=project.root, image=image,
        web_port=free_port(), code_port=free_port(), tenant=SOUTH, tenant_port=free_port(),
        settings=QUICK,
        environment={"AI_ASSETS_STATE_URL": url, "AI_ASSETS_REHEARSAL_URL": provider.url,
                     "AI_ASSETS_RECORDER_KEY": (keys / "recorder.pem").read_text(), "AI_ASSETS_TRUST": str(trust)},
    )  # fmt: skip
    changed = replace(project, home=replace(project.home, declared_state_url=url, root=home))
    return ClusterOffice(project=changed, collection=collection, deployment=deployment, provider=provider, home=home)


QUICK: Mapping[str, Any] = {
    "run_monitoring": {
        "enabled": True, "start_timeout_seconds": 300, "cancel_timeout_seconds": 20, "poll_interval_seconds": 2,
        "free_slots_after_run_end_seconds": 10, "max_resume_run_attempts": 2,
    },
}  # fmt: skip
"""Nobody waits two minutes in a test until Dagster looks again."""


def mounts_of(project: Path, home: Path) -> tuple[Mount, Mount]:
    return Mount(source=project, target=str(project)), Mount(source=home, target=HOME, read_only=False)


def digests(project: Project, lake_root: Path) -> dict[str, str]:
    """Of everything in the lake: what each dataset is, by the content of its rows."""
    lake = project.stores().lake
    found = {}
    for path in sorted((lake_root / "notes").rglob(MANIFEST)):
        manifest = lake.manifest("notes", path.parent.parent.name, path.parent.name)
        if manifest is not None and manifest.asset != "source_files":
            found[f"{manifest.asset} {manifest.partition}"] = str(manifest.stats.get("digest") or manifest.version)
    return found


def second_draft(office: ClusterOffice, folder: Path) -> tuple[Path, str]:
    """The project with another prompt-relevant setting, as an image of its own."""
    shutil.copytree(office.project.root, folder)
    image = office.deployment.cluster.image(
        f"{office.deployment.image}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}",
        *mounts_of(folder, office.home),
        folder=str(folder),
    )
    return folder, image
