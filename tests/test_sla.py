"""Claims about deadlines: what age leads to happens once, in order, on the days that count, and approves nothing."""

import itertools
import os
import signal
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from hypothesis import example, given
from hypothesis import strategies as st

from ai_assets.collection.loading import Collection, load_collection
from ai_assets.collection.settings import SlaSettings
from ai_assets.signoff import audit, decisions, people, requests, sla, verification
from ai_assets.signoff.errors import DecisionTooLate
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore

FACTS = {"documents": 12, "added": 3, "removed": 0, "low_confidence": 2, "cost_usd": 0.5}
SUMMARY: dict[str, Any] = {"gates": [], "authors": []}
PLAIN = SlaSettings()
WORKING = SlaSettings(business_days=True)
FRIDAY, MONDAY = "2026-11-20T12:00:00.000+00:00", "2026-11-23T12:00:00.000+00:00"

moments = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC).isoformat(timespec="milliseconds")
)
settings = st.sampled_from([PLAIN, WORKING])
spans = st.floats(min_value=0.001, max_value=2000)


# Age


@given(moments, moments, moments, settings)
def test_age_never_shrinks_and_adds_up(a: str, b: str, c: str, rules: SlaSettings) -> None:
    first, second, third = sorted([a, b, c])
    whole, left, right = (sla.age_hours(*pair, rules) for pair in ((first, third), (first, second), (second, third)))
    assert whole == pytest.approx(left + right, abs=1e-6)
    assert sla.age_hours(third, first, rules) == 0


@given(moments, spans, settings)
@example(FRIDAY, 12.0, WORKING)
@example(MONDAY, 24.0 * 10, WORKING)
@example("2026-11-21T00:00:00.000+00:00", 24.0, WORKING)
def test_the_deadline_is_the_first_moment_of_that_age(opened: str, hours: float, rules: SlaSettings) -> None:
    found = sla.deadline(opened, hours, rules)
    just_before = (datetime.fromisoformat(found) - timedelta(milliseconds=1)).isoformat(timespec="milliseconds")
    exact = hours - 1e-6
    assert sla.age_hours(opened, found, rules) >= exact
    assert sla.age_hours(opened, just_before, rules) < hours or found == opened
    assert sla.opened_by(found, hours, rules) >= opened > sla.opened_by(just_before, hours, rules)


@given(moments, moments, spans, settings)
def test_what_is_looked_up_is_what_is_old_enough(opened: str, moment: str, hours: float, rules: SlaSettings) -> None:
    assert (opened <= sla.opened_by(moment, hours, rules)) == (moment >= sla.deadline(opened, hours, rules))


@pytest.mark.parametrize(
    ("opened", "hours", "rules", "expected"),
    [
        (FRIDAY, 24, PLAIN, "2026-11-21T12:00:00.000+00:00"),
        (FRIDAY, 24, WORKING, "2026-11-23T12:00:00.000+00:00"),
        (FRIDAY, 12, WORKING, "2026-11-21T00:00:00.000+00:00"),
        ("2026-11-21T15:00:00.000+00:00", 1, WORKING, "2026-11-23T01:00:00.000+00:00"),
        (MONDAY, 120, WORKING, "2026-11-30T12:00:00.000+00:00"),
        (MONDAY, 1e12, PLAIN, "2126-10-30T12:00:00.000+00:00"),
    ],
    ids=["plain", "over a weekend", "until friday midnight", "from saturday", "a week", "longer than people live"],
)
def test_deadlines(opened: str, hours: float, rules: SlaSettings, expected: str) -> None:
    assert sla.deadline(opened, hours, rules) == expected


# What it leads to


@pytest.fixture
def notes(project: Project) -> Collection:
    return project.declare(signoff={"notify": ["team"], "escalate_notify": ["leads"], "sla": {"escalate_to": "leads"}})


def ask(state: StateStore, number: int = 1, name: str = "notes") -> list[SignoffRequest]:
    asked = []
    with state.write() as connection:
        for each in range(number):
            found = requests.open_request(
                connection, name, f"part-{each}", f"{each:064x}", summary=SUMMARY, facts=FACTS, risk=0.1,
                nothing_new=False,
            )  # fmt: skip
            assert found is not None
            asked.append(found)
    return asked


