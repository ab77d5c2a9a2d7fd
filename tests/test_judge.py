"""Claims about judges: what they rate, what is paid for it, what they say of people, and what gates make of it.

Through the real engine to a rehearsal provider in a process of its own; computed once, and copied.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from backups import in_postgresql
from conftest import DAYS, Project, project_at
from desks import Visitor, desk_of, served
from provider import Provider
from signing import current, decide, known

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import CollectionSettings
from ai_assets.evaluation.errors import GoldenError
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.judged import FEWEST_RATED
from ai_assets.evaluation.scoring import Score
from ai_assets.evaluation.verdict import GateVerdict, Interval
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Answer, Request
from ai_assets.planning.plan import plan
from ai_assets.rehearsal.judging import rating
from ai_assets.rehearsal.reading import Reading, read
from ai_assets.run.datasets.score_gates import gate_verdicts
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff import given_ratings, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import LabelFileRefused
from ai_assets.signoff.judged_outputs import as_computed, judge_of
from ai_assets.signoff.label_files import written
from ai_assets.signoff.publication import publish
from ai_assets.signoff.rating_files import KEYS, import_ratings, judge_named, sheet
from ai_assets.stages.base import Row
from ai_assets.stages.judge import JudgeStage

DAY = "2026-10-05"
INFERENCE = """
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
  large: {base_url: rehearsal, model: maxi, prices: [{from: 2026-01-01, input: 10, output: 20}]}
routes:
  default: {endpoints: [small]}
  judge: {endpoints: [large]}
  same: {endpoints: [large]}
  both: {endpoints: [small, large]}
retries: {all: {server_error: {attempts: 2, base_s: 0}}}
"""
DOCUMENTS = 30
SUMMARY = {"name": "summary", "kind": "summarise", "max_sentences": 1}
JUDGE = {
    "name": "rated",
    "kind": "judge",
    "of": "summary",
    "route": "judge",
    "sample": 0.85,
    "ratings": "ratings.jsonl",
}
FLOOR = {"metric": "judged", "stage": "rated", "min": 0.5, "at": "lower"}


def declared(office: Project, *gates: dict[str, Any], **judging: Any) -> Collection:
    stages = [dict(SUMMARY), {**JUDGE, **judging}]
    return office.declare(partitions={**DAYS, "end": DAY}, stages=stages, gates=list(gates))


@pytest.fixture(scope="module")
def computed(rehearsal: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, int, int]]:
    """A day of summaries, judged; how many calls of the judge a plan said, and how many there were."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("judged"), patch)
        patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
        (made.root / "inference.yaml").write_text(INFERENCE)
        for n in range(DOCUMENTS):
            more = " ".join(f"Part {k} of pump {n} was looked at in hall {k * 3}." for k in range(n % 7))
            made.document(f"{DAY}/{n}.txt", f"Report {n} on the pump. A leak of oil in hall {n} was found. {more}")
        collection = declared(made)
        planned = plan(collection, made.stores(), load_inference(made.root / "inference.yaml"))
        (said,) = [each.new_calls for each in planned.stages if each.stage == "rated"]
        made.refresh(collection)
        yield made, said, len(rehearsal.bills(every=True)) - DOCUMENTS


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
on_both = pytest.mark.parametrize("office", BOTH, indirect=True)


