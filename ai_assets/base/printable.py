"""Text that a terminal and a log show as text: no name or message moves the cursor or turns words around."""

import json
import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 but newline and tab, what changes the direction of reading, and half a surrogate pair, which no terminal
and no file of UTF-8 can hold."""


def printable(text: str) -> str:
    """Without control characters but newline and tab."""
    return _UNPRINTABLE.sub("", text)


def readable_json(value: object, *, indent: int | None = None) -> str:
    """JSON with letters as they are and control characters as escapes, so that nothing is lost."""
    written = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
