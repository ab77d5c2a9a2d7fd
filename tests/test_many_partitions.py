"""Claims about installations with many partitions: what is asked of all of them reads indexes, and says what is so."""

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Project
from postgres_server import Postgres

from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import SlaSettings
from ai_assets.desk import inbox_order
from ai_assets.run import file_looks
from ai_assets.run.partition_states import DUE, observed_states
from ai_assets.run.status import due_partitions
from ai_assets.signoff import claims, requests
from ai_assets.signoff.people import Person
from ai_assets.signoff.sla import age_hours
from ai_assets.storage import partition_facts
from ai_assets.storage.lake import Manifest
from ai_assets.storage.migrations import m041_large
from ai_assets.storage.state import StateStore, upsert
from ai_assets.storage.stores import Stores, record_dataset

NAME = "daily"
FACTS = "SELECT * FROM partition_facts ORDER BY collection, partition"
TOTALS = "SELECT * FROM dataset_totals ORDER BY collection, asset, name"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    if request.param == "sqlite":
        store = StateStore(f"sqlite:///{tmp_path}/state.db")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        store = StateStore(server.database(f"t{uuid.uuid4().hex}"))
    yield store
    store.close()


def manifest(partition: str, **stats: object) -> Manifest:
    return Manifest(collection=NAME, asset="documents", partition=partition, version="v", code_version="c",
                    fingerprint="", inputs={}, file="v.parquet", rows=1, stats=stats, run_id="r",
                    written_at="2026-01-01")  # fmt: skip


def listed(connection: sa.Connection, partition: str, digest: str) -> None:
    upsert(connection, "listings", {"collection": NAME, "partition": partition},
           {"digest": digest, "files": 1, "observed_at": ""})  # fmt: skip
    partition_facts.derive(connection, NAME, [partition])


def refreshed(connection: sa.Connection, partition: str, digest: str, status: str = "ok", settings: str = "s") -> None:
    upsert(connection, "refreshes", {"collection": NAME, "partition": partition},
           {"status": status, "error": None, "listing_digest": digest, "settings_digest": settings,
            "corrections_digest": "", "run_id": "r", "finished_at": ""})  # fmt: skip
    partition_facts.derive(connection, NAME, [partition])


def asked(connection: sa.Connection, partition: str, digest: str, risk: float = 0.5) -> requests.SignoffRequest:
    found = requests.open_request(connection, NAME, partition, digest, summary={}, facts={"added": 2, "changed": 1},
                                  risk=risk, nothing_new=False)  # fmt: skip
    assert found is not None
    return found


