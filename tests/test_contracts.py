"""Claims about contracts: what readers are promised is declared, kept, and broken only by a new version or a waiver."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from backups import in_postgresql
from conftest import STAGE, Project
from desks import Visitor, desk_of, served
from published import DAY, FIRST, OTHER
from signing import current, decide, known

import ai_assets
from ai_assets.collection.contract import ADDED_BY_READER, SOMETIMES, Contract, broken_promises, why_not_declared
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.collection.release_columns import release_columns
from ai_assets.reading.contract_schemas import dbt_sources, json_schema
from ai_assets.reading.export import export
from ai_assets.reading.published import Published
from ai_assets.run.errors import ContractUndeclarable, PartitionsFailed
from ai_assets.signoff import audit, live_index
from ai_assets.signoff.card_markdown import card_markdown
from ai_assets.signoff.contracts import found_column
from ai_assets.signoff.errors import ContractHolds, ContractNotKept, DecisionRefused
from ai_assets.signoff.publication import publish
from ai_assets.signoff.release_cards import card_of

LABEL = {"type": "string", "required": True, "values": ["invoice", "incident"]}
PROMISED: dict[str, Any] = {
    "document_id": {"type": "string", "required": True},
    "kind_label": LABEL,
    "kind_confidence": {"type": "number", "required": True},
}
OTHER_STAGE = {**STAGE, "name": "sort"}


def declare(project: Project, stage: Any = STAGE, version: int = 1, **contract: Any) -> Collection:
    said = {"version": version, "columns": PROMISED, **contract}
    return project.declare(stages=[dict(stage)], contract=said)


def refreshed(project: Project, collection: Collection) -> Collection:
    project.refresh(collection, [DAY, OTHER])
    return collection


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
on_both = pytest.mark.parametrize("project", BOTH, indirect=True)


@pytest.fixture
def project(
    request: pytest.FixtureRequest, project: Project, labelled_project: Project, monkeypatch: pytest.MonkeyPatch
) -> Project:  # fmt: skip
    """Its state store is in SQLite, or `on_both`; in PostgreSQL with what `labelled` has."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return project
    project.copy(labelled_project)
    return in_postgresql(project, request.getfixturevalue("postgres"), monkeypatch)


@pytest.fixture
def promised(project: Project, labelled: Collection) -> Collection:
    """Release 1 is live, with version 1 of a contract that can be waived."""
    collection = refreshed(project, declare(project, on_break="waive"))
    known(project.stores().state)
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="ann")
    return collection


# What the definitions say of columns


def test_the_columns_by_definition_are_those_of_the_files(live: Published, published_project: Project) -> None:
    collection = load_collection(published_project.root / "collections", "notes")
    for table in ("documents", "chunks"):
        made = release_columns(collection, table)
        there = {
            field.name: found_column(field.type).type
            for field in live.schema(table)
            if field.name not in ADDED_BY_READER
        }
        always = {name: column.type for name, column in made.items() if not column.sometimes}
        assert always.items() <= there.items()
        assert there.keys() - always.keys() <= SOMETIMES[table].keys()
        assert all(column.description for column in made.values())


@pytest.mark.parametrize("name", ["handbook", "reports"])
def test_the_samples_can_promise_all_that_they_make(name: str) -> None:
    collection = load_collection(Path(__file__).parents[1] / "collections", name)
    assert "classification_label" in release_columns(collection, "documents") or name == "reports"
    assert {"string", "vector"} <= {column.type for column in release_columns(collection, "chunks").values()}


