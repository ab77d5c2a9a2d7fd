"""Claims about the difference of two texts: what it shows is true, readable in any script, and bounded."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.desk import text_difference
from ai_assets.desk.text_difference import MOST_SHOWN, DifferencePiece, TextDifference, word_count
from ai_assets.desk.text_difference import text_difference as compare


def marked(difference: TextDifference) -> str:
    """As one line: [-removed-], {+added+} and ⟨number of folded words⟩."""
    written = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return "".join(
        f"⟨{piece.words}⟩" if piece.kind == "folded" else written[piece.kind].format(piece.text)
        for piece in difference.pieces
    )


def side(pieces: Sequence[DifferencePiece], kind: str) -> str:
    """The text before ("removed") or after ("added"), put together again."""
    return "".join(piece.text for piece in pieces if piece.kind in ("same", "folded", kind))


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    before: str | None
    after: str | None
    shown: str


CASES = (
    Case(id="a word", before="The pump leaks.", after="The pump hums.", shown="The pump [-leaks-]{+hums+}."),
    Case(id="an inserted word", before="The pump leaks.", after="The old pump leaks.", shown="The {+old +}pump leaks."),
    Case(id="equal", before="The pump.", after="The pump.", shown="⟨2⟩"),
    Case(id="all new", before=None, after="New.", shown="{+New.+}"),
    Case(id="all gone", before="Old.", after="", shown="[-Old.-]"),
    Case(id="nothing at all", before=None, after=None, shown=""),
    Case(id="words beside each other", before="one red cat", after="two blue cat", shown="[-one red-]{+two blue+} cat"),
    Case(id="a number", before="It costs 1,200 euro.", after="It costs 1,300 euro.",
         shown="It costs 1,[-200-]{+300+} euro."),
    Case(id="Chinese", before="液压泵在大厅漏水。", after="液压泵在车间漏水。", shown="液压泵在[-大厅-]{+车间+}漏水。"),
    Case(id="Japanese", before="ポンプが漏れている", after="ポンプが止まっている",
         shown="ポンプが[-漏れ-]{+止まっ+}ている"),
    Case(id="Thai, with its vowel signs", before="น้ำดี", after="น้ำดำ", shown="น้ำ[-ดี-]{+ดำ+}"),
    Case(id="Arabic", before="المضخة تسرب في القاعة", after="المضخة تسرب في المصنع",
         shown="المضخة تسرب في [-القاعة-]{+المصنع+}"),
    Case(id="Hebrew with points", before="שָׁלוֹם עוֹלָם", after="שָׁלוֹם אָדָם", shown="שָׁלוֹם [-עוֹלָם-]{+אָדָם+}"),
    Case(id="Hindi is not divided at its vowels", before="पानी गर्म है", after="पानी ठंडा है",
         shown="पानी [-गर्म-]{+ठंडा+} है"),
    Case(id="a joined emoji is one sign", before="by 👩‍🔧 today", after="by 👩‍🚀 today",
         shown="by [-👩‍🔧-]{+👩‍🚀+} today"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_shows_what_was_taken_out_and_put_in(case: Case) -> None:
    found = compare(case.before, case.after)
    assert marked(found) == case.shown
    assert found.equal == ((case.before or "") == (case.after or ""))


TEXTS = st.text(alphabet="ab .\n中ต้ا\u0301\u200d", max_size=60)


@given(before=TEXTS, after=TEXTS)
def test_both_texts_can_be_read_from_it(before: str, after: str) -> None:
    found = compare(before, after)
    assert side(found.pieces, "removed") == before
    assert side(found.pieces, "added") == after
    assert found.equal == (before == after)


def test_what_is_far_from_a_change_is_folded() -> None:
    words = [f"word{number}" for number in range(400)]
    changed = [*words[:200], "other", *words[201:]]
    found = compare(" ".join(words), " ".join(changed))
    assert [piece.kind for piece in found.pieces] == ["folded", "same", "removed", "added", "same", "folded"]
    first, last = found.pieces[0], found.pieces[-1]
    assert first.words + last.words == 400 - 1 - 2 * text_difference.CONTEXT_WORDS
    assert side(found.pieces, "added") == " ".join(changed)
    assert (found.added, found.removed, found.same, found.changes) == (1, 1, 399, 1)


def test_a_fold_too_long_to_be_opened_says_how_much_it_is() -> None:
    words = [f"word{number}" for number in range(5_000)]
    fold = compare(" ".join(words), " ".join([*words, "more"])).pieces[0]
    assert (fold.kind, fold.text, fold.words) == ("folded", "", 5_000 - text_difference.CONTEXT_WORDS)


def pages(number: int) -> list[str]:
    """As of a printed book, with a head and a foot on each."""
    chosen = random.Random(7)
    vocabulary = [f"term{place}" for place in range(4_000)]
    lines = (" ".join(chosen.choices(vocabulary, k=11)) for _ in range(number * 45))
    found = list(lines)
    for page in range(number):
        found[page * 45] = "Manual of the pumping station"
        found[page * 45 + 44] = f"page {page + 1}"
    return found


def test_of_three_hundred_pages_only_the_changes_are_shown() -> None:
    before = pages(300)
    after = [*before]
    for page in range(0, 300, 10):
        after[page * 45 + 7] = after[page * 45 + 7].replace("term", "thing", 1)
    del after[4_000:4_045]
    found = compare("\n".join(before), "\n".join(after))
    assert found.changes == 31
    assert found.left_out == found.not_compared == 0
    assert found.removed == 30 + sum(word_count(line) for line in before[4_000:4_045])
    assert sum(len(piece.text) for piece in found.pieces) < 40_000


HARD = {
    "nothing in common": (" ".join(f"a{n}" for n in range(60_000)), " ".join(f"b{n}" for n in range(60_000))),
    "the same two words over and over": ("a b " * 60_000, "b a " * 60_001),
    "many repeated lines": ("a b a b c\n" * 20_000, "b a b c a\n" * 20_000),
    "one word without an end": ("x" * 2_500_000, "y" * 2_500_000),
    "Chinese without a line": ("中文" * 200_000, "文本" * 200_000),
    "repeats that need comparing": (
        "\n".join(f"line {n} " + "a b " * 55 for n in range(900)),
        "\n".join(f"line {n} " + "b a " * 55 for n in range(900)),
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_texts_that_are_hard_to_compare_end_and_are_not_too_much_to_show(name: str) -> None:
    found = compare(*HARD[name])
    assert not found.equal
    assert sum(len(piece.text) for piece in found.pieces) <= MOST_SHOWN
    shown = sum(1 for piece in found.pieces if piece.kind in ("added", "removed"))
    assert shown, "at least one change is there to be seen"


def test_it_says_how_many_changes_it_leaves_out_and_how_much_it_did_not_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_difference, "MOST_SHOWN", 100)
    monkeypatch.setattr(text_difference, "MOST_COMPARED", 4_000)
    before = " ".join([*(f"word{n}" for n in range(2_000)), "was"])
    after = " ".join([*(f"word{n}" if n % 50 else "other" for n in range(2_000)), "is"])
    found = compare(before, after)
    assert sum(len(piece.text) for piece in found.pieces) <= 100
    assert found.left_out > 0
    assert found.not_compared == len(before) + len(after) - 2 * 4_000
