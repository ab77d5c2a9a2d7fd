"""What a stage that learns is shown: documents whose label a person gave, read from the source itself.

The partition of such a document may not have been computed yet. One that is gone, or has another text by now, teaches
nothing; there is no error, because nobody declared it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ai_assets.documents.parse import ParsedDocument
from ai_assets.documents.source import SourceFile
from ai_assets.documents.source_listing import ListingEntry, tables_of
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
        entries = {entry.path: entry for entry in work.listing.entries}
        found = []
        for item in work.corrections.taught.get(stage.name, ()):
            entry = place_of(entries, item.document_id)
            document = None if entry is None else read(work, entry, item.document_id)
            if document is not None and document.status == "ok" and document.digest == item.document_digest:
                found.append(
                    FewShotExample(
                        document=item.document_id,
                        title=document.title or "",
                        text=document.text,
                        label=item.label or "",
                    )
                )
        work.lessons[stage.name] = found
    return work.lessons[stage.name]


def place_of(entries: Mapping[str, ListingEntry], document: str) -> ListingEntry | None:
    """A document is a file, or a row `file#key` of one."""
    return entries.get(document) or entries.get(document.rpartition("#")[0])


def read(work: Work, entry: ListingEntry, document: str) -> ParsedDocument | None:
    """The document as it is in the source now; None where it was forgotten."""
    return read_several(work, entry, {document}).get(document)


def read_several(work: Work, entry: ListingEntry, documents: AbstractSet[str]) -> dict[str, ParsedDocument]:
    """Those of one file that are there and not forgotten. A table is gone through once, up to the last of them."""
    missing = set(documents) - work.forgotten.documents.keys()
    names = {document.rpartition("#")[2] for document in missing}
    keys = names | {name.rpartition("~")[0] for name in names}  # a key that came before has a number behind it
    found: dict[str, ParsedDocument] = {}
    if not missing:
        return found
    file = SourceFile(path=entry.path, size=entry.size, modified_ns=entry.modified_ns)
    for each in work.parser.parse(work.source, file, tables_of(work.collection), lambda key, _: key in keys):
        if each.document_id in missing:
            found[each.document_id] = each
            if len(found) == len(missing):
                break
    return found
