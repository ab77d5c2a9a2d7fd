"""Claims about `ai_assets.live`: the rows that were signed, from anywhere, and nothing that was altered."""

import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from conftest import Project
from published import DAY, FIRST, OTHER, published_twice
from s3_server import CREDENTIALS, bucket_credentials, s3_server  # noqa: F401 - a fixture

import ai_assets
from ai_assets.base.errors import DatasetAltered, UserError
from ai_assets.collection.loading import load_collection
from ai_assets.reading.published import Published
from ai_assets.signoff import live_index, releases, served
from ai_assets.signoff.errors import ReleaseAltered


def test_rows_have_text_labels_and_who_signed(live: Published) -> None:
    rows = {row["document_id"]: row for row in live.arrow().to_pylist()}
    assert len(rows) == 6
    assert "heron" in rows[FIRST]["text"]
    assert (rows[FIRST]["kind_label"], rows[FIRST]["partition"]) == ("invoice", DAY)
    assert {(row["release"], *row["signed_by"]) for row in rows.values()} == {(2, "ann")}
    assert rows[FIRST]["request"] != rows[f"{OTHER}/3.txt"]["request"]
    assert "leaf" not in rows[FIRST]
    passages = live.pandas("chunks", columns=["document_id", "vector", "signed_by"], partitions=[DAY])
    assert set(passages["document_id"]) == {f"{DAY}/{number}.txt" for number in range(3)}
    assert len(passages["vector"][0]) == 256
    assert live.schema().metadata[b"ai_assets.digest"].decode() == live.digest


def test_an_earlier_release_by_its_number_or_its_moment(live: Published) -> None:
    first = live.release(1)
    assert "heron" not in first.pandas().set_index("document_id")["text"][FIRST]
    assert live.at(live.published_at).number == 1  # the pointer is moved a moment later
    assert live.at("2999-01-01").number == 2
    first.verify()
    live.verify()
    with pytest.raises(UserError, match=r"had no live release at 2020-01-01T23:59:59.999\+00:00"):
        live.at("2020-01-01")
    with pytest.raises(UserError, match="'yesterday' is no day or time"):
        live.at("yesterday")
    with pytest.raises(UserError, match="notes has no release 7"):
        live.release(7)


def test_a_question_reads_each_kind_of_publication_record_once(published_project: Project) -> None:
    asked: list[str] = []

    def noted(_c: Any, _cursor: Any, statement: str, given: Any, *_more: Any) -> None:
        if "FROM audit" in statement:
            asked.extend(value for value in given if value in ("published", "rolled back"))

    with published_project.stores() as stores:
        sa.event.listen(sa.Engine, "before_cursor_execute", noted)
        try:
            served.newest_live(stores, "notes")
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", noted)
    assert sorted(asked) == ["published", "rolled back"]


def test_duckdb_lance_and_search_answer_from_the_same_release(live: Published) -> None:
    connection = live.duckdb()
    found = connection.execute(
        "SELECT d.kind_label, c.text FROM documents d JOIN chunks c USING (document_id) WHERE d.text LIKE '%heron%'"
    ).fetchall()
    assert [label for label, _ in found] == ["invoice"]
    assert live.lance().count_rows() == live.arrow("chunks").num_rows
    assert [hit.document_id for hit in live.search("heron", k=1)] == [FIRST]
    assert "heron" not in str(live.release(1).search("heron", k=6))


def test_what_is_asked_wrongly_is_said(live: Published, tmp_path: Path) -> None:
    for wrong, said in [
        (lambda: live.arrow("pages"), "has no table 'pages'; it has documents and chunks"),  # type: ignore[arg-type]
        (lambda: live.arrow(columns=["colour"]), "Release 2 of notes has no column 'colour'; it has partition, "),
        (lambda: live.arrow(partitions=["2026-10-07"]), f"no partition '2026-10-07'; it has {DAY}, {OTHER}"),
        (
            lambda: ai_assets.live("noted", project=live._place.home.project),  # type: ignore[attr-defined]
            r"There is no collection 'noted' in .*collections, .* \(found: notes\)",
        ),
        (lambda: ai_assets.live("notes", data=tmp_path), r"Say whom you believe: trust="),
    ]:
        with pytest.raises(UserError, match=said):
            wrong()  # type: ignore[no-untyped-call]