@pytest.fixture
def office(
    request: pytest.FixtureRequest, project: Project, provider: Provider, computed: tuple[Project, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> Project:  # fmt: skip
    """Its state store is in SQLite, or `on_both`."""
    project.copy(computed[0])
    if getattr(request, "param", "sqlite") == "sqlite":
        return project
    return in_postgresql(project, request.getfixturevalue("postgres"), monkeypatch)


def rows(office: Project, asset: str) -> dict[str, Row]:
    stores = office.stores()
    manifest = stores.lake.manifest("notes", asset, DAY)
    assert manifest is not None
    return {row["document_id"]: row for row in stores.lake.rows(manifest)}


def verdict(office: Project, collection: Collection) -> GateVerdict:
    manifest = office.stores().lake.manifest("notes", "evaluation_scores", DAY)
    assert manifest is not None
    with office.work(collection) as work:
        [found] = gate_verdicts(work, manifest)
    return found


def rate(office: Project, collection: Collection, number: int = FEWEST_RATED, *, less: int = 0) -> None:
    """So many outputs of the sheet, as the judge rated them or so much worse."""
    stores, stage = office.stores(), collection.judges[0]
    said = rows(office, "rated")
    lines = sheet(stores, collection, stage, number)
    for line in lines:
        line |= {"rating": max(1, int(said[line["document"]]["score"]) - less), "author": "mia"}
    file = office.root / "filled.csv"
    file.write_text(written(lines, KEYS, "csv"))
    import_ratings(stores, collection, stage, file, by=known(stores.state, "rita", "reviewer"))


# Judging


def test_a_plan_says_what_the_judge_costs_and_its_calls_are_billed_apart(computed: tuple[Project, int, int]) -> None:
    made, said, billed = computed
    judged = rows(made, "rated")
    assert said == billed == len(judged)
    assert FEWEST_RATED <= len(judged) < DOCUMENTS
    spent = {
        asset: sum(row["cost_usd"] for row in rows(made, asset).values()) for asset in ("summary", "rated")
    }  # fmt: skip
    assert spent["rated"] > spent["summary"] > 0


def test_a_rating_leads_to_its_call_its_model_and_its_prompt(office: Project) -> None:
    row = next(iter(rows(office, "rated").values()))
    assert (row["status"], row["model"], row["prompt_version"]) == ("ok", "maxi", "1")
    assert row["rationale"]
    assert row["rating"] == str(int(row["score"]))
    with office.stores().state.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT kind, document FROM attempts WHERE call_key = ?", (row["call"],)
        ).all()
    assert [tuple(each) for each in found] == [("judge", row["document_id"])]


def test_nothing_is_asked_twice_and_a_larger_sample_asks_the_new_ones(office: Project, provider: Provider) -> None:
    before = rows(office, "rated")
    office.refresh(declared(office, tries=3, ratings="other.jsonl"))
    assert provider.bills(every=True) == []
    office.refresh(declared(office, sample=1.0))
    after = rows(office, "rated")
    assert len(provider.bills(every=True)) == len(after) - len(before) == DOCUMENTS - len(before)
    assert {name: after[name] for name in before} == before
    office.refresh(declared(office, sample=0.3))
    assert set(rows(office, "rated")) < set(before)


def test_another_model_prompt_scale_or_criterion_is_another_judge_and_another_route_to_the_same_is_not(
    office: Project, provider: Provider
) -> None:
    first = declared(office)
    prompt = Path("ai_assets/prompts/judge.md")
    text = (Path(__file__).parents[1] / prompt).read_text()
    (office.root / "collections" / "notes" / "judge.md").write_text(text.replace("You are strict", "You are kind"))
    others = [
        {"route": "small"}, {"prompt": "judge.md"}, {"scale": [1, 2, 3]}, {"criteria": "It is short."},
    ]  # fmt: skip
    names = [judge_of(found := declared(office, **each), found.judges[0]) for each in others]
    assert len({judge_of(first, first.judges[0]), *names}) == 5
    same = declared(office, route="same", sample=0.5, timeout_s=20, reuse_for="30d")
    assert judge_of(same, same.judges[0]) == judge_of(first, first.judges[0])
    office.refresh(declared(office, criteria="It is short."))
    assert len(provider.bills(every=True)) == len(rows(office, "rated"))


@pytest.mark.slow
def test_an_output_that_changes_is_judged_again_and_its_ratings_count_no_more(
    office: Project, provider: Provider
) -> None:
    collection = declared(office)
    rate(office, collection)
    line = json.loads((collection.folder / "ratings.jsonl").read_text().splitlines()[0])
    office.document(line["document"], "Report on a fire. A fire in the kiln was put out.")
    office.refresh(declared(office))
    assert len(provider.bills(every=True)) == 2  # its summary, and what the judge says of it
    found = as_computed(office.stores(), declared(office), collection.judges[0]).with_ratings()
    assert (len(found.pairs), found.outdated) == (FEWEST_RATED - 1, 1)


@pytest.mark.slow
def test_a_judge_that_answers_nonsense_is_reported(office: Project, provider: Provider) -> None:
    provider.script([{"match": '"model":"maxi"', "fault": "schema_violation", "times": None}])
    collection = declared(office, criteria="It has no mistake.")
    with pytest.raises(PartitionsFailed, match="answered_share of rated 0 is below"):
        office.refresh(collection)
    judged = rows(office, "rated").values()
    assert {row["status"] for row in judged} == {"quarantined"}
    assert all(row["reason"].startswith("invalid_output") and row["raw"] for row in judged)


# Against people


def test_a_judge_without_ratings_holds_the_candidate_back_and_says_how_many_it_takes(office: Project) -> None:
    collection = declared(office, FLOOR)
    found = verdict(office, collection)
    assert (found.verdict, found.holds) == ("undecided", True)
    assert found.sentence.endswith("a judge without ratings says nothing about people: rate 20 outputs")
    plain = verdict(office, declared(office, {**FLOOR, "at": "value"}))
    assert (plain.verdict, plain.holds) == ("undecided", True)
    rate(office, collection, 12)
    with pytest.raises(PartitionsFailed, match=r"12 are rated: rate 8 more outputs\. No release candidate"):
        office.refresh(declared(office, FLOOR))


def test_ratings_that_are_worse_than_the_judges_move_the_mean_to_what_people_say(
    office: Project, provider: Provider
) -> None:
    rate(office, declared(office), less=2)
    office.refresh(declared(office, {**FLOOR, "undecided": "warn", "min": 0.1}))
    assert provider.bills(every=True) == []
    manifest = office.stores().lake.manifest("notes", "evaluation_scores", DAY)
    assert manifest is not None
    scores = {row["metric"]: Score.of(row) for row in office.stores().lake.rows(manifest)}
    judged, mean = scores["judged"], scores["judge_mean"]
    assert judged.value is not None
    assert mean.value is not None
    assert judged.value == pytest.approx(mean.value - 0.5, abs=0.1)
    assert judged.interval is not None
    assert judged.interval.low < judged.value < judged.interval.high
    assert scores["judge_agreement"].value == 0
    assert (judged.n, mean.n) == (FEWEST_RATED, len(rows(office, "rated")))
    assert verdict(office, declared(office, FLOOR)).verdict == "failed"
    assert manifest.stats["details"]["judges"][0]["lacking"] == 0


@pytest.mark.slow
def test_a_release_is_held_against_the_next_one_by_the_same_judge_only(office: Project) -> None:
    gate = {"metric": "judged", "stage": "rated", "no_worse_by": 0.3}
    rate(office, declared(office))
    collection = declared(office, gate)
    office.refresh(collection)
    stores = office.stores()
    assert "no release is live" in current(stores.state, DAY).changes["gates"][0]["sentence"]
    decide(stores.state, collection, [DAY])
    publish(collection, stores, by="ann")
    office.document(f"{DAY}/new.txt", "Report on a fire. A fire in the kiln was put out.")
    office.refresh(collection)
    same = verdict(office, collection)
    assert (same.verdict, same.baseline and same.baseline.release) == ("passed", 1)
    assert "by the same judge" in same.sentence
    other = declared(office, gate, criteria="It is short.")
    with pytest.raises(PartitionsFailed, match="No release candidate was made"):
        office.refresh(other)
    found = verdict(office, other)
    assert (found.verdict, found.holds) == ("undecided", True)
    assert "was judged by another judge" in found.sentence


def compared(now: float, before: float, *, by: str = "j", **gate: Any) -> GateVerdict:
    interval = Interval(low=before - 0.04, high=before + 0.04)
    wanted = Gate(metric="judged", no_worse_by=0.1, **gate)
    score = Score(metric="judged", scope="corpus", stage="r", value=now, n=100, error=0.02, clusters=99, judge="j")
    live = Score(metric="judged", scope="corpus", stage="r", value=before, n=80, interval=interval, judge=by)
    [found] = judge([wanted], GateInputs(scores=[score], pending=0, absent=0, live=[live], live_release=3))
    return found


def test_worse_by_more_than_declared_fails_and_too_close_to_tell_is_undecided() -> None:
    assert compared(0.80, 0.80).verdict == "passed"
    assert compared(0.60, 0.80).verdict == "failed"
    assert (compared(0.73, 0.80).verdict, compared(0.73, 0.80).holds) == ("undecided", True)
    assert compared(0.60, 0.80, by="k", undecided="warn").holds is False


# Sheets


def next_task(page: str) -> dict[str, str]:
    found = {name: re.search(rf'name="{name}" value="([^"]+)"', page) for name in ("document", "output")}
    return {name: match[1] for name, match in found.items() if match}


def taken_back_and_given_again(rita: Visitor, vic: Visitor, here: str, document: str, rating: str) -> None:
    """On the page, then through the API, which has the same rights."""
    shown = rita.http.get(f"/api{here}", params={"id": document}).json()
    output = {"document_id": document, "output": shown["output"]}
    assert (shown["mine"], shown["rated"], shown["scale"]) == (rating, FEWEST_RATED, ["1", "2", "3", "4", "5"])
    page = rita.submit(here, act="withdraw", document=document, output=shown["output"]).text
    assert "Your rating is taken back" in page
    assert f"{FEWEST_RATED - 1} rated by people" in page
    again = rita.post(f"{here}/withdraw", output)
    assert (again.status_code, "has no rating of this text to take back" in again.json()["error"]) == (400, True)
    assert rita.http.get(f"/api{here}", params={"id": document}).json()["mine"] is None
    made = rita.post(f"{here}/rate", {**output, "rating": rating}).json()
    assert (made["rating"], made["number"]) == (rating, 3), "the one that was taken back stays on record"
    withdrawn = rita.post(f"{here}/withdraw", output).json()
    assert (withdrawn["rating"], withdrawn["number"]) == (None, 4)
    assert rita.post(f"{here}/rate", {**output, "rating": rating}).json()["number"] == 5
    refused = [vic.post(f"{here}{call}", {**output, **body}).status_code
               for call, body in (("/rate", {"rating": "1"}), ("/withdraw", {}))]  # fmt: skip
    assert refused == [403, 403]


@on_both
def test_people_rate_on_the_desk_blind_and_their_ratings_count_as_those_of_the_file(office: Project) -> None:
    collection, stores = declared(office), office.stores()
    for name, role in (("rita", "reviewer"), ("vic", "viewer"), ("otto", None)):
        known(stores.state, name, role)  # type: ignore[arg-type]
    order = [line["document"] for line in sheet(stores, collection, collection.judges[0], 40)]
    said = rows(office, "rated")
    with served(desk_of(office)) as running:
        rita, vic, otto = (Visitor(running.url) for _ in range(3))
        for visitor, name in ((rita, "rita"), (vic, "vic"), (otto, "otto")):
            visitor.sign_in(name)
        here = "/golden/notes/ratings/rated"
        assert "20 more let the judge say something" in rita.get("/golden").text
        page = rita.get(here).text
        for place in range(FEWEST_RATED):
            task = next_task(page)
            assert task["document"] == order[place], "in the order of a sheet"
            assert str(said[task["document"]]["reason"]) not in page, "the judge's words are not shown"
            page = rita.submit(here, rating=str(int(said[task["document"]]["score"])), **task).text
        assert "Recorded." in page
        assert f"{FEWEST_RATED} rated by people" in page
        first = next_task(rita.get(f"{here}?id={order[0]}").text)
        wrong = rita.submit(here, rating="9", **first)
        assert (wrong.status_code, "not on the scale of rated: 1, 2, 3, 4, 5" in wrong.text) == (400, True)
        gone = rita.submit(here, rating="1", document=order[0], output="0" * 16)
        assert (gone.status_code, "has changed since it was shown" in gone.text) == (400, True)
        assert vic.submit(here, rating="1", **first).status_code == 403
        taken_back_and_given_again(rita, vic, here, order[0], str(int(said[order[0]]["score"])))
        assert 'name="rating"' not in vic.get(here).text
        assert (otto.get(here).status_code, rita.get("/golden/notes/ratings/rate").status_code) == (404, 404)
        for visitor in (rita, vic, otto):
            visitor.http.close()
    found = as_computed(stores, collection, collection.judges[0]).with_ratings()
    assert (len(found.pairs), {one == other for one, other in found.pairs}) == (FEWEST_RATED, {True})
    assert order[0] not in {line["document"] for line in sheet(stores, collection, collection.judges[0], 40)}
    again = declared(office, FLOOR)
    office.refresh(again)
    assert verdict(office, again).verdict in ("passed", "undecided")
    assert verdict(office, again).n == FEWEST_RATED or "rate" not in verdict(office, again).sentence
    verification.verify(stores.state)
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE judge_ratings SET rating = '1' WHERE document_id = :d"), {"d": order[1]})
    with pytest.raises(AuditBroken, match=f"rating 1 of rita of {order[1]} in rated"):
        verification.verify(stores.state)


@on_both
def test_a_rating_of_the_desk_makes_only_the_scores_of_its_partition_due(office: Project) -> None:
    collection, stores = declared(office), office.stores()
    office.refresh(collection)
    (line,) = sheet(stores, collection, collection.judges[0], 1)
    rita = known(stores.state, "rita", "reviewer")
    given_ratings.rate(stores, collection, collection.judges[0], line["document"], line["output"], "2", by=rita)
    given_ratings.rate(stores, collection, collection.judges[0], line["document"], line["output"], "2", by=rita)
    made = {each.manifest.asset: each.computed for each in office.refresh(collection)}
    assert {asset for asset, computed in made.items() if computed} == {"evaluation_scores", "release_candidate"}
    with stores.state.read() as connection:
        assert [each.number for each in given_ratings.in_force(connection, "notes")] == [1]
    given_ratings.rate(stores, collection, collection.judges[0], line["document"], line["output"], "5", by=rita)
    with stores.state.read() as connection:
        assert [(each.number, each.said) for each in given_ratings.in_force(connection, "notes")] == [(2, 5)]


def test_a_sheet_is_blind_drawn_by_digest_and_goes_on_where_people_stopped(office: Project) -> None:
    collection, stores = declared(office), office.stores()
    stage = judge_named(collection, None)
    first = sheet(stores, collection, stage, 5)
    assert first == sheet(stores, collection, stage, 9)[:5]
    assert all(set(line) == set(KEYS) and line["rating"] is None for line in first)
    assert [line["document"] for line in first] == sorted(rows(office, "rated"), key=stage.place_of)[:5]
    rate(office, collection, 5)
    assert not {line["document"] for line in first} & {
        line["document"] for line in sheet(stores, declared(office), stage, 5)
    }


def test_a_sheet_with_mistakes_is_refused_as_a_whole_with_all_of_them(office: Project) -> None:
    collection, stores = declared(office), office.stores()
    stage, file = collection.judges[0], office.root / "sheet.csv"
    lines = sheet(stores, collection, stage, 4)
    lines[0] |= {"rating": 9}
    lines[1] |= {"rating": 3, "output": "0" * 16}
    lines[2] |= {"rating": 3, "document": f"{DAY}/none.txt"}
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, KEYS)
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(LabelFileRefused) as refused:
        import_ratings(stores, collection, stage, file, by=known(stores.state, "ann", "reviewer"))
    said = str(refused.value)
    assert "the rating '9' is not on the scale of rated: 1, 2, 3, 4, 5" in said
    assert "has changed since; draw a new sheet" in said
    assert "has no output that rated judged" in said
    assert not (collection.folder / "ratings.jsonl").exists()


