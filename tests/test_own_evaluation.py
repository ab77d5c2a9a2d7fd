# ruff: noqa: E501  a refusal is a row, and a row is a line
"""Claims about metrics, gates and checks of a user's own, and about the one record of a gate's verdict."""

import datetime
import importlib
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from candidates import asked, document
from conftest import DAYS, REPOSITORY, STAGE, Project
from desks import Visitor, desk_of, served
from signing import current, decide, known

from ai_assets.base.errors import OwnCodeFailed
from ai_assets.checks.base import CheckOutcome
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.evaluation.errors import VerdictUnreadable
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.metrics import Evidence, LabelEvidence, Measure, Metric
from ai_assets.evaluation.scoring import Score
from ai_assets.evaluation.verdict import Baseline, GateVerdict, Interval
from ai_assets.run.context import Outcome
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff.publication import publish
from ai_assets.source_digest import source_digest
from examples.own_gate import no_worse_than_live
from examples.own_metric import found_share

DAY = "2026-10-05"
ONE_DAY = {**DAYS, "end": DAY}
METRIC: Mapping[str, Any] = {
    "use": "examples.own_metric:found_share", "name": "invoices_found", "options": {"label": "invoice"},
}  # fmt: skip
GATE: Mapping[str, Any] = {"metric": "invoices_found", "use": "examples.own_gate:no_worse_than_live"}
BILL, FIRE = f"{DAY}/bill.txt", f"{DAY}/fire.txt"


def evaluated(project: Project, **attributes: Any) -> Collection:
    """One day with a bill and a fire, both with a golden label."""
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    golden = [{"document": BILL, "label": "invoice"}, {"document": FIRE, "label": "incident"}]
    (folder / "golden.jsonl").write_text("\n".join(map(json.dumps, golden)))
    project.document(BILL, "Invoice no. 12: subtotal 100.00, tax 20.00, total due 120.00 within 30 days.")
    project.document(FIRE, "At 14:20 a fire broke out in hall 7; the pump failed and two were injured.")
    return project.declare(
        partitions=ONE_DAY, stages=[dict(STAGE)], golden={"labels": "golden.jsonl"}, **attributes
    )  # fmt: skip


# --- the record


VERDICT = GateVerdict(
    name="accuracy of kind", metric="accuracy", stage="kind", judge="a:b", value=0.9, n=10,
    interval=Interval(low=0.8, high=0.95, level=0.9, unit="query"),
    baseline=Baseline(kind="live", value=0.8, n=9, release=3, interval=Interval(low=0.7, high=0.9)),
    margin=0.1, verdict="undecided", holds=True, waivable=True, sentence="too few",
)  # fmt: skip


def test_a_verdict_is_the_same_after_it_was_written_as_json() -> None:
    assert GateVerdict.of(json.loads(json.dumps(VERDICT.as_data()))) == VERDICT


OLD: list[tuple[dict[str, Any], tuple[str, bool, bool, float | None]]] = [
    ({"value": 0.9, "n": 10, "passed": True, "message": "reaches"}, ("passed", False, False, 0.05)),
    ({"value": 0.5, "n": 10, "passed": False, "message": "is below"}, ("failed", True, True, -0.35)),
    ({"value": None, "n": 0, "passed": True, "message": "not judged: 3 wait"}, ("undecided", False, False, None)),
]


@pytest.mark.parametrize(("said", "expected"), OLD, ids=["passed", "failed", "waiting"])
def test_what_an_earlier_version_wrote_of_a_gate_is_read(
    said: dict[str, Any], expected: tuple[str, bool, bool, float | None]
) -> None:
    found = GateVerdict.of({"name": "accuracy of kind", "min": 0.85, "waivable": False, **said})
    margin = None if found.margin is None else pytest.approx(found.margin)
    assert (found.verdict, found.holds, found.stops, expected[3]) == (*expected[:3], margin)
    assert (found.metric, found.stage, found.sentence) == ("accuracy", "kind", said["message"])
    assert found.baseline == Baseline(kind="declared", value=0.85)


