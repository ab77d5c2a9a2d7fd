"""Claims about who started a run: signed tickets, forged tags, repetitions, tokens, and the command line."""

import datetime
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import Project
from signing import PASSWORD, current, known

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.orchestration.automation import nightly, source_changes
from ai_assets.orchestration.component import collection_definitions
from ai_assets.signoff import audit, launch_tokens, launches, people, requests
from ai_assets.signoff.errors import TokenRefused, TokenUnknown
from ai_assets.signoff.launches import TICKET_TAG, Launch, Launcher
from ai_assets.storage.state import StateStore

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
ANN = Launcher(kind="person", who="ann", proof="password")
NIGHTLY = Launcher(kind="schedule", who="notes__nightly", proof="itself")


def no_proxy() -> bool:
    return False


def ticket(state: StateStore, launcher: Launcher = ANN, **given: Any) -> dict[str, str]:
    with state.write() as connection:
        return launches.issue(connection, launcher, **{"collection": "notes", "partitions": DAYS, **given})


def started(state: StateStore, tags: Mapping[str, str], **given: Any) -> Launch:
    """What a run with these tags finds out of how it was started."""
    run = {"collection": "notes", "partitions": DAYS, "run_id": "run-1", "proxy_declared": no_proxy, **given}
    with state.write() as connection:
        return launches.of_run(connection, tags=tags, **run)


# Tickets


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        (ANN, "ann, with their password"),
        (Launcher(kind="person", who="ann", proof="token"), "ann, with a token"),
        (Launcher(kind="person", who="ann", proof="desk"), "ann, at the desk"),
        (NIGHTLY, "the schedule notes__nightly"),
        (Launcher(kind="sensor", who="notes__source_changes", proof="itself"), "the sensor notes__source_changes"),
        (Launcher(kind="up", who="ai-assets up", proof="itself"), "ai-assets up, as the first run of a new home"),
    ],
)
def test_a_ticket_says_who_started_the_run_and_how_that_is_proved(
    state: StateStore, launcher: Launcher, words: str
) -> None:
    found = started(state, ticket(state, launcher))
    assert (found.kind, found.who, found.proof, found.in_words) == (launcher.kind, launcher.who, launcher.proof, words)
    assert Launch.told(json.loads(json.dumps(found.as_data()))) == found


@pytest.mark.parametrize("data", [None, [], {}, {"kind": "person"}, {"changes": 7}, {"changes": [], "odd": 1}])
def test_what_a_summary_does_not_say_is_unknown(data: Any) -> None:
    assert not Launch.told(data).known


