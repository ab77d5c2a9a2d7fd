"""The command as a person types it: processes of its own (warm.py), from scaffolding to rollback; and every mistake.

One mistake of each kind of end is made with the program itself, which imports everything first.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import WARM, empty_store
from lineage_events import INSTALLED, events_in

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("ai-assets")
PAPERS = {
    "2026-03-01/lease.md": "# Lease\n\nMorgan & Sons rent the hall from Tilde Ltd. Notice is three months.",
    "2026-03-01/pump.txt": "Incident 77-B: the pump in hall 3 failed at 14:20 and was replaced.",
    "2026-03-02/offer.txt": "Offer 2026/114 of Brandt Tools: forty wrenches at 12 euro each.",
    "2026-03-02/broken.pdf": "%PDF-1.4 this is no pdf",
}


PASSWORD = "a walk in the autumn rain"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


class Project:
    """A project folder of its own, and the command run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / "definitions.py", folder)
        for name, text in PAPERS.items():
            path = folder / "papers" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def __call__(self, *arguments: str, code: int = 0, typed: str | None = None, **variables: str) -> Said:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "USER": "ada",
            "LOGNAME": "ada",
            "AI_ASSETS_PASSWORD": PASSWORD,
            **variables,
        }
        done = WARM.run(arguments, cwd=self.folder, env=environment, timeout_s=180, typed=typed or "")
        said = Said(done.returncode, done.stdout, done.stderr)
        assert said.code == code, f"{arguments}: {said}"
        assert "Traceback" not in said.out + said.err, said
        return said


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Scaffolded and run once."""
    made = Project(tmp_path_factory.mktemp("project"))
    said = made("new", "papers", "--from", "papers")
    assert "partitioned by day (4 of 4 paths carry a date)" in said.out
    defs = made.folder / "collections" / "papers" / "defs.yaml"
    # Great Expectations takes seconds to import, and has tests of its own.
    text = defs.read_text().split("  # Great Expectations")[0] + "  schedule: null\n"
    defs.write_text(text.replace("  # end: 2026-03-02", "  end: 2026-03-02"))
    made("run", "papers", "--all")
    for name in ("ada", "grace", "mary"):
        made("reviewers", "add", name, "--role", "approver", "--password-stdin", typed=PASSWORD)
    return made


@pytest.mark.slow
def test_a_scaffolded_collection_passes_dagsters_own_check(tmp_path: Path) -> None:
    made = Project(tmp_path)
    made("new", "papers", "--from", "papers")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    (dagster_home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    done = subprocess.run(
        [COMMAND.with_name("dg"), "check", "defs"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DAGSTER_HOME": str(dagster_home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_whole_story_from_candidate_to_rollback(project: Project) -> None:
    states = project("status", "papers", "--json").json
    assert states[0]["partitions"] == {"2026-03-01": "awaiting sign-off", "2026-03-02": "awaiting sign-off"}
    assert states[0]["documents"] == {"ok": 3, "duplicate": 0, "quarantined": 1, "deleted": 0}
    assert "wait" in project("publish", "papers", code=2).err

    asked = ("signoff", "approve", "papers", "2026-03-01")
    assert "AI_ASSETS_PASSWORD" in project(*asked, "--by", "grace", code=2, AI_ASSETS_PASSWORD="").err
    wrong = project(*asked, "--by", "grace", code=2, AI_ASSETS_PASSWORD="letmein").err
    assert wrong == project(*asked, "--by", "nobody", code=2).err
    assert PASSWORD not in wrong
    project(*asked, "--by", "grace")
    project("publish", "papers")
    found = project("search", "papers", "who rents the hall?", "--json").json
    assert found["release"] == 1
    assert found["hits"][0]["document_id"] == "2026-03-01/lease.md"
    assert not [
        hit for hit in project("search", "papers", "2026/114", "--json").json["hits"] if "offer" in hit["document_id"]
    ]

    project("signoff", "approve", "papers", "--all", "--by", "mary")
    project("publish", "papers")
    assert project("search", "papers", "2026/114", "--json").json["hits"][0]["document_id"] == "2026-03-02/offer.txt"
    shown = project("releases", "show", "papers", "--json").json
    assert shown["parts"]["2026-03-01"]["approved_by"] == ["grace"]
    assert shown["parts"]["2026-03-02"]["approved_by"] == ["mary"]

    explained = project("explain", "papers", "2026-03-01/lease.md", "--json").json
    assert explained["live"]["release"] == 2
    assert explained["live"]["approved_by"] == "grace"
    assert explained["current"]["status"] == "ok"
    assert [event["event"] for event in explained["history"]] == ["added"]
    assert explained["provenance"]["release"] == 2
    assert "ai-assets releases show papers 2" in project("explain", "papers", "2026-03-01/lease.md").out

    file = project.folder / "events.jsonl"
    listening = {"OPENLINEAGE__TRANSPORT__TYPE": "file", "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(file),
                 "OPENLINEAGE__TRANSPORT__APPEND": "true"}  # fmt: skip
    project("releases", "rollback", "papers", "--reason", "offer withdrawn", **listening)
    if INSTALLED:
        (event,) = events_in(file)
        assert event["run"]["facets"]["ai_assets_rollback"]["fromNumber"] == 2
    assert [r["number"] for r in project("releases", "list", "papers", "--json").json if r["live"]] == [1]
    assert not [
        hit for hit in project("search", "papers", "2026/114", "--json").json["hits"] if "offer" in hit["document_id"]
    ]
    project("releases", "rollback", "papers", "--to", "2")
    assert project("releases", "at", "papers", "2001-01-01", "--json").json is None
    assert project("releases", "at", "papers", "2999-01-01", "--json").json["number"] == 2
    verified = project("audit", "verify", "--json").json
    assert "14 records written" in project("audit", "export", "chain.jsonl").out
    exported = project("audit", "verify", "--file", "chain.jsonl", "--json", AI_ASSETS_HOME="/nowhere").json
    assert verified.pop("checkpoints") == 2
    assert exported.pop("checkpoints") is None
    assert exported == verified
    newest = project("audit", "show", "papers", "-n", "1", "--json").json[0]
    assert (newest["action"], newest["actor"], newest["subject"]["release"]) == ("rolled back", "ada", 2)


def test_a_run_with_nothing_to_do_says_so(project: Project) -> None:
    assert "nothing to run" in project("run", "papers").out


@pytest.mark.slow
def test_a_range_of_partitions_is_run_and_counted(project: Project) -> None:
    said = project("run", "papers", "--partitions", "2026-03-01...2026-03-02", "--json").json
    rows = {row["asset"]: row for row in said["rows"]}
    assert rows["documents"]["partitions"] == 2
    assert rows["documents"]["quarantined"] == 1
    assert rows["chunks"]["reused"] == rows["chunks"]["documents_in"] == 3
    (unread,) = said["quarantined"]
    shown = project("run", "papers", "--partition", unread["partition"]).out
    assert f"quarantined: {unread['document']}: {unread['reason']}" in " ".join(shown.split())


@dataclass(frozen=True)
class Mistake:
    id: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]


MISTAKES = [
    Mistake("unknown collection", ("run", "paper"), ("no collection 'paper'", "found: papers")),
    Mistake("unknown partition", ("run", "papers", "--partition", "2026-04-01"), ("from 2026-03-01 to 2026-03-02",)),
    Mistake("bad date", ("run", "papers", "--partition", "yesterday"), ("'yesterday' is no partition",)),
    Mistake("bad range", ("run", "papers", "--partitions", "2026-03-01"), ("not a range such as",)),
    Mistake("reversed range", ("run", "papers", "--partitions", "2026-03-02...2026-03-01"), ("the wrong way round",)),
    Mistake("two choices", ("run", "papers", "--all", "--partition", "2026-03-01"), ("give one of",)),
    Mistake("nothing named", ("signoff", "approve", "papers"), ("name the partitions, or give --all",)),
    Mistake("rejection without a reason", ("signoff", "reject", "papers", "--all"), ("needs a reason",)),
    Mistake("sending back without notes", ("signoff", "send-back", "papers", "--all"), ("needs notes",)),
    Mistake("waiver without a reason", ("signoff", "approve", "papers", "--all", "--waive", "mrr"), ("GATE=WHY",)),
    Mistake("asking again what waits", ("signoff", "ask-again", "papers", "2026-03-01", "--reason", "x"), ("no open",)),
    Mistake("no date", ("releases", "at", "papers", "soon"), ("'soon' is not a valid date or time",)),
    Mistake("no export", ("audit", "verify", "--file", "papers/2026-03-01/lease.md"), ("no export of an audit",)),
    Mistake("unknown role", ("reviewers", "add", "eve", "--role", "boss"), ("boss",)),
    Mistake("unknown person", ("reviewers", "disable", "eve"), ("no person 'eve'",)),
    Mistake("unknown release", ("releases", "show", "papers", "99"), ("no release 99",)),
    Mistake("unknown document", ("explain", "papers", "lease.md"), ("did you mean '2026-03-01/lease.md'",)),
    Mistake("name taken", ("new", "papers", "--from", "papers"), ("exists already",)),
    Mistake("bad name", ("new", "My Papers", "--from", "papers"), ("lower-case",)),
    Mistake("missing folder", ("new", "other", "--from", "nowhere"), ("nowhere",)),
    Mistake("unknown command", ("aprove",), ("No such command",)),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_gets_one_clear_sentence_and_exit_code_2(project: Project, mistake: Mistake) -> None:
    said = project(*mistake.arguments, code=2)
    for part in mistake.says:
        assert part in " ".join(said.err.split()), said


@pytest.mark.parametrize("arguments", [("aprove",), ("run", "paper")], ids=["unknown command", "unknown collection"])
def test_the_program_that_a_shell_starts_ends_as_its_fork_does(project: Project, arguments: tuple[str, ...]) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(project.folder)}
    done = subprocess.run(
        [COMMAND, *arguments], cwd=project.folder, env=environment, capture_output=True, text=True, timeout=600
    )
    said = project(*arguments, code=2)
    assert (done.returncode, done.stdout, done.stderr) == (2, said.out, said.err)


def test_a_missing_source_names_the_folder(tmp_path: Path) -> None:
    made = Project(tmp_path)
    made("new", "papers", "--from", "papers")
    (tmp_path / "papers").rename(tmp_path / "moved")
    assert str(tmp_path / "papers") in made("run", "papers", "--all", code=2).err


def test_an_unusable_home_is_named(tmp_path: Path) -> None:
    made = Project(tmp_path)
    (tmp_path / "file").write_text("")
    assert "file" in made("status", code=2, AI_ASSETS_HOME=str(tmp_path / "file")).err


def test_a_state_store_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    made = Project(tmp_path)
    store = empty_store(tmp_path / ".ai-assets" / "state.db")
    with sqlite3.connect(store) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES ('m999_future', 'later')")
    connection.close()
    said = made("status", code=2)
    assert "newer version" in said.err
    assert "m999_future" in said.err


@pytest.mark.slow
def test_a_corrupted_manifest_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    made = Project(tmp_path)
    made("new", "papers", "--from", "papers")
    defs = tmp_path / "collections" / "papers" / "defs.yaml"
    text = defs.read_text().split("  # Great Expectations")[0] + "  schedule: null\n"
    defs.write_text(text.replace("  # end: 2026-03-02", "  end: 2026-03-02"))
    made("run", "papers", "--all")
    manifest = tmp_path / ".ai-assets" / "lake" / "papers" / "documents" / "2026-03-01" / "manifest.json"
    manifest.write_text("{")
    said = made("run", "papers", "--json", code=1)
    assert said.json["due"] == ["2026-03-01"]
    assert "manifest.json: it is not a manifest" in said.json["failures"][0]
    assert {row["asset"]: row["partitions"] for row in said.json["rows"]}["release_candidate"] == 1
    shutil.rmtree(manifest.parent)
    assert made("run", "papers", "--json").json["due"] == ["2026-03-01"]
