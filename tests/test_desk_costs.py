"""Claims about the cost page and its downloads, over HTTP, on a ledger that was really filled and built."""

import csv
import datetime
import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb
import httpx
import pytest
import sqlalchemy as sa
from conftest import Project, project_at
from desks import Visitor, desk_of, served
from provider import Provider
from signing import known
from spent import BUDGETS, FORMULA, LOST, MARKUP, ODD_ASSET, REFUSED, SECRET, TODAY, Spending

from ai_assets.desk.costs_sections import SECTIONS
from ai_assets.orchestration.in_process import bring_costs_up_to_date as bring_up_to_date
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

THEIRS = ("handbook", SECRET, "other.md", "people", "kind@7", "run-handbook")
"""Names that a viewer of `reports` must not learn."""
ALL_DAYS = f"from={TODAY - datetime.timedelta(days=60)}"


@dataclass(frozen=True)
class Desk:
    spending: Spending
    url: str
    stack: ExitStack

    def visitor(self, name: str) -> Visitor:
        visitor = Visitor(self.url)
        self.stack.callback(visitor.http.close)
        visitor.sign_in(name)
        return visitor

    def ledger(self, column: str, collection: str | None = None) -> Decimal:
        """The sum that the ledger itself has."""
        table = "reuses" if column == "saved_nusd" else "attempts"
        where = "WHERE callers.collection = :collection" if collection else ""
        statement = (
            f"SELECT coalesce(sum({column}), 0) FROM {table} "  # noqa: S608
            f"JOIN callers ON callers.caller_id = {table}.caller_id {where}"
        )
        with closing(StateStore(self.spending.project.home.state_url)) as state, state.read() as connection:
            given = {"collection": collection} if collection else {}
            return Decimal(int(connection.execute(sa.text(statement), given).scalar_one())).scaleb(-9)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        project = project_at(tmp_path_factory.mktemp("costs"), patch)
        spending = Spending(project=project, provider=stack.enter_context(Provider()))
        spending.everything()
        bring_up_to_date(project.home)
        found = stack.enter_context(served(desk_of(project)))
        known(found.stores.state, "ann", "admin")
        known(found.stores.state, "vic", "viewer", "reports")
        known(found.stores.state, "hal", "viewer", "handbook")
        known(found.stores.state, "nob", None)
        yield Desk(spending, found.url, stack)


@pytest.fixture(scope="module")
def ann(desk: Desk) -> Visitor:
    return desk.visitor("ann")


@pytest.fixture(scope="module")
def vic(desk: Desk) -> Visitor:
    """May see reports, and nothing else."""
    return desk.visitor("vic")


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def text(visitor: Visitor, path: str) -> str:
    """What is shown there, and that it is no error."""
    answer = visitor.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def total(found: list[dict[str, str]], column: str = "cost_usd") -> Decimal:
    return sum((Decimal(row[column]) for row in found), Decimal(0))


@pytest.mark.parametrize("name", ["days", "models", "stages", "waste", "documents", "prompts"])
def test_every_table_adds_up_to_the_ledger(desk: Desk, ann: Visitor, vic: Visitor, name: str) -> None:
    for visitor, collection in ((ann, None), (vic, "reports")):
        found = rows(visitor.get(f"/costs/{name}.csv?{ALL_DAYS}"))
        assert total(found) == desk.ledger("cost_nusd", collection) > 0


def test_the_page_says_what_was_paid_saved_and_maybe_billed(desk: Desk, ann: Visitor) -> None:
    page = text(ann, f"/costs?{ALL_DAYS}")
    saved, documents = desk.ledger("saved_nusd"), rows(ann.get(f"/costs/documents.csv?{ALL_DAYS}"))
    assert saved > 0
    assert f"{saved.normalize():f}" in page
    (lost,) = [row for row in documents if row["document"] == LOST]
    assert Decimal(lost["maybe_usd"]) > 0
    assert "1 answer used again" in page
    assert "1 attempt without an answer" in page
    assert "in flight now" in page
    assert "no call is under way; 1 attempt of any day may have been billed" in page
    assert page.count('role="img"') >= 4
    endpoints = rows(ann.get("/costs/endpoints.csv"))
    assert [(row["endpoint"], row["failed"], row["ambiguous"]) for row in endpoints] == [("mini", "1", "1")]
    assert float(endpoints[0]["p50_s"]) <= float(endpoints[0]["p99_s"])


