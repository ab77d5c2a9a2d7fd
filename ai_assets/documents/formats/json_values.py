"""JSON: one line for each value with its name, nested ones indented; a list of short values on one line."""

import json
from collections.abc import Iterator

from ai_assets.documents.formats.read import Read
from ai_assets.documents.parse_encodings import decoded
from ai_assets.documents.parse_worker import FileRefused

_TITLES = ("title", "name", "subject", "headline")
_SHORT = 100


def read(data: bytes) -> Read:
    found = decoded(data)
    try:
        # Python writes NaN, which JSON has not: it means that the value is missing.
        value = json.loads(found.text, parse_constant=lambda _: None)
        text = "\n".join(_lines(value, ""))
    except RecursionError:
        raise FileRefused("could not be read: nested too deeply") from None
    except ValueError as error:
        lines = "; several values, one on each line, are a .jsonl file" if "Extra data" in str(error) else ""
        raise FileRefused(f"could not be read: not valid JSON: {error}{lines}") from error
    title = next((str(value[key]) for key in _TITLES if value.get(key)), None) if isinstance(value, dict) else None
    return Read(text=text, title=title, encoding=found.encoding, certainty=found.certainty)


def _lines(value: object, indent: str) -> Iterator[str]:
    match value:
        case dict():
            for name, item in value.items():
                if _is_plain(item):
                    yield f"{indent}{name}: {_shown(item)}"
                else:
                    yield f"{indent}{name}:"
                    yield from _lines(item, f"{indent}  ")
        case list():
            for item in value:
                if _is_plain(item):
                    yield f"{indent}- {_shown(item)}"
                else:
                    first, *more = [*_lines(item, f"{indent}  "), ""]
                    yield f"{indent}- {first.lstrip()}"
                    yield from more[:-1]
        case _:
            yield f"{indent}{_shown(value)}"


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, dict | list) for item in value) and len(_shown(value)) <= _SHORT
    return not isinstance(value, dict)


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(_shown, value))
        case _:
            return str(value)
