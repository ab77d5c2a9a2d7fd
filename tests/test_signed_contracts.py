"""Claims about contracts of signed assets: what readers are promised of their rows."""

import decimal
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from strangers import Stranger

import ai_assets
from ai_assets.reading.contract_schemas import dbt_sources, json_schema
from ai_assets.reading.export import export
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signed_asset.errors import SignedAssetWrong
from ai_assets.signoff import requests
from ai_assets.signoff.errors import DecisionRefused

PROMISES: dict[str, Any] = {
    "ticket": {"type": "integer", "required": True},
    "reply": {"type": "string", "required": True, "values": ["yes", "no"]},
    "refund": {"type": "number"},
}


def promising(version: int = 1, *without: str, on_break: str = "refuse", **columns: Any) -> dict[str, Any]:
    kept = {name: each for name, each in {**PROMISES, **columns}.items() if name not in without}
    return {"key": "ticket", "contract": {"version": version, "columns": kept, "on_break": on_break}}


def answered(**changed: Any) -> list[dict[str, Any]]:
    row = {"ticket": 1, "reply": "yes", "refund": 1.5, **changed}
    return [{name: value for name, value in row.items() if value != "gone"}]


@pytest.fixture
def promised(stranger: Stranger, opened: dg.DagsterInstance) -> Stranger:
    """Release 1 is live, and its readers are promised three columns."""
    stranger.rows, stranger.declared = answered(), promising()
    stranger.ask(opened)
    stranger.approve()
    assert stranger.published(opened) == stranger.rows
    return stranger


def refused(stranger: Stranger, opened: dg.DagsterInstance) -> str:
    """Why no candidate was made of the rows; empty where one was."""
    done = stranger.run(opened, "answers", "signed/answers_candidate")
    found = [event.step_failure_data.user_failure_data for event in done.get_step_failure_events()]
    return " ".join(each.description or "" for each in found if each is not None)


SIGNED_BREAKS: list[tuple[object, str]] = [
    (answered(), ""),
    (answered(more="a column that nobody was promised"), ""),
    (answered(refund=None), ""),
    (answered(refund=2), ""),
    (pd.DataFrame({"ticket": [1], "reply": pd.Categorical(["no"]), "refund": [1]}), ""),
    (pa.table({"ticket": pa.array([1], pa.int16()), "reply": ["no"], "refund": pa.array([1], pa.float32())}), ""),
    (answered(refund="gone"), "documents.refund was a number and is gone"),
    (answered(refund="1.5"), "documents.refund was a number and is a string"),
    (answered(ticket="1"), "documents.ticket was an integer and is a string"),
    (answered(refund=decimal.Decimal("1.50")), "documents.refund was a number and is a decimal"),
    (answered(reply=None), "documents.reply was required and is empty in 1 row (1)"),
    (answered(reply="perhaps"), "documents.reply was one of yes, no and is 'perhaps' in 1 row"),
    (pa.table({"ticket": pa.array([], pa.int64()), "reply": pa.array([], pa.string())}), ""),
]


@pytest.mark.parametrize(
    ("rows", "says"), SIGNED_BREAKS, ids=[f"{n} {says}" for n, (_, says) in enumerate(SIGNED_BREAKS)]
)
def test_rows_that_break_the_contract_of_a_signed_asset_make_no_request(
    rows: object, says: str, stranger: Stranger, opened: dg.DagsterInstance
) -> None:
    stranger.rows, stranger.declared = rows, promising()
    found = refused(stranger, opened)
    assert says in found if says else found == "", found
    with stranger.project.stores().state.read() as connection:
        assert bool(requests.find(connection, "answers")) is (not says and len(rows) > 0)  # type: ignore[arg-type]


def test_a_break_of_a_signed_assets_contract_is_waived_by_who_says_why(
    promised: Stranger, opened: dg.DagsterInstance
) -> None:
    promised.rows, promised.declared = answered(refund="gone"), promising(on_break="waive")
    request = promised.ask(opened)
    [verdict] = request.verdicts
    assert verdict.sentence == (
        "contract: version 1 is broken by all: documents.refund was a number and is gone. Bring it back, or declare "
        "the break with the next version: what holds now, with version: 2"
    )
    with pytest.raises(DecisionRefused, match="the gate 'contract' failed"):
        promised.approve()
    promised.approve(waivers={"contract": "refunds are elsewhere now"})
    assert promised.published(opened) == promised.rows
    found = ai_assets.live("answers").contract
    assert found is not None
    assert (found.version, found.broken) == (1, ("all",))