# Declarations


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        ({"columns": PROMISED}, r"contract.version: is missing: the first version of a contract is 1"),
        ({"version": 0, "columns": PROMISED}, r"contract.version: should be at least 1"),
        ({"version": "two", "columns": PROMISED}, r"contract.version: should be a whole number"),
        ({"version": 1}, r"contract.columns: it promises no column"),
        ({"version": 1, "columns": {"digest": {"type": "text"}}}, r"contract.columns.digest.type: should be 'string'"),
        ({"version": 1, "colums": PROMISED}, r"unknown key 'colums'; did you mean 'columns'"),
        ({"version": 1, "columns": {"digest": {"type": "string", "need": True}}}, r"unknown key 'need'"),
        ({"version": 1, "columns": {"x": {"type": "number", "values": ["a"]}}}, r"values are listed of a string"),
        ({"version": 1, "columns": {"x": {"type": "string", "values": ["a", "a"]}}}, r"'a' is here twice"),
        ({"version": 1, "chunks": {"vector": {"type": "vector"}}}, r"chunks.vector.dimensions: is missing"),
        ({"version": 1, "columns": {"x": {"type": "string", "space": "m"}}}, r"only a vector has it"),
        ({"version": 1, "columns": {"release": {"type": "string"}}}, r"every reader has it as 'integer'"),
        ({"file": "c.yaml", "version": 2}, r"contract.version: 'c.yaml' says it"),
        ({"file": "c.yaml"}, r"does not exist; make it of what is live: ai-assets contract notes --write"),
        ({"version": 1, "columns": PROMISED, "on_break": "warn"}, r"contract.on_break: should be 'refuse' or 'waive'"),
        (
            {"version": 1, "columns": {"kind_lable": {"type": "string"}}},
            r"documents.kind_lable was a string and is gone \(did you mean 'kind_label'\?\)",
        ),
        (
            {"version": 1, "columns": {"kind_confidence": {"type": "integer"}}},
            r"documents.kind_confidence was an integer and is a number. Bring it back, or declare the break",
        ),
        (
            {"version": 1, "columns": {"kind_label": {**LABEL, "values": ["invoice"]}}},
            r"documents.kind_label was one of invoice and can be incident too",
        ),
        (
            {"version": 1, "chunks": {"vector": {"type": "vector", "dimensions": 3}}},
            r"chunks.vector was a vector of 3 and is a vector of 256 \(builtin/",
        ),
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused_with_its_line(
    project: Project, contract: dict[str, Any], said: str
) -> None:
    with pytest.raises(CollectionInvalid, match=said) as refused:
        project.declare(stages=[dict(STAGE)], contract=contract)
    assert "defs.yaml:" in str(refused.value)


FILE = "collection: notes\nversion: 1\ncolumns:\n  document_id: {type: string}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("notes", "letters"), r"contract.yaml:1: collection: this is the contract of 'letters'"),
        (FILE.replace("1", "one"), r"contract.yaml:2: version: should be a whole number"),
        (FILE.replace("string", "varchar"), r"contract.yaml:4: columns.document_id.type: should be"),
        (FILE.replace("document_id", "headline"), r"contract.yaml:4: contract: documents.headline was a string"),
        (FILE.replace("version: 1\n", ""), r"contract.yaml:\S+ version: is missing"),
        ("collection: notes\nversion: 1\n", r"contract.yaml:\S+ columns: it promises no column"),
        (FILE + "version: 2\n", r"contract.yaml:5: key 'version' is here already, on line 2"),
    ],
)
def test_a_contract_file_is_refused_with_its_line(project: Project, text: str, said: str) -> None:
    project.declare()
    (project.root / "collections" / "notes" / "contract.yaml").write_text(text)
    with pytest.raises(CollectionInvalid, match=said):
        project.declare(contract={"file": "contract.yaml"})


def test_what_may_be_waived_is_not_refused_when_it_is_loaded(project: Project) -> None:
    assert declare(project, OTHER_STAGE, on_break="waive").contract is not None


# The next contract


def made(version: int = 1, **changed: Any) -> Contract:
    columns = {name: each for name, each in {**PROMISED, **changed}.items() if each is not None}
    return Contract.from_data({"version": version, "columns": columns, "chunks": {}})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"language": {"type": "string"}}, None),
        ({"kind_label": {**LABEL, "values": ["invoice"]}}, None),
        ({"document_id": {"type": "string", "required": True, "description": "Its name."}}, None),
        ({"kind_label": None}, "documents.kind_label was a string and is not promised any more"),
        ({"kind_label": {**LABEL, "type": "strings", "values": None}}, "was a string and is a list of strings"),
        ({"kind_label": {**LABEL, "required": False}}, "was required and is not any more"),
        ({"kind_label": {**LABEL, "values": None}}, "was one of invoice, incident and can be any string"),
        ({"kind_label": {**LABEL, "values": ["invoice", "note"]}}, "and can be note too"),
    ],
)
def test_what_readers_can_rely_on_is_only_added_to(changed: dict[str, Any], said: str | None) -> None:
    found = [str(each) for each in broken_promises(made(), made(**changed))]
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])


def test_a_version_only_rises() -> None:
    broken = made(kind_label=None)
    assert why_not_declared(broken, made(), made())
    assert why_not_declared(made(2, kind_label=None), made(), made()) == []
    assert why_not_declared(made(1), made(2), made(2)) == ["version 2 is published, and version 1 is an earlier one"]
    # After a rollback from version 2 to 1: what is live may be gone on with, and 2 is not used for something else.
    assert why_not_declared(made(1), made(1), made(2)) == []
    assert why_not_declared(made(2, kind_label=None), made(1), made(2))
    assert why_not_declared(made(3, kind_label=None), made(1), made(2)) == []


