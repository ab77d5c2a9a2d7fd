"""Answers that last: after any edits they are those of questions that are asked anew, and most are not asked."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_large_search import WORDS, apart, found, made
from test_ranked_documents import CODES, ODD, PLAIN, Question, passages, questions

from ai_assets.storage import index_reader, large_search, lasting_search
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.lasting_search import LastingSearch
from ai_assets.storage.search_rules import FIRST_RULES, SearchRules

NAMES = SearchRules(version="2", vector_weight=0.6)


@pytest.fixture(autouse=True)
def _any_part_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting_search, "MOST_CHANGED", 0.5)


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions each search asked of all passages."""
    counted: list[int] = []
    search = large_search._LargeSearch._by_vector

    def counting(self: large_search._LargeSearch, numbers: np.ndarray, digests: np.ndarray | None = None) -> object:
        counted.append(len(numbers))
        return search(self, numbers, digests)

    monkeypatch.setattr(large_search._LargeSearch, "_by_vector", counting)
    return counted


@pytest.mark.parametrize("rules", [FIRST_RULES, NAMES], ids=["first", "second"])
@pytest.mark.parametrize(
    ("seed", "each", "words"),
    [(1, 1, WORDS), (2, 4, WORDS), (3, 3, [*WORDS[:60], *PLAIN, *CODES, *ODD])],
    ids=["a passage each", "several", "codes and odd words"],
)
def test_after_each_edit_answers_are_those_of_questions_that_are_asked_anew(
    tmp_path: Path, asked_anew: list[int], rules: SearchRules, seed: int, each: int, words: list[str]
) -> None:
    """Whether it is said which partitions changed, or not."""
    names_parts = rules is FIRST_RULES
    drawn = random.Random(seed)
    held = {str(number): passages(str(number), drawn, 60 // each, each, words) for number in range(12)}
    index, version = made(tmp_path / "index", held)
    asked = questions(drawn, words, 40)
    path = tmp_path / "kept.npz"
    versions = dict.fromkeys(held, "0")

    def lasting() -> list[list[str] | None]:
        kept = LastingSearch(path=path, parts=versions if names_parts else None)
        answers = found(index, version, asked, rules, lasting=kept)
        kept.keep(sampled=True)
        return answers

    assert lasting() == found(index, version, asked, rules)
    asked_anew.clear()
    for step in range(8):
        name = drawn.choice(list(held))
        match step % 4:
            case 0:  # one passage
                one = drawn.randrange(held[name].num_rows)
                new = passages(name, drawn, 1, 1, words)
                held[name] = pa.concat_tables([held[name].slice(0, one), new, held[name].slice(one + 1)])
            case 1:  # one less
                held[name] = held[name].slice(1)
            case 2:
                held[name] = passages(name, drawn, 60 // each, each, words)
            case _:  # a new partition, and one that is gone
                held[f"new {step}"] = passages(f"new {step}", drawn, 10, each, words)
                version = index.replace({name: None}, base_version=version)
                del held[name]
                name = f"new {step}"
        version = index.replace({name: held[name]}, base_version=version)
        versions = {each: versions.get(each, "0") for each in held} | {name: str(version)}
        before = len(asked_anew)
        told = lasting()
        again = sum(asked_anew[before:])
        assert told == found(index, version, asked, rules), step
        assert again < 0.6 * len(asked), step
    assert sum(asked_anew) > 0


class Kept:
    """An index with questions, and the file in which what they found is kept."""

    def __init__(self, folder: Path) -> None:
        drawn = random.Random(5)
        self.drawn, self.path = drawn, folder / "kept.npz"
        self.held = {str(number): apart(passages(str(number), drawn, 30, 2, WORDS)) for number in range(10)}
        self.index, self.version = made(folder / "index", self.held)
        self.asked = [each for each in questions(drawn, WORDS, 20) if each[1].strip()]

    def edited(self) -> None:
        self.held["3"] = apart(passages("3", self.drawn, 30, 2, WORDS))
        self.version = self.index.replace({"3": self.held["3"]}, base_version=self.version)

    def anew(self) -> list[list[str] | None]:
        return found(self.index, self.version, self.asked)

    def told(self, *, is_kept: bool = True) -> list[list[str] | None]:
        lasting = LastingSearch(path=self.path, is_kept=is_kept)
        answers = found(self.index, self.version, self.asked, lasting=lasting)
        lasting.keep(sampled=True)
        return answers


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "altered", "gone"])
def test_a_damaged_file_is_no_file(kept: Kept, asked_anew: list[int], damage: str) -> None:
    kept.told()
    data = kept.path.read_bytes()
    match damage:
        case "gone":
            kept.path.unlink()
        case "altered":
            kept.path.write_bytes(data[:5000] + bytes(200) + data[5200:])
        case _:
            kept.path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"what?" * 100}[damage])
    kept.edited()
    asked_anew.clear()
    assert kept.told() == kept.anew()
    assert asked_anew[0] == len(kept.asked)
    kept.edited()
    asked_anew.clear()
    assert kept.told() == kept.anew()
    assert sum(asked_anew) < 2 * len(kept.asked), "it is whole again"


def test_questions_may_come_and_go(kept: Kept, asked_anew: list[int]) -> None:
    kept.told()
    known = kept.asked
    (vector, text), (_, other) = known[0], known[1]
    asked_anew.clear()
    kept.asked = [*known[5:], (-vector, text), (vector, " ".join(reversed(other.split())))]
    assert kept.told() == kept.anew()
    assert asked_anew[0] <= 6, "those that are new, of words that are known"
    kept.asked = [*known, (vector, "entirely unheard")]
    asked_anew.clear()
    assert kept.told() == kept.anew()
    assert asked_anew[0] == len(kept.asked), "their words were not counted"


def test_another_index_begins_with_it_and_leaves_it_as_it_is(kept: Kept, asked_anew: list[int]) -> None:
    kept.told()
    before = kept.path.read_bytes()
    kept.edited()
    asked_anew.clear()
    assert kept.told(is_kept=False) == kept.anew()
    assert asked_anew[0] < len(kept.asked)
    assert kept.path.read_bytes() == before


def test_what_readers_get_is_sampled_once_and_then_when_enough_changed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_reader, "EXACT_BELOW_ROWS", 10)  # a large one has 50,000 passages
    taken: list[bool] = []
    search = SearchIndex.search_many

    def noting(self: SearchIndex, version: int, asked: Sequence[Question], *more: object, **named: object) -> object:
        taken[-1] = taken[-1] or len(asked) > 0
        return search(self, version, asked, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(SearchIndex, "search_many", noting)
    monkeypatch.setattr(lasting_search, "UNSAMPLED", 0.3)  # an edit takes a tenth away, and brings one
    for _ in range(4):
        taken.append(False)
        lasting = LastingSearch(path=kept.path, parts={})
        answers = kept.index.documents_found(kept.version, kept.asked, 10, lasting=lasting)
        assert answers.documents == [each or [] for each in kept.anew()]
        kept.edited()
    assert taken == [True, False, True, False]
