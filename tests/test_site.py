"""The site is made of the documents and the code, whole, and fetches nothing from elsewhere."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import ai_assets
from ai_assets.cli.app import app

ROOT = Path(__file__).parents[1]
FETCHED = re.compile(r'<(?:script|img|iframe|source)[^>]+src="(https?:[^"]+)"|<link[^>]+href="(https?:[^"]+)"')


def pages_in(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for each in inner for page in pages_in(each)]  # type: ignore[attr-defined]


def test_every_document_has_its_place_in_the_navigation() -> None:
    docs = ROOT / "docs"
    written = {str(path.relative_to(docs)) for path in docs.rglob("*.md") if path.parent.name != "adr"}
    listed = pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(set(listed)) == len(listed)
    assert written <= set(listed), f"not in mkdocs.yml: {written - set(listed)}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("material") is None:
        pytest.skip("NOT TESTED: the site, which takes mkdocs-material (docs/site/requirements.txt): `make site`")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # strict: a link or heading that leads nowhere, a page without a place
    return folder


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    found = {(page.name, fetched) for page in pages for fetched in FETCHED.findall(page.read_text(encoding="utf-8"))}
    assert len(pages) > 150
    assert not found


@pytest.mark.slow
def test_the_reference_has_every_command_every_key_and_every_name(site: Path) -> None:
    said = {name: (site / "reference" / f"{name}.html").read_text() for name in ("commands", "settings", "python")}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for inner in getattr(command, "commands", None) or [""]:
            assert f"<code>ai-assets {name} {inner}".strip() + "</code>" in said["commands"]
    for key in ("source.path", "gates", "endpoints.NAME.base_url", "channels", "retention", "labels[].name"):
        assert f"<code>{key}" in said["settings"], key
    assert "glob patterns below the path" in said["settings"]  # from the page that explains it
    assert all(f"<code>{name}</code>" in said["python"] for name in ai_assets.__all__)


@pytest.mark.slow
def test_words_of_the_code_and_the_documents_are_found_by_its_search(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"] for entry in index["docs"]}
    assert {"index.html", "glossary.html", "changelog.html", "adr/index.html"} <= places
    assert "files/inference.example.yaml.html" not in places
