"""Claims about documents that say nearly the same: who is linked to whom, whatever the order, and what is not paid."""

import shutil
from random import Random
from typing import Any

import pytest
from conftest import DAYS, REPOSITORY, Project
from hypothesis import given, settings
from hypothesis import strategies as st
from provider import Provider

from ai_assets.documents.near_duplicates import NearDuplicates, signature, similarity
from ai_assets.run.explain import explain

DAY = "2026-10-05"
WORDS = (
    "pump hall leak storm week invoice total due payment contract lease rent heating window door key safety crane "
    "driver road closed depot sorter belt bearing grease night shift handover cage lane trunk weather insurance "
    "claim damage water fire report site manager visit approve reject sign copy letter office desk visitor paper"
).split()
LABELS = [
    {"name": "note", "description": "A short note from the shift."},
    {"name": "bill", "description": "An invoice with a total due."},
]


def text_of(seed: int, words: int = 200) -> str:
    random = Random(seed)
    return " ".join(random.choice(WORDS) for _ in range(words))


def changed(text: str, words: int) -> str:
    """With so many words in a row written otherwise."""
    found = text.split()
    return " ".join([*found[:50], *(f"other{n}" for n in range(words)), *found[50 + words :]])


def alike(one: str, other: str) -> float:
    made = [signature(text) for text in (one, other)]
    assert made[0] is not None
    assert made[1] is not None
    return similarity(made[0], made[1])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), words=st.integers(1, 60))
def test_the_estimate_is_close_to_the_truth(seed: int, words: int) -> None:
    one = text_of(seed)
    other = changed(one, words)
    runs = [{tuple(text.split()[at : at + 3]) for at in range(198)} for text in (one, other)]
    truth = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
    assert abs(alike(one, other) - truth) < 0.18


def test_a_text_is_linked_to_the_first_by_name_and_no_link_leads_on() -> None:
    near = NearDuplicates(0.8)
    one = text_of(2)
    two, three = changed(one, 12), changed(one, 30)
    assert alike(two, three) >= 0.8 > alike(one, three)
    linked = {name: near.link(name, text) for name, text in (("a", one), ("b", two), ("c", three), ("d", text_of(3)))}
    assert {name: found.of if found else None for name, found in linked.items()} == {
        "a": None, "b": "a", "c": None, "d": None,
    }  # fmt: skip


def test_short_texts_and_empty_ones_are_like_nothing() -> None:
    near = NearDuplicates(0.7)
    assert [near.link(str(n), text) for n, text in enumerate(["one two three", "one two three", "", "…"])] == [None] * 4


def test_scripts_without_spaces_are_compared_too() -> None:
    near = NearDuplicates(0.7)
    text = "署名した契約書を金曜日までにお送りください。届かない場合は作業を始めることができません。" * 2
    assert near.link("a", text + "倉庫の鍵は昨日、窓のそばの机の上にありました。") is None
    found = near.link("b", text + "倉庫の鍵は今日、窓のそばの机の上にありました。")
    assert found is not None


def declared(project: Project, **more: Any) -> Any:
    return project.declare(partitions={**DAYS, "end": DAY}, **{"stages": [], **more})


def rows(project: Project, asset: str = "documents") -> dict[str, dict[str, Any]]:
    lake = project.stores().lake
    manifest = lake.manifest("notes", asset, DAY)
    assert manifest is not None
    return {row["document_id"].removeprefix(f"{DAY}/"): row for row in lake.rows(manifest)}


def test_links_do_not_depend_on_which_file_came_first(project: Project) -> None:
    near = {"near_duplicates": {"at_least": 0.8}}
    texts = {"a.txt": text_of(1), "b.txt": changed(text_of(1), 6), "c.txt": text_of(3)}
    for name in ("c.txt", "b.txt"):
        project.document(f"{DAY}/{name}", texts[name])
    project.refresh(declared(project, **near))
    assert {row["near_duplicate_of"] for row in rows(project).values()} == {None}
    project.document(f"{DAY}/a.txt", texts["a.txt"])
    project.refresh(declared(project, **near))
    grown = {name: (row["near_duplicate_of"], row["similarity"]) for name, row in rows(project).items()}
    assert grown["b.txt"][0] == f"{DAY}/a.txt"
    assert 0.8 <= grown["b.txt"][1] <= 1
    assert grown["a.txt"] == grown["c.txt"] == (None, None)
    at_once = project.stores().lake.manifest("notes", "documents", DAY)
    assert at_once is not None
    project.refresh(declared(project))
    assert "near_duplicate_of" not in rows(project)["b.txt"]
    project.refresh(declared(project, **near))
    again = project.stores().lake.manifest("notes", "documents", DAY)
    assert again is not None
    assert again.version == at_once.version


def test_explain_and_the_candidate_name_the_near_duplicate(project: Project) -> None:
    project.document(f"{DAY}/a.txt", text_of(1))
    project.document(f"{DAY}/b.txt", changed(text_of(1), 6))
    collection = declared(project, near_duplicates={})
    project.refresh(collection)
    found = explain(collection, project.stores(), f"{DAY}/b.txt")["current"]
    assert found is not None
    assert found["near_duplicate_of"] == f"{DAY}/a.txt"
    assert found["similarity"] > 0.8


@pytest.fixture
def asking(project: Project, provider: Provider) -> Project:
    shutil.copy(REPOSITORY / "inference.yaml", project.root)
    project.document(f"{DAY}/a.txt", text_of(1))
    project.document(f"{DAY}/b.txt", changed(text_of(1), 6))
    project.document(f"{DAY}/c.txt", text_of(3))
    return project


def test_paid_stages_skip_near_duplicates_where_that_is_declared(asking: Project, provider: Provider) -> None:
    stages = [{"name": "kind", "kind": "classify", "route": "default", "labels": LABELS}]
    asking.refresh(declared(asking, stages=stages, near_duplicates={"skip": True}))
    assert len(provider.bills(every=True)) == 2
    row = rows(asking, "kind")["b.txt"]
    assert row["status"] == "quarantined"
    assert row["reason"] == f"not asked: nearly the same as '{DAY}/a.txt' (near_duplicates.skip)"
    asking.refresh(declared(asking, stages=stages, near_duplicates={"skip": False}))
    assert len(provider.bills(every=True)) == 3
    assert rows(asking, "kind")["b.txt"]["status"] == "ok"
    asking.refresh(declared(asking, stages=stages))
    assert len(provider.bills(every=True)) == 3
