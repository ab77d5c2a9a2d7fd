"""The built-in embedder against the library it replaces, and what the embedding stage asks of it."""

import hashlib
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_assets.embedding import builtin
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.embedding.text_vectors import TextVectors
from ai_assets.storage.spool import Spool, digests_of

ROOT = Path(__file__).resolve().parents[1]
EMBEDDER = BuiltinEmbedder()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("ab_²▁ <s>/\n\t.,(1é", max_size=40)


@pytest.fixture(scope="module")
def library():
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    root = Path(importlib.util.find_spec("wordllama").origin).parent
    vectors = next(iter(load_file(root / "weights" / "l2_supercat_256.safetensors").values()))
    tokenizer = Tokenizer.from_file(str(root / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    return WordLlamaInference(embedding=vectors, tokenizer=tokenizer)


def test_every_token_of_the_vocabulary_lies_within_one_piece_and_one_word():
    vocabulary = builtin._load()._tokenizer.get_vocab()
    texts = [token.replace("▁", " ") for token in vocabulary if not token.startswith("<0x")]
    for pattern in (builtin._PIECE, builtin._WORD):
        assert [text for text in texts if pattern.findall(text) != [text] and text not in builtin._SPECIAL_IDS] == []


@settings(max_examples=300, deadline=None)
@given(text=TEXT.filter(bool))
def test_a_vector_equals_the_librarys(library, text):
    theirs = library.embed([text], norm=True)[0]
    assert np.abs(EMBEDDER.embed([text])[0] - theirs).max() < 1e-5


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(TEXT, max_size=12))
def test_a_vector_depends_on_its_text_alone(texts):
    together = EMBEDDER.embed(texts)
    assert together.shape == (len(texts), 256)
    for row, text in zip(together, texts, strict=True):
        assert row.tobytes() == EMBEDDER.embed([text])[0].tobytes()


@pytest.mark.parametrize(
    "text",
    ["word " * 9_000, "<s>old</s> new <unk>", "a▁b ▁ c", "漢" * 3_000, "INV-2043/77 x²_y(z)", "Zażółć gęślą jaźń\r\n"],
    ids=["long", "special tokens", "space marks", "no spaces", "glued", "accents"],
)
def test_an_unusual_text_equals_the_librarys(library, text):
    assert np.abs(EMBEDDER.embed([text])[0] - library.embed([text], norm=True)[0]).max() < 1e-5


def test_vectors_have_length_one_and_an_empty_text_has_the_zero_vector():
    rows = EMBEDDER.embed(["", "a word", "\ud800"])
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([0, 1, 1], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["The quick brown fox. ", "aGVsbG8X", "漢字"], ids=["words", "no spaces", "no words"])
def test_a_text_of_five_megabytes_takes_bounded_memory(unit):
    tracked = f"""
import resource, sys
from ai_assets.embedding.builtin import BuiltinEmbedder
embedder = BuiltinEmbedder()
embedder.embed([{unit!r} * 1000])
text = {unit!r} * (5_000_000 // len({unit!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
embedder.embed([text])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", tracked], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 100, "megabytes above the text itself"


def test_threads_share_one_load_and_agree():
    texts = [f"thread text {i} with number {i * 7}" for i in range(200)]
    expected = EMBEDDER.embed(texts).tobytes()
    builtin._load().forget()
    results: list[bytes] = []

    def embed() -> None:
        results.append(BuiltinEmbedder().embed(texts).tobytes())

    threads = [threading.Thread(target=embed) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 6


def test_importing_the_backend_loads_nothing_heavy():
    code = "import sys, ai_assets.embedding.builtin; print({'numpy', 'tokenizers', 'wordllama'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_a_text_has_one_vector_whatever_holds_it_and_known_ones_are_taken_over(tmp_path):
    texts = {hashlib.sha256(text.encode()).hexdigest(): text for text in ("one", "two", "three")}
    joined = digests_of(bytes.fromhex("".join([*texts, next(iter(texts))])))
    with Spool(tmp_path) as spool:
        vectors = TextVectors(spool, joined, EMBEDDER.dimensions)
        assert len(vectors) == 3
        known = EMBEDDER.embed(["two", "elsewhere"])
        elsewhere = digests_of(bytes.fromhex(list(texts)[1]) + hashlib.sha256(b"elsewhere").digest())
        vectors.take_over(elsewhere, known, usd=np.array([0.5, 9.0]))
        asked = [number for number in vectors.numbers(joined) if vectors.ask_for(number)]
        for number, vector in zip(asked, EMBEDDER.embed(["one", "three"]), strict=True):
            vectors.put(number, vector, 0.25)
        rows = vectors.column(vectors.numbers(joined), np.zeros(4, dtype=bool))
        assert np.array_equal(np.stack(rows.to_numpy(zero_copy_only=False)), EMBEDDER.embed([*texts.values(), "one"]))
        assert (sum(vectors.paid_usd), int(vectors.known.sum())) == (1.0, 1)
    assert list(tmp_path.iterdir()) == []
