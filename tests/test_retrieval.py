"""Claims about a search that is fitted: on golden queries, as it was judged and signed, and by neighbours' suffixes."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from conftest import DAYS, Project
from signing import decide as approve
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection.loading import Collection
from ai_assets.embedding.searched_by import AS_ALWAYS, SEARCHED_BY
from ai_assets.evaluation.fusion_fit import LEAST_QUERIES, WEIGHTS, JudgedQuery, fit_weight
from ai_assets.run.context import Outcome
from ai_assets.run.explain import search
from ai_assets.run.status import partition_states
from ai_assets.signoff import releases, requests, verification
from ai_assets.signoff.errors import CandidateChanged, SearchesMixed
from ai_assets.signoff.fitted_searches import fitted, record_fit, searched_by
from ai_assets.signoff.publication import publish
from ai_assets.storage.name_suffixes import suffix_signs
from ai_assets.storage.ranking import Hit
from ai_assets.storage.search_rules import VECTOR_WEIGHT
from ai_assets.storage.state import StateStore

ITEMS = 48
EMBEDDER = '''
import numpy as np
from ai_assets.embedding.embed import Embedder

class Knowing(Embedder):
    """What `beta7` asks for says `alpha7`, and no word tells that."""
    name, dimensions, version = "knowing", 64, "1"

    def embed(self, texts):
        rows = np.full((len(texts), 64), 0.01)
        for row, text in zip(rows, texts):
            row[int(text.split()[0].removeprefix("alpha").removeprefix("beta")) % 64] = 1
        return rows
'''
QUERIES = {"golden": {"queries": "queries.jsonl"}, "embedding": {"use": "my_knowing:Knowing"}}
SECOND = {"builtins": {"search": "2"}}


@pytest.fixture
def office(project: Project) -> Iterator[Project]:
    """Words lead a golden query to the next document, and vectors to the right one."""
    before, path = set(sys.modules), list(sys.path)
    (project.root / "my_knowing.py").write_text(EMBEDDER)
    for item in range(ITEMS):
        project.document(
            f"{DAYS['start'] if item % 2 else '2026-10-06'}/item{item}.txt", f"alpha{item} is a thing here."
        )
    ask(project, range(ITEMS))
    yield project
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    sys.path[:] = path


def ask(office: Project, items: range, reason: str = "alpha{next}") -> None:
    lines = [
        {"query": f"beta{n} " + reason.format(next=(n + 1) % ITEMS), "documents": [day(n) + f"/item{n}.txt"]}
        for n in items
    ]
    folder = office.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def day(item: int) -> str:
    return DAYS["start"] if item % 2 else "2026-10-06"


def declared(office: Project, **more: Any) -> Collection:
    return office.declare(**{"partitions": {**DAYS, "end": "2026-10-06"}, **QUERIES, **SECOND, **more})


def live(office: Project, collection: Collection) -> releases.Release:
    approve(office.stores().state, collection)
    return publish(collection, office.stores(), by="test").release


def scored(outcomes: list[Outcome], metric: str = "mrr") -> set[float]:
    made = [each.manifest for each in outcomes if each.manifest.asset == "evaluation_scores"]
    return {row["value"] for each in made for row in each.stats["scores"] if row["metric"] == metric}


def first(office: Project, collection: Collection, text: str) -> str:
    return search(collection, office.stores(), text, 5)[1][0].document_id


def test_a_weight_is_fitted_before_anything_is_signed_and_goes_live_with_what_was_judged(office: Project) -> None:
    collection = declared(office)
    outcomes = office.refresh(collection)
    assert scored(outcomes) == {1.0}
    release = live(office, collection)
    assert release.searched_by.weights[""] > 0.5
    assert {part.searched_by.key for part in release.parts.values()} == {release.searched_by.key}
    assert {part.code_versions[SEARCHED_BY] for part in release.parts.values()} == {release.searched_by.key}
    assert first(office, collection, "beta7 alpha8") == f"{day(7)}/item7.txt"
    candidate = next(each.manifest for each in outcomes if each.manifest.asset == "evaluation_scores")
    report = candidate.stats["search_fits"][""]
    assert (report["queries"], report["outcome"]) == (ITEMS, "fitted")
    assert report["fitted_mrr"] > report["mrr"]
    again = office.refresh(collection)
    assert all(each.unchanged for each in again)
    verification.verify(office.stores().state)


def test_without_the_declaration_it_is_searched_as_always(office: Project) -> None:
    collection = declared(office, builtins={})
    outcomes = office.refresh(collection)
    assert scored(outcomes) != {1.0}
    release = live(office, collection)
    assert release.searched_by == AS_ALWAYS
    assert all(SEARCHED_BY not in part.code_versions for part in release.parts.values())
    assert first(office, collection, "beta7 alpha8") == f"{day(8)}/item8.txt"


def test_too_few_queries_leave_the_default(office: Project) -> None:
    ask(office, range(LEAST_QUERIES - 1))
    collection = declared(office)
    office.refresh(collection)
    assert live(office, collection).searched_by.weights == {}


def test_other_golden_queries_void_no_approval_and_a_fit_is_asked_for(office: Project) -> None:
    collection = declared(office)
    office.refresh(collection)
    before = live(office, collection)
    ask(office, range(ITEMS), reason="thing")  # by now the words say nothing: any weight is as good
    changed = declared(office)
    assert set(partition_states(changed, office.stores()).values()) == {"stale"}, "they are judged by other queries"
    office.refresh(changed)
    assert set(partition_states(changed, office.stores()).values()) == {"published"}
    with office.stores().state.read() as connection:
        assert not requests.find(connection, "notes", statuses=("open",))
        assert releases.live(connection, "notes") == before
    assert first(office, changed, "beta7 alpha8") == f"{day(7)}/item7.txt"


def test_a_new_fit_is_shown_and_used_only_when_somebody_says_so(
    office: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(office.root)
    ask(office, range(10))
    collection = declared(office)
    office.refresh(collection)
    assert live(office, collection).searched_by.weights == {}
    ask(office, range(ITEMS))
    collection = declared(office)
    office.refresh(collection)
    with office.stores().state.read() as connection:
        assert not requests.find(connection, "notes", statuses=("open",)), "it is live, so nothing is fitted by itself"
    env = {"AI_ASSETS_HOME": str(office.home.root), "AI_ASSETS_PROJECT": str(office.root)}
    shown = CliRunner().invoke(app, ["golden", "fit", "notes", "--json"], env=env)
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert (found["changes"], found["used"]) == (True, False)
    assert found["fits"][""]["now"] == VECTOR_WEIGHT < found["fits"][""]["weight"]
    assert set(partition_states(collection, office.stores()).values()) == {"published"}
    said = CliRunner().invoke(app, ["golden", "fit", "notes", "--yes"], env=env)
    assert "All partitions are judged with it" in said.output
    assert set(partition_states(collection, office.stores()).values()) == {"stale"}
    assert first(office, collection, "beta7 alpha8") == f"{day(8)}/item8.txt", "what is live is searched as it was"
    office.refresh(collection, [DAYS["start"]])
    with pytest.raises(SearchesMixed, match="One search answers for all partitions of a release"):
        live(office, collection)
    office.refresh(collection)
    assert live(office, collection).searched_by.weights[""] == found["fits"][""]["weight"]
    assert first(office, collection, "beta7 alpha8") == f"{day(7)}/item7.txt"


def test_a_collection_without_queries_or_with_the_first_rules_says_so(
    office: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(office.root)
    env = {"AI_ASSETS_HOME": str(office.home.root), "AI_ASSETS_PROJECT": str(office.root)}
    declared(office, builtins={})
    said = CliRunner().invoke(app, ["golden", "fit", "notes"], env=env)
    assert "ai-assets migrate notes" in str(said.exception)
    declared(office, golden={})
    said = CliRunner().invoke(app, ["golden", "fit", "notes"], env=env)
    assert "it has no golden queries" in str(said.exception)


def test_after_migrate_it_is_fitted_although_something_is_live(office: Project) -> None:
    old = declared(office, builtins={})
    office.refresh(old)
    live(office, old)
    new = declared(office)
    assert set(partition_states(new, office.stores()).values()) == {"stale"}
    assert scored(office.refresh(new)) == {1.0}
    assert first(office, new, "beta7 alpha8") == f"{day(8)}/item8.txt"
    second = live(office, new)
    assert second.searched_by.version == "2"
    assert first(office, new, "beta7 alpha8") == f"{day(7)}/item7.txt"
    with office.stores().state.read() as connection:
        assert releases.get(connection, "notes", 1).searched_by == AS_ALWAYS


def test_a_fit_is_kept_by_embedding_and_counts_for_its_own_vectors_only(office: Project, state_url: str) -> None:
    collection, store = declared(office), StateStore(state_url)
    with store.write() as connection:
        record_fit(connection, collection, "", 0.8, {"queries": 40}, "run")
        record_fit(connection, collection, "", 1.3, {"queries": 50}, "run")
    with store.read() as connection:
        found = fitted(connection, collection)
        assert (found[""].weight, found[""].report) == (1.3, {"queries": 50})
        assert searched_by(collection, found).rules("").vector_weight == 1.3
        assert fitted(connection, declared(office, embedding={})) == {}, "other vectors"
        assert fitted(connection, declared(office, builtins={})) == {}, "the first rules have no fit"
    store.close()


def test_a_weight_that_was_altered_behind_the_digest_is_not_published(office: Project) -> None:
    collection = declared(office)
    office.refresh(collection)
    approve(office.stores().state, collection)
    place = office.stores().lake.folder("notes", "release_candidate", DAYS["start"]) / "manifest.json"
    files = [place] if place.is_file() else sorted(place.parent.rglob("*.json"))
    for file in files:
        text = file.read_text()
        said = json.loads(text)
        if "searched_by" in said.get("stats", {}):
            said["stats"]["searched_by"]["weights"][""] = 3.0
            file.write_text(json.dumps(said))
    with pytest.raises(CandidateChanged, match="it now says that it is searched by search rules 2, vector weight 3"):
        publish(collection, office.stores(), by="test")


# The fit alone


def hit(document: str, score: float) -> Hit:
    return Hit(document_id=document, chunk_id=f"{document}#0", partition="all", title="", text=document, score=score)


def judged(number: int, *, right_by_vector: bool, margin: float = 0.2) -> JudgedQuery:
    """Vectors find one document and words another; `margin` is how far the words' is ahead by the default."""
    words = [hit("w", VECTOR_WEIGHT + margin), hit("v", 0.0)]
    return JudgedQuery(
        query=f"query {number}",
        relevant=frozenset({"v" if right_by_vector else "w"}),
        by_vector=[hit("v", 1.0), hit("x", 0.0)],
        by_text=words,
    )


