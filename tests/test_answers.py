"""An answer of a model, opened: what was sent, what came back, who uses it, and who may see it."""

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa
from conftest import Project
from desks import Caller as Program
from desks import desk_of, served
from engines import question
from provider import Provider
from signing import decide, known
from test_llm_stages import BILL, DAY, FIRE, PRICED, rows, run
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen
from ai_assets.desk.answer_query import answer_view
from ai_assets.forgetting.erasing import forget
from ai_assets.inference import history
from ai_assets.inference.engine import Engine
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Answer, Caller
from ai_assets.inference.sent import LONGEST_BODY, packed, read_sent, unpacked
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.rows import find as old_rows
from ai_assets.run.answer import open_answer
from ai_assets.run.operations import RetentionSettings
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish

BURNT = f"{DAY}/fire-0.txt"


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    (project.root / "inference.yaml").write_text(PRICED)
    for n in range(2):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    return project


@pytest.fixture
def asked(office: Project) -> Collection:
    collection = declare(office, [KIND, BRIEF])
    run(office, collection)
    return collection


def call_of(project: Project, stage: str = "kind", document: str = BURNT) -> str:
    return str(rows(project, stage)[document]["call"])


def ask_for(project: Project, collection: str, *documents: str, asset: str = "kind", secret: str = "") -> list[Answer]:
    """The same questions whoever asks: what is paid for once is shared."""
    settings = load_inference(project.root / "inference.yaml")
    caller = Caller(collection=collection, asset=asset, partition=f"{collection}-day", run_id=f"run-{collection}")
    with project.stores() as stores, Engine(settings, stores.state) as engine:
        asked = [replace(question("the very same" + secret), document=name) for name in documents]
        return [result for result in engine.map(asked, caller) if isinstance(result, Answer)]


# What is shown


def test_an_answer_shows_the_rendered_prompt_the_reply_and_what_it_cost(office: Project, asked: Collection) -> None:
    row = rows(office, "kind")[BURNT]
    found = open_answer(office.stores(), row["call"])
    assert found is not None
    assert found.sent is not None
    assert [message.role for message in found.sent.messages] == ["system", "user"]
    assert "A fire broke out beside pump 1." in found.sent.messages[1].content
    assert "label" in json.dumps(found.sent.schema)
    assert found.sent.settings["model"] == "mini"
    assert isinstance(found.data, dict)
    assert found.data["label"] == row["label"]
    assert (found.cost_usd, found.prompt) == (pytest.approx(row["cost_usd"]), row["prompt_version"])
    assert [(item.state, item.document) for item in found.attempts] == [("settled", BURNT)]


def test_every_attempt_is_shown_with_its_error_and_what_was_sent_is_kept_once(
    office: Project,
    provider: Provider,
) -> None:
    provider.script([{"match": "beside pump 1", "fault": "server_error", "times": 1}])
    run(office, declare(office, [KIND]))
    provider.script([])
    found = open_answer(office.stores(), call_of(office))
    assert found is not None
    assert [item.state for item in found.attempts] == ["ambiguous", "settled"]
    assert found.attempts[0].error == "server_error"
    assert found.sent is not None
    with office.stores().state.read() as connection:
        kept = connection.execute(sa.text("SELECT count(*) FROM sent_requests")).scalar_one()
        assert kept == connection.execute(sa.text("SELECT count(*) FROM calls")).scalar_one()


def test_an_answer_names_the_rows_and_the_releases_that_use_it(office: Project, asked: Collection) -> None:
    stores, call = office.stores(), call_of(office)
    decide(stores.state, asked)
    publish(asked, stores, by="test")
    office.edit(asked, BURNT, "Report. A fire broke out in the kitchen. Nobody was hurt.")
    decide(stores.state, asked)
    publish(asked, stores, by="test")
    found = open_answer(stores, call)
    assert found is not None
    (use,) = found.uses
    assert (use.document, use.stage, use.current, use.releases, use.live) == (BURNT, "kind", False, (1,), False)
    newer = open_answer(stores, call_of(office))
    assert newer is not None
    assert [(use.current, use.releases, use.live) for use in newer.uses] == [(True, (2,), True)]


def test_the_command_prints_it_by_the_beginning_of_its_key(office: Project, asked: Collection) -> None:
    call = call_of(office)
    said = office.cli("answer", call[:12])
    assert said.returncode == 0, said.stderr
    assert "A fire broke out beside pump 1." in said.stdout
    told = json.loads(office.cli("answer", call, "--json").stdout)
    assert told["call"] == call
    assert told["uses"][0]["document"] == BURNT
    assert office.cli("answer", "f" * 40).returncode == 2


# Who may see it


def test_a_shared_answer_says_nothing_of_the_other_collection(office: Project, asked: Collection) -> None:
    (theirs,) = ask_for(office, "secrets", "payroll.txt")
    (mine,) = ask_for(office, "notes", "agenda.txt")
    assert (theirs.call, mine.reused) == (mine.call, True)
    desk = desk_of(office)
    vic = known(desk.stores.state, "vic", "viewer", "notes")
    view = answer_view(desk, vic, mine.call)
    assert [use.document for use in view.uses] == ["agenda.txt"]
    assert [(item.collection, item.run_id) for item in view.attempts] == [(None, None)]
    told = json.dumps(vars(view), default=vars)
    assert "payroll" not in told
    assert "secrets" not in told


