"""Claims about `ai-assets ledger reconcile`: the provider's own bill decides what its daily totals prove, no more."""

import csv
import datetime
import hashlib
import io
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from conftest import Project
from engines import PRICE, check_books, endpoint, question, questions, rows, settings
from hypothesis import given
from hypothesis import strategies as st
from provider import Provider
from signing import PASSWORD, known

from ai_assets.inference.engine import Engine
from ai_assets.inference.reconciling import shares
from ai_assets.inference.records import Caller, Request, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.usage_files import UsageFileInvalid, read_usage
from ai_assets.signoff import audit, verification
from ai_assets.storage.state import StateStore

CALLER = Caller(collection="mail", asset="kind", partition="2026-10-06", run_id="run-1")
KEYS = {"MODEL_KEY": "first-of-the-keys", "OTHER_KEY": "second-of-the-keys"}
KEY_ID, OTHER_ID = (f"key_{hashlib.sha256(key.encode()).hexdigest()[:12]}" for key in KEYS.values())
NOON = "12:00:00.000+00:00"
AGO = 3
"""Days since the day that is reconciled."""
DAY = (datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=AGO)).isoformat()
LOSE_TWO_BILLED_ONE_NOT = [
    {"match": "Note 1.", "fault": "bad_gateway_billed"},
    {"match": "Note 2.", "fault": "server_error_billed"},
    {"match": "Note 3.", "fault": "gateway_timeout"},
]


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(hang_s=60) as started:
        yield started


