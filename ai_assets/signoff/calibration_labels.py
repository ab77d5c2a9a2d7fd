"""Which of the labels that people gave on the desk the built-in classifier's confidence is fitted to.

Only documents that were drawn at random: those that it is unsure of, and those that somebody happened to open or to
correct, are wrong more often than others, and would make it look less sure than it may be.
"""

from collections.abc import Mapping
from dataclasses import replace

from ai_assets.collection.loading import Collection
from ai_assets.signoff.corrections import Corrections
from ai_assets.signoff.golden_labels import AgreedLabel, GoldenInForce
from ai_assets.storage.digest import digest

STEPS = (30, 50, 100, 200, 400)
"""Each fit makes the confidences of all partitions anew, so there is one at each of these numbers of golden labels and
none between."""


def calibrating(collection: Collection, golden: GoldenInForce, corrected: Corrections) -> Mapping[str, AgreedLabel]:
    """By document; beside the golden labels of the collection's file, which all count. Those given first are taken, and
    a correction of the same text is the label that counts."""
    stage = collection.judged_stage
    if not collection.settings.golden.calibrate or stage is None or not stage.is_builtin:
        return {}
    shown = (
        collection.shown | golden.retired.keys() | {item.document_id for item in corrected.taught.get(stage.name, ())}
    )
    declared = {item.document for item in collection.golden_labels} - shown
    given = {
        name: item
        for name, item in golden.agreed.items()
        if item.stratum == "random" and name not in shown and name not in declared
    }
    fits = max((step for step in STEPS if step <= len(declared) + len(given)), default=0)
    answered = sorted((item.made_at, item.document_id) for item in golden.given if item.document_id in given)
    first = list(dict.fromkeys(name for _, name in answered))[: max(0, fits - len(declared))]
    return {name: _as_corrected(given[name], corrected, stage.name) for name in first}


def _as_corrected(given: AgreedLabel, corrected: Corrections, stage: str) -> AgreedLabel:
    said = corrected.found.get((stage, given.document_id))
    if said is None or said.label is None or said.document_digest != given.document_digest:
        return given
    return replace(given, label=said.label)


def version(used: Mapping[str, AgreedLabel]) -> str:
    """Empty where nothing is used."""
    said = sorted([item.document_id, item.label, item.document_digest] for item in used.values())
    return digest(said)[:32] if said else ""
