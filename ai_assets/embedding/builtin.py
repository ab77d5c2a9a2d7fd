"""The built-in embedding backend: WordLlama's packaged static vectors, offline, free and deterministic.

An embedding is the normalised mean of a text's token vectors, equal to `WordLlamaInference.embed(norm=True)`. What is
different is the work: words are tokenized once per process instead of once per text, nothing is padded, and memory is
bounded by a block of tokens however long the text is.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from ai_assets.embedding.embed import Embedder
from ai_assets.storage.index import BUILTIN_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from tokenizers import Tokenizer

ALGORITHM_VERSION = "1"

# Every token of this vocabulary lies within one piece, and every piece within one word (test_embedder.py holds them to
# that), so no BPE merge crosses their borders and tokenizing the pieces gives the tokens of the whole.
_WORD = re.compile(r" *[^ \n\t]++|[\n\t]| ++")
_PIECE = re.compile(r" *(?:(?:[^\W\d_²]++|[^\w \n\t]++)(?![_²])|[^ \n\t\d]++)|[\d\n\t]| ++")
_BORDER = re.compile(r"(?<=[^ ])(?=[ \n\t])")
_SPECIAL = re.compile(r"(<unk>|<s>|</s>)")
_SPECIAL_IDS = {"<unk>": 0, "<s>": 1, "</s>": 2}
_SPACE_MARK = "▁"

_WINDOW_CHARACTERS = 1 << 15
_BLOCK_TOKENS = 1 << 12
_KNOWN_CHARACTERS = 40
_KNOWN_WORDS = 250_000


class _Vocabulary:
    """Token vectors, the tokenizer and the words already tokenized. One per process; safe to share between threads."""

    def __init__(self, vectors: np.ndarray, tokenizer: Tokenizer) -> None:
        self.vectors = vectors
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def token_ids(self, window: str) -> list[int]:
        words = _WORD.findall(window)
        known = self._known
        try:
            return list(chain.from_iterable([known[word] for word in words]))
        except KeyError:
            return list(chain.from_iterable([known.get(word) or self._word_ids(word) for word in words]))

    def forget(self) -> None:
        """Start again without words already tokenized: for measurements."""
        self._known.clear()

    def _word_ids(self, word: str) -> list[int]:
        known = self._known
        pieces = _PIECE.findall(word)
        return self._keep(word, [id_ for piece in pieces for id_ in known.get(piece) or self._tokenize(piece)])

    def _tokenize(self, piece: str) -> list[int]:
        # One call per new piece: a batch call would start the library's thread pool, which does not survive a fork.
        printable = piece.encode("utf-8", "replace").decode("utf-8")
        return self._keep(piece, self._tokenizer.encode(printable, add_special_tokens=False).ids)

    def _keep(self, text: str, ids: list[int]) -> list[int]:
        if len(text) <= _KNOWN_CHARACTERS and len(self._known) < _KNOWN_WORDS:
            self._known[text] = ids
        return ids

    @functools.cached_property
    def joined_pairs(self) -> frozenset[str]:
        """Every pair of neighbouring characters in some token: a text may be cut between any other two."""
        return frozenset(a + b for token in self._tokenizer.get_vocab() for a, b in pairwise(token))


_loading = threading.Lock()


@functools.cache
def _load() -> _Vocabulary:
    import importlib.util
    from pathlib import Path

    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer, normalizers

    # The files are taken from the package without importing it: its import configures the root logger, and its own
    # loader looks for them in a download cache.
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ImportError("the built-in embedder needs the packaged vectors of wordllama: pip install wordllama")
    root = Path(spec.origin).parent
    vectors = next(iter(load_file(root / "weights" / "l2_supercat_256.safetensors").values()))
    tokenizer = Tokenizer.from_file(str(root / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE_MARK)
    return _Vocabulary(np.ascontiguousarray(vectors, dtype=np.float32), tokenizer)


def _vocabulary() -> _Vocabulary:
    with _loading:
        return _load()


class BuiltinEmbedder(Embedder):
    """Static 256-dimensional English text vectors. A vector depends on its text alone, never on the batch around it."""

    name = "builtin/wordllama-256"
    dimensions = BUILTIN_DIMENSIONS
    version: str

    def __init__(self) -> None:
        self.version = _version(self.name, ALGORITHM_VERSION)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One float32 row of length one per text, in order; a text without tokens has the zero vector."""
        import numpy as np

        vocabulary = _vocabulary()
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            total = _sum_of_tokens(text, vocabulary)
            length = float(np.sqrt(np.add.reduce(np.square(total, dtype=np.float64))))
            if length > 0:
                np.divide(total, length, out=row, casting="same_kind")
        return rows

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed(texts)

    def sums(self, texts: Sequence[str]) -> np.ndarray:
        """As `embed`, but not of length one: a text of telling words is longer than one of words that say little."""
        import numpy as np

        vocabulary = _vocabulary()
        rows = np.zeros((len(texts), self.dimensions))
        for row, text in zip(rows, texts, strict=True):
            row[:] = _sum_of_tokens(text, vocabulary)
        return rows


@functools.cache
def _version(name: str, algorithm: str) -> str:
    """Changes when the packaged vectors or this algorithm change."""
    from importlib.metadata import version

    key = f"{name} wordllama={version('wordllama')} algorithm={algorithm}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _sum_of_tokens(text: str, vocabulary: _Vocabulary) -> np.ndarray:
    import numpy as np

    if len(text) <= _WINDOW_CHARACTERS and "<" not in text and _SPACE_MARK not in text:
        ids = vocabulary.token_ids(" " + text) if text else []
        if len(ids) <= _BLOCK_TOKENS:
            return np.add.reduce(vocabulary.vectors.take(ids, axis=0), axis=0) if ids else np.zeros(1, np.float32)
    total = np.zeros(vocabulary.vectors.shape[1], dtype=np.float64)
    for ids in _id_windows(text, vocabulary):
        for at in range(0, len(ids), _BLOCK_TOKENS):
            total += np.add.reduce(vocabulary.vectors.take(ids[at : at + _BLOCK_TOKENS], axis=0), axis=0)
    return total


def _id_windows(text: str, vocabulary: _Vocabulary) -> Iterator[list[int]]:
    """Token ids of a long or unusual text. The full tokenizer sees special tokens before it marks spaces; so do we."""
    for part in _SPECIAL.split(text):
        if part in _SPECIAL_IDS:
            yield [_SPECIAL_IDS[part]]
        elif part:
            for window in _windows(" " + part.replace(_SPACE_MARK, " "), vocabulary):
                yield vocabulary.token_ids(window)


def _windows(text: str, vocabulary: _Vocabulary) -> Iterator[str]:
    """Cut at a word border; where there is none, between two characters that no token joins; else anywhere."""
    start = 0
    while len(text) - start > 2 * _WINDOW_CHARACTERS:
        low, high = start + _WINDOW_CHARACTERS, start + 2 * _WINDOW_CHARACTERS
        border = _BORDER.search(text, low, high)
        if border is not None:
            cut = border.start()
        else:
            marked = text[low - 1 : high].replace(" ", _SPACE_MARK)
            pairs = vocabulary.joined_pairs
            cut = next((low + i for i in range(len(marked) - 1) if marked[i : i + 2] not in pairs), high)
        yield text[start:cut]
        start = cut
    yield text[start:]
