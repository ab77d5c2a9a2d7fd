"""Claims about the counts of tries in the state store, SQLite and PostgreSQL: what is due, what needs a person."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import sqlalchemy as sa
from conftest import Project
from engines import CALLER, ask, endpoint, question, settings
from provider import Provider
from signing import somebody
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.documents import retries
from ai_assets.documents.retries import Retry, failed_again, first, record_partition, replace_all
from ai_assets.signoff.asking_again import ask_again
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.state import StateStore, now

DAY, NEXT = "2026-10-05", "2026-10-06"
LATER = "2999-01-01T00:00:00.000+00:00"


@pytest.fixture
def notes(project: Project) -> Collection:
    return declare(project, [{**KIND, "tries": 3}, BRIEF])


def tried(document: str, *, error: str = "garbled", tries: int = 1, asset: str = "kind", call: str = "") -> Retry:
    found: Retry | None = None
    for _ in range(tries):
        fresh = first("notes", asset, DAY, document, question="q", error=error, message="what was said", call=call)
        found = failed_again(found, fresh)
    assert found is not None
    return found


def store(state: StateStore, *found: Retry, asset: str = "kind") -> None:
    with state.write() as connection:
        replace_all(connection, "notes", asset, DAY, found)


def datasets(state: StateStore, unanswered: Mapping[tuple[str, str], int]) -> None:
    with state.write() as connection:
        for (asset, partition), number in unanswered.items():
            connection.execute(
                sa.text("INSERT INTO datasets VALUES ('notes', :a, :p, 'v', 'c', 9, :stats, 'run', :at, :n)"),
                {"n": number, "a": asset, "p": partition, "stats": canonical_json({"unanswered": number}), "at": now()},
            )


def waiting(state: StateStore, notes: Collection, at: str | None = None) -> dict[str, str]:
    with state.read() as connection:
        return {partition: found.in_words for partition, found in retries.waiting(connection, notes, at).items()}


def people(state: StateStore, notes: Collection) -> int:
    with state.read() as connection:
        return retries.number_of_people(connection, "notes", {name: notes.tries_of(name) for name in notes.asset_names})


def test_what_waits_is_counted_by_class_and_by_what_is_next(state: StateStore, notes: Collection) -> None:
    found = [tried("a"), tried("b"), tried("c", error="timeout"), tried("d", tries=3), tried("e", error="refused")]
    store(state, *(replace(retry, next_at="2100-01-01T00:00:00.000+00:00") for retry in found))
    assert waiting(state, notes) == {
        DAY: "3 documents to ask again (2 garbled, 1 timeout), next at 2100-01-01 00:00 UTC; "
        "2 documents need a person (1 garbled, 1 refused)"
    }
    assert people(state, notes) == 2
    assert waiting(state, notes, LATER)[DAY].startswith("3 documents to ask again (2 garbled, 1 timeout), now; ")


def test_rows_without_an_answer_that_nobody_counted_are_due(state: StateStore, notes: Collection) -> None:
    datasets(state, {("kind", DAY): 2, ("kind", NEXT): 1, ("brief", NEXT): 0, ("documents", DAY): 7})
    store(state, tried("a"), tried("b"))
    with state.read() as connection:
        found = retries.waiting(connection, notes)
    assert {partition: (each.is_due, each.uncounted) for partition, each in found.items()} == {
        DAY: (False, 0), NEXT: (True, 1),
    }  # fmt: skip


def test_asking_again_takes_what_another_answer_could_help_and_leaves_the_rest(
    state: StateStore, notes: Collection
) -> None:
    store(state, tried("a", tries=3), tried("b", error="refused"), tried("c", error="invalid_output"))
    with state.write() as connection:
        record_partition(connection, "notes", DAY, question="q", error="No candidate.", passes=False)
    before = people(state, notes)
    chosen = ask_again(state, notes, by=somebody(), partitions=[DAY], document_id="a")
    assert [retry.document_id for retry in chosen] == ["a"]
    with state.read() as connection:
        found = {(each.asset, each.document_id): each for each in retries.find(connection, "notes")}
        failed = retries.waiting(connection, notes)[DAY]
    assert (found["kind", "a"].tries, found["kind", "b"].tries, found["kind", "c"].tries) == (0, 1, 1)
    assert failed.failed_is_due(now()), "a partition that failed need not wait for its own back-off then"
    assert before == 4
    ask_again(state, notes, by=somebody())
    assert people(state, notes) == 1


def test_a_partition_that_fails_again_and_again_is_counted_until_it_succeeds(
    state: StateStore, notes: Collection
) -> None:
    def fail(question: str, *, passes: bool = True, error: str | None = "The disk is full.") -> str:
        with state.write() as connection:
            record_partition(connection, "notes", DAY, question=question, error=error, passes=passes)
        return waiting(state, notes).get(DAY, "")

    assert fail("a").startswith("failed in 1 run, next try at 20")
    assert fail("a").startswith("failed in 2 runs, next try at 20")
    assert fail("b").startswith("failed in 1 run, next try at 20"), "another source is another question"
    assert fail("b", passes=False) == "failed in 2 runs, needs a person"
    assert fail("b", error=None) == ""


def test_a_held_call_needs_a_person_until_its_attempt_is_resolved(
    store_url: str, state: StateStore, notes: Collection, provider: Provider
) -> None:
    provider.script([{"fault": "reset_after", "times": 1}])
    declared = settings({"mini": endpoint(provider.url)})
    (result,) = ask(store_url, declared, [question(1, on_ambiguous="hold")])
    store(state, tried("a", error="held", call=result.call))
    assert CALLER.collection
    assert (people(state, notes), waiting(state, notes)[DAY]) == (1, "1 document needs a person (held)")
    with state.write() as connection:
        connection.execute(sa.text("UPDATE attempts SET state = 'failed', cost_nusd = 0"))
    assert (people(state, notes), waiting(state, notes)[DAY]) == (0, "1 document to ask again (held), now")


def test_what_no_database_can_hold_is_stored_as_near_as_can_be(state: StateStore, notes: Collection) -> None:
    odd = replace(tried("a"), message="\0 and half of \ud800")
    store(state, odd)
    with state.read() as connection:
        (found,) = retries.find(connection, "notes", partition=DAY)
    assert "\0" not in found.message
    assert found.document_id == "a"
