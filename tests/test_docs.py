"""The documents say what the code does: commands, keys, assets, outcomes, links."""

import datetime
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from ai_assets.base import home as environment
from ai_assets.base.cluster import ClusterSettings
from ai_assets.base.compute import ComputeSettings
from ai_assets.base.environment import CONNECTIONS, LOCAL
from ai_assets.base.kinds import STAGE_KINDS
from ai_assets.base.tenants import TenantSettings
from ai_assets.base.window_settings import WindowSettings
from ai_assets.cli.app import app
from ai_assets.collection.loading import load_collection
from ai_assets.collection.settings import CollectionSettings
from ai_assets.desk.settings import DeskSettings
from ai_assets.inference.prices import cost_nusd, input_tokens_at_most, usd_of, worst_case_nusd
from ai_assets.inference.records import DECLARED_FREE, LOST, ErrorClass, Request, Usage
from ai_assets.inference.retry import DEFAULTS
from ai_assets.inference.settings import InferenceSettings, Route, TokenPrice
from ai_assets.protocols.registry import protocol_of
from ai_assets.run.operations import OperationsSettings, RetentionSettings
from ai_assets.signoff.witness_settings import WITNESS_KINDS
from ai_assets.stages.function_kind import PROMPTS_ONLY, FunctionStage
from ai_assets.stages.registry import kind_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
COLLECTIONS = (ROOT / "docs" / "collections.md").read_text(encoding="utf-8")
INFERENCE = (ROOT / "docs" / "inference.md").read_text(encoding="utf-8")
DESK = (ROOT / "docs" / "desk.md").read_text(encoding="utf-8")
TENANTS = (ROOT / "docs" / "tenants.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
EVERY_DOCUMENT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def marked(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name}:begin.*?-->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    assert found, f"no block '{name}'"
    return found[1]


def first_cells(table: str) -> list[str]:
    return [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 130


def test_the_asset_table_is_the_sample_collections_graph() -> None:
    handbook = load_collection(ROOT / "collections", "handbook")
    table = marked(ARCHITECTURE, "assets")
    assert first_cells(table) == [
        f"`{name}`" for name in ("source_files", *handbook.asset_names, "corrections", "sign_off", "published")
    ]
    for line in table.splitlines():
        if line.startswith("| `") and "all of the above" not in line:
            name, inputs = (re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:3])
            if name[0] not in ("source_files", "corrections", "sign_off"):
                assert inputs == list(handbook.inputs_of(name[0])), line


def test_every_command_is_documented() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        line = next((line for line in COMMANDS.splitlines() if line.startswith(f"| `ai-assets {name}")), None)
        assert line, f"ai-assets {name}"
        for inner in getattr(command, "commands", {}):
            assert inner in line, f"ai-assets {name} {inner}"


LISTS = (
    "tenants",
    "embeddings",
    "tables",
    "schedule",
    "stages",
    "windows",
    "metrics",
    "gates",
    "checks",
    "to",
    "sinks",
    "quality",
    "channels",
    "compute",
    "cluster",
    "witnesses",
)
"""Keys documented as a whole."""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = models_in(field.annotation)
        if inner and name not in LISTS:
            found += leaves(inner[0], f"{prefix}{name}.")
        else:
            found.append(prefix + (field.alias or name))
    return found


@pytest.mark.parametrize(("name", "model"), [("compute-keys", ComputeSettings), ("cluster-keys", ClusterSettings)])
def test_every_key_of_kubernetes_is_documented(name: str, model: type[BaseModel]) -> None:
    table = marked((ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8"), name)
    documented = re.findall(r"`([\w.]+)`", " ".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    assert sorted(documented) == sorted(model.model_fields)


def test_every_key_of_a_window_is_documented() -> None:
    table = (
        (ROOT / "docs" / "windows.md")
        .read_text(encoding="utf-8")
        .partition("| key of a window |")[2]
        .partition("\n\n")[0]
    )
    documented = re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert sorted(documented) == sorted(leaves(WindowSettings))


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (COLLECTIONS, CollectionSettings),
        (INFERENCE, InferenceSettings),
        (DESK, DeskSettings),
        (OPERATIONS, OperationsSettings),
        (TENANTS, TenantSettings),
    ],
    ids=["collection", "inference", "desk", "operations", "tenants"],
)
def test_every_key_of_a_file_is_documented(text: str, model: type[BaseModel]) -> None:
    documented = re.findall(
        r"`([\w.]+)`", " ".join(line.split("|")[1] for line in marked(text, "keys").splitlines() if "|" in line)
    )
    assert sorted(documented) == sorted(leaves(model))


def test_every_key_of_a_stage_is_documented_with_its_kinds() -> None:
    documented = {}
    for line in marked(COLLECTIONS, "stage-keys").splitlines():
        if line.startswith("| `"):
            keys, kinds = (re.findall(r"\w+", cell) for cell in line.split("|")[1:3])
            documented.update({key: set(STAGE_KINDS if kinds == ["all"] else kinds) for key in keys})
    declared: dict[str, set[str]] = {}
    for kind in STAGE_KINDS:
        model = kind_of(kind)
        without = {"models", *PROMPTS_ONLY} if model is FunctionStage else set()  # `models` is written as `route`
        for name, field in model.model_fields.items():
            if name in without:
                continue
            declared.setdefault(field.alias or name, set()).add(kind)
    assert documented == declared


def test_the_error_table_says_what_is_billed_retried_and_walked_around() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in marked(INFERENCE, "errors").splitlines()
        if line.startswith("| `")
    ]
    assert [row[0] for row in rows] == [f"`{error}`" for error in get_args(ErrorClass)]
    for error, (_, _, billed, evidence, retried, walked) in zip(get_args(ErrorClass), rows, strict=True):
        rule = DEFAULTS.get(error)
        assert (billed == "maybe") == (error in LOST), error
        assert ("unless `errors_are_free`" in billed) == (error in DECLARED_FREE), error
        assert bool(evidence) == (error not in LOST), error
        assert retried == (f"{rule.attempts}, {rule.base_s:g} s, {rule.cap_s:g} s" if rule else "never again"), error
        assert walked == ("yes" if error in Route(endpoints=("any",)).fallback_on else "no"), error


def test_the_budget_example_is_calculated_as_calls_are() -> None:
    price = TokenPrice.model_validate({"from": datetime.date(2026, 1, 1), "input": 2.5, "output": 10})
    request = Request(messages=({"role": "user", "content": "x" * 2000},))
    reserved = worst_case_nusd(price, input_tokens_at_most(request, 0), request.max_output_tokens)
    spent = cost_nusd(price, Usage(input_tokens=450, output_tokens=60))
    assert f"reserves ${usd_of(reserved)};" in INFERENCE
    assert f"${usd_of(spent):.6f} is spent" in INFERENCE
    assert f"`each-run` holds {10**9 // reserved} of those" in INFERENCE


def test_the_environment_table_names_variables_that_are_read() -> None:
    assert first_cells(marked(INFERENCE, "environment")) == [
        f"`{name}`" for name in (environment.INFERENCE_VARIABLE, environment.REHEARSAL_VARIABLE)
    ]


def test_the_examples_of_inference_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", INFERENCE, re.DOTALL)
    assert len(blocks) == 10
    for block in blocks:
        declared = InferenceSettings.model_validate(yaml.safe_load(block))
        for endpoint in declared.endpoints.values():
            assert protocol_of(endpoint.protocol).problem(endpoint) is None


def test_the_examples_in_the_documents_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", COLLECTIONS, re.DOTALL)
    whole = {"source": {"path": "documents"}, "partitions": {"by": "shards", "count": 1}}
    assert len(blocks) == 11
    on_routes = next(yaml.safe_load(block) for block in blocks if "claim_details" in block)
    for block in blocks:
        found = yaml.safe_load(block)
        judged = on_routes if "gates" in found else {}
        if "second_look" in block:
            found = {"stages": [*on_routes["stages"], *found["stages"]]}
        if "embeddings:" in block:
            found["stages"] = [{"name": "summary", "kind": "summarise"}]
        CollectionSettings.model_validate(
            found["attributes"] if "attributes" in found else {**whole, **judged, **found}
        )


def test_the_examples_of_the_desk_are_valid() -> None:
    rules, desk = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DESK, re.DOTALL))
    golden = {"golden": {"labels": "labels.jsonl"}, "stages": [{"name": "kind", "kind": "classify", "labels": [
        {"name": name, "description": f"What is a {name}."} for name in ("bill", "note")]}]}  # fmt: skip
    whole = {"source": {"path": "documents"}, "partitions": {"by": "shards", "count": 1}}
    CollectionSettings.model_validate({**whole, **golden, **rules})
    DeskSettings.model_validate(desk)


