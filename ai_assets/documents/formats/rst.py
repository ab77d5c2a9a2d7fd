"""reStructuredText: its text as it is written, with section titles as Markdown headings."""

import re
import unicodedata

from ai_assets.documents.formats.read import Read
from ai_assets.documents.parse_encodings import decoded
from ai_assets.documents.parse_text import refuse_binary

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*$")
_DEEPEST = 6


def read(data: bytes) -> Read:
    found = decoded(data)
    refuse_binary(found.text)
    text, title = _headed(found.text)
    return Read(text=text, title=title, encoding=found.encoding, certainty=found.certainty)


def _headed(text: str) -> tuple[str, str | None]:
    """Each style of adornment is a level, in the order in which they come."""
    lines = text.splitlines()
    made: list[str] = []
    styles: list[tuple[str, bool]] = []
    title = None
    at = 0
    while at < len(lines):
        over = bool(_ADORNMENT.match(lines[at])) and at + 2 < len(lines) and _underlines(lines, at + 2, lines[at])
        if over or (at + 1 < len(lines) and _underlines(lines, at + 1, "")):
            heading, mark = lines[at + over].strip(), lines[at + 1 + over][0]
            if (mark, over) not in styles:
                styles.append((mark, over))
            title = title or heading
            made += ["", f"{'#' * min(styles.index((mark, over)) + 1, _DEEPEST)} {heading}", ""]
            at += 2 + over
        else:
            made.append(lines[at])
            at += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(made)), title


def _underlines(lines: list[str], at: int, over: str) -> bool:
    """Whether line `at` makes the line before it a title; with `over` only if it is the same there."""
    line, before = lines[at].rstrip(), lines[at - 1].rstrip()
    if not _ADORNMENT.match(line) or not any(map(str.isalnum, before)) or (over and over.rstrip() != line):
        return False
    width = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before.strip())
    blank_above = at < 2 or not lines[at - 2].strip() or bool(over)
    return len(line) >= min(width, 120) and (over != "" or before == before.lstrip()) and blank_above
