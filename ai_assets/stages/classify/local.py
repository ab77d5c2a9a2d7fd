"""A sequence classifier that a stage has loaded here: which column of its output is which label, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.base.plural import plural
from ai_assets.base.windows import ALWAYS, WeeklyHours
from ai_assets.embedding.local import folder_of
from ai_assets.embedding.on_device import device_use, encodable, write_down
from ai_assets.local_models.errors import ModelFailed, ModelUnusable
from ai_assets.local_models.file_digests import digest_of
from ai_assets.local_models.spec import ClassifyTexts, ModelSpec
from ai_assets.stages.classify.base import Classification
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.state import now

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.inference.records import Caller, Priority
    from ai_assets.local_models.devices import Placement
    from ai_assets.local_models.host import LocalModels
    from ai_assets.stages.classify.kind import ClassifyStage
    from ai_assets.storage.state import StateStore

ALGORITHM = "1"
"""Of how a label is made of what a model gives; another one makes all of them again."""
MOST_NAMED = 8
"""Labels in an error."""


@dataclass(frozen=True, kw_only=True)
class LocalClassifier:
    """As a stage declares it, read from the model's files."""

    spec: ModelSpec
    version: str
    names: tuple[str, ...]
    """The stage's labels, in the order of the model's."""

    @property
    def model(self) -> str:
        """As rows name it."""
        return f"torch/{self.spec.model} {self.version}"

    @property
    def described(self) -> Json:
        """What decides its labels, beside the declaration."""
        return [self.version, list(self.names)]


def local_classifier(stage: ClassifyStage, near: Path | None) -> LocalClassifier:
    """Raises ModelUnusable where the folder has none, or one of other labels."""
    assert stage.llm is not None
    folder = folder_of(stage.llm, near, "classify")
    declared = {label.said_as: label.name for label in stage.labels}
    if problem := _differ(list(declared), folder.labels):
        raise ModelUnusable(stage.llm, problem)
    return LocalClassifier(
        spec=ModelSpec(backend="torch", model=folder.name, folder=folder.path, task="classify"),
        version=digest([ALGORITHM, "classify", digest_of(folder), folder.max_tokens])[:16],
        names=tuple(declared[label] for label in folder.labels),
    )


def _differ(declared: Sequence[str], given: Sequence[str]) -> str | None:
    """A label that the model never gives, or one that it gives and nobody declared: its documents would get another."""
    unknown = [label for label in declared if label not in given]
    missing = [label for label in given if label not in declared]
    said = [f"does not know {_listed(unknown)}"] if unknown else []
    if missing:
        said.append(f"gives {_listed(missing)}, which {'is' if len(missing) == 1 else 'are'} not declared")
    return (
        f"its labels are not those of the stage: it {' and '.join(said)}; declare a label for each of the model's, "
        "with 'output' where it is called otherwise there"
        if said
        else None
    )


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:MOST_NAMED])
    return shown if len(labels) <= MOST_NAMED else f"{shown} and {len(labels) - MOST_NAMED} more"


@dataclass(kw_only=True)
class DeviceClassifier:
    """Gives labels on a device for one stage of one partition, and writes down what that took."""

    declared: LocalClassifier
    models: LocalModels
    placement: Placement
    caller: Caller
    state: StateStore
    most_characters: int
    """Of a text that the model is given."""
    hours: WeeklyHours = ALWAYS
    priority: Priority | None = None
    """Without one `normal`, and `batch` in a backfill."""
    say: Callable[[str], None] = lambda _line: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    cost_nusd: int = 0
    device_s: float = 0.0

    def classify(self, documents: Sequence[tuple[str, str]]) -> list[Classification]:
        """Of each document its name and text. Raises DeviceClosed where the window of the device is."""
        if not documents:
            return []
        texts = tuple(encodable(text[: self.most_characters]) for _, text in documents)
        began_at = now()
        computed = self.models.ask(
            self.declared.spec,
            self.placement,
            ClassifyTexts(texts=texts),
            priority=self.priority or ("batch" if self.caller.backfill else "normal"),
            hours=self.hours,
            say=self.say,
            waiting=self.waiting,
        )
        found = self._probabilities(computed.rows, len(texts))
        use = device_use(self.placement, self.declared.spec.model, "classify", computed, began_at)
        sizes = ((name, len(text)) for (name, _), text in zip(documents, texts, strict=True))
        if write_down(self.state, self.caller, use, sizes):
            self.cost_nusd += use.cost_nusd
            self.device_s += computed.wall_s
        return [self._label(row) for row in found]

    def _probabilities(self, rows: object, count: int) -> np.ndarray:
        import numpy as np

        found = np.asarray(rows, dtype=np.float64)
        if found.shape != (count, len(self.declared.names)) or not np.isfinite(found).all():
            each = plural(len(self.declared.names), "probability", "probabilities")
            said = f"for {plural(count, 'text')} it did not give {each} each, or some that are not finite"
            raise ModelFailed(self.declared.spec.model, self.placement.device, said)
        return found

    def _label(self, row: np.ndarray) -> Classification:
        import numpy as np

        best, second = (int(place) for place in np.argsort(-row, kind="stable")[:2])
        return Classification(
            label=self.declared.names[best],
            confidence=float(row[best]),
            runner_up=self.declared.names[second],
            runner_up_confidence=float(row[second]),
            evidence=None,
            evidence_start=None,
        )
