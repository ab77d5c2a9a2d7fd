"""Claims about canaries: a changed model is noticed and dated, chance raises few alarms, and rows made since wait."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from collector import Collector
from conftest import Project
from desks import Visitor, desk_of, served
from doctoring import levels, seen
from doctoring import one as one_finding
from engines import declare, one, question, settings
from provider import Provider
from signing import PASSWORD, current, decide, known, somebody

from ai_assets.base.errors import LeaseBusy, UserError
from ai_assets.inference.canary import records
from ai_assets.inference.canary.asking import DeclaredCanary, asked, declared, requests_of
from ai_assets.inference.canary.comparing import compared
from ai_assets.inference.canary.question_set import BUILT_IN, question_set
from ai_assets.inference.canary.records import CanaryAnswer, CanaryChange, CanaryRun
from ai_assets.inference.canary.status import statuses
from ai_assets.inference.canary_settings import CanarySettings
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import CanaryInvalid, CanaryUndeclared
from ai_assets.inference.load import inference_at
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import InferenceSettings
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff import canaries, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.publication import publish
from ai_assets.statistics.items_apart import answers_apart, numbers_apart
from ai_assets.storage.state import StateStore
from ai_assets.telemetry.command_span import canary_span

OFTEN: dict[str, Any] = {"baseline": 2, "every_hours": 8760, "false_alarms_per_year": 0.1}
"""Few draws are enough to show what is rarer than this."""
QUESTIONS = [f"q{number}" for number in range(12)]
KIND = {"name": "kind", "kind": "classify", "route": "default", "labels": [
    {"name": "invoice", "description": "A bill with a total due."}, {"name": "leak", "description": "Water comes out."},
]}  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as found:
        yield found


@pytest.fixture
def provider(running: Provider) -> Iterator[Provider]:
    with running.lent():
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    found = StateStore(f"sqlite:///{tmp_path}/state.db")
    yield found
    found.close()


def of(inference: InferenceSettings) -> DeclaredCanary:
    return declared("mini", inference, Path("inference.yaml"))


def runs(inference: InferenceSettings, state: StateStore, number: int = 1) -> list[CanaryRun]:
    found = [asked(of(inference), inference, state) for _ in range(number)]
    return [each for each in found if each is not None]


def found_changes(state: StateStore, *, only_open: bool = True) -> list[CanaryChange]:
    with state.read() as connection:
        return records.changes_of(connection, only_open=only_open)


# Chance


def sample(rng: np.random.Generator, flips: float, repeats: int) -> list[list[str]]:
    """Answers of a model that says something else than usual so often, differently by question."""
    return [
        [("other" if rng.random() < flips * (number % 3) else "usual") for _ in range(repeats)] for number in range(12)
    ]


def test_a_comparison_is_as_rare_by_chance_as_it_says() -> None:
    rng, level = np.random.default_rng(7), 0.05
    alarms = {"answers": 0, "numbers": 0}
    for seed in range(400):
        apart = answers_apart(sample(rng, 0.2, 2), sample(rng, 0.2, 10), draws=199, seed=seed)
        alarms["answers"] += apart.p <= level
        new, old = rng.normal(size=(12, 2)).tolist(), rng.normal(size=(12, 10)).tolist()
        alarms["numbers"] += numbers_apart(new, old, draws=199, seed=seed, relative=False).p <= level
    assert all(number <= 400 * level + 3 * (400 * level) ** 0.5 for number in alarms.values()), alarms
    assert alarms["numbers"] > 0  # the chance of what is continuous is used up


def made_run(number: int, texts: list[list[str]], **said: Any) -> CanaryRun:
    answers = tuple(
        CanaryAnswer(**{
            "question": name, "answer": text, "confidence": 0.8 if text == "usual" else 0.6, "characters": len(text),
            "input_tokens": 40, "output_tokens": 5, "model": "m", "fingerprint": "f", **said,
        })
        for name, given in zip(QUESTIONS, texts, strict=True) for text in given
    )  # fmt: skip
    moment = f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T06:00:00.000+00:00"
    return CanaryRun(
        run_id=number + 1, endpoint="mini", epoch=1, subject="s", model="m", state="asked", started_at=moment,
        ended_at=moment, answers=answers,
    )  # fmt: skip


@pytest.mark.slow
def test_looking_every_other_week_for_years_raises_no_more_alarms_than_are_declared() -> None:
    """30 years of a model that answers a fifth of the questions in two ways, looked at 26 times a year."""
    declared = CanarySettings(
        every_hours=8766 / 26, false_alarms_per_year=0.2, repeats=2, answers=0.01, confidence=0.01
    )
    rng, alarmed = np.random.default_rng(3), 0
    for _year in range(30):
        past: list[CanaryRun] = []
        for number in range(declared.baseline + 26):
            past.append(made_run(number, sample(rng, 0.15, declared.repeats)))
            if compared(past, declared, ()).facts:
                alarmed += 1
                break
    assert alarmed <= 30 * 0.2 + 2 * (30 * 0.2 * 0.8) ** 0.5


def test_a_third_of_the_answers_is_noticed_at_once_and_one_question_within_a_week() -> None:
    daily, usual = CanarySettings(), [["usual"] * 2 for _ in QUESTIONS]
    past = [made_run(number, usual) for number in range(8)]
    large = [["other"] * 2] * 8 + usual[8:]
    verdict = compared([*past, made_run(8, large)], daily, ())
    assert {fact.kind for fact in verdict.facts} >= {"answers"}
    assert verdict.alike_at == past[-1].started_at  # though it shows in several runs together, too
    assert compared([*past, made_run(8, [["other"] * 2] * 4 + usual[4:])], daily, ()).facts
    small, noticed = [["other"] * 2, *usual[1:]], CanarySettings(answers=0.05)
    for later in range(1, 8):
        past.append(made_run(7 + later, small))
        if (verdict := compared(past, noticed, ())).facts:
            break
    assert 1 < later <= 7
    assert "over" in verdict.facts[0].sentence
    assert verdict.alike_at < past[8].started_at  # dated before the first run that was other


def test_what_a_provider_states_is_said_at_once_and_a_changed_tokenizer_too() -> None:
    usual = [["usual"] * 2 for _ in QUESTIONS]
    settled = CanarySettings(baseline=2)
    past = [made_run(number, usual) for number in range(3)]
    for said, kind in (({"model": "m-2"}, "model"), ({"fingerprint": "g"}, "fingerprint"),
                       ({"input_tokens": 43}, "input tokens")):  # fmt: skip
        facts = compared([*past, made_run(3, usual, **said)], settled, ()).facts
        assert [fact.kind for fact in facts] == [kind]
    learning = compared([past[0], made_run(1, usual, model="m-2", fingerprint="g")], settled, ()).facts
    assert [fact.kind for fact in learning] == ["model"]  # a provider may have several fingerprints
    assert compared([*past, made_run(3, usual, fingerprint=None)], settled, ()).facts == ()


# Asking


def test_a_silently_swapped_model_is_noticed_dated_and_accepted_as_the_new_baseline(
    provider: Provider, state: StateStore
) -> None:
    inference = one(provider.url, canary=OFTEN)
    before = runs(inference, state, 4)
    assert not found_changes(state)
    provider.configure(swapped=True)
    [after] = runs(inference, state)
    [change] = found_changes(state)
    assert (change.alike_at, change.found_at) == (before[-1].started_at, after.ended_at)
    assert "answers are others" in change.sentence
    runs(inference, state, 1)
    assert len(found_changes(state)) == 1  # what is known is not told again
    with state.write() as connection:
        for wrong, by, reason in (("ask for it", somebody("bob"), "good"), ("--reason", somebody("ann", "admin"), " ")):
            with pytest.raises(UserError, match=r"admin everywhere|--reason"):
                canaries.accept(connection, "mini", by=by, reason=reason)
            assert wrong
    ann = known(state, "ann", "admin")
    with state.write() as connection:
        canaries.accept(connection, "mini", by=ann, reason="reads invoices better")
    runs(inference, state, 2)
    assert not found_changes(state)
    with state.read() as connection:
        [status] = statuses(connection, inference)
    assert (status.state, status.runs) == ("alike", 4)  # the two swapped runs began the new baseline
    verification.verify(state)
    with state.write() as connection:
        connection.execute(sa.text("UPDATE canary_changes SET accepted_by = 'eve'"))
    with pytest.raises(AuditBroken, match="accepted change 1 of a model"):
        verification.verify(state)


def test_answers_are_paid_within_a_budget_labelled_and_reused_by_nobody(provider: Provider, state: StateStore) -> None:
    inference = one(provider.url, canary=OFTEN)
    first, second = runs(inference, state, 2)
    stats = provider.stats()
    assert stats["billed"] == 2 * len(requests_of(of(inference), 1))
    assert first.cost_nusd + second.cost_nusd == round(stats["billed_usd"] * 1e9)
    with state.read() as connection:
        callers = connection.execute(sa.text("SELECT DISTINCT asset, collection FROM callers")).all()
    assert [tuple(each) for each in callers] == [("canary", "")]
    with Engine(inference, state) as engine:
        asked_plainly = replace(requests_of(of(inference), 1)[0], sample=0)
        answer = engine.call(asked_plainly, Caller(collection="notes"))
    assert not answer.reused  # type: ignore[union-attr]
    poor = one(provider.url, canary={**OFTEN, "budget_usd": 0.00001})
    [run] = runs(poor, state)
    assert run.state == "no answer"
    assert "canary-mini" in (run.problem or "")
    assert not found_changes(state)


def test_an_endpoint_that_is_away_has_no_answer_and_no_change(
    provider: Provider, state: StateStore, collector: Collector
) -> None:
    inference = one(provider.url, canary=OFTEN)
    runs(inference, state, 3)
    provider.configure(fault={"unauthorized": 1.0})
    run = asked(of(inference), inference, state, hear=canary_span(print))
    assert run is not None
    assert run.state == "no answer"
    (root,) = [span for span in collector.spans if not span.parent_id]
    assert (root.name, root.status, root["ai_assets.canary.model"]) == ("canary mini", 2, run.model)
    assert "401" in root.said
    with state.read() as connection:
        [status] = statuses(connection, inference)
    assert status.state == "no answer"
    assert "401" in status.said
    assert not found_changes(state)


def test_two_at_once_ask_once_and_what_a_killed_run_was_answered_is_not_asked_again(
    provider: Provider, state: StateStore
) -> None:
    inference = one(provider.url, canary=OFTEN)
    canary = of(inference)
    provider.configure(latency_ms=200)
    refused: list[UserError] = []

    def other() -> None:
        try:
            asked(canary, inference, StateStore(state.url), only_due=True)
        except LeaseBusy as error:
            refused.append(error)

    first = threading.Thread(target=lambda: asked(canary, inference, state, only_due=True))
    first.start()
    while not provider.stats()["calls"]:
        threading.Event().wait(0.01)
    second = threading.Thread(target=other)
    second.start()
    for each in (first, second):
        each.join(60)
    provider.configure(latency_ms=0)
    number = len(requests_of(canary, 1))
    assert provider.stats()["billed"] == number
    assert asked(canary, inference, state, only_due=True) is None  # the next is due in a year
    # As a killed run leaves it: begun, and some of its answers in the ledger.
    with state.write() as connection:
        left = records.begin_run(connection, "mini", "small", canary.subject)
    with Engine(inference, state) as engine:
        list(engine.map(requests_of(canary, left.run_id)[:7], Caller(asset="canary", run_id=f"canary-{left.run_id}")))
    [run] = runs(inference, state)
    assert (run.run_id, len(run.answers)) == (left.run_id, number)
    assert provider.stats()["billed"] == 2 * number


KILLED = """
import sys
from pathlib import Path
from engines import one
from ai_assets.inference.canary.asking import asked, declared
from ai_assets.storage.state import StateStore
inference = one(sys.argv[1], canary={"baseline": 2}, limits={"concurrency": 2})
asked(declared("mini", inference, Path("inference.yaml")), inference, StateStore(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_run_that_goes_on(provider: Provider, state: StateStore, tmp_path: Path) -> None:
    provider.configure(latency_ms=100)
    url = f"sqlite:///{tmp_path}/state.db"
    command = [sys.executable, "-c", KILLED, provider.url, url]
    process = subprocess.Popen(command, cwd=Path(__file__).parent)
    try:
        while provider.stats()["delivered"] < 6 and process.poll() is None:
            threading.Event().wait(0.02)
    finally:
        process.kill()
        process.wait()
    provider.configure(latency_ms=0)
    inference = one(provider.url, canary={"baseline": 2}, limits={"concurrency": 2})
    [run] = runs(inference, state)
    number = len(requests_of(of(inference), 1))
    assert (run.run_id, len(run.answers)) == (1, number)
    assert number <= provider.stats()["billed"] <= number + 2  # what was in flight when it died


def test_another_declared_model_or_set_is_no_change_and_begins_anew(provider: Provider, state: StateStore) -> None:
    runs(one(provider.url, canary=OFTEN), state, 3)
    [run] = runs(one(provider.url, canary=OFTEN, model="other"), state)
    assert run.epoch == 2
    assert not found_changes(state)


# Vectors


def test_a_changed_vector_space_is_noticed_told_once_and_accepted_as_the_new_baseline(
    provider: Provider, state: StateStore
) -> None:
    inference = one(provider.url, canary={**OFTEN, "embeds": True, "notify": ["team", "board"]})
    tell = canaries.teller(inference)
    asked_now = lambda number: [asked(of(inference), inference, state, tell=tell) for _ in range(number)]  # noqa: E731
    before = asked_now(4)
    assert not found_changes(state)
    assert all(each.distance < 1e-5 for run in before if run for each in run.answers if each.distance is not None)
    kept = [bool(run and any(each.vector for each in run.answers)) for run in before]
    assert kept == [True, False, False, False]
    provider.configure(swapped=True, swap_share=1.0)
    asked_now(2)
    [change] = found_changes(state)
    [fact] = change.facts
    assert (fact.kind, fact.size is not None and fact.size > 0.5) == ("vectors", True)
    assert before[-1] is not None
    assert change.alike_at == before[-1].started_at
    with state.read() as connection:
        told = connection.execute(sa.text("SELECT channel, kind, title, body FROM notices ORDER BY channel")).all()
    assert [(each.channel, each.kind) for each in told] == [("board", "canary"), ("team", "canary")]
    assert "mini (small) answers otherwise" in told[0].title
    assert "ai-assets canary accept mini" in told[0].body
    ann = known(state, "ann", "admin")
    with state.write() as connection:
        canaries.accept(connection, "mini", by=ann, reason="embedded anew")
    asked_now(2)
    assert not found_changes(state)
    provider.configure(swapped=False)
    asked_now(1)
    [again] = found_changes(state)
    assert [each.kind for each in again.facts] == ["vectors"]


def vectors_run(number: int, distance: float, dimensions: int = 256) -> CanaryRun:
    usual = [["usual"] * 2 for _ in QUESTIONS]
    return made_run(number, usual, characters=0, confidence=None, dimensions=dimensions, distance=distance)


def test_vectors_that_move_less_than_declared_are_no_change_and_another_length_is_one_at_once() -> None:
    declared_set = CanarySettings(**{**OFTEN, "embeds": True})
    past = [vectors_run(number, 0.0) for number in range(3)]
    assert compared([*past, vectors_run(3, 0.009)], declared_set, ()).facts == ()
    [moved] = compared([*past, vectors_run(3, 0.02)], declared_set, ()).facts
    assert (moved.kind, moved.size) == ("vectors", pytest.approx(0.02))
    [other] = compared([*past[:1], vectors_run(3, 0.0, dimensions=384)], declared_set, ()).facts
    assert (other.kind, "384; before 256" in other.sentence) == ("dimensions", True)


def test_texts_are_embedded_and_questions_asked_and_one_in_place_of_the_other_is_refused(tmp_path: Path) -> None:
    file, beside = tmp_path / "canary.yaml", tmp_path / "inference.yaml"
    file.write_text("questions:\n- {name: seal, embed: Two pump seals.}\n")
    [text] = question_set(CanarySettings(items="canary.yaml", embeds=True), beside).questions
    assert text.request("mini", None, 1).text == "Two pump seals."
    with pytest.raises(CanaryInvalid, match=r"canary\.yaml:2: 'seal': the canary asks: write 'ask'"):
        question_set(CanarySettings(items="canary.yaml"), beside)
    file.write_text("questions:\n- {name: seal, embed: Two., ask: Which?}\n")
    with pytest.raises(CanaryInvalid, match=r"canary\.yaml:2: .*either what is asked"):
        question_set(CanarySettings(items="canary.yaml", embeds=True), beside)
    assert (
        BUILT_IN.digest == "3320a01b2e0121f8e4ab4274b292dce0dcf4edc7b68b12b356d32bdf39184a40"
    )  # a baseline of an earlier version goes on


# The doctor


def test_the_doctor_names_an_overdue_canary_and_a_change_that_nobody_accepted(
    project: Project, provider: Provider
) -> None:
    declare(project.root, provider.url, canary=OFTEN)
    [fresh] = seen("canaries")
    assert (fresh.level, fresh.found) == ("ok", "it was never asked")
    inference, state = inference_at(project.home), project.stores().state
    runs(inference, state, 3)
    assert levels(seen("canaries")) == {"ok"}
    with state.write() as connection:
        connection.execute(sa.text("UPDATE canary_runs SET started_at = '2020' || substr(started_at, 5)"))
    late = one_finding(seen("canaries"), "warning")
    assert (late.looked_at, late.found.startswith("overdue: asked last 2020-")) == ("canary mini", True)
    provider.configure(swapped=True)
    runs(inference, state)
    changed = one_finding(seen("canaries"), "warning")
    assert "answers are others" in changed.found
    assert "ai-assets canary accept mini" in changed.fix


# Settings


def test_own_questions_are_read_beside_inference_yaml_and_mistakes_are_named_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text("questions:\n- {name: sky, ask: What colour is the sky?, choices: [blue, green]}\n")
    declared_set = question_set(CanarySettings(items="canary.yaml"), tmp_path / "inference.yaml")
    assert [each.name for each in declared_set.questions] == ["sky"]
    file.write_text("questions:\n- {name: sky, ask: What colour is it?, choices: [blue]}\n")
    with pytest.raises(CanaryInvalid, match=r"canary\.yaml:2: .*two choices"):
        question_set(CanarySettings(items="canary.yaml"), tmp_path / "inference.yaml")
    with pytest.raises(CanaryUndeclared, match=r"declares no canary .*canary: \{\}"):
        declared("mini", one("http://127.0.0.1:1/v1"), Path("inference.yaml"))
    with pytest.raises(ValueError, match="ask less often or allow more"):
        CanarySettings(every_hours=1, false_alarms_per_year=0.001)
    assert len(BUILT_IN.questions) == 12


# Rows and releases


@pytest.mark.parametrize(
    "blocks", ["waivable", *(pytest.param(each, marks=pytest.mark.slow) for each in ("no", "yes"))]
)
def test_rows_made_after_a_change_hold_a_candidate_back_as_declared(
    project: Project, provider: Provider, blocks: str
) -> None:
    declare(project.root, provider.url, canary={**OFTEN, "blocks": blocks})
    inference, state = inference_at(project.home), project.stores().state
    runs(inference, state, 3)
    project.documents(2)
    collection = project.declare(stages=[KIND])
    days = ["2026-10-05", "2026-10-06", "2026-10-07"]
    project.refresh(collection, days[:1])
    runs(inference, state)
    provider.configure(swapped=True)
    project.refresh(collection, days[1:2])  # made by the new model, before anybody knows
    decide(state, collection, days[:2])
    runs(inference, state)
    [change] = found_changes(state)
    with state.read() as connection:
        made = canaries.rows_after(connection, change)
    assert {row.partition for row in made} == {days[1]}
    if blocks == "no":
        assert publish(collection, project.stores(), by="test").partitions == days[:2]
        [release] = canaries.releases_after(project.stores(), change, "notes")
        assert (release.number, release.partitions, release.live) == (1, (days[1],), True)
        project.refresh(collection, days[2:])
        assert not any(each.holds for each in current(state, days[2]).verdicts)
        return
    told: list[str] = []
    assert publish(collection, project.stores(), by="test", say=told.append).partitions == days[:1]
    assert any("2 rows were" in line and "canary accept mini" in line for line in told)
    if blocks == "waivable":
        known(state, "ann")
        with served(desk_of(project)) as desk:
            visitor = Visitor(desk.url)
            visitor.sign_in("ann")
            pages = [visitor.get(at).text for at in (f"/requests/{current(state, days[1]).request_id}", "/runs")]
            visitor.http.close()
        assert 'id="changed-models"' in pages[0]
        assert all("answers are others" in page for page in pages)
    if blocks == "yes":
        with pytest.raises(PartitionsFailed, match="canary: 2 rows were"):
            project.refresh(collection, days[2:])
    else:
        project.refresh(collection, days[2:])
        with pytest.raises(UserError, match="canary"):
            decide(state, collection, days[2:])
        decide(state, collection, days[2:], waivers={"canary": "looked at by hand"})
        assert publish(collection, project.stores(), by="test").partitions == days[2:]
    zoe = known(state, "zoe", "admin")
    with state.write() as connection:
        canaries.accept(connection, "mini", by=zoe, reason="as good")
    assert publish(collection, project.stores(), by="test").partitions == days[1:2]


@pytest.mark.slow
def test_the_commands_say_it_all(project: Project, provider: Provider, collector: Collector) -> None:
    declare(project.root, provider.url, canary=OFTEN)
    for _ in range(3):
        assert project.cli("canary", "run").returncode == 0
    provider.configure(swapped=True, swap_says=["model"])
    assert project.cli("canary", "run", "mini").returncode == 1
    found = json.loads(project.cli("canary", "status", "--json").stdout)["endpoints"]
    assert [each["state"] for each in found] == ["changed"]
    assert "rehearsal-second" in project.cli("canary", "changes").stdout
    known(project.stores().state, "ann", "admin")
    said = project.cli("canary", "accept", "mini", "--by", "ann", "--reason", "fine", AI_ASSETS_PASSWORD=PASSWORD)
    assert "accepted" in said.stdout
    assert json.loads(project.cli("canary", "changes", "--json").stdout)["changes"][0]["accepted_by"] == "ann"
    assert "no endpoint 'mimi'" in project.cli("canary", "run", "mimi").stderr
    assert [span["ai_assets.canary.run"] for span in collector.named("canary mini")] == ["1", "2", "3", "4"]


def test_the_sensor_asks_what_is_due_once(project: Project, provider: Provider, collector: Collector) -> None:
    import dagster as dg

    from ai_assets.orchestration.automation import canaries as sensor

    declare(project.root, provider.url, canary=OFTEN)
    said = []
    for _ in range(2):
        context = dg.build_sensor_context()
        said.append(str(sensor()(context).skip_message))  # type: ignore[union-attr]
    assert said == ["mini: asked", "no canary is due"]
    (root,) = [span for span in collector.spans if not span.parent_id]
    assert (root.name, root.status) == ("canary mini", 0)
    asked_for = len(BUILT_IN.questions) * CanarySettings().repeats
    assert [call.name for call in collector.below(root)] == ["call canary"] * asked_for
    assert len(collector.named("chat")) == asked_for


def test_a_rehearsed_swap_happens_after_so_many_calls_and_says_what_it_is_told_to(
    provider: Provider, state: StateStore
) -> None:
    provider.configure(swap_after=1, swap_share=1.0, swap_says=["fingerprint"], swap_tokens=1.5)
    inference = settings({"mini": {"base_url": provider.url, "model": "small", "free": True}})
    with Engine(inference, state) as engine:
        first, second = (engine.call(question(1, sample=sample), Caller()) for sample in (0, 1))
    assert (first.fingerprint, second.fingerprint) == ("fp_rehearsal", "fp_rehearsal_2")  # type: ignore[union-attr]
    assert second.usage.input_tokens == round(first.usage.input_tokens * 1.5)  # type: ignore[union-attr]