@on_both
def test_a_person_may_say_otherwise_later_and_two_people_may_differ(office: Project) -> None:
    collection, stores = declared(office), office.stores()
    stage, ann = collection.judges[0], known(stores.state, "ann", "reviewer")
    file = office.root / "sheet.jsonl"
    [line] = sheet(stores, collection, stage, 1)
    for author, said in (("mia", 2), ("tom", 4), ("mia", 3)):
        file.write_text(json.dumps({**line, "rating": said, "author": author}) + "\n")
        found = import_ratings(stores, declared(office), stage, file, by=ann)
    assert (found.new, found.replaced) == (0, 1)
    again = as_computed(stores, declared(office), stage).with_ratings()
    assert [people for _, people in again.pairs] == [3]


@pytest.mark.slow
def test_the_command_shows_what_a_judge_is_worth_and_nothing_where_nobody_rated(office: Project) -> None:
    before = json.loads(office.cli("judge", "show", "notes", "--json").stdout)[0]
    collection = declared(office)
    assert (before["rated"], before["lacking"]) == (0, FEWEST_RATED)
    assert before["judge"] == judge_of(collection, collection.judges[0])
    rate(office, declared(office), less=1)
    shown = office.cli("judge", "show", "notes")
    print(shown.stdout)
    assert shown.returncode == 0
    assert "people would give" in shown.stdout
    missing = office.cli("judge", "show", "notes", "--stage", "ratd")
    assert (missing.returncode, "no judge 'ratd'; did you mean 'rated'" in missing.stderr) == (2, True)


