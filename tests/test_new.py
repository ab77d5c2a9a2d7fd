"""`ai-assets new`: what it says of a folder, what it declares of it, and that the two are the same."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import Project

from ai_assets.base.globs import Patterns
from ai_assets.collection.label_proposals import SampledText, propose
from ai_assets.collection.loading import load_collection
from ai_assets.collection.partition_guess import guess
from ai_assets.collection.survey import MOST_NAMES, survey
from ai_assets.documents.parse import format_of
from ai_assets.documents.source import Source, SourceFile
from ai_assets.embedding.builtin import BuiltinEmbedder

MESS = {
    "readme.md": "# Pump\n\nHow the pump is serviced.", "notes/NOTES.TXT": "Called on Monday.",
    "notes/a.png": b"\x89PNG",
    "src/main.py": "print(1)", "src/build/main.pyc": b"\0\0", "src/LICENSE": "Do what you like.",
    "old/manual.v2.txt": "The second edition.", "old/archive.tar.zst": b"\x28\xb5", "x/one.html": "<p>One page</p>",
    "y/empty.txt": "", "z/data.bin": b"\0", "z/core.12345": b"\0",
}  # fmt: skip


def listed(*paths: str) -> list[SourceFile]:
    return [SourceFile(path=path, size=10, modified_ns=0) for path in paths]


def looked_at(*paths: str) -> "tuple[set[str], tuple[str, ...]]":
    found = survey(listed(*paths), lambda _: None)
    return {file.path for file in found.documents}, found.include


def messy(project: Project) -> Path:
    folder = project.root / "mess"
    for path, content in MESS.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "src" / "gone.md").symlink_to(folder / "nowhere.md")
    (folder / "src" / "out.conf").symlink_to(project.root / "definitions.py")
    return folder


PATHS = (
    ("one kind", ("a.md", "b/c.md", "d.png")),
    ("in capitals", ("A.TXT", "b.txt", "c.Txt", "d.TX")),
    ("two dots", ("a.b.html", "a.html.orig", "a.html~")),
    ("a name that begins with what a kind ends with", ("txt", "md/txt", "x.txt/y", "x.mdx", "y.md")),
    ("brackets and stars", ("a[1].md", "b*.txt", "c?.bin")),
    ("every kind", tuple(f"x.{end}" for end in ("txt", "md", "html", "pdf", "docx", "csv", "jsonl", "parquet", "so"))),
)


@pytest.mark.parametrize("paths", [paths for _, paths in PATHS], ids=[name for name, _ in PATHS])
def test_the_patterns_match_the_documents_and_nothing_else(paths: Sequence[str]) -> None:
    documents, include = looked_at(*paths)
    assert documents == {path for path in paths if format_of(path) is not None}
    wanted = Patterns(include, ())
    assert {path for path in paths if wanted.match(path)} == documents


def test_names_too_many_to_list_are_told_apart_by_what_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name without an ending is a text, as for the formats to come."""
    monkeypatch.setattr("ai_assets.collection.survey.format_of", lambda path: None if path.endswith(".so") else "txt")
    paths = [f"d/{number}/name-{number}" for number in range(MOST_NAMES + 1)]
    found = survey(listed(*paths, "lib/a.so", "lib/b.so", "x.c"), lambda _: None)
    assert (found.include, found.exclude) == (("**/*",), ("**/*.so",))
    wanted = Patterns(found.include, found.exclude)
    assert all(wanted.match(path) for path in paths)
    assert not wanted.match("lib/a.so")


def test_an_ending_that_other_files_have_too_is_written_with_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"changelog.gz": "txt", "x.gz": "txt", "a/notes.gz": "txt"}
    monkeypatch.setattr("ai_assets.collection.survey.format_of", known.get)
    found = survey(listed("changelog.gz", "data.tar.gz"), lambda _: None)
    assert found.include == ("**/changelog.gz",)
    assert survey(listed("changelog.gz"), lambda _: None).include == ("**/*.gz",)


def test_a_survey_stops_at_its_bound_and_says_so() -> None:
    told: list[int] = []
    files = (SourceFile(path=f"{number}.txt", size=1, modified_ns=0) for number in range(10_000_000))
    found = survey(files, told.append, most=50_000)
    assert (found.files, len(found.documents), found.is_whole) == (50_000, 50_000, False)
    assert told == [20_000, 40_000]
    assert next(files).path == "50001.txt"
    assert len(found.include) <= MOST_NAMES


