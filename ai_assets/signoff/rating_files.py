"""Ratings of people in files: sheets with outputs to rate, and what comes back, into the file that the judge declares.

A sheet has the outputs in an order that is drawn by digest, and not what the judge said of them. A file with a mistake
is refused as a whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.base.durable import write_whole
from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.ratings import Rating
from ai_assets.signoff.errors import DecisionRefused, JudgeUnknown, LabelFileRefused, RatingsUndeclared
from ai_assets.signoff.given_ratings import beside, in_force
from ai_assets.signoff.judged_outputs import JudgedOutput, as_computed
from ai_assets.signoff.label_files import FileReading, fields_of
from ai_assets.signoff.people import Person
from ai_assets.stages.judge import JudgeStage

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

KEYS = ("document", "output", "written", "rating", "author", "note")
"""Of a line of a sheet; `written` is for people to read."""


@dataclass(frozen=True, kw_only=True)
class ImportedRatings:
    file: Path
    new: int
    replaced: int
    """Outputs that the same person had rated otherwise."""


def judge_named(collection: Collection, name: str | None) -> JudgeStage:
    """The judge of that name; without one, the only one there is."""
    names = [judge.name for judge in collection.judges]
    found = [judge for judge in collection.judges if name in (None, judge.name)]
    if len(found) != 1:
        raise JudgeUnknown(collection.name, name, names)
    return found[0]


def sheet(stores: "Stores", collection: Collection, stage: JudgeStage, number: int) -> list[dict[str, Any]]:
    """The next outputs to rate: those that nobody has rated as they are."""
    with stores.state.read() as connection:
        given = in_force(connection, collection.name)
    file = collection.ratings.get(stage.name, ())
    rated = {(item.document, item.output) for item in beside(file, given, stage.name)}
    there = as_computed(stores, collection, stage)
    waiting = (
        output
        for partition in there.there
        for output in there.outputs(partition)
        if (output.document, output.digest) not in rated
    )
    first = nsmallest(number, waiting, key=lambda output: stage.place_of(output.document))
    blank = {"rating": None, "author": None, "note": None}
    return [{"document": output.document, "output": output.digest, "written": output.text, **blank} for output in first]


def import_ratings(
    stores: "Stores", collection: Collection, stage: JudgeStage, path: Path, *, by: Person
) -> ImportedRatings:
    """Lines without a rating are left out; one without an author is by whoever imports it."""
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"importing ratings takes the role reviewer in {collection.name}")
    if stage.ratings is None:
        raise RatingsUndeclared(collection.name, stage.name)
    lines = _read(stores, collection, stage, path, by)
    file = collection.folder / stage.ratings
    kept = {(item.document, item.output, item.author): item for item in collection.ratings.get(stage.name, ())}
    new = sum(key not in kept for key in lines)
    replaced = sum(key in kept and kept[key].rating != item.rating for key, item in lines.items())
    kept |= lines
    text = "".join(json.dumps(item.model_dump(), ensure_ascii=False) + "\n" for item in kept.values())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.encode())
    return ImportedRatings(file=file, new=new, replaced=replaced)


def _read(
    stores: "Stores", collection: Collection, stage: JudgeStage, path: Path, by: Person
) -> dict[tuple[str, str, str], Rating]:
    reading, found = FileReading(), dict[tuple[str, str, str], Rating]()
    there = as_computed(stores, collection, stage)
    known = {output.document: output for partition in there.there for output in there.outputs(partition)}
    for number, fields in fields_of(path, reading):
        item = _rating(number, fields, stage, known, reading, by)
        if item is None:
            continue
        key = (item.document, item.output, item.author)
        if key in found:
            reading.wrong(number, f"'{item.document}' is rated by {item.author} twice in this file")
        found[key] = item
    if not found and not reading.problems:
        reading.problems.append("it has no line with a rating")
    if reading.problems:
        raise LabelFileRefused(str(path), reading.problems)
    return found


def _rating(
    number: int,
    fields: Mapping[str, Any],
    stage: JudgeStage,
    known: Mapping[str, JudgedOutput],
    reading: FileReading,
    by: Person,
) -> Rating | None:
    before = len(reading.problems)
    for key in fields:
        if key not in KEYS:
            reading.wrong(number, f"unknown key '{key}'{nearest(str(key), list(KEYS))}")
    if fields.get("rating") is None:
        return None
    document, output, said = fields.get("document"), fields.get("output"), _on_scale(fields["rating"], stage)
    author, note = fields.get("author", by.name), fields.get("note", "")
    if stage.score_of(said) is None:
        listed = ", ".join(map(str, stage.words))
        reading.wrong(number, f"the rating '{fields['rating']}' is not on the scale of {stage.name}: {listed}")
    if not isinstance(document, str) or document not in known:
        hint = nearest(str(document), list(known)) if known else "; nothing is judged yet"
        reading.wrong(number, f"'{document}' has no output that {stage.name} judged{hint}")
    elif output != known[document].digest:
        reading.wrong(number, f"what {stage.judges} made of '{document}' has changed since; draw a new sheet")
    if not isinstance(author, str) or not author.strip() or not isinstance(note, str):
        reading.wrong(number, "'author' and 'note' should be text")
    if len(reading.problems) > before or said is None:
        return None
    return Rating(document=str(document), output=str(output), rating=said, author=str(author).strip(), note=str(note))


def _on_scale(value: Any, stage: JudgeStage) -> int | str | None:
    """As the scale has it: in a CSV file all is text."""
    text = str(value).strip().lower()
    return next((word for word in stage.words if str(word) == text), None)
