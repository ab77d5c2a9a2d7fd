"""Claims about `ai-assets ledger`: real commands on a store that a real engine filled, with answers that got lost."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import REPOSITORY, Project
from provider import Provider
from signing import PASSWORD, known

from ai_assets.cli.output import money
from ai_assets.inference import history
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import EngineClosed
from ai_assets.inference.history import Attempt
from ai_assets.inference.records import Caller, Request, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.spend import spend
from ai_assets.signoff import audit, verification
from ai_assets.storage.state import StateStore

SECRET = "h0w-t0-pay"
CALLER = Caller(collection="mail", asset="kind", partition="2026-10-06", run_id="run-1")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(hang_s=60) as started:
        yield started


@dataclass(frozen=True)
class Desk:
    """A project with a store, a provider, and the command."""

    project: Project
    provider: Provider
    url: str

    def engine(self) -> Engine:
        return Engine(settings(self.provider), StateStore(self.url))

    def ask(self, *texts: str, caller: Caller = CALLER) -> list[Result]:
        with self.engine() as engine:
            return list(engine.map([request(text) for text in texts], caller))

    def lose(self, *texts: str, caller: Caller = CALLER) -> list[Attempt]:
        """Ask, and lose the first answer to each; what may have been billed, the latest first."""
        self.provider.script([{"match": text, "fault": "reset_after"} for text in texts])
        self.ask(*texts, caller=caller)
        return self.attempts(state="ambiguous")

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        result = self.project.cli("ledger", *arguments)
        assert SECRET not in result.stdout + result.stderr
        return result

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        return json.loads(result.stdout)

    def attempts(self, **scope: Any) -> list[Attempt]:
        with StateStore(self.url).read() as connection:
            return history.attempts(connection, **scope)

    def budget(self) -> tuple[int, int, int]:
        """Of the budget of everything: spent, in flight, maybe billed."""
        with StateStore(self.url).read() as connection:
            row = connection.execute(sa.text("SELECT * FROM budgets WHERE name = 'all'")).one()
        return row.spent_nusd, row.reserved_nusd, row.held_nusd


def settings(provider: Provider) -> InferenceSettings:
    endpoint = {
        "base_url": provider.url,
        "key": "MODEL_KEY",
        "model": "rehearsal-mini",
        "errors_are_free": True,
        "prices": [{"from": "2026-01-01", "input": 2.5, "output": 10}],
    }
    return InferenceSettings.model_validate({
        "endpoints": {"mini": endpoint},
        "routes": {"default": {"endpoints": ["mini"]}},
        "retries": {"all": {"connection_lost": {"base_s": 0, "attempts": 2}}},
        "budgets": [{"name": "all", "limit_usd": 5}, {"name": "each-run", "limit_usd": 1, "each": "run"}],
    })  # fmt: skip


def request(text: str) -> Request:
    return Request(messages=({"role": "user", "content": text},), document=f"{text}.txt", max_output_tokens=100)


@pytest.fixture
def new_desk(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Desk]:
    monkeypatch.setenv("MODEL_KEY", SECRET)
    provider.reset()

    def made(url: str) -> Desk:
        monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
        return Desk(project, provider, url)

    return made


@pytest.fixture
def desk(new_desk: Callable[[str], Desk], project: Project) -> Desk:
    return new_desk(project.home.state_url)


def test_the_list_tells_when_who_what_and_how_much(desk: Desk) -> None:
    desk.provider.script([{"match": "leak", "fault": "context_too_long"}])
    desk.ask("pump", "leak")
    desk.ask("invoice", caller=Caller(collection="bills", asset="due", run_id="run-2"))
    (line,) = [line for line in desk.run("list").stdout.splitlines() if "invoice" in line]
    (item,) = desk.attempts(asset="due")
    day, second = item.sent_at[:19].split("T")
    tokens = [str(item.input_tokens), "+", str(item.output_tokens)]
    assert item.cost_usd is not None
    assert line.split()[:-1] == [day, second, item.call[:12], item.attempt, "bills/due", "invoice.txt", "mini",
                                 "settled", *tokens, money(item.cost_usd)]  # fmt: skip
    failed = next(item for item in desk.json("list", "--state", "failed") if item["document"] == "leak.txt")
    assert (failed["error"], failed["cost_usd"]) == ("context_too_long", 0.0)


@pytest.mark.parametrize(
    ("options", "documents"),
    [
        (["--collection", "mail"], ["leak.txt", "pump.txt"]),
        (["--asset", "due"], ["invoice.txt"]),
        (["--run", "run-2"], ["invoice.txt"]),
        (["--run", "run"], ["invoice.txt", "leak.txt", "pump.txt"]),
        (["--document", "pump.txt", "--state", "settled"], ["pump.txt"]),
        (["--limit", "1"], ["invoice.txt"]),
        (["--state", "intent"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_list_can_be_narrowed(desk: Desk, options: list[str], documents: list[str]) -> None:
    desk.ask("pump", "leak")
    desk.ask("invoice", caller=Caller(collection="bills", asset="due", run_id="run-2"))
    assert sorted(item["document"] for item in desk.json("list", *options)) == documents


def test_a_call_is_shown_with_every_attempt_its_answer_and_who_used_it_again(
    new_desk: Callable[[str], Desk], state_url: str
) -> None:
    desk = new_desk(state_url)
    (lost,) = desk.lose("pump " * 200)
    desk.ask("pump " * 200, caller=Caller(collection="bills", asset="due", run_id="run-2"))
    found = desk.json("show", lost.call[:9])
    first, second = found["attempts"]
    assert (first["state"], second["state"], second["previous"]) == ("ambiguous", "settled", first["attempt"])
    assert found["answered_by"] == second["attempt"]
    assert found["cost_usd"] == second["cost_usd"] == found["saved_usd"]
    assert found["maybe_usd"] == first["reserved_usd"]
    assert [(reuse["asset"], reuse["times"]) for reuse in found["reuses"]] == [("due", 1)]
    shown = desk.run("show", second["attempt"]).stdout
    assert f"Call {lost.call}" in shown
    assert "... (all of it: --full)" in shown
    assert "bills/due" in shown.split("Used again")[1]
    assert found["text"] in desk.run("show", lost.call, "--full").stdout.replace("\n", " ").replace("  ", " ")


def test_a_vector_is_shown_by_its_length(desk: Desk) -> None:
    with desk.engine() as engine:
        engine.call(Request(text="pump", kind="embed"), CALLER)
    assert "a vector of " in desk.run("show", desk.attempts()[0].call).stdout


def test_a_prefix_that_fits_several_calls_names_them(desk: Desk) -> None:
    desk.ask(*(f"question {number}" for number in range(17)))  # 16 digits: two of them share the first
    keys = sorted(item.call for item in desk.attempts())
    shared = next(a[0] for a, b in pairwise(keys) if a[0] == b[0])
    result = desk.run("show", shared)
    assert result.returncode == 2
    assert all(key in result.stderr for key in keys if key.startswith(shared))


@pytest.mark.parametrize("asked", ["0123456789zz", "77-1", "", "%"])
def test_an_unknown_call_is_answered_with_those_there_are(desk: Desk, asked: str) -> None:
    desk.ask("pump")
    result = desk.run("show", asked)
    assert result.returncode == 2
    assert f"no call or attempt '{asked}'" in result.stderr
    assert desk.attempts()[0].call[:12] in result.stderr


def test_what_may_have_been_billed_is_listed_with_its_total(desk: Desk) -> None:
    assert "known whether it was billed" in desk.run("ambiguous").stdout
    lost = desk.lose("pump", "leak")
    said = desk.run("ambiguous").stdout
    assert f"2 attempts, {money(sum(item.reserved_usd for item in lost))} at most" in said
    assert f"ai-assets ledger resolve {lost[0].attempt} --billed" in said


@pytest.mark.parametrize(
    ("verdict", "share"),
    [(["--billed"], 1.0), (["--billed", "--usd", "0.001"], None), (["--not-billed"], 0.0)],
    ids=["billed", "billed in part", "not billed"],
)
def test_a_verdict_moves_the_money_and_is_in_the_audit_trail(
    new_desk: Callable[[str], Desk], state_url: str, verdict: list[str], share: float | None
) -> None:
    desk = new_desk(state_url)
    (lost,) = desk.lose("pump")
    spent, _, held = desk.budget()
    assert held == round(lost.reserved_usd * 1e9)
    (told,) = desk.json("resolve", lost.call[:12], *verdict, "--by", "maria", "--note", "bill of October")
    cost = 1_000_000 if share is None else round(held * share)
    assert told["cost_nusd"] == cost
    assert desk.budget() == (spent + cost, 0, 0)
    (resolved,) = desk.attempts(state="failed")
    assert (resolved.attempt, resolved.error, resolved.cost_usd) == (lost.attempt, "connection_lost", cost / 1e9)
    assert resolved.message
    assert f"by maria at {resolved.message.split(' at ')[1]}" in resolved.message
    assert resolved.message.endswith(": bill of October")
    state = StateStore(desk.url, keys=desk.project.home.keys)
    with state.read() as connection:
        (record,) = audit.records(connection, collection="mail")
    assert (record.actor, record.action, record.subject["attempt"]) == ("maria", "resolved", lost.attempt)
    assert verification.verify(state).records == 1
    assert desk.project.cli("audit", "verify").returncode == 0


def test_a_verdict_takes_an_administrator_who_proves_it_where_anybody_is_known(desk: Desk) -> None:
    (lost,) = desk.lose("pump")
    state = StateStore(desk.url)
    known(state, "ada", "admin", "mail")
    known(state, "ann", "approver")
    known(state, "eve", "admin", "claims")

    def resolve(by: str, **environment: str) -> Any:
        return desk.project.cli("ledger", "resolve", lost.attempt, "--not-billed", "--by", by, **environment)

    before = desk.budget()
    for by, environment, says in [
        ("ada", {}, "AI_ASSETS_PASSWORD"),
        ("ada", {"AI_ASSETS_PASSWORD": "guessed-wrongly"}, "That name and password do not belong"),
        ("ann", {"AI_ASSETS_PASSWORD": PASSWORD}, "saying what was billed takes the role admin in mail"),
        ("eve", {"AI_ASSETS_PASSWORD": PASSWORD}, "saying what was billed takes the role admin in mail"),
    ]:
        refused = resolve(by, **environment)
        assert refused.returncode == 2
        assert says in refused.stderr
        assert desk.budget() == before, by
    assert resolve("ada", AI_ASSETS_PASSWORD=PASSWORD).returncode == 0
    with StateStore(desk.url, keys=desk.project.home.keys).read() as connection:
        (record,) = audit.records(connection, collection="mail")
    assert (record.actor, record.action) == ("ada", "resolved")


def test_a_verdict_is_given_once(desk: Desk) -> None:
    (lost,) = desk.lose("pump")
    assert desk.run("resolve", lost.attempt, "--billed", "--by", "maria").returncode == 0
    before = desk.budget(), desk.attempts()
    for asked in (lost.attempt, lost.call):
        again = desk.run("resolve", asked, "--not-billed")
        assert again.returncode == 2
        assert "nothing to resolve" in again.stderr
    assert "resolved as billed" in desk.run("resolve", lost.attempt, "--billed").stderr
    assert (desk.budget(), desk.attempts()) == before


def test_an_answered_call_is_not_touched_and_neither_is_what_was_named_beside_it(desk: Desk) -> None:
    (lost,) = desk.lose("pump")
    desk.ask("leak")
    (answered,) = desk.attempts(document="leak.txt")
    before = desk.budget(), desk.attempts()
    result = desk.run("resolve", lost.attempt, answered.attempt, "--not-billed")
    assert result.returncode == 2
    assert f"{answered.attempt} of call {answered.call[:12]} is settled" in result.stderr
    assert (desk.budget(), desk.attempts()) == before
    assert verification.verify(StateStore(desk.url, keys=desk.project.home.keys)).records == 0


def test_a_run_is_resolved_whole_and_no_other(desk: Desk) -> None:
    desk.lose("pump", "leak")
    desk.lose("invoice", caller=Caller(run_id="run-2"))
    told = desk.json("resolve", "--all-of-run", "run-1", "--not-billed")
    assert len(told) == 2
    assert [item.run_id for item in desk.attempts(state="ambiguous")] == ["run-2"]
    again = desk.run("resolve", "--all-of-run", "run-1", "--not-billed")
    assert again.returncode == 2
    assert "Run 'run-1' has no attempt" in again.stderr


@dataclass(frozen=True, kw_only=True)
class Mistake:
    id: str
    arguments: list[str]
    says: str


MISTAKES = [
    Mistake(id="nothing named", arguments=["--billed"], says="name calls or attempts"),
    Mistake(id="both named", arguments=["1-1", "--all-of-run", "run-1", "--billed"], says="name calls or attempts"),
    Mistake(id="no verdict", arguments=["1-1"], says="--not-billed"),
    Mistake(id="dollars not billed", arguments=["1-1", "--not-billed", "--usd", "1"], says="does not go with"),
    Mistake(id="dollars for several", arguments=["--all-of-run", "run-1", "--billed", "--usd", "0"], says="several"),
    Mistake(id="too many dollars", arguments=["1-1", "--billed", "--usd", "4"], says="cannot have cost $4"),
    Mistake(id="less than nothing", arguments=["1-1", "--billed", "--usd", "-1"], says="cannot have cost $-1"),
    Mistake(id="no number of dollars", arguments=["1-1", "--billed", "--usd", "nan"], says="cannot have cost"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_is_said_and_changes_nothing(desk: Desk, mistake: Mistake) -> None:
    desk.lose("pump", "leak")
    first = next(item.attempt for item in desk.attempts(state="ambiguous"))
    before = desk.budget(), desk.attempts()
    result = desk.run("resolve", *(first if argument == "1-1" else argument for argument in mistake.arguments))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert mistake.says in " ".join(result.stderr.replace("│", " ").split())
    assert (desk.budget(), desk.attempts()) == before


@pytest.mark.slow
def test_a_call_in_flight_is_left_alone_while_its_process_lives(desk: Desk) -> None:
    desk.provider.script([{"match": "pump", "fault": "hang"}])
    with desk.engine() as engine, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.call, request("pump"), CALLER)
        flying = wait_for(lambda: desk.attempts(state="intent"))
        result = desk.run("resolve", flying[0].attempt, "--not-billed")
        assert result.returncode == 2
        assert "is in flight" in result.stderr
        assert desk.json("ambiguous") == []
        assert desk.attempts(state="intent") == flying
        engine.close()
        assert isinstance(waiting.exception(), EngineClosed)


KILLED = """
import sys
sys.path[:0] = [{tests!r}]
from provider import Provider
from ai_assets.inference.engine import Engine
from ai_assets.storage.state import StateStore
from test_ledger_cli import CALLER, request, settings

