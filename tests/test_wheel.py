"""The wheel: one package, typed, that gets along with a project that has folders of its own called as ours are."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest

import ai_assets
from ai_assets.base.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "Answer", "Caller", "Document", "DocumentCollection", "GPUResource", "LLMResource", "Published", "Quarantine",
    "Request", "Stage", "Unanswered", "collection_automation", "collection_definitions", "cost_definitions", "live",
    "load_collections", "shared_definitions", "signed", "stage",
}  # fmt: skip
"""What a project imports from `ai_assets`; another name is a decision, and is written down here."""


def test_the_public_surface_is_spelt_out() -> None:
    assert set(ai_assets.__all__) == set(dir(ai_assets)) == PUBLIC
    assert all(getattr(ai_assets, name) is not None for name in PUBLIC)


CLASS = re.compile(r"^[ \t]*class (\w+)", re.MULTILINE)


def test_one_word_is_one_class() -> None:
    """A name with a leading underscore never leaves its module, so it may be there in another one too."""
    modules: dict[str, list[str]] = {}
    written = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "ai_assets").rglob("*.py"))}
    names = Counter(name for text in written.values() for name in set(CLASS.findall(text)))
    for path, text in written.items():
        if all(names[name] == 1 for name in CLASS.findall(text)):
            continue  # to parse all of them takes ten seconds
        nodes = ast.walk(ast.parse(text))
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in sorted({node.name for node in nodes if isinstance(node, ast.ClassDef)}):
            modules.setdefault(name, []).append(module)
    twice = {name: owners for name, owners in modules.items() if len(owners) > 1 and not name.startswith("_")}
    assert len(names) > 500
    assert not twice, "; ".join(f"{name} is a class of {' and of '.join(owners)}" for name, owners in twice.items())


@pytest.mark.slow
def test_another_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'ai_assets' has no attribute 'Documnet'"):
        _ = ai_assets.Documnet


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_it_installs_nothing_but_the_library(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"ai_assets"}
    assert {"ai_assets/py.typed", "ai_assets/dbt/dbt_project.yml", "ai_assets/desk/templates/base.html"} <= set(names)


@pytest.mark.slow
def test_beside_a_project_with_resources_and_sensors_of_its_own(wheel: Path, tmp_path: Path) -> None:
    python = installed(wheel, tmp_path / "env")
    project = tmp_path / "project"
    for name in ("resources", "sensors"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(f"MINE = '{name} of this project'\n")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("A letter about a pump.")
    command = [python, "-c", "from ai_assets.cli import main; main()"]
    for arguments in (["new", "letters", "--from", str(tmp_path / "letters")], ["run", "letters"]):
        done = subprocess.run([*command, *arguments], cwd=project, env=bare(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    code = "import definitions, resources, sensors, ai_assets; print(resources.MINE, sensors.MINE, ai_assets.__file__)"
    said = subprocess.run([python, "-W", "ignore", "-c", code], cwd=project, env=bare(), capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("resources of this project sensors of this project")
    assert str(tmp_path / "env") in said.stdout


@pytest.mark.slow
def test_the_core_alone_works_and_names_the_extra_that_something_needs(wheel: Path, tmp_path: Path) -> None:
    python = installed(wheel, tmp_path / "env", {name.split(".")[0] for modules in EXTRAS.values() for name in modules})
    project, letters = tmp_path / "project", tmp_path / "letters"
    project.mkdir()
    letters.mkdir()
    (letters / "one.txt").write_text("A letter about a pump.")

    def call(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [python, "-c", "from ai_assets.cli import main; main()", *arguments],
            cwd=project, env={**bare(), **environment}, capture_output=True, text=True,
        )  # fmt: skip

    assert call("new", "letters", "--from", str(letters)).returncode == 0
    first = call("run", "letters")
    assert "takes the package great_expectations, which is missing: pip install 'ai-assets[quality]'" in first.stderr
    defs = project / "collections" / "letters" / "defs.yaml"
    defs.write_text("".join(line for line in defs.read_text().splitlines(keepends=True) if not judges(line)))
    done = call("run", "letters")
    assert done.returncode == 0, done.stderr
    for arguments, environment, extra in (
        (["up"], {}, "desk"),
        (["desk"], {}, "desk"),
        (["status", "letters"], {"AI_ASSETS_STATE_URL": "postgresql://nobody@localhost/none"}, "postgres"),
    ):
        refused = call(*arguments, **environment)
        assert (refused.returncode, f"pip install 'ai-assets[{extra}]'" in refused.stderr) == (2, True), refused.stderr
        assert "Traceback" not in refused.stderr
    (letters / "two.pdf").write_bytes(b"%PDF-1.4")
    assert "pip install 'ai-assets[formats]'" in call("run", "letters").stderr


def judges(line: str) -> bool:
    return line.strip().startswith(("quality:", "documents:", "- {expect:"))


def installed(wheel: Path, folder: Path, without: Collection[str] = ()) -> Path:
    """An environment with the wheel, and with what it depends on from where these tests run; not with this checkout."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    depends = folder / "depends"
    depends.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.suffix != ".pth" and entry.name.split("-")[0].split(".")[0] not in without:
            (depends / entry.name).symlink_to(entry)
    (site / "depends.pth").write_text(f"{depends}\n")
    return folder / "bin" / "python"


def bare() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items()
        if not name.startswith(("AI_ASSETS", "DAGSTER", "PYTHONPATH"))
    }  # fmt: skip