# What is declared


@pytest.mark.parametrize(
    ("scale", "data", "says"),
    [
        ([1, 2, 3], {"score": 3, "rationale": "All is there."}, {"rating": "3", "score": 3.0}),
        ([1, 2, 3], {"score": 2.0, "rationale": "Too long."}, {"rating": "2", "score": 2.0}),
        ("pass", {"score": "fail", "rationale": "A date is wrong."}, {"rating": "fail", "score": 0.0}),
        ([1, 2, 3], {"score": 4, "rationale": "Great."}, "invalid_output: the score is none of 1, 2, 3"),
        ([1, 2, 3], {"score": True, "rationale": "Great."}, "invalid_output: the score is none of 1, 2, 3"),
        ("pass", {"score": 1, "rationale": "Good."}, "invalid_output: the score is none of fail, pass"),
        ([1, 2, 3], {"score": 3, "rationale": " "}, "invalid_output: the judge gave no reason"),
        ([1, 2, 3], "3", "invalid_output: not an object"),
    ],
)
def test_an_answer_is_a_point_of_the_scale_with_a_reason_or_none(scale: Any, data: Any, says: Any) -> None:
    stage = JudgeStage.model_validate({"name": "rated", "kind": "judge", "of": "summary.text", "scale": scale})
    found = stage.read(Answer(request=Request(), call="c", endpoint="e", model="m", data=data), "")
    assert found == (says if isinstance(says, str) else {**says, "rationale": data["rationale"]})


