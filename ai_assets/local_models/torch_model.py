"""A model that torch runs: vectors, scores of pairs, or labels. Needs torch, transformers and numpy alone."""

from __future__ import annotations

import gc
import inspect
import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.base.plural import plural
from ai_assets.local_models.batching import (
    BatchLimits,
    OutOfMemory,
    blocks_by_length,
    run_in_batches,
)
from ai_assets.local_models.model_folder import FolderWrong

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Encoding

    from ai_assets.local_models.model_folder import DenseLayer, ModelFolder

BLOCK_TEXTS = 1_024
"""So many texts are cut into tokens at once, while the device computes the block before."""
EQUAL = 0.9999
"""The least cosine at which a vector of half precision counts as the same."""
PROBED_TEXTS = 32
NO_MEMORY = (
    "not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "unable to allocate",
    "could not create a primitive", "could not create a memory",  # what oneDNN says then, on processors
)  # fmt: skip


WHOLE = "fetch all files of the model again"
UNSAFE = (
    "{} holds more than weights, which could run code when it is loaded; fetch model.safetensors of this model, or "
    "save it as that where you trust it"
)


class DeviceMissing(Exception):
    """Why a device cannot be used, as half a sentence."""


@dataclass(frozen=True)
class _Piece:
    """A window of a text: most texts are one."""

    text: int
    ids: Sequence[int]
    types: Sequence[int]


