"""What the built-in classifier took from documents of the collection without labels: a file beside the collection.

A label depends on its document and on this file, never on other documents: it is made by a command, declared by its
stage, and its digest is part of the stage's code version. `fit_adaptation` in unlabelled.py makes the numbers.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ai_assets.base.plural import plural
from ai_assets.storage.digest import digest

FORMAT = "ai-assets adaptation 1"
LARGEST_BYTES = 16 << 20
_EDITED = "its digest is not that of its content: it was edited, or is not whole"


class AdaptationUnusable(ValueError):
    """What is wrong with the file, as the end of a sentence about it."""


@dataclass(frozen=True, kw_only=True)
class FittedOn:
    """The documents, and when."""

    documents: int
    of: int
    """How many there were to draw from."""
    seed: int
    digest: str
    """Of the documents drawn and of their texts."""
    at: str


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Of one stage. To a label's score are added its first number and the product of the others with the vector."""

    collection: str
    stage: str
    classifier: str
    """Version of the algorithm whose scores it is added to."""
    embedder: Mapping[str, Any]
    labels: str
    """Digest of the names and descriptions."""
    fitted_on: FittedOn
    temperature: float
    """What the sum is divided by."""
    doubt: float
    """The share of documents that the text does not decide, unless golden labels say otherwise."""
    numbers: Mapping[str, Sequence[float]]
    """By label."""

    @property
    def _described(self) -> dict[str, Any]:
        head = {key: value for key, value in asdict(self).items() if key != "numbers"}
        return {"format": FORMAT, **head, "numbers": {name: list(row) for name, row in self.numbers.items()}}

    @property
    def digest(self) -> str:
        return digest(self._described)

    def written(self) -> str:
        """As the file holds it: one line for each label's numbers."""
        head = {"digest": self.digest, **self._described}
        numbers = head.pop("numbers")
        rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in numbers.items())
        return f'{json.dumps(head, indent=2)[:-2]},\n  "numbers": {{\n{rows}\n  }}\n}}\n'

    def require_fit(self, labels: str, names: Sequence[str], embedder: Mapping[str, Any]) -> None:
        """Raises AdaptationUnusable where it was made for other labels or another space of vectors."""
        if self.labels != labels:
            raise AdaptationUnusable("it was fitted to other labels, or to other descriptions of them")
        if dict(self.embedder) != dict(embedder):
            was, now = (f"{each.get('name')} {each.get('version')}" for each in (self.embedder, embedder))
            raise AdaptationUnusable(f"it was fitted to vectors of {was}, and those here are of {now}")
        wanted = 1 + int(embedder["dimensions"])
        if list(self.numbers) != list(names) or any(len(row) != wanted for row in self.numbers.values()):
            raise AdaptationUnusable(f"it does not have {plural(wanted, 'number')} for each label")


def labels_digest(described: Sequence[tuple[str, str]]) -> str:
    """Of names and descriptions; examples and golden labels are no part of it."""
    return digest([list(each) for each in described])


def read_adaptation(path: Path) -> Adaptation:
    """The file, whole and as it was written; anything else is AdaptationUnusable."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise AdaptationUnusable("it is far larger than such a file")
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise AdaptationUnusable("it does not exist") from None
    except OSError as error:
        raise AdaptationUnusable(f"it cannot be read ({error.strerror})") from error
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise AdaptationUnusable("it is not whole, or no JSON") from error
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        said = found.get("format") if isinstance(found, Mapping) else None
        raise AdaptationUnusable(f"its format is {said!r} and not {FORMAT!r}")
    return _checked({key: value for key, value in found.items() if key != "format"})


def _refuse_constant(constant: str) -> float:
    raise AdaptationUnusable(f"it has a number that is none ({constant})")


def _checked(found: dict[str, Any]) -> Adaptation:
    said = found.pop("digest", None)
    try:
        computed = digest({"format": FORMAT, **found})
    except ValueError as error:  # too large for a number
        raise AdaptationUnusable("it has a number that is none") from error
    if computed != said:
        raise AdaptationUnusable(_EDITED)
    try:
        made = Adaptation(**{**found, "fitted_on": FittedOn(**found["fitted_on"])})
        datetime.datetime.fromisoformat(made.fitted_on.at)
        rows = [float(number) for row in made.numbers.values() for number in row]
        usable = all(map(math.isfinite, rows)) and 0 < float(made.temperature) < math.inf and 0 <= made.doubt < 1
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise AdaptationUnusable("it lacks a part, or has one of another kind") from error
    if not usable:
        raise AdaptationUnusable("it has a number that is none, or that cannot be right")
    return made
