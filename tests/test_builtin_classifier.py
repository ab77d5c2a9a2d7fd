"""Which version of the built-in classifier a collection has, and what its confidence is fitted to."""

import json

import pytest
import sqlalchemy as sa
from conftest import DAYS, STAGE, Project

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.run.datasets.builtin_classifier import CALIBRATION
from ai_assets.run.datasets.builtin_classifier import version_of as version_in
from ai_assets.run.datasets.few_shot import read_documents
from ai_assets.stages.base import Row
from ai_assets.stages.classify.base import Label
from ai_assets.stages.classify.builtin import BuiltinClassifier
from ai_assets.stages.classify.first_version import FirstClassifier
from ai_assets.stages.classify.learning import LEAST_GOLDEN
from ai_assets.storage.migrations import m017_builtin_versions

DAY = "2026-10-05"
INVOICE = "Invoice {}: the total due is 120.00 EUR in 30 days."


def declared(project: Project, **more: object) -> Collection:
    return project.declare(partitions={**DAYS, "end": DAY}, stages=[dict(STAGE)], **more)


def made_by(project: Project) -> set[str]:
    manifest = project.stores().lake.manifest("notes", STAGE["name"], DAY)
    assert manifest is not None
    rows: list[Row] = list(project.stores().lake.rows(manifest))
    return {row["model"].removeprefix("builtin/zero-shot ") for row in rows}


def labels(collection: Collection) -> list[Label]:
    (stage,) = collection.labelling
    return [Label(name=each.name, description=each.description, examples=each.examples) for each in stage.labels]


def landed_before(project: Project) -> None:
    """As if the migration met the collections that are there."""
    with project.stores().state.write() as connection:
        connection.execute(sa.text("DROP TABLE builtin_versions"))
        m017_builtin_versions.up(connection)


def version_of(project: Project, collection: Collection) -> str:
    with project.work(collection) as work:
        return version_in(work)


def test_a_home_of_the_first_version_goes_on_with_it_until_it_migrates(project: Project) -> None:
    project.document(f"{DAY}/a.txt", INVOICE.format(1))
    collection = declared(project)
    project.refresh(collection)
    newest = BuiltinClassifier(labels(collection), BuiltinEmbedder()).version
    assert (version_of(project, collection), made_by(project)) == ("2", {newest})
    landed_before(project)
    project.document(f"{DAY}/a.txt", INVOICE.format(2))
    project.document(f"{DAY}/b.txt", INVOICE.format(3))
    project.refresh(collection)
    first = FirstClassifier(labels(collection), BuiltinEmbedder()).version
    assert (version_of(project, collection), made_by(project)) == ("1", {first})
    migrated = declared(project, builtins={"classifier": "2"})
    project.refresh(migrated)
    assert (version_of(project, migrated), made_by(project)) == ("2", {newest})


def golden(project: Project, number: int) -> dict[str, str]:
    file = project.root / "collections" / "notes" / "golden.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"document": f"{DAY}/{each}.txt", "label": "incident"} for each in range(number)]
    file.write_text("\n".join(map(json.dumps, lines)))
    return {"labels": "golden.jsonl"}


def test_confidence_is_fitted_once_there_are_enough_golden_labels(project: Project) -> None:
    """All of them say that the classifier is wrong, so it is less sure; a run without a change reads none again."""
    for number in range(LEAST_GOLDEN):
        project.document(f"{DAY}/{number}.txt", INVOICE.format(number))
    few = declared(project, golden=golden(project, LEAST_GOLDEN - 1))
    project.refresh(few)
    unfitted = made_by(project)
    enough = declared(project, golden=golden(project, LEAST_GOLDEN))
    project.refresh(enough)
    assert made_by(project).isdisjoint(unfitted)
    manifest = project.stores().lake.manifest("notes", STAGE["name"], DAY)
    assert manifest is not None
    assert manifest.stats[CALIBRATION]["temperature"] > 1
    again = {each.manifest.asset: each for each in project.refresh(enough)}
    assert again[STAGE["name"]].unchanged


def test_documents_of_a_table_are_read_in_one_pass_whatever_their_keys(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["a#1,first", "b,second", "b,third", "c,not wanted"]
    project.document(f"{DAY}/t.csv", "\n".join(["id,body", *rows]) + "\n")
    project.document(f"{DAY}/note#2.txt", "A file of its own.")
    table = {"csv": {"key": "id", "text": ["body"]}}
    collection = declared(project, source={"path": "documents", "tables": table})
    opened: list[str] = []
    with project.work(collection) as work:
        read = work.source.open
        monkeypatch.setattr(work.source, "open", lambda path: opened.append(path) or read(path))
        wanted = [f"{DAY}/t.csv#a#1", f"{DAY}/t.csv#b~2", f"{DAY}/note#2.txt", f"{DAY}/t.csv#gone", "gone.txt"]
        found = read_documents(work, wanted)
    assert set(found) == set(wanted[:3])
    assert "first" in found[wanted[0]].text
    assert sorted(opened) == [f"{DAY}/note#2.txt", f"{DAY}/t.csv"]


def test_a_prompt_takes_fewer_corrections_than_the_built_in_classifier(project: Project) -> None:
    assert project.declare(stages=[{**STAGE, "learn": 160}]).labelling[0].learn == 160
    with pytest.raises(CollectionInvalid, match="should be at most 100 on a route"):
        project.declare(stages=[{**STAGE, "learn": 160, "route": "default"}])