@dataclass
class Office:
    """A project whose ledger a real engine filled, the provider that billed it, and the command."""

    project: Project
    provider: Provider
    url: str
    more: dict[str, Any] = field(default_factory=dict)
    """Of the endpoint."""

    def declared(self, **more: Any) -> InferenceSettings:
        known = {"errors_are_free": False, "key": "MODEL_KEY", "key_id": KEY_ID, "key_exclusive": True, **self.more}
        found = settings(
            {"mini": endpoint(self.provider.url, **{**known, **more})}, budgets=[{"name": "all", "limit_usd": 5}]
        )
        text = found.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        (self.project.root / "inference.yaml").write_text(yaml.safe_dump(text))
        return found

    def ask(self, *asked: Request, **more: Any) -> list[Result]:
        state = StateStore(self.url)
        with closing(state), Engine(self.declared(**more), state) as engine:
            return list(engine.map(asked, CALLER))

    def age(self, at: str = NOON, day: str = DAY) -> None:
        """What was asked today was asked then."""
        with closing(StateStore(self.url)) as state, state.write() as connection:
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            for column in ("sent_at", "ended_at"):
                connection.execute(
                    sa.text(f"UPDATE attempts SET {column} = :then WHERE sent_at >= :today"),  # noqa: S608
                    {"then": f"{day}T{at}", "today": today},
                )

    def bill(self, day: str = DAY) -> list[dict[str, Any]]:
        """The provider's own, as of that day."""
        return [{**row, "day": day} for row in self.provider.usage()["data"]]

    def write(self, bill: Sequence[Mapping[str, Any]], name: str = "usage.json") -> Path:
        path = self.project.root / name
        path.write_text(as_csv(bill) if name.endswith(".csv") else json.dumps({"data": bill}))
        return path

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        result = self.project.cli("ledger", "reconcile", *arguments, **environment)
        assert "Traceback" not in result.stderr
        assert not any(key in result.stdout + result.stderr for key in KEYS.values())
        return result

    def groups(self, usage: Path, *arguments: str) -> list[dict[str, Any]]:
        result = self.run("--usage", str(usage), *arguments, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        return list(json.loads(result.stdout)["groups"])

    def balance(self) -> tuple[int, int]:
        """Of the budget of everything: spent and maybe billed. The books of the ledger agree with it."""
        found = check_books(self.url)["all/ever"]
        return found.spent_nusd, found.held_nusd


def as_csv(bill: Sequence[Mapping[str, Any]]) -> str:
    written = io.StringIO()
    out = csv.DictWriter(written, list(bill[0]))
    out.writeheader()
    out.writerows(bill)
    return written.getvalue()


@pytest.fixture
def new_office(project: Project, running: Provider, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Office]:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    running.reset()
    running.script([])

    def made(url: str) -> Office:
        monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
        return Office(project, running, url)

    return made


@pytest.fixture
def office(new_office: Callable[[str], Office], project: Project) -> Office:
    return new_office(project.home.state_url)


def lost_some(office: Office) -> None:
    """Six answers, and before them three errors, of which two were billed."""
    office.provider.script(LOSE_TWO_BILLED_ONE_NOT)
    results = office.ask(*questions(6))
    assert all(not hasattr(result, "error") for result in results)
    office.age()


def nusd(bill: Sequence[Mapping[str, Any]]) -> int:
    return round(sum(float(row["cost_usd"]) for row in bill) * 1e9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["usage.json", "usage.csv"])
def test_the_providers_totals_resolve_what_they_prove_once_and_in_either_database(
    name: str, new_office: Callable[[str], Office], state_url: str
) -> None:
    office = new_office(state_url)
    lost_some(office)
    usage, bill = office.write(office.bill(), name), nusd(office.bill())
    spent, held = office.balance()
    assert spent < bill <= spent + held

    (group,) = office.groups(usage)
    assert (group["verdict"], group["reason"], group["resolved"]) == ("some billed", "", [])
    assert (group["billed_requests"], group["their_requests"], group["maybe_attempts"]) == (6, 8, 3)
    assert office.balance() == (spent, held)  # looking changes nothing

    (applied,) = office.groups(usage, "--apply", "--by", "maria")
    assert len(applied["resolved"]) == 3
    assert office.balance() == (bill, 0)
    for row in rows(state_url, "SELECT * FROM attempts WHERE state = 'failed'"):
        assert "by maria" in row.message
        assert f"the provider's totals in {name} (sha256 " in row.message
        assert "2 of 3 requests billed" in row.message

    (again,) = office.groups(usage, "--apply", "--by", "maria")
    assert (again["verdict"], again["resolved"], again["difference_usd"]) == ("agrees", [], 0.0)
    assert office.balance() == (bill, 0)
    with closing(StateStore(state_url, keys=office.project.home.keys)) as state:
        with state.read() as connection:
            actions = [record.action for record in audit.select(connection, collections=None, actor="maria", limit=99)]
        assert sorted(actions) == ["reconciled", *["resolved"] * 3]
        assert verification.verify(state).records == 4
    (row,) = json.loads(office.run("--history", "--json").stdout)
    assert (row["made_by"], row["file"], row["verdict"], row["resolved"]) == ("maria", name, "some billed", 3)
    assert row["file_digest"] == hashlib.sha256(usage.read_bytes()).hexdigest()
    assert row["resolved_usd"] == pytest.approx((bill - spent) / 1e9, abs=1e-12)


@dataclass(frozen=True, kw_only=True)
class Proven:
    id: str
    faults: Sequence[str]
    verdict: str


@pytest.mark.parametrize(
    "case",
    [
        Proven(id="none", faults=["bad_gateway", "reset_before"], verdict="none billed"),
        Proven(id="all", faults=["bad_gateway_billed", "reset_after"], verdict="all billed"),
        Proven(id="some", faults=["bad_gateway", "garbage"], verdict="some billed"),
    ],
    ids=lambda case: case.id,
)
def test_after_it_the_ledger_has_paid_what_the_provider_billed_to_the_nano_dollar(case: Proven, office: Office) -> None:
    office.provider.script([{"match": f"Note {n}.", "fault": fault} for n, fault in enumerate(case.faults)])
    office.ask(*questions(4))
    office.age()
    (group,) = office.groups(office.write(office.bill()), "--apply")
    assert group["verdict"] == case.verdict
    assert office.balance() == (nusd(office.bill()), 0)


def test_texts_that_shared_a_request_are_resolved_together(office: Office) -> None:
    office.provider.script([{"fault": "reset_after"}])
    office.ask(*(Request(document=str(n), text=f"text {n}", kind="embed") for n in range(5)))
    office.age()
    (group,) = office.groups(office.write(office.bill()), "--apply")
    assert (group["verdict"], group["maybe_attempts"], group["their_requests"]) == ("all billed", 5, 2)
    assert office.balance() == (nusd(office.bill()), 0)


# What nothing is proven of


@dataclass(frozen=True, kw_only=True)
class Unproven:
    id: str
    says: str
    more: Mapping[str, Any] = field(default_factory=dict)
    """Of the endpoint, by the time of the reconciliation."""
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda bill: bill
    arguments: Sequence[str] = ()


def each(**values: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda bill: [{**row, **values} for row in bill]


def times(factor: float, *names: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda bill: [{**row, **{name: round(float(row[name]) * factor, 9) for name in names}} for row in bill]


def without(*names: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda bill: [{name: value for name, value in row.items() if name not in names} for row in bill]


UNPROVEN = (
    Unproven(id="shared key", says="not declared exclusive", more={"key_exclusive": False}),
    Unproven(id="another key's file", says="the file does not name this key", change=each(key_id="key_other")),
    Unproven(id="another model's file", says="the file does not name this model", change=each(model="huge")),
    Unproven(
        id="a model that we never asked",
        says="the file has huge, which this ledger never asked for",
        change=lambda bill: [*bill, {**bill[0], "model": "huge", "requests": 1}],
    ),
    Unproven(id="too few requests", says="fewer than have answers here", change=each(requests=5)),
    Unproven(id="too many requests", says="4 more requests, and only 3", change=each(requests=10)),
    Unproven(id="too few dollars", says="fewer dollars than the answers", change=each(cost_usd="0.0000001")),
    Unproven(id="too many dollars", says="more dollars than all", change=each(cost_usd="1")),
    Unproven(id="dollars without requests", says="more dollars for as many requests", change=each(requests=6)),
    Unproven(id="no requests", says="counts no requests", change=without("requests")),
    Unproven(id="cents", says="dollars are rounded to 0.01", change=each(cost_usd="0.00")),
    Unproven(id="no dollars, no tokens", says="no dollars", change=without("cost_usd", "output_tokens")),
)  # fmt: skip


@pytest.mark.parametrize("case", UNPROVEN, ids=lambda case: case.id)
def test_what_totals_do_not_prove_stays_as_it_is_and_says_why(case: Unproven, office: Office) -> None:
    lost_some(office)
    before = office.balance()
    office.declared(**case.more)
    usage = office.write(case.change(office.bill()))
    groups = office.groups(usage, "--apply", *case.arguments)
    (ours,) = (group for group in groups if group["maybe_attempts"])
    assert (ours["verdict"], ours["resolved"], ours["proven_usd"]) == ("not proven", [], None)
    assert case.says in ours["reason"]
    assert case.says.split(" ", 1)[0] in office.run("--usage", str(usage)).stdout
    assert office.balance() == before


def test_a_day_that_is_not_over_proves_nothing(office: Office) -> None:
    office.provider.script(LOSE_TWO_BILLED_ONE_NOT)
    office.ask(*questions(6))
    (group,) = office.groups(office.write(list(office.provider.usage()["data"])), "--apply")
    assert "is not over (UTC)" in group["reason"]


def test_days_that_the_file_does_not_cover_are_not_taken_for_days_without_a_bill(office: Office) -> None:
    lost_some(office)
    bill = office.bill()
    later = (datetime.date.fromisoformat(DAY) + datetime.timedelta(days=1)).isoformat()
    assert office.groups(office.write(office.bill(later)), "--apply")[0]["maybe_attempts"] == 0
    # Told that it covers the day, it says that nothing was billed there, and six answers were.
    groups = office.groups(office.write(office.bill(later)), "--from", DAY, "--apply")
    assert "6 requests fewer" in next(group for group in groups if group["maybe_attempts"])["reason"]
    assert office.groups(office.write(bill), "--apply")[0]["verdict"] == "some billed"


def test_errors_that_are_declared_free_may_be_what_was_billed(office: Office) -> None:
    """Of an endpoint that declares it wrongly, a lost answer is not charged with the bill of an error."""
    office.provider.script([
        {"match": "Note 1.", "fault": "server_error_billed"}, {"match": "Note 2.", "fault": "bad_gateway"},
    ])  # fmt: skip
    office.more["errors_are_free"] = True
    office.ask(*questions(4))
    office.age()
    (group,) = office.groups(office.write(office.bill()), "--apply")
    assert "1 error declared free (errors_are_free) may be what was billed" in group["reason"]


@pytest.mark.parametrize("at", ["23:59:30.000+00:00", "23:51:00.000+00:00", "00:00:20.000+00:00"])
def test_attempts_near_midnight_are_proven_over_both_days_and_never_over_one(at: str, office: Office) -> None:
    """The provider may have counted them on either day."""
    lost_some(office)
    with closing(StateStore(office.url)) as state, state.write() as connection:
        query = sa.text("UPDATE attempts SET sent_at = :at WHERE state = 'ambiguous'")
        connection.execute(query, {"at": f"{DAY}T{at}"})
    other = 1 if at.startswith("23") else -1
    neighbour = (datetime.date.fromisoformat(DAY) + datetime.timedelta(days=other)).isoformat()
    bill = office.bill()
    most = f"{float(bill[0]['cost_usd']) - 0.00001:.9f}"
    split = [{**bill[0], "requests": 7, "cost_usd": most},
             {**bill[0], "day": neighbour, "requests": 1, "cost_usd": "0.00001"}]  # fmt: skip
    (alone,) = office.groups(office.write(split[:1]), "--apply")
    assert "near midnight tie" in alone["reason"]
    (both,) = office.groups(office.write(split), "--apply")
    assert (both["days"], both["verdict"]) == (sorted([DAY, neighbour]), "some billed")
    assert office.balance() == (nusd(bill), 0)


# Names


def test_a_snapshots_name_is_known_by_the_answers_that_had_it(office: Office) -> None:
    lost_some(office)
    with closing(StateStore(office.url)) as state, state.write() as connection:
        query = "UPDATE attempts SET answered_model = 'small-2026-01-01' WHERE state = 'settled'"
        connection.execute(sa.text(query))
    bill = [{**row, "model": "small-2026-01-01"} for row in office.bill()]
    (group,) = office.groups(office.write(bill), "--apply")
    assert (group["models"], group["verdict"]) == (["small"], "some billed")


def test_another_name_is_taken_on_a_persons_word(office: Office) -> None:
    lost_some(office)
    usage = office.write([{**row, "model": "Small (EU)"} for row in office.bill()])
    assert {group["verdict"] for group in office.groups(usage)} == {"not proven", "differs"}
    (group,) = office.groups(usage, "--model", "Small (EU)=small", "--apply")
    assert (group["models"], group["verdict"]) == (["small"], "some billed")


def test_attempts_from_before_the_key_was_declared_need_a_persons_word(office: Office) -> None:
    office.more.update(key_id=None, key_exclusive=False)
    lost_some(office)
    office.more.clear()
    office.provider.script([])
    office.ask(question("with the key"))
    office.age()
    usage = office.write(office.bill())
    reasons = {group["reason"] for group in office.groups(usage) if group["maybe_attempts"]}
    assert reasons == {"no key id was declared when they were sent: --assume ENDPOINT=KEY_ID says which key it was"}
    (group,) = office.groups(usage, "--assume", f"mini={KEY_ID}", "--apply")
    assert (group["verdict"], len(group["resolved"])) == ("some billed", 3)
    assert office.balance() == (nusd(office.bill()), 0)


def test_attempts_without_a_key_may_be_in_the_totals_of_the_same_model(office: Office) -> None:
    lost_some(office)
    office.provider.script([])
    office.ask(question("without"), key_id=None, key_exclusive=False)
    office.age()
    office.declared()
    groups = office.groups(office.write(office.bill()), "--apply")
    (lost,) = (group for group in groups if group["maybe_attempts"])
    assert "1 request of these days without a key id" in lost["reason"]


def test_keys_are_told_apart(office: Office) -> None:
    """The same model under two keys: each has its own bill."""
    lost_some(office)
    office.provider.script([{"match": "Note 9.", "fault": "bad_gateway_billed"}])
    office.ask(question(8), question(9), key="OTHER_KEY", key_id=OTHER_ID)
    office.age()
    declared = office.declared()
    other = {**declared.endpoints["mini"].model_dump(mode="json", by_alias=True, exclude_defaults=True),
             "key": "OTHER_KEY", "key_id": OTHER_ID, "key_exclusive": True}  # fmt: skip
    text = yaml.safe_load((office.project.root / "inference.yaml").read_text())
    text["endpoints"]["other"] = other
    (office.project.root / "inference.yaml").write_text(yaml.safe_dump(text))
    groups = office.groups(office.write(office.bill()), "--apply")
    assert {group["key_id"]: group["verdict"] for group in groups} == {KEY_ID: "some billed", OTHER_ID: "all billed"}
    assert office.balance() == (nusd(office.bill()), 0)


# Files


def openai_export(office: Office) -> Path:
    """The provider's figures of the day as OpenAI has them: tokens, and no dollars."""
    bill = office.bill()
    start = int(datetime.datetime.fromisoformat(f"{DAY}T00:00:00+00:00").timestamp())
    results = [
        {
            "object": "organization.usage.completions.result", "input_tokens": row["input_tokens"],
            "output_tokens": row["output_tokens"], "input_cached_tokens": row["cached_tokens"],
            "input_audio_tokens": 0, "output_audio_tokens": 0, "num_model_requests": row["requests"],
            "project_id": None, "user_id": None, "api_key_id": row["key_id"], "model": row["model"], "batch": None,
        }
        for row in bill
    ]  # fmt: skip
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": results}
    path = office.project.root / "openai.json"
    path.write_text(json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None}))
    return path


def test_openais_own_export_is_read_and_priced_by_its_tokens(office: Office) -> None:
    lost_some(office)
    (group,) = office.groups(openai_export(office), "--apply")
    assert group["verdict"] == "some billed"
    assert office.balance() == (nusd(office.bill()), 0)


def test_tokens_of_a_day_prove_nothing_where_prices_differ_by_the_hour(office: Office) -> None:
    lost_some(office)
    night = {**PRICE, "input": 0.01, "windows": [{"from": "22:00", "to": "06:00", "timezone": "UTC"}]}
    office.declared(prices=[dict(PRICE), night])
    (group,) = office.groups(openai_export(office))
    assert group["verdict"] == "not proven"


def test_columns_that_are_called_otherwise_are_named(office: Office) -> None:
    lost_some(office)
    renamed = [
        {"date": row["day"], "model": row["model"], "calls": row["requests"], "usd": f"${row['cost_usd']}"}
        for row in office.bill()
    ]
    named = ["--column", "day=date", "--column", "requests=calls", "--column", "cost_usd=usd", "--key", KEY_ID]
    (group,) = office.groups(office.write(renamed, "export.csv"), *named)
    assert group["verdict"] == "some billed"


ROW = {"day": DAY, "key_id": KEY_ID, "model": "small", "requests": 1, "cost_usd": "0.1"}


@dataclass(frozen=True, kw_only=True)
class Mistake:
    id: str
    says: str
    text: str = json.dumps([ROW])
    columns: Mapping[str, str] = field(default_factory=dict)


def with_row(**values: Any) -> str:
    return json.dumps([{**ROW, **values}])


MISTAKES = (
    Mistake(id="empty", text="", says="has no row"),
    Mistake(id="no rows", text="[]", says="has no row"),
    Mistake(id="no JSON", text="{nope", says="no JSON"),
    Mistake(id="no list", text='{"total": 3}', says="should be a list of rows"),
    Mistake(id="no object", text="[3]", says="row 1: it should be an object"),
    Mistake(id="one page", text='{"object": "page", "data": [], "has_more": true}', says="one page of several"),
    Mistake(id="hours", text='[{"object": "bucket", "start_time": 0, "end_time": 3600, "results": []}]',
            says="bucket_width=1d"),
    Mistake(id="not by key", says="group_by=model,api_key_id",
            text='[{"object": "bucket", "start_time": 0, "end_time": 86400, "results": [{"model": "x"}]}]'),
    Mistake(id="no day", text=with_row(day=""), says="'day' is missing"),
    Mistake(id="no key", text=with_row(key_id=None), says="--key KEY_ID"),
    Mistake(id="no date", text=with_row(day="5.10.2026"), says="no date such as 2026-10-05"),
    Mistake(id="an hour", text=with_row(day=f"{DAY}T04:00:00"), says="whole days in UTC"),
    Mistake(id="another zone", text=with_row(day=f"{DAY}T00:00:00-07:00"), says="whole days in UTC"),
    Mistake(id="no number", text=with_row(requests="many"), says="'requests' is 'many' and no number"),
    Mistake(id="NaN", text=with_row(cost_usd="NaN"), says="no number"),
    Mistake(id="half a request", text=with_row(requests=0.5), says="no whole number"),
    Mistake(id="a credit", text=with_row(cost_usd=-1), says="credits are no cost"),
    Mistake(id="counts nothing", text=json.dumps([{"day": DAY, "key_id": "k", "model": "m"}]), says="counts nothing"),
    Mistake(id="short line", text="day,key_id,model,requests\n2026-10-05,k\n", says="line 2: it should have 4 cells"),
    Mistake(id="open quote", text='day,key_id,model,requests\n"2026', says="no CSV"),
    Mistake(id="no such column", says="no column 'date'; did you mean", columns={"day": "date"}),
    Mistake(id="no column of ours", says="no column 'dya' is read from it; did you mean 'day'?",
            columns={"dya": "day"}),
)  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_file_that_cannot_be_used_is_named_with_the_place_and_what_is_needed(
    mistake: Mistake, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(mistake.text)
    with pytest.raises(UsageFileInvalid) as raised:
        read_usage(path, columns=mistake.columns)
    assert str(raised.value).startswith(str(path))
    assert mistake.says in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--column", "dya=day"], "did you mean 'day'?"),
        (["--model", "small"], "two names with = between them"),
        (["--assume", "mni=key"], "no endpoint 'mni' to assume a key of; did you mean 'mini'?"),
        (["--to", "2026-01-01"], "the first is after the last"),
        (["--from", "2020-01-01"], "more than 400"),
    ],
)
def test_a_mistake_is_said_in_a_sentence_and_changes_nothing(arguments: list[str], says: str, office: Office) -> None:
    lost_some(office)
    before = office.balance()
    result = office.run("--usage", str(office.write(office.bill())), "--apply", *arguments)
    assert result.returncode == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert office.balance() == before
    assert "Nothing was reconciled yet" in office.run("--history").stdout


def test_a_file_that_is_not_there_or_no_text_is_named(office: Office) -> None:
    office.declared()
    picture = office.project.root / "picture.csv"
    picture.write_bytes(b"\x89PNG\r\n\xff")
    for path, says in ((picture, "no UTF-8 text"), (picture.with_name("none.csv"), "cannot be read")):
        result = office.run("--usage", str(path))
        assert result.returncode == 2
        assert f"{path}" in result.stderr
        assert says in result.stderr
    assert "give --usage FILE, or --history" in " ".join(office.run().stderr.replace("│", " ").split())


def test_people_see_a_table_and_what_to_do_next(office: Office) -> None:
    lost_some(office)
    usage = office.write(office.bill())
    said = office.run("--usage", str(usage)).stdout
    assert "2 of 3 billed" in said
    assert "3 attempts can be resolved" in said
    assert "3 attempts resolved" in office.run("--usage", str(usage), "--apply", "--by", "maria").stdout
    assert "maria" in office.run("--history").stdout
    assert office.project.cli("audit", "verify").returncode == 0


def test_applying_totals_takes_an_administrator_of_all_who_proves_it_where_anybody_is_known(office: Office) -> None:
    lost_some(office)
    usage, before = str(office.write(office.bill())), office.balance()
    state = office.project.stores().state
    known(state, "ada", "admin")
    known(state, "eve", "admin", "claims")
    for by, password, says in [
        ("ada", None, "AI_ASSETS_PASSWORD"),
        ("ada", "guessed-wrongly", "That name and password do not belong"),
        ("eve", PASSWORD, "applying a provider's totals takes the role admin in all collections"),
    ]:
        environment = {} if password is None else {"AI_ASSETS_PASSWORD": password}
        refused = office.run("--usage", usage, "--apply", "--by", by, **environment)
        assert refused.returncode == 2
        assert says in refused.stderr
        assert office.balance() == before
    assert office.run("--usage", usage).returncode == 0  # a look is everybody's
    assert office.run("--usage", usage, "--apply", "--by", "ada", AI_ASSETS_PASSWORD=PASSWORD).returncode == 0
    assert office.balance() != before


def test_settled_differences_are_shown_and_never_changed(office: Office) -> None:
    office.ask(*questions(3))
    office.age()
    before, made = office.balance(), rows(office.url, "SELECT * FROM attempts ORDER BY attempt_id")
    dearer = office.write(times(2, "cost_usd")(office.bill()))
    (group,) = office.groups(dearer, "--apply")
    assert (group["verdict"], group["difference_usd"]) == ("differs", pytest.approx(before[0] / 1e9))
    assert (office.balance(), rows(office.url, "SELECT * FROM attempts ORDER BY attempt_id")) == (before, made)
    (same,) = office.groups(office.write(office.bill()))
    assert same["verdict"] == "agrees"


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.floats(0, 1))
def test_a_proven_sum_is_divided_without_a_rest_and_within_every_reservation(reserved: list[int], part: float) -> None:
    total = int(sum(reserved) * part)
    found = shares(total, reserved)
    assert sum(found) == total
    assert all(0 <= share <= most for share, most in zip(found, reserved, strict=True))
