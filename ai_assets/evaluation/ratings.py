"""What people say of outputs of a stage, on the scale of its judge: files of ratings, one JSON object per line. Pure.

A rating is of one text: `output` is its digest, so that a rating of a text that has changed since counts no more.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ai_assets.evaluation.errors import GoldenError
from ai_assets.evaluation.golden import DocumentId, Text, each_line, record_of
from ai_assets.storage.digest import digest

_DIGEST_CHARACTERS = 16


class Rating(BaseModel):
    """What one person says of one output."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    document: DocumentId
    output: Text
    """The digest of the text that was rated, as the rating sheet has it."""
    rating: int | Text
    """A number of the scale; of a scale that is `pass`, pass or fail."""
    author: Text
    note: str = ""


def output_digest(text: str) -> str:
    return digest(text)[:_DIGEST_CHARACTERS]


def read_ratings(path: Path, score_of: Callable[[object], int | None], words: Iterable[object]) -> tuple[Rating, ...]:
    """All ratings of a file, each on the scale and no output twice by one person; anything else is a GoldenError."""
    read: list[Rating] = []
    seen: dict[tuple[str, str, str], int] = {}

    def accept(line: int, raw: bytes) -> None:
        item = record_of(path, line, raw, Rating)
        if score_of(item.rating) is None:
            known = ", ".join(map(str, words))
            raise GoldenError(path, line, f"the rating {item.rating!r} is not on the scale of the judge: {known}")
        key = (item.document, item.output, item.author)
        if key in seen:
            said = f"'{item.document}' is rated by {item.author} on line {seen[key]} already; keep one"
            raise GoldenError(path, line, said)
        seen[key] = line
        read.append(item)

    each_line(path, accept)
    return tuple(read)


def by_output(ratings: Iterable[Rating], score_of: Callable[[object], int | None]) -> Mapping[tuple[str, str], int]:
    """By document and digest of its output, what people say: of several people the middle one, the lower of two."""
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for item in ratings:
        score = score_of(item.rating)
        if score is not None:
            found[item.document, item.output].append(score)
    return {key: statistics.median_low(scores) for key, scores in found.items()}