def test_days_outside_the_window_do_not_count(ann: Visitor) -> None:
    documents = {row["document"] for row in rows(ann.get("/costs/documents.csv?days=7"))}
    assert "3-0.txt" in documents
    assert not {"12-0.txt", "40-0.txt"} & documents
    first, last = TODAY - datetime.timedelta(days=13), TODAY - datetime.timedelta(days=11)
    between = rows(ann.get(f"/costs/documents.csv?from={first}&to={last}"))
    assert {row["document"] for row in between} == {"12-0.txt", "12-1.txt", "12-2.txt"}
    page = text(ann, "/costs?days=7")
    assert "against the days before" in page


def test_a_viewer_of_one_collection_learns_nothing_of_another(desk: Desk, vic: Visitor) -> None:
    for path in ("/costs", *(f"/costs/{name}.csv" for name in SECTIONS)):
        assert [name for name in THEIRS if name in text(vic, f"{path}?{ALL_DAYS}")] == []
    budgets = rows(vic.get("/costs/budgets.csv"))
    assert [(row["name"], row["holder"]) for row in budgets] == [("each-collection", "reports")]
    for path in ("/costs?collection={}", "/costs/stages.csv?collection={}"):
        theirs, nobodys = (vic.get(path.format(name)) for name in ("handbook", "nobodys"))
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.text.replace("handbook", "nobodys") == nobodys.text
    assert vic.get("/costs?by=tenant").status_code == 400  # who may see all alone sees tenants


def test_whoever_sees_all_sees_tenants_and_budgets_of_all(desk: Desk, ann: Visitor) -> None:
    (today, *_) = reversed(rows(ann.get(f"/costs/days.csv?{ALL_DAYS}&by=tenant")))
    assert Decimal(today["claims"]) + Decimal(today["people"]) == Decimal(today["cost_usd"])
    names = {row["name"] for row in rows(ann.get("/costs/budgets.csv"))}
    assert names == {budget["name"] for budget in BUDGETS} - {"each-document"}  # there is one of each document
    of_one = rows(ann.get("/costs/budgets.csv?collection=handbook"))
    assert [row["holder"] for row in of_one] == ["handbook"]


def test_names_are_text_and_never_markup_or_formulas(ann: Visitor) -> None:
    page = text(ann, "/costs?days=7&collection=reports&by=asset")
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}.txt" in page
    assert 'style="' not in page
    names = {row["document"] for row in rows(ann.get(f"/costs/documents.csv?{ALL_DAYS}"))}
    assert {f"'{FORMULA}", MARKUP} <= names
    assert FORMULA not in names


def test_who_has_no_role_is_told_so(desk: Desk) -> None:
    nob = desk.visitor("nob")
    page = nob.get("/costs")
    assert (page.status_code, "You have no role in any collection yet." in page.text) == (200, True)
    assert 'href="/costs"' not in text(nob, "/")
    assert nob.get("/costs/days.csv").status_code == 404
    with httpx.Client(base_url=desk.url, trust_env=False) as stranger:
        assert stranger.get("/costs/days.csv").status_code == 303


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=2026-13-01", "is no day of the calendar"),
        ("from=yesterday", "is neither a number of days nor a day"),
        ("from=2026-02-02&to=2026-02-01", "begins after its end"),
        ("from=9999-12-31", "begins after its end"),
        ("days=30000", "is no number of days that this page offers"),
        ("by=mood", "is no group; known are model, asset, collection, tenant"),
    ],
)
def test_wrong_filters_are_a_sentence(ann: Visitor, query: str, said: str) -> None:
    for path in ("/costs", "/costs/days.csv"):
        answer = ann.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert said in answer.text


