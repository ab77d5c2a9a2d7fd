"""Where the home is, and what is said when it cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ai_assets
from ai_assets.base.home import HOME_VARIABLE, STATE_URL_VARIABLE, UP_VARIABLE, Home, HomeUnusable, project_directory

REPOSITORY = Path(ai_assets.__file__).parents[1]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "collections" / "letters").mkdir(parents=True)
    (folder / "definitions.py").touch()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.delenv(STATE_URL_VARIABLE, raising=False)
    return folder


def test_the_default_home_is_beside_the_nearest_definitions(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "collections" / "letters")
    assert Home.from_environment() == Home(root=project / ".ai-assets", project=project)


def test_without_definitions_the_project_is_the_current_folder(tmp_path: Path) -> None:
    assert project_directory(tmp_path) == tmp_path


def test_the_environment_beats_the_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "elsewhere")
    monkeypatch.setenv(STATE_URL_VARIABLE, "postgresql://db/state")
    home = Home.from_environment()
    assert (home.root, home.state_url) == (project / "elsewhere", "postgresql://db/state")


def test_an_empty_variable_counts_as_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "")
    assert Home.from_environment().root == project / ".ai-assets"


def test_the_state_store_is_sqlite_in_the_home_by_default(project: Path) -> None:
    assert Home.from_environment().state_url == f"sqlite:///{project}/.ai-assets/state.db"


def test_ensure_makes_a_home_closed_to_others_and_leaves_no_probe() -> None:
    home = Home.from_environment().ensure().ensure()
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in home.root.iterdir()) == [".gitignore", "dagster", "logs"]


@pytest.mark.parametrize("in_the_way", ["blocked", "blocked/deeper", "blocked/deeper/still"])
def test_a_file_in_the_way_of_the_home_is_named_in_one_sentence(project: Path, in_the_way: str) -> None:
    (project / "blocked").touch()
    with pytest.raises(HomeUnusable, match=rf"^The home folder {project}/{in_the_way} cannot be used: .*file.*\. Set"):
        Home(root=project / in_the_way, project=project).ensure()


def test_a_home_that_takes_no_bytes_is_refused_before_anything_runs(project: Path) -> None:
    """A process that may not write a byte stands for the full disk: the same write fails, with another errno."""
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from ai_assets.base.home import Home, HomeUnusable\n"
        f"from pathlib import Path; p = Path({str(project)!r})\n"
        "try: Home(root=p / 'full', project=p).ensure()\n"
        "except HomeUnusable as e: print(e)"
    )
    command = [sys.executable, "-B", "-c", script]
    said = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert f"{project}/full cannot be used: file too large." in said
    assert not list((project / "full").glob(".probe*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_refused(project: Path) -> None:
    project.chmod(0o500)
    with pytest.raises(HomeUnusable, match="permission denied"):
        Home.from_environment().ensure()


def test_a_child_gets_absolute_folders_for_dagster_and_for_us(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "elsewhere")
    child = Home.from_environment().child_environment("7:1.00")
    root = f"{project}/elsewhere"
    assert (child["DAGSTER_HOME"], child[HOME_VARIABLE], child[UP_VARIABLE]) == (
        f"{root}/dagster",
        root,
        f"7:1.00@{root}",
    )
    assert child["PATH"] == os.environ["PATH"]
