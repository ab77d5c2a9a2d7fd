"""The title of a text: its first heading or sentence, also where that is wrapped over several lines."""

import re

from ai_assets.documents.parse_text import LONGEST_TITLE, TITLE_CHARACTERS, shortened

_SAMPLE = 20_000
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*)")
_EMPHASIS = re.compile(r"(\*{1,3}|`+)(?=\S)(.+?)(?<=\S)\1")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_SENTENCE = re.compile(r"[.!?…](?=[\"'”’»)\]]*\s)|[。！？]")
_ABBREVIATION = re.compile(r"(?:\b\w|\b(?:Dr|Mr|Mrs|Ms|No|Nr|St|vs|etc|bzw|ca|Prof|approx|Inc|Ltd|Fig|Art|Abs))$")
_ENDED = (".", "!", "?", ":", ";", "…", "。", "！", "？", "|")
_WRAPPED_FROM = 40
"""Characters: people break lines at 60 to 100, and write shorter ones on purpose."""


def title_of(text: str, *, markdown: bool) -> str | None:
    """The first heading of a Markdown text, else the first line that says something, with what it runs on in."""
    first, fenced = None, False
    lines = text[:_SAMPLE].split("\n")
    for at, line in enumerate(lines):
        if not markdown:
            if any(map(str.isalnum, line)):
                return _sentence(_unwrapped(lines, at))
        elif line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif any(map(str.isalnum, line)):
            if not fenced and (heading := _HEADING.match(line)):
                return _sentence(_said(heading[1]))
            first = first or _sentence(_said(line if fenced else _unwrapped(lines, at)))
    return first


def first_line(text: str, *, markdown: bool) -> str | None:
    """The title that the first version of the parser gave: the same, cut after its first line."""
    first, fenced = None, False
    for line in text[:_SAMPLE].split("\n"):
        if not markdown:
            if any(map(str.isalnum, line)):
                return shortened(line)
        elif line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif any(map(str.isalnum, line)):
            if not fenced and (heading := _HEADING.match(line)):
                return shortened(_said(heading[1]))
            first = first or shortened(_said(line))
    return first


def _unwrapped(lines: list[str], at: int) -> str:
    """The line, and those after it that go on in the middle of its sentence."""
    found = lines[at].strip()
    for line in lines[at + 1 :]:
        nearest = line.strip()
        last = lines[at].strip()
        runs_on = len(last) >= _WRAPPED_FROM and not last.endswith(_ENDED) and nearest[:1].islower()
        if not runs_on or len(found) > LONGEST_TITLE:
            break
        found, at = f"{found} {nearest}", at + 1
    return found


def _sentence(said: str) -> str | None:
    """All of it where it is short enough; else its first sentence, else the words that there is room for."""
    line = shortened(said, most=LONGEST_TITLE)
    if line is None or len(line) <= TITLE_CHARACTERS:
        return line
    for end in _SENTENCE.finditer(line, 0, TITLE_CHARACTERS):
        if end.start() > 15 and not _ABBREVIATION.search(line[: end.start()]):
            return line[: end.end()]
    cut = line.rfind(" ", TITLE_CHARACTERS // 2, TITLE_CHARACTERS)
    return f"{line[: cut if cut > 0 else TITLE_CHARACTERS - 1].rstrip(' ,;:-–')}…"


def _said(line: str) -> str:
    """A line of Markdown without the Markdown."""
    line = _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", line[:LONGEST_TITLE])).strip()
    before, _, last = line.rpartition(" ")
    return (before if last.strip("#") == "" else line).lstrip("#>|- ").rstrip("| ")
