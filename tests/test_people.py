"""Claims about people: passwords, how often one may try, sessions, and the commands that manage all three."""

import datetime
import json
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import cheaper
import pytest
import signing
import sqlalchemy as sa
from argon2 import PasswordHasher
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st
from signing import PASSWORD, knock_when_told, known
from typer.testing import CliRunner, Result

from ai_assets.base.errors import UserError
from ai_assets.cli import reviewers
from ai_assets.cli.errors import NoReviewers, PasswordMissing, PersonDisabled, PersonKnown
from ai_assets.cli.signing import signer
from ai_assets.cli.up import _first_reviewer
from ai_assets.desk import sessions
from ai_assets.desk.settings import SessionSettings, SignInSettings
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import audit, passwords, people, throttle
from ai_assets.signoff.errors import PasswordUnsuitable, PersonUnknown, RoleUnknown, SignInRefused, SignInThrottled
from ai_assets.signoff.passwords import authenticate
from ai_assets.signoff.verification import verify
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores


@pytest.fixture
def stores(project: Project, store_url: str) -> Stores:
    """With ann, who approves everywhere; once per kind of database."""
    found = Stores.at(replace(project.home, declared_state_url=store_url))
    known(found.state)
    return found


@pytest.fixture
def state(stores: Stores) -> StateStore:
    return stores.state


def rows(state: StateStore, query: str) -> list[tuple[object, ...]]:
    with state.read() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def change(state: StateStore, statement: str, **values: object) -> None:
    with state.write() as connection:
        connection.execute(sa.text(statement), values)


# Passwords


@pytest.mark.usefixtures("full_cost")
def test_a_password_is_kept_as_argon2id_and_known_again() -> None:
    kept = passwords.hashed(PASSWORD)
    assert kept.startswith("$argon2id$")
    assert not PasswordHasher().check_needs_rehash(kept)
    assert PASSWORD not in kept
    assert passwords.matches(kept, PASSWORD)
    assert not passwords.matches(kept, PASSWORD + " ")
    assert not passwords.matches("no hash at all", PASSWORD)


def test_a_password_is_the_same_however_a_keyboard_composes_it() -> None:
    assert passwords.matches(
        passwords.hashed("Schlüssel-über-alles"), unicodedata.normalize("NFD", "Schlüssel-über-alles")
    )


def test_a_random_password_can_be_read_out_and_never_repeats() -> None:
    made = {passwords.random_password() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(one) == 23 and set(one) <= {*passwords.READABLE, "-"} for one in made)
    assert not set("ilo01ILO") & set(passwords.READABLE)


@pytest.mark.parametrize(
    ("password", "fits"), [("x" * 9, False), ("x" * 10, True), ("x" * 1000, True), ("x" * 1001, False)]
)
def test_a_chosen_password_has_10_to_1000_characters(password: str, fits: bool) -> None:
    if fits:
        assert passwords.chosen(password) == password
    else:
        with pytest.raises(PasswordUnsuitable, match=f"this one has {len(password)}"):
            passwords.chosen(password)


# The one door


def test_name_and_password_become_a_person_with_their_present_roles(state: StateStore) -> None:
    found = authenticate(state, " Ann ", PASSWORD, "here")
    assert (found.name, dict(found.roles)) == ("ann", {"*": "approver"})
    assert rows(state, "SELECT * FROM sign_in_failures") == []


