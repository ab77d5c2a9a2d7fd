"""By what a stage without a route labels its documents: the built-in classifier, or a model that is loaded here."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.documents.by_document import Row
from ai_assets.inference.prices import usd_of
from ai_assets.run.context import Work
from ai_assets.run.datasets import builtin_classifier
from ai_assets.stages.classify.base import Classification
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import Json, digest


class Labelling(Protocol):
    model: str
    """As rows name it."""
    models: frozenset[str]
    """By whom a row may have been made that stays as it is."""

    def classify(self, rows: Sequence[Row]) -> Sequence[Classification]: ...

    def stats(self, inputs: Mapping[str, str]) -> dict[str, Json]:
        """For the manifest."""

    @property
    def cost_usd(self) -> float: ...


class BuiltinLabelling:
    cost_usd = 0.0

    def __init__(self, work: Work, stage: ClassifyStage, partition: str) -> None:
        self._work, self._stage = work, stage
        self._classifier = builtin_classifier.classifier_of(work, stage, partition)
        self.model = builtin_classifier.model_of(self._classifier)
        self.models = builtin_classifier.current_models(work, self._classifier)

    def classify(self, rows: Sequence[Row]) -> Sequence[Classification]:
        return self._classifier.classify([(row["title"] or "", row["text"]) for row in rows])

    def stats(self, inputs: Mapping[str, str]) -> dict[str, Json]:
        return builtin_classifier.calibration_stats(self._work, self._stage, inputs)


class DeviceLabelling:
    def __init__(self, work: Work, stage: ClassifyStage, partition: str) -> None:
        from ai_assets.local_models.devices import place
        from ai_assets.local_models.errors import ModelUnusable
        from ai_assets.local_models.spec import AUTO
        from ai_assets.stages.classify.local import DeviceClassifier, local_classifier

        declared = work.collection.local_classifiers[stage.name]
        if local_classifier(stage, work.collection.folder / DEFS_FILE) != declared:
            raise ModelUnusable(
                declared.spec.model, "its files were changed after the definitions were loaded; run again"
            )
        self.model, self.models = declared.model, frozenset([declared.model])
        self._classifier = DeviceClassifier(
            declared=declared,
            models=work.local_models,
            placement=place(stage.device or AUTO, work.inference),
            caller=work.caller(stage.name, partition),
            state=work.stores.state,
            most_characters=stage.max_input_characters,
            hours=stage.hours,
            priority=stage.priority,
            say=work.say_waiting,
            waiting=work.waiting,
        )

    def classify(self, rows: Sequence[Row]) -> Sequence[Classification]:
        return self._classifier.classify([(row["document_id"], row["text"]) for row in rows])

    def stats(self, inputs: Mapping[str, str]) -> dict[str, Json]:
        used = self._classifier
        return {
            "device": used.placement.device,
            "device_s": round(used.device_s, 3),
            "device_usd": self.cost_usd,
        }

    @property
    def cost_usd(self) -> float:
        return usd_of(self._classifier.cost_nusd)


def labelling_of(work: Work, stage: ClassifyStage, partition: str) -> Labelling:
    return (DeviceLabelling if stage.is_local else BuiltinLabelling)(work, stage, partition)


def input_digest(stage: ClassifyStage, title: str | None, text: str) -> str:
    """Of all that is read: the digest of the text, and of the built-in classifier the title, which can change while the
    text stays."""
    return digest([title if stage.is_builtin else None, text])
