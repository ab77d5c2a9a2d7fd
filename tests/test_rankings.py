"""Golden queries are asked again only when the index changed, and the scores are those of asking all."""

import json
import random
import shutil
from collections.abc import Sequence

import pytest
from conftest import DAYS, Project

from ai_assets.collection.loading import Collection
from ai_assets.run.datasets.rankings import FOLDER
from ai_assets.stages.base import Row
from ai_assets.storage import index_reader, lasting_search

DAY = "2026-10-05"
WORDS = "pump valve invoice winter ticket committee parcel refund budget driver pallet claim".split()


def declared(project: Project, queries: Sequence[str], **more: object) -> Collection:
    """A collection whose golden queries are these; the first document is relevant for each."""
    golden = project.root / "collections" / "notes" / "golden.jsonl"
    golden.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"query": query, "documents": [f"{DAY}/0.txt"]}) for query in queries]
    golden.write_text("\n".join(lines), encoding="utf-8")
    return project.declare(
        partitions={**DAYS, "end": "2026-10-06"}, golden={"queries": "golden.jsonl"}, **more
    )  # fmt: skip


def written(project: Project, drawn: random.Random, day: str, number: int) -> None:
    project.document(f"{day}/{number}.txt", " ".join(drawn.choices(WORDS, k=15)))


def asked(project: Project, collection: Collection) -> int:
    """How many queries a run asks."""
    outcomes = [each for each in project.refresh(collection) if each.manifest.asset == "evaluation_scores"]
    return sum(each.manifest.stats["queries_asked"] for each in outcomes if not each.unchanged)


def scores(project: Project, day: str) -> list[Row]:
    manifest = project.stores().lake.manifest("notes", "evaluation_scores", day)
    assert manifest is not None
    return list(project.stores().lake.rows(manifest))


@pytest.fixture
def office(project: Project) -> Project:
    drawn = random.Random(14)
    for day in (DAY, "2026-10-06"):
        for number in range(5):
            written(project, drawn, day, number)
    return project


def test_only_what_is_new_is_asked(office: Project) -> None:
    queries = [f"{first} {second}" for first in WORDS[:6] for second in WORDS[6:]]
    assert asked(office, declared(office, queries)) == 36
    assert asked(office, declared(office, queries)) == 0
    assert asked(office, declared(office, [*queries, "zeppelin"])) == 1
    assert asked(office, declared(office, queries[:30])) == 0
    office.document(f"{DAY}/1.txt", "The pump needs a new valve before winter.")
    assert asked(office, declared(office, queries[:30])) == 30


def test_a_changed_title_of_a_document_that_keeps_its_text_asks_again(office: Project) -> None:
    queries = ["pump valve", "winter ticket"]
    assert asked(office, declared(office, queries)) == 2
    text = (office.root / "collections" / "notes" / "documents" / DAY / "1.txt").read_text()
    office.document(f"{DAY}/1.txt", f"Winter pumps\n\n{text}")
    assert asked(office, declared(office, queries)) == 2


@pytest.mark.parametrize("damage", ["gone", "half", "another version"])
def test_what_is_kept_can_be_thrown_away(office: Project, damage: str) -> None:
    queries = ["pump valve", "winter ticket"]
    declared(office, queries)
    office.refresh(declared(office, queries))
    (kept,) = (office.home.index / "notes" / FOLDER).glob("*.json")
    match damage:
        case "gone":
            kept.unlink()
        case "half":
            kept.write_bytes(kept.read_bytes()[:40])
        case _:
            kept.write_text(json.dumps({**json.loads(kept.read_text()), "of": "another"}))
    assert asked(office, declared(office, [*queries, "refund"])) == 3


def test_an_index_that_is_made_again_is_asked_again(office: Project) -> None:
    queries = ["pump valve", "winter ticket"]
    office.refresh(declared(office, queries))
    shutil.rmtree(office.home.index / "notes" / "evaluation.lance")
    assert asked(office, declared(office, [*queries, "refund"])) == 3


@pytest.mark.slow
@pytest.mark.parametrize("is_large", [False, True])
def test_after_any_edits_the_scores_are_those_of_asking_all(
    office: Project, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    """Of the partition that changed: the verdict on the other one is remembered (ADR 3)."""
    if is_large:  # one has 50,000 passages
        monkeypatch.setattr(index_reader, "EXACT_BELOW_ROWS", 4)
        monkeypatch.setattr(lasting_search, "MOST_CHANGED", 0.9)
    drawn = random.Random(15)
    queries = [" ".join(drawn.choices(WORDS, k=3)) for _ in range(25)]
    office.refresh(declared(office, queries))
    for step in range(6):
        day = drawn.choice([DAY, "2026-10-06"])
        if step % 2:
            queries.append(" ".join(drawn.choices(WORDS, k=3)))
        else:
            written(office, drawn, day, drawn.randint(0, 6))
        office.refresh(declared(office, queries))
        found = scores(office, day)
        assert any((office.home.index / "notes" / FOLDER).glob("*.npz")) == is_large
        shutil.rmtree(office.home.index / "notes" / FOLDER)
        shutil.rmtree(office.stores().lake.folder("notes", "evaluation_scores", day))
        assert asked(office, declared(office, queries)) == len(set(queries))
        assert scores(office, day) == found
