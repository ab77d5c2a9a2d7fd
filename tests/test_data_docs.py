"""Claims about suites of every asset: what is refused at load, which rows are named, what nobody sees, who may look."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import DAYS, STAGE, Project, project_at
from desks import Visitor, desk_of, request_id, served
from signing import known

from ai_assets.checks.base import CheckOutcome
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.collection.suite_columns import columns_of
from ai_assets.desk import reading
from ai_assets.desk.access import NotSeen
from ai_assets.desk.context import Desk
from ai_assets.embedding.spec import WITHOUT
from ai_assets.run.datasets.documents import COLUMNS, SOME
from ai_assets.run.datasets.release_candidate import DOCUMENT_COLUMNS
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff import people, requests
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.signoff.holds import HELD
from ai_assets.storage.lake import parquet_columns

SECRET = "Zanzibar"
SUITES: dict[str, Any] = {
    "documents": [
        {"expect": "expect_column_values_to_not_match_regex", "column": "text", "regex": SECRET, "blocking": False,
         "note": "It is told apart by hand."},
        {"expect": "expect_column_distinct_values_to_be_in_set", "column": "text", "value_set": ["a"],
         "blocking": False},
        {"expect": "expect_column_values_to_be_in_set", "column": "language", "value_set": ["xx"], "blocking": False},
        {"expect": "expect_column_max_to_be_between", "column": "text", "max_value": 3, "blocking": False},
    ],
    "chunks": [{"expect": "expect_column_values_to_be_between", "column": "ordinal", "max_value": 0,
                "blocking": False}],
    "kind": [{"expect": "expect_column_values_to_be_in_set", "column": "label", "value_set": ["invoice"],
              "blocking": False}],
    "release_candidate": [
        {"expect": "expect_column_values_to_be_in_set", "column": "kind_label", "value_set": ["invoice", "incident"]},
        {"expect": "expect_table_row_count_to_be_between", "min_value": 3},
    ],
}  # fmt: skip
FULL, SPARSE = "2026-10-05", "2026-10-06"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A collection of two days after a run; of the second day the suite of its candidate refuses the candidate."""

    project: Project
    collection: Collection
    checks: Sequence[CheckOutcome]
    refused: str

    @property
    def desk(self) -> Desk:
        return desk_of(self.project)

    def of(self, asset: str) -> CheckOutcome:
        return next(each for each in self.checks if (each.asset, each.partition, each.name) == (asset, FULL, "quality"))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("judged"), patch)
        declared = project.declare(
            stages=[dict(STAGE)], quality=SUITES, chunking={"max_characters": 80},
            partitions={**DAYS, "end": SPARSE},
        )  # fmt: skip
        project.documents(per_day=3, days=1)
        project.document(f"{FULL}/odd.txt", f"A bill over 7.00 from {SECRET}, with tax and a total due. " * 3)
        project.document(f"{SPARSE}/lone.txt", "An invoice with tax and a total due of 5.00.")
        checks: list[CheckOutcome] = []
        events = (event for event in project.events(declared) if isinstance(event, CheckOutcome))
        with pytest.raises(PartitionsFailed) as refused:
            checks.extend(events)
        for name, role in (("ann", "approver"), ("vic", "viewer"), ("nob", None)):
            known(project.stores().state, name, role)  # type: ignore[arg-type]
        yield Judged(project=project, collection=declared, checks=checks, refused=str(refused.value))


def test_a_failure_names_its_documents_and_never_their_texts(judged: Judged) -> None:
    documents, chunks, kind = (judged.of(asset) for asset in ("documents", "chunks", "kind"))
    rows = documents.details["failing_rows"]
    first, distinct, language, longest = documents.details["results"]
    assert [row for row in rows if row["number"] == 0] == [
        {
            "number": 0, "expectation": "expect_column_values_to_not_match_regex", "document_id": f"{FULL}/odd.txt",
            "text": "(173 characters)",
        }
    ]  # fmt: skip
    assert (first["unexpected_count"], first["note"]) == (1, "It is told apart by hand.")
    assert "not shown" in distinct["observed"]
    assert "not shown" in longest["observed"]
    assert {row["language"] for row in rows if row["number"] == 2} == {"en"}
    assert language["unexpected_count"] == 4
    assert {row["document_id"] for row in chunks.details["failing_rows"]} == {f"{FULL}/odd.txt"}
    assert all(row["chunk_id"] and row["ordinal"] > 0 for row in chunks.details["failing_rows"])
    assert {row["label"] for row in kind.details["failing_rows"]} == {"incident"}
    everything = json.dumps([asdict(each) for each in judged.checks])
    assert SECRET not in everything
    assert "total due" not in everything


