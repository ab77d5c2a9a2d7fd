"""Claims about held documents when processes are killed, with either state store, and on the command line."""

import json
import random
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Project
from signing import PASSWORD, known, somebody
from test_holds import DAY, FIRES, STRONG, WEAK, office, publish_all, queue, refreshed, released, say  # noqa: F401

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.signoff import holds, verification
from ai_assets.signoff.frozen_candidate import current_candidate
from ai_assets.storage.stores import Stores

FIRE = "Report {n} on an accident. A fire broke out beside pump {n}. The cause was a leak of oil. Nobody was hurt."
pytestmark = pytest.mark.slow


def decide_and_refresh(home: Home, root: Path) -> None:
    """A reviewer who decides one after the other, and a run."""
    notes = load_collection(root / "collections", "notes")
    stores = Stores.at(home)
    with stores.state.read() as connection:
        waiting = holds.queue(connection, "notes")
    for held in waiting:
        holds.decide(stores.state, notes, held, "accept", by=somebody("rita", "reviewer"))
    with Work(notes, stores, "killed") as work:
        list(refresh(work, [DAY]))


def test_a_kill_at_any_instant_loses_no_decision_and_lets_nothing_out_unseen(
    office: Project,  # noqa: F811
    processes: ForkServerContext,
) -> None:
    for number in range(12):
        office.document(f"{DAY}/fire-{number:02d}.txt", FIRE.format(n=number + 10))
    notes = refreshed(office)
    publish_all(office, notes)
    chance = random.Random("kills")
    for _ in range(5):
        process = processes.Process(target=decide_and_refresh, args=(office.home, office.root))
        process.start()
        time.sleep(chance.uniform(0.1, 1.5))
        process.kill()
        process.join(60)
        stores = office.stores()
        verification.verify(stores.state)
        with stores.state.read() as connection:
            decided = {each.document_id for each in holds.decisions_of(connection, "notes").every}
        candidate = current_candidate(stores.lake, "notes", DAY)
        assert candidate is not None
        rows = stores.lake.rows(stores.lake.manifest("notes", "release_candidate", DAY))  # type: ignore[arg-type]
        assert {row["document_id"] for row in rows} <= decided | {STRONG}
    decide_and_refresh(office.home, office.root)
    with office.stores().state.read() as connection:
        every = holds.decisions_of(connection, "notes").every
    assert len(every) == len({each.document_id for each in every}) == 13
    publish_all(office, notes)
    assert len(released(office)) == 14
    assert queue(office) == []
    verification.verify(office.stores().state)


def test_either_state_store_keeps_decisions(
    office: Project,  # noqa: F811
    state_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", state_url)
    elsewhere = replace(office, home=Home.from_environment())
    notes = refreshed(elsewhere, {**FIRES, "reviewers": 2})
    say(elsewhere, notes, by=somebody("ann", "reviewer"))
    say(elsewhere, notes, by=somebody("bob", "reviewer"))
    publish_all(elsewhere, notes)
    elsewhere.refresh(notes, [DAY])
    publish_all(elsewhere, notes)
    assert sorted(released(elsewhere)) == [STRONG, WEAK]
    verification.verify(elsewhere.stores().state)
    with elsewhere.stores().state.write() as connection:
        connection.execute(sa.text("DELETE FROM held_documents"))
    elsewhere.refresh(notes, [DAY])
    assert queue(elsewhere) == []


def test_on_the_command_line_one_lists_looks_and_decides(office: Project) -> None:  # noqa: F811
    refreshed(office)
    known(office.stores().state, "rita", "reviewer")
    found = json.loads(office.cli("held", "list", "notes", "--json").stdout)
    assert [each["document_id"] for each in found[0]["held"]] == [WEAK]
    assert "label is as declared under 'fields'" in office.cli("held", "show", "notes", WEAK).stdout
    nothing = office.cli("held", "show", "notes", STRONG)
    assert (nothing.returncode, "it is not held in notes" in nothing.stderr) == (2, True)
    assert "1 held for a person" in office.cli("signoff", "show", "notes", DAY).stdout
    assert "ai-assets held list notes" in office.cli("status", "notes").stdout
    assert "held by kind" in office.cli("explain", "notes", WEAK).stdout
    unsaid = office.cli("held", "decide", "notes", WEAK, "--by", "rita", AI_ASSETS_PASSWORD=PASSWORD)
    assert (unsaid.returncode, "--accept" in unsaid.stderr) == (2, True)
    said = office.cli("held", "decide", "notes", WEAK, "--accept", "--by", "rita", AI_ASSETS_PASSWORD=PASSWORD)
    assert f"{WEAK}, kind: accept by rita" in said.stdout, said.stderr
    assert "joins with the next request" in office.cli("held", "list", "notes").stdout.replace("\n", " ")