@pytest.mark.parametrize(
    "query", ["to=0001-01-02", "from=0001-01-01", "from=2020-01-01&to=2020-01-02", "collection=handbook&days=7"]
)
def test_any_window_has_a_page(ann: Visitor, query: str) -> None:
    assert ann.get(f"/costs?{query}").status_code == 200


def test_a_download_has_what_the_page_shows(ann: Visitor) -> None:
    page = text(ann, "/costs?days=7&collection=reports&by=asset")
    for name in SECTIONS:
        assert f"/costs/{name}.csv?days=7&amp;collection=reports&amp;by=asset" in page
    found = rows(ann.get("/costs/days.csv?days=7&collection=reports&by=asset"))
    assert list(found[0]) == ["day", "cost_usd", "reports/triage", f"reports/{ODD_ASSET}"]
    assert all("E" not in row["cost_usd"] for row in found)


def test_a_refused_call_is_an_error_and_costs_nothing(ann: Visitor) -> None:
    (refused,) = [row for row in rows(ann.get("/costs/documents.csv")) if row["document"] == REFUSED]
    assert Decimal(refused["cost_usd"]) == 0
    assert rows(ann.get("/costs/endpoints.csv"))[0]["most_frequent_error"] in ("connection_lost", "context_too_long")


def test_calls_made_since_are_counted_and_the_next_build_has_them(desk: Desk, ann: Visitor, vic: Visitor) -> None:
    before = total(rows(ann.get(f"/costs/stages.csv?{ALL_DAYS}")))
    desk.spending.ask("new.md", tenant="people", collection="handbook", asset="kind", run_id="run-new")
    assert "1 call since is not in it yet" in text(ann, "/costs")
    assert "since is not" not in text(vic, "/costs")  # it was of another collection
    bring_up_to_date(desk.spending.project.home)
    assert "since is not" not in text(ann, "/costs")
    assert total(rows(ann.get(f"/costs/stages.csv?{ALL_DAYS}"))) == desk.ledger("cost_nusd") > before


@pytest.fixture
def alone(project: Project) -> Iterator[tuple[Project, Visitor]]:
    """Nothing was ever built here."""
    project.declare("reports")
    with served(desk_of(project)) as found:
        known(found.stores.state, "ann", "admin")
        visitor = Visitor(found.url)
        visitor.sign_in("ann")
        yield project, visitor
        visitor.http.close()


def test_before_the_first_build_the_page_says_when_figures_come(alone: tuple[Project, Visitor]) -> None:
    _, visitor = alone
    page = visitor.get("/costs")
    assert (page.status_code, "No figures yet." in page.text) == (200, True)
    assert visitor.get("/costs/days.csv").status_code == 404


@pytest.mark.parametrize(
    ("kind", "said"), [("newer", "newer version"), ("torn", "cannot be read"), ("other", "no warehouse")]
)
def test_a_warehouse_that_cannot_be_read_is_a_sentence_and_the_rest_of_the_desk_works(
    desk: Desk, alone: tuple[Project, Visitor], kind: str, said: str
) -> None:
    project, visitor = alone
    path = project.home.warehouse
    path.parent.mkdir(parents=True)
    match kind:
        case "newer":
            shutil.copy(desk.spending.project.home.warehouse, path)
            with duckdb.connect(str(path)) as connection:
                connection.execute("UPDATE raw.built SET schema_version = 99")
        case "torn":
            path.write_bytes(Path(desk.spending.project.home.warehouse).read_bytes()[:5000])
        case "other":
            duckdb.connect(str(path)).close()
    for address in ("/costs", "/costs/days.csv"):
        answer = visitor.get(address)
        assert (answer.status_code, said in answer.text) == (503, True)
    assert visitor.get("/").status_code == 200
