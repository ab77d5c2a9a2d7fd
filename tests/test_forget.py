"""Forgetting a document: its text is nowhere any more, its digests still prove what was signed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from backups import command
from conftest import Project, project_at
from desks import desk_of
from provider import Provider
from signing import PASSWORD, current, decide, known
from test_llm_stages import BILL, DAY, FIRE, PRICED
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.backup.making import make_backup
from ai_assets.backup.vault import Vault
from ai_assets.collection.loading import Collection
from ai_assets.desk.document_view import document_view
from ai_assets.forgetting.erasing import ShownByPrompt, UnderLegalHold, forget
from ai_assets.forgetting.places import find
from ai_assets.inference.load import inference_at
from ai_assets.inference.sent import unpacked
from ai_assets.planning.plan import plan
from ai_assets.retention import holds
from ai_assets.run.datasets.rankings import FOLDER
from ai_assets.run.explain import search
from ai_assets.signoff import forgotten, integrity, notes, releases, verification
from ai_assets.signoff.errors import DocumentUnknown
from ai_assets.signoff.publication import publish

pytestmark = pytest.mark.usefixtures("provider")
PHRASE = "Quillfeather"
SECRET = f"{DAY}/fire-secret.txt"
TEXT = f"Report. A fire broke out beside the pump of {PHRASE} in hall 7. {PHRASE} was treated for smoke. Cause unknown."
KILLS = int(os.environ.get("AI_ASSETS_KILLS", "6"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def home(request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    if request.param == "postgresql":
        from dataclasses import replace

        url = request.getfixturevalue("postgres").database(f"forget_{uuid.uuid4().hex}")
        monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
        return Project(root=project.root, home=replace(project.home, declared_state_url=url))
    return project


@pytest.fixture(scope="module")
def finished(rehearsal: Provider, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """To be copied."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("finished"), patch)
        patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
        furnished(made)
        return made


@pytest.fixture
def collection(project: Project, finished: Project) -> Collection:
    """Furnished already."""
    return project.copy(finished)


def furnished(project: Project, *, through_dagster: bool = True) -> Collection:
    """Published twice, noted, with a candidate that waits; Dagster's events hold samples of rows."""
    (project.root / "inference.yaml").write_text(PRICED)
    for n in range(2):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    project.document(SECRET, f"{TEXT} First version.")
    collection = declare(project, [KIND, BRIEF])
    stores = project.stores()
    admin = known(stores.state, "ada", "admin")
    computed(project, collection, through_dagster)
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    project.edit(collection, SECRET, TEXT)
    request = current(stores.state, DAY)
    notes.add(stores.state, request, SECRET, "a" * 64, "comment", f"{PHRASE} asked to be left out", by=admin)
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    project.document(f"{DAY}/bill-9.txt", BILL.format(n=9))
    computed(project, collection, through_dagster)
    return collection


def computed(project: Project, collection: Collection, through_dagster: bool) -> None:
    if not through_dagster:
        project.refresh(collection)
        return
    with project.instance() as opened:
        assert project.execute(opened, collection, collection.name, **{"dagster/partition": DAY}).success


def found_in(folder: Path) -> list[str]:
    """Files that hold the phrase: as they are on the disk, or decoded."""
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file() and holds_it(path)]


def holds_it(path: Path) -> bool:
    data = path.read_bytes()
    if PHRASE.encode() in data or PHRASE.encode("utf-16-le") in data:
        return True
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return PHRASE in str(pq.read_table(path).to_pylist())
    return False


def found_in_backups(folder: Path) -> list[str]:
    with Vault.reading(folder) as vault:
        return [
            f"{name} {file.path}"
            for name in vault.backups()
            for file in vault.load(name).files
            if PHRASE.encode() in b"".join(vault.read(name, file.path, file.content))
        ]


def in_the_state(project: Project) -> Iterator[str]:
    with project.stores().state.read() as connection:
        for table in sa.inspect(connection).get_table_names():
            if PHRASE in str(connection.execute(sa.select(sa.text("*")).select_from(sa.table(table))).all()):
                yield table
        if any(
            PHRASE in unpacked(kept) for kept in connection.execute(sa.text("SELECT body FROM sent_requests")).scalars()
        ):
            yield "sent_requests, unpacked"


def erase(project: Project, collection: Collection) -> None:
    stores = project.stores()
    forget(stores, collection, SECRET, by=known_admin(project), reason="erasure request 17")
    project.refresh(collection)


def known_admin(project: Project):  # type: ignore[no-untyped-def]
    from ai_assets.signoff import people

    with project.stores().state.read() as connection:
        return people.find(connection, "ada")