def test_an_upgrade_and_the_writers_say_the_same_of_every_partition(state: StateStore) -> None:
    chance = random.Random(5)
    keys = [f"2026-01-{day:02d}" for day in range(1, 10)]
    for step in range(120):
        key, digest = chance.choice(keys), chance.choice(("a", "b"))
        with state.write() as connection:
            match chance.randrange(6):
                case 0:
                    listed(connection, key, digest)
                case 1:
                    connection.execute(sa.text("DELETE FROM listings WHERE partition = :p"), {"p": key})
                    partition_facts.derive(connection, NAME, [key])
                case 2:
                    refreshed(connection, key, digest, chance.choice(("ok", "failed")), chance.choice(("s", "t")))
                case 3:
                    statuses = {name: chance.randrange(3) for name in ("ok", "quarantined", "duplicate")}
                    counted = {"documents_out": statuses["ok"], "unanswered": chance.randrange(2)}
                    record_dataset(connection, manifest(key, statuses=statuses, **counted))
                case 4:
                    asked(connection, key, f"{step}")
                case 5:
                    for request in requests.find(connection, NAME, partitions=[key], statuses=("open",)):
                        requests.close(connection, request, "rejected", "ann", "no")
    with state.read() as connection:
        facts, totals = connection.execute(sa.text(FACTS)).all(), connection.execute(sa.text(TOTALS)).all()
        sizes = connection.execute(sa.text("SELECT request_id, size FROM review_requests ORDER BY 1")).all()
        unanswered = connection.execute(sa.text("SELECT partition, unanswered FROM datasets ORDER BY 1")).all()
    assert len(facts) > 5
    assert sum(row.unanswered for row in unanswered)
    with state.write() as connection:
        for table in ("partition_facts", "dataset_totals", "file_looks", "listing_versions"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        for index in ("datasets_unanswered", "refreshes_failed", "review_requests_by_risk", "review_requests_by_age",
                      "review_requests_by_size", "audit_of_action"):  # fmt: skip
            connection.execute(sa.text(f"DROP INDEX {index}"))
        connection.execute(sa.text("ALTER TABLE datasets DROP COLUMN unanswered"))
        connection.execute(sa.text("ALTER TABLE review_requests DROP COLUMN size"))
        connection.execute(sa.text("CREATE INDEX review_requests_status ON review_requests (status)"))
        m041_large.up(connection)
    with state.read() as connection:
        assert connection.execute(sa.text(FACTS)).all() == facts
        assert connection.execute(sa.text(TOTALS)).all() == totals
        assert connection.execute(sa.text("SELECT request_id, size FROM review_requests ORDER BY 1")).all() == sizes
        again = connection.execute(sa.text("SELECT partition, unanswered FROM datasets ORDER BY 1")).all()
    assert again == unanswered


def test_the_riskiest_come_first_exactly_as_if_all_had_been_sorted(state: StateStore) -> None:
    chance, at = random.Random(3), datetime(2026, 3, 2, tzinfo=UTC)
    with state.write() as connection:
        for number in range(300):
            request = asked(connection, f"p{number}", f"{number}", risk=chance.choice((0.0, 0.1, 0.35, 0.9, 1.0)))
            opened = (at - timedelta(hours=chance.choice((0, 5, 30, 300, number)))).isoformat(timespec="milliseconds")
            given = {"at": opened, "id": request.request_id}
            connection.execute(sa.text("UPDATE review_requests SET opened_at = :at WHERE request_id = :id"), given)
    now = at.isoformat(timespec="milliseconds")
    rules = (
        SlaSettings(),
        SlaSettings(remind_after_hours=10, escalate_after_hours=20, expire_after_days=7),
        SlaSettings(expire_after_days=30, business_days=True),
    )
    with state.read() as connection:
        every = requests.find(connection, NAME)
        for sla in rules:
            key = {
                each.request_id: (-inbox_order.aged_risk(each.risk, age_hours(each.opened_at, now, sla), sla),
                                  each.opened_at, each.request_id)
                for each in every
            }  # fmt: skip
            in_order = sorted(key, key=key.__getitem__)
            for wanted in (1, 7, 50, 300, 400):
                found = inbox_order.riskiest(connection, [inbox_order.among([NAME])], sla, now, wanted)
                assert [each[-1] for each in found] == in_order[:wanted]


@pytest.fixture
def daily(project: Project) -> Collection:
    return project.declare(NAME, partitions={"by": "day", "start": "2016-01-01", "end": "2025-12-28"})


def fill(stores: Stores, collection: Collection, number: int) -> None:
    with stores.state.write() as connection:
        for key in collection.scheme.keys()[:number]:
            refreshed(connection, key, "a", settings=collection.settings_digest)
            upsert(connection, "listings", {"collection": NAME, "partition": key},
                   {"digest": "a", "files": 1, "observed_at": ""})  # fmt: skip
        partition_facts.derive(connection, NAME, collection.scheme.keys()[:number])


def statements(stores: Stores, ask: Callable[[], object]) -> int:
    """How many SQL statements, and how many rows of their results."""
    seen: list[str] = []

    def heard(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    engine = stores.state._engine
    sa.event.listen(engine, "before_cursor_execute", heard)
    try:
        ask()
    finally:
        sa.event.remove(engine, "before_cursor_execute", heard)
    return len(seen)


def sqlite_steps(connection: sa.Connection, ask: Callable[[], object]) -> int:
    """How much SQLite does for it: a number that no other work on the machine changes."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    raw = connection.connection.driver_connection
    assert raw is not None
    raw.set_progress_handler(step, 1)
    try:
        ask()
    finally:
        raw.set_progress_handler(None, 1)
    return taken


def test_claims_are_counted_by_reading_claims_however_many_requests_are_open(project: Project) -> None:
    steps, opened = [], list[requests.SignoffRequest]()
    with project.stores() as stores:
        for number in (20, 400):
            with stores.state.write() as connection:
                opened += [asked(connection, f"p{each}", f"{each}") for each in range(len(opened), number)]
            if number == 20:
                for request, name in ((opened[0], "ann"), (opened[1], "ben"), (opened[2], "ann"), (opened[3], "ann")):
                    claims.take(stores.state, request, by=Person(name=name, roles={"*": "admin"}))
                with stores.state.write() as connection:
                    requests.close(connection, opened[3], "rejected", "ann", "no")
            with stores.state.read() as connection:
                ask = partial(claims.of_open_requests, connection, [NAME, "other"], "ann")
                assert ask() == claims.ClaimCounts(all=3, mine=2)
                assert claims.of_open_requests(connection, ["other"], "ann") == claims.ClaimCounts(all=0, mine=0)
                steps.append(sqlite_steps(connection, ask))
    assert steps[0] == steps[1] > 0


def test_what_is_due_takes_as_many_statements_of_ten_partitions_as_of_many(project: Project, daily: Collection) -> None:
    found = []
    with project.stores() as stores:
        for number in (10, 400):
            fill(stores, daily, number)
            found.append(statements(stores, lambda: observed_states(daily, stores, only=DUE)))
            with stores.state.read() as connection:
                assert len(partition_facts.groups(connection, NAME)) == 1
        assert found[0] == found[1]
        assert observed_states(daily, stores, only=DUE)[0] == {}
        with stores.state.write() as connection:
            listed(connection, "2016-01-02", "b")
        assert observed_states(daily, stores, only=DUE)[0] == {"2016-01-02": "stale"}
        states, _ = observed_states(daily, stores)
        assert list(states) == daily.scheme.keys()
        assert [key for key, state in states.items() if state in DUE] == ["2016-01-02"]


def test_a_run_looks_at_the_files_of_some_partitions_and_the_next_at_those_behind(
    project: Project, daily: Collection
) -> None:
    with project.stores() as stores:
        fill(stores, daily, 50)
        keys, seen = daily.scheme.keys()[:50], []
        for _ in range(3):
            seen += due_partitions(daily, stores, keys)  # none of them has a file
            file_looks.went_on(stores.state, NAME, keys)
        assert seen[:40] == keys[:40]
        assert sorted(seen[40:]) == sorted([*keys[40:], *keys[:10]])
        assert due_partitions(daily, stores, keys[3:5]) == keys[3:5], "what is named is looked at"


PLANS = {
    "groups": (
        f"SELECT {', '.join(partition_facts.COLUMNS)} FROM partition_facts WHERE collection = 'a' "  # noqa: S608
        f"GROUP BY {', '.join(partition_facts.COLUMNS)}",
        "COVERING INDEX partition_facts_grouped",
    ),
    "failed": ("SELECT error FROM refreshes WHERE collection = 'a' AND status = 'failed'", "INDEX refreshes_failed"),
    "unanswered": (
        "SELECT partition, unanswered FROM datasets WHERE collection = 'a' AND asset IN ('b') AND unanswered > 0",
        "COVERING INDEX datasets_unanswered",
    ),
    "live": (
        "SELECT * FROM audit WHERE collection IN ('a') AND action IN ('published') ORDER BY seq DESC LIMIT 1",
        "INDEX audit_of_action (collection=? AND action=?)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_it_is_read_off_an_index_and_sorted_by_it(name: str, tmp_path: Path) -> None:
    query, index = PLANS[name]
    with StateStore(f"sqlite:///{tmp_path}/state.db").read() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    assert index in plan[0]
    assert not [line for line in plan if "TEMP B-TREE" in line]


@pytest.mark.parametrize("order", ["risk", "age", "size"])
def test_a_page_of_open_requests_is_not_sorted(order: str, project: Project, daily: Collection) -> None:
    with project.stores() as stores, stores.state.read() as connection:
        columns = inbox_order.ORDERS[order]
        query = sa.select(columns[-1]).where(inbox_order.among([NAME, "b"]), inbox_order.IS_OPEN).order_by(*columns)
        text = str(query.limit(50).compile(connection, compile_kwargs={"literal_binds": True}))
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert f"COVERING INDEX review_requests_by_{order}" in plan[0]
    assert len(plan) == 1


def test_status_shows_what_is_not_settled_and_all_when_asked(project: Project, daily: Collection) -> None:
    with project.stores() as stores:
        fill(stores, daily, 50)
        with stores.state.write() as connection:
            listed(connection, "2016-01-02", "b")
    said = project.cli("status", NAME).stdout
    assert "2016-01-02" in said
    assert "2016-01-03" not in said
    assert "(--all shows them)" in said
    assert "2016-01-03" in project.cli("status", NAME, "--all").stdout