def test_nobody_is_asked_about_a_candidate_that_its_suite_refuses(judged: Judged) -> None:
    assert f"{SPARSE}: the quality suite of release_candidate refuses it: expect_table_row_count" in judged.refused
    with judged.project.stores().state.read() as connection:
        asked = [requests.latest_of(connection, "notes", partition) for partition in (FULL, SPARSE)]
    assert [each is not None for each in asked] == [True, False]
    assert judged.of("release_candidate").passed


def test_data_docs_show_what_failed_first_and_only_to_who_may_see_the_collection(judged: Judged) -> None:
    with judged.project.stores().state.read() as connection:
        vic, nob = (people.find(connection, name) for name in ("vic", "nob"))
    assert vic is not None
    assert nob is not None
    found = reading.quality_page(judged.desk, vic)
    assert (found.judged, found.failed, found.collections) == (8, 5, ["notes"])
    assert (found.rows[0].passed, found.rows[0].partition, found.rows[0].asset) == (False, SPARSE, "documents")
    refused = next(each for each in found.rows if (each.asset, each.partition) == ("release_candidate", SPARSE))
    assert (refused.blocking, [each.passed for each in refused.expectations]) == (True, [False, True])
    assert {each.partition for each in reading.quality_page(judged.desk, vic, partition=FULL).rows} == {FULL}
    assert reading.quality_page(judged.desk, nob).judged == 0
    with pytest.raises(NotSeen):
        reading.quality_page(judged.desk, nob, collection="notes")


def test_the_request_links_to_data_docs_which_hold_no_text(judged: Judged) -> None:
    with served(judged.desk) as desk:
        visitor = Visitor(desk.url)
        visitor.sign_in("ann")
        link = f"/quality?collection=notes&amp;partition={FULL}"
        assert link in visitor.get(f"/requests/{request_id(desk, FULL)}").text
        page = visitor.get(link.replace("&amp;", "&")).text
        told = visitor.get("/api/quality?show=failed&per_page=1").json()
        visitor.http.close()
    assert all(said in page for said in (f"{FULL}/odd.txt", "(173 characters)", "It is told apart by hand."))
    assert SECRET not in page
    assert (told["total"], told["pages"], len(told["rows"])) == (5, 5, 1)


def test_verdicts_of_an_earlier_version_are_not_shown(judged: Judged) -> None:
    stores = judged.project.stores()
    old = {"blocking": False, "details": {"results": [], "failing_rows": [{"expectation": "e", "text": SECRET}]}}
    place = {"c": "notes", "a": "chunks", "p": FULL}
    with stores.state.write() as connection:
        sql = "UPDATE check_results SET details = :d WHERE collection = :c AND asset = :a AND partition = :p"
        connection.execute(sa.text(sql), {**place, "d": json.dumps(old)})
        vic = people.find(connection, "vic")
    assert vic is not None
    found = reading.quality_page(judged.desk, vic, partition=FULL)
    [shown] = [each for each in found.rows if each.asset == "chunks"]
    assert (shown.judged_at, shown.expectations) == (None, [])


def test_columns_that_suites_may_name_are_those_that_datasets_have(judged: Judged) -> None:
    lake = judged.project.stores().lake
    for asset in SUITES:
        manifest = lake.manifest("notes", asset, FULL)
        assert manifest is not None
        snapshot = asset == "release_candidate"
        path = FrozenCandidate.of(manifest).paths(lake)[0] if snapshot else lake.path(manifest)
        assert set(parquet_columns(path)) <= columns_of(judged.collection, asset), asset
    assert set(COLUMNS) | set(SOME) == columns_of(judged.collection, "documents")
    assert {HELD, WITHOUT, *DOCUMENT_COLUMNS} <= columns_of(judged.collection, "release_candidate")


def test_a_suite_over_columns_that_are_not_there_is_refused_with_its_line(project: Project) -> None:
    wrong = [{"expect": "expect_column_to_exist", "column": "text"},
             {"expect": "expect_column_pair_values_to_be_equal", "column_A": "text", "column_B": "tilte"}]  # fmt: skip
    with pytest.raises(CollectionInvalid) as refused:
        project.declare(quality={"documents": wrong, "chunks": wrong[:1]})
    assert "has no column 'tilte'; did you mean 'title'?" in str(refused.value)
    path = project.root / "collections" / "notes" / "defs.yaml"
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines, 1) if "pair_values" in line)
    assert f"defs.yaml:{at}:" in str(refused.value)
