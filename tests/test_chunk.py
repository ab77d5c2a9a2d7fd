"""Chunks: where they begin and end, and which ids survive an edit."""

import random
from itertools import pairwise

import pytest
from growth import growth
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_assets.documents.chunk import chunk_document

WORDS = ("meter", "pump", "valve", "ledger", "river", "stone", "paper", "cloud", "field", "orchard", "signal", "copper")


def paragraph(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize() + "."


def article(seed: int, sections: int) -> list[str]:
    rng = random.Random(seed)
    bodies = ["\n\n".join(paragraph(rng, rng.randint(30, 80)) for _ in range(3)) for _ in range(sections)]
    return [f"## Section {i}\n\n{body}" for i, body in enumerate(bodies)]


def ids(text: str) -> list[str]:
    return [chunk.chunk_id for chunk in chunk_document("doc", text, max_characters=400, overlap=0)]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("# \n`~-*|>"), max_size=400),
    max_characters=st.integers(1, 120),
    share=st.floats(0, 0.9),
)
def test_a_chunk_is_a_slice_of_its_document_and_fits(text, max_characters, share):
    chunks = chunk_document("d", text, max_characters=max_characters, overlap=int(share * max_characters))
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(chunk.text) <= max_characters
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


@settings(max_examples=100, deadline=None)
@given(text=st.text("ab #\n", max_size=300), max_characters=st.integers(5, 60))
def test_no_word_is_lost(text, max_characters):
    covered = set()
    for chunk in chunk_document("d", text, max_characters=max_characters, overlap=0):
        covered |= set(range(chunk.start, chunk.end))
    assert [i for i, character in enumerate(text) if not character.isspace() and i not in covered] == []


def test_editing_one_section_keeps_the_ids_of_all_the_others():
    parts = article(1, 20)
    before = ids("\n\n".join(parts))
    parts[9] = parts[9].replace("meter", "a longer word here", 1)
    after = ids("\n\n".join(parts))
    assert len(set(before) - set(after)) <= 4
    assert before[:9] == after[:9]
    assert before[-30:] == after[-30:]


def test_editing_one_paragraph_of_a_text_without_headings_keeps_most_ids():
    rng = random.Random(2)
    paragraphs = [paragraph(rng, rng.randint(10, 60)) for _ in range(60)]
    before = ids("\n\n".join(paragraphs))
    paragraphs[20] = paragraphs[20] + " Added words."
    after = ids("\n\n".join(paragraphs))
    assert len(set(before) & set(after)) >= 0.8 * len(before)


def test_equal_passages_have_their_own_ids_and_one_digest():
    text = "\n\n".join(["# Same\n\n" + "word " * 60] * 3)
    chunks = chunk_document("d", text, max_characters=400, overlap=0)
    assert len({chunk.text_digest for chunk in chunks}) < len(chunks)
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


def test_ids_differ_between_documents():
    one, two = (chunk_document(name, "same text", max_characters=100, overlap=0)[0] for name in "ab")
    assert one.chunk_id != two.chunk_id
    assert one.text_digest == two.text_digest


def test_a_heading_inside_a_code_fence_opens_no_section():
    code = "```\n" + "x = 1\n" * 40 + "# comment\n" + "y = 2\n" * 40 + "```"
    with_comment = chunk_document("d", code, max_characters=400, overlap=0)
    without = chunk_document("d", code.replace("# comment", "z comment"), max_characters=400, overlap=0)
    assert [(c.start, c.end) for c in with_comment] == [(c.start, c.end) for c in without]


def test_overlap_repeats_the_end_of_the_last_chunk():
    chunks = chunk_document("d", paragraph(random.Random(3), 400), max_characters=300, overlap=80)
    assert all(after.start < before.end for before, after in pairwise(chunks))


@pytest.mark.parametrize("text", ["", "  \n\n\t "], ids=["empty", "blank"])
def test_a_text_without_words_has_no_chunks(text):
    assert chunk_document("d", text, max_characters=100, overlap=10) == []


@pytest.mark.parametrize(("max_characters", "overlap"), [(0, 0), (100, 100), (100, -1)])
def test_impossible_settings_are_refused(max_characters, overlap):
    with pytest.raises(ValueError, match="max_characters > overlap"):
        chunk_document("d", "text", max_characters=max_characters, overlap=overlap)


def test_a_line_of_three_megabytes_is_cut_as_fast_as_a_shorter_one():
    def cut(words: int) -> None:
        chunks = chunk_document("d", "lorem ipsum " * words, max_characters=1200, overlap=100)
        assert len(chunks) > words // 100

    assert growth(cut, 31_250, 250_000) < 24, "the time of a chunk grows with the length of the text"


BIG = "word " * 60


def test_a_chunk_says_under_which_headings_it_stands():
    text = f"intro {BIG}\n\n# Part one\n\n{BIG}\n\n## Scope\n\n{BIG}\n\n# Part two\n\n```\n# no heading\n```\n\n{BIG}"
    found = [
        (chunk.text.split()[0], chunk.headings)
        for chunk in chunk_document("d", text, max_characters=400, overlap=0)
        if chunk.text.startswith(("intro", "#"))
    ]
    assert found == [("intro", None), ("#", "Part one"), ("##", "Part one > Scope"), ("#", "Part two")]


@pytest.mark.parametrize("small", ["first", "middle", "last"])
def test_chunks_do_not_cross_headings_though_a_section_is_small(small: str):
    sections = {"first": BIG, "middle": BIG, "last": BIG, small: "tiny"}
    text = "\n\n".join(f"## {name}\n\n{body}" for name, body in sections.items())
    crossing = [
        chunk.text for chunk in chunk_document("d", text, max_characters=400, overlap=0) if chunk.text.count("## ") > 1
    ]
    assert len(crossing) <= 1
    assert all("tiny" in passage for passage in crossing)


@pytest.mark.parametrize(
    ("passage", "kind"),
    [
        ("| a | b |\n| --- | --- |\n| 1 | 2 |", "table"),
        ("## Prices\n\n| a | b |\n| --- | --- |\n| 1 | 2 |", "table"),
        ("- one\n- two\n  more of two", "list"),
        ("1. one\n2. two", "list"),
        ("```\nx = 1\n```", "code"),
        ("Prose, and\n- an item", "text"),
        ("# Only a heading", "text"),
    ],
)
def test_a_chunk_says_what_it_is(passage: str, kind: str):
    assert [chunk.kind for chunk in chunk_document("d", passage, max_characters=400, overlap=0)] == [kind]


def test_a_chunk_says_on_which_pages_it_stands():
    text = "\n\n".join(f"page {number} {BIG}" for number in range(1, 4))
    pages = [text.index(f"page {number} ") for number in range(1, 4)]
    chunks = chunk_document("d", text, max_characters=200, overlap=0, pages=pages)
    assert {chunk.page for chunk in chunks} == {1, 2, 3}
    for chunk in chunks:
        assert pages[chunk.page - 1] <= chunk.start
        assert chunk.page == 3 or chunk.start < pages[chunk.page]
        assert chunk.page_end in (chunk.page, chunk.page + 1)
    assert {chunk.page for chunk in chunk_document("d", text, max_characters=200, overlap=0)} == {None}