def test_the_text_is_nowhere_and_everything_still_verifies(home: Project, provider: Provider, tmp_path: Path) -> None:
    collection = furnished(home)
    folder = tmp_path / "backups"
    make_backup(home.stores(), folder)
    assert len(found_in_backups(folder)) > 5
    assert {Path(name).suffix for name in found_in(home.home.root)} >= {".parquet", ".db", ".lance"}
    assert list(in_the_state(home))
    answers = home.home.index / "notes" / FOLDER
    answers.mkdir()
    (answers / "evaluation.json").write_text(json.dumps({"found": {PHRASE: [SECRET]}}))
    paid = len(provider.bills(every=True))
    erase(home, collection)
    assert not answers.exists()
    make_backup(home.stores(), folder, keep=1)
    home.stores().state.close()
    assert found_in(home.home.root) == []
    assert list(in_the_state(home)) == []
    assert found_in_backups(folder) == []
    assert found_in(folder) == []
    assert len(provider.bills(every=True)) == paid
    proof_of(home, collection)


def proof_of(project: Project, collection: Collection) -> None:
    stores = project.stores()
    verification.verify(stores.state)
    differences = [(area.name, area.first) for area in integrity.verify(stores) if area.differences]
    assert differences == []
    with stores.state.read() as connection:
        live = releases.require_live(connection, collection.name)
        register = forgotten.of(connection, collection.name)
    assert live.number == 3
    assert register.documents[SECRET].reason.startswith("forgotten by ada on 20")
    assert search(collection, stores, PHRASE, 5)[1] == [] or PHRASE not in str(search(collection, stores, PHRASE, 5))
    assert search(collection, stores, "invoice", 5)[1]


def test_the_document_stays_away_and_the_next_release_says_so(
    project: Project, collection: Collection, provider: Provider
) -> None:
    erase(project, collection)
    provider.reset()
    project.document(f"{DAY}/other-name.txt", TEXT)  # the same text comes back under another name
    project.refresh(collection)
    assert provider.bills(every=True) == []
    rows = documents_of(project, collection)
    for name in (SECRET, f"{DAY}/other-name.txt"):
        assert (rows[name]["status"], rows[name]["text"]) == ("quarantined" if name == SECRET else "duplicate", "")
    (project.root / "collections" / collection.name / "documents" / SECRET).unlink()
    project.refresh(collection)
    rows = documents_of(project, collection)
    assert (rows[f"{DAY}/other-name.txt"]["status"], rows[f"{DAY}/other-name.txt"]["text"]) == ("quarantined", "")
    assert rows[f"{DAY}/other-name.txt"]["reason"].startswith("forgotten by ada on ")
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    assert found_in(project.home.root) == []
    verification.verify(stores.state)


@pytest.mark.slow
def test_pages_and_proofs_say_that_it_was_forgotten(project: Project, collection: Collection, tmp_path: Path) -> None:
    erase(project, collection)
    desk, ada = desk_of(project), known_admin(project)
    view = document_view(desk, ada, current(project.stores().state, DAY).request_id, SECRET)
    assert "forgotten by ada on " in str(view)
    assert PHRASE not in str(view)
    proof = ["audit", "prove", collection.name]
    refused = command(project, *proof, "--document", SECRET, "--out", str(tmp_path / "proof.json"))
    assert (refused.returncode, "forgotten by ada on " in refused.stderr) == (2, True), refused.stderr
    other = command(project, *proof, "--document", f"{DAY}/fire-0.txt", "--out", str(tmp_path / "proof.json"))
    assert other.returncode == 0, other.stderr
    checked = [sys.executable, str(tmp_path / "verify_proof.py"), str(tmp_path / "proof.json")]
    subprocess.run(checked, check=True, capture_output=True)


def documents_of(project: Project, collection: Collection) -> dict[str, dict[str, Any]]:
    lake = project.stores().lake
    manifest = lake.manifest(collection.name, "documents", DAY)
    assert manifest is not None
    return {row["document_id"]: row for row in lake.rows(manifest)}


def test_a_plan_asks_about_forgotten_documents_no_more_than_a_run_does(
    project: Project, collection: Collection, provider: Provider
) -> None:
    forget(project.stores(), collection, SECRET, by=known_admin(project), reason="erasure request 17")
    asked = provider.stats()["calls"]
    found = plan(collection, project.stores(), inference_at(project.home))
    assert (found.new_calls, found.reused, found.money.high_nusd) == (0, 10, 0)
    project.refresh(collection)
    assert provider.stats()["calls"] == asked
    found = plan(collection, project.stores(), inference_at(project.home))
    assert (found.planned, found.reused, found.new_calls) == ([], 0, 0)


def test_an_unknown_document_is_refused_with_near_names(project: Project, collection: Collection) -> None:
    with pytest.raises(DocumentUnknown, match=r"has no document .*; near it: .*fire-secret"):
        find(project.stores(), collection, f"{DAY}/fire-secrt.txt")


