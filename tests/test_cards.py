"""Claims about the model card of a release: kept with it, digested in the chain, the same however often it is made."""

import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import STAGE, Project, project_at
from golden_home import opened
from signing import decide, known
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.cli.card import card as card_command
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.evaluation.gates import Gate
from ai_assets.evaluation.slices import SliceScore
from ai_assets.run.evaluated import newest_evaluation, scores_of_releases
from ai_assets.run.evaluation_reports import PartitionReport
from ai_assets.signoff import audit, release_cards, releases
from ai_assets.signoff.card_markdown import card_markdown, text
from ai_assets.signoff.errors import CardAltered
from ai_assets.signoff.integrity import verify
from ai_assets.signoff.publication import publish
from ai_assets.signoff.release_cards import ReleaseCard, card_of

DAY = "2026-10-05"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Two releases: the second one changes a partition of the first."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("cards"), patch)
        made.documents(per_day=3, days=2)
        made.document(f"{DAY}/torn.pdf", b"%PDF-1.4 half a file")
        golden = made.root / "collections" / "notes" / "golden.jsonl"
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(
            "".join(json.dumps({"document": f"{DAY}/{n}.txt", "label": "invoice"}) + "\n" for n in range(3))
        )
        notes = made.declare(
            stages=[dict(STAGE)],
            golden={"labels": "golden.jsonl"},
            gates=[
                {"metric": "accuracy", "min": 0.0, "slices": ["language"], "slice_documents": 20, "undecided": "warn"},
                {"metric": "accuracy", "min": 0.99, "waivable": True},
            ],
        )
        made.refresh(notes)
        known(made.stores().state)
        waive(made, notes)
        publish(notes, made.stores(), by="test")
        made.edit(notes, "2026-10-06/3.txt", "Another invoice, for a pump. The total due is 12.00.")
        waive(made, notes)
        publish(notes, made.stores(), by="test")
        yield made


def waive(made: Project, notes: Collection) -> None:
    decide(made.stores().state, notes, waivers={"accuracy": "few | *labels* yet"})


def of(made: Project, number: int) -> ReleaseCard:
    return card_of(made.stores(), "notes", number).card


def test_a_card_says_what_was_signed_measured_and_paid_and_where_it_is_weak(released: Project) -> None:
    card = of(released, 1)
    part = card.partitions[DAY]
    assert (part.documents, part.quarantined, part.statuses) == (4, 1, {"ok": 3, "quarantined": 1})
    assert [(each.stage, each.documents) for each in part.answers] == [("kind", 3)]
    accuracy = next(each for each in part.scores if each.metric == "accuracy")
    assert accuracy.interval is not None
    assert accuracy.interval.low <= (accuracy.value or 0) <= accuracy.interval.high
    assert {each.slice: each.n for each in part.slices} == {"language en": 3}
    assert {each.verdict for each in part.gates} >= {"undecided"}
    assert [(each.person, each.at is not None) for each in part.signed] == [("ann", True)]
    said = "\n".join(card.limits)
    assert "could not be decided for 2026-10-05, 2026-10-06" in said
    assert "Quarantined, because they could not be read: 1 document." in said
    assert "Fewer than 30 golden items judge accuracy of kind (3)" in said