def test_a_verdict_that_a_newer_version_wrote_is_refused_by_name() -> None:
    with pytest.raises(VerdictUnreadable, match="'accuracy of kind' has format 2, and this version reads up to 1"):
        GateVerdict.of({**VERDICT.as_data(), "format": 2})


@pytest.mark.parametrize(("verdict", "holds"), [("passed", True), ("failed", False)])
def test_no_verdict_says_one_thing_and_does_another(verdict: str, holds: bool) -> None:
    with pytest.raises(ValueError, match="accuracy of kind"):
        GateVerdict(**{**vars(VERDICT), "verdict": verdict, "holds": holds})


# --- the source digest


MODULE = """
import math

LIMIT = 3

def helper(x):
    return math.sqrt(x) + LIMIT

def unrelated():
    return 1

def used(x):
    return helper(x)
"""
EDITS: list[tuple[str, str, bool]] = [
    ("return helper(x)", "return helper(x) + 1", True),
    ("LIMIT = 3", "LIMIT = 4", True),
    ("+ LIMIT", "- LIMIT", True),
    ("import math", "import cmath as math", True),
    ("return 1", "return 2", False),
    ("def used(x):", "def used(x):\n    # why\n    'A docstring.'\n\n", False),
    ("return helper(x)", "return helper(  x )", False),
    ("def used(x):", "def used(x, y=1):", True),
]


