"""What a look at one thing found, and the words of an error as a finding."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ai_assets.base.errors import DeclarationInvalid, UserError

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note", "ok")

_SENTENCE_END = re.compile(r"\. (?=[A-Z`])")


@dataclass(frozen=True, kw_only=True)
class Finding:
    level: Level
    looked_at: str
    found: str
    fix: str = ""
    """Empty where nothing is to be done."""


def fine(looked_at: str, found: str) -> Finding:
    return Finding(level="ok", looked_at=looked_at, found=found)


def noted(looked_at: str, found: str, fix: str) -> Finding:
    return Finding(level="note", looked_at=looked_at, found=found, fix=fix)


def warned(looked_at: str, found: str, fix: str) -> Finding:
    return Finding(level="warning", looked_at=looked_at, found=found, fix=fix)


def wrong(looked_at: str, found: str, fix: str) -> Finding:
    return Finding(level="error", looked_at=looked_at, found=found, fix=fix)


def causes_once(findings: Sequence[Finding]) -> Iterator[Finding]:
    """What one cause makes wrong in several places is an error in the first, and a note in the others."""
    first: dict[str, str] = {}
    for each in findings:
        before = first.setdefault(each.found, each.looked_at) if each.level == "error" else each.looked_at
        if before == each.looked_at:
            yield each
        else:
            yield noted(each.looked_at, found=f"the same as of {before} (see above)", fix="Correct that first.")


def of_error(looked_at: str, error: UserError, level: Level = "error") -> Finding:
    """Its message says what was found and then what to do."""
    said = str(error)
    if isinstance(error, DeclarationInvalid):
        return Finding(level=level, looked_at=looked_at, found=said, fix="Correct it there, and look again.")
    found, *rest = _SENTENCE_END.split(said, maxsplit=1)
    return Finding(
        level=level, looked_at=looked_at, found=found, fix=rest[0] if rest else "Correct what it names, and look again."
    )
