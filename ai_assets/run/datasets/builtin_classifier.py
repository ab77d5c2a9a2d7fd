"""The built-in classifier of a stage: which version a collection has, what it learns from, what its confidence is
fitted to. Made once per run and stage."""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from ai_assets.collection.builtins import newer, newest, since
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.run.context import Work
from ai_assets.run.datasets import golden_documents
from ai_assets.run.datasets.few_shot import FewShotExample, lessons
from ai_assets.stages.classify import first_version
from ai_assets.stages.classify.adaptation import Adaptation
from ai_assets.stages.classify.base import Label
from ai_assets.stages.classify.builtin import BuiltinClassifier
from ai_assets.stages.classify.confidence import Sureness
from ai_assets.stages.classify.first_version import FirstClassifier
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.classify.learning import LEAST_GOLDEN
from ai_assets.storage.digest import digest

PART = "classifier"
CALIBRATION = "calibration"
"""Among the inputs of a dataset: the golden documents that the confidence is fitted to. Among its statistics: of what
and to which temperature, so that the next run need not read them again."""
FIRST_LESSON_CHARACTERS = 300
LESSON_CHARACTERS = 2_000


def version_of(work: Work) -> str:
    """The newest; in a collection that an earlier one labelled, that one until `migrate` declares a newer."""
    query = sa.text("SELECT version FROM builtin_versions WHERE collection = :c AND part = :p")
    with work.stores.state.read() as connection:
        held = connection.execute(query, {"c": work.collection.name, "p": PART}).scalar_one_or_none()
    if held is None:
        return newest(PART)
    return newer(PART, str(held), work.collection.settings.builtins.classifier)


def is_first(work: Work, stage: ClassifyStage) -> bool:
    """Whether the first version labels it; who declares an adaptation has the newest, as it is added to its scores."""
    return version_of(work) == first_version.VERSION and stage.name not in work.collection.adaptations


def classifier_of(work: Work, stage: ClassifyStage, partition: str) -> FirstClassifier | BuiltinClassifier:
    if stage.name not in work.classifiers:
        made = unfitted_classifier(work, stage)
        work.classifiers[stage.name] = (
            _calibrated(work, stage, partition, made) if isinstance(made, BuiltinClassifier) else made
        )
    return work.classifiers[stage.name]


def unfitted_classifier(work: Work, stage: ClassifyStage) -> FirstClassifier | BuiltinClassifier:
    """As sure as it is without golden labels."""
    if is_first(work, stage):
        return FirstClassifier(_labels(work, stage, _first_lesson), BuiltinEmbedder())
    return adapted_classifier(work, stage, work.collection.adaptations.get(stage.name))


def adapted_classifier(work: Work, stage: ClassifyStage, adaptation: Adaptation | None) -> BuiltinClassifier:
    return BuiltinClassifier(_labels(work, stage, _lesson), BuiltinEmbedder(), adaptation=adaptation)


def calibration_input(work: Work, stage: ClassifyStage) -> Mapping[str, str]:
    """What the confidence depends on beside the document; nothing where it is not fitted."""
    if not stage.is_builtin or is_first(work, stage):
        return {}
    places = golden_documents.places(work, stage)
    return {CALIBRATION: digest(places)} if len(places) >= LEAST_GOLDEN else {}


def calibration_stats(work: Work, stage: ClassifyStage, inputs: Mapping[str, str]) -> dict[str, Any]:
    made = work.classifiers.get(stage.name)
    if CALIBRATION not in inputs or not isinstance(made, BuiltinClassifier):
        return {}
    fitted = {"temperature": made.sureness.temperature}
    if stage.name in work.collection.adaptations:
        fitted["doubt"] = made.sureness.doubt
    return {CALIBRATION: {"of": _calibrated_by(made, inputs[CALIBRATION]), **fitted}}


def _calibrated(work: Work, stage: ClassifyStage, partition: str, made: BuiltinClassifier) -> BuiltinClassifier:
    fitted_to = calibration_input(work, stage).get(CALIBRATION)
    if fitted_to is None:
        return made
    previous = work.previous(stage.name, partition)
    before = previous.stats.get(CALIBRATION) if previous else None
    if before and before["of"] == _calibrated_by(made, fitted_to):
        return made.at(Sureness(temperature=before["temperature"], doubt=before.get("doubt", 0.0)))
    golden = golden_documents.read(work, stage)
    return made.calibrated([(each.title, each.text, each.label) for each in golden])


def _calibrated_by(made: BuiltinClassifier, fitted_to: str) -> str:
    return digest([made.at(None).version, fitted_to])


def _labels(work: Work, stage: ClassifyStage, said: Callable[[FewShotExample], str]) -> list[Label]:
    learned: dict[str, list[str]] = {item.name: [] for item in stage.labels}
    for each in lessons(work, stage):
        learned[each.label].append(said(each))
    return [
        Label(name=item.name, description=item.description, examples=(*item.examples, *learned[item.name]))
        for item in stage.labels
    ]


def _first_lesson(example: FewShotExample) -> str:
    return example.text[:FIRST_LESSON_CHARACTERS]


def _lesson(example: FewShotExample) -> str:
    return f"{example.title}\n{example.text[:LESSON_CHARACTERS]}".strip()


def model_of(classifier: FirstClassifier | BuiltinClassifier) -> str:
    return f"builtin/zero-shot {classifier.version}"


def current_models(work: Work, classifier: FirstClassifier | BuiltinClassifier) -> frozenset[str]:
    """By whom a row may have been made: the classifier as it is, or an earlier algorithm that the collection keeps."""
    oldest = work.collection.settings.builtins.classifier
    versions = {classifier.version, *(classifier.version_with(each) for each in since(PART, oldest))}
    return frozenset(f"builtin/zero-shot {each}" for each in versions)