def test_the_next_contract_of_a_signed_asset_takes_the_next_version(
    promised: Stranger, opened: dg.DagsterInstance
) -> None:
    promised.rows = answered(refund="gone")
    promised.declared = promising(1, "refund")
    assert "documents.refund was a number and is not promised any more under the same version 1" in refused(
        promised, opened
    )
    promised.declared = promising(2, "refund")
    promised.ask(opened)
    promised.approve()
    assert promised.published(opened) == promised.rows
    promised.rows, promised.declared = answered(reply="no"), {"key": "ticket"}
    assert any("declares none any more" in each.sentence for each in promised.ask(opened).verdicts)


def test_readers_of_a_signed_asset_have_its_own_columns(promised: Stranger) -> None:
    release = ai_assets.live("answers")
    names = ["partition", "document_id", "ticket", "reply", "refund", "release", "request", "signed_by"]
    assert release.schema().names == names
    assert release.arrow(columns=["ticket", "reply", "refund"]).to_pylist() == promised.rows
    release.verify()
    into = promised.project.root / "handed"
    export(release, into, "parquet")
    (file,) = (into / "live" / "documents").iterdir()
    assert read_rows_of(file) == ["ticket", "reply", "refund"]


def read_rows_of(file: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [name for name in pq.read_schema(file).names if name in PROMISES]


def test_a_column_that_has_a_name_of_readers_keeps_its_prefix(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.rows, stranger.declared = [{"ticket": 1, "release": "blue", "title": "a"}], {"key": "ticket"}
    stranger.ask(opened)
    stranger.approve()
    assert stranger.published(opened) == stranger.rows
    (row,) = ai_assets.live("answers").arrow().to_pylist()
    assert (row["release"], row["row.release"], row["title"]) == (1, "blue", "a")


def test_rows_of_a_signed_asset_are_as_its_json_schema_and_dbt_sources_say(promised: Stranger) -> None:
    contract = recorded(promised.project.stores().state)["answers"].contract
    assert contract is not None
    schema = json_schema("answers", contract.contract, {}, of_asset=True)
    for row in (*promised.rows, *ai_assets.live("answers").arrow().to_pylist()):
        jsonschema.validate(row, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**promised.rows[0], "reply": "perhaps"}, schema)
    [source] = yaml.safe_load(dbt_sources("answers", contract.contract, {}, "/data", of_asset=True))["sources"]
    (documents,) = source["tables"]
    assert {"partition", "signed_by", "ticket", "refund"} <= {column["name"] for column in documents["columns"]}


@pytest.mark.slow
def test_the_command_shows_checks_and_writes_the_contract_of_a_signed_asset(
    promised: Stranger, opened: dg.DagsterInstance
) -> None:
    def done(*arguments: str, rc: int = 0) -> str:
        found = promised.project.cli("contract", "answers", *arguments)
        assert found.returncode == rc, (found.stdout, found.stderr)
        return " ".join((found.stdout + found.stderr).split())

    shown = json.loads(done("--json"))
    assert (shown["version"], shown["place"], {*shown["columns"]}) == (1, "signed(answers)", {*PROMISES})
    assert json.loads(done("--check", "live", "--json"))["kept"] is True
    assert "its rows alone say what it has" in done("--write", "--of", "definitions", rc=2)
    assert 'signed(answers, contract={"file": "answers.contract.yaml"})' in done("--write")
    assert json.loads(done("--json-schema"))["$defs"]["documents"]["properties"]["ticket"] == {"type": "integer"}
    assert "signed_by" in done("--dbt-sources")
    file = promised.project.root / "answers.contract.yaml"
    assert {name: each["type"] for name, each in yaml.safe_load(file.read_text())["columns"].items()} == {
        "ticket": "integer", "reply": "string", "refund": "number",
    }  # fmt: skip
    promised.declared = {"key": "ticket", "contract": {"file": file.name}}
    promised.rows = answered(ticket="one")
    assert f"what holds now in {file.name}, with version: 2" in refused(promised, opened)


CONTRACTS: list[tuple[Mapping[str, Any], str]] = [
    ({"version": 1}, "contract: columns: it promises no column"),
    ({"version": 1, "columns": {"a": {"type": "text"}}}, "contract: columns.a.type"),
    ({"version": 1, "columns": {"a": {"type": "string"}}, "chunks": {"b": {"type": "string"}}}, "promises chunks"),
    ({"file": "none.yaml"}, "make it of what is live: ai-assets contract answers --write"),
    ({"file": "other.yaml"}, "other.yaml:1: collection: this is the contract of 'other'"),
]


@pytest.mark.parametrize(("declared", "says"), CONTRACTS, ids=[says for _, says in CONTRACTS])
def test_a_wrong_contract_of_a_signed_asset_is_refused_when_it_loads(
    declared: Mapping[str, Any], says: str, stranger: Stranger
) -> None:
    text = "collection: other\nversion: 1\ncolumns:\n  a: {type: string}\n"
    (stranger.project.root / "other.yaml").write_text(text)
    with pytest.raises(SignedAssetWrong) as refusal:
        ai_assets.signed("answers", contract=declared)
    assert says in str(refusal.value)