def test_a_place_without_a_home_is_said_and_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AI_ASSETS_HOME", "AI_ASSETS_STATE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"There is no home at .*\.ai-assets\. Say where the project is"):
        ai_assets.live("notes", project=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_asks_wrongly_ends_in_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library raised below, and the lines that led there, are not above the sentence."""
    for name in ("AI_ASSETS_HOME", "AI_ASSETS_STATE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "trust.json").write_text("{}")
    for options, said in (
        ({}, "HomeMissing: There is no home at "),
        ({"data": ".", "trust": "trust.json"}, "AuditKeyUnusable: The key trust.json cannot be used: "),
    ):
        script = f"import ai_assets\nai_assets.live('notes', **{options!r})\n"
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, text=True, capture_output=True, check=False)
        *above, sentence = done.stderr.strip().splitlines()
        assert said in sentence
        assert [line for line in above if not line.startswith("    ")] == [
            "Traceback (most recent call last):", '  File "<string>", line 2, in <module>',
            next(line for line in above if "published.py" in line),
        ]  # fmt: skip


def copied(given: Project, folder: Path) -> Project:
    """To be altered."""
    shutil.copytree(given.root, folder / "project")
    shutil.copytree(given.home.root, folder / "home")
    return Project(root=folder / "project", home=replace(given.home, root=folder / "home", project=folder / "project"))


def test_altered_files_are_not_given_to_anybody(
    published_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copied(published_project, tmp_path)
    monkeypatch.setenv("AI_ASSETS_HOME", str(other.home.root))
    found = ai_assets.live("notes", project=other.root)
    [path] = {found._file("documents", DAY)}
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for reading in (found.arrow, found.verify, found.duckdb):
        with pytest.raises(DatasetAltered):
            reading()
    with other.stores().state.write() as connection:
        connection.exec_driver_sql("UPDATE releases SET manifest = replace(manifest, 'ann', 'eve') WHERE number = 2")
    with pytest.raises(ReleaseAltered, match="its row is not what was published"):
        ai_assets.live("notes", project=other.root)


def test_who_has_the_data_alone_reads_what_the_trusted_key_signed(published_project: Project, tmp_path: Path) -> None:
    """As on another machine: a folder with lake and index, read-only, and the file of public keys."""
    for name in ("lake", "index"):
        shutil.copytree(published_project.home.root / name, tmp_path / "data" / name)
    trust = shutil.copy(published_project.home.keys / "trust.json", tmp_path)
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR if path.is_dir() else stat.S_IRUSR)
    program = (
        "import ai_assets, sys; r = ai_assets.live('notes', data=sys.argv[1], trust=sys.argv[2]); r.verify();"
        "print(r.number, r.digest, r.arrow().num_rows, r.lance().count_rows(), r.search('heron', k=1)[0].document_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "data", trust], cwd=tmp_path, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    with published_project.stores().state.read() as connection:
        there = releases.require_live(connection, "notes")
    assert done.stdout.split() == ["2", there.digest, "6", str(sum(p.chunks for p in there.parts.values())), FIRST]
    alone = ai_assets.live("notes", data=tmp_path / "data", trust=trust)
    with pytest.raises(UserError, match="alone tells what is live, which is release 2; release 1 is read where"):
        alone.release(1)


def test_a_live_json_of_another_key_or_another_release_file_is_refused(
    published_project: Project, tmp_path: Path
) -> None:
    for name in ("lake", "index"):
        shutil.copytree(published_project.home.root / name, tmp_path / name)
    trust = published_project.home.keys / "trust.json"
    file = tmp_path / "index" / "notes" / live_index.FILE
    [released] = file.parent.glob("release-*.json")  # that of release 1 went when the second was shown
    whole = released.read_bytes()
    released.write_bytes(whole.replace(b'"ann', b'"eve'))
    with pytest.raises(UserError, match=r"release-.* is missing or altered"):
        ai_assets.live("notes", data=tmp_path, trust=trust)
    released.write_bytes(whole)
    said = json.loads(file.read_bytes())
    file.write_text(json.dumps({**said, "statement": {**said["statement"], "release": 1}}))
    with pytest.raises(UserError, match="is not signed by a key of the file that you trust"):
        ai_assets.live("notes", data=tmp_path, trust=trust)


def test_the_sensor_and_verify_bring_back_a_release_file(published_project: Project, tmp_path: Path) -> None:
    other = copied(published_project, tmp_path)
    [released] = (other.home.index / "notes").glob("release-*.json")
    released.write_bytes(b"{}")
    stores = other.stores()
    with stores.state.read() as connection:
        assert "is missing or altered" in str(live_index.difference(stores, connection, "notes", whole=True))
    live_index.show(stores, "notes")
    assert b'"number":2' in released.read_bytes()


@pytest.mark.slow
def test_a_machine_with_the_bucket_alone(
    project: Project, labelled_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server("data") as server:
        url = f"s3://data/home?endpoint_override={server}"
        project.copy(labelled_project)
        shutil.rmtree(project.home.root / "lake")
        away = replace(project, home=replace(project.home, data_url=url))
        for name, value in {**away.home.variables(), **CREDENTIALS}.items():
            monkeypatch.setenv(name, value)
        away.refresh(load_collection(away.root / "collections", "notes"))
        published_twice(away)
        trust = shutil.copy(away.home.keys / "trust.json", tmp_path)
        shutil.rmtree(away.home.root)
        monkeypatch.delenv("AI_ASSETS_DATA_URL")
        found = ai_assets.live("notes", data=url, trust=trust)
        found.verify()
        assert isinstance(found.arrow(), pa.Table)
        assert (found.number, found.arrow().num_rows, found.lance().count_rows()) == (2, 6, 6)
        assert found.search("heron", k=1)[0].document_id == FIRST
