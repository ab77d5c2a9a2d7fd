"""Claims about bringing partitions up to date: what changed is computed again, exactly that, and nothing is lost."""

import os
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from conftest import STAGE, Project, text_of

from ai_assets.collection.loading import Collection
from ai_assets.documents.source_listing import ALL, known_folders, observe
from ai_assets.run.context import Outcome
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.explain import explain
from ai_assets.run.status import collection_status, partition_states
from ai_assets.signoff.errors import DocumentUnknown

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
CHAIN = ("documents", "chunks", "embeddings", "kind", "release_candidate")


@pytest.fixture
def notes(project: Project) -> Collection:
    """Three days with four documents each, and one stage."""
    project.documents(per_day=4)
    return project.declare(stages=[dict(STAGE)])


def computed(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], int]:
    """Documents computed, by partition and asset, where there were any."""
    return {(o.manifest.partition, o.manifest.asset): o.computed for o in outcomes if o.computed}


def versions(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], str]:
    return {
        (o.manifest.partition, o.manifest.asset): str(o.manifest.stats.get("digest") or o.manifest.version)
        for o in outcomes
    }


def rows(project: Project, asset: str, partition: str, collection: str = "notes") -> dict[str, dict[str, object]]:
    """A dataset's rows by document."""
    lake = project.stores().lake
    manifest = lake.manifest(collection, asset, partition)
    assert manifest is not None
    return {row["document_id"]: row for row in lake.read(manifest).to_pylist()}


def statuses(project: Project, partition: str = DAYS[0], collection: str = "notes") -> dict[str, object]:
    return {name: row["status"] for name, row in rows(project, "documents", partition, collection).items()}


# Only what changed


def test_a_first_run_computes_every_document_in_every_asset(project: Project, notes: Collection) -> None:
    assert computed(project.refresh(notes)) == {(day, asset): 4 for day in DAYS for asset in CHAIN}


def test_a_run_with_nothing_changed_computes_and_writes_nothing(project: Project, notes: Collection) -> None:
    first = project.refresh(notes)
    again = project.refresh(notes)
    assert all(outcome.unchanged for outcome in again)
    assert [outcome.manifest for outcome in again] == [outcome.manifest for outcome in first]


def test_a_changed_document_is_computed_alone_in_every_asset(project: Project, notes: Collection) -> None:
    before = versions(project.refresh(notes))
    project.document("2026-10-06/5.txt", "Another text on the pump, longer than the one that was here.")
    outcomes = project.refresh(notes)
    found = computed(outcomes)
    assert {key: found[key] for key in found if key[1] != "release_candidate"} == {(DAYS[1], a): 1 for a in CHAIN[:4]}
    assert {key for key, version in versions(outcomes).items() if version != before[key]} == {
        (DAYS[1], asset) for asset in CHAIN
    }


def test_a_new_document_is_computed_alone(project: Project, notes: Collection) -> None:
    project.refresh(notes)
    project.document("2026-10-07/new.txt", "A new text on a leak in the roof of hall nine.")
    found = computed(project.refresh(notes))
    assert {asset: found[DAYS[2], asset] for asset in CHAIN[:4]} == dict.fromkeys(CHAIN[:4], 1)
    assert {day for day, _ in found} == {DAYS[2]}


def test_touching_a_file_makes_no_new_version(project: Project, notes: Collection) -> None:
    before = versions(project.refresh(notes))
    for file in project.root.rglob("*.txt"):
        os.utime(file)
    outcomes = project.refresh(notes)
    assert versions(outcomes) == before
    assert computed(outcomes) == {}


