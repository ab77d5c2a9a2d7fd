"""Claims about commands around batches: what a run waits for is said, and a backfill follows its batches."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import STAGE, Project, eventually
from engines import check_books, declare
from provider import Provider
from signing import PASSWORD, known

pytestmark = pytest.mark.slow

DAY = "2026-10-05"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.3) as running:
        yield running


@pytest.fixture
def notes(project: Project, provider: Provider) -> Project:
    declare(project.root, provider.url, batch={"price_share": 0.5})
    project.documents(3, days=2)
    project.declare(stages=[{**STAGE, "route": "default", "tier": "batch"}])
    return project


def said(project: Project, *arguments: str, code: int = 0) -> str:
    done = project.cli(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return str(done.stdout)


def batches(project: Project, *more: str) -> list[dict[str, Any]]:
    return list(json.loads(said(project, "batches", "list", "--json", *more)))


def test_a_run_says_what_it_waits_for_and_waits_when_it_is_told_to(notes: Project, provider: Provider) -> None:
    provider.configure(batch_seconds=3600)
    out = said(notes, "run", "notes")
    assert f"{DAY} kind: waiting for batch, 0 of 3 answered" in out
    assert "ai-assets run notes --wait" in out
    (batch,) = batches(notes)
    assert (batch["state"], batch["lines"], batch["collection"]) == ("submitted", 6, "notes")
    assert batch["worst_usd"] > 0
    assert "waiting for batch" in said(notes, "status", "notes")
    shown = json.loads(said(notes, "batches", "show", batch["job"][:6], "--json"))
    assert shown["attempts"] == {"intent": 6}
    out = said(notes, "batches", "cancel", batch["job"], "--by", "ada")
    assert "ai-assets run notes" in out
    assert json.loads(said(notes, "batches", "collect", "--json"))["open"] in (0, 1)
    provider.configure(batch_seconds=0.3)
    found = json.loads(said(notes, "run", "notes", "--wait", "--json"))
    assert found["batches"] == []
    assert found["failures"] == []
    assert batches(notes) == []
    assert len(batches(notes, "--all")) == 2
    assert provider.stats()["billed_twice"] == 0
    assert "No batch is meant by 'zz'" in notes.cli("batches", "show", "zz").stderr


def test_a_batch_is_cancelled_by_an_administrator_who_proves_it_where_anybody_is_known(
    notes: Project, provider: Provider
) -> None:
    provider.configure(batch_seconds=3600)
    said(notes, "run", "notes")
    (batch,) = batches(notes)
    state = notes.stores().state
    known(state, "ada", "admin", "notes")
    known(state, "ann", "approver")
    refused = notes.cli("batches", "cancel", batch["job"], "--by", "ann", AI_ASSETS_PASSWORD=PASSWORD)
    assert refused.returncode == 2
    assert "cancelling a batch takes the role admin in notes" in refused.stderr
    unproved = notes.cli("batches", "cancel", batch["job"], "--by", "ada")
    assert (unproved.returncode, "AI_ASSETS_PASSWORD" in unproved.stderr) == (2, True)
    assert batches(notes)[0]["state"] == "submitted"
    done = notes.cli("batches", "cancel", batch["job"], "--by", "ada", AI_ASSETS_PASSWORD=PASSWORD)
    assert (done.returncode, "is being cancelled" in done.stdout) == (0, True)


def test_a_run_whose_batch_is_refused_does_not_say_that_it_waits_for_it(notes: Project, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "refused"})
    out = said(notes, "run", "notes", code=1)
    assert "waiting for batch" not in out
    assert {each["state"] for each in batches(notes, "--all")} == {"ended"}


def test_a_backfill_waits_for_its_batches_and_stays_within_its_cap(notes: Project, provider: Provider) -> None:
    declared = notes.root / "inference.yaml"
    declared.write_text(declared.read_text() + "budgets: [{name: all, limit_usd: 1}]\n")
    found = json.loads(said(notes, "backfill", "notes", "--yes", "--max-usd", "0.05", "--json"))
    assert found["state"] == "done", found
    assert batches(notes) == []
    assert (provider.stats()["billed"], provider.stats()["billed_batch"]) == (0, 6)
    books = check_books(notes.home.state_url)
    assert all(row.earmarked_nusd == 0 for row in books.values())


def test_a_batch_can_be_given_up_by_whoever_may_cancel_it(notes: Project, provider: Provider) -> None:
    provider.configure(batch_seconds=3600)
    said(notes, "run", "notes")
    (batch,) = batches(notes)
    (attempt, *_) = json.loads(said(notes, "ledger", "list", "--json"))
    refused = notes.cli("ledger", "resolve", attempt["attempt"], "--not-billed", "--by", "ada")
    assert refused.returncode == 2
    assert f"travels in batch {batch['job']}" in refused.stderr
    out = said(notes, "batches", "give-up", batch["job"], "--by", "ada")
    assert f"Batch {batch['job']} is given up" in out
    assert "ai-assets ledger ambiguous" in out
    assert "had ended already" in said(notes, "batches", "give-up", batch["job"], "--by", "ada")
    assert len(json.loads(said(notes, "ledger", "ambiguous", "--json"))) == 6
    assert batches(notes) == []


def test_batches_of_a_collection_that_is_gone_or_broken_are_collected(notes: Project, provider: Provider) -> None:
    said(notes, "run", "notes")
    other = notes.root / "collections" / "broken"
    other.mkdir()
    (other / "defs.yaml").write_text("type: nothing\n")
    shutil.rmtree(notes.root / "collections" / "notes")
    eventually(lambda: json.loads(said(notes, "batches", "collect", "--json"))["open"] == 0)
    assert {batch["state"] for batch in batches(notes, "--all")} == {"ended"}
    assert check_books(notes.home.state_url) is not None


def test_what_a_collection_that_is_gone_left_behind_is_named(notes: Project, provider: Provider) -> None:
    provider.configure(batch_seconds=3600)
    said(notes, "run", "notes")
    shutil.rmtree(notes.root / "collections" / "notes")
    (note,) = json.loads(said(notes, "batches", "collect", "--json"))["notes"]
    assert note.startswith("notes: this collection is gone")
    (batch,) = batches(notes)
    assert "is being cancelled" in said(notes, "batches", "cancel", batch["job"], "--by", "ada")