# Candidates and releases


@on_both
def test_a_release_says_what_its_readers_are_promised(project: Project, promised: Collection) -> None:
    release = ai_assets.live("notes")
    assert release.contract is not None
    assert (release.contract.version, release.contract.broken) == (1, ())
    assert promised.contract is not None
    assert release.contract.digest == promised.contract.contract.digest
    assert (release.schema().metadata or {})[b"ai_assets.contract"] == f"1 {release.contract.digest}".encode()
    kept = card_of(project.stores(), "notes")
    assert kept.card.contract is not None
    assert kept.card.contract.digest == release.contract.digest
    assert f"Version 1 promises readers 3 columns. Its digest: `{release.contract.digest}`." in card_markdown(kept)
    assert current(project.stores().state, DAY).number == 1  # who signed before it was declared is not asked again
    project.edit(promised, FIRST, "An invoice about a heron: the total due is 9.00, payment terms 30 days.")
    [verdict] = current(project.stores().state, DAY).verdicts
    assert (verdict.name, verdict.verdict) == ("contract", "passed")


def test_who_has_the_data_alone_is_told_the_contract(project: Project, promised: Collection) -> None:
    live_index.show(project.stores(), "notes")
    data = project.home.root / "data" if (project.home.root / "data").is_dir() else project.home.root
    found = ai_assets.live("notes", data=data, trust=project.home.root / "keys" / "trust.json")
    assert found.contract == ai_assets.live("notes").contract


def test_a_row_that_breaks_it_makes_no_candidate(project: Project, labelled: Collection) -> None:
    collection = declare(project, columns={**PROMISED, "row_key": {"type": "string", "required": True}})
    with pytest.raises(PartitionsFailed, match=r"documents.row_key was required and is empty in 3 rows \(2026-10-05/0"):
        project.refresh(collection, [DAY])


@on_both
def test_a_break_can_be_waived_by_who_says_why(project: Project, promised: Collection) -> None:
    collection = refreshed(project, declare(project, OTHER_STAGE, on_break="waive"))
    stores = project.stores()
    [verdict] = [each for each in current(stores.state, DAY).verdicts if each.name == "contract"]
    assert verdict.sentence.startswith(
        "contract: version 1 is broken by 2026-10-05: documents.kind_label was a string and is gone; "
        "documents.kind_confidence was a number and is gone. Bring it back, or declare the break"
    )
    with served(desk_of(project)) as desk:
        visitor = Visitor(desk.url)
        visitor.sign_in("ann")
        page = visitor.get(f"/requests/{current(stores.state, DAY).request_id}").text
        visitor.http.close()
    assert "documents.kind_label was a string and is gone" in page
    with pytest.raises(DecisionRefused, match="the gate 'contract' failed"):
        decide(stores.state, collection)
    decide(stores.state, collection, waivers={"contract": "nobody reads the old label"})
    published = publish(collection, stores, by="ann").release
    assert published.contract is not None
    assert published.contract.broken == (DAY, OTHER)
    with stores.state.read() as connection:
        [first, *_] = audit.select(connection, collections=["notes"], actions=["waived"])
    assert (first.actor, first.subject["gate"]) == ("ann", "contract")
    kept = card_of(stores, "notes")
    assert f"Rows of {DAY}, {OTHER} break the contract, version 1." in kept.card.limits
    assert [each.reason for each in kept.card.partitions[DAY].waivers] == ["nobody reads the old label"]


def test_a_break_under_the_same_version_is_refused_before_anything_is_paid(
    project: Project, promised: Collection
) -> None:
    less = {name: each for name, each in PROMISED.items() if name != "kind_label"}
    with pytest.raises(ContractUndeclarable, match=r"kind_label was a string and is not promised any more under the "):
        project.refresh(declare(project, columns=less), [DAY])
    collection = refreshed(project, declare(project, OTHER_STAGE, 2, columns={"sort_label": LABEL}))
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="ann")
    found = ai_assets.live("notes")
    assert found.contract is not None
    assert found.contract.version == 2
    assert found.release(1).contract != found.contract
    with pytest.raises(ContractUndeclarable, match="version 2 is published, and version 1 is an earlier one"):
        project.refresh(declare(project), [DAY])