def test_the_same_documents_give_the_same_versions_in_another_home(
    project: Project, notes: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = versions(project.refresh(notes))
    other = project.elsewhere()
    monkeypatch.setenv("AI_ASSETS_HOME", str(other.home.root))
    assert versions(other.refresh(notes)) == first


def test_an_edited_label_description_computes_the_labels_again_and_nothing_before(
    project: Project, notes: Collection
) -> None:
    project.refresh(notes)
    labels = [{**label, "description": label["description"] + " Nothing else."} for label in STAGE["labels"]]
    edited = project.declare(stages=[{**STAGE, "labels": labels}])
    assert set(partition_states(edited, project.stores()).values()) == {"stale"}
    outcomes = project.refresh(edited)
    assert {key for key in computed(outcomes) if key[1] not in ("kind", "release_candidate")} == set()
    assert all(computed(outcomes)[day, "kind"] == 4 for day in DAYS)


def test_a_title_alone_that_changes_reaches_the_chunks_and_the_labels(project: Project) -> None:
    tables = {"csv": {"key": "id", "text": ["body"], "title": "title"}}
    collection = project.declare(stages=[dict(STAGE)], source={"path": "documents", "tables": tables})
    table = "id,title,body\n1,{},The pump in hall seven was looked at on Monday.\n"
    for title in ("Invoice", "Incident report"):
        project.document("2026-10-05/t.csv", table.format(title))
        outcomes = project.refresh(collection, [DAYS[0]])
        assert rows(project, "chunks", DAYS[0])["2026-10-05/t.csv#1"]["title"] == title
    assert computed(outcomes) == {(DAYS[0], asset): 1 for asset in ("documents", "chunks", "kind", "release_candidate")}


def test_a_lost_data_file_is_made_anew_with_the_same_version(project: Project, notes: Collection) -> None:
    outcomes = project.refresh(notes)
    lost = next(o.manifest for o in outcomes if (o.manifest.asset, o.manifest.partition) == ("chunks", DAYS[0]))
    project.stores().lake.path(lost).unlink()
    again = project.refresh(notes)
    assert versions(again) == versions(outcomes)
    assert [o.manifest.asset for o in again if not o.unchanged] == ["chunks"]


# What comes and goes


def test_a_deleted_document_leaves_a_tombstone_and_the_candidate(project: Project, notes: Collection) -> None:
    project.refresh(notes)
    (project.root / "collections/notes/documents/2026-10-05/1.txt").unlink()
    project.refresh(notes)
    assert statuses(project)["2026-10-05/1.txt"] == "deleted"
    for asset in ("chunks", "embeddings", "kind", "release_candidate"):
        assert "2026-10-05/1.txt" not in rows(project, asset, DAYS[0])
    assert [event["event"] for event in explain(notes, project.stores(), "2026-10-05/1.txt")["history"]] == [
        "added", "deleted",
    ]  # fmt: skip


def test_a_document_that_comes_back_is_added_again(project: Project, notes: Collection) -> None:
    file = project.root / "collections/notes/documents/2026-10-05/1.txt"
    before = versions(project.refresh(notes))
    file.unlink()
    project.refresh(notes)
    project.document("2026-10-05/1.txt", text_of(1))
    assert versions(project.refresh(notes)) == before
    assert [event["event"] for event in explain(notes, project.stores(), "2026-10-05/1.txt")["history"]] == [
        "added", "deleted", "added",
    ]  # fmt: skip


def test_an_exact_duplicate_is_linked_over_partitions_and_promoted_when_the_original_goes(project: Project) -> None:
    collection = project.declare()
    text = "One text, in two files, on the leak in hall nine."
    original = project.document("2026-10-05/a.txt", text)
    project.document("2026-10-06/b.txt", text)
    project.refresh(collection)
    assert statuses(project, DAYS[1]) == {"2026-10-06/b.txt": "duplicate"}
    assert rows(project, "documents", DAYS[1])["2026-10-06/b.txt"]["duplicate_of"] == "2026-10-05/a.txt"
    assert rows(project, "chunks", DAYS[1]) == {}
    original.unlink()
    assert computed(project.refresh(collection))[DAYS[1], "embeddings"] == 1
    assert statuses(project, DAYS[1]) == {"2026-10-06/b.txt": "ok"}
    assert rows(project, "documents", DAYS[1])["2026-10-06/b.txt"]["text"] == text


def test_the_same_text_in_another_form_is_a_duplicate_until_it_differs(project: Project) -> None:
    collection = project.declare()
    project.document("2026-10-05/a.txt", "The pump leaks.\n")
    project.document("2026-10-05/b.txt", "The pump leaks.\n\n\n")
    project.refresh(collection)
    assert statuses(project) == {"2026-10-05/a.txt": "ok", "2026-10-05/b.txt": "duplicate"}
    project.document("2026-10-05/a.txt", "The pump is well again.")
    project.refresh(collection)
    assert statuses(project) == {"2026-10-05/a.txt": "ok", "2026-10-05/b.txt": "ok"}


# What goes wrong


def test_a_broken_file_is_quarantined_and_does_not_stop_its_partition(project: Project, notes: Collection) -> None:
    project.document("2026-10-05/broken.txt", b"caf\xe9 \xff\xfe\x00 broken")
    project.document("2026-10-05/empty.txt", "")
    outcomes = project.refresh(notes, [DAYS[0]])
    assert [o.quarantined for o in outcomes if o.manifest.asset == "documents"] == [2]
    assert [o.documents_out for o in outcomes if o.manifest.asset == "documents"] == [4]
    found = rows(project, "documents", DAYS[0])
    assert found["2026-10-05/empty.txt"]["reason"] == "empty"
    assert found["2026-10-05/broken.txt"]["reason"]
    assert collection_status(notes, project.stores()).documents == {
        "ok": 4,
        "quarantined": 2,
        "duplicate": 0,
        "deleted": 0,
    }


def damage(project: Project, asset: str, partition: str) -> str:
    path = project.stores().lake.folder("notes", asset, partition) / "manifest.json"
    path.write_text("{")
    return str(path)


def test_a_partition_that_fails_leaves_the_others_done_and_the_run_names_it_once(
    project: Project, notes: Collection
) -> None:
    project.refresh(notes, [DAYS[1]])
    path = damage(project, "chunks", DAYS[1])
    done: list[Outcome] = []
    with pytest.raises(PartitionsFailed) as failed:
        done += (event for event in project.events(notes) if isinstance(event, Outcome))
    assert str(failed.value).startswith(f"1 of 3 partitions of notes failed:\n  {DAYS[1]}: Dataset file {path}: ")
    assert set(failed.value.errors) == {DAYS[1]}
    states = partition_states(notes, project.stores())
    assert states == {DAYS[0]: "awaiting sign-off", DAYS[1]: "failed", DAYS[2]: "awaiting sign-off"}
    assert collection_status(notes, project.stores()).errors == failed.value.errors


def test_what_failed_is_done_once_its_cause_is_gone(project: Project, notes: Collection) -> None:
    project.refresh(notes)
    path = damage(project, "chunks", DAYS[1])
    with pytest.raises(PartitionsFailed):
        project.refresh(notes)
    os.unlink(path)  # noqa: PTH108
    project.refresh(notes)
    assert set(partition_states(notes, project.stores()).values()) == {"awaiting sign-off"}


def test_many_partitions_that_fail_alike_are_told_once(project: Project) -> None:
    project.documents(per_day=1, days=5)
    collection = project.declare(partitions={"by": "day", "start": "2026-10-05", "end": "2026-10-09"})
    with pytest.raises(PartitionsFailed) as failed:
        project.refresh(collection, selected=["chunks"])
    assert len(failed.value.errors) == 5
    assert "5 of 5 partitions of notes failed:\n" in str(failed.value)


def test_a_part_of_the_chain_without_its_input_says_what_to_run(project: Project, notes: Collection) -> None:
    with pytest.raises(PartitionsFailed) as failed:
        project.refresh(notes, [DAYS[0]], ["embeddings"])
    assert failed.value.errors[DAYS[0]] == (
        "notes/embeddings of 2026-10-05 is made from notes/chunks, which does not exist yet for that partition. "
        "Materialize chunks first: ai-assets run notes --partition 2026-10-05"
    )


def test_a_candidate_is_not_made_of_datasets_that_do_not_belong_together(project: Project, notes: Collection) -> None:
    project.refresh(notes)
    project.document("2026-10-05/1.txt", "Another text on the pump, longer than the one that was here.")
    project.refresh(notes, [DAYS[0]], ["documents"])
    with pytest.raises(PartitionsFailed) as failed:
        project.refresh(notes, [DAYS[0]], ["release_candidate"])
    assert failed.value.errors[DAYS[0]] == (
        "notes/chunks of 2026-10-05 was made from an earlier documents than there is now. "
        "Bring the partition up to date first: ai-assets run notes --partition 2026-10-05"
    )


def test_a_part_of_the_chain_does_not_make_a_partition_up_to_date(project: Project, notes: Collection) -> None:
    project.refresh(notes)
    project.document("2026-10-05/1.txt", "Another text on the pump, longer than the one that was here.")
    project.refresh(notes, [DAYS[0]], ["documents", "chunks"])
    assert partition_states(notes, project.stores())[DAYS[0]] == "stale"
    project.refresh(notes, [DAYS[0]])
    assert partition_states(notes, project.stores())[DAYS[0]] == "awaiting sign-off"


def test_a_part_of_the_chain_can_be_run_by_itself(project: Project, notes: Collection) -> None:
    project.refresh(notes, selected=["documents"])
    outcomes = project.refresh(notes, [DAYS[0]], ["chunks", "embeddings"])
    assert {o.manifest.asset: o.computed for o in outcomes} == {"chunks": 4, "embeddings": 4}


def test_an_observation_that_died_half_way_is_mended_by_the_next(project: Project, notes: Collection) -> None:
    """The lake had the new listing, the state store not yet: the change must not be forgotten."""
    stores = project.stores()
    observe(notes, stores.lake, stores.state)
    with stores.state.write() as connection:
        connection.execute(sa.text("DELETE FROM listings"))
    assert stores.lake.manifest("notes", "source_files", ALL) is not None
    observe(notes, stores.lake, stores.state)
    assert set(partition_states(notes, stores).values()) == {"missing"}


def test_a_source_that_is_gone_fails_with_what_to_do(project: Project, notes: Collection) -> None:
    (project.root / "collections/notes/documents").rename(project.root / "elsewhere")
    told = project.cli("run", "notes", "--all")
    assert told.returncode == 2
    assert told.stderr.startswith("error: Source ")
    assert told.stderr.count("\n") == 1


# Where documents go


TABLE = "id,day,body\n1,2026-10-05,The pump in hall one.\n2,2026-10-06,The leak in hall two.\n3,,No day at all.\n"


def test_rows_of_one_table_go_to_the_partition_their_column_says(project: Project) -> None:
    collection = project.declare(
        source={"path": "documents", "tables": {"csv": {"key": "id", "text": ["body"]}}},
        partitions={"by": "day", "column": "day", "start": "2026-10-05", "end": "2026-10-07"},
    )
    file = project.document("all.csv", TABLE)
    project.refresh(collection)
    assert [sorted(statuses(project, day)) for day in DAYS] == [["all.csv#1"], ["all.csv#2"], []]
    assert collection_status(collection, project.stores()).unassigned == 1
    file.write_text(TABLE.replace("2026-10-06,The leak", "2026-10-05,The leak"))
    outcomes = project.refresh(collection)
    assert computed(outcomes)[DAYS[0], "embeddings"] == 1
    assert statuses(project, DAYS[0]) == {"all.csv#1": "ok", "all.csv#2": "ok"}
    assert statuses(project, DAYS[1]) == {"all.csv#2": "deleted"}
    found = explain(collection, project.stores(), "all.csv#2")
    assert (found["partition"], found["current"]["status"]) == (DAYS[0], "ok")


def test_a_changed_row_recomputes_its_own_partition_alone(project: Project) -> None:
    collection = project.declare(
        source={"path": "documents", "tables": {"csv": {"key": "id", "text": ["body"]}}},
        partitions={"by": "day", "column": "day", "start": "2026-10-05", "end": "2026-10-07"},
    )
    file = project.document("all.csv", TABLE)
    project.refresh(collection)
    file.write_text(TABLE.replace("in hall two", "in the hall beyond"))
    assert {day for day, _ in computed(project.refresh(collection))} == {DAYS[1]}


def test_rows_of_one_table_are_spread_over_shards_and_each_is_in_one(project: Project) -> None:
    collection = project.declare(
        source={"path": "documents", "tables": {"csv": {"key": "id", "text": ["body"]}}},
        partitions={"by": "shards", "count": 3},
    )
    body = "".join(f"{n},Row {n} on the pump in hall {n}.\n" for n in range(30))
    project.document("all.csv", f"id,body\n{body}")
    project.document("other.txt", "A file among the rows.")
    project.refresh(collection)
    shards = [set(statuses(project, key)) for key in collection.scheme.keys()]
    assert sum(map(len, shards)) == 31 == len(set.union(*shards))
    assert all(shards)


def test_folders_are_partitions_and_one_that_is_gone_leaves_tombstones(project: Project) -> None:
    collection = project.declare(partitions={"by": "folder"})
    for folder in ("b", "Größe & Maß"):
        project.document(f"{folder}/note.txt", f"A note in {folder} on the pump.")
    project.document("nowhere.txt", "A note in no folder.")
    project.refresh(collection)
    stores = project.stores()
    assert partition_states(collection, stores) == {"Größe & Maß": "awaiting sign-off", "b": "awaiting sign-off"}
    assert collection_status(collection, stores).unassigned == 1
    (project.root / "collections/notes/documents/b/note.txt").unlink()
    (project.root / "collections/notes/documents/b").rmdir()
    observe(collection, stores.lake, stores.state)
    assert partition_states(collection, stores)["b"] == "stale"
    project.refresh(collection, known_folders(stores.state, "notes"))
    assert statuses(project, "b") == {"b/note.txt": "deleted"}
    assert partition_states(collection, stores)["b"] == "empty"


def test_explaining_a_document_that_never_was_names_the_nearest(project: Project, notes: Collection) -> None:
    project.refresh(notes, [DAYS[0]])
    with pytest.raises(DocumentUnknown, match=r"did you mean '2026-10-05/1\.txt'"):
        explain(notes, project.stores(), "1.txt")


# Judged over the corpus


def judged(project: Project) -> Collection:
    queries = project.root / "collections/notes/q.jsonl"
    queries.parent.mkdir(parents=True, exist_ok=True)
    queries.write_text('{"query": "pump in hall 0", "documents": ["2026-10-05/0.txt"]}\n')
    return project.declare(golden={"queries": "q.jsonl"})


def indexed(project: Project) -> dict[str, int]:
    """Chunks per partition in the index that search is judged on."""
    index = project.stores().index("notes", "evaluation")
    version = index.version()
    assert version is not None
    return index.partitions(version)


def test_search_is_judged_on_every_computed_partition(project: Project) -> None:
    collection = judged(project)
    project.documents(per_day=2)
    project.refresh(collection, DAYS[:2])
    assert indexed(project) == {DAYS[0]: 2, DAYS[1]: 2}
    project.refresh(collection)
    assert indexed(project) == dict.fromkeys(DAYS, 2)


def test_a_partition_whose_vectors_lagged_behind_is_judged_again_once_they_fit(project: Project) -> None:
    collection = judged(project)
    project.documents(per_day=2)
    project.refresh(collection)
    project.document("2026-10-05/0.txt", "Edited and half computed.")
    project.refresh(collection, [DAYS[0]], ["documents", "chunks"])
    project.document("2026-10-06/2.txt", "A change that has the index written.")
    project.refresh(collection, [DAYS[1]])
    assert indexed(project) == dict.fromkeys(DAYS, 2)
    project.document("2026-10-05/0.txt", text_of(0))
    project.refresh(collection)
    assert indexed(project) == dict.fromkeys(DAYS, 2)


def test_a_damaged_partition_does_not_stop_the_judging_of_the_others(project: Project) -> None:
    collection = judged(project)
    project.documents(per_day=2)
    project.refresh(collection, [DAYS[0]])
    damage(project, "embeddings", DAYS[0])
    with pytest.raises(PartitionsFailed) as failed:
        project.refresh(collection)
    assert set(failed.value.errors) == {DAYS[0]}
    assert partition_states(collection, project.stores())[DAYS[2]] == "awaiting sign-off"


def test_asking_for_the_candidate_alone_does_not_get_past_a_gate(project: Project) -> None:
    golden = project.root / "collections" / "notes" / "golden.jsonl"
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text('{"query": "zeppelin", "documents": ["2026-10-05/0.txt"]}\n')
    gated = project.declare(golden={"queries": "golden.jsonl"}, gates=[{"metric": "recall@1", "min": 1.0}])
    project.documents(per_day=2)
    for selected in (None, ["release_candidate"]):
        with pytest.raises(PartitionsFailed, match=r"recall@1 .* is below the minimum 1"):
            project.refresh(gated, selected=selected)
    assert project.stores().lake.manifest("notes", "release_candidate", "2026-10-05") is None


def test_asking_for_the_candidate_alone_does_not_get_past_a_quality_suite(project: Project) -> None:
    suite = [{"expect": "expect_table_row_count_to_be_between", "min_value": 5}]
    checked = project.declare(quality={"documents": suite})
    project.documents(per_day=2)
    with pytest.raises(PartitionsFailed, match="quality suite of documents"):
        project.refresh(checked)
    with pytest.raises(PartitionsFailed, match="quality suite of documents"):
        project.refresh(checked, selected=["chunks", "embeddings", "release_candidate"])