@dataclass(frozen=True)
class Case:
    name: str
    paths: Sequence[str]
    by: str
    partitions: int
    said: str


def spread(folders: int, each: int) -> list[str]:
    return [f"f{number % folders}/{number}.md" for number in range(folders * each)]


PARTITIONS = [
    Case("folders of five", spread(7, 5), "folder", 7, "5 documents each"),
    Case("folders of four", spread(7, 4), "shards", 1, "4.0 documents on average, too few"),
    Case("one large folder among many small", spread(30, 1) + [f"f0/x{n}.md" for n in range(400)], "shards", 1,
         "half of the 30 folders hold fewer than 5"),
    Case("more folders than make good partitions", spread(201, 6), "shards", 2, "201 folders are more than the 200"),
    Case("no folders", ["a.md", "b.md"], "shards", 1, "no folders to go by"),
    Case("most lie at the top", ["a.md", "b.md", "c/d.md", "e/f.md"], "shards", 1, "2 of 4 documents lie in no folder"),
    Case("a day each", [f"2026-03-0{day}/x.md" for day in range(1, 8)], "day", 0, "7 of 7 paths carry a date"),
    Case("too many days", ["2019-01-01.md", "2026-03-01.md"], "week", 0, "partitioned by week"),
    Case("too many weeks", ["1999-01-01.md", "2026-03-01.md"], "month", 0, "partitioned by month"),
    Case("too many months", ["1900-01-01.md", "2026-03-01.md"], "shards", 1, "too many months"),
    Case("some without a date", [*(f"2026-03-0{day}.md" for day in range(1, 9)), "x.md"], "day", 0,
         "the other 1 belong to no partition"),
]  # fmt: skip


@pytest.mark.parametrize("case", PARTITIONS, ids=lambda case: case.name)
def test_partitions_fit_the_documents(case: Case) -> None:
    found = guess("papers", case.paths)
    declared = yaml.safe_load("\n".join(found.lines))
    assert declared["by"] == case.by
    assert case.said in found.reason
    if case.partitions:
        assert found.partitions == case.partitions


def test_what_it_declares_is_what_it_said(project: Project) -> None:
    folder = messy(project)
    done = project.cli("new", "papers", "--from", str(folder))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "14 files found, 7 of them documents" in said
    assert "1 .png: no format that can be read (such as notes/a.png)" in said
    assert "1 of any kind: the symlink leaves the source folder (such as src/out.conf)" in said
    assert "1 of the documents will be quarantined: empty" in said
    collection = load_collection(project.root / "collections", "papers")
    source = collection.settings.source
    listing = Source.at(source.path).list(source.include, source.exclude)
    assert {file.path for file in listing} == {
        "readme.md", "notes/NOTES.TXT", "old/manual.v2.txt", "x/one.html", "y/empty.txt", "src/gone.md", "src/LICENSE",
    }  # fmt: skip
    assert collection.settings.partitions.by == "shards"


def test_a_folder_without_a_document_says_what_is_there(project: Project) -> None:
    folder = project.root / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG")
    done = project.cli("new", "photos", "--from", str(folder))
    assert done.returncode == 2
    assert "holds no document this can read (1 file found" in done.stderr
    assert "1 .png: no format that can be read (such as a.png)" in done.stderr
    assert not (project.root / "collections" / "photos").exists()


def test_a_kind_that_is_skipped_may_have_a_name_that_breaks_comments(project: Project) -> None:
    folder = project.root / "odd"
    folder.mkdir()
    (folder / "a.md").write_text("A text.")
    (folder / 'b"\n  approvals: 9 .x').write_text("no")
    assert project.cli("new", "odd", "--from", str(folder)).returncode == 0
    assert load_collection(project.root / "collections", "odd").settings.signoff.approvals == 1


LETTERS = [
    *(f"Invoice number {n} for pumps. Total due {n}.00 euro, tax included, within thirty days." for n in range(9)),
    *(f"Incident {n}: a leak in the hall flooded the floor; the fire brigade came, nobody was hurt." for n in range(9)),
]  # fmt: skip


def test_proposed_labels_divide_what_is_different() -> None:
    texts = [SampledText(name=f"{number}.md", title="", text=text) for number, text in enumerate(LETTERS)]
    found = propose(texts, BuiltinEmbedder())
    assert [label.documents for label in found] == [9, 9]
    described = {label.description for label in found}
    assert any("invoice" in text for text in described)
    assert any("leak" in text or "incident" in text for text in described)
    assert found == propose(texts, BuiltinEmbedder())


