"""What is computed of a large index is what an index that compares all vectors finds, whatever was edited before."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_ranked_documents import CODES, DIMENSIONS, ODD, PLAIN, Question, alone, passages, questions, unit

from ai_assets.storage import index_reader, ranked_documents
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.large_search import computed, sampled, shared_share
from ai_assets.storage.lasting_search import LastingSearch
from ai_assets.storage.ranked_documents import SAMPLE, Depth
from ai_assets.storage.search_rules import FIRST_RULES, SearchRules
from ai_assets.storage.text_scores import Vocabulary, tokenizer

WORDS = [f"word{number}" for number in range(200)]


def found(
    index: SearchIndex, version: int, asked: Sequence[Question], rules: SearchRules = FIRST_RULES, **where: object
) -> list[list[str] | None]:
    reader = index._at(version)
    depth = Depth(documents=10, of_each=50, rules=rules)
    of: Sequence[str] = where.get("of", ())  # type: ignore[assignment]
    asked = [(vector, text if text.strip() else "") for vector, text in asked]  # as `documents_found` asks
    lasting: LastingSearch | None = where.get("lasting")  # type: ignore[assignment]
    return computed(reader.table, reader.rows, asked, depth, str(where.get("column", "vector")), of, lasting)


def made(folder: Path, held: dict[str, pa.Table], **more: int) -> tuple[SearchIndex, int]:
    index = SearchIndex(folder, "chunks", DIMENSIONS, more=more)
    return index, index.replace(held, base_version=None)


def apart(table: pa.Table) -> pa.Table:
    """Without passages that are level with another one."""
    seen: set[str] = set()
    return table.filter(pa.array([not (text in seen or seen.add(text)) for text in table["text"].to_pylist()]))  # type: ignore[func-returns-value]


def same(found: Sequence[Sequence[str] | None], wanted: Sequence[Sequence[str]]) -> int:
    return sum(each is not None and list(each) == list(other) for each, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("seed", "each"), [(1, 1), (2, 4), (3, 60)])
@pytest.mark.parametrize("rules", [FIRST_RULES, SearchRules(version="2", vector_weight=0.6)], ids=["first", "second"])
def test_documents_are_those_of_an_index_that_compares_all_vectors(
    tmp_path: Path, seed: int, each: int, rules: SearchRules
) -> None:
    drawn = random.Random(seed)
    index, version = made(tmp_path, {name: apart(passages(name, drawn, 400 // each, each, WORDS)) for name in "ab"})
    asked = questions(drawn, WORDS, 40)
    assert same(found(index, version, asked, rules), alone(index, version, asked, rules=rules)) == len(asked)


def test_of_level_documents_only_the_order_may_differ(tmp_path: Path) -> None:
    """The index adds in single precision, so the order of equal ones is chance there. Codes and odd words count."""
    drawn = random.Random(4)
    words = [*WORDS[:60], *PLAIN, *CODES, *ODD]
    index, version = made(tmp_path, {name: passages(name, drawn, 120, 2, words) for name in "ab"})
    asked = questions(drawn, words, 60)
    mine, theirs = found(index, version, asked), alone(index, version, asked)
    assert same(mine, theirs) >= 0.9 * len(asked)
    shared = [len({*one} & {*other}) / len(other) for one, other in zip(mine, theirs, strict=True) if one and other]
    assert min(shared) >= 0.8


@pytest.mark.parametrize("of", [("summary",), ("text", "summary")])
def test_only_passages_of_the_texts_of_an_embedding_are_found(tmp_path: Path, of: Sequence[str]) -> None:
    drawn = random.Random(7)
    index, version = made(
        tmp_path, {"a": apart(passages("a", drawn, 200, 3, WORDS, several=True))}, vector_b=DIMENSIONS
    )
    asked = questions(drawn, WORDS, 30)
    mine = found(index, version, asked, column="vector_b", of=of)
    assert same(mine, alone(index, version, asked, column="vector_b", of=of)) == len(asked)


def test_after_any_edits_it_finds_what_it_finds_in_an_index_made_of_the_same_passages(tmp_path: Path) -> None:
    """LanceDB goes on counting words of removed passages. A question alone has the answer it has with others."""
    drawn = random.Random(9)
    held = {str(number): passages(str(number), drawn, 10, 2, WORDS) for number in range(20)}
    index, version = made(tmp_path / "edited", held)
    asked = questions(drawn, WORDS, 30)
    for step in range(6):
        name = str(drawn.randrange(20))
        held[name] = passages(name, drawn, drawn.randint(1, 12), 3, WORDS)
        version = index.replace({name: held[name]}, base_version=version)
        anew, first = made(tmp_path / str(step), dict(reversed(held.items())))
        wanted = found(anew, first, asked)
        assert found(index, version, asked) == wanted
    assert [found(index, version, [each])[0] for each in asked[:5]] == wanted[:5]


def test_a_word_that_is_left_out_has_a_place_within_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer leaves words of more than 40 letters out: the words around one do not stand together."""
    monkeypatch.setattr(ranked_documents, "FROM_QUESTIONS", 1)
    drawn = random.Random(21)
    table = apart(passages("a", drawn, 60, 1, WORDS))
    codes = ["", "inv 2043", f"inv {'x' * 45} 2043"]
    texts = [f"{text} {codes[place % 3]}" for place, text in enumerate(table["text"].to_pylist())]
    table = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts))
    index, version = made(tmp_path, {"a": table})
    asked = [(np.array(unit(drawn), dtype=np.float32), f"INV-2043 {word}") for word in WORDS[:20]]
    wanted = alone(index, version, asked)
    assert same(found(index, version, asked), wanted) == len(asked)
    computed_too = index.documents_found(version, asked, 10)
    assert list(computed_too.documents) == wanted
    assert computed_too.asked < len(asked)


def test_where_readers_get_other_documents_the_index_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(13)
    index, version = made(tmp_path, {"a": apart(passages("a", drawn, 200, 2, WORDS))})
    asked = questions(drawn, WORDS, 30)
    asked = [(vector, text) for vector, text in asked if text.strip()]
    monkeypatch.setattr(index_reader, "EXACT_BELOW_ROWS", 10)  # a large one has 50,000 passages
    assert index.documents_found(version, asked, 10).asked < len(asked)
    monkeypatch.setattr("ai_assets.storage.index.AS_SERVED", 1.01)  # more than any index can have
    found = index.documents_found(version, asked, 10)
    assert found.asked == len(asked)
    assert list(found.documents) == alone(index, version, asked)


def test_the_share_that_readers_get_is_of_what_they_get() -> None:
    hits = list("abcd")
    assert shared_share(["a", "b", "x"], hits) == 0.5
    assert shared_share(["a"], []) == 1.0
    assert len(sampled(range(1000))) == SAMPLE == len(set(sampled(range(1000))))
    assert list(sampled(range(5))) == [0, 1, 2, 3, 4]


def test_words_are_those_of_the_tokenizer() -> None:
    tokenize = tokenizer()
    assert tokenize is not None
    drawn = random.Random(11)
    letters = "ab Zé9_-'.\tßİΩ日\u0301x" + "y" * 3
    texts = ["".join(drawn.choices(letters, k=drawn.randint(0, 60))) for _ in range(300)]
    texts += ["Running runs, THE of it's", "z" * 45, "x" * 39 + " end", "e-mail INV-2043/77"]
    wanted = sorted({word for text in texts for word, _ in tokenize(text)})
    vocabulary = Vocabulary(wanted, tokenize)
    for text in texts:
        assert vocabulary.of(text) == [vocabulary.number(word) for word, _ in tokenize(text)]
