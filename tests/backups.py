"""A home worth carrying: priced answers of a rehearsal provider, a live release, a candidate that waits."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from conftest import Project
from postgres_server import Postgres
from signing import decide
from test_llm_stages import BILL, DAY, FIRE, PRICED
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.backup.moving import move_state
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.signoff.publication import publish

QUERY = "accident beside a pump"


def furnish(project: Project) -> Collection:
    """Four documents, answered, signed and published; then one more, which waits for sign-off."""
    (project.root / "inference.yaml").write_text(PRICED)
    for n in range(2):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    collection = declare(project, [KIND, BRIEF])
    project.refresh(collection, [DAY])
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="test")
    project.document(f"{DAY}/bill-9.txt", BILL.format(n=9))
    project.refresh(collection, [DAY])
    return collection


def other_machine(project: Project, folder: Path, state_url: str | None = None) -> Project:
    """A copy of the project where the home is at another path, and not there yet."""
    root = folder / "elsewhere" / "project"
    shutil.copytree(project.root, root)
    home = Home(root=folder / "elsewhere" / "data" / "home", project=root, declared_state_url=state_url)
    return Project(root=root, home=home)


def command(project: Project, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The real command, with the home of that project."""
    declared = {"AI_ASSETS_HOME": str(project.home.root), "DAGSTER_HOME": str(project.home.dagster)}
    if project.home.declared_state_url:
        declared["AI_ASSETS_STATE_URL"] = project.home.declared_state_url
    return subprocess.run(
        [Path(sys.executable).parent / "ai-assets", *arguments],
        cwd=project.root,
        env={**os.environ, **declared, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def put_keys(source: Project, target: Project) -> None:
    """What a person does who kept the private keys elsewhere."""
    (target.home.root / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (source.home.root / "keys").glob("*.pem"):
        shutil.copy2(path, target.home.root / "keys")


def with_store(project: Project, state_url: str) -> Project:
    return replace(project, home=replace(project.home, declared_state_url=state_url))


def in_postgresql(project: Project, server: Postgres, patch: pytest.MonkeyPatch) -> Project:
    """With all that its state store held; commands of this process and of others find it there too."""
    url = server.database(f"t{uuid4().hex}")
    move_state(project.home, url)
    patch.setenv("AI_ASSETS_STATE_URL", url)
    return with_store(project, url)


def tree(folder: Path) -> dict[str, Any]:
    """Every file below, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
