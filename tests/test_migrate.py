"""Claims about built-in parts that get better: an upgrade voids nothing, `migrate` makes all again."""

from typing import Any

import pytest
from conftest import DAYS, STAGE, Project
from signing import current
from signing import decide as approve
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection import builtins
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.documents import parse
from ai_assets.documents.chunk import CHUNKER_VERSION
from ai_assets.documents.parse import PARSER_VERSION
from ai_assets.run.status import partition_states
from ai_assets.signoff.publication import publish
from ai_assets.stages.base import Row
from ai_assets.stages.classify import builtin
from ai_assets.storage.search_rules import NEWEST_RULES

DAY = "2026-10-05"
NEXT = "9"


@pytest.fixture
def office(project: Project) -> Project:
    project.document(f"{DAY}/a.txt", "Invoice 12: the total due is 120.00 EUR in 30 days.")
    project.document(f"{DAY}/b.txt", "At 14:20 a fire broke out beside pump 7; two were injured.")
    return project


def declared(office: Project, **more: Any) -> Collection:
    return office.declare(partitions={**DAYS, "end": DAY}, stages=[dict(STAGE)], **more)


def upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part has one version more."""
    for part, versions in builtins.VERSIONS.items():
        monkeypatch.setitem(builtins.VERSIONS, part, (*versions, NEXT))
    monkeypatch.setattr(parse, "PLAIN_SINCE", NEXT)  # and reads every file otherwise
    monkeypatch.setattr(builtin, "ALGORITHM_VERSION", NEXT)


def rows(office: Project, asset: str) -> dict[str, Row]:
    manifest = office.stores().lake.manifest("notes", asset, DAY)
    assert manifest is not None
    return {row["document_id"].removeprefix(f"{DAY}/"): row for row in office.stores().lake.rows(manifest)}


def test_the_newest_versions_are_those_of_the_code() -> None:
    """Who improves a part appends its version, or every approval would be void."""
    installed = {"parser": PARSER_VERSION, "chunker": CHUNKER_VERSION, "classifier": builtin.ALGORITHM_VERSION}
    installed["search"] = NEWEST_RULES
    assert {part: builtins.newest(part) for part in builtins.VERSIONS} == installed
    assert {part: versions[0] for part, versions in builtins.VERSIONS.items()} == dict.fromkeys(installed, "1")


def test_an_upgrade_voids_no_approval_and_new_rows_say_who_made_them(
    office: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = declared(office)
    office.refresh(before)
    stores = office.stores()
    approve(stores.state, before)
    publish(before, stores, by="test")
    labels = {name: (row["label"], row["model"]) for name, row in rows(office, STAGE["name"]).items()}
    upgraded(monkeypatch)
    after = declared(office)
    assert after.code_versions == before.code_versions
    assert partition_states(after, stores)[DAY] == "published"
    assert all(outcome.unchanged for outcome in office.refresh(after))
    office.document(f"{DAY}/c.txt", "Invoice 13: the total due is 9.00 EUR.")
    office.refresh(after)
    assert {name: row["made_by"] for name, row in rows(office, "documents").items()} == {
        "a.txt": None, "b.txt": None, "c.txt": NEXT,
    }  # fmt: skip
    assert {name: row["made_by"] for name, row in rows(office, "chunks").items()}["c.txt"] == NEXT
    found = {name: (row["label"], row["model"]) for name, row in rows(office, STAGE["name"]).items()}
    assert {name: found[name] for name in labels} == labels
    assert found["c.txt"][1] != labels["a.txt"][1]
    assert current(stores.state, DAY).changes["added"] == [f"{DAY}/c.txt"]
    assert current(stores.state, DAY).changes["changed"] == []


def test_a_row_that_an_earlier_version_would_have_made_is_the_same_bytes(office: Project) -> None:
    """A dataset that is lost is made again by the newest version, and voids nothing."""
    office.refresh(declared(office))
    made = office.stores().lake.manifest("notes", "documents", DAY)
    office.document(f"{DAY}/c.txt", "Größe".encode("cp1252"))
    office.refresh(declared(office))
    assert {name: row["made_by"] for name, row in rows(office, "documents").items()} == {
        "a.txt": None, "b.txt": None, "c.txt": PARSER_VERSION,
    }  # fmt: skip
    office.refresh(declared(office, builtins={"parser": PARSER_VERSION}))
    assert "made_by" not in rows(office, "documents")["c.txt"]
    assert made is not None
    assert "made_by" not in office.stores().lake.read(made).column_names


def test_migrate_says_the_price_and_then_all_rows_are_made_again(
    office: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.refresh(declared(office))
    upgraded(monkeypatch)
    monkeypatch.chdir(office.root)
    declared(office)
    told = CliRunner().invoke(app, ["migrate", "notes"], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert "parser 1 to 9, chunker 1 to 9, classifier 1 to 9" in told.output
    assert "Nothing was changed" in told.output
    assert load_collection(office.root / "collections", "notes").settings.builtins.older
    done = CliRunner().invoke(app, ["migrate", "notes", "--yes"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    after = load_collection(office.root / "collections", "notes")
    assert after.settings.builtins.older == {}
    made = {outcome.manifest.asset: outcome for outcome in office.refresh(after)}
    assert (made["documents"].reused, made["chunks"].reused, made[STAGE["name"]].reused) == (0, 0, 0)
    assert "made_by" not in rows(office, "documents")["a.txt"]
    again = CliRunner().invoke(app, ["migrate", "notes"], env={"COLUMNS": "200"})
    assert "Nothing to migrate" in again.output


def test_a_version_that_is_not_installed_is_refused_with_its_place(office: Project) -> None:
    with pytest.raises(CollectionInvalid, match=r"builtins.parser: this version of ai-assets has no parser '7'"):
        declared(office, builtins={"parser": "7"})


def test_a_declaration_keeps_all_that_was_in_it(office: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_assets.cli.migrate import declare_newest

    declared(office, builtins={"parser": "1"})
    file = office.root / "collections" / "notes" / "defs.yaml"
    file.write_text(
        file.read_text().replace("  builtins:\n    parser: '1'\n", '  builtins: {parser: "1"}\n') + "  # the end\n"
    )
    upgraded(monkeypatch)
    before = file.read_text()
    declare_newest(load_collection(office.root / "collections", "notes"))
    after = file.read_text()
    assert 'builtins: {parser: "9", chunker: "9", classifier: "9", search: "9"}' in after
    kept = [line for line in before.splitlines() if "builtins" not in line]
    assert kept == [line for line in after.splitlines() if "builtins" not in line]