def later(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="milliseconds")


def told(state: StateStore) -> Counter[str]:
    with state.read() as connection:
        return Counter(record.action for record in audit.records(connection) if record.action != "requested")


def outbox(state: StateStore) -> list[tuple[str, str, str]]:
    with state.read() as connection:
        query = sa.text("SELECT kind, channel, state FROM notices ORDER BY made_at, kind, channel")
        return [(row.kind, row.channel, row.state) for row in connection.execute(query)]


def now_of(state: StateStore, request: SignoffRequest) -> SignoffRequest:
    with state.read() as connection:
        found = requests.get(connection, request.request_id)
    assert found is not None
    return found


def test_a_request_is_reminded_escalated_and_expires_each_once(state: StateStore, notes: Collection) -> None:
    (request,) = ask(state)
    steps = []
    for hours in (1, 23.9, 24.1, 30, 72.1, 80, 24 * 13.9, 24 * 14.1, 24 * 30):
        steps.append(sla.advance(state, [notes], later(hours)))
        assert sla.advance(state, [notes], later(hours)) == 0
    assert steps == [0, 0, 1, 0, 1, 0, 0, 1, 0]
    assert told(state) == {"reminded": 1, "escalated": 1, "expired": 1}
    assert outbox(state) == [
        ("reminded", "team", "moot"), ("escalated", "leads", "waiting"), ("expired", "team", "waiting"),
    ]  # fmt: skip
    after = now_of(state, request)
    assert (after.status, after.closed_by, after.reason) == ("expired", "ai-assets", "nobody decided within 14 days")
    assert verification.verify(state).records == 4


@pytest.mark.parametrize(
    ("hours", "action", "status", "step"),
    [(25, "reminded", "open", 1), (100, "escalated", "open", 2), (24 * 20, "expired", "expired", 0)],
)
def test_where_several_are_due_only_the_last_is_taken(
    state: StateStore, notes: Collection, hours: float, action: str, status: str, step: int
) -> None:
    (request,) = ask(state)
    assert sla.advance(state, [notes], later(hours)) == 1
    assert sla.advance(state, [notes], later(hours)) == 0
    after = now_of(state, request)
    assert (told(state), after.status, after.sla_step) == ({action: 1}, status, step)


def test_a_clock_that_jumps_repeats_and_undoes_nothing(state: StateStore, notes: Collection) -> None:
    (request,) = ask(state)
    steps = [sla.advance(state, [notes], later(hours)) for hours in (25, -500, 73, 25, 0, 73, 26, 73)]
    assert (sum(steps), now_of(state, request).sla_step) == (2, 2)
    assert told(state) == {"reminded": 1, "escalated": 1}


def test_waiting_approves_nothing_and_what_expired_is_not_decided_any_more(
    state: StateStore, notes: Collection
) -> None:
    asked = ask(state, 3)
    for hours in itertools.chain(range(0, 24 * 16, 5), (10**6,)):
        sla.advance(state, [notes], later(hours))
    assert not told(state).keys() & {"approved", "published", "waived"}
    assert {now_of(state, request).status for request in asked} == {"expired"}
    with state.write() as connection:
        people.add(connection, "ann", email=None, password_hash=None, by="test")
        people.give(connection, "ann", "approver", "notes", by="test")
        ann = people.find(connection, "ann")
    assert ann is not None
    choice = decisions.Choice(asked[0].request_id, asked[0].digest)
    with pytest.raises(DecisionTooLate, match="it was expired by ai-assets"):
        decisions.decide(state, "notes", [choice], "approve", by=ann, reason=None, rules=notes.settings.signoff)
    again = decisions.ask_again(state, "notes", "part-0", by=ann, reason="still wanted")
    assert (again.status, again.sla_step, sla.advance(state, [notes], later(1))) == ("open", 0, 0)


