"""The printed interval is honest: what the run that follows costs lies inside it, on several seeds of the provider.

Both before anything was ever asked, and after an edit of a prompt, when there are answers to learn from.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Project
from engines import endpoint, question, rows
from provider import Provider
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference.identity import body_of
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import Endpoint, TokenPrice
from ai_assets.planning.estimate import Estimate, estimate, money_of
from ai_assets.planning.past import PastQuestion, PastQuestions
from ai_assets.planning.plan import Plan, plan
from ai_assets.planning.records import CERTAIN, Chance, Range
from ai_assets.planning.tokens import PER_MESSAGE, PER_REQUEST, TokenizerUnusable, counter_for
from ai_assets.planning.totals import CallGroup, Tally, TokenStatistics
from ai_assets.run.refresh import refresh

pytestmark = pytest.mark.slow

FAULTS: Mapping[int, Mapping[str, float]] = {
    1: {},
    2: {"server_error": 0.05, "schema_violation": 0.1},
    3: {"rate_limited_bare": 0.1, "schema_violation": 0.2},
}
"""By seed of the provider: from one that never fails to one that is often wrong."""
SUBJECTS = (
    "an invoice with tax and a total due of {n}0 EUR",
    "an accident: a fire broke out in hall {n}, cause a leak",
)
QUICK = "retries: {all: {server_error: {base_s: 0}, rate_limited: {base_s: 0, cap_s: 0}}}\n"


@pytest.fixture(params=sorted(FAULTS))
def seeded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider(seed=request.param, fault=FAULTS[request.param], latency_ms=1) as started:
        monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", started.url)
        yield started


def planned(project: Project, collection: Collection) -> Plan:
    with project.stores() as stores:
        return plan(collection, stores, load_inference(project.home.inference))


def spent_nusd(project: Project) -> int:
    (row,) = rows(project.home.state_url, "SELECT coalesce(sum(cost_nusd), 0) AS nusd FROM attempts")
    return int(row.nusd)


def run_and_compare(project: Project, collection: Collection, run_id: str) -> Plan:
    """Plan, then run; the actual cost must lie inside. The plan, to say more of it."""
    found, before = planned(project, collection), spent_nusd(project)
    with project.work(collection, run_id) as work:
        for _ in refresh(work, sorted(work.listing.by_partition)):
            pass
    actual = spent_nusd(project) - before
    assert found.money.low_nusd <= actual <= found.money.high_nusd, (found.money, actual)
    assert planned(project, collection).money.low_nusd == 0
    return found


def edited(project: Project, name: str, prompt: str, old: str, new: str) -> Collection:
    path = project.root / "collections" / name / prompt
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace("version: 1", "version: 2").replace(old, new), encoding="utf-8")
    return load_collection(project.root / "collections", name)


def test_the_sample_reports_costs_what_the_plan_said(project: Project, seeded: Provider) -> None:
    shutil.copytree(REPOSITORY / "collections" / "reports", project.root / "collections" / "reports")
    shutil.copy(REPOSITORY / "inference.yaml", project.root)
    with (project.root / "inference.yaml").open("a") as file:
        file.write(QUICK)
    first = run_and_compare(project, load_collection(project.root / "collections", "reports"), "first")
    assert first.stages[0].new_calls == 24
    again = edited(project, "reports", "prompts/triage.md", "Judge what the sender wants", "Weigh what the sender asks")
    second = run_and_compare(project, again, "second")
    triage = second.stages[0]
    assert (triage.new_calls, triage.kept, triage.reused) == (24, 0, 0)
    spread = second.money.high_nusd / second.money.low_nusd
    assert spread < first.money.high_nusd / first.money.low_nusd


def test_a_generated_collection_costs_what_the_plan_said(project: Project, seeded: Provider) -> None:
    (project.root / "inference.yaml").write_text(PRICED + QUICK)
    (project.root / "collections" / "notes").mkdir()
    (project.root / "collections" / "notes" / "kind.md").write_text(PROMPT)
    for n in range(45):
        subject = SUBJECTS[n % 2].format(n=n)
        project.document(
            f"2026-10-{5 + n % 3:02d}/{n}.txt", f"Note {n}. This is about {subject}.\n" + "More. " * (n * 7)
        )
    collection = project.declare(stages=STAGES, embedding={"route": "vectors", "dimensions": 256})
    first = run_and_compare(project, collection, "first")
    assert {stage.stage for stage in first.stages} == {"embeddings", "kind", "brief"}
    again = edited(project, "notes", "kind.md", "Which kind", "Of which kind")
    run_and_compare(project, again, "second")


PRICED = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 4}]}
  vectors: {base_url: rehearsal, model: vectors, prices: [{from: 2026-01-01, input: 0.1}]}
routes:
  default: {endpoints: [small]}
"""
PROMPT = """\
---
version: 1
author: tests
---
## user
<document>
{{ document.text }}
</document>
Which kind is it?
"""
LABELS = [
    {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    {"name": "incident", "description": "A report on an accident, a fire, a leak or an outage, and its cause."},
]
STAGES: list[dict[str, Any]] = [
    {"name": "kind", "kind": "classify", "route": "small", "labels": LABELS, "prompt": "kind.md"},
    {"name": "brief", "kind": "summarise", "when": {"kind": ["incident"]}},
]


# How tokens are counted, and what is made of the counts


def test_a_declared_tokenizer_counts_the_tokens_of_the_model(tmp_path: Path) -> None:
    Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(str(tmp_path / "plain.json"))
    found = Tokenizer.from_file(str(tmp_path / "plain.json"))
    found.pre_tokenizer = Whitespace()
    found.save(str(tmp_path / "words.json"))
    declared = Endpoint.model_validate({**endpoint("http://127.0.0.1:1/v1"), "tokenizer": "words.json"})
    counter = counter_for("small", declared, tmp_path)
    assert counter is not None
    body = body_of(declared, question(1))
    words = len(re.findall(r"\w+|[^\w\s]+", question(1).messages[0]["content"]))
    assert counter(body) == words + PER_MESSAGE + PER_REQUEST


@pytest.mark.parametrize(("text", "says"), [(None, "there is no such file"), ("{}", "that cannot be read as one")])
def test_a_tokenizer_that_is_none_is_one_sentence(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "words.json").write_text(text)
    declared = Endpoint.model_validate({**endpoint("http://127.0.0.1:1/v1"), "tokenizer": "words.json"})
    with pytest.raises(TokenizerUnusable, match=f"Endpoint 'small' names the tokenizer .*words.json, and {says}"):
        counter_for("small", declared, tmp_path)


def test_nobody_counts_where_the_tokenizer_is_not_known(tmp_path: Path) -> None:
    declared = Endpoint.model_validate(endpoint("http://127.0.0.1:1/v1"))
    assert counter_for("small", declared, tmp_path) is None


def asked(number: int, **more: Any) -> PastQuestion:
    usual = {"key": str(number), "document": str(number), "model": "small", "prompt": "1", "input_tokens": 100,
             "cached_tokens": 0, "output_tokens": 40 + number % 5, "cost_nusd": 1000, "more_nusd": 0, "calls": 1,
             "latency_s": 0.5}  # fmt: skip
    return PastQuestion(**{**usual, **more})


def tally(calls: float, chance: Chance = CERTAIN, **more: Any) -> Tally:
    made = Tally(
        stage="kind",
        kind="classify",
        route="mini",
        endpoint="mini",
        max_output_tokens=500,
        prompt="1",
        usual_output=(15, 80),
        **more,
    )
    made.groups["mini", chance] = CallGroup(calls=calls, size=calls * 400)
    made.calls["mini"] = int(calls)
    return made


def estimated(made: Tally, past: PastQuestions) -> Estimate:
    alike, words = past.alike("small", "1")
    return estimate(made, {"mini": Endpoint.model_validate(endpoint("http://127.0.0.1:1/v1"))}, past, alike, words)


def test_without_answers_the_most_an_answer_may_be_bounds_the_output() -> None:
    found = estimated(tally(10), PastQuestions())
    assert found.total("output_tokens") == Range(low=150, likely=800, high=5000)
    assert (found.tokens_from, found.total("input_tokens")) == ("bytes", Range(low=500, likely=1000, high=2000))


def test_answers_of_the_stage_narrow_the_output() -> None:
    found = estimated(tally(10), PastQuestions([asked(n) for n in range(20)])).total("output_tokens")
    assert found.likely == 420
    assert 350 < found.low < 420 < found.high < 500


def test_answers_to_another_prompt_count_with_more_room() -> None:
    same = estimated(tally(10), PastQuestions([asked(n) for n in range(20)])).total("output_tokens")
    other = estimated(tally(10), PastQuestions([asked(n, prompt="0") for n in range(20)])).total("output_tokens")
    assert other.likely == same.likely
    assert other.low < same.low < same.high < other.high


def test_repairs_that_were_paid_for_raise_the_cost() -> None:
    spoilt = [asked(n, more_nusd=2000 if n % 5 == 0 else 0) for n in range(20)]
    factor = estimated(tally(100), PastQuestions(spoilt)).factor
    assert factor.likely == pytest.approx(1.4)
    assert factor.low < 1.4 < factor.high


def test_tokens_are_learnt_from_past_calls_where_nobody_can_count_them() -> None:
    pairs = [(400, 120, True)] * 6
    found = estimated(tally(10, pairs=pairs), PastQuestions([asked(n) for n in range(6)]))
    assert found.tokens_from == "an estimate learnt from 6 calls"
    assert found.total("input_tokens").likely == pytest.approx(1200)


def test_files_that_nobody_read_widen_the_interval() -> None:
    read, unread = tally(10), tally(5)
    unread.unread[CERTAIN] = CallGroup(calls=5, size=5 * 400)
    unread.asked, unread.asked_bytes, unread.text_bytes = 5, 5 * 400, 5 * 400  # nothing stands around the documents
    known, guessed = estimated(read, PastQuestions()), estimated(unread, PastQuestions())
    assert guessed.total("calls") == known.total("calls")
    assert guessed.factor.low == pytest.approx(known.factor.low * 0.875)
    assert guessed.factor.high == pytest.approx(known.factor.high * 1.125)


def test_a_condition_nobody_knows_of_may_let_through_none_or_all() -> None:
    calls = estimated(tally(12, Chance(0.0, 0.5, 1.0)), PastQuestions()).total("calls")
    assert calls == Range(low=0, likely=6, high=12)


def test_a_sample_says_how_far_its_ratio_may_be_off() -> None:
    even, uneven = TokenStatistics(), TokenStatistics()
    for n in range(100):
        even.add(100, 400)
        uneven.add(100 + 50 * (-1) ** n, 400)
    assert even.ratio() == Range(low=0.25, likely=0.25, high=0.25)
    assert uneven.ratio().likely == 0.25
    assert 0.2 < uneven.ratio().low < 0.25 < uneven.ratio().high < 0.3


def test_the_low_end_takes_the_price_of_cached_tokens_where_they_may_be() -> None:
    price = TokenPrice.model_validate({"from": "2026-01-01", "input": 1.0, "cached_input": 0.1, "output": 0})
    plain = money_of(estimated(tally(10), PastQuestions()), {"mini": price})
    cached = money_of(estimated(tally(10), PastQuestions([asked(1, cached_tokens=50)])), {"mini": price})
    assert cached.low_nusd == plain.low_nusd // 10
