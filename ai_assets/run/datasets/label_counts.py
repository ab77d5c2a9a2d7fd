"""What a dataset of labels tells of itself, counted row by row."""

from ai_assets.documents.by_document import Row
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import Json


class LabelCounts:
    """How often each label was given, by whom, and how surely."""

    def __init__(self, stage: ClassifyStage) -> None:
        self._labels = {label.name: 0 for label in stage.labels}
        self._corrected = self._sure = 0
        self._confidence = 0.0

    def count(self, row: Row) -> None:
        if row["label"] in self._labels:
            self._labels[row["label"]] += 1
        self._corrected += row["corrected_by"] is not None
        if row["confidence"] is not None:
            self._sure += 1
            self._confidence += row["confidence"]

    @property
    def stats(self) -> dict[str, Json]:
        return {
            "labels": self._labels,
            "corrected": self._corrected,
            "mean_confidence": self._confidence / self._sure if self._sure else None,
        }
