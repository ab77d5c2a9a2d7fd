"""The documents say what the code does: commands, keys, assets, outcomes, links."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from ai_assets.cli.app import app
from ai_assets.collection import load_collection
from ai_assets.settings import CollectionSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
COLLECTIONS = (ROOT / "docs" / "collections.md").read_text(encoding="utf-8")
EVERY_DOCUMENT = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def marked(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name}:begin.*?-->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    assert found, f"no block '{name}'"
    return found[1]


def first_cells(table: str) -> list[str]:
    return [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("text", [README, ARCHITECTURE], ids=["README", "architecture"])
def test_the_asset_table_is_the_sample_collections_graph(text: str) -> None:
    handbook = load_collection(ROOT / "collections", "handbook")
    table = marked(text, "assets")
    assert first_cells(table) == [
        f"`{name}`" for name in ("source_files", *handbook.asset_names, "sign_off", "published")
    ]
    for line in table.splitlines():
        if line.startswith("| `") and "all of the above" not in line:
            name, inputs = (re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:3])
            if name[0] not in ("source_files", "sign_off"):
                assert inputs == list(handbook.inputs_of(name[0])), line


def test_every_command_is_in_the_readme() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        line = next((line for line in README.splitlines() if line.startswith(f"| `ai-assets {name}")), None)
        assert line, f"ai-assets {name}"
        for inner in getattr(command, "commands", {}):
            assert inner in line, f"ai-assets {name} {inner}"


LISTS = ("tables", "schedule", "stages", "gates", "quality")
"""Keys documented as a whole."""


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kinds = [
            kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(kind, type)
        ]
        inner = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        if inner is not None and name not in LISTS:
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_key_of_a_collection_is_documented() -> None:
    documented = set(
        re.findall(
            r"`([\w.]+)`",
            " ".join(line.split("|")[1] for line in marked(COLLECTIONS, "keys").splitlines() if "|" in line),
        )
    )
    assert documented == set(leaves(CollectionSettings))


def test_the_examples_in_the_documents_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", COLLECTIONS, re.DOTALL)
    whole = {"source": {"path": "documents"}, "partitions": {"by": "shards", "count": 1}}
    assert len(blocks) == 3
    for block in blocks:
        found = yaml.safe_load(block)
        CollectionSettings.model_validate(found["attributes"] if "attributes" in found else {**whole, **found})


@pytest.mark.parametrize("path", EVERY_DOCUMENT, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_file_the_architecture_names_exists() -> None:
    for name in re.findall(r"`((?:ai_assets|resources|sensors|tests)/[\w/]+(?:\.py|/))`", ARCHITECTURE):
        assert (ROOT / name).exists(), name


def test_the_architecture_names_symbols_that_exist() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for top in ("ai_assets", "resources", "sensors")
        for path in (ROOT / top).rglob("*.py")
    )
    table = ARCHITECTURE.split("## Layers")[1].split("##")[0]
    for line in table.splitlines():
        for symbol in re.findall(r"`([A-Za-z_.]+)`", line.split("|")[-2] if line.count("|") > 3 else ""):
            last = symbol.rsplit(".", 1)[-1]
            assert re.search(rf"\b(def|class) {last}\b|^{last}\b", source, re.MULTILINE) or symbol in (
                "defs",
                "defs.yaml",
            ), symbol
