"""A release, opened: its documents, their provenance, and its difference to other releases."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from desks import Visitor, desk_of, served
from provider import Provider
from signing import decide, known
from test_llm_stages import BILL, DAY, PRICED
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen
from ai_assets.desk.pages.release import PARTS_PER_PAGE, PartsPage
from ai_assets.desk.release_opened import (
    difference_view,
    opened_release,
    release_view,
    released_document,
    released_documents,
)
from ai_assets.forgetting.erasing import forget
from ai_assets.run import released
from ai_assets.run.explain import search_release
from ai_assets.run.released import ReleasedFilter
from ai_assets.signoff import audit, releases
from ai_assets.signoff.errors import IndexLost, ReleaseAltered, ReleaseFilesRemoved, ReleaseUnknown
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release
from ai_assets.signoff.served import index_of
from ai_assets.storage.state import StateStore

DAYS = ("2026-10-05", "2026-10-06")


@pytest.fixture
def twice(labelled: Collection, project: Project) -> Collection:
    """Published with one document more, one less and one changed."""
    stores = project.stores()
    decide(stores.state, labelled)
    publish(labelled, stores, by="test")
    new = project.document(f"{DAYS[0]}/brand-new.txt", "Invoice 77. The total due is 250.00 EUR.")
    project.document(f"{DAYS[0]}/0.txt", "The fire alarm rang, and smoke filled the hall. An ambulance came for two.")
    new.with_name("1.txt").unlink()
    project.refresh(labelled, [DAYS[0]])
    decide(stores.state, labelled)
    publish(labelled, stores, by="test")
    return labelled


def release_of(project: Project, number: int) -> Release:
    with project.stores().state.read() as connection:
        return releases.get(connection, "notes", number)


def prune(state: StateStore, number: int) -> None:
    with state.write() as connection:
        audit.append(
            connection, audit.SYSTEM, "release pruned", {"collection": "notes", "release": number, "digest": "d"}
        )


# Documents


def test_documents_of_a_release_are_paged_in_order_and_opened_file_by_file(project: Project, twice: Collection) -> None:
    release, stores = release_of(project, 2), project.stores()
    whole = released.page_of(stores, twice, release, first=0, most=1_000)
    assert whole.total == len(whole.lines) == sum(part.documents for part in release.parts.values())
    pages = [released.page_of(stores, twice, release, first=first, most=2).lines for first in range(0, whole.total, 2)]
    assert [line for page in pages for line in page] == list(whole.lines)
    released.RECENT._kept.clear()
    released.page_of(stores, twice, release, first=0, most=1)
    assert len(released.RECENT._kept) == 1  # the other partition's file is not read for it


@pytest.mark.parametrize(
    ("only", "claim"),
    [
        (ReleasedFilter(text="BRAND"), lambda line: "brand" in line.document_id),
        (ReleasedFilter(partition=DAYS[1]), lambda line: line.partition == DAYS[1]),
        (ReleasedFilter(status="quarantined"), lambda line: line.status == "quarantined"),
        (ReleasedFilter(stage="topic", label="incident"), lambda line: line.headlines["kind"] == "incident"),
    ],
)
def test_documents_are_found_by_what_lines_say(project: Project, twice: Collection, only: Any, claim: Any) -> None:
    release, stores = release_of(project, 2), project.stores()
    stage = released.stages_of(stores, twice, release)[0]
    if only.stage:
        only = ReleasedFilter(stage=stage, label=next(iter(released.labels_of(stores, twice, release, stage, 9))))
    every = released.page_of(stores, twice, release, first=0, most=1_000).lines
    found = released.page_of(stores, twice, release, first=0, most=1_000, only=only)
    wanted = [line for line in every if (line.headlines[stage] == only.label if only.stage else claim(line))]
    assert list(found.lines) == wanted
    assert found.total == len(wanted)


def test_the_index_of_an_earlier_release_finds_what_was_in_it(project: Project, twice: Collection) -> None:
    stores = project.stores()
    gone = {
        line.document_id for line in released.page_of(stores, twice, release_of(project, 1), first=0, most=99).lines
    }
    gone -= {
        line.document_id for line in released.page_of(stores, twice, release_of(project, 2), first=0, most=99).lines
    }
    (name,) = gone
    _, row = released.document_of(stores, twice, release_of(project, 1), name)
    before = search_release(twice, stores, release_of(project, 1), row["text"], 20).hits
    now = search_release(twice, stores, release_of(project, 2), row["text"], 20).hits
    assert before[0].document_id == name
    assert name not in {hit.document_id for hit in now}


def test_a_question_that_would_cost_a_call_is_answered_by_words_alone(project: Project, provider: Provider) -> None:
    (project.root / "inference.yaml").write_text(PRICED)
    project.document(f"{DAY}/bill-0.txt", BILL.format(n=1))
    collection = declare(project, [KIND], embedding={"route": "default", "dimensions": 256})
    stores = project.stores()
    project.refresh(collection, [DAY])
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    asked = provider.stats()["delivered"]
    found = search_release(collection, stores, release_of(project, 1), "payment terms", 5)
    assert found.by_words
    assert [hit.document_id for hit in found.hits] == [f"{DAY}/bill-0.txt"]
    assert provider.stats()["delivered"] == asked


# The difference


def test_a_difference_names_what_readers_see_otherwise(project: Project, twice: Collection) -> None:
    stores = project.stores()
    found = released.difference(stores, twice, release_of(project, 1), release_of(project, 2))
    assert found.partitions == [DAYS[0]]
    moves = {move.move: move for move in found.moves}
    assert moves["added"].document_id == f"{DAYS[0]}/brand-new.txt"
    assert (found.counts["added"], found.counts["removed"]) == (1, 1)
    assert found.counts["changed"] + found.counts["relabelled"] == 1
    back = released.difference(stores, twice, release_of(project, 2), release_of(project, 1))
    assert (back.counts["added"], back.counts["removed"]) == (1, 1)
    assert {move.document_id for move in back.moves} == {move.document_id for move in found.moves}
    for move in found.moves:
        for was, now in move.labels.values():
            assert was != now


def test_a_release_differs_in_nothing_from_itself(project: Project, twice: Collection) -> None:
    found = released.difference(project.stores(), twice, release_of(project, 2), release_of(project, 2))
    assert (found.moves, found.partitions) == ([], [])


def test_a_forgotten_document_is_a_tombstone_that_is_removed_for_readers(project: Project, twice: Collection) -> None:
    stores = project.stores()
    forget(stores, twice, f"{DAYS[0]}/brand-new.txt", by=known(stores.state, "ada", "admin"), reason="by letter")
    desk, ada = desk_of(project), known(stores.state, "ann")
    view = released_document(opened_release(desk, ada, "notes", 3), f"{DAYS[0]}/brand-new.txt")
    assert (view.row.status, view.text) == ("forgotten", "")
    with pytest.raises(ReleaseFilesRemoved):
        difference_view(opened_release(desk, ada, "notes", 3), 2)


def test_of_a_release_without_files_it_is_said_that_retention_removed_them(project: Project, twice: Collection) -> None:
    desk = desk_of(project)
    ann = known(desk.stores.state, "ann")
    prune(desk.stores.state, 1)
    opened = opened_release(desk, ann, "notes", 1)
    view = release_view(opened)
    assert view.missing is not None
    assert "removed by retention" in view.missing
    assert [part.partition for part in view.parts] == list(DAYS)
    for read in (
        lambda: released_documents(opened, only=ReleasedFilter()),
        lambda: released_document(opened, f"{DAYS[0]}/1.txt"),
        lambda: difference_view(opened, 2),
        lambda: difference_view(opened_release(desk, ann, "notes", 2), 1),
    ):
        with pytest.raises(ReleaseFilesRemoved):
            read()


def test_a_release_that_was_read_and_altered_since_is_refused(project: Project, twice: Collection) -> None:
    desk = desk_of(project)
    ann = known(desk.stores.state, "ann")
    assert opened_release(desk, ann, "notes", 2).row.live
    with desk.stores.state.write() as connection:
        connection.execute(sa.text("UPDATE releases SET manifest = manifest || ' ' WHERE number = 2"))
    with pytest.raises(ReleaseAltered):
        opened_release(desk, ann, "notes", 2)


def test_partitions_of_a_release_are_shown_fifty_at_a_time() -> None:
    names = [f"{number:03d}" for number in range(2 * PARTS_PER_PAGE + 1)]
    assert PartsPage.of(names, 1).rows == names[:PARTS_PER_PAGE]
    assert (PartsPage.of(names, 99).rows, PartsPage.of(names, 99).page) == (names[-1:], 3)
    assert PartsPage.of([], 1).pages == 1


# Pages, the API and the command


@pytest.fixture
def visitors(project: Project, twice: Collection) -> Any:
    desk = desk_of(project)
    known(desk.stores.state, "ann")
    known(desk.stores.state, "vic", "viewer", "elsewhere")
    with served(desk) as running:
        found = []
        for name in ("ann", "vic"):
            visitor = Visitor(running.url)
            visitor.sign_in(name)
            found.append(visitor)
        yield found
        for visitor in found:
            visitor.http.close()


def test_pages_of_a_release_are_for_those_who_may_see_the_collection(visitors: Any) -> None:
    ann, vic = visitors
    document = f"document?partition={DAYS[0]}&id={DAYS[0]}%2Fbrand-new.txt"
    for path in ("2", "2?search=fire", "2/difference?with=1", f"2/{document}"):
        assert ann.get(f"/releases/notes/{path}").status_code == 200, path
        assert vic.get(f"/releases/notes/{path}").status_code == 404, path
    for path in ("2", "2/documents", "2/difference?with=1", f"2/{document}"):
        assert ann.get(f"/api/releases/notes/{path}").status_code == 200, path
        assert vic.get(f"/api/releases/notes/{path}").status_code == 404, path
    for path in ("7", "nonsense", "7/difference?with=1", "2/document?id=none"):
        assert ann.get(f"/releases/notes/{path}").status_code == 404, path
    assert ann.get("/api/releases/notes/at?moment=2026-01-01").status_code == 200  # what was there stays


def test_making_a_release_live_shows_first_what_would_change(visitors: Any, project: Project) -> None:
    ann, _ = visitors
    page = ann.submit("/releases/notes/rollback", number="1").text
    assert "What would change" in page
    assert "brand-new.txt" in page
    with project.stores().state.read() as connection:
        assert releases.live_number(connection, "notes") == 2  # nothing is done yet
    ann.submit("/releases/notes/rollback", number="1", confirmed="yes", reason="as before")
    with project.stores().state.read() as connection:
        assert releases.live_number(connection, "notes") == 1


def test_a_release_whose_index_is_gone_says_so_and_still_lists_its_documents(
    visitors: Any, project: Project, twice: Collection
) -> None:
    ann, _ = visitors
    stores, old = project.stores(), release_of(project, 1)
    index_of(stores, old).discard(old.index_version)
    with pytest.raises(IndexLost):
        search_release(twice, stores, old, "fire", 5)
    page = ann.get("/releases/notes/1?search=fire").text
    assert "is not kept any more" in page
    assert DAYS[1] in page


def test_commands_show_documents_and_differences_as_json(project: Project, twice: Collection) -> None:
    told = json.loads(project.cli("releases", "diff", "notes", "1", "--json").stdout)
    assert (told["base"], told["other"], told["counts"]["added"]) == (1, 2, 1)
    listed = json.loads(
        project.cli("releases", "documents", "notes", "1", "--text", "2", "--limit", "1", "--json").stdout
    )
    assert (listed["release"], len(listed["lines"])) == (1, 1)
    assert project.cli("releases", "diff", "notes", "1", "9").returncode == 2
    with pytest.raises(ReleaseUnknown):
        release_of(project, 9)


def test_who_may_not_see_a_collection_learns_nothing_of_its_releases(project: Project, twice: Collection) -> None:
    desk = desk_of(project)
    vic = known(desk.stores.state, "vic", "viewer", "elsewhere")
    with pytest.raises(NotSeen):
        opened_release(desk, vic, "notes", 2)
    with pytest.raises(NotSeen):
        opened_release(desk, vic, "notes", 99)
