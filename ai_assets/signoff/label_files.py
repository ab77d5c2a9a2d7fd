"""Labels in files, as JSON lines or CSV: golden labels and corrections, in and out, each with its author.

A file with a mistake is refused as a whole, with all its mistakes.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.signoff import corrections, golden_labels
from ai_assets.signoff.corrections import Correction
from ai_assets.signoff.errors import DecisionRefused, LabelFileRefused
from ai_assets.signoff.golden_labels import GivenLabel, LabelPlace, Stratum
from ai_assets.signoff.people import Person
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.state import now, storable

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

FileFormat = Literal["jsonl", "csv"]
KEYS = ("document", "label", "author", "stratum", "inclusion", "note")
"""Of a line; the first three are needed."""
CORRECTION_KEYS = ("document", "label", "author", "reason")
LONGEST = 4_000
MOST_BYTES = 100_000_000
_LONGEST_AUTHOR = 120
_STRATA: tuple[Stratum, ...] = get_args(Stratum)


@dataclass(frozen=True, kw_only=True)
class LabelLine:
    """A line of a file that is right in itself."""

    line: int
    document: str
    label: str
    author: str
    stratum: Stratum = "chosen"
    inclusion: float | None = None
    note: str = ""


@dataclass
class FileReading:
    """The lines of a file, and what is wrong with them."""

    lines: list[LabelLine] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def wrong(self, line: int, problem: str) -> None:
        self.problems.append(f"line {line}: {problem}")


def format_of_file(path: Path) -> FileFormat:
    return "csv" if path.suffix.lower() == ".csv" else "jsonl"


def written(lines: Iterable[Mapping[str, Any]], keys: Sequence[str], format_: FileFormat) -> str:
    """The text of a file of such lines."""
    if format_ == "jsonl":
        return "".join(json.dumps(dict(line), ensure_ascii=False) + "\n" for line in lines)
    out = io.StringIO()
    writer = csv.DictWriter(out, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if line.get(key) is None else line[key] for key in keys} for line in lines)
    return out.getvalue()


def as_line(item: GivenLabel) -> dict[str, Any]:
    """A golden label as the file has it."""
    line = {"document": item.document_id, "label": item.label, "author": item.author, "stratum": item.stratum}
    return {**line, "inclusion": item.inclusion, "note": item.note, "made_at": item.made_at}


def import_golden(stores: "Stores", collection: Collection, path: Path, *, by: Person) -> list[GivenLabel]:
    """Record the golden labels of a file under their authors; those that are there already are not recorded again."""
    stage = golden_labels.stage_of(collection)
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"importing golden labels takes the role reviewer in {collection.name}")
    lines, places = _read(stores, collection, stage, path, KEYS)
    at = now()
    with stores.state.write() as connection:
        before = {(item.document_id, item.author, item.number) for item in
                  golden_labels.newest(connection, collection.name, stage.name)}  # fmt: skip
        found = [
            golden_labels.record(
                connection,
                GivenLabel(
                    collection=collection.name,
                    stage=stage.name,
                    document_id=line.document,
                    author=line.author,
                    number=0,
                    partition=places[line.document].partition,
                    document_digest=places[line.document].document_digest,
                    answer="label",
                    label=line.label,
                    stratum=line.stratum,
                    inclusion=line.inclusion,
                    sample=None,
                    origin="import",
                    note=line.note,
                    recorded_by=by.name,
                    made_at=at,
                ),
            )
            for line in lines
        ]
    return [item for item in found if (item.document_id, item.author, item.number) not in before]


def import_corrections(
    stores: "Stores", collection: Collection, stage: ClassifyStage, path: Path, *, by: Person
) -> list[Correction]:
    """Record the corrections of a file, of the texts as they are now; those that are in force already are left alone.

    A correction changes what is published, so its author is who imports it; its reason says who wrote it.
    """
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"correcting labels takes the role reviewer in {collection.name}")
    lines, places = _read(stores, collection, stage, path, CORRECTION_KEYS)
    said = golden_labels.model_labels(stores, collection.name, stage.name)
    at = now()
    with stores.state.write() as connection:
        before = {(item.document_id, item.number) for item in
                  corrections.current(connection, collection.name).values() if item.stage == stage.name}  # fmt: skip
        made = [
            Correction(
                collection=collection.name, stage=stage.name, document_id=line.document, number=0,
                partition=places[line.document].partition, document_digest=places[line.document].document_digest,
                label=line.label, was=said.get(line.document), author=by.name, reason=_reason(line, by), made_at=at,
            )
            for line in lines
        ]  # fmt: skip
        found = [corrections.record(connection, item, None) for item in made]
    return [item for item in found if (item.document_id, item.number) not in before]


def _reason(line: LabelLine, by: Person) -> str:
    if line.author == by.name:
        return line.note
    return f"imported, by {line.author}{': ' if line.note else ''}{line.note}"


def _read(
    stores: "Stores", collection: Collection, stage: ClassifyStage, path: Path, keys: Sequence[str]
) -> tuple[list[LabelLine], Mapping[str, LabelPlace]]:
    reading = FileReading()
    labels = [label.name for label in stage.labels]
    for number, fields in fields_of(path, reading):
        line = _line(number, fields, keys, labels, reading)
        if line is not None:
            reading.lines.append(line)
    _refuse_twice(reading)
    partitions = golden_labels.partitions_of(stores, collection.name, "documents")
    places = golden_labels.present_texts(stores, collection.name, partitions, {line.document for line in reading.lines})
    unknown = [line for line in reading.lines if line.document not in places]
    known = golden_labels.documents_of(stores, collection.name, partitions) if unknown else []
    for line in unknown:
        hint = nearest(line.document, known) if known else ""
        reading.wrong(line.line, f"'{line.document}' is no document of {collection.name} with a text{hint}")
    if not reading.lines and not reading.problems:
        reading.problems.append("it has no line")
    if reading.problems:
        raise LabelFileRefused(str(path), sorted(reading.problems, key=_line_number))
    return reading.lines, places


def _line_number(problem: str) -> int:
    digits = problem.removeprefix("line ").partition(":")[0]
    return int(digits) if digits.isdigit() else 0


def fields_of(path: Path, reading: FileReading) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and fields of every line that can be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            reading.problems.append(f"it is larger than {MOST_BYTES:,} bytes")
            return
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except OSError as error:
        raise LabelFileRefused(str(path), [f"it cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise LabelFileRefused(str(path), [f"it is not UTF-8 text (byte {error.start})"]) from error
    if format_of_file(path) == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            for fields in reader:
                yield reader.line_num, {key: value for key, value in fields.items() if value not in ("", None)}
        except csv.Error as error:
            reading.wrong(reader.line_num, f"no CSV: {error}")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            reading.wrong(number, f"not a JSON object on one line: {error}")
            continue
        if isinstance(found, dict):
            yield number, {key: value for key, value in found.items() if value is not None}
        else:
            reading.wrong(number, "not a JSON object")


def _line(
    number: int, fields: Mapping[str, Any], keys: Sequence[str], labels: Sequence[str], reading: FileReading
) -> LabelLine | None:
    before = len(reading.problems)
    known = (*keys, "made_at")
    for key in fields:
        if key not in known:
            reading.wrong(number, f"unknown key '{key}'{nearest(str(key), list(known))}")
    texts = {key: fields.get(key) for key in ("document", "label", "author")}
    for key, value in texts.items():
        if value is None:
            reading.wrong(number, f"'{key}' is missing")
        elif not isinstance(value, str) or not value.strip():
            reading.wrong(number, f"'{key}' is no text")
        elif key == "author" and (len(value) > _LONGEST_AUTHOR or not value.strip().isprintable()):
            reading.wrong(number, f"'author' is no name of at most {_LONGEST_AUTHOR} characters")
        elif key == "label" and value not in labels:
            reading.wrong(number, f"unknown label '{value}'{nearest(value, list(labels))}")
    stratum = fields.get("stratum", "chosen")
    if stratum not in _STRATA:
        reading.wrong(number, f"unknown stratum '{stratum}'{nearest(str(stratum), list(_STRATA))}")
    inclusion = _share(number, fields.get("inclusion"), reading)
    note = fields.get("note", fields.get("reason", ""))
    if not isinstance(note, str) or len(note) > LONGEST:
        reading.wrong(number, f"'note' is no text of at most {LONGEST:,} characters")
    if len(reading.problems) > before:
        return None
    document, label, author = (str(texts[key]) for key in ("document", "label", "author"))
    return LabelLine(
        line=number, document=document, label=label, author=author.strip(), stratum=cast(Stratum, stratum),
        inclusion=inclusion, note=storable(note.strip()) or "",
    )  # fmt: skip


def _share(number: int, value: Any, reading: FileReading) -> float | None:
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if isinstance(value, bool) or not 0 < found <= 1:
        reading.wrong(number, f"'inclusion' is no probability above 0 and at most 1 (found {value!r})")
        return None
    return found


def _refuse_twice(reading: FileReading) -> None:
    seen: dict[tuple[str, str], LabelLine] = {}
    for line in reading.lines:
        earlier = seen.setdefault((line.document, line.author), line)
        if earlier is not line:
            reading.wrong(line.line, f"'{line.document}' has a label of {line.author} on line {earlier.line} already")