def test_the_examples_of_the_page_are_valid() -> None:
    page = (Path(__file__).parents[1] / "docs" / "judge.md").read_text()
    judging, checks = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    stages = [*judging["stages"], {"name": "claim_details", "kind": "extract", "schema": {"type": "object"}}]
    whole = {"source": {"path": "documents"}, "partitions": {"by": "shards", "count": 1}, "stages": stages}
    found = CollectionSettings.model_validate({**whole, "gates": judging["gates"]})
    judge = next(stage for stage in found.stages if isinstance(stage, JudgeStage))
    assert (judge.of, judge.upstream) == ("summary.text", ("summary",))
    assert CollectionSettings.model_validate({**whole, **checks}).metrics


@pytest.mark.parametrize(
    ("judging", "gates", "says"),
    [
        ({"of": "sumary"}, [], "judges 'sumary': there is no such stage; did you mean 'summary'"),
        ({"of": "rated"}, [], "it is a judge itself"),
        ({"of": "summary.txt"}, [], "it has no column 'txt' of text; did you mean 'text'"),
        ({"scale": [5, 4, 3]}, [], "whole numbers one after the other, the worst first"),
        ({"sample": 0}, [], "sample: should be"),
        ({"route": "both"}, [], "leads to maxi and mini, and a judge is one model"),
        ({}, [{"metric": "judged", "stage": "summary", "min": 0.5}], "unknown stage 'summary'"),
        ({}, [{"metric": "judged", "min": 4}], "should be at most 1"),
        ({}, [{"metric": "judge_agreement", "no_worse_by": 0.1}], "it is for accuracy, judged, recall@1"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_its_line(
    project: Project, judging: dict[str, Any], gates: list[dict[str, Any]], says: str
) -> None:
    (project.root / "inference.yaml").write_text(INFERENCE)
    with pytest.raises(CollectionInvalid, match=says):
        declared(project, *gates, **judging)


def test_a_rating_that_is_not_on_the_scale_is_refused_with_its_line(project: Project) -> None:
    (project.root / "inference.yaml").write_text(INFERENCE)
    file = declared(project).folder / "ratings.jsonl"
    line = {"document": "a", "output": "b", "rating": 3, "author": "mia"}
    file.write_text(f"{json.dumps(line)}\n{json.dumps({**line, 'rating': 'good'})}\n{json.dumps(line)}\n")
    with pytest.raises(GoldenError) as refused:
        declared(project)
    assert "ratings.jsonl:2: the rating 'good' is not on the scale of the judge: 1, 2, 3, 4, 5" in str(refused.value)
    assert "rated by mia on line 1 already" in str(refused.value)


# Rehearsal


def test_a_rehearsed_judge_likes_what_the_document_says_more_than_what_it_does_not() -> None:
    from ai_assets.rehearsal.chat import ChatMessage

    def shown(written_about: str) -> Reading:
        text = f"<document>\nA leak of oil in hall 7.\n</document>\n<data>\n{written_about}\n</data>\nJudge it."
        return read([ChatMessage(role="user", text=text, tokens=len(text))], quick=False)

    scale = [1, 2, 3, 4, 5]
    ratings = [rating(shown(text), scale) for text in ("A leak of oil in hall 7.", "Oil leak.", "The pump exploded.")]
    assert ratings == sorted(ratings, reverse=True)
    assert (ratings[0], ratings[-1]) == (5, 1)