@pytest.mark.parametrize(("old", "new", "counts"), EDITS, ids=[f"{old} -> {new[:20]}" for old, new, _ in EDITS])
def test_the_digest_is_of_what_a_function_does_with_all_that_it_names(
    old: str, new: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    before, after = (
        _digest_in(tmp_path, f"own_{abs(hash((old, new)))}_{number}", text)
        for number, text in enumerate((MODULE, MODULE.replace(old, new, 1)))
    )
    assert (before != after) is counts


def _digest_in(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    return source_digest(importlib.import_module(name).used)


# --- metrics


def test_an_own_metric_is_a_row_of_the_scores_with_its_interval(project: Project) -> None:
    collection = evaluated(project, metrics=[METRIC])
    done = project.refresh(collection)
    (scores,) = [outcome.manifest for outcome in done if outcome.manifest.asset == "evaluation_scores"]
    rows = project.stores().lake.read(scores).to_pylist()
    own = [row for row in rows if row["metric"] == "invoices_found"]
    assert [(row["scope"], row["stage"], row["value"], row["n"], row["level"]) for row in own] == [
        ("corpus", "kind", 1.0, 1, 0.95), ("partition", "kind", 1.0, 1, 0.95),
    ]  # fmt: skip
    assert all(0 < row["low"] < row["value"] <= row["high"] for row in own)
    assert [row["low"] for row in rows if row["metric"] == "accuracy"] == [None, None]


def test_a_metric_of_rows_scores_its_partition_and_waits_for_its_dataset(project: Project) -> None:
    project.documents(per_day=2, days=1)
    collection = project.declare(
        partitions=ONE_DAY, metrics=["examples.own_metric:title_share"], gates=[{"metric": "title_share", "min": 1.0}]
    )
    assert collection.inputs_of("evaluation_scores") == ("documents", "embeddings")
    project.refresh(collection)
    (verdict,) = current(project.stores().state, DAY).verdicts
    assert (verdict.verdict, verdict.value, verdict.n) == ("passed", 1.0, 2)


def test_a_partition_without_rows_is_undecided_and_goes_on(project: Project) -> None:
    project.documents(per_day=1, days=1)
    gates = [{"metric": "title_share", "min": 1.0}]
    collection = project.declare(
        partitions={**DAYS, "end": "2026-10-06"}, metrics=["examples.own_metric:title_share"], gates=gates
    )
    checks = [event for event in project.events(collection) if isinstance(event, CheckOutcome)]
    empty = next(check for check in checks if check.partition == "2026-10-06")
    assert empty.passed
    assert [GateVerdict.of(each).verdict for each in empty.details["verdicts"]] == ["undecided"]


def test_without_own_metrics_no_code_version_changes_and_with_one_only_the_scores_are_stale(project: Project) -> None:
    plain = evaluated(project)
    own = evaluated(project, metrics=[METRIC])
    stale = {asset for asset in plain.asset_names if plain.code_versions[asset] != own.code_versions[asset]}
    assert stale == {"evaluation_scores"}
    other = evaluated(project, metrics=[{**METRIC, "options": {"label": "incident"}}])
    assert other.code_versions["evaluation_scores"] != own.code_versions["evaluation_scores"]


EVIDENCE = Evidence(
    collection="notes", partition=None, stage="kind", label_names=("invoice",),
    labels=(LabelEvidence(document="a", golden="invoice", predicted="invoice"),),
)  # fmt: skip
UNUSABLE: list[tuple[object, str]] = [
    (0.5, "it returned 0.5; return Measure"),
    (Measure(value=float("nan"), n=1), "value is nan"),
    (Measure(value=1.0, n=0), "over no items"),
    (Measure(value=1.0, n=-1), "n is -1"),
    (Measure(value=0.5, n=2, interval=Interval(low=0.6, high=0.9)), "outside of its interval"),
    (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("given", "says"), UNUSABLE, ids=[says for _, says in UNUSABLE])
def test_a_metric_that_gives_what_it_must_not_is_named(given: object, says: str) -> None:
    def function(evidence: Evidence) -> Measure:
        if isinstance(given, Exception):
            raise given
        return given  # type: ignore[return-value]

    own = Metric(name="mine", of="labels", function=function, use="here:mine")
    with pytest.raises(OwnCodeFailed, match="the metric here:mine failed") as refused:
        own.score(EVIDENCE)
    assert says in str(refused.value)


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    own = Metric(name="mine", of="labels", function=lambda _: Measure(value=np.float32(0.5), n=np.int64(3)), use="a:b")
    score = own.score(EVIDENCE)
    assert (score.value, score.n, type(score.value), type(score.n)) == (0.5, 3, float, int)


def test_the_example_scores_what_it_says() -> None:
    labels = [("invoice", "invoice"), ("invoice", None), ("incident", "invoice")]
    evidence = Evidence(
        collection="notes",
        partition=None,
        labels=tuple(LabelEvidence(document=str(n), golden=g, predicted=p) for n, (g, p) in enumerate(labels)),
    )
    found = found_share(evidence, label="invoice")
    assert (found.value, found.n) == (0.5, 2)
    assert found.interval is not None
    assert (round(found.interval.low, 3), round(found.interval.high, 3)) == (0.095, 0.905)
    assert found_share(evidence, label="letter") == Measure(value=None, n=0)


# --- gates


@dataclass(frozen=True, kw_only=True)
class Judged:
    id: str
    score: float | None
    live: float | None
    verdict: str
    holds: bool
    by: float = 0.02


@pytest.mark.parametrize("case", [
    Judged(id="the first release", score=0.5, live=None, verdict="undecided", holds=False),
    Judged(id="better", score=0.9, live=0.8, verdict="passed", holds=False),
    Judged(id="as much worse as is allowed", score=0.75, live=1.0, verdict="passed", holds=False, by=0.25),
    Judged(id="worse", score=0.7, live=0.8, verdict="failed", holds=True),
    Judged(id="no score", score=None, live=0.8, verdict="undecided", holds=True),
], ids=lambda case: case.id)  # fmt: skip
def test_the_example_gate_compares_with_what_is_live(case: Judged) -> None:
    def score(value: float | None) -> list[Score]:
        return [] if value is None else [Score(metric="mrr", scope="corpus", stage=None, value=value, n=10)]

    gate = Gate(metric="mrr", use="examples.own_gate:no_worse_than_live", options={"by": case.by})
    bench = GateInputs(scores=score(case.score), pending=0, absent=0, live=score(case.live), live_release=4)
    (found,) = judge([gate], bench, {gate.name: no_worse_than_live})
    assert (found.name, found.verdict, found.holds) == ("mrr by no_worse_than_live", case.verdict, case.holds)
    if found.verdict in ("passed", "failed"):
        assert found.baseline == Baseline(kind="live", value=case.live, n=10, release=4)


def test_a_gate_that_raises_or_gives_no_verdict_is_named() -> None:
    gate = Gate(metric="mrr", use="here:mine")
    bench = GateInputs(scores=[], pending=0, absent=0)
    with pytest.raises(OwnCodeFailed, match="the gate here:mine failed: it returned True"):
        judge([gate], bench, {gate.name: lambda case: True})  # type: ignore[dict-item,return-value]
    with pytest.raises(OwnCodeFailed, match="the gate here:mine failed: KeyError: 'x'"):
        judge([gate], bench, {gate.name: lambda case: {}["x"]})


def test_an_own_gate_holds_a_worse_candidate_back_and_says_the_same_from_the_check_to_the_request(
    project: Project,
) -> None:
    gates = [{**GATE, "waivable": True}]
    collection = evaluated(project, metrics=[METRIC], gates=gates)
    project.refresh(collection)
    stores = project.stores()
    (first,) = current(stores.state, DAY).verdicts
    assert (first.verdict, first.holds) == ("undecided", False)
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    golden = [{"document": BILL, "label": "invoice"}, {"document": FIRE, "label": "invoice"}]
    (collection.folder / "golden.jsonl").write_text("\n".join(map(json.dumps, golden)))
    collection = load_collection(project.root / "collections", "notes")
    project.document(FIRE, "At 15:20 a fire broke out in hall 8; the pump failed and two were injured.")
    (check,) = [e for e in project.events(collection) if isinstance(e, CheckOutcome) and e.name == "gates"]
    request = current(stores.state, DAY)
    assert [GateVerdict.of(each) for each in check.details["verdicts"]] == list(request.verdicts)
    (worse,) = request.verdicts
    assert (worse.verdict, worse.value, worse.n, worse.stops) == ("failed", 0.5, 2, False)
    assert worse.baseline is not None
    assert (worse.baseline.kind, worse.baseline.value, worse.baseline.release) == ("live", 1.0, 1)
    assert worse.sentence in check.failures[0]
    decide(stores.state, collection, waivers={worse.name: "the label was wrong"})
    assert publish(collection, stores, by="test").release.number == 2


def test_a_gate_does_not_compare_with_scores_that_somebody_changed(project: Project) -> None:
    collection = evaluated(project, metrics=[METRIC], gates=[{**GATE, "options": {"by": 0.0}}])
    project.refresh(collection)
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    with stores.state.write() as connection:
        lower = sa.text("UPDATE review_requests SET summary = replace(summary, :high, :low)")
        connection.execute(lower, {"high": '"value":1.0', "low": '"value":0.1'})
    project.document(FIRE, "At 15:20 a fire broke out in hall 8; the pump failed and two were injured.")
    with pytest.raises(PartitionsFailed, match="its scores are not those that people were shown"):
        project.refresh(collection)


def test_the_page_of_a_request_shows_every_kind_of_verdict(project: Project) -> None:
    project.declare(stages=[dict(STAGE)])
    desk = desk_of(project)
    kinds = {
        "undecided and held": VERDICT,
        "undecided and let go": replace(VERDICT, name="two", holds=False, sentence="it waits"),
        "passed": replace(
            VERDICT, name="three", verdict="passed", holds=False, baseline=None, interval=None, value=None
        ),
        "failed": replace(VERDICT, name="four", verdict="failed", waivable=False, sentence="too low"),
    }
    request = asked(desk.stores, "notes", DAY, [document(1)], gates=[each.as_data() for each in kinds.values()])
    known(desk.stores.state, "ann")
    with served(desk) as running:
        ann = Visitor(running.url)
        with ann.http:
            ann.sign_in("ann")
            text = ann.get(f"/requests/{request.request_id}").text
            shown = ann.get(f"/api/requests/{request.request_id}").json()["gates"]
    assert "[0.800, 0.950], live 0.800, n = 10" in " ".join(text.split())
    assert "It does not hold the candidate back." in text
    assert "No approval overrides it." in text
    assert [(gate["verdict"], gate["passed"]) for gate in shown] == [
        ("undecided", False), ("undecided", True), ("passed", True), ("failed", False),
    ]  # fmt: skip
    assert shown[0]["baseline"]["release"] == 3


# --- checks


CHECK: Mapping[str, Any] = {"use": "examples.own_check:no_card_numbers", "asset": "documents"}
CARD = "Please charge 4111 1111 1111 1111 for the pump."


def checks_of(
    project: Project, collection: Collection, name: str
) -> tuple[list[CheckOutcome], PartitionsFailed | None]:
    found: list[CheckOutcome] = []
    try:
        for event in project.events(collection):
            if isinstance(event, CheckOutcome) and event.name == name:
                found.append(event)
    except PartitionsFailed as error:
        return found, error
    return found, None


@pytest.mark.parametrize("blocking", [False, True])
def test_an_own_check_fails_its_partition_only_if_it_blocks(project: Project, blocking: bool) -> None:
    project.documents(per_day=1, days=2)
    project.document(f"{DAY}/card.txt", CARD)
    collection = project.declare(
        partitions={**DAYS, "end": "2026-10-06"}, checks=[{**CHECK, "blocking": blocking}]
    )  # fmt: skip
    found, error = checks_of(project, collection, "no_card_numbers")
    assert {check.partition: (check.passed, check.blocking) for check in found} == {
        DAY: (False, blocking), "2026-10-06": (True, False),
    }  # fmt: skip
    assert (error is not None) is blocking
    if error is not None:
        assert list(error.errors) == [DAY]
        assert "the check no_card_numbers of documents refuses it: 1 documents hold" in error.errors[DAY]


def test_a_blocking_check_is_not_got_round_by_asking_for_the_candidate_alone(project: Project) -> None:
    project.document(f"{DAY}/card.txt", CARD)
    project.refresh(project.declare(partitions=ONE_DAY))
    strict = project.declare(partitions=ONE_DAY, checks=[{**CHECK, "blocking": True}])
    with pytest.raises(PartitionsFailed, match="no_card_numbers of documents refuses it"):
        project.refresh(strict, selected=["release_candidate"])


def test_an_own_check_is_an_asset_check_in_dagster_with_its_severity(project: Project) -> None:
    project.document(f"{DAY}/card.txt", CARD)
    collection = project.declare(partitions=ONE_DAY, checks=[dict(CHECK)])
    with project.instance() as opened:
        assert project.execute(
            opened,
            collection,
            "notes",
            **{"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY},
        ).success
        key = dg.AssetCheckKey(dg.AssetKey(["notes", "documents"]), "no_card_numbers")
        (record,) = opened.event_log_storage.get_asset_check_execution_history(key, limit=2)
        assert record.event is not None
        evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.metadata["documents_with_cards"].value == 1


def test_a_verdict_on_the_same_rows_is_not_asked_for_twice_and_another_option_asks_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.document(f"{DAY}/card.txt", CARD)
    calls = counting(project, monkeypatch)
    declared: dict[str, Any] = {"use": f"{calls.module}:counted", "asset": "documents"}
    for options, times in (({}, 1), ({}, 1), ({"column": "title"}, 2)):
        project.refresh(project.declare(partitions=ONE_DAY, checks=[{**declared, "options": options}]))
        assert calls.number() == times
    plain = project.declare(partitions=ONE_DAY)
    assert plain.settings_digest != project.declare(partitions=ONE_DAY, checks=[declared]).settings_digest


SEVERAL = """
from ai_assets.checks import Check, CheckResult, CheckSpec


class Rows(Check):
    'At least so many rows in every dataset of the text.'

    def __init__(self, least=1):
        self.least = least

    def spec(self, collection):
        return [
            CheckSpec(name="rows", asset=asset, description="Enough rows.", blocking=False)
            for asset in ("documents", "chunks")
        ]

    def run(self, context, dataset):
        number = dataset.table().num_rows
        said = [f"{number} rows are too few"] if number < self.least else []
        return CheckResult(passed=not said, failures=said, details={"rows": number})
"""


def test_a_check_that_is_a_class_speaks_for_several_assets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.root / "several_checks.py").write_text(SEVERAL)
    project.documents(per_day=2, days=1)
    monkeypatch.delitem(sys.modules, "several_checks", raising=False)
    declared = {"use": "several_checks:Rows", "options": {"least": 3}}
    found, error = checks_of(project, project.declare(partitions=ONE_DAY, checks=[declared]), "rows")
    assert [(check.asset, check.passed, check.failures) for check in found] == [
        ("documents", False, ["2 rows are too few"]), ("chunks", False, ["2 rows are too few"]),
    ]  # fmt: skip
    assert error is None
    blocked, error = checks_of(
        project, project.declare(partitions=ONE_DAY, checks=[{**declared, "blocking": True}]), "rows"
    )
    assert [check.asset for check in blocked] == ["documents"]
    assert "the check rows of documents refuses it: 2 rows are too few" in str(error)


def test_every_check_of_an_asset_is_made_before_one_that_blocks_ends_it(project: Project) -> None:
    project.document(f"{DAY}/card.txt", CARD)
    quality = {"documents": [{"expect": "expect_table_row_count_to_be_between", "min_value": 9}]}
    collection = project.declare(partitions=ONE_DAY, quality=quality, checks=[dict(CHECK)])
    found, error = checks_of(project, collection, "no_card_numbers")
    assert [check.passed for check in found] == [False]
    assert "the quality suite of documents refuses it" in str(error)


@dataclass(frozen=True)
class Counting:
    module: str
    log: Path

    def number(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def counting(project: Project, patch: pytest.MonkeyPatch) -> Counting:
    """A check of the project's own, in a module beside `definitions.py`, that writes a line when it is run."""
    module, log = f"checks_{abs(hash(project.root))}", project.root / "calls.txt"
    (project.root / f"{module}.py").write_text(
        textwrap.dedent(f"""
        from pathlib import Path

        from ai_assets.checks import CheckResult, check


        @check
        def counted(context, dataset, *, column="text"):
            with Path({str(log)!r}).open("a") as file:
                file.write("asked\\n")
            return CheckResult(passed=all(row[column] for row in dataset.rows()))
    """)
    )
    return Counting(module, log)


# --- what does not fit


@dataclass(frozen=True, kw_only=True)
class Wrong:
    id: str
    says: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


def refused(id_: str, says: str, **attributes: Any) -> Wrong:
    return Wrong(id=id_, says=says, attributes=attributes)


WRONG: Sequence[Wrong] = (
    refused("no module", "metrics.0: the metric 'nowhere.here:x' cannot be used: importing nowhere.here failed: ModuleNotFoundError", metrics=["nowhere.here:x"]),
    refused("no such name", "examples.own_metric has no 'found_shar'; did you mean 'found_share'?", metrics=["examples.own_metric:found_shar"]),
    refused("no metric", "it is not marked with @metric", metrics=["examples.own_metric:wilson"]),
    refused("no entry point", "no entry point of the group ai_assets.metrics has that name", metrics=["precision"]),
    refused("not a reference", "it is not of the form module:name", metrics=["examples own:x"]),
    refused("name of a built-in metric", "a metric 'mrr' is there already", metrics=[{**METRIC, "name": "mrr"}]),
    refused("no golden labels", "it scores golden labels, and none are declared", metrics=[METRIC], golden={}),
    refused("stage of a golden metric", "'stage' is for a metric of rows", metrics=[{**METRIC, "stage": "kind"}]),
    refused("unknown stage", "unknown stage 'kin'; did you mean 'kind'?", metrics=[{**METRIC, "stage": "kin"}]),
    refused("gate on no metric", "gates.0.metric: unknown metric 'acuracy'; did you mean 'accuracy'?", gates=[{"metric": "acuracy", "min": 0.5}]),
    refused("gate without a judge", "gates.0.min: is missing", gates=[{"metric": "accuracy"}]),
    refused("gate with two", "gates.0.min: it has no meaning with 'use'", gates=[{"metric": "accuracy", "min": 0.5, "use": "a:b"}]),
    refused("option that is no plain value", "metrics.0.options: the option 'since' is no plain value", metrics=[{**METRIC, "options": {"label": "x", "since": datetime.date(2026, 1, 1)}}]),
    refused("misspelt option of a metric", "its options: missing a required argument: 'label'", metrics=["examples.own_metric:found_share"]),
    refused("misspelt option of a gate", "gates.0: the gate 'examples.own_gate:no_worse_than_live' cannot be used: its options: got an unexpected keyword argument 'bye'", gates=[{"metric": "accuracy", "use": "examples.own_gate:no_worse_than_live", "options": {"bye": 1}}]),
    refused("misspelt option of a check", "its options: got an unexpected keyword argument 'colum'", checks=[{**CHECK, "options": {"colum": "text"}}]),
    refused("no gate", "it is not marked with @gate", gates=[{"metric": "accuracy", "use": "examples.own_metric:wilson"}]),
    refused("one gate twice", "is here already", metrics=[METRIC], gates=[dict(GATE), dict(GATE)]),
    refused("check of no asset", "say under 'asset' which asset it looks at", checks=["examples.own_check:no_card_numbers"]),
    refused("check of an unknown asset", "checks.0: 'document' is no asset of the collection; did you mean 'documents'?", checks=[{**CHECK, "asset": "document"}]),
    refused("check with a taken name", "documents has a check 'quality' already", checks=[{**CHECK, "name": "quality"}]),
    refused("check twice", "documents has a check 'no_card_numbers' already", checks=[dict(CHECK), dict(CHECK)]),
    refused("check that blocks a candidate", "let the check block an asset before it", checks=[{**CHECK, "asset": "release_candidate", "blocking": True}]),
    refused("no check", "it is neither marked with @check nor a Check", checks=[{**CHECK, "use": "examples.own_metric:wilson"}]),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_what_is_not_there_or_does_not_fit_is_refused_with_its_place(project: Project, wrong: Wrong) -> None:
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True)
    (folder / "golden.jsonl").write_text(json.dumps({"document": BILL, "label": "invoice"}))
    declared = {"partitions": ONE_DAY, "stages": [dict(STAGE)], "golden": {"labels": "golden.jsonl"}}
    with pytest.raises(CollectionInvalid) as found:
        project.declare(**{**declared, **wrong.attributes})
    assert wrong.says in str(found.value)
    assert str(found.value).startswith(f"{folder / 'defs.yaml'}:")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with entry points, as pip would have installed it."""
    meta = tmp_path / "site" / "house_style-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: house-style\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(
        "[ai_assets.metrics]\nfound_share = examples.own_metric:found_share\n"
        "[ai_assets.gates]\nno_worse = examples.own_gate:no_worse_than_live\n"
        "[ai_assets.checks]\nno_cards = examples.own_check:no_card_numbers\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    return


@pytest.mark.usefixtures("installed")
def test_metric_gate_and_check_are_found_by_entry_point(project: Project) -> None:
    collection = evaluated(
        project,
        metrics=[{**METRIC, "use": "found_share"}],
        gates=[{**GATE, "use": "no_worse"}],
        checks=[{**CHECK, "use": "no_cards"}],
    )
    events = list(project.events(collection))
    assert {event.name for event in events if isinstance(event, CheckOutcome)} == {"gates", "no_cards"}
    assert [verdict.name for verdict in current(project.stores().state, DAY).verdicts] == ["invoices_found by no_worse"]
    assert [event.manifest.asset for event in events if isinstance(event, Outcome)][-1] == "release_candidate"


SAMPLES = {
    "handbook": ("4daae3375477a83f", "d7c4e6b45863244f", "c07dae8dd0c8be56"),
    "reports": ("0a9038e407dbcab1", "56571c0e756be4c8", "f0e4bf3493e83bc1"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_versions_of_the_samples_are_those_from_before_the_seams(name: str) -> None:
    """A home of that time goes on: nothing is stale, and no approval is void."""
    found = load_collection(REPOSITORY / "collections", name)
    versions = [found.code_versions[asset] for asset in ("evaluation_scores", "release_candidate")]
    assert (*versions, found.settings_digest) == SAMPLES[name]