@on_both
def test_a_contract_that_is_withdrawn_takes_a_waiver(project: Project, promised: Collection) -> None:
    collection = project.declare(stages=[dict(OTHER_STAGE)])
    refreshed(project, collection)
    with pytest.raises(DecisionRefused, match="version 1 is promised to readers of what is live, and notes declares"):
        decide(project.stores().state, collection)
    decide(project.stores().state, collection, waivers={"contract": "it has no readers"})
    publish(collection, project.stores(), by="ann")
    assert ai_assets.live("notes").contract is None


@on_both
def test_a_contract_that_changed_after_the_approval_holds_it_back(project: Project, promised: Collection) -> None:
    """Who approves under one contract does not publish under another; a waiver is of what was broken then."""
    stores = project.stores()
    collection = refreshed(project, declare(project, OTHER_STAGE, on_break="waive"))
    decide(stores.state, collection, waivers={"contract": "agreed"})
    wider = {**PROMISED, "row_key": {"type": "string", "required": True}}
    changed = declare(project, OTHER_STAGE, columns=wider, on_break="waive")
    with pytest.raises(ContractHolds, match="It was waived as it was broken then, and not so"):
        publish(changed, stores, by="ann")
    refreshed(project, changed)
    request = current(stores.state, DAY)
    assert (request.status, request.number) == ("open", 3)
    assert any("row_key was required" in each.sentence for each in request.verdicts)


def test_partitions_that_are_live_keep_a_new_contract_too(project: Project, promised: Collection) -> None:
    stores = project.stores()
    collection = declare(project, OTHER_STAGE, 2, columns={"sort_label": LABEL})
    project.refresh(collection, [DAY])
    decide(stores.state, collection)
    with pytest.raises(ContractNotKept, match=rf"already break it: {OTHER} \(documents.sort_label was a string and"):
        publish(collection, stores, by="ann")
    project.refresh(collection, [OTHER])
    decide(stores.state, collection, [OTHER])
    assert publish(collection, stores, by="ann").release.contract is not None


def test_another_embedder_breaks_what_is_promised_of_vectors(project: Project, labelled: Collection) -> None:
    """As an upgrade of the built-in one would, which makes vectors of the same length that mean something else."""
    promised = {"vector": {"type": "vector", "dimensions": 256, "space": "builtin/wordllama-256@an-earlier-one"}}
    with pytest.raises(CollectionInvalid, match=r"chunks.vector was a vector of 256 \(\S+an-earlier-one\) and is"):
        declare(project, chunks=promised)
    collection = refreshed(project, declare(project, chunks=promised, on_break="waive"))
    with pytest.raises(DecisionRefused, match="an-earlier-one"):
        decide(project.stores().state, collection)


def test_a_column_that_is_there_sometimes_is_there_for_whom_it_is_promised(
    project: Project, labelled: Collection
) -> None:
    columns = {**PROMISED, "encoding": {"type": "string"}}
    collection = refreshed(project, declare(project, columns=columns))
    known(project.stores().state)
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="ann")
    assert ai_assets.live("notes").arrow(columns=["encoding"])["encoding"].null_count == 6


# The command


def written(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project.root / "collections" / "notes" / "contract.yaml").read_text())
    return found


@pytest.mark.slow
def test_the_command_writes_shows_and_checks(project: Project, published_project: Project) -> None:
    project.copy(published_project)

    def done(*arguments: str, rc: int = 0) -> str:
        found = project.cli("contract", "notes", *arguments)
        assert found.returncode == rc, (found.stdout, found.stderr)
        return found.stdout + found.stderr

    assert "declares no contract" in done(rc=2)
    assert "Choose one of" in done("--write", "--json-schema", rc=2)
    assert "contract: {file: contract.yaml}" in done("--write")
    first = written(project)
    assert (first["version"], first["columns"]["kind_label"]) == (1, LABEL)
    project.declare(stages=[dict(STAGE)], contract={"file": "contract.yaml"})
    assert "kind_label" in done()
    assert json.loads(done("--check", "1", "--json"))["kept"] is True
    assert "is no release" in done("--check", "newest", rc=2)
    less = {**first, "columns": {"document_id": {"type": "string"}, "row_key": {"type": "string", "required": True}}}
    (project.root / "collections" / "notes" / "contract.yaml").write_text(yaml.safe_dump(less))
    assert f"{DAY}: documents.row_key was required and is empty in 3 rows" in done("--check", "live", rc=1)
    found = json.loads(done("--write", "--json"))
    assert (found["version"], [*found["columns"]]) == (1, ["document_id", "row_key"])
    assert "documents.text" in found["left_out"]
    assert len(json.loads(done("--write", "--all", "--json"))["columns"]) == len(first["columns"])


