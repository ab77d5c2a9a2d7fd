"""Which paths of a source are wanted: globs where `**` spans folders, and `*` and `?` do not."""

import re
import unicodedata
from collections.abc import Sequence


class Patterns:
    """Which paths are wanted."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = _any_of(include or ["**"])
        self._exclude = _any_of(exclude)
        self._skipped_folders = _any_of([p[:-3] for p in map(_whole_folder, exclude) if p.endswith("/**")])

    def match(self, path: str) -> bool:
        return self._include.fullmatch(path) is not None and self._exclude.fullmatch(path) is None

    def skips_folder(self, path: str) -> bool:
        """Whether everything below is excluded, so that it need not be walked."""
        return self._skipped_folders.fullmatch(path) is not None


def _whole_folder(pattern: str) -> str:
    return pattern + "**" if pattern.endswith("/") else pattern


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    # With no pattern at all, one that fits nothing.
    return re.compile("|".join(_regex(_whole_folder(pattern)) for pattern in patterns) or r"(?!)", re.DOTALL)


_GLOB = re.compile(r"(?P<folders>(?:^|(?<=/))\*\*/)|(?P<rest>\*\*)|(?P<star>\*)|(?P<one>\?)|\[(?P<set>!?\]?[^\]/]*)\]")


def _regex(pattern: str) -> str:
    pattern = unicodedata.normalize("NFC", pattern)
    parts, end = [], 0
    for token in _GLOB.finditer(pattern):
        parts.append(re.escape(pattern[end : token.start()]))
        end = token.end()
        match token.lastgroup:
            case "folders":
                parts.append(r"(?:.*/)?")
            case "rest":
                parts.append(".*")
            case "star":
                parts.append("[^/]*")
            case "one":
                parts.append("[^/]")
            case _:
                parts.append(_set(token["set"]) if token["set"] not in ("", "!") else re.escape(token[0]))
    return "".join([*parts, re.escape(pattern[end:])])


def _set(text: str) -> str:
    """One character of a set such as `a-z`; a range that runs backwards holds none."""
    inside = re.sub("(.)-(.)", lambda found: found[0] if found[1] <= found[2] else "", text.removeprefix("!"))
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside)
    if text.startswith("!"):
        return f"[^/{escaped}]"
    return f"[{escaped}]" if escaped else "(?!)"