def test_an_answer_of_another_collection_looks_like_one_that_is_not_there(office: Project, asked: Collection) -> None:
    (theirs,) = ask_for(office, "secrets", "payroll.txt")
    desk = desk_of(office)
    refusals = []
    for key in (theirs.call, "0" * 40):
        with pytest.raises(NotSeen) as refused:
            answer_view(desk, known(desk.stores.state, f"vic-{key[:4]}", "viewer", "notes"), key)
        refusals.append(str(refused.value).replace(key, "KEY"))
    assert refusals[0] == refusals[1]
    assert answer_view(desk, known(desk.stores.state, "ada", "viewer"), theirs.call).uses[0].document == "payroll.txt"


def test_secrets_are_masked_wherever_they_stand(
    office: Project,
    asked: Collection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AI_ASSETS_PASSWORD", "hunter2-hunter2")
    (answer,) = ask_for(office, "notes", "leak.txt", secret=" postgresql://me:pa55word@host/db")
    found = open_answer(office.stores(), answer.call)
    assert found is not None
    assert "pa55word" not in str(found)
    assert "postgresql://me:***@host/db" in str(found)


def test_the_page_and_the_api_refuse_alike_whom_no_collection_lets_in(office: Project, asked: Collection) -> None:
    desk, call = desk_of(office), call_of(office)
    vic: Person = known(desk.stores.state, "vic", "viewer", "notes")
    nob: Person = known(desk.stores.state, "nob", None)
    with served(desk) as running:
        seen = Program.of(running, vic).get(f"/answers/{call}")
        assert (seen.status_code, seen.json()["text"] is not None) == (200, True)
        assert Program.of(running, nob).get(f"/answers/{call}").status_code == 404
        assert Program.of(running, vic).get(f"/answers/{'0' * 40}").status_code == 404
        assert Program.of(running, vic).get("/answers/no-key").status_code == 422


# What is gone


_LEFT = f"{history._OF_ERASED} {history._COLUMNS} JOIN chain ON chain.id = attempts.attempt_id"


def _as_before_it_was_known(connection: sa.Connection) -> None:
    """A store in which documents were forgotten before m052."""
    connection.exec_driver_sql("DROP TABLE erased_calls")
    connection.exec_driver_sql("DELETE FROM schema_migrations WHERE name = 'm052_erased_calls'")


def test_of_a_forgotten_document_the_question_and_the_answer_are_gone_and_it_says_so(
    office: Project,
    asked: Collection,
) -> None:
    stores, call, other = office.stores(), call_of(office), call_of(office, document=f"{DAY}/fire-1.txt")
    ada = known(stores.state, "ada", "admin")
    forget(stores, asked, BURNT, by=ada, reason="asked by letter")
    with stores.state.write() as connection:
        left = history.left_of(connection, call)
        _as_before_it_was_known(connection)
    with office.stores().state.read() as connection:  # upgraded
        assert history.left_of(connection, call) == left != []
        assert history.left_of(connection, other) == []
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {_LEFT}", {"key": call})]
        assert not [step for step in plan if "SCAN attempts" in step], plan
    found = open_answer(stores, call)
    assert found is not None
    assert (found.sent, found.text, found.body) == (None, None, None)
    assert found.erased is not None
    assert "forgotten by ada" in found.erased
    assert found.cost_usd > 0
    kept = open_answer(stores, other)
    assert kept is not None
    assert kept.text is not None
    assert kept.sent_missing is not None  # a classifier may have shown the document as an example
    assert "example" in kept.sent_missing
    brief = open_answer(stores, call_of_ledger(office, "brief", f"{DAY}/fire-1.txt"))
    assert brief is not None
    assert brief.sent is not None
    assert office.cli("answer", call).returncode == 0


def call_of_ledger(project: Project, asset: str, document: str) -> str:
    query = (
        "SELECT call_key FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
        "WHERE asset = :a AND document = :d"
    )
    with project.stores().state.read() as connection:
        return str(connection.execute(sa.text(query), {"a": asset, "d": document}).scalar_one())


def test_what_was_sent_goes_after_its_days_and_the_answer_stays(office: Project, asked: Collection) -> None:
    stores, call = office.stores(), call_of(office)
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE attempts SET sent_at = '2020-01-01T00:00:00.000+00:00'"))
    bench = RetentionContext(stores=stores, collections=[asked], settings=RetentionSettings())
    (leftover,) = [item for item in old_rows(bench) if "requests to models" in item.what]
    leftover.remove()
    found = open_answer(stores, call)
    assert found is not None
    assert found.text is not None
    assert found.sent is None
    assert found.sent_missing is not None
    assert "retention.request_days" in found.sent_missing


# How it is kept


@pytest.mark.parametrize("body", [b"", b"{}", "ümlaut \\u00fc".encode(), b"x" * LONGEST_BODY])
def test_what_was_sent_comes_back_as_it_was(body: bytes) -> None:
    assert unpacked(packed(body)) == body.decode()


def test_what_is_too_long_is_not_kept() -> None:
    assert packed(b"x" * (LONGEST_BODY + 1)) == ""


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ('{"messages":[{"role":"user","content":"hello"}]}', [("user", "hello")]),
        ('{"system":"be brief","messages":[]}', [("system", "be brief")]),
        ('{"messages":[{"content":[{"text":"see"},{"type":"image_url"}]}]}', [("", "see\n[image_url]")]),
        ('{"model":"m","input":"a passage"}', [("input", "a passage")]),
        ('chat/completions\n{"messages":[{"role":"user","content":"raw"}]}', [("user", "raw")]),
        ("no JSON", []),
        ("[1, 2]", []),
    ],
)  # fmt: skip
def test_messages_are_read_from_what_was_sent(body: str, messages: list[tuple[str, str]]) -> None:
    found = read_sent(body)
    assert [(message.role, message.content) for message in found.messages] == messages
    assert found.body == body