provider = Provider()
provider.url = {url!r}
list(Engine(settings(provider), StateStore({store!r})).map([request("pump")], CALLER))
"""


@pytest.mark.slow
def test_a_call_of_a_killed_process_may_have_been_billed(new_desk: Callable[[str], Desk], state_url: str) -> None:
    desk = new_desk(state_url)
    desk.provider.script([{"match": "pump", "fault": "hang"}])
    program = KILLED.format(tests=str(REPOSITORY / "tests"), url=desk.provider.url, store=state_url)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    (flying,) = wait_for(lambda: desk.attempts(state="intent"))
    process.kill()
    process.wait()
    (lost,) = desk.json("ambiguous")
    assert lost["attempt"] == flying.attempt
    assert "ended before the answer was written" in lost["message"]
    assert desk.run("resolve", flying.attempt, "--not-billed").returncode == 0
    assert desk.budget() == (0, 0, 0)


def test_a_question_that_was_held_is_asked_again_after_the_verdict(desk: Desk) -> None:
    desk.provider.script([{"match": "pump", "fault": "reset_after"}])
    held = Request(messages=({"role": "user", "content": "pump"},), on_ambiguous="hold")
    with desk.engine() as engine:
        first, second = engine.call(held, CALLER), engine.call(held, CALLER)
        assert [getattr(result, "error", None) for result in (first, second)] == ["held", "held"]
        assert desk.run("resolve", first.call, "--billed").returncode == 0
        assert getattr(engine.call(held, CALLER), "text", None) is not None


def test_what_calls_came_to_is_counted_in_either_database(new_desk: Callable[[str], Desk], state_url: str) -> None:
    desk = new_desk(state_url)
    (lost,) = desk.lose("pump")
    desk.ask(*(f"question {number}" for number in range(19)), "pump")
    desk.ask("invoice", caller=Caller(run_id="run-2"))
    answered = desk.attempts(run="run-1", state="settled")
    waits = sorted(item.latency_s or 0.0 for item in answered)
    with StateStore(state_url).read() as connection:
        found = spend(connection, run_id="run-1", collection="mail", asset="kind", partition="2026-10-06")
        assert spend(connection).calls == 21
        assert spend(connection, tenant="legal").p50_s is None
    assert (found.calls, found.attempts, found.reused, found.errors) == (20, 21, 1, {"connection_lost": 1})
    assert (found.p50_s, found.p95_s, found.p99_s) == (waits[9], waits[18], waits[19])
    assert found.cost_usd == pytest.approx(sum(item.cost_usd or 0.0 for item in answered), abs=1e-12)
    assert found.maybe_usd == lost.reserved_usd
    assert found.input_tokens == sum(item.input_tokens or 0 for item in answered)


def test_budgets_show_what_is_spent_maybe_billed_and_left(desk: Desk) -> None:
    assert "No call was reserved" in desk.run("budgets").stdout
    (lost,) = desk.lose("pump")
    rows = {row["budget"]: row for row in desk.json("budgets")}
    assert set(rows) == {"all/ever", "each-run/ever/run-1"}
    row = rows["all/ever"]
    assert (row["limit_usd"], row["in_flight_usd"], row["maybe_usd"]) == (5.0, 0.0, lost.reserved_usd)
    assert row["left_usd"] == pytest.approx(5 - row["spent_usd"] - row["maybe_usd"], abs=1e-12)
    line = next(line for line in desk.run("budgets").stdout.splitlines() if "all/ever" in line)
    assert line.split()[-1] == "█▒" + "░" * 18


def test_attempts_are_in_the_order_in_which_they_followed_each_other() -> None:
    assert history.attempt_id(history.name_of(7 << 32 | 12)) == 7 << 32 | 12
    assert [history.attempt_id(text) for text in ("7-", "-7", "a-1", "7", "99999999999-1")] == [None] * 5


def wait_for(found: Callable[[], list[Attempt]]) -> list[Attempt]:
    deadline = time.monotonic() + 300
    while not (there := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return there
