# ruff: noqa: S608 - the statements are all from here
"""Claims about where a row comes from: every step with its link, from the bytes to the release, and forward again."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from backups import in_postgresql
from conftest import Project, project_at
from explained import CHANGED, SAME, asked_and_published
from provider import Provider
from signing import decide, known
from test_llm_stages import DAY

from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference import history
from ai_assets.reading.places import HomePlace
from ai_assets.reading.published import Published
from ai_assets.run.errors import NothingTouched
from ai_assets.run.explain import search
from ai_assets.run.provenance import Provenance, Sight, provenance_of
from ai_assets.run.provenance_records import ProvenanceStep
from ai_assets.run.touched import TouchedBy, touched
from ai_assets.signoff import attestation, proving
from ai_assets.signoff.audit_errors import StatementRefused
from ai_assets.signoff.errors import DocumentUnknown, ReleaseUnknown
from ai_assets.signoff.publication import publish
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores


@dataclass(frozen=True)
class Told:
    project: Project
    collection: Collection

    @property
    def stores(self) -> Stores:
        return self.project.stores()

    def of(self, asked: str, **options: Any) -> Provenance:
        return provenance_of(self.collection, self.stores, asked, **options)

    def calls(self, document: str) -> list[str]:
        """The oldest first."""
        with self.stores.state.read() as connection:
            made = history.attempts(connection, asset="kind", document=document)
        return [each.call for each in reversed(made)]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def told(request: pytest.FixtureRequest, rehearsal: Provider, tmp_path_factory: pytest.TempPathFactory) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
        project = project_at(tmp_path_factory.mktemp("provenance"), patch)
        if request.param == "postgresql":
            project = in_postgresql(project, request.getfixturevalue("postgres"), patch)
        return Told(project, asked_and_published(project))


def test_rows_of_a_release_have_their_dollars_where_these_are_asked_for(told: Told) -> None:
    place = HomePlace(told.collection.name, told.project.home)
    live = Published(place, place.live())
    plain, priced = live.arrow(), live.with_dollars().arrow()
    assert "kind_cost_usd" not in plain.column_names
    dollars = [f"{stage}_{name}" for stage in ("kind", "facts") for name in ("cost_usd", "maybe_usd")]
    assert sorted(set(priced.column_names) - set(plain.column_names)) == sorted(dollars)
    assert priced.drop_columns(dollars).equals(plain)
    with told.stores.state.read() as connection:
        for row in priced.to_pylist():
            for stage in ("kind", "facts"):
                call = row[f"{stage}_call"]
                paid = history.call(connection, call).cost_usd if call else None
                assert row[f"{stage}_cost_usd"] == (pytest.approx(paid) if call else None), row["document_id"]
    assert min(priced["kind_cost_usd"].to_pylist()) > 0
    (only,) = live.with_dollars().release(1).arrow(columns=["facts_cost_usd"]).column_names
    assert only == "facts_cost_usd"


def steps(found: Provenance, name: str) -> list[ProvenanceStep]:
    return [step for step in found.steps if step.step == name]


def test_every_step_is_there_in_order_and_has_a_link(told: Told) -> None:
    found = told.of(CHANGED)
    assert [(step.step, step.of) for step in found.steps if step.step != "gates"] == [
        ("bytes", None), ("parse", None), ("passages", None), ("vectors", None), ("prompt", "kind"), ("call", "kind"),
        ("answer", "kind"), ("prompt", "facts"), ("call", "facts"), ("answer", "facts"), ("decision", "ann"),
        ("release", "2"), ("target", "search index"),
    ]  # fmt: skip
    assert [step.step for step in found.steps if step.link is None or step.missing is not None] == []
    assert (found.standing, found.release, found.partition) == ("live", 2, DAY)
    [passed, *_] = steps(found, "gates")
    assert passed.facts["verdict"] == "passed"


def test_the_prompt_is_rendered_and_dollars_are_those_of_the_ledger(told: Told) -> None:
    found = told.of(CHANGED)
    prompt, call = steps(found, "prompt")[0], steps(found, "call")[0]
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert "the total due is 750.00 EUR" in prompt.messages[1]["content"]
    with told.stores.state.read() as connection:
        made = history.attempts_of(connection, str(call.facts["call"]))
        every = sum(item.cost_usd or 0 for item in history.attempts(connection, document=CHANGED)
                    if item.call in {step.facts["call"] for step in steps(found, "call")})  # fmt: skip
    assert call.facts["attempts"] == [{
        "attempt": made[0].attempt, "endpoint": "small", "model": "mini", "state": "settled", "run_id": "run",
        "sent_at": made[0].sent_at, "cost_usd": made[0].cost_usd, "input_tokens": made[0].input_tokens,
        "output_tokens": made[0].output_tokens,
    }]  # fmt: skip
    assert found.cost_usd == pytest.approx(every)
    assert found.cost_usd > 0


def test_a_past_release_is_explained_as_it_was(told: Told) -> None:
    first, second = told.of(CHANGED, number=1), told.of(CHANGED)
    assert (first.standing, first.release) == ("released", 1)
    assert first.row != second.row
    assert [steps(each, "call")[0].facts["call"] for each in (first, second)] == told.calls(CHANGED)
    assert "150.00" in steps(first, "prompt")[0].messages[1]["content"]


def test_a_hit_of_search_is_explained_by_its_passage(told: Told) -> None:
    release, [hit, *_] = search(told.collection, told.stores, "fire beside the pump", 1)
    found = told.of(hit.chunk_id)
    assert (found.document, found.chunk, found.release) == (SAME, hit.chunk_id, release.number)
    assert steps(found, "passages")[0].facts["chunk_id"] == hit.chunk_id
    assert replace(told.of(SAME), chunk=hit.chunk_id, steps=()) == replace(found, steps=())


def test_what_is_not_there_is_said_in_a_sentence(told: Told) -> None:
    with pytest.raises(DocumentUnknown, match=r"notes has no document 'bill-0.txt'; did you mean '2026-10-05/bill-0"):
        told.of("bill-0.txt")
    with pytest.raises(DocumentUnknown, match=r"has no document 'x' in release 1\."):
        told.of("x", number=1)
    with pytest.raises(ReleaseUnknown):
        told.of(CHANGED, number=9)


def test_attempts_for_others_are_nameless_or_left_out(told: Told) -> None:
    nameless = steps(told.of(CHANGED, sight=Sight(sees=lambda _: False)), "call")[0]
    assert "run_id" not in nameless.facts["attempts"][0]  # type: ignore[index,operator,call-overload]
    left_out = steps(told.of(CHANGED, sight=Sight(sees=lambda _: False, own_only=True)), "call")[0]
    assert (left_out.facts["attempts"], left_out.facts["cost_usd"]) == ([], 0.0)
    assert left_out.missing == "who paid for it is not yours to see"


def test_what_was_never_released_says_so(rehearsal: Provider, project: Project) -> None:
    project.document(f"{DAY}/0.txt", "A note that waits.")
    collection = project.declare(stages=[])
    project.refresh(collection, [DAY])
    found = provenance_of(collection, project.stores(), f"{DAY}/0.txt")
    assert (found.standing, found.release, found.row) == ("not released", None, None)
    [decision], [release] = steps(found, "decision"), steps(found, "release")
    assert decision.facts["state"] == "open"
    assert release.missing == "it is in no release"


# Forward


def test_a_prompt_shows_its_rows_releases_and_dollars(told: Told) -> None:
    found = touched(told.collection, told.stores, TouchedBy(by="prompt", value="1", stage="kind"))
    assert [(row.document, row.current, row.releases) for row in found.rows] == [
        (CHANGED, True, (2, 1)), (SAME, True, (2, 1)),
    ]  # fmt: skip
    assert [(each.number, each.live, each.rows) for each in found.releases] == [(2, True, 2), (1, False, 2)]
    assert found.answers == 3  # of one document two
    with told.stores.state.read() as connection:
        paid = sum(item.cost_usd or 0 for item in history.attempts(connection, asset="kind"))
    assert found.cost_usd == pytest.approx(paid)
    assert found.backfills == ("ai-assets backfill notes --partition 2026-10-05 --stage kind",)


def test_a_call_that_is_live_no_more_shows_where_it_was(told: Told) -> None:
    old = told.calls(CHANGED)[0]
    found = touched(told.collection, told.stores, TouchedBy(by="call", value=old))
    [row] = found.rows
    assert (row.document, row.current, row.live, row.releases) == (CHANGED, False, False, (1,))
    assert [(each.number, each.live) for each in found.releases] == [(1, False)]
    assert found.backfills == ()


def test_a_model_that_nothing_names_is_refused_with_the_nearest(told: Told) -> None:
    with pytest.raises(NothingTouched, match="comes from the model 'mimi'; did you mean 'mini'"):
        touched(told.collection, told.stores, TouchedBy(by="model", value="mimi"))
    with pytest.raises(NothingTouched):
        touched(told.collection, told.stores, TouchedBy(by="model", value="mini", stage="other"))


# As a statement


def test_a_bare_python_verifies_the_statement_by_keys_that_it_is_given(told: Told, tmp_path: Path) -> None:
    done = verified(told, statement(told), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PROVED: release 2 of 'notes'" in done.stdout
    assert "By keys that you trust." in done.stdout
    assert done.stdout.splitlines()[-1].startswith("STATEMENT HOLDS: where row ")
    told_of = attestation.statement_in(statement(told))
    assert told_of["subject"][0]["digest"]["sha256"] == told.of(SAME).row
    assert "fire" not in json.dumps(told_of["predicate"]["provenance"]["steps"][4])  # no prompt goes along


def test_the_home_verifies_a_statement_by_its_chain_and_says_what_does_not_hold(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    attestation.write(statement(told), path)
    found = attestation.verify(told.stores, path)
    assert (found.collection, found.release, found.document) == ("notes", 2, SAME)
    assert found.row == told.of(SAME).row
    envelope = statement(told)
    said = attestation.statement_in(envelope)
    said["predicate"]["provenance"]["cost_usd"] = 0
    path.write_text(json.dumps({**envelope, "payload": encoded(json.dumps(said).encode())}))
    with pytest.raises(StatementRefused, match="does not hold: the statement is not signed by the keys of its proof"):
        attestation.verify(told.stores, path)


def test_the_command_says_in_one_sentence_that_a_statement_is_of_another_chain(
    told: Told, project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "row.json"
    attestation.write(statement(told), path)
    known(project.stores().state, "ann", "admin")
    done = project.cli("audit", "verify", "--statement", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    said = " ".join(done.stderr.split())
    assert said.startswith("error: The statement ")
    assert "Traceback" not in said
    assert "is not a key you trust" in said


@pytest.mark.slow
@pytest.mark.parametrize("change", ["price", "subject", "proof", "signature", "type", "no signature", "not JSON"])
def test_a_statement_of_which_anything_was_changed_is_refused(told: Told, tmp_path: Path, change: str) -> None:
    envelope = statement(told)
    said = attestation.statement_in(envelope)
    match change:
        case "price":
            said["predicate"]["provenance"]["cost_usd"] = 0
        case "subject":
            said["subject"][0]["name"] = "notes/another"
        case "proof":
            said["predicate"]["proof"] = proving.prove(told.stores, "notes", None, CHANGED)
        case "type":
            said["_type"] = "https://in-toto.io/Statement/v0.1"
    if change in ("price", "subject", "proof", "type"):
        envelope["payload"] = encoded(json.dumps(said).encode())
    elif change == "signature":
        sig = envelope["signatures"][0]["sig"]
        envelope["signatures"][0]["sig"] = ("B" if sig[0] == "A" else "A") + sig[1:]
    elif change == "no signature":
        envelope["signatures"] = []
    else:
        envelope["payload"] = encoded(b"nothing")
    done = verified(told, envelope, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("NOT PROVED: ")
    assert "STATEMENT HOLDS" not in done.stdout


@pytest.mark.slow
def test_who_holds_the_key_signs_no_statement_about_another_row(told: Told, tmp_path: Path) -> None:
    """Provenance and proof must be of the same row, also where the signature is good."""
    other = told.of(CHANGED).without_texts
    done = verified(told, attestation.attest(told.stores, "notes", 2, SAME, other), tmp_path)
    assert done.stderr == "NOT PROVED: its provenance is of another row.\n"


def statement(told: Told) -> dict[str, Any]:
    found: Any = attestation.attest(told.stores, "notes", 2, SAME, told.of(SAME).without_texts)
    return found


def encoded(payload: bytes) -> str:
    import base64

    return base64.b64encode(payload).decode()


def verified(told: Told, envelope: dict[str, Any], folder: Path) -> "subprocess.CompletedProcess[str]":
    """In a Python without site packages, environment or current folder."""
    path = folder / "statement.json"
    beside = attestation.write(envelope, path)
    with told.stores.state.read() as connection:
        keys = [word for key in proving.key_words(connection) for word in ("--key", key)]
    command = [sys.executable, "-I", "-S", str(beside), str(path), *keys]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env={})


# At scale


LARGE = {"sqlite": 20_000, "postgresql": 100_000}
"""PostgreSQL reads a table of a few thousand rows whole, which is cheaper."""
BIG = ("attempts", "calls", "reuses", "callers", "answers", "sent_requests")


@pytest.mark.parametrize(
    ("told", "dialect"),
    [("sqlite", "sqlite"), pytest.param("sqlite", "postgresql", marks=pytest.mark.slow)],
    indirect=["told"],
)
def test_no_question_reads_the_ledger_from_end_to_end(
    dialect: str, project: Project, told: Told, provider: Provider, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if dialect == "postgresql":
        url = request.getfixturevalue("postgres").database(f"explain_{uuid4().hex}")
        monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
        project = Project(root=project.root, home=replace(project.home, declared_state_url=url))
    if dialect == "postgresql":
        collection = asked_and_published(project)
    else:
        project.copy(told.project)
        collection = load_collection(project.root / "collections", "notes")
    with project.stores().state.read() as connection:
        [call, *_] = [each.call for each in history.attempts(connection, asset="kind", document=CHANGED)]
    stores = project.stores()
    grown(stores.state, LARGE[dialect])
    with heard() as asked:
        provenance_of(collection, stores, CHANGED)
        provenance_of(collection, stores, SAME, number=1)
        for by in (
            TouchedBy(by="prompt", value="1"),
            TouchedBy(by="model", value="mini"),
            TouchedBy(by="call", value=call),
        ):
            touched(collection, stores, by)
    assert {name for name in BIG if any(re.search(rf"\b{name}\b", said) for said, _ in asked)} >= {
        "attempts", "calls", "reuses", "callers", "sent_requests"
    }  # fmt: skip
    with stores.state.read() as connection:
        explain = "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "
        for said, given in asked:
            if not said.lstrip().upper().startswith(("SELECT", "WITH")):
                continue
            plan = [str(row) for row in connection.exec_driver_sql(explain + said, given)]
            scans = [line for line in plan for table in BIG
                     if re.search(rf"SCAN {table}\b|Seq Scan on {table}\b", line)]  # fmt: skip
            assert not scans, (said, plan)


def grown(state: StateStore, rows: int) -> None:
    """So many further answered calls, of other collections."""
    is_sqlite = state.dialect == "sqlite"
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
        if is_sqlite
        else f"WITH n(i) AS (SELECT generate_series(1, {rows})) "
    )
    at = "'2026-01-01T00:00:00.000+00:00'"
    with state.write() as connection:
        for statement in (
            f"INSERT INTO callers (tenant, collection, asset, partition, run_id) {numbers}"
            "SELECT 't', 'c' || i, 'a', 'p', 'r' || i FROM n",
            "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, carried, "
            f"sent_at, reserved_nusd, cost_nusd, budgets, prompt) {numbers}"
            f"SELECT i, 'k' || i, i, 'd' || i, 'mini', 'mini', 'classify', 'settled', 0, {at}, 9, 5, '[]', '1' FROM n",
            f"INSERT INTO calls {numbers}SELECT 'k' || i, i FROM n",
            f"INSERT INTO answers {numbers}SELECT i, 'x' FROM n",
            f"INSERT INTO sent_requests {numbers}SELECT i, 'x' FROM n",
            f"INSERT INTO reuses (attempt_id, caller_id, document, saved_nusd, reused_at) {numbers}"
            f"SELECT i, i, 'd', 5, {at} FROM n",
        ):
            connection.execute(sa.text(statement.replace(":", "\\:")))
    if not is_sqlite:
        with state.write() as connection:
            connection.execute(sa.text("ANALYZE"))


@contextmanager
def heard() -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is sent meanwhile, whatever engine sends it."""
    asked: list[tuple[str, Any]] = []

    def hear(_c: Any, _cursor: Any, said: str, given: Any, _context: Any, _many: bool) -> None:
        asked.append((said, given))

    sa.event.listen(sa.Engine, "before_cursor_execute", hear)
    try:
        yield asked
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", hear)


def test_vectors_of_a_further_embedding_are_of_its_own_version(project: Project) -> None:
    project.documents(per_day=1, days=1)
    further = {"hashed": {"use": "examples.own_embedder:HashedWords", "options": {"dimensions": 64}}}
    days = {"by": "day", "start": DAY, "end": DAY}
    collection = project.declare(partitions=days, embeddings=further)
    known(project.stores().state)
    project.refresh(collection)
    for release in (None, 1):
        if release is not None:
            decide(project.stores().state, collection)
            publish(collection, project.stores(), by="ann")
        found = provenance_of(collection, project.stores(), f"{DAY}/0.txt")
        assert found.release == release
        said = {step.of: step.facts["code_version"] for step in found.steps if step.step == "vectors"}
        assert said == {
            None: collection.code_versions["embeddings"], "hashed": collection.code_versions["embeddings_hashed"],
        }  # fmt: skip
        assert len(set(said.values())) == 2