@on_both
def test_the_command_raises_the_version_of_a_break_that_is_published(project: Project, promised: Collection) -> None:
    with pytest.raises(CollectionInvalid, match="what holds now, with version: 2"):
        declare(project, OTHER_STAGE)
    found = project.cli("contract", "notes", "--write", "--of", "definitions", "--json")
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert (said["version"], said["before"], [*said["columns"]]) == (2, 1, ["document_id"])
    assert said["changes"][0] == "documents.kind_label was a string and is not promised any more"
    assert project.declare(stages=[OTHER_STAGE], contract={"file": "contract.yaml"}).contract is not None


@pytest.mark.slow
def test_plan_and_doctor_say_it_before_a_run(project: Project, promised: Collection) -> None:
    declare(project, columns={"document_id": {"type": "string"}})
    planned = project.cli("plan", "notes")
    assert "under the same version 1" in planned.stdout + planned.stderr
    looked = project.cli("doctor")
    print(looked.stdout)
    assert "under the same version 1" in looked.stdout + looked.stderr


# Other tools


def test_rows_of_a_release_are_as_the_json_schema_says(project: Project, promised: Collection) -> None:
    assert promised.contract is not None
    schema = json_schema("notes", promised.contract.contract, {})
    jsonschema.Draft202012Validator.check_schema(schema)
    rows = ai_assets.live("notes").arrow().to_pylist()
    for row in rows:
        jsonschema.validate(row, schema)
    wrong: list[Callable[[dict[str, Any]], Any]] = [
        lambda row: {**row, "kind_label": "note"}, lambda row: {**row, "kind_confidence": None},
        lambda row: {name: value for name, value in row.items() if name != "document_id"},
    ]  # fmt: skip
    for broken in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken(rows[0]), schema)


def test_the_sources_of_dbt_have_every_promise(promised: Collection) -> None:
    assert promised.contract is not None
    text = dbt_sources("notes", promised.contract.contract, {"documents": {"kind_label": "Its kind."}}, "/data/notes/")
    [source] = yaml.safe_load(text)["sources"]
    documents, chunks = source["tables"]
    assert source["config"]["meta"]["contract_version"] == 1
    assert documents["config"]["meta"]["external_location"] == "/data/notes/live/documents/*.parquet"
    columns = {column["name"]: column for column in documents["columns"]}
    assert columns["kind_label"] == {
        "name": "kind_label", "description": "Its kind.", "data_type": "varchar",
        "data_tests": ["not_null", {"accepted_values": {"arguments": {"values": ["invoice", "incident"]}}}],
    }  # fmt: skip
    assert [column["name"] for column in chunks["columns"]] == [*ADDED_BY_READER]


@pytest.mark.slow
def test_dbt_holds_an_export_to_the_contract(project: Project, promised: Collection, tmp_path: Path) -> None:
    """A project of somebody else, on the files of an export."""
    into = tmp_path / "handed"
    export(ai_assets.live("notes"), into, "parquet")
    theirs = tmp_path / "theirs"
    (theirs / "models").mkdir(parents=True)
    (theirs / "dbt_project.yml").write_text("name: theirs\nversion: '1.0.0'\nconfig-version: 2\nprofile: theirs\n")
    profile = {"theirs": {"target": "t", "outputs": {"t": {"type": "duckdb", "path": str(theirs / "their.duckdb")}}}}
    (theirs / "profiles.yml").write_text(yaml.safe_dump(profile))

    def tested(values: list[str]) -> "subprocess.CompletedProcess[str]":
        columns = {**PROMISED, "kind_label": {**LABEL, "values": values}}
        contract = Contract.from_data({"version": 1, "columns": columns, "chunks": {}})
        (theirs / "models" / "sources.yml").write_text(dbt_sources("notes", contract, {}, str(into)))
        dbt = Path(sys.executable).with_name("dbt")
        flags = ["--profiles-dir", str(theirs), "--project-dir", str(theirs), "--no-version-check"]
        environment = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "PYTHONWARNINGS": "ignore"}
        return subprocess.run(
            [dbt, "test", *flags], cwd=theirs, env=environment, capture_output=True, text=True, check=False
        )

    kept = tested(["invoice", "incident"])
    assert "PASS=12 " in kept.stdout, kept.stdout
    broken = tested(["note"])
    assert (broken.returncode, "accepted_values_notes_documents_kind_label__note" in broken.stdout) == (1, True)