def test_its_bytes_are_those_of_the_chain_and_the_same_when_made_again(
    released: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = released.stores()
    kept = card_of(stores, "notes", 2)
    card_command("notes", 2, "json")
    printed = capsys.readouterr().out
    with stores.state.read() as connection:
        told = audit.select(connection, collections=["notes"], actions=["published"])[0].subject["card"]
        again = release_cards.gathered(connection, stores.lake, release_cards.releases.get(connection, "notes", 2))
    assert hashlib.sha256(printed.encode()).hexdigest() == told == kept.digest
    assert again.encoded() == kept.text
    assert kept.card.partitions[DAY] == of(released, 1).partitions[DAY]
    assert kept.card.partitions["2026-10-06"] != of(released, 1).partitions["2026-10-06"]


def test_as_markdown_it_names_no_document_holds_no_text_and_takes_none_as_markup(released: Project) -> None:
    said = card_markdown(card_of(released.stores(), "notes", 1))
    assert said == card_markdown(card_of(released.stores(), "notes", 1))
    for told in ("torn.pdf", "0.txt", "the total due", str(released.root)):
        assert told not in said
        assert told not in card_of(released.stores(), "notes", 1).text
    assert "few \\| \\*labels\\* yet" in said
    assert "| 2026-10-05 | 4 | 1 |" in said
    assert text("a\n# b <i> _x_ by_day") == "a # b \\<i\\> \\_x\\_ by_day"


def test_the_newest_releases_are_read_without_a_look_at_older_ones(released: Project) -> None:
    state = released.stores().state
    with state.read() as connection:
        every = scores_of_releases(connection, "notes")
        assert [each.release for each in every] == [1, 2]
        assert scores_of_releases(connection, "notes", most=1) == every[1:]
        assert [number for number, _ in releases.read_all(connection, "notes", newest=1)] == [2]
        assert [number for number, _ in releases.read_all(connection, "notes", newest=9)] == [1, 2]


def test_a_card_that_was_altered_is_not_shown_and_verify_names_it(released: Project) -> None:
    stores = released.stores()
    assert next(area for area in verify(stores) if area.name == "cards").checked == 2
    changed = "UPDATE release_cards SET card = replace(card, '\"ann\"', '\"eve\"') WHERE number = 2"
    with stores.state.write() as connection:
        kept = connection.execute(sa.text("SELECT card FROM release_cards WHERE number = 2")).scalar_one()
        connection.execute(sa.text(changed))
    try:
        with pytest.raises(CardAltered, match="release 2 of notes is not what was published: its bytes amount to"):
            card_of(stores, "notes")
        area = next(area for area in verify(stores) if area.name == "cards")
        assert (area.checked, area.differences) == (1, 1)
        assert "release 2 of notes" in str(area.first)
    finally:
        with stores.state.write() as connection:
            connection.execute(sa.text("UPDATE release_cards SET card = :c WHERE number = 2"), {"c": kept})


def test_a_release_of_an_earlier_version_gets_a_card_on_demand_that_says_so(golden_release: Project) -> None:
    kept = card_of(golden_release.stores(), "notes", 1)
    assert kept.card.made_later
    claims = kept.card.partitions["claims"]
    found = {(each.stage, each.endpoint, each.documents) for each in claims.answers}
    asked = {(stage, "rehearsal", 3) for stage in ("triage", "details", "summary", "reply")}
    assert found == {("kind", None, 3), *asked}
    assert all(each.prompt for each in claims.answers if each.endpoint)
    assert (claims.cost_usd, claims.paid_usd, claims.reused_usd) == (0.00065568, 0.000654, 0.0)  # vectors cost, too
    assert "**Made later.**" in card_markdown(kept)
    assert kept.text == card_of(golden_release.stores(), "notes", 1).text
    area = next(area for area in verify(golden_release.stores()) if area.name == "cards")
    assert (area.checked, area.differences) == (0, 0)
    assert "without a card" in area.notes[0]


@pytest.fixture
def golden_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return opened(tmp_path, monkeypatch)[0]


# What others read


def evaluated(project: Project, *arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["evaluate", "notes", *arguments])
    return found.exit_code, found.output, str(found.exception or "")


def test_junit_has_a_test_for_each_gate_and_slice_and_the_exit_code_says_the_same(
    released: Project, tmp_path: Path
) -> None:
    file = tmp_path / "junit.xml"
    code, _, _ = evaluated(released, "--partition", DAY, "--junit", str(file))
    root = ET.parse(file).getroot()
    cases = {case.attrib["name"]: [each.tag for each in case] for case in root.iter("testcase")}
    assert cases == {
        "accuracy by language": ["skipped"],  # undecided: warn
        "accuracy": ["failure"],
        "accuracy by language: language en": ["skipped"],
    }
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["skipped"]) == ("3", "1", "2")
    assert code == 1
    assert "is below the minimum 0.99" in next(root.iter("failure")).attrib["message"]
    shown = json.loads(evaluated(released, "--json")[1])
    assert {each["outcome"] for part in shown["partitions"] for each in part["cases"]} == {"failed", "skipped"}


@pytest.mark.parametrize(
    ("right", "n", "undecided", "ruling", "outcome"),
    [
        (19, 20, "block", "passed", "passed"),
        (2, 20, "block", "failed", "failed"),
        (3, 5, "block", "undecided", "failed"),
        (3, 5, "warn", "undecided", "skipped"),
    ],
)
def test_what_too_few_documents_leave_undecided_fails_or_is_skipped_as_declared(
    released: Project, right: int, n: int, undecided: str, ruling: str, outcome: str
) -> None:
    gate = Gate.model_validate({"metric": "accuracy", "min": 0.8, "slices": ["language"], "undecided": undecided})
    stored = newest_evaluation(released.stores(), load_collection(released.root / "collections", "notes"))
    assert stored is not None
    found = replace(stored, slices=(SliceScore(slice="language en", right=right, n=n),))
    [case] = PartitionReport(evaluation=found, verdicts=(), gates=[gate]).cases
    assert (case.kind, case.ruling, case.outcome) == ("slices", ruling, outcome)


def test_the_log_for_inspect_is_one_that_inspect_reads(released: Project, tmp_path: Path) -> None:
    """Against the package where it is installed; its required fields and types everywhere."""
    file = tmp_path / "log.json"
    evaluated(released, "--inspect", str(file))
    log = json.loads(file.read_text())
    assert (log["version"], log["status"]) == (2, "success")
    assert {"created", "task", "dataset", "model", "config"} <= log["eval"].keys()
    assert log["eval"]["dataset"]["samples"] == log["results"]["total_samples"] == len(log["samples"]) == 3
    for score in log["results"]["scores"]:
        assert {"name", "scorer", "metrics"} <= score.keys()
        assert all({"name", "value"} <= each.keys() for each in score["metrics"].values())
    for sample in log["samples"]:
        assert {"id", "epoch", "input", "target", "scores"} <= sample.keys()
        assert sample["scores"]["accuracy"]["value"] in ("C", "I")
    right = [each["scores"]["accuracy"]["value"] for each in log["samples"]].count("C")
    accuracy = log["results"]["scores"][0]["metrics"]
    assert right / 3 == pytest.approx(accuracy["accuracy"]["value"])
    assert accuracy["ci_low"]["value"] < right / 3 < accuracy["ci_high"]["value"]
    if find_spec("inspect_ai") is not None:
        from inspect_ai.log import read_eval_log

        assert read_eval_log(str(file)).results.scores[0].metrics["accuracy"].value == pytest.approx(right / 3)


def test_what_cannot_be_shown_or_written_is_said_with_what_to_do(released: Project, tmp_path: Path) -> None:
    unknown = evaluated(released, "--partition", "2030-01-01")[2]
    assert "Partition '2030-01-01' of notes was not evaluated yet. Evaluated are 2026-10-0" in unknown
    nowhere = tmp_path / "no" / "x.xml"
    assert f"{nowhere} cannot be written" in evaluated(released, "--junit", str(nowhere))[2]