class TorchModel:
    """Loaded weights on a device. Not safe to share between threads."""

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        limits: BatchLimits | None = None,
    ) -> None:
        import torch

        require_device(device)
        self.folder, self.device, self.limits = folder, device, limits or BatchLimits.of(device)
        self._torch = torch
        self._tokenizer = _tokenizer(folder)
        self._pairs_have_types = False
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self.dtype = "float32" if dtype == "auto" else dtype
        self._undecided = dtype == "auto" and device != "cpu"
        """Half precision is tried with the first texts, and kept where it gives the same vectors."""
        self._model, self._dense = self._loaded(self.dtype)
        self.tokens = 0
        """All that it was given, padding left out."""

    def embed(self, texts: Sequence[str], prompt: str = "") -> np.ndarray:
        """One float32 row of length one per text, in order. A text longer than the model reads has the mean of the
        vectors of its parts, by their tokens. The same whatever texts are beside it."""
        import numpy as np

        if self._undecided and texts:
            self._choose_dtype(sorted(texts, key=len)[-PROBED_TEXTS:], prompt)
        sums = self._sums([prompt + text for text in texts])
        if not np.isfinite(sums).all() and self.dtype != "float32":
            self._reload("float32")  # a number too large for half precision: the rest is computed in full
            sums = self._sums([prompt + text for text in texts])
        return _units(sums).astype(np.float32)

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """How well each text answers the query; higher is better. Of a long text only the beginning is read."""
        return self._logits([(query, text) for text in texts])[:, 0]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """A row of probabilities per text, a column per label. A text that is too long is read from its beginning."""
        import numpy as np

        logits = self._logits(list(texts)).astype(np.float64)
        if getattr(self._model.config, "problem_type", None) == "multi_label_classification" or logits.shape[1] == 1:
            found: np.ndarray = 1 / (1 + np.exp(-logits))
        else:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            found = powers / powers.sum(axis=1, keepdims=True)
        return found

    def close(self) -> None:
        """Give the memory of the device back."""
        self._ahead.shutdown(wait=True)
        self._model, self._dense = None, []
        self._release()

    @property
    def held_bytes(self) -> int:
        """Of the device's memory, what torch keeps."""
        return int(self._torch.cuda.memory_reserved(self.device)) if self.device.startswith("cuda") else 0

    # Loading

    def _loaded(self, dtype: str) -> tuple[Any, list[Any]]:
        import transformers

        torch, folder = self._torch, self.folder
        given: dict[str, Any] = {"local_files_only": True, "dtype": getattr(torch, dtype)}
        quiet = transformers.utils.logging
        quiet.set_verbosity_error()
        quiet.disable_progress_bar()
        kind = transformers.AutoModel if folder.task == "embed" else transformers.AutoModelForSequenceClassification
        given |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        try:
            model, read = kind.from_pretrained(str(folder.path), **given)
        except pickle.UnpicklingError as error:
            raise FolderWrong(UNSAFE.format("pytorch_model.bin")) from error
        _require_all(read, folder)
        model = model.to(self.device).eval()
        accepted = inspect.signature(model.forward).parameters
        self._pairs_have_types = (
            "token_type_ids" in accepted and int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
        )
        return model, [self._dense_layer(layer) for layer in folder.dense]

    def _dense_layer(self, layer: DenseLayer) -> Any:
        torch, nn = self._torch, self._torch.nn
        linear = nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
        safe = layer.folder / "model.safetensors"
        if safe.is_file():
            from safetensors.torch import load_file

            state = load_file(str(safe))
        else:
            try:
                state = torch.load(layer.folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                raise FolderWrong(UNSAFE.format(f"{layer.folder.name}/pytorch_model.bin")) from error
        try:
            linear.load_state_dict({name.rpartition(".")[2]: value for name, value in state.items()})
        except RuntimeError as error:
            raise FolderWrong(
                f"the weights in {layer.folder.name} are not those of its config.json; {WHOLE}"
            ) from error
        if not hasattr(nn, layer.activation):
            raise FolderWrong(f"{layer.folder.name}/config.json names '{layer.activation}', which torch does not have")
        return nn.Sequential(linear, getattr(nn, layer.activation)()).to(self.device).eval()

    def _reload(self, dtype: str) -> None:
        self._model, self._dense = None, []
        self._release()
        self.dtype, (self._model, self._dense) = dtype, self._loaded(dtype)

    def _choose_dtype(self, texts: Sequence[str], prompt: str) -> None:
        """Half precision where it was measured to give the same vectors on these texts."""
        import numpy as np

        self._undecided = False
        given = [prompt + text for text in texts]
        whole = _units(self._sums(given))
        for dtype in ("float16", "bfloat16"):
            self._reload(dtype)
            half = self._sums(given)
            if np.isfinite(half).all() and ((_units(half) * whole).sum(axis=1) >= EQUAL).all():
                return
        self._reload("float32")

    # Computing

    def _sums(self, texts: Sequence[str]) -> np.ndarray:
        """The sum of the vectors of a text's parts, each as often as it has tokens."""
        import numpy as np

        rows = np.zeros((len(texts), self.folder.dimensions))

        def add(pieces: Sequence[_Piece], found: np.ndarray) -> None:
            for piece, vector in zip(pieces, found, strict=True):
                rows[piece.text] += len(piece.ids) * vector

        self._each_block(texts, self._embed_batch, add, windows=True)
        return rows

    def _logits(self, given: Sequence[Any]) -> np.ndarray:
        import numpy as np

        rows = np.zeros((len(given), self.folder.dimensions))

        def put(pieces: Sequence[_Piece], found: np.ndarray) -> None:
            for piece, row in zip(pieces, found, strict=True):
                rows[piece.text] = row

        self._each_block(given, self._logits_batch, put, windows=False)
        return rows

    def _each_block(self, given: Sequence[Any], compute: Any, take: Any, *, windows: bool) -> None:
        """While the device computes one block, the next is cut into tokens."""
        sizes = [len(each) if isinstance(each, str) else sum(map(len, each)) for each in given]
        blocks = list(blocks_by_length(sizes, BLOCK_TEXTS))
        coming = self._ahead.submit(self._pieces, given, blocks[0], windows) if blocks else None
        for number in range(len(blocks)):
            assert coming is not None
            pieces = coming.result()
            if number + 1 < len(blocks):
                coming = self._ahead.submit(self._pieces, given, blocks[number + 1], windows)
            if pieces:
                take(pieces, self._block(pieces, compute))

    def _block(self, pieces: Sequence[_Piece], compute: Any) -> np.ndarray:
        """Results stay on the device until all are there: each copy would wait for it."""
        torch = self._torch
        out = torch.zeros(len(pieces), self.folder.dimensions, dtype=torch.float32, device=self.device)

        def batch(places: Sequence[int]) -> None:
            try:
                with torch.inference_mode():
                    out[torch.tensor(places, device=self.device)] = compute([pieces[place] for place in places]).float()
            except (RuntimeError, MemoryError) as error:  # torch has a class of its own for GPUs alone
                if _is_memory(error):
                    raise OutOfMemory from None
                raise

        lengths = [len(piece.ids) for piece in pieces]
        self.limits = run_in_batches(lengths, self.limits, batch, release=self._release)
        self.tokens += sum(lengths)
        found: np.ndarray = out.cpu().numpy()
        return found

    def _pieces(self, given: Sequence[Any], places: Sequence[int], windows: bool) -> list[_Piece]:
        encodings = self._tokenizer.encode_batch([given[place] for place in places])
        return [
            _Piece(place, encoding.ids, encoding.type_ids)
            for place, whole in zip(places, encodings, strict=True)
            for encoding in _windows(whole, windows)
        ]

    def _tensors(self, pieces: Sequence[_Piece]) -> tuple[Any, Any, Any]:
        import numpy as np

        longest = max(len(piece.ids) for piece in pieces)
        width = min(self.limits.padded(longest), max(self.folder.max_tokens, longest))
        ids = np.full((len(pieces), width), self._padding, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, piece in enumerate(pieces):
            size = len(piece.ids)
            ids[row, :size], mask[row, :size], types[row, :size] = piece.ids, 1, piece.types
        return tuple(self._torch.from_numpy(each).to(self.device, non_blocking=True) for each in (ids, mask, types))

    @property
    def _padding(self) -> int:
        return int(getattr(self._model.config, "pad_token_id", None) or 0)

    def _embed_batch(self, pieces: Sequence[_Piece]) -> Any:
        ids, mask, _ = self._tensors(pieces)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = self._pooled(states.float(), mask)
        for layer in self._dense:
            pooled = layer(pooled)
        return self._torch.nn.functional.normalize(pooled, dim=1)

    def _pooled(self, states: Any, mask: Any) -> Any:
        torch, weights = self._torch, mask.unsqueeze(-1).to(states.dtype)
        match self.folder.pooling:
            case "cls":
                return states[:, 0]
            case "last":
                return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
            case "max":
                return states.masked_fill(weights == 0, float("-inf")).max(dim=1).values
            case "weighted_mean":
                weights = weights * torch.arange(1, states.shape[1] + 1, device=states.device).view(1, -1, 1)
            case "mean_sqrt_len":
                return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9).sqrt()
            case _:
                pass
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)

    def _logits_batch(self, pieces: Sequence[_Piece]) -> Any:
        ids, mask, types = self._tensors(pieces)
        more = {"token_type_ids": types} if self._pairs_have_types else {}
        return self._model(input_ids=ids, attention_mask=mask, **more).logits

    def _release(self) -> None:
        gc.collect()
        if self.device.startswith("cuda"):
            self._torch.cuda.empty_cache()


