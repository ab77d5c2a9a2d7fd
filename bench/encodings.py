"""How often text in an undeclared encoding is read as it was written: `python bench/encodings.py` prints the table of
docs/collections.md. The texts were written for this; each is cut at several places and lengths."""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

TEXTS: dict[str, str] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""By language."""
ENCODINGS = {
    "cp1252": ["en", "de", "fr", "es", "it", "pt", "sv", "da", "fi"],
    "latin-1": ["de", "fr", "es", "it", "pt", "sv", "da", "fi"],
    "cp1250": ["pl", "cs", "hu"],
    "iso8859-2": ["pl", "cs", "hu"],
    "cp1251": ["ru", "uk", "bg"],
    "koi8-r": ["ru"],
    "koi8-u": ["uk"],
    "cp1253": ["el"],
    "cp1254": ["tr"],
    "cp1255": ["he"],
    "cp1256": ["ar"],
    "shift_jis": ["ja"],
    "euc-jp": ["ja"],
    "iso2022_jp": ["ja"],
    "gb18030": ["zh"],
    "big5": ["zh-tw"],
    "euc-kr": ["ko"],
    "utf-16-le": list(TEXTS),
    "utf-16-be": list(TEXTS),
}
LENGTHS = (8, 20, 60, 200, 600)
PLACES = 8


def samples() -> Iterator[tuple[str, str, int, str, bytes]]:
    """Encoding, language, length, text and bytes; those without a byte beyond ASCII need no guess and are left out."""
    for encoding, languages in ENCODINGS.items():
        for language in languages:
            whole = TEXTS[language] * 4
            if encoding == "latin-1":
                whole = (
                    whole.replace("’", "'").replace("€", "EUR").replace("“", '"').replace("”", '"').replace("–", "-")
                )
            for length in LENGTHS:
                seen = set()
                for place in range(PLACES):
                    start = place * len(TEXTS[language]) // PLACES
                    text = whole[start : start + length]
                    data = text.encode(encoding, "ignore")
                    text = data.decode(encoding)
                    plain = all(32 <= byte < 127 for byte in data)
                    if not plain and data not in seen:
                        seen.add(data)
                        yield encoding, language, length, text, data


def measure(decoded: Callable[[bytes], str | None]) -> dict[tuple[str, int], tuple[int, int]]:
    """By encoding and length: how many were read as they were written, of how many."""
    found: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for encoding, _, length, text, data in samples():
        found[encoding, length][0] += decoded(data) == text
        found[encoding, length][1] += 1
    return {key: (right, of) for key, (right, of) in found.items()}


def _normalizer(data: bytes) -> str | None:
    import charset_normalizer

    best = charset_normalizer.from_bytes(data).best()
    return str(best) if best is not None else None


def _chardet(data: bytes) -> str | None:
    import chardet

    name = chardet.detect(data)["encoding"]
    try:
        return data.decode(name) if name else None
    except (UnicodeDecodeError, LookupError):
        return None


def _ours(data: bytes) -> str | None:
    from ai_assets.documents.parse_encodings import decoded
    from ai_assets.documents.parse_text import Unreadable

    try:
        return decoded(data).text
    except Unreadable:
        return None


READERS = {"charset-normalizer": _normalizer, "chardet": _chardet, "ours": _ours}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("reader", nargs="?", choices=READERS, default="ours")
    found = measure(READERS[arguments.parse_args().reader])
    print(f"| encoding | {' | '.join(f'{length} characters' for length in LENGTHS)} |")
    print(f"|---|{'---|' * len(LENGTHS)}")
    for encoding in ENCODINGS:
        cells = [found.get((encoding, length), (0, 0)) for length in LENGTHS]
        print(f"| {encoding} | {' | '.join(f'{right} of {of}' for right, of in cells)} |")
    for length in LENGTHS:
        right, of = (sum(cell[i] for (_, n), cell in found.items() if n == length) for i in (0, 1))
        print(f"{length}: {right / of:.1%}")


if __name__ == "__main__":
    main()
