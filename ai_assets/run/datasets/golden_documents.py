"""Documents with a golden label, read from the source: what the built-in classifier's confidence is fitted to."""

from collections.abc import Mapping, Sequence

from ai_assets.run.context import Work
from ai_assets.run.datasets.few_shot import FewShotExample, place_of, read_documents
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import digest

MOST = 400
"""More golden documents hardly move the one number that is fitted; those taken are the same each time."""


def places(work: Work, stage: ClassifyStage) -> Mapping[str, list[str]]:
    """By document, its golden label and the digest of its file, not of what the stage learns from; for a label given on
    the desk, the digest of the text that was read, too. No text is read."""
    if work.collection.settings.golden.labels_stage not in (None, stage.name):
        return {}
    shown = (
        work.collection.shown
        | work.golden_labels.retired.keys()
        | {item.document_id for item in work.corrections.taught.get(stage.name, ())}
    )
    golden = [item for item in work.collection.golden_labels if item.document not in shown]
    golden.sort(key=lambda item: digest(item.document))
    entries = {entry.path: entry for entry in work.listing.entries}
    found = {}
    for item in golden[:MOST]:
        entry = place_of(entries, item.document)
        if entry is not None and entry.problem is None:
            found[item.document] = [item.label, entry.digest]
    for name, said in work.calibration_labels.items():
        entry = place_of(entries, name)
        if entry is not None and entry.problem is None:
            found[name] = [said.label, entry.digest, said.document_digest]
    return found


def read(work: Work, stage: ClassifyStage) -> Sequence[FewShotExample]:
    wanted = places(work, stage)
    there = read_documents(work, wanted)
    return [
        FewShotExample(document=document, title=found.title or "", text=found.text, label=label)
        for document, (label, _, *text) in wanted.items()
        if (found := there.get(document)) is not None and found.status == "ok" and text in ([], [found.digest])
    ]
