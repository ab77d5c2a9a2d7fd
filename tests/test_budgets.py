"""Claims about limits: where each budget stands, who may set another limit, and that the trail proves who did."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from conftest import Project
from engines import ask, endpoint, question
from engines import settings as of_engine
from provider import Provider
from signing import PASSWORD, known, somebody
from test_stage_settings import KIND, declare

from ai_assets.costs import limits, scopes
from ai_assets.costs.limits import LimitInvalid, LimitRefused, ReasonMissing, change, nusd_given, touched
from ai_assets.inference import budget_status
from ai_assets.inference.errors import BudgetExhausted, InferenceInvalid
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Answer, Caller
from ai_assets.inference.settings import Budget, InferenceSettings
from ai_assets.signoff import audit, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore

NUSD = 10**9
ON = datetime.date(2026, 11, 21)
EVERYTHING: Mapping[str, Any] = {"name": "everything", "limit_usd": 5, "per": "month"}


def declared(*found: Mapping[str, Any]) -> InferenceSettings:
    return InferenceSettings.model_validate({"budgets": [dict(item) for item in found]})


def spend(state: StateStore, budget: str, **nusd: int) -> None:
    """A row as the ledger writes it."""
    row = {"spent": 0, "reserved": 0, "held": 0, "earmarked": 0, **nusd}
    with state.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd, earmarked_nusd) "
                "VALUES (:budget, :name, 0, :spent, :reserved, :held, :earmarked) ON CONFLICT (budget) DO UPDATE SET "
                "spent_nusd = :spent, held_nusd = :held"
            ),
            {"budget": budget, "name": budget.split("/")[0], **row},
        )


def set_to(
    state: StateStore, settings: InferenceSettings, usd: str | None, by: Person | None = None
) -> limits.LimitChange:
    with state.write() as connection:
        wanted = None if usd is None else nusd_given(usd)
        return change(
            connection, settings, settings.budgets[0], wanted, by=by or somebody("ann", "admin"), reason="more papers",
            collections=[],
        )  # fmt: skip


# Where they stand


def test_an_account_shows_what_is_used_in_flight_and_set_aside(state: StateStore) -> None:
    settings = declared(EVERYTHING, {"name": "teams", "limit_usd": 2, "each": "tenant", "per": "day"})
    spend(state, "everything/2026-11", spent=3 * NUSD, reserved=NUSD // 4, held=NUSD // 2, earmarked=NUSD)
    spend(state, "everything/2026-10", spent=5 * NUSD)
    spend(state, "teams/2026-11-21/legal", spent=NUSD)
    spend(state, "teams/2026-11-20/legal", spent=2 * NUSD)
    with state.read() as connection:
        everything, teams = budget_status.all_standing(connection, settings, ON)
        of_legal = budget_status.standing(connection, settings, Caller(tenant="legal"), "a.txt", ON)
    assert of_legal == [everything, teams]
    assert (everything.left_nusd, everything.used_nusd, everything.share) == (NUSD // 4, 3_500_000_000, 0.7)
    assert (everything.starts_over, teams.starts_over) == (datetime.date(2026, 12, 1), datetime.date(2026, 11, 22))
    assert (teams.holder, teams.period, teams.left_nusd) == ("legal", "2026-11-21", NUSD)
    shown = budget_status.as_json(everything)
    assert (shown["left_usd"], shown["maybe_usd"], shown["starts_over"]) == (0.25, 0.5, "2026-12-01")


def test_of_very_many_accounts_the_most_used_are_read(state: StateStore) -> None:
    settings = declared(EVERYTHING, {"name": "runs", "limit_usd": 1, "each": "run"})
    for number in range(5):
        spend(state, f"runs/ever/r{number}", spent=number)
    spend(state, "runs/ever", spent=9)  # before it was one for each run
    with state.read() as connection:
        found = budget_status.all_standing(connection, settings, ON, most=2)
        assert len(budget_status.all_standing(connection, settings, ON)) == 6
    assert [each.budget for each in found] == ["everything/2026-11", "runs/ever/r4", "runs/ever/r3"]


def test_a_budget_nobody_has_touched_stands_with_its_limit(state: StateStore) -> None:
    settings = declared(EVERYTHING, {"name": "runs", "limit_usd": 1, "each": "run"})
    with state.read() as connection:
        (found,) = budget_status.all_standing(connection, settings, ON)
    assert (found.budget, found.left_nusd, found.share) == ("everything/2026-11", 5 * NUSD, 0.0)


def test_what_is_set_aside_for_a_backfill_is_left_for_its_own_calls(state: StateStore) -> None:
    settings = declared(EVERYTHING)
    spend(state, "everything/2026-11", earmarked=2 * NUSD)
    with state.write() as connection:
        connection.execute(sa.text("INSERT INTO earmarks VALUES ('b1', 'everything/2026-11', :nusd)"), {"nusd": NUSD})
    with state.read() as connection:
        left = [
            budget_status.standing(connection, settings, Caller(backfill=name), "", ON)[0].left_nusd
            for name in ("", "b1")
        ]
    assert left == [3 * NUSD, 4 * NUSD]


def test_a_holder_with_odd_characters_is_shown_as_it_is(state: StateStore) -> None:
    settings = declared({"name": "papers", "limit_usd": 1, "each": "document"})
    with state.read() as connection:
        (found,) = budget_status.standing(connection, settings, Caller(collection="a/b"), "2026/50 %.txt", ON)
    assert (found.budget, found.holder) == ("papers/ever/a%2Fb/2026/50 %25.txt", "a/b/2026/50 %.txt")


@pytest.mark.parametrize(
    ("per", "on", "begins"),
    [
        ("day", datetime.date(2026, 12, 31), datetime.date(2027, 1, 1)),
        ("month", datetime.date(2026, 12, 31), datetime.date(2027, 1, 1)),
        ("month", datetime.date(2026, 1, 31), datetime.date(2026, 2, 1)),
        (None, ON, None),
    ],
)
def test_a_period_ends_when_the_next_begins(per: Any, on: datetime.date, begins: datetime.date | None) -> None:
    assert budget_status.starts_over(Budget(name="b", limit_usd=1, per=per), on) == begins


# Limits that people set


def test_a_set_limit_holds_from_the_next_call_on_and_the_declared_one_again(store_url: str, provider: Provider) -> None:
    settings = of_engine({"mini": endpoint(provider.url)}, budgets=[{"name": "all", "limit_usd": 0}])
    state = StateStore(store_url)
    with pytest.raises(BudgetExhausted, match="ai-assets budget set all --limit-usd"):
        ask(store_url, settings, [question(1)])
    set_to(state, settings, "1")
    ask(store_url, settings, [question(1)])
    set_to(state, settings, None)
    with pytest.raises(BudgetExhausted):
        ask(store_url, settings, [question(2)])
    with state.read() as connection:
        assert budget_status.in_force(connection, settings.budgets)["all"].limit_nusd == 0
    state.close()


def test_below_what_is_spent_free_calls_are_made_all_the_same(store_url: str, provider: Provider) -> None:
    endpoints = {"mini": endpoint(provider.url), "own": endpoint(provider.url, free=True)}
    settings = of_engine(endpoints, budgets=[{"name": "all", "limit_usd": 1}])
    state = StateStore(store_url)
    ask(store_url, settings, [question(1, route="mini")])
    set_to(state, settings, "0")
    assert isinstance(ask(store_url, settings, [question(2, route="own")])[0], Answer)
    with pytest.raises(BudgetExhausted):
        ask(store_url, settings, [question(3, route="mini")])
    state.close()


def test_a_limit_below_what_is_spent_leaves_nothing(state: StateStore) -> None:
    settings = declared(EVERYTHING)
    spend(state, "everything/2026-11", spent=4 * NUSD)
    done = set_to(state, settings, "3")
    assert (done.was_nusd, done.limit_nusd, done.declared) == (5 * NUSD, 3 * NUSD, False)
    with state.read() as connection:
        (found,) = budget_status.all_standing(connection, settings, ON)
        limit = budget_status.in_force(connection, settings.budgets)["everything"]
    assert (found.left_nusd, found.share) == (-NUSD, 4 / 3)
    assert (limit.set_by, limit.reason, limit.declared_nusd) == ("ann", "more papers", 5 * NUSD)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much", "1e10", "0.0000000001", ""])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(LimitInvalid, match="write dollars from 0 to 1,000,000,000"):
        nusd_given(text)


def test_a_limit_is_taken_to_the_last_digit() -> None:
    assert [nusd_given(text) for text in ("4.35", "$0.000000001", "0")] == [4_350_000_000, 1, 0]
    assert nusd_given("999999999.999999999") == int(Decimal("999999999.999999999") * NUSD)


@dataclass(frozen=True, kw_only=True)
class Scope:
    id: str
    of: Mapping[str, str] = field(default_factory=dict)
    places: tuple[str, ...]


SCOPES = (
    Scope(id="all calls", places=("*",)),
    Scope(id="a collection", of={"collection": "notes"}, places=("notes",)),
    Scope(id="a tenant", of={"tenant": "legal"}, places=("notes", "papers")),
    Scope(id="an asset", of={"asset": "kind"}, places=("notes",)),
    Scope(id="plain code", of={"tenant": "somebody"}, places=("*",)),
)


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.id)
def test_it_takes_an_administrator_of_all_that_the_budget_counts(scope: Scope, project: Project) -> None:
    notes, papers = declare(project, [KIND], tenant="legal"), project.declare("papers", tenant="legal")
    budget = Budget.model_validate({"name": "b", "limit_usd": 1, "of": scope.of})
    assert tuple(touched(budget, [notes, papers])) == scope.places
    settings = InferenceSettings(budgets=(budget,))
    state = project.stores().state
    for number, place in enumerate(scope.places):
        others = {other: "admin" for other in scope.places if other != place}
        person = Person(name=f"p{number}", roles={place: "approver", **others})  # type: ignore[arg-type]
        with state.write() as connection, pytest.raises(LimitRefused, match=f"reviewers grant p{number} admin"):
            change(connection, settings, budget, 1, by=person, reason="why", collections=[notes, papers])
    enough = Person(name="q", roles=dict.fromkeys(scope.places, "admin"))
    with state.write() as connection:
        change(connection, settings, budget, 1, by=enough, reason="why", collections=[notes, papers])


def test_a_change_without_a_reason_changes_nothing(state: StateStore) -> None:
    settings = declared(EVERYTHING)
    with state.write() as connection, pytest.raises(ReasonMissing):
        change(
            connection, settings, settings.budgets[0], 1, by=somebody("ann", "admin"), reason=" ", collections=[]
        )  # fmt: skip
    with state.read() as connection:
        assert not list(audit.records(connection))


# The trail


def test_the_trail_proves_every_limit_and_names_the_one_that_was_tampered_with(state: StateStore) -> None:
    settings = declared(EVERYTHING, {"name": "other", "limit_usd": 1})
    set_to(state, settings, "10")
    set_to(state, settings, "20")
    assert verification.verify(state).records == 2
    for tampering in (
        "UPDATE budget_limits SET limit_nusd = limit_nusd * 10",
        "UPDATE budget_limits SET set_by = 'bob'",
        "DELETE FROM budget_limits",
        "INSERT INTO budget_limits VALUES ('other', 1, 'bob', '2026', '')",
    ):
        with state.write() as connection:
            kept = connection.execute(sa.text("SELECT * FROM budget_limits")).mappings().all()
            connection.execute(sa.text(tampering))
        with pytest.raises(AuditBroken, match=r"limit of budget (everything|other)"):
            verification.verify(state)
        with state.write() as connection:
            connection.execute(sa.text("DELETE FROM budget_limits"))
            connection.execute(
                sa.text("INSERT INTO budget_limits VALUES (:name, :limit_nusd, :set_by, :set_at, :reason)"),
                [dict(row) for row in kept],
            )
    set_to(state, settings, None)
    assert verification.verify(state).records == 3


# What the file may say


def budget(**more: Any) -> Budget:
    return Budget.model_validate({"name": "b", "limit_usd": 1, **more})


def test_usual_alerts_are_for_budgets_that_are_few() -> None:
    assert [budget(each=each).alerts for each in (None, "tenant", "asset", "collection")] == [(50, 80, 100)] * 4
    assert [budget(each=each).alerts for each in ("run", "document", "partition")] == [()] * 3
    assert (budget(each="run", alert_at=(90,)).alerts, budget(alert_at=()).alerts) == ((90,), ())


WRONG = (
    ("{name: a, limit_usd: -5}", ":2: budgets.0.limit_usd: should be at least 0 (found -5)"),
    ("{name: a, limit_usd: 2000000000}", ":2: budgets.0.limit_usd: should be at most 1e+09 (found 2000000000)"),
    (
        "{name: a, limit_usd: 5, alert_at: [80, 50]}",
        ":2: budgets.0.alert_at.1: should be more than the 80 before it (found 50)",
    ),
    ("{name: a, limit_usd: 5, alert_at: [0]}", ":2: budgets.0.alert_at.0: should be at least 1 (found 0)"),
    ("{name: a, limit_usd: 5, alert_at: [120]}", ":2: budgets.0.alert_at.0: should be at most 100 (found 120)"),
    ("{name: a, limit_usd: 5, notify: [b, b]}", ":2: budgets.0.notify.1: channel 'b' is named twice"),
    (
        "{name: backfill, limit_usd: 5}",
        ":2: budgets.0.name: 'backfill' is what the budgets of backfills are called; choose another name",
    ),
)


@pytest.mark.parametrize(("text", "says"), WRONG, ids=[says.partition(": ")[2] for _, says in WRONG])
def test_a_wrong_budget_is_one_sentence_with_its_place(text: str, says: str, project: Project) -> None:
    path = project.root / "inference.yaml"
    path.write_text(f"budgets:\n  - {text}\n")
    with pytest.raises(InferenceInvalid) as raised:
        load_inference(path)
    assert str(raised.value) == f"{path}{says}"


# Names that nothing declares


def scoped(project: Project, of: Mapping[str, str], **more: Any) -> list[scopes.UnknownScope]:
    collections = [declare(project, [KIND], tenant="claims"), project.declare("papers", tenant="legal")]
    settings = declared({"name": "b", "limit_usd": 1, "of": of, **more})
    return list(scopes.doubts(settings, collections))


def test_a_scope_that_some_collection_has_is_not_doubted(project: Project) -> None:
    for of in ({"tenant": "claims"}, {"collection": "notes", "asset": "kind"}, {"tenant": "legal", "asset": "chunks"}):
        assert scoped(project, of) == []


def test_a_misspelt_tenant_is_told_with_the_nearest_one(project: Project) -> None:
    (found,) = scoped(project, {"tenant": "clams"})
    assert found.misspelt
    assert found.problem.startswith("no collection here is of tenant 'clams'; did you mean 'claims'? As it is, budget")


def test_a_name_like_no_other_may_be_one_of_plain_dagster_code(project: Project) -> None:
    (found,) = scoped(project, {"tenant": "advertising"})
    assert not found.misspelt
    assert "no collection here is of tenant 'advertising'; known here: claims, legal." in found.problem
    (found,) = scoped(project, {"collection": "papers", "asset": "kind"})
    assert found.problem.startswith("no collection here is of collection 'papers' and asset 'kind'; known here: notes.")


def load(project: Project, text: str) -> "Any":
    from ai_assets.orchestration.automation import budgets as budgets_sensor

    (project.root / "inference.yaml").write_text(text)
    return budgets_sensor([project.declare("papers", tenant="claims")])


def test_the_code_location_refuses_a_misspelt_scope_with_its_line_and_tells_of_a_foreign_one(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InferenceInvalid, match=r"inference.yaml:3: budgets.0.of.tenant: .* did you mean 'claims'"):
        load(project, "budgets:\n  - {name: a, limit_usd: 1,\n     of: {tenant: clams}}\n")
    assert load(project, "budgets:\n  - {name: a, limit_usd: 1, of: {tenant: advertising}}\n")
    assert "inference.yaml:2: budgets.0.of.tenant: no collection here is of tenant 'advertising'" in caplog.text


def test_the_code_location_loads_no_money_where_none_is_declared(project: Project) -> None:
    from ai_assets.orchestration.automation import budgets as budgets_sensor

    assert budgets_sensor([project.declare()]).name == "budget_alerts"


# The command


@pytest.fixture
def office(project: Project) -> Project:
    project.declare()
    text = yaml.safe_dump({"budgets": [dict(EVERYTHING), {"name": "runs", "limit_usd": 1, "each": "run"}]})
    (project.root / "inference.yaml").write_text(text)
    return project


def budget_command(project: Project, *arguments: str) -> Any:
    return project.cli("budget", *arguments, AI_ASSETS_PASSWORD=PASSWORD)


@pytest.mark.slow
def test_a_limit_is_shown_set_and_remembered(office: Project) -> None:
    state = office.stores().state
    known(state, "ada", "admin")
    known(state, "ann", "approver")
    month = datetime.datetime.now(datetime.UTC).date().isoformat()[:7]
    spend(state, f"everything/{month}", spent=4 * NUSD)
    shown = budget_command(office, "show")
    assert (shown.returncode, shown.stderr) == (0, "")
    line = next(line for line in shown.stdout.splitlines() if "everything" in line)
    assert line.split()[:6] == ["everything", "all", "calls", month, "$5.00", "inference.yaml"]
    assert line.rstrip().endswith("████████████████░░░░ 80 %")
    assert "each run: none yet" in shown.stdout

    refused = budget_command(office, "set", "everything", "--limit-usd", "9", "--reason", "x", "--by", "ann")
    assert refused.returncode == 2
    assert "'ann' cannot set the limit of budget 'everything': it counts calls of all collections" in refused.stderr
    done = budget_command(office, "set", "everything", "--limit-usd", "3", "--reason", "too much", "--by", "ada")
    assert done.stdout.splitlines()[0] == "everything: from $5.00 to $3.00, by ada"
    assert done.stdout.splitlines()[1].startswith("Nothing more can be spent before 1 ")
    found = json.loads(budget_command(office, "show", "--json").stdout)["budgets"][0]
    assert (found["limit_usd"], found["declared_usd"], found["set_by"], found["reason"]) == (3, 5, "ada", "too much")
    assert (found["accounts"][0]["left_usd"], found["accounts"][0]["used_share"]) == (-1, 1.333333)

    back = budget_command(office, "set", "everything", "--declared", "--reason", "enough", "--by", "ada")
    assert back.stdout == "everything: from $3.00 to $5.00, as declared, by ada\n"
    history = json.loads(budget_command(office, "history", "everything", "--json").stdout)
    assert [(event["who"], event["text"], event["reason"]) for event in history] == [
        ("ada", "from $3.00 to $5.00, as declared", "enough"), ("ada", "from $5.00 to $3.00", "too much"),
    ]  # fmt: skip
    assert json.loads(budget_command(office, "history", "runs", "--json").stdout) == []
    spend(state, f"everything/{month}")  # which no attempt came to
    assert office.cli("audit", "verify").returncode == 0


SAID = (
    (["set", "everithing", "--limit-usd", "1", "--reason", "x"], "no budget 'everithing'; did you mean 'everything'?"),
    (["set", "everything", "--limit-usd=-1", "--reason", "x"], "'-1' is no limit: write dollars from 0"),
    (["set", "everything", "--limit-usd", "1"], "Say it with --reason; it is recorded."),
    (["set", "everything", "--reason", "x"], "give --limit-usd USD, or --declared"),
    (["set", "everything", "--limit-usd", "1", "--declared", "--reason", "x"], "give --limit-usd USD, or --declared"),
)


@pytest.mark.parametrize(("arguments", "says"), SAID, ids=[says for _, says in SAID])
def test_a_mistake_is_one_sentence(arguments: list[str], says: str, office: Project) -> None:
    done = budget_command(office, *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_channel_that_nobody_declared_is_told_with_its_line(office: Project) -> None:
    (office.root / "inference.yaml").write_text("budgets:\n  - {name: a, limit_usd: 1, notify: [teem]}\n")
    (office.root / "desk.yaml").write_text("channels: {team: {url_env: TEAM_URL}}\n")
    shown = budget_command(office, "show")
    assert shown.returncode == 0
    assert "inference.yaml:2: budgets.0.notify.0: desk.yaml declares no channel 'teem'; did you mean 'team'?" in (
        shown.stderr
    )
