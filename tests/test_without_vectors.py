"""A document of which the model does not embed a text is released without vectors, and is found by its words."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Project, text_of
from desks import desk_of, request_id
from http_servers import serving
from provider import Provider
from signing import decide, somebody

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.desk import reading
from ai_assets.orchestration.events import metadata
from ai_assets.planning.plan import plan
from ai_assets.run.context import Outcome
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.explain import explain, search
from ai_assets.run.explain import without_vectors as found_by_words
from ai_assets.run.status import collection_status
from ai_assets.signoff import verification
from ai_assets.signoff.publication import publish
from ai_assets.storage import index_reader
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.lake import Manifest, read_rows

DAY = "2026-10-05"
PRICED, FREE = "prices: [{from: 2026-01-01, input: 0.02}]", "free: true"
ONE = "endpoints:\n  vectors: {{base_url: {url}, model: embed-a, prices: [{{from: 2026-01-01, input: 0.02}}]}}\n"
ROUTE: dict[str, Any] = {"route": "vectors", "dimensions": 256}
REFUSED = f"{DAY}/2.txt"


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    """Ten documents of one day, each of one passage."""
    (project.root / "inference.yaml").write_text(ONE.format(url="rehearsal"))
    project.documents(per_day=10, days=1)
    return project


def declare(project: Project, **embedding: Any) -> Collection:
    return project.declare(embedding={**ROUTE, **embedding})


def refuse(provider: Provider, *numbers: int, fault: str = "content_filter") -> None:
    provider.script([{"match": f"Note {number} on", "fault": fault, "times": None} for number in numbers])


def run(project: Project, collection: Collection) -> dict[str, Outcome]:
    return {outcome.manifest.asset: outcome for outcome in project.refresh(collection, [DAY])}


def candidate(project: Project) -> Manifest:
    manifest = project.stores().lake.manifest("notes", "release_candidate", DAY)
    assert manifest is not None
    return manifest


def leaves(project: Project) -> dict[str, str]:
    return {row["document_id"]: row["leaf"] for row in project.stores().lake.rows(candidate(project))}


def release(project: Project, collection: Collection) -> None:
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="ann")


def hits(project: Project, collection: Collection, text: str) -> list[str]:
    return [hit.document_id for hit in search(collection, project.stores(), text, 10)[1]]


# What a run makes of it


def test_a_text_that_is_refused_leaves_its_document_without_vectors_and_the_others_as_they_were(
    office: Project, provider: Provider
) -> None:
    collection = declare(office)
    run(office, collection)
    whole = leaves(office)
    (office.stores().lake.folder("notes", "embeddings", DAY) / "manifest.json").unlink()
    office.document(REFUSED, text_of(2) + " With another end.")
    refuse(provider, 2)
    embeddings = run(office, collection)["embeddings"]
    table = office.stores().lake.read(embeddings.manifest)
    rows = {row["document_id"]: row for row in table.to_pylist()}
    assert [name for name, row in rows.items() if row["vector"] is None] == [REFUSED]
    assert rows[REFUSED]["without_vectors"].startswith("refused: HTTP 400")
    told = metadata(embeddings)
    assert (told["without_vectors"], told["documents"], told["texts_embedded"]) == (1, 10, 0)
    assert "refused" in str(told["why_without_vectors"])
    changed = {name for name, leaf in leaves(office).items() if leaf != whole[name]}
    assert changed == {REFUSED}


def test_where_all_texts_have_vectors_nothing_says_otherwise(office: Project) -> None:
    found = run(office, declare(office))
    for asset in ("embeddings", "release_candidate"):
        assert "without_vectors" not in found[asset].manifest.stats
    assert "without_vectors" not in office.stores().lake.read(found["embeddings"].manifest).column_names


def test_it_is_signed_published_and_found_by_its_words_until_the_model_embeds_it(
    office: Project, provider: Provider
) -> None:
    refuse(provider, 2)
    collection = declare(office)
    run(office, collection)
    digest = candidate(office).stats["digest"]
    release(office, collection)
    verification.verify(office.stores().state)
    live, found = search(collection, office.stores(), "leak 2.00", 10)
    assert found[0].document_id == REFUSED
    assert list(found_by_words(office.stores(), live, found)) == [REFUSED]
    provider.script([])
    billed = provider.stats()["billed"]
    again = run(office, collection)["embeddings"]
    assert provider.stats()["billed"] == billed + 1
    assert "without_vectors" not in again.manifest.stats
    assert candidate(office).stats["digest"] != digest
    release(office, collection)
    live, found = search(collection, office.stores(), text_of(2), 10)
    assert found[0].document_id == REFUSED
    assert found_by_words(office.stores(), live, found) == {}


def test_asked_again_in_vain_nothing_changes_also_where_the_message_does(office: Project, provider: Provider) -> None:
    collection = declare(office)
    provider.configure(context_tokens=5_000)
    refuse(provider, 2, fault="context_too_long")
    run(office, collection)
    first = candidate(office)
    provider.configure(context_tokens=6_000)
    again = run(office, collection)
    assert not again["embeddings"].unchanged
    assert again["release_candidate"].unchanged
    assert candidate(office).version == first.version
    refuse(provider, 2)
    run(office, collection)
    assert candidate(office).stats["digest"] != first.stats["digest"], "for another reason"


def test_a_document_with_one_bad_passage_of_several_has_no_vector_at_all(office: Project, provider: Provider) -> None:
    office.document(REFUSED, f"{text_of(2)}\n\n{text_of(40)}\n\n{text_of(41)}")
    refuse(provider, 2)
    collection = office.declare(embedding=ROUTE, chunking={"max_characters": 110, "overlap": 0})
    embeddings = run(office, collection)["embeddings"].manifest
    rows = [row for row in office.stores().lake.rows(embeddings) if row["document_id"] == REFUSED]
    assert len(rows) == 3
    assert all(row["vector"] is None and row["without_vectors"] for row in rows)
    billed = provider.stats()["billed"]
    provider.script([])
    run(office, collection)
    assert provider.stats()["billed"] == billed + 1, "the other passages were kept in the ledger"


def test_a_plan_counts_on_asking_again(office: Project, provider: Provider) -> None:
    refuse(provider, 2)
    collection = declare(office)
    run(office, collection)
    with office.work(collection) as work:
        found = plan(collection, office.stores(), work.inference, partitions=[DAY])
    (stage,) = (stage for stage in found.stages if stage.stage == "embeddings")
    assert (stage.new_calls, stage.reused) == (1, 0)


# How many may be


@pytest.mark.parametrize(
    ("refused", "allowed", "said"),
    [
        ((2, 3), 0.01, r"2 of the 10 documents of 2026-10-05 not, or not whole, and 1 may be without vectors"),
        ((2,), 0, r"1 of the 10 documents .* and 0 may be without vectors \(embedding\.without_vectors_at_most: 0\)"),
        ((2, 3, 4, 5), 0.3, r"4 of the 10 documents .* and 3 may .* '2026-10-05/2\.txt' \(refused: .*; and 1 more"),
    ],
    ids=["two of ten", "none allowed", "more than the share"],
)
def test_beyond_the_bound_the_partition_fails_and_names_them(
    office: Project, provider: Provider, refused: tuple[int, ...], allowed: float, said: str
) -> None:
    refuse(provider, *refused)
    collection = declare(office, without_vectors_at_most=allowed)
    with pytest.raises(PartitionsFailed, match=said) as failed:
        run(office, collection)
    assert "ai-assets run notes --partition 2026-10-05" in failed.value.errors[DAY]
    assert office.stores().lake.manifest("notes", "embeddings", DAY) is None
    billed = provider.stats()["billed"]
    provider.script([])
    run(office, collection)
    assert provider.stats()["billed"] == billed + 1, "the refused texts in one request; the others were kept"


def test_up_to_the_bound_it_goes_through(office: Project, provider: Provider) -> None:
    refuse(provider, 2, 3, 4)
    embeddings = run(office, declare(office, without_vectors_at_most=0.3))["embeddings"].manifest
    assert embeddings.stats["without_vectors"] == 3


def test_the_bound_does_not_make_anything_stale(office: Project) -> None:
    before, after = declare(office), declare(office, without_vectors_at_most=0.5)
    assert before.code_versions == after.code_versions


@pytest.mark.parametrize("wrong", [{"without_vectors_at_most": 0.1}, {**ROUTE, "without_vectors_at_most": 1.5}])
def test_a_bound_without_a_meaning_is_refused(project: Project, wrong: dict[str, Any]) -> None:
    with pytest.raises(CollectionInvalid, match="without_vectors_at_most"):
        project.declare(embedding=wrong)


def test_what_concerns_the_endpoint_is_no_state_of_a_document(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(
        ONE.format(url="rehearsal") + "retries: {embed: {server_error: {attempts: 1}}}\n"
    )
    refuse(provider, 2, fault="server_error")
    with pytest.raises(PartitionsFailed, match=r"could not be embedded: server_error: .*not about the text alone"):
        run(office, declare(office))


class _Misfit(BaseHTTPRequestHandler):
    """Embeds in eight numbers, and in three what has `odd` in it."""

    odd = "Note 2 on"

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        texts = [texts] if isinstance(texts, str) else texts
        data = [
            {"object": "embedding", "index": n, "embedding": [1.0] * (3 if self.odd in text else 8)}
            for n, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = json.dumps({"object": "list", "data": data, "model": "embed-a", "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def misfits(odd: str) -> Iterator[str]:
    with serving(type("_Odd", (_Misfit,), {"odd": odd})) as url:
        yield f"{url}/v1"


def test_a_vector_of_another_length_is_the_texts_if_others_fit_and_else_the_declarations(office: Project) -> None:
    declared = {"dimensions": 8}
    with misfits("Note 2 on") as url:
        (office.root / "inference.yaml").write_text(ONE.format(url=url).replace(PRICED, FREE))
        found = run(office, declare(office, **declared))["embeddings"].manifest
    assert found.stats["why_without"] == [
        {"document_id": REFUSED, "reason": "invalid_output: its vector has 3 numbers, and 8 are declared"}
    ]
    other = office.elsewhere()
    other.documents(per_day=1, days=1)
    with misfits("Note") as url:
        (other.root / "inference.yaml").write_text(ONE.format(url=url).replace(PRICED, FREE))
        with pytest.raises(
            PartitionsFailed, match=r"gave a vector of 3 numbers, and .* declares embedding\.dimensions"
        ):
            run(other, declare(other, **declared))


# Where people see it


@pytest.mark.slow
def test_status_explain_and_search_tell_of_it(office: Project, provider: Provider) -> None:
    refuse(provider, 2)
    collection = declare(office)
    run(office, collection)
    release(office, collection)
    documents = collection_status(collection, office.stores()).documents
    assert (documents["ok"], documents["without vectors"]) == (10, 1)
    told = explain(collection, office.stores(), REFUSED)
    assert told["current"]["without_vectors"] == told["live"]["without_vectors"]
    assert told["live"]["without_vectors"].startswith("refused: HTTP 400")
    assert explain(collection, office.stores(), f"{DAY}/3.txt")["current"]["without_vectors"] is None
    said = office.cli("search", "notes", "Note 2 in hall 14")
    assert "without vectors: found by its words alone (refused: HTTP 400" in said.stdout
    found = json.loads(office.cli("search", "notes", "Note 2 in hall 14", "--json").stdout)
    assert list(found["without_vectors"]) == [REFUSED]


def test_the_desk_shows_how_many_which_and_why(office: Project, provider: Provider) -> None:
    refuse(provider, 2)
    run(office, declare(office))
    desk, ann = desk_of(office), somebody("ann")
    (row,) = reading.inbox(desk, ann).rows
    assert row.without_vectors == 1
    request = request_id(desk, DAY)
    page = reading.document_page(desk, ann, request, change="without vectors")
    assert ([line.document_id for line in page.rows], page.counts["without vectors"]) == ([REFUSED], 1)
    view = reading.document_view(desk, ann, request, REFUSED)
    assert view.row.without_vectors is not None
    assert view.row.without_vectors.startswith("refused: HTTP 400")
    assert reading.request_view(desk, ann, request).sample[0].document_id == REFUSED, "it is looked at first"


def test_the_files_that_are_signed_cover_the_reason(office: Project, provider: Provider) -> None:
    refuse(provider, 2)
    run(office, declare(office))
    manifest = candidate(office)
    folder = office.stores().lake.folder("notes", "release_snapshots", DAY)
    rows = {row["document_id"]: row for row in read_rows(folder / manifest.stats["documents_file"])}
    assert [name for name, row in rows.items() if row["without_vectors"]] == [REFUSED]
    assert rows[REFUSED]["status"] == "ok"


# The index


def passages(count: int, without: set[int]) -> pa.Table:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((count, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mask = pa.array([number in without for number in range(count)])
    names = [f"d{number}" for number in range(count)]
    return pa.table({
        "chunk_id": names, "document_id": names, "partition": ["p"] * count, "title": ["t"] * count,
        "text": [f"pump number {number}" for number in range(count)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8, mask=mask),
    })  # fmt: skip


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("share", ["some", "all"])
def test_a_passage_without_a_vector_is_found_by_text_and_never_by_vector(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, approximate: bool, share: str
) -> None:
    count = 1_500 if approximate else 40
    monkeypatch.setattr(index_reader, "EXACT_BELOW_ROWS", 1_000)
    without = set(range(count)) if share == "all" else set(range(0, count, 4))
    index = SearchIndex(tmp_path, "x", 8)
    version = index.replace({"p": passages(count, without)}, base_version=None)
    question = np.ones(8, dtype=np.float32) / np.sqrt(8)
    by_vector = {hit.document_id for hit in index.search(version, question, "pump", 20, "vector")}
    assert len(by_vector) == (0 if share == "all" else 20)
    assert not by_vector & {f"d{number}" for number in without}
    assert index.search(version, question, "number 4", 5, "text")[0].document_id == "d4"
    assert "d4" in {hit.document_id for hit in index.search(version, question, "number 4", 10)}