def test_too_few_documents_propose_no_labels() -> None:
    assert propose([SampledText(name="a", title="", text="An invoice.")] * 5, BuiltinEmbedder()) == []


def letters(project: Project) -> Path:
    folder = project.root / "letters"
    folder.mkdir()
    for number, text in enumerate(LETTERS):
        (folder / f"{number}.txt").write_text(text)
    return folder


@pytest.mark.slow
def test_a_route_adds_a_stage_its_prompt_and_an_endpoint_to_fill_in(project: Project) -> None:
    done = project.cli("new", "letters", "--from", str(letters(project)), "--route", "default")
    assert done.returncode == 0, done.stderr
    collection = load_collection(project.root / "collections", "letters")
    (stage,) = collection.settings.stages
    assert (stage.kind, stage.route, len(stage.labels)) == ("classify", "default", 2)
    text = (collection.folder / "defs.yaml").read_text()
    assert "EDIT THEM before you pay" in text
    assert text.count("# proposal: 9 of 18, such as") == 2
    assert (collection.folder / "prompts" / "classification.md").is_file()
    declared = yaml.safe_load((project.root / "inference.yaml").read_text())["endpoints"]["default"]
    assert declared == {"base_url": "https://edit-me.invalid/v1", "model": "edit-me", "key": "DEFAULT_API_KEY"}
    for arguments in (("run", "letters"), ("plan", "letters")):
        refused = project.cli(*arguments)
        told = " ".join((refused.stdout + refused.stderr).split())
        assert refused.returncode != 0
        assert "under endpoints.default, fill in base_url (still a placeholder) and model (still a placeholder)" in told
        assert "environment variable DEFAULT_API_KEY" in told
    assert not project.stores().lake.manifest("letters", "release_candidate", "shard-0")


def test_an_endpoint_that_is_there_is_used_as_it_is(project: Project) -> None:
    declared = "# ours\nendpoints:\n  mini: {base_url: rehearsal, model: rehearsal-mini, free: true}\n"
    (project.root / "inference.yaml").write_text(declared)
    folder = letters(project)
    assert project.cli("new", "letters", "--from", str(folder), "--route", "mini").returncode == 0
    assert (project.root / "inference.yaml").read_text() == declared
    again = project.cli("new", "again", "--from", str(folder), "--route", "mini", "--model", "other")
    assert again.returncode == 2
    assert "declares 'mini' already" in again.stderr
    added = project.cli(
        "new", "more", "--from", str(folder), "--route", "own", "--base-url", "http://localhost:8000/v1"
    )
    assert added.returncode == 0, added.stderr
    text = (project.root / "inference.yaml").read_text()
    assert text.startswith(declared)
    assert yaml.safe_load(text)["endpoints"]["own"] == {
        "base_url": "http://localhost:8000/v1", "model": "edit-me", "free": True
    }  # fmt: skip


def test_what_does_not_load_leaves_nothing_behind(project: Project) -> None:
    folder = letters(project)
    refused = project.cli("new", "letters", "--from", str(folder), "--route", "default", "--base-url", "ftp://x")
    assert refused.returncode == 2
    assert re.search(r"inference.yaml:\d+: endpoints.default.base_url", refused.stderr), refused.stderr
    assert not (project.root / "inference.yaml").exists()
    assert not (project.root / "collections" / "letters" / "defs.yaml").exists()
    alone = project.cli("new", "letters", "--from", str(folder), "--model", "x")
    assert "name that too" in " ".join(alone.stderr.split())


@pytest.mark.slow
def test_nothing_is_asked_of_a_partition_without_a_readable_document(project: Project) -> None:
    collection = project.declare()
    project.document("2026-10-05/scan.pdf", b"%PDF-1.4 this is no pdf")
    project.document("2026-10-06/a.txt", "A letter.")
    project.document("2026-10-06/scan.pdf", b"%PDF-1.4 this is no pdf")
    done = project.cli("run", collection.name, "--all", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(project.cli("status", collection.name, "--json").stdout)
    assert found["partitions"]["2026-10-05"] == "unreadable"
    assert found["partitions"]["2026-10-06"] == "awaiting sign-off"
    again = project.cli("run", collection.name)
    assert "1 partition holds no document that can be read" in again.stdout
    project.document("2026-10-05/b.txt", "A letter that can be read.")
    assert project.cli("run", collection.name).returncode == 0
    (found,) = json.loads(project.cli("status", collection.name, "--json").stdout)
    assert found["partitions"]["2026-10-05"] == "awaiting sign-off"
