"""What a stage that learns is shown: documents whose label a person gave, read from the source itself.

The partition of such a document may not have been computed yet. One that is gone, or has another text by now, teaches
nothing; there is no error, because nobody declared it.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ai_assets.documents.parse import ParsedDocument
from ai_assets.documents.source import SourceFile
from ai_assets.documents.source_listing import ListingEntry, path_of, tables_of
from ai_assets.run.context import Work
from ai_assets.stages.classify.kind import ClassifyStage

EXAMPLES = "examples"
"""Among the inputs of a dataset: what the source holds of the documents shown as examples."""


@dataclass(frozen=True, kw_only=True)
class FewShotExample:
    document: str
    title: str
    text: str
    label: str


def taught_places(work: Work, stage: ClassifyStage) -> dict[str, str]:
    """Digest of the file of each document that is there; its text is not read."""
    entries = {entry.path: entry for entry in work.listing.entries}
    found = {
        item.document_id: place_of(entries, item.document_id) for item in work.corrections.taught.get(stage.name, ())
    }
    return {name: entry.digest for name, entry in found.items() if entry is not None}


def lessons(work: Work, stage: ClassifyStage) -> Sequence[FewShotExample]:
    """Read once per run and stage; the newest last."""
    if stage.name not in work.lessons:
        taught = work.corrections.taught.get(stage.name, ())
        there = read_documents(work, [item.document_id for item in taught])
        work.lessons[stage.name] = [
            FewShotExample(document=item.document_id, title=found.title or "", text=found.text, label=item.label or "")
            for item in taught
            if (found := there.get(item.document_id)) is not None
            and found.status == "ok"
            and found.digest == item.document_digest
        ]
    return work.lessons[stage.name]


def place_of(entries: Mapping[str, ListingEntry], document: str) -> ListingEntry | None:
    return entries.get(path_of(document, entries))


def read_documents(work: Work, documents: Iterable[str]) -> dict[str, ParsedDocument]:
    """Those that are there, as they are in the source now, and not forgotten. Each file is read once, and a table no
    further than the last of them."""
    entries = {entry.path: entry for entry in work.listing.entries}
    by_file: dict[str, set[str]] = {}
    for document in documents:
        if document not in work.forgotten.documents and (path := path_of(document, entries)) in entries:
            by_file.setdefault(path, set()).add(document)
    found: dict[str, ParsedDocument] = {}
    for path, wanted in by_file.items():
        found |= _read(work, entries[path], wanted)
    return found


def _read(work: Work, entry: ListingEntry, wanted: AbstractSet[str]) -> dict[str, ParsedDocument]:
    names = {document.removeprefix(f"{entry.path}#") for document in wanted}
    keys = names | {name.rpartition("~")[0] for name in names}  # of equal keys, those after the first have a number
    file = SourceFile(path=entry.path, size=entry.size, modified_ns=entry.modified_ns)
    found: dict[str, ParsedDocument] = {}
    for each in work.parser.parse(work.source, file, tables_of(work.collection), lambda key, _: key in keys):
        if each.document_id in wanted:
            found[each.document_id] = each
            if len(found) == len(wanted):
                break
    return found
