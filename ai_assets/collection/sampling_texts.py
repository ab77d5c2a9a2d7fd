"""Texts of a few documents of a source, read evenly over it and for no longer than a moment: to propose labels from."""

import itertools
import time
from collections.abc import Callable, Sequence

from ai_assets.collection.label_proposals import READ_CHARACTERS, SampledText
from ai_assets.documents.parse import ParseLimits, Parser
from ai_assets.documents.source import Source, SourceFile

MOST_DOCUMENTS = 240
MOST_SECONDS = 60.0
"""Slow files (a scanned book) end the reading early, with what there is by then."""
_ROWS_OF_A_TABLE = 20
_LIMITS = ParseLimits(max_bytes=5_000_000, timeout_s=10.0)


Tell = Callable[[int, int], None]


def sample_texts(source: Source, documents: Sequence[SourceFile], tell: Tell) -> list[SampledText]:
    """`tell` hears how many of how many files are read."""
    readable = [file for file in documents if file.problem is None and 0 < file.size <= _LIMITS.max_bytes]
    step = max(1, len(readable) // MOST_DOCUMENTS)
    chosen = readable[::step][:MOST_DOCUMENTS]
    until = time.monotonic() + MOST_SECONDS
    found: list[SampledText] = []
    seen: set[str] = set()
    with Parser(_LIMITS, tells_language=False) as parser:
        for number, file in enumerate(chosen):
            if time.monotonic() > until:
                break
            tell(number, len(chosen))
            for document in itertools.islice(parser.parse(source, file, {}), _ROWS_OF_A_TABLE):
                if document.digest is not None and document.digest not in seen:
                    seen.add(document.digest)
                    text = document.text[:READ_CHARACTERS]
                    found.append(SampledText(name=document.document_id, title=document.title or "", text=text))
            if len(found) >= MOST_DOCUMENTS:
                break
    return found