def test_a_weight_moves_towards_what_finds_more_and_few_queries_move_it_less() -> None:
    some = fit_weight([judged(n, right_by_vector=True) for n in range(LEAST_QUERIES)], "2")
    many = fit_weight([judged(n, right_by_vector=True) for n in range(20 * LEAST_QUERIES)], "2")
    assert VECTOR_WEIGHT < some.weight <= many.weight
    assert many.outcome == "fitted"
    assert many.fitted_mrr is not None
    assert many.fitted_mrr > 0.99
    assert many.mrr == pytest.approx(0.5)


def test_where_vectors_mislead_they_count_less() -> None:
    queries = [judged(n, right_by_vector=False, margin=-0.15) for n in range(200)]
    found = fit_weight(queries, "2")
    assert found.weight < VECTOR_WEIGHT
    assert (found.outcome, found.fitted_mrr) == ("fitted", 1.0)


def test_queries_that_say_now_this_now_that_leave_the_default() -> None:
    found = fit_weight([judged(n, right_by_vector=n % 2 == 0) for n in range(200)], "2")
    assert (found.weight, found.outcome) == (VECTOR_WEIGHT, "default is as good")
    assert VECTOR_WEIGHT in WEIGHTS


def test_one_query_less_than_a_fit_takes_fits_nothing() -> None:
    found = fit_weight([judged(n, right_by_vector=True) for n in range(LEAST_QUERIES - 1)], "2")
    assert (found.weight, found.outcome) == (VECTOR_WEIGHT, "too few queries")
    assert "a fit takes 40" in found.in_words
    assert replace(found, queries=3).in_words.startswith("3 golden queries")


# Neighbours


@pytest.mark.parametrize(
    ("query", "signs"),
    [
        ("pump", [0, -1, -1, 0]),
        ("manual of the pump", [0, 1, -1, 0]),
        ("development files for the pump", [0, -1, 1, 0]),
    ],
)
def test_of_neighbours_that_differ_in_a_suffix_the_one_asked_for_is_put_forward(query: str, signs: list[int]) -> None:
    found = ["a/pump3.md", "b/pump-manual.md", "a/pump_dev2.txt", "a/valve-manual.md"]
    assert suffix_signs(found, query) == signs


def test_rows_that_differ_in_a_number_are_no_neighbours() -> None:
    assert suffix_signs(["t.csv#INV-2043", "t.csv#INV-2044", "inv.md"], "invoice 2044") == [0, 0, 0]