def test_a_legal_hold_is_stronger(project: Project, collection: Collection) -> None:
    stores = project.stores()
    holds.place(stores.state, collection.name, 1, by=known_admin(project), reason="case 4")
    with pytest.raises(UnderLegalHold, match=r"ada placed a hold on release 1 \(case 4\)"):
        erase(project, collection)
    assert found_in(project.home.root)


def test_a_hold_on_a_release_without_it_does_not_keep_it(project: Project, collection: Collection) -> None:
    (project.root / "collections" / collection.name / "documents" / SECRET).unlink()
    project.refresh(collection)
    stores = project.stores()
    decide(stores.state, collection)
    number = publish(collection, stores, by="test").release.number
    holds.place(stores.state, collection.name, number, by=known_admin(project), reason="case 5")
    erase(project, collection)
    assert found_in(project.home.root) == []


@pytest.mark.slow
def test_a_document_that_once_had_the_same_text_and_has_another_one_stays(
    project: Project, collection: Collection
) -> None:
    project.edit(collection, f"{DAY}/bill-0.txt", TEXT + " Copied.")
    project.edit(collection, SECRET, TEXT + " Copied.")
    project.edit(collection, f"{DAY}/bill-0.txt", BILL.format(n=1))
    project.edit(collection, SECRET, TEXT)
    assert set(find(project.stores(), collection, SECRET).documents) == {SECRET}
    erase(project, collection)
    assert documents_of(project, collection)[f"{DAY}/bill-0.txt"]["status"] == "ok"
    assert found_in(project.home.root) == []


def test_a_document_that_a_prompt_shows_is_kept_until_it_is_not_shown(project: Project, collection: Collection) -> None:
    examples = {"golden": {"labels": "labels.jsonl"}}
    label = {**KIND, "route": "default", "examples": [SECRET]}
    golden = project.root / "collections" / collection.name / "labels.jsonl"
    names = [item["name"] for item in KIND["labels"]]
    golden.write_text("".join(json.dumps({"document": f"{DAY}/{name}", "label": names[0]}) + "\n"
                              for name in ("fire-secret.txt", "bill-0.txt")))  # fmt: skip
    shown = declare(project, [label, BRIEF], **examples)
    with pytest.raises(ShownByPrompt, match=r"shows .*fire-secret.txt as an example"):
        erase(project, shown)
    assert found_in(project.home.root)


def test_a_tombstone_that_nobody_signed_is_not_believed(project: Project, collection: Collection) -> None:
    erase(project, collection)
    stores = project.stores()
    with stores.state.write() as connection:
        connection.execute(sa.text("DELETE FROM audit WHERE action = 'forgotten'"))
    assert [area.name for area in integrity.verify(stores) if area.differences]


@pytest.mark.slow
def test_the_command_shows_first_and_erases_then(project: Project, collection: Collection, tmp_path: Path) -> None:
    arguments = ["forget", collection.name, SECRET]
    shown = command(project, *arguments, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "made again with tombstones" in shown.stdout
    refused = command(project, *arguments, "--by", "ada", AI_ASSETS_PASSWORD=PASSWORD)
    assert (refused.returncode, "say why" in refused.stderr) == (2, True)
    known(project.stores().state, "vic", "approver")
    nobody = command(project, *arguments, "--by", "vic", "--reason", "x", AI_ASSETS_PASSWORD=PASSWORD)
    assert "takes the role admin" in nobody.stderr
    folder = tmp_path / "backups"
    make_backup(project.stores(), folder)
    given = ("--by", "ada", "--reason", "erasure request 17", "--backup", str(folder))
    done = command(project, *arguments, *given, AI_ASSETS_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert "is forgotten" in done.stdout
    assert found_in(project.home.root) == found_in_backups(folder) == []
    assert "forgotten by ada on " in command(project, "explain", collection.name, SECRET).stdout


@pytest.mark.slow
def test_killed_at_any_moment_the_next_call_finishes(project: Project, collection: Collection) -> None:
    code = (
        "from ai_assets.base.home import Home; from ai_assets.storage.stores import Stores\n"
        "from ai_assets.cli.output import collection; from ai_assets.signoff import people\n"
        "from ai_assets.forgetting.erasing import forget\n"
        "stores = Stores.at(Home.from_environment())\n"
        "with stores.state.read() as connection: ada = people.find(connection, 'ada')\n"
        f"print('ready', flush=True)\nforget(stores, collection('notes'), {SECRET!r}, by=ada, reason='erasure')\n"
    )
    moments = random.Random(4)
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=project.root, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    erase(project, collection)
    assert found_in(project.home.root) == []
    verification.verify(project.stores().state)
    assert [area.first for area in integrity.verify(project.stores()) if area.differences] == []
