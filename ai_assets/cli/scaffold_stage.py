"""`ai-assets scaffold stage`: the file of a stage, its test, and its entry in a collection's `defs.yaml`."""

import keyword
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.output import collection as collection_named
from ai_assets.cli.output import console, home
from ai_assets.cli.scaffold_entry import write_declared
from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import FIXED_ASSETS

_STAGE = '''"""The stage `{name}`. What it is given and may return: docs/extending.md of ai-assets."""

from typing import Any

from ai_assets import Document, Quarantine, stage


@stage(version="1", columns={{"words": int, "first": str}})
def {name}(document: Document) -> dict[str, Any]:
    """A row is a document with the number of its words. Edit this."""
    words = document.text.split()
    if not words:
        raise Quarantine("it has no words")
    return {{"words": len(words), "first": words[0]}}
'''
_TEST = '''"""The stage `{name}` by hand. Run it with: python -m pytest tests/test_{module}.py"""

import pytest
from ai_assets import Document, Quarantine
from {module} import {name}


def a_document(text: str) -> Document:
    return Document(id="a.txt", text=text, title=None, language="en", path="a.txt", digest="0")


def test_{name}_counts_words() -> None:
    assert {name}(a_document("two words")) == {{"words": 2, "first": "two"}}


def test_{name}_sets_a_document_without_words_aside() -> None:
    with pytest.raises(Quarantine):
        {name}(a_document(" "))
'''


@dataclass(frozen=True, kw_only=True)
class ScaffoldedStage:
    stage: Path
    test: Path
    declared: Path


def scaffold_stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the stage, and of its function.")],
    collection: Annotated[str, typer.Option("--collection", help="The collection that has it.")],
) -> None:
    """Write a stage of one's own with its test, and declare it in the collection's defs.yaml."""
    made = write_stage(name, collection_named(collection), home().project)
    console.print(f"Wrote {made.stage}, {made.test} and an entry in {made.declared}.")
    console.print(f"Edit it, then:  ai-assets run {collection}")


def write_stage(name: str, collection: Collection, project: Path) -> ScaffoldedStage:
    """All three, or none of them: a file that is there is never written over."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name in FIXED_ASSETS:
        raise ScaffoldRefused(name, "it must be a lower-case name of Python that no built-in asset has")
    if name in {stage.name for stage in collection.stages}:
        raise ScaffoldRefused(name, f"{collection.name} has a stage of that name")
    module = f"{name}_stage"
    stage, test = project / f"{module}.py", project / "tests" / f"test_{module}.py"
    files = {stage: _STAGE.format(name=name), test: _TEST.format(name=name, module=module)}
    entry = f'{{name: {name}, kind: function, function: "{module}:{name}"}}'
    declared = write_declared(name, collection, files, entry, under="stages")
    return ScaffoldedStage(stage=stage, test=test, declared=declared)