def require_device(device: str) -> None:
    """DeviceMissing where torch does not have it."""
    import torch

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "this build of torch has no CUDA"
            raise DeviceMissing(f"torch {torch.__version__} sees no CUDA device ({built})")
        number, there = int(device.partition(":")[2] or 0), torch.cuda.device_count()
        if number >= there:
            raise DeviceMissing(f"there {'is 1 CUDA device' if there == 1 else f'are {there} CUDA devices'}, from 0 on")
    elif device == "mps" and not torch.backends.mps.is_available():
        raise DeviceMissing("this machine has no Metal device")


def _require_all(read: Mapping[str, Any], folder: ModelFolder) -> None:
    """Weights that its files do not have would be random numbers. The pooler of an embedder is not used; what its files
    have for other tasks is left."""
    used = [name for name in sorted(read["missing_keys"]) if folder.task != "embed" or "pooler" not in name.split(".")]
    found = [f"has no {name}" for name in used]
    found += [f"has {name} in another shape" for name, *_ in sorted(read["mismatched_keys"])]
    if found:
        more = f", and {plural(len(found) - 1, 'other')} so" if len(found) > 1 else ""
        raise FolderWrong(f"its weights are not those of its config.json: the file {found[0]}{more}; {WHOLE}")


def _tokenizer(folder: ModelFolder) -> Any:
    """Of the library `tokenizers`, which cuts many texts at once and cuts long ones into windows."""
    from tokenizers import Tokenizer

    name = "tokenizer.json" if (folder.path / "tokenizer.json").is_file() else "its tokenizer"
    try:
        if name == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(folder.path / name))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(str(folder.path), local_files_only=True).backend_tokenizer
    except Exception as error:  # `tokenizers` has no class of its own
        raise FolderWrong(f"{name} cannot be read ({' '.join(str(error).split())[:100]}); {WHOLE}") from error
    known = [*tokenizer.get_vocab(with_added_tokens=False).values(), *tokenizer.encode("").ids]
    if folder.vocabulary and max(known, default=0) >= folder.vocabulary:
        said = f"{name} has tokens up to {max(known)}, and config.json says vocab_size {folder.vocabulary}"
        raise FolderWrong(f"{said}: the tokenizer is that of another model; {WHOLE}")
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=folder.max_tokens, strategy="longest_first")
    return tokenizer


def _windows(encoding: Encoding, all_of_them: bool) -> Iterator[Encoding]:
    yield encoding
    if all_of_them:
        yield from encoding.overflowing


def _units(sums: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    found: np.ndarray = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return found


def _is_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in NO_MEMORY)
