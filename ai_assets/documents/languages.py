"""The language of a text, told by py3langid's model: as that library tells it, to the bit, with less work.

The model is 68 MB of numbers, packed so tightly that unpacking them takes half a second. Given a folder, they are
unpacked there once; after that all processes read them where they lie, and hold in memory no more than they touch.
"""

import contextlib
import io
import lzma
import shutil
import threading
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.base.durable import write_whole
from ai_assets.storage.digest import sha256_hex

if TYPE_CHECKING:
    import numpy as np

_SAMPLE = 1_000
"""Characters looked at: 0.1 ms for English, 0.3 ms for Chinese; 2,000 cost twice that and changed no answer."""
_LETTERS = 20
"""Below this py3langid guesses: 'Invoice 2024' is Latin to it."""
_FEW = 20
"""Fewer texts than these are walked through one by one; more take each step together, in half the time."""
_AT_ONCE = 500
_ARRAYS = ("ptc", "pc", "classes", "nextmove", "nextmove_row", "out_feat")

_loading = threading.Lock()
_loaded: "LanguageModel | None" = None


def language_of(text: str) -> str | None:
    """The ISO 639-1 code; None when there are too few letters to tell."""
    return languages_of([text])[0]


def languages_of(texts: Sequence[str], folder: Path | None = None) -> list[str | None]:
    """Of each. `folder`: where the model is, or will be, unpacked."""
    samples = {place: sample for place, text in enumerate(texts) if _is_enough(sample := language_sample(text))}
    found: list[str | None] = [None] * len(texts)
    if samples:
        told = language_model(folder).tell(list(samples.values()))
        for place, language in zip(samples, told, strict=True):
            found[place] = language
    return found


def language_sample(text: str) -> str:
    """The part of a text by which its language is detected."""
    return text[:_SAMPLE]


def _is_enough(sample: str) -> bool:
    # Of most texts the beginning is enough to tell.
    return _letters(sample[: 4 * _LETTERS]) >= _LETTERS or _letters(sample) >= _LETTERS


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def language_model(folder: Path | None = None) -> "LanguageModel":
    """One per process, from wherever it was first asked for."""
    global _loaded
    with _loading:
        if _loaded is None:
            _loaded = LanguageModel(_unpacked(folder))
        return _loaded


class LanguageModel:
    """A text is walked through byte by byte, from state to state; some states are features that the text has. How
    often it has each of them is summed up for every language."""

    def __init__(self, arrays: "Mapping[str, np.ndarray]") -> None:
        import numpy as np
        from py3langid.langid import LanguageIdentifier

        self.identifier = LanguageIdentifier(
            _Weights(arrays["ptc"]), np.asarray(arrays["pc"]), arrays["classes"].tolist(),
            arrays["nextmove"].data, arrays["out_feat"].tolist(), tk_row=arrays["nextmove_row"].tolist(),
        )  # fmt: skip
        self._next = np.asarray(arrays["nextmove"])
        self._rows = arrays["nextmove_row"].astype(np.intp) << 8
        self._features = np.asarray(arrays["out_feat"])

    def tell(self, samples: Sequence[str]) -> list[str]:
        if len(samples) < _FEW:
            return [self.identifier.classify(sample)[0] for sample in samples]
        found = []
        for at in range(0, len(samples), _AT_ONCE):
            walked = self._walked([self.identifier._encode(sample) for sample in samples[at : at + _AT_ONCE]])
            found += [self._likeliest(features) for features in walked]
        return found

    def _walked(self, texts: Sequence[bytes]) -> list[Counter[int]]:
        """The features of each text, in the order in which they first come: so they are summed up in that order."""
        import numpy as np

        longest_first = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        lengths = np.array([len(texts[place]) for place in longest_first])
        letters = np.zeros((len(texts), lengths[0]), np.uint8)
        for row, place in zip(letters, longest_first, strict=True):
            row[: len(texts[place])] = np.frombuffer(texts[place], np.uint8)
        letters = np.ascontiguousarray(letters.T)
        states = np.zeros(letters.shape, self._next.dtype)
        state = np.zeros(len(texts), self._next.dtype)
        for step, count in enumerate(np.searchsorted(-lengths, -np.arange(lengths[0])).tolist()):
            moves = self._rows.take(state[:count], mode="clip")  # all are within; it saves looking
            moves += letters[step, :count]
            state = states[step, :count]
            self._next.take(moves, out=state, mode="clip")
        rows = np.ascontiguousarray(self._features.take(states, mode="clip").T)
        found = [Counter[int]()] * len(texts)
        for row, length, place in zip(rows, lengths, longest_first, strict=True):
            seen = row[:length]
            found[place] = Counter(seen[seen >= 0].tolist())
        return found

    def _likeliest(self, features: Counter[int]) -> str:
        """As `LanguageIdentifier._decide` has it, which walks too."""
        import numpy as np
        from py3langid.langid import RAW_FLOOR

        known = self.identifier
        if features:
            scores = known._sparse_score(features, known.nb_ptc)
        else:
            scores = np.full(len(known.nb_classes), RAW_FLOOR, np.float32)
        for first, second in known._alias_pairs:
            scores[first], scores[second] = max(scores[first], scores[second]), RAW_FLOOR
        return str(known.nb_classes[int(scores.argmax())])


class _Weights:
    """The model's numbers of each feature, widened to what is computed with when a text first has the feature.

    They are stored in 16 bits, and numpy would widen them again for each text, which takes as long as all other
    arithmetic. The sums are the same to the bit.
    """

    def __init__(self, stored: "np.ndarray") -> None:
        import numpy as np

        self._stored = stored
        self._wide = np.empty(stored.shape, np.float32)  # takes memory where it is written, and not before
        self._is_wide = np.zeros(len(stored), np.bool_)

    def __getitem__(self, features: "np.ndarray") -> "np.ndarray":
        there = self._is_wide[features]
        if not there.all():
            missing = features[~there]
            self._wide[missing] = self._stored[missing]
            self._is_wide[missing] = True
        found: np.ndarray = self._wide[features]
        return found


def _unpacked(folder: Path | None) -> "dict[str, np.ndarray]":
    """The arrays of the model; in the folder each model that there was has its own, by its content."""
    import numpy as np
    from py3langid.langid import MODEL_DIR, MODEL_FILE

    packed = (MODEL_DIR / MODEL_FILE).read_bytes()
    if folder is not None:
        with contextlib.suppress(OSError):  # a disk that is full or cannot be written: it is read from memory as well
            return _lying_in(folder / sha256_hex(packed)[:16], packed)
    return {name: np.load(io.BytesIO(content)) for name, content in _files_in(packed).items()}


def _lying_in(own: Path, packed: bytes) -> "dict[str, np.ndarray]":
    with contextlib.suppress(FileNotFoundError):  # of the first that asks
        return _opened(own)
    own.mkdir(parents=True, exist_ok=True)
    for name, content in _files_in(packed).items():
        write_whole(own / f"{name}.npy", content)
    for earlier in set(own.parent.iterdir()) - {own}:
        shutil.rmtree(earlier, ignore_errors=True)
    return _opened(own)


def _files_in(packed: bytes) -> dict[str, bytes]:
    """Each array as a file of numpy."""
    with zipfile.ZipFile(io.BytesIO(lzma.decompress(packed))) as archive:
        return {name: archive.read(f"{name}.npy") for name in _ARRAYS}


def _opened(own: Path) -> "dict[str, np.ndarray]":
    import numpy as np

    return {name: np.load(own / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