@dataclass(frozen=True, kw_only=True)
class Worthless:
    id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    """In place of a good ticket's."""
    forged: Mapping[str, Any] = field(default_factory=dict)
    """What is changed in a good ticket, whose signature stays."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """What is different about the run."""
    says: str


WORTHLESS = [
    Worthless(id="no tag", tags={"other": "tag"}, says="carries no launch ticket"),
    Worthless(id="the old tag, typed in", tags={"ai_assets/launched_by": "ann"}, says="carries no launch ticket"),
    Worthless(id="a name", tags={TICKET_TAG: "ann"}, says="is no launch ticket"),
    Worthless(id="no object", tags={TICKET_TAG: "[]"}, says="is no launch ticket"),
    Worthless(id="without signature", tags={TICKET_TAG: '{"who": "ann"}'}, says="is no launch ticket"),
    Worthless(id="deep", tags={TICKET_TAG: '{"changes": 7, "key_id": [], "signature": {}, "format": 1}'}, says="is no"),
    Worthless(id="another person", forged={"who": "ben"}, says="does not count"),
    Worthless(id="another collection", forged={"collection": "mail"}, run={"collection": "mail"}, says="not count"),
    Worthless(id="longer", forged={"until": "2099-01-01T00:00:00.000+00:00"}, says="does not count"),
    Worthless(id="a schedule", forged={"kind": "schedule"}, says="no launch ticket that this version can read"),
    Worthless(id="itself", forged={"kind": "schedule", "proof": "itself"}, says="does not count"),
    Worthless(id="by proxy", forged={"proof": "proxy"}, says="does not count"),
    Worthless(id="changes left out", forged={"changes": ["x"]}, says="does not count"),
    Worthless(id="a key that is none", forged={"key_id": "0" * 16}, says="does not count"),
    Worthless(id="no base64", forged={"signature": "%%%"}, says="does not count"),
    Worthless(id="a later format", forged={"format": 2}, says="no launch ticket that this version can read"),
    Worthless(id="in another collection", run={"collection": "mail"}, says="of a run that ann started in notes"),
    Worthless(id="fewer partitions", run={"partitions": DAYS[:1]}, says="that ann started for other partitions"),
    Worthless(id="more partitions", run={"partitions": [*DAYS, "2026-10-08"]}, says="for other partitions"),
]


@pytest.mark.parametrize("case", WORTHLESS, ids=lambda case: case.id)
def test_what_is_not_a_ticket_for_this_run_makes_its_author_unknown(state: StateStore, case: Worthless) -> None:
    good = ticket(state)
    data = {**json.loads(good[TICKET_TAG]), **case.forged}
    found = started(state, case.tags or {TICKET_TAG: json.dumps(data)}, **case.run)
    assert (found.kind, found.known) == ("unknown", False)
    assert case.says in found.why


def test_a_ticket_of_the_recorder_key_is_no_person_s(state: StateStore) -> None:
    """Runs and sensors hold that key, and so whoever runs code there."""
    data = json.loads(ticket(state, NIGHTLY)[TICKET_TAG])
    for change in ({"kind": "person", "who": "ann", "proof": "password"}, {"kind": "person", "who": "ann"}):
        assert not started(state, {TICKET_TAG: json.dumps({**data, **change})}).known


def test_a_ticket_runs_out(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = ticket(state)
    later = (datetime.datetime.now(datetime.UTC) + launches.RUN_VALID + datetime.timedelta(minutes=1)).isoformat()
    monkeypatch.setattr(launches, "now", lambda: later)
    assert "ran out" in started(state, tags).why


def test_a_ticket_for_one_run_is_for_no_other(state: StateStore) -> None:
    tags = ticket(state, run_id="run-1")
    assert "somebody started it again in Dagster" in started(state, tags, run_id="run-2").why
    assert started(state, tags, run_id="run-1").known


def test_a_ticket_is_used_once_and_a_step_that_is_tried_again_is_the_same_run(state: StateStore) -> None:
    tags = ticket(state)
    assert [started(state, tags).known for _ in range(2)] == [True, True]
    again = started(state, tags, run_id="run-2")
    assert not again.known
    assert "was used by run run-1, which ann started; somebody started it again in Dagster" in again.why
    assert started(state, tags).known


def backfill_row(state: StateStore, name: str, partitions: list[str]) -> None:
    values = {
        "backfill": name, "collection": "notes", "partitions": json.dumps(partitions), "assets": "[]", "cap_nusd": 1,
        "plan": "{}", "state": "open", "made_by": "ann", "made_at": "2026-11-27T00:00:00.000+00:00",
    }  # fmt: skip
    table = sa.table("backfills", *(sa.column(column) for column in values))
    with state.write() as connection:
        connection.execute(sa.insert(table).values(values))


def test_the_runs_of_a_backfill_share_a_ticket_each_for_partitions_of_its_own(state: StateStore) -> None:
    backfill_row(state, "notes-1", DAYS)
    tags = ticket(state, backfill="notes-1")
    assert started(state, tags, partitions=DAYS[:2], run_id="run-1").known
    assert started(state, tags, partitions=DAYS[2:], run_id="run-2").known
    assert not started(state, tags, partitions=DAYS[:1], run_id="run-3").known
    assert "not for these partitions" in started(state, tags, partitions=["2026-11-11"], run_id="run-4").why


def test_partitions_added_to_a_backfill_in_the_store_are_not_covered(state: StateStore) -> None:
    backfill_row(state, "notes-1", DAYS)
    tags = ticket(state, backfill="notes-1")
    with state.write() as connection:
        connection.execute(
            sa.text("UPDATE backfills SET partitions = :more"), {"more": json.dumps([*DAYS, "2026-11-11"])}
        )
    assert "not for these partitions" in started(state, tags, partitions=["2026-11-11"]).why
    assert not started(state, tags, partitions=DAYS[:1]).known
    assert not started(state, ticket(state, backfill="notes-9")).known


def test_uses_of_tickets_are_forgotten_once_no_ticket_is_that_old(state: StateStore) -> None:
    started(state, ticket(state))
    with state.write() as connection:
        connection.execute(sa.text("UPDATE launch_uses SET used_at = '2020-01-01T00:00:00.000+00:00'"))
    started(state, ticket(state), run_id="run-2")
    with state.read() as connection:
        assert set(connection.execute(sa.text("SELECT run_id FROM launch_uses")).scalars()) == {"run-2"}


# Tokens


def token(state: StateStore, person: str = "ann", days: int = 7) -> tuple[str, launch_tokens.Token]:
    with state.write() as connection:
        return launch_tokens.make(connection, person, days=days, by="test")


def holder(state: StateStore, text: str) -> str:
    with state.read() as connection:
        return launch_tokens.holder(connection, text)


def test_a_token_names_its_person_and_its_secret_is_not_kept(state: StateStore) -> None:
    known(state)
    text, made = token(state)
    assert holder(state, f" {text}\n") == "ann"
    with state.read() as connection:
        kept = str(connection.execute(sa.text("SELECT * FROM launch_tokens")).all())
        told = [dict(record.subject) for record in audit.select(connection, actions=["token made"])]
    assert text[17:] not in kept
    assert [(item["person"], item["token"]) for item in told] == [("ann", made.token_id)]


REFUSED = {
    "another secret": ("", "none of this installation"),
    "revoked": ("UPDATE launch_tokens SET revoked_at = made_at", "was revoked"),
    "another person": ("UPDATE launch_tokens SET person = 'ben'", "is not signed by this installation"),
    "prolonged": ("UPDATE launch_tokens SET expires_at = '2099-01-01'", "is not signed by this installation"),
    "disabled": ("UPDATE people SET disabled_at = created_at", "ann is disabled"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_a_token_that_does_not_count_is_refused(state: StateStore, change: str, says: str) -> None:
    known(state)
    known(state, "ben")
    text, _ = token(state)
    if change:
        with state.write() as connection:
            connection.execute(sa.text(change))
    else:
        text = text[:-4] + "AAAA"
    with pytest.raises(TokenRefused, match=says):
        holder(state, text)


@pytest.mark.parametrize("text", ["", "ann", "aia-", "aia-0123456789ab-" + "x" * 43])
def test_what_is_no_token_is_refused(state: StateStore, text: str) -> None:
    with pytest.raises(TokenRefused):
        holder(state, text)


def test_an_old_token_is_refused(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    known(state)
    text, _ = token(state, days=1)
    monkeypatch.setattr(launch_tokens, "now", lambda: "2099-01-01T00:00:00.000+00:00")
    with pytest.raises(TokenRefused, match="ran out"):
        holder(state, text)


def test_a_revocation_stands_also_where_the_table_forgets_it(state: StateStore) -> None:
    known(state)
    text, made = token(state)
    with state.write() as connection:
        assert launch_tokens.revoke(connection, made.token_id, by="test").person == "ann"
        connection.execute(sa.text("UPDATE launch_tokens SET revoked_at = NULL"))
    with pytest.raises(TokenRefused, match="was revoked"):
        holder(state, text)
    with state.write() as connection, pytest.raises(TokenUnknown):
        launch_tokens.revoke(connection, "nonesuch", by="test")


# Dagster


@pytest.fixture
def notes(project: Project) -> Collection:
    project.documents(per_day=1)
    return project.declare(schedule={"cron": "0 2 * * *"}, signoff={"unknown_author": "two"})


def author(project: Project, partition: str = DAYS[0]) -> Launch:
    return requests.launch_of(current(project.stores().state, partition))


def in_process(
    project: Project, collection: Collection, tags: Mapping[str, str], run_id: str | None = None
) -> "dg.ExecuteInProcessResult":
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job = collection_definitions(collection).resolve_job_def("notes")
    span = {RANGE_START: DAYS[0], RANGE_END: DAYS[-1]}
    with project.instance() as opened:
        return job.execute_in_process(
            instance=opened, run_config=quiet, tags={**span, **tags}, raise_on_error=False, run_id=run_id
        )


def test_a_run_started_in_dagster_has_an_unknown_author_whatever_its_tags_say(
    project: Project, notes: Collection
) -> None:
    assert in_process(project, notes, {"ai_assets/launched_by": "ann", TICKET_TAG: "ann"}).success
    assert "is no launch ticket" in author(project).why
    state = project.stores().state
    with state.read() as connection:
        record = audit.select(connection, actions=["requested"])[-1]
    assert record.subject["launched"] == "unknown"


def test_the_ticket_of_a_run_reaches_the_request_and_its_repetition_does_not(
    project: Project, notes: Collection
) -> None:
    run_id = str(uuid.uuid4())
    tags = ticket(project.stores().state, run_id=run_id)
    assert in_process(project, notes, tags, run_id).success
    assert (author(project).who, author(project).proof) == ("ann", "password")
    project.document(f"{DAYS[0]}/0.txt", "Another text, before somebody presses Re-execute.")
    again = in_process(project, notes, {**tags, "dagster/parent_run_id": run_id, "dagster/root_run_id": run_id})
    assert again.success
    assert "somebody started it again in Dagster" in author(project).why


def test_the_schedule_and_the_sensor_are_known_launchers(project: Project, notes: Collection) -> None:
    with project.instance() as opened:
        (schedule,) = nightly(notes)
        with dg.build_schedule_context(opened, scheduled_execution_time=datetime.datetime.now(datetime.UTC)) as context:
            (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert in_process(project, notes, request.tags).success
    assert author(project).in_words == "the schedule notes__nightly"
    project.document(f"{DAYS[0]}/0.txt", "Another text.")
    with project.instance() as opened, dg.build_sensor_context(opened) as watching:
        found = source_changes(notes)(watching)
    assert isinstance(found, dg.SensorResult)
    (request,) = found.run_requests or ()
    assert in_process(project, notes, {**request.tags, RANGE_END: DAYS[0]}).success
    assert author(project).in_words == "the sensor notes__source_changes"


# The command line


def shown(project: Project) -> str:
    return project.cli("signoff", "show", "notes", DAYS[0]).stdout


@pytest.mark.slow
def test_a_name_of_the_environment_proves_nothing(project: Project, notes: Collection) -> None:
    done = project.cli("run", "notes", LOGNAME="nobody", USER="nobody")
    assert done.returncode == 0, done.stderr
    assert "Author unknown: nobody was named (name yourself with --by NAME" in done.stdout
    assert "what comes of it takes two approvals" in done.stdout
    assert not author(project).known
    assert "AUTHOR UNKNOWN" in shown(project)
    assert "0 of 2 approvals (its author is unknown)" in shown(project)


@pytest.mark.slow
def test_a_password_names_the_author_of_a_run(project: Project, notes: Collection) -> None:
    known(project.stores().state)
    refused = project.cli("run", "notes", "--by", "ann", AI_ASSETS_PASSWORD="wrong")
    assert (refused.returncode, "do not belong to anybody" in refused.stderr) == (2, True)
    unasked = project.cli("run", "notes", "--by", "ann", AI_ASSETS_PASSWORD="")
    assert (unasked.returncode, "AI_ASSETS_PASSWORD" in unasked.stderr) == (2, True)
    done = project.cli("run", "notes", "--by", "ann", "--json", AI_ASSETS_PASSWORD=PASSWORD, LOGNAME="nobody")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["author"] == "ann"
    assert author(project).in_words == "ann, with their password"
    assert "started by ann, with their password" in shown(project)


@pytest.mark.slow
def test_a_token_starts_runs_and_decides_nothing(project: Project, notes: Collection) -> None:
    known(project.stores().state)
    known(project.stores().state, "ben")
    said = project.cli("reviewers", "token", "ann", "--days", "3")
    text = said.stdout.split()[-1]
    mixed = project.cli("run", "notes", "--by", "ben", AI_ASSETS_TOKEN=text)
    assert (mixed.returncode, "is a token of ann" in mixed.stderr) == (2, True)
    done = project.cli("run", "notes", AI_ASSETS_TOKEN=text)
    assert done.returncode == 0, done.stderr
    assert "Started by ann, with a token." in done.stdout
    assert author(project).in_words == "ann, with a token"
    decision = project.cli("signoff", "approve", "notes", "--all", "--by", "ann", AI_ASSETS_TOKEN=text)
    assert (decision.returncode, "takes their password" in decision.stderr) == (2, True)
    (listed,) = json.loads(project.cli("reviewers", "tokens", "--json").stdout)
    assert (listed["person"], listed["state"]) == ("ann", "valid")
    assert text[17:] not in json.dumps(listed)
    assert project.cli("reviewers", "revoke-token", listed["token_id"]).returncode == 0
    assert "revoked" in project.cli("reviewers", "tokens", "ann").stdout
    late = project.cli("run", "notes", AI_ASSETS_TOKEN=text)
    assert (late.returncode, "was revoked" in late.stderr) == (2, True)


def test_a_new_collection_asks_for_two_where_there_are_two_approvers(project: Project) -> None:
    project.documents(per_day=1)
    source = str(project.root / "collections/notes/documents")
    assert project.cli("new", "alone", "--from", source).returncode == 0
    for name in ("ann", "ben"):
        known(project.stores().state, name)
    assert project.cli("new", "together", "--from", source).returncode == 0
    rules = {
        name: "\n    unknown_author: two" in (project.root / f"collections/{name}/defs.yaml").read_text()
        for name in ("alone", "together")
    }
    assert rules == {"alone": False, "together": True}


def test_who_may_not_be_named_is_an_error_before_anything_runs(project: Project, notes: Collection) -> None:
    state = project.stores().state
    with pytest.raises(UserError), state.write() as connection:
        people.require(connection, "eve")
    done = project.cli("reviewers", "token", "eve")
    assert (done.returncode, "eve" in done.stderr) == (2, True)
