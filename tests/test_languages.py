"""Claims about telling languages: of many texts at once as of each alone, and from a model that is unpacked once."""

from pathlib import Path

import py3langid
from conftest import Project
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_assets.documents import languages
from ai_assets.documents.languages import LanguageModel, language_model, language_of, languages_of
from ai_assets.run.context import Work

WRITTEN = (
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "The pump in hall 7 leaks, and the total due is 40 euros.",
    "これは日本語のテキストです。ポンプが漏れています。",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "ОВАЈ ТЕКСТ ЈЕ НАПИСАН ВЕЛИКИМ СЛОВИМА",
    "\ud800 a text with half a character, which no encoder likes",
    "\x01\x02\x03",
    "",
)
TEXTS = st.lists(st.sampled_from(WRITTEN) | st.text(max_size=80), min_size=languages._FEW, max_size=40)


@settings(max_examples=15, deadline=None)
@given(TEXTS)
def test_many_texts_at_once_are_told_as_each_alone(texts: list[str]) -> None:
    assert language_model().tell(texts) == [py3langid.classify(text)[0] for text in texts]
    assert languages_of(texts) == [language_of(text) for text in texts]


def test_features_are_summed_up_in_the_order_in_which_they_come() -> None:
    """The sums are of 32 bits: in another order they are others."""
    from py3langid.langid import visit_counts

    model = language_model()
    known = model.identifier
    encoded = [known._encode(text * 9) for text in WRITTEN]
    alone = [visit_counts(known.tk_nextmove, known._rowbase, known.tk_output, text) for text in encoded]
    assert [list(each.items()) for each in model._walked(encoded)] == [list((each or {}).items()) for each in alone]


def test_a_model_that_lies_unpacked_is_the_one_that_is_packed(tmp_path: Path) -> None:
    (tmp_path / "of an earlier version").mkdir()
    first = languages._unpacked(tmp_path)
    (own,) = tmp_path.iterdir()
    modified = {path: path.stat().st_mtime_ns for path in own.iterdir()}
    again, packed = LanguageModel(languages._unpacked(tmp_path)), LanguageModel(languages._unpacked(None))
    assert {path: path.stat().st_mtime_ns for path in own.iterdir()} == modified
    assert again.tell(WRITTEN * 3) == packed.tell(WRITTEN * 3) == LanguageModel(first).tell(WRITTEN * 3)


def test_where_it_cannot_be_unpacked_it_is_read_from_memory(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    assert LanguageModel(languages._unpacked(tmp_path / "a file")).tell([WRITTEN[0]]) == ["de"]


def test_a_run_has_it_unpacked_in_its_home(project: Project) -> None:
    with Work(project.declare(), project.stores(), "r1") as work:
        assert work.texts._folder == project.home.languages