def test_the_example_of_witnesses_is_valid_and_has_every_kind() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(encoding="utf-8"), re.DOTALL)
    declared = DeskSettings.model_validate(yaml.safe_load(block)).checkpoints.witnesses
    assert [witness.kind for witness in declared] == list(WITNESS_KINDS)


def test_the_example_and_the_defaults_of_operations_are_those_of_the_code() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL)
    OperationsSettings.model_validate(yaml.safe_load(example))
    rows = [line.split("|")[1:3] for line in marked(OPERATIONS, "keys").splitlines() if line.startswith("| `")]
    documented = {
        key.strip(" `").removeprefix("retention."): yaml.safe_load(default.strip(" `")) for key, default in rows
    }
    assert documented == {
        "environment": LOCAL,
        "connections": CONNECTIONS,
        "cluster": None,
        **RetentionSettings().model_dump(),
        "sinks": "none",
        "tenants": "none",
        "workers": "none",
    }


@pytest.mark.parametrize("path", EVERY_DOCUMENT, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_file_the_architecture_names_exists() -> None:
    for name in re.findall(r"`((?:ai_assets|tests)/[\w/]+(?:\.py|/))`", ARCHITECTURE):
        assert (ROOT / name).exists(), name


def test_the_architecture_names_symbols_that_exist() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8") for top in ("ai_assets",) for path in (ROOT / top).rglob("*.py")
    )
    names = {name for pair in re.findall(r"\b(?:def|class) (\w+)|^(\w+)", source, re.MULTILINE) for name in pair}
    table = ARCHITECTURE.split("## Layers")[1].split("##")[0]
    for line in table.splitlines():
        for symbol in re.findall(r"`([A-Za-z_.]+)`", line.split("|")[-2] if line.count("|") > 3 else ""):
            last = symbol.rsplit(".", 1)[-1]
            assert last in names or symbol in ("defs", "defs.yaml"), symbol