@pytest.fixture
def full_cost(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hashes as an installation makes them."""
    made = (passwords._nobodys, signing._hashed)
    monkeypatch.setattr(passwords, "_hasher", cheaper.at_full_cost)
    for each in made:
        each.cache_clear()
    yield
    for each in made:
        each.cache_clear()


@pytest.mark.usefixtures("full_cost")
def test_whoever_is_refused_learns_nothing(stores: Stores) -> None:
    state = stores.state
    known(state, "bob")
    with state.write() as connection:
        people.disable(connection, "bob", by="test")
        people.add(connection, "cem", email=None, password_hash=None, by="oidc")
    given = {"ann": "wrong-password", "bob": PASSWORD, "cem": PASSWORD, "nobody": PASSWORD, "\0": PASSWORD}
    said: set[str] = set()
    took: dict[str, float] = {}
    for name, password in [*given.items(), *given.items()]:
        began = time.process_time()  # of all its threads: what else runs here does not count
        with pytest.raises(SignInRefused) as refused:
            authenticate(state, name, password, "here")
        took[name] = min(took.get(name, 60.0), time.process_time() - began)
        said.add(str(refused.value))
    assert len(said) == 1
    assert max(took.values()) < 3 * min(took.values()), took


def test_an_older_hash_is_made_anew_at_the_next_sign_in(state: StateStore) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
    with state.write() as connection:
        people.keep_hash(connection, "ann", old, by="test")
    authenticate(state, "ann", PASSWORD, "here")
    ((new,),) = rows(state, "SELECT password_hash FROM people")
    assert new != old
    assert passwords.matches(str(new), PASSWORD)


def test_after_five_failures_even_the_right_password_waits(state: StateStore) -> None:
    began = time.time()
    for _ in range(5):
        with pytest.raises(SignInRefused):
            authenticate(state, "ann", "wrong", "here")
    with pytest.raises(SignInThrottled, match=r"Wait \d+ seconds") as refused:
        authenticate(state, "ann", PASSWORD, "elsewhere")
    assert 30 - (time.time() - began) - 1 <= refused.value.wait_s <= 30
    assert f"Wait {refused.value.wait_s:.0f} seconds" in str(refused.value)
    assert len(rows(state, "SELECT * FROM sign_in_failures")) == 10  # what had to wait is not counted
    change(state, "UPDATE sign_in_failures SET failed_at = failed_at - 31")
    assert authenticate(state, "ann", PASSWORD, "here").name == "ann"
    ((left,),) = rows(state, "SELECT COUNT(*) FROM sign_in_failures")
    assert left == 5  # the address keeps its own


def test_unknown_names_wait_too_and_are_not_kept_in_clear(state: StateStore) -> None:
    typed_into_the_wrong_field = "hunter2-hunter2"
    for _ in range(5):
        with pytest.raises(SignInRefused):
            authenticate(state, typed_into_the_wrong_field, "x", "here")
    with pytest.raises(SignInThrottled):
        authenticate(state, typed_into_the_wrong_field.upper(), "x", "here")
    assert typed_into_the_wrong_field not in str(rows(state, "SELECT * FROM sign_in_failures"))


def failed(connection: sa.Connection, name: str, address: str, at: float) -> float:
    """A try with a wrong password; how long it has to wait instead."""
    return throttle.count(connection, throttle.counted_for(name, address), at)


def came_in(connection: sa.Connection, name: str, address: str, at: float) -> float:
    """A try with the right password."""
    counted = throttle.counted_for(name, address)
    wait = throttle.count(connection, counted, at)
    if not wait:
        throttle.succeeded(connection, counted, at)
    return wait


def test_of_fifty_people_behind_one_proxy_the_thirteen_with_the_right_password_come_in(state: StateStore) -> None:
    at, everyone = 1_000_000.0, [f"person{number}" for number in range(50)]
    with state.write() as connection:
        for again in range(4):
            for number, name in enumerate(everyone[:37]):
                failed(connection, name, "proxy", at + 60 * again + number)
        at += 300
        assert [came_in(connection, name, "proxy", at + n) for n, name in enumerate(everyone[37:])] == [0] * 13


def test_those_who_mistyped_once_come_in_at_once(state: StateStore) -> None:
    at, everyone = 1_000_000.0, [f"person{number}" for number in range(50)]
    with state.write() as connection:
        assert [failed(connection, name, "proxy", at + n) for n, name in enumerate(everyone)] == [0] * 50
        assert [came_in(connection, name, "proxy", at + 60 + n) for n, name in enumerate(everyone)] == [0] * 50


def test_an_attacker_who_sprays_many_accounts_from_one_address_is_slowed(state: StateStore) -> None:
    at = 1_000_000.0
    with state.write() as connection:
        came_in(connection, "ann", "proxy", at - 86_400)
        waits = [failed(connection, f"name{number}", "proxy", at + number / 10) for number in range(300)]
        assert (waits.count(0), waits[:100]) == (throttle.FIRST_FAILURES, [0] * 100)
        assert all(500 < wait <= throttle.FIRST_FAILURES_WITHIN_S for wait in waits[100:])
        assert failed(connection, "name500", "elsewhere", at + 30) == 0
        assert came_in(connection, "ann", "proxy", at + 30) == 0  # she has signed in from there before
        assert came_in(connection, "bob", "proxy", at + 30) > 0
        assert came_in(connection, "bob", "proxy", at + 31 + throttle.FIRST_FAILURES_WITHIN_S) == 0


@pytest.mark.slow
def test_an_attacker_who_comes_back_to_the_same_accounts_waits_longer_and_longer(state: StateStore) -> None:
    at, guesses = 1_000_000.0, 0
    with state.write() as connection:
        for second in range(0, 86_000, 20):
            guesses += failed(connection, f"name{second // 20 % 100}", "attacker", at + second) == 0
    first, repeated, waiting = 100, throttle.FREE_OF_ADDRESS, 86_000 / throttle.LONGEST_WAIT_S
    assert guesses <= first + repeated + waiting + 6


def test_a_known_place_gives_one_guess_and_no_more(state: StateStore) -> None:
    at = 1_000_000.0
    with state.write() as connection:
        came_in(connection, "ann", "proxy", at)
        for number in range(100):
            failed(connection, f"name{number}", "proxy", at + 1)
        for number in range(60):
            failed(connection, f"name{number}", "proxy", at + 2)
        assert failed(connection, "ann", "proxy", at + 3) == 0
        assert failed(connection, "ann", "proxy", at + 4) > 0


def test_over_the_door_the_right_password_passes_fifty_failures_of_others(state: StateStore) -> None:
    at = time.time()
    with state.write() as connection:
        for number in range(60):
            failed(connection, f"name{number}", "1.2.3.4", at)
        for number in range(60):
            failed(connection, f"name{number}", "1.2.3.4", at)
    assert authenticate(state, "ann", PASSWORD, "1.2.3.4").name == "ann"
    with pytest.raises(SignInThrottled):
        authenticate(state, "name1", "wrong", "1.2.3.4")


def test_the_wait_doubles_up_to_a_quarter_of_an_hour_and_is_forgotten_after_a_day(state: StateStore) -> None:
    at, waits = 1_000_000.0, []
    counted = throttle.counted_for("ann", "here")
    with state.write() as connection:
        for _ in range(12):
            waits.append(wait := throttle.count(connection, counted, at))
            at += wait
            if wait:
                assert throttle.count(connection, counted, at - 0.5) > 0
                assert throttle.count(connection, counted, at) == 0
        assert waits == [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 900, 900]
        assert throttle.count(connection, counted, at + throttle.FORGOTTEN_AFTER_S + 1) == 0
        assert connection.execute(sa.text("SELECT COUNT(*) FROM sign_in_failures")).scalar_one() == 2


def test_a_clock_moved_back_locks_nobody_out_and_opens_nothing(state: StateStore) -> None:
    at, counted = 1_000_000.0, throttle.counted_for("ann", "here")
    with state.write() as connection:
        for _ in range(5):
            throttle.count(connection, counted, at)
        earlier = at - 50_000
        assert throttle.count(connection, counted, earlier) == 30
        assert throttle.count(connection, counted, earlier + 29) == 1
        assert throttle.count(connection, counted, earlier + 30) == 0


@pytest.mark.slow
def test_two_processes_count_together(processes: ForkServerContext, state: StateStore) -> None:
    pipes, gate = [processes.Pipe(duplex=False) for _ in range(2)], processes.Barrier(2)
    running = [processes.Process(target=knock_when_told, args=(state.url, said, gate)) for _, said in pipes]
    for one in running:
        one.start()
    outcomes = [outcome for heard, _ in pipes for outcome in heard.recv()]
    for one in running:
        one.join()
    assert (outcomes.count("SignInRefused"), outcomes.count("SignInThrottled")) == (5, 7)


def test_twenty_tries_at_the_same_instant_are_twenty(state: StateStore) -> None:
    outcomes: list[str] = []
    together = threading.Barrier(20)

    def attempt() -> None:
        together.wait()
        try:
            authenticate(state, "ann", "wrong", "here")
        except UserError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("SignInRefused"), outcomes.count("SignInThrottled")) == (5, 15)


@given(name=st.text(max_size=300), password=st.text(max_size=300), address=st.text(max_size=300))
def test_counters_can_be_made_of_anything(name: str, password: str, address: str) -> None:
    counted = throttle.counted_for(name, address)
    assert counted.account.isascii()
    assert len({counted.account, counted.repeated, counted.first, counted.place}) == 4


# Sessions

RULES, SEAL = SessionSettings(), Seal(b"k" * 32)


def opened(state: StateStore, person: str = "ann", groups: tuple[str, ...] = ()) -> str:
    with state.write() as connection:
        token, _ = sessions.open_session(
            connection, person, via="password", groups=groups, seal=SEAL, rules=RULES, address="here", agent="browser\0"
        )
    return token


def found(state: StateStore, token: str, rules: SessionSettings = RULES) -> sessions.Session | None:
    with state.read() as connection:
        return sessions.find(connection, token, rules, SEAL)


def shift(state: StateStore, column: str, **by: float) -> None:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(**by)
    statement = sa.update(sa.table("sessions", sa.column(column))).values({column: moment.isoformat()})
    with state.write() as connection:
        connection.execute(statement)


def test_a_session_is_found_by_its_token_and_the_token_is_nowhere_in_the_store(state: StateStore) -> None:
    token = opened(state, groups=("legal",))
    session = found(state, token)
    assert session is not None
    assert (session.person, session.groups, session.agent) == ("ann", {"legal"}, "browser�")
    assert token not in str(rows(state, "SELECT * FROM sessions"))
    assert found(state, token + "x") is None
    assert found(state, "\ud800") is None


@pytest.mark.parametrize(
    ("column", "by", "lasts"),
    [
        ("seen_at", {"minutes": -59}, True),
        ("seen_at", {"minutes": -61}, False),
        ("expires_at", {"seconds": -1}, False),
        ("created_at", {"hours": -13}, False),
        ("created_at", {"minutes": 4}, True),
        ("created_at", {"minutes": 6}, False),
        ("seen_at", {"minutes": 6}, False),
    ],
)  # fmt: skip
def test_a_session_ends_by_time_and_by_a_clock_moved_back(
    state: StateStore, column: str, by: dict[str, float], lasts: bool
) -> None:
    token = opened(state)
    shift(state, column, **by)
    assert (found(state, token) is not None) == lasts


def test_a_rule_that_became_shorter_holds_for_sessions_that_are_open(state: StateStore) -> None:
    token = opened(state)
    shift(state, "created_at", hours=-2)
    assert found(state, token) is not None
    assert found(state, token, SessionSettings(longest_hours=1)) is None
    session = found(state, token)
    assert session is not None
    assert sessions.admits(session, SignInSettings())
    assert not sessions.admits(
        session, SignInSettings.model_validate({"local": False, "proxy": {"addresses": ["::1"]}})
    )


def test_that_a_session_is_used_is_written_once_a_minute(state: StateStore) -> None:
    token = opened(state)
    session = found(state, token)
    assert session is not None
    assert not sessions.to_be_noted(session, RULES)
    shift(state, "seen_at", seconds=-61)
    session = found(state, token)
    assert session is not None
    assert sessions.to_be_noted(session, RULES)
    sessions.note(state, session)
    session = found(state, token)
    assert session is not None
    assert not sessions.to_be_noted(session, RULES)


def test_ending_anothers_session_is_recorded_and_ending_ones_own_is_not(state: StateStore) -> None:
    token = opened(state)
    session = found(state, token)
    with state.read() as connection:
        ann = people.find(connection, "ann")
    assert session is not None
    assert ann is not None
    assert not sessions.end(state, session.token_digest, replace(ann, name="bob"), by="bob")
    assert sessions.end(state, session.token_digest, ann, by="ann")
    assert found(state, token) is None
    opened(state)
    opened(state)
    with state.write() as connection:
        assert sessions.end_all(connection, "ann", by="cli:root") == 2
        assert sessions.end_all(connection, "ann", by="cli:root") == 0
    with state.read() as connection:
        (record,) = audit.select(connection, actions=["session ended"])
    assert (record.actor, record.subject) == ("cli:root", {"person": "ann", "sessions": 2})


def test_who_is_vouched_for_is_added_once_without_a_role_and_stays_disabled(state: StateStore) -> None:
    for _ in range(2):
        person = sessions.vouched(state, "Dora@Example.org", email=None, groups=["legal"], by="proxy")
        assert person is not None
        assert (person.name, person.groups, person.roles) == ("dora@example.org", {"legal"}, {})
    with state.write() as connection:
        people.give(connection, "group:legal", "approver", "notes", by="test")
    person = sessions.vouched(state, "dora@example.org", email=None, groups=["legal"], by="proxy")
    assert person is not None
    assert person.may("approver", "notes")
    with state.write() as connection:
        people.disable(connection, "dora@example.org", by="test")
    assert sessions.vouched(state, "dora@example.org", email=None, groups=["legal"], by="proxy") is None
    with state.read() as connection:
        assert len(audit.select(connection, actor="proxy")) == 1


# Commands


def command(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(reviewers.app, list(arguments), input=stdin)


def done(*arguments: str, stdin: str | None = None) -> str:
    result = command(*arguments, stdin=stdin)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_a_reviewer_is_added_with_a_password_that_is_shown_once(project: Project) -> None:
    project.declare()
    said = done("add", "Ann", "--role", "approver", "--collection", "notes", "--group", "legal")
    password = said.split("shown only now: ")[1].split()[0]
    person = authenticate(project.stores().state, "ann", password, "here")
    assert (dict(person.roles), person.groups) == ({"notes": "approver"}, {"legal"})
    listed = json.loads(done("list", "--json"))["people"]
    assert [(one["name"], one["roles"], one["groups"], one["has_password"]) for one in listed] == [
        ("ann", {"notes": "approver"}, ["legal"], True)
    ]
    assert "shown only now" not in done("list")
    assert password not in str(rows(project.stores().state, "SELECT subject FROM audit"))
    with project.stores().state.read() as connection:
        assert {record.actor for record in audit.records(connection)} == {reviewers.actor()}
    verify(project.stores().state)


def test_a_password_may_come_from_standard_input(project: Project) -> None:
    said = done("add", "ann", "--role", "admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert PASSWORD not in said
    assert authenticate(project.stores().state, "ann", PASSWORD, "here").roles == {"*": "admin"}
    assert isinstance(command("add", "bob", "--password-stdin", stdin="short\n").exception, PasswordUnsuitable)
    assert command("add", "bob", "--password-stdin", "--no-password").exit_code == 2


def test_roles_change_by_command_and_hold_at_once(project: Project) -> None:
    project.declare()
    done("add", "ann", "--no-password")
    done("grant", "ann", "viewer", "notes")
    done("grant", "group:legal", "approver", "*")
    done("group", "add", "legal", "ann")
    state = project.stores().state
    with state.read() as connection:
        ann = people.find(connection, "ann")
    assert ann is not None
    assert (dict(ann.roles), ann.role_in("notes")) == ({"notes": "viewer", "*": "approver"}, "approver")
    assert "approver in all collections" in done("list")
    assert "had no role" not in done("revoke", "ann", "notes")
    assert "had no role" in done("revoke", "ann", "notes")
    done("group", "remove", "legal", "ann")
    with state.read() as connection:
        ann = people.find(connection, "ann")
    assert ann is not None
    assert ann.roles == {}
    verify(state)


def test_what_is_mistyped_is_named_with_the_nearest_known(project: Project) -> None:
    project.declare()
    done("add", "ann", "--no-password")
    for arguments, kind, said in [
        (("grant", "ann", "aprover", "notes"), RoleUnknown, "did you mean 'approver'?"),
        (("grant", "anne", "approver", "notes"), PersonUnknown, "ann"),
        (("grant", "ann", "approver", "note"), UserError, "notes"),
        (("add", "ANN"), PersonKnown, "is known already"),
        (("sign-out", "bob"), PersonUnknown, "bob"),
        (("sessions", "bob"), PersonUnknown, "bob"),
    ]:
        error = command(*arguments).exception
        assert isinstance(error, kind), arguments
        assert said in str(error)


def test_who_is_disabled_is_out_and_comes_back_only_by_enable(project: Project) -> None:
    done("add", "ann", "--role", "approver", "--password-stdin", stdin=f"{PASSWORD}\n")
    state = project.stores().state
    token = opened(state)
    done("disable", "ann")
    assert found(state, token) is None
    with pytest.raises(SignInRefused):
        authenticate(state, "ann", PASSWORD, "here")
    for arguments in (("password", "ann"), ("grant", "ann", "viewer", "*"), ("group", "add", "legal", "ann")):
        assert isinstance(command(*arguments).exception, PersonDisabled)
    assert isinstance(command("add", "ann").exception, PersonKnown)
    done("enable", "ann")
    assert authenticate(state, "ann", PASSWORD, "here").roles == {"*": "approver"}


def test_another_password_signs_out_everywhere(project: Project) -> None:
    done("add", "ann", "--role", "approver", "--password-stdin", stdin=f"{PASSWORD}\n")
    state = project.stores().state
    token = opened(state)
    said = done("password", "ann")
    assert found(state, token) is None
    assert authenticate(state, "ann", said.split("shown only now: ")[1].split()[0], "here").name == "ann"
    with pytest.raises(SignInRefused):
        authenticate(state, "ann", PASSWORD, "here")


def test_sessions_are_listed_without_what_opens_them_and_ended(project: Project) -> None:
    done("add", "ann", "--no-password")
    state = project.stores().state
    assert "Nobody is signed in" in done("sessions")
    token = opened(state, groups=("legal",))
    session = found(state, token)
    assert session is not None
    said = done("sessions", "ann", "--json")
    assert json.loads(said)[0]["groups"] == ["legal"]
    assert session.token_digest not in said
    assert "here" in done("sessions")
    assert "1 session ended" in done("sign-out", "ann")
    assert found(state, token) is None


def test_the_commands_are_part_of_the_program(project: Project) -> None:
    said = project.cli("reviewers", "grant", "ann", "approver", "*")
    assert (said.returncode, "error: " in said.stderr, "Traceback" in said.stderr) == (2, True, False)
    assert "ann" in said.stderr


# Signing on the command line


def test_a_decision_on_the_command_line_takes_a_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoReviewers, match="ai-assets reviewers add ann --role approver"):
        signer("ann")
    known(project.stores().state)
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(PasswordMissing, match="AI_ASSETS_PASSWORD"):
            signer("ann")
    monkeypatch.setenv("AI_ASSETS_PASSWORD", PASSWORD)
    assert signer("Ann").may("approver", "notes")
    monkeypatch.setenv("AI_ASSETS_PASSWORD", "another password")
    with pytest.raises(SignInRefused):
        signer("ann")


def test_the_account_that_up_prints_may_administer(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    state = project.stores().state
    with state.write() as connection:
        audit.begin(connection)
    _first_reviewer(project.stores())
    password = capsys.readouterr().out.split("password ")[1].split()[0]
    person = authenticate(state, "reviewer", password, "here")
    assert person.roles == {"*": "admin"}
    assert all(person.may(role, "notes") for role in ("viewer", "reviewer", "approver", "admin"))
    _first_reviewer(project.stores())
    assert capsys.readouterr().out == "", "only in a home where nobody is known"
    verify(state)
