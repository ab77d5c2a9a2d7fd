"""Claims about `scaffold metric`: the file runs, its test passes, and the declaration keeps all that was in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import DAYS, STAGE, Project

from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.scaffold_metric import write_metric
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection

DAY = "2026-10-05"
ONE_DAY = {**DAYS, "end": DAY}
GOLDEN = {
    "labels": {"document": f"{DAY}/0.txt", "label": "invoice"},
    "queries": {"query": "pump", "documents": [f"{DAY}/0.txt"]},
}


def declared(project: Project, of: str, **more: Any) -> Collection:
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    project.documents(per_day=2, days=1)
    golden = {}
    if of in GOLDEN:
        (folder / "golden.jsonl").write_text(json.dumps(GOLDEN[of]))
        golden = {"golden": {of: "golden.jsonl"}}
    return project.declare(partitions=ONE_DAY, stages=[dict(STAGE)], **golden, **more)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["labels", "queries", "rows"])
def test_what_is_written_runs_and_its_test_passes(project: Project, of: str) -> None:
    collection = declared(project, of)
    name = f"own_{of}"
    made = write_metric(name, collection, project.root)
    found = load_collection(project.root / "collections", "notes")
    assert [metric.name for metric in found.own.metrics] == [name]
    assert name in made.metric.read_text()
    done = project.refresh(found)
    (scores,) = [outcome.manifest for outcome in done if outcome.manifest.asset == "evaluation_scores"]
    assert name in {row["metric"] for row in project.stores().lake.read(scores).to_pylist()}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", made.test], cwd=project.root, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    sys.modules.pop(f"{name}_metric", None)


COMMENTED = """\
# of the house
type: ai_assets.DocumentCollection
attributes:
    source: {path: documents}   # where
    partitions: {by: shards, count: 1}
    # at the end
"""


def write(project: Project, text: str) -> Path:
    path = project.root / "collections" / "notes" / "defs.yaml"
    (path.parent / "documents").mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_declaration_keeps_its_comments_and_its_indentation(project: Project) -> None:
    path = write(project, COMMENTED)
    for name in ("first_one", "second_one"):
        write_metric(name, load_collection(project.root / "collections", "notes"), project.root)
    added = '    metrics:\n      - "first_one_metric:first_one"\n      - "second_one_metric:second_one"\n'
    assert path.read_text() == COMMENTED.replace("    # at the end\n", f"{added}    # at the end\n")


FLOW = (
    "type: ai_assets.DocumentCollection\nattributes: {source: {path: documents}, partitions: {by: shards, count: 1}}\n"
)
REFUSED = [
    ("class", COMMENTED, "it must be a name of Python"),
    ("mrr", COMMENTED, "it must be a name of Python that no built-in metric has"),
    ("taken", COMMENTED, "exists already; nothing was changed"),
    ("flow", FLOW, "are not written as a block"),
    ("flow", COMMENTED.replace("    # at the end", "    metrics: []"), "is not a list of lines"),
]


@pytest.mark.parametrize(("name", "text", "says"), REFUSED, ids=[says for *_, says in REFUSED])
def test_what_cannot_be_written_changes_nothing(project: Project, name: str, text: str, says: str) -> None:
    path = write(project, text)
    (project.root / "taken_metric.py").write_text("mine")
    before = sorted(project.root.rglob("*"))
    with pytest.raises(ScaffoldRefused, match="cannot be scaffolded") as refused:
        write_metric(name, load_collection(project.root / "collections", "notes"), project.root)
    assert says in str(refused.value)
    assert (sorted(project.root.rglob("*")), path.read_text()) == (before, text)


def test_a_declaration_that_is_wrong_afterwards_is_put_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(project, COMMENTED)
    collection = load_collection(project.root / "collections", "notes")
    monkeypatch.setitem(sys.modules, "shadowed_metric", sys)  # another module of that name is imported already
    with pytest.raises(CollectionInvalid, match="has no 'shadowed'"):
        write_metric("shadowed", collection, project.root)
    assert path.read_text() == COMMENTED
    assert not (project.root / "shadowed_metric.py").exists()