def test_what_was_decided_ages_no_further(state: StateStore, notes: Collection) -> None:
    approved, voided = ask(state, 2)
    with state.write() as connection:
        requests.close(connection, approved, "approved", "ann", None, groups=[], complete=True)
        requests.close(connection, voided, "voided", "ai-assets", "replaced")
    assert sla.advance(state, [notes], later(24 * 60)) == 0


def test_steps_that_are_not_declared_are_not_taken(state: StateStore, project: Project) -> None:
    quiet = {"remind_after_hours": None, "escalate_after_hours": None, "expire_after_days": None}
    ask(state)
    assert sla.advance(state, [project.declare(signoff={"sla": quiet})], later(10**5)) == 0
    assert sla.advance(state, [project.declare(signoff={"sla": {**quiet, "escalate_after_hours": 5}})], later(6)) == 1


def test_many_that_are_due_are_all_done_in_short_transactions(state: StateStore, notes: Collection) -> None:
    ask(state, 2 * sla.BATCH + 7)
    assert sla.advance(state, [notes], later(25)) == 2 * sla.BATCH + 7
    assert told(state) == {"reminded": 2 * sla.BATCH + 7}


def test_new_requests_are_told_of_once_and_decided_ones_never(state: StateStore, notes: Collection) -> None:
    first, second = ask(state, 2)
    with state.write() as connection:
        requests.close(connection, first, "rejected", "ann", "no")
    seen = sla.announce(state, [notes], later(0), 0)
    assert outbox(state) == [("opened", "team", "waiting")]
    for after in (seen, 0, seen + 1000):
        assert sla.announce(state, [notes], later(1), after) == seen
    assert outbox(state) == [("opened", "team", "waiting")]
    with state.write() as connection:
        requests.close(connection, second, "rejected", "ann", "no")
        requests.open_again(connection, now_of(state, first))
    assert sla.announce(state, [notes], later(1), seen) == seen + 2
    assert len(outbox(state)) == 2


# Faults


def run_sensor(root: Path, url: str, keys: Path, moments: list[str], gate: Barrier) -> None:
    collection, state = load_collection(root / "collections", "notes"), StateStore(url, keys=keys)
    for moment in moments:
        gate.wait(60)
        sla.announce(state, [collection], moment, 0)
        sla.advance(state, [collection], moment)


def test_two_sensors_at_once_take_each_step_once(
    state: StateStore, notes: Collection, project: Project, processes: ForkServerContext
) -> None:
    ask(state, 130)
    moments = [later(hours) for hours in (1, 25, 75, 24 * 15)]
    gate = processes.Barrier(2)
    both = [
        processes.Process(target=run_sensor, args=(project.root, state.url, state.keys, moments, gate)) for _ in "ab"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert told(state) == {"reminded": 130, "escalated": 130, "expired": 130}
    assert Counter(kind for kind, _, _ in outbox(state)) == {
        "opened": 130, "reminded": 130, "escalated": 130, "expired": 130,
    }  # fmt: skip
    verification.verify(state)


def die_in_the_middle(root: Path, url: str, keys: Path, moment: str, after_s: float) -> None:
    collection, state = load_collection(root / "collections", "notes"), StateStore(url, keys=keys)
    threading.Timer(after_s, os.kill, args=(os.getpid(), signal.SIGKILL)).start()
    while True:
        sla.advance(state, [collection], moment)


def test_a_sensor_killed_in_the_middle_leaves_whole_steps(
    state: StateStore, notes: Collection, project: Project, processes: ForkServerContext
) -> None:
    ask(state, 300)
    for after_s in (0.02, 0.08):
        doomed = processes.Process(
            target=die_in_the_middle, args=(project.root, state.url, state.keys, later(25), after_s)
        )
        doomed.start()
        doomed.join(60)
        assert doomed.exitcode == -signal.SIGKILL
        assert told(state).get("reminded", 0) == len(outbox(state))
    sla.advance(state, [notes], later(25))
    assert (told(state), len(outbox(state))) == ({"reminded": 300}, 300)
    verification.verify(state)
