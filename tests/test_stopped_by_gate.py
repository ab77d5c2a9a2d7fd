"""Claims about a candidate that a gate stopped: the pages and the commands say why, by what is measured now."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import STAGE, Project, project_at
from desks import Visitor, desk_of, served
from signing import decide, known
from test_charts import drawn
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.desk.slice_charts import SliceMark, slice_lines
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff import audit, gate_stops
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.card_markdown import card_markdown
from ai_assets.signoff.gate_stops import GateStop
from ai_assets.signoff.publication import publish
from ai_assets.signoff.release_cards import card_of
from ai_assets.signoff.verification import verify

GATES = [
    {"metric": "accuracy", "min": 0.4},
    {"metric": "accuracy", "min": 0.5, "slices": ["source"], "slice_documents": 5},
    {"metric": "accuracy", "no_worse_by": 0.9, "undecided": "warn"},
]
BILLS, LEAKS = 6, 6
MARK = SliceMark(name="source *.md", value=0.25, low=0.1, high=0.5, n=12, minimum=0.6, ruling="failed", live=1.0)


def golden(project: Project, *, of_markdown: str) -> None:
    """Bills are text files, and reports on leaks are Markdown."""
    labels = {f"2026-10-05/bill-{n}.txt": "invoice" for n in range(BILLS)}
    labels |= {f"2026-10-06/leak-{n}.md": of_markdown for n in range(LEAKS)}
    lines = (json.dumps({"document": name, "label": label}) for name, label in labels.items())
    (project.root / "collections/notes/golden.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Release 1 is right about every document; by the labels given afterwards it is wrong about one slice."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("stopped"), patch)
        for n in range(BILLS):
            made.document(
                f"2026-10-05/bill-{n}.txt", f"Invoice {n}. The total due with tax is {n}20.00 EUR in 30 days."
            )
        for n in range(LEAKS):
            made.document(
                f"2026-10-06/leak-{n}.md", f"Report on leak {n}. An accident with a fire; the cause is known."
            )
        golden(made, of_markdown="incident")
        days = {"by": "day", "start": "2026-10-05", "end": "2026-10-06"}
        notes = made.declare(stages=[dict(STAGE)], golden={"labels": "golden.jsonl"}, gates=GATES, partitions=days)
        made.refresh(notes)
        stores = made.stores()
        known(stores.state)
        known(stores.state, "otto", "viewer", "other")
        decide(stores.state, notes)
        publish(notes, stores, by="test")
        golden(made, of_markdown="invoice")
        with pytest.raises(PartitionsFailed, match="source"):
            made.refresh(declared(made))
        yield made


def stops_of(project: Project) -> list[GateStop]:
    """In the table, and as many in the audit chain."""
    with project.stores().state.read() as connection:
        found = sorted(gate_stops.find(connection, "notes"), key=lambda each: (each.partition, each.gate))
        told = [str(record.subject["stop"]) for record in audit.select(connection, actions=["stopped"])]
    assert sorted(told) == sorted(each.stop for each in found)
    return found


def test_an_altered_stop_is_found(stopped: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = project_at(tmp_path, monkeypatch)
    again.copy(stopped)
    state = again.stores().state
    with state.write() as connection:
        connection.execute(sa.text("UPDATE gate_stops SET verdict = replace(verdict, 'failed', 'passed')"))
    with pytest.raises(AuditBroken, match="candidate that a gate stopped"):
        verify(state)


def declared(project: Project) -> Collection:
    return load_collection(project.root / "collections", "notes")


def test_the_page_of_the_evaluation_judges_what_it_shows_and_not_what_was_signed_before(stopped: Project) -> None:
    with served(desk_of(stopped)) as running:
        ann = Visitor(running.url)
        ann.sign_in("ann")
        page = ann.get("/evaluation/notes").text
        inbox = ann.get("/").text
        listed = ann.get("/unanswered").text
        stops = ann.http.get("/api/evaluation/notes/stops", params={"limit": 1}).json()
        ann.http.close()
        otto = Visitor(running.url)
        otto.sign_in("otto")
        others = otto.get("/").text
        otto.http.close()
    assert listed.count('<span class="chip bad">stopped by a gate</span> accuracy by source below the minimum') == 2
    assert "to run the same again changes nothing" in listed
    assert "Ask again" not in listed
    assert "A gate stopped notes" in page
    assert [(each["gate"], each["slice"], each["value"], each["n"]) for each in stops] == [
        ("accuracy by source", "source *.md", 0.0, LEAKS)
    ]
    assert "As they judge the scores of this page, of which there is no request. Only a run judges accuracy" in page
    assert '<span class="chip bad">failed</span> <span>accuracy by source below the minimum 0.5' in page
    assert page.count('<span class="chip good">passed</span> <span>') == 1, "the mean alone"
    assert "A ring is release 1" in page
    assert "source *.md</text>" in page
    assert "0.000 of 6<tspan" in page
    assert ", below the minimum 0.5; live 1.000" in page
    assert '<a href="/evaluation/notes">See the scores</a>' in inbox
    assert "need a person" not in inbox, "no document lacks an answer"
    assert "gate stopped" not in others


def test_the_commands_say_what_to_look_at_and_not_to_run_the_same_again(stopped: Project) -> None:
    said = " ".join(CliRunner().invoke(app, ["status", "notes"]).stdout.split())
    assert "2026-10-05: stopped by a gate in 1 run" in said
    assert "See why: ai-assets evaluate notes" in said
    assert "Ask at once" not in said
    assert stopped.cli("evaluate", "notes").returncode == 1


def test_a_candidate_again_ends_it(stopped: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = project_at(tmp_path, monkeypatch)
    again.copy(stopped)
    stops = [stop for stop in stops_of(again) if stop.gate == "accuracy by source"]
    assert [stop.partition for stop in stops] == ["2026-10-05", "2026-10-06"]
    for stop in stops:
        judged = stop.judged
        assert (judged.verdict, judged.slice, judged.value, judged.n) == ("failed", "source *.md", 0.0, LEAKS)
        assert (len(stop.candidate), stop.digest, "golden set" in stop.shown_by) == (64, None, True)
    with pytest.raises(PartitionsFailed):  # the same again
        again.refresh(declared(again))
    said = json.loads(again.cli("evaluate", "notes", "--json").stdout)["stopped"]
    assert [each["partition"] for each in said] == ["2026-10-06", "2026-10-05"]
    assert stops_of(again) == stops, "neither a repeated run nor a look records anything"
    golden(again, of_markdown="incident")
    again.refresh(declared(again))
    assert stops_of(again) == stops
    verify(again.stores().state)
    with served(desk_of(again)) as running:
        ann = Visitor(running.url)
        ann.sign_in("ann")
        assert "gate stopped" not in ann.get("/").text
        page = ann.get("/evaluation/notes").text
        ann.http.close()
    assert "gate stopped" not in page
    assert "What gates have stopped" in page, "a good run takes nothing back"
    assert "accuracy by source below the minimum 0.5: source *.md 0.000" in page
    assert "As they stand in" in page
    assert "A ring is release" not in page, "what is measured is what is live"
    again.document("2026-10-05/bill-7.txt", "Invoice 7. The total due with tax is 720.00 EUR in 30 days.")
    again.refresh(declared(again))
    stores = again.stores()
    decide(stores.state, declared(again))
    publish(declared(again), stores, by="test")
    kept = card_of(stores, "notes")
    assert [(each.partition, each.value, each.n) for each in kept.card.stopped] == [
        ("2026-10-05", 0.0, LEAKS), ("2026-10-06", 0.0, LEAKS),
    ]  # fmt: skip
    assert "| 2026-10-06 | accuracy by source | failed | 0.000 | 6 |" in card_markdown(kept)
    assert card_of(stores, "notes", 1).card.stopped == (), "of the release before, nothing"


def test_the_picture_has_the_interval_the_minimum_and_the_live_release_in_their_places() -> None:
    whole = SliceMark(name="all <b>", value=0.75, low=None, high=None, n=44, minimum=None, ruling=None, live=None)
    svg = drawn(slice_lines("s", "title", "finding", [whole, MARK]))
    found = {each.attrib["class"]: each for each in svg.iter() if "class" in each.attrib}
    assert (found["whisker"].attrib["x1"], found["whisker"].attrib["x2"]) == ("10%", "50%")
    assert (found["minimum"].attrib["x1"], found["live"].attrib["cx"], found["dot"].attrib["cx"]) == (
        "60%", "100%", "25%",
    )  # fmt: skip
    assert found["failed"] is not None
    assert [each.text for each in svg.iter() if each.attrib.get("class") == "name"] == ["all <b>", "source *.md"]
    assert MARK.in_words == "0.250 of 12, below the minimum 0.6; live 1.000"
