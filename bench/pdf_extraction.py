"""How well libraries read real PDFs: words kept, words glued, order, lines made table rows, seconds, memory.

`python -m bench.pdf_extraction FOLDER [--also SITE] [--only NAME ...]`, where FOLDER holds PDFs that we did not make
(docs/pdf.md names those of the published table) and SITE a folder with candidates that are no dependency of ours (`pip
install --target SITE pypdf playa-pdf docling-parse pdftext`).

The reference is poppler's `pdftotext`, which is used for measuring only: it is nobody's candidate. A word or a pair of
neighbours counts only where another candidate has it too, so that nobody is charged for what poppler alone reads.
"""

import argparse
import io
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

PAGES = 25
"""Of a longer file, its first pages: some candidates take a second for each."""
FEWEST_WORDS = 60
"""A file with fewer says nothing about shares."""
LIMIT_S = 900.0
GLUED_LETTERS = 18
"""A longer word that poppler does not know, but whose two parts it knows, is two words glued together."""
_WORD = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|(?:(?![\u2e80-\u9fff\uf900-\ufaff])[^\W_])+")
"""A letter of a script without spaces is a word."""
_ROW = re.compile(r"^\s*\|.*\|\s*$")
_LINK = re.compile(r"\(cid:\d+\)")


@dataclass(frozen=True, kw_only=True)
class Score:
    kept: float
    """Share of the reference's words, counted as often as they come."""
    glued: float
    """Per thousand words of the reference."""
    order: float
    """Share of the reference's pairs of neighbouring words."""
    rows: float
    """Share of lines that are rows of a pipe table."""
    seconds: float
    """Of the processor, per page."""


def markitdown(data: bytes) -> str:
    from markitdown import StreamInfo
    from markitdown.converters import PdfConverter

    return str(PdfConverter().convert(io.BytesIO(data), StreamInfo(charset="utf-8")).markdown)


def pdfminer(data: bytes) -> str:
    from pdfminer.high_level import extract_text

    return str(extract_text(io.BytesIO(data)))


def pdfplumber(data: bytes) -> str:
    from pdfplumber import open as opened

    with opened(io.BytesIO(data)) as file:
        return "\n\n".join(page.extract_text() or "" for page in file.pages)


def pdfium(data: bytes) -> str:
    from pypdfium2 import PdfDocument

    found = []
    for page in PdfDocument(data):
        found.append(page.get_textpage().get_text_range())
    return "\n\n".join(found).replace("\ufffe", "-")


def pypdf(data: bytes) -> str:
    from pypdf import PdfReader

    return "\n\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)


def playa(data: bytes) -> str:
    from playa import parse

    with parse(data) as document:
        return "\n\n".join(page.extract_text() for page in document.pages)


def pdftext(data: bytes) -> str:
    from pdftext.extraction import plain_text_output

    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(data)
        file.flush()
        return str(plain_text_output(file.name, sort=False, hyphens=True))


def docling(data: bytes) -> str:
    from docling_core.types.doc.page import TextCellUnit
    from docling_parse.pdf_parser import DoclingPdfParser

    document = DoclingPdfParser(loglevel="fatal").load(io.BytesIO(data))
    pages = [page for _, page in document.iterate_pages()]
    return "\n\n".join("\n".join(c.text for c in page.iterate_cells(TextCellUnit.LINE)) for page in pages)


def ours(data: bytes) -> str:
    """As a collection reads it, whichever extractor that takes."""
    from ai_assets.documents.parse_pdf import read_pdf

    return read_pdf(data).text


def ours_fallback(data: bytes) -> str:
    from ai_assets.documents.parse_pdf import read_pdf

    return read_pdf(data, order=("pdfminer",)).text


CANDIDATES: Mapping[str, Callable[[bytes], str]] = {
    "markitdown": markitdown,
    "pdfminer.six": pdfminer,
    "pdfplumber": pdfplumber,
    "pypdfium2": pdfium,
    "pypdf": pypdf,
    "playa-pdf": playa,
    "pdftext": pdftext,
    "docling-parse": docling,
    "ai-assets": ours,
    "ai-assets, fallback": ours_fallback,
}
JUDGES = ("pypdfium2", "pdfminer.six", "pypdf")
"""Three families of code that share nothing: a word of the reference counts if one of them has it."""


def words(text: str) -> list[str]:
    """Compatibility forms, so that a ligature is its letters; a word parted at the end of a line is joined."""
    joined = re.sub(r"([^\W\d_])[-\u00ad\u2010\ufffe]\s*\n\s*(?=[^\W\d_])", r"\1", text)
    return _WORD.findall(unicodedata.normalize("NFKC", joined).casefold())


def pairs(found: Sequence[str]) -> Counter[tuple[str, str]]:
    return Counter(pairwise(found))


def shortened(data: bytes) -> tuple[bytes, int]:
    """The first pages, and how many."""
    from pypdfium2 import PdfDocument

    document = PdfDocument(data)
    if len(document) <= PAGES:
        return data, len(document)
    first = PdfDocument.new()
    first.import_pages(document, list(range(PAGES)))
    file = io.BytesIO()
    first.save(file)
    return file.getvalue(), PAGES


def reference(file: Path) -> str:
    done = subprocess.run(["pdftotext", "-enc", "UTF-8", str(file), "-"], capture_output=True, check=True)
    return done.stdout.decode(errors="replace")


def judged(text: str, known: str, others: Sequence[str], seconds: float) -> Score:
    """The score of one file."""
    truth, mine = words(known), words(text)
    seen = Counter[str]()
    for other in others:
        seen |= Counter(words(other))
    wanted = Counter(truth) & seen
    beside = Counter[tuple[str, str]]()
    for other in others:
        beside |= pairs(words(other))
    neighbours = pairs(truth) & beside
    lines = [line for line in text.splitlines() if line.strip()]
    vocabulary = set(truth)
    glued = sum(_is_glued(word, vocabulary) for word in mine if word not in vocabulary)
    return Score(
        kept=(wanted & Counter(mine)).total() / max(wanted.total(), 1),
        glued=1000 * glued / max(len(truth), 1),
        order=(neighbours & pairs(mine)).total() / max(neighbours.total(), 1),
        rows=sum(bool(_ROW.match(line)) for line in lines) / max(len(lines), 1),
        seconds=seconds,
    )


def _is_glued(word: str, vocabulary: set[str]) -> bool:
    if len(word) >= GLUED_LETTERS and not word.isascii():
        return len(word) > 2 * GLUED_LETTERS
    return len(word) > 5 and any(word[:at] in vocabulary and word[at:] in vocabulary for at in range(3, len(word) - 2))


def work(name: str, folder: Path, out: Path) -> None:
    """The child process: one candidate reads all files, and its memory is its own."""
    import logging
    import warnings

    logging.disable()
    warnings.simplefilter("ignore")
    read = CANDIDATES[name]
    for file in sorted(folder.glob("*.pdf")):
        started = time.process_time()
        try:
            text, error = read(file.read_bytes()), None
        except Exception as found:  # noqa: BLE001 -- what a candidate raises is a result
            text, error = "", f"{type(found).__name__}: {found}"[:200]
        took = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        line = {"file": file.name, "text": text, "error": error, "seconds": took, "peak": peak}
        with out.open("a", encoding="utf-8", errors="surrogatepass") as lines:
            lines.write(json.dumps(line) + "\n")


def measured(name: str, folder: Path, also: Path | None) -> dict[str, dict[str, object]]:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out.jsonl"
        code = f"import sys; {f'sys.path.insert(0, {str(also)!r}); ' if also else ''}" + (
            "from pathlib import Path; from bench.pdf_extraction import work; "
            f"work({name!r}, Path({str(folder)!r}), Path({str(out)!r}))"
        )
        try:
            subprocess.run([sys.executable, "-c", code], timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            print(f"{name}: stopped after {LIMIT_S:g} s", file=sys.stderr)
        lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        return {line["file"]: line for line in map(json.loads, lines)}


def prepared(folder: Path, into: Path) -> Iterator[tuple[str, int]]:
    for file in sorted(folder.glob("*.pdf")):
        data, pages = shortened(file.read_bytes())
        (into / file.name).write_bytes(data)
        yield file.name, pages


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--also", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--files", action="store_true", help="a line for each file too")
    parser.add_argument("--save", type=Path, help="keep what was read here, and read again only what is not there")
    asked = parser.parse_args(arguments)
    outside = {"pypdf", "playa-pdf", "pdftext", "docling-parse"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pages = dict(prepared(asked.folder, folder))
        found: dict[str, dict[str, dict[str, object]]] = {}
        for name in dict.fromkeys([*JUDGES, *asked.only]):
            kept = asked.save / f"{name}.json" if asked.save else None
            if kept is not None and kept.exists():
                found[name] = json.loads(kept.read_text(encoding="utf-8"))
                continue
            found[name] = measured(name, folder, asked.also.resolve() if asked.also and name in outside else None)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(found[name]), encoding="utf-8")
        known = {name: reference(folder / name) for name in pages}
    show(found, known, pages, asked.only, files=asked.files)


def show(
    found: Mapping[str, Mapping[str, Mapping[str, object]]],
    known: Mapping[str, str],
    pages: Mapping[str, int],
    only: Sequence[str],
    *,
    files: bool,
) -> None:
    chosen = [name for name in known if len(words(known[name])) >= FEWEST_WORDS]
    print(f"{len(chosen)} files, {sum(pages[name] for name in chosen)} pages")
    print(
        "| read by | words kept | worst file | glued per 1,000 | order | table rows | s per page | peak MB | failed |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for candidate in only:
        scores: dict[str, Score] = {}
        for name in chosen:
            line = found[candidate].get(name, {})
            others = [str(found[judge].get(name, {}).get("text", "")) for judge in JUDGES if judge != candidate]
            took = float(str(line.get("seconds", LIMIT_S))) / pages[name]
            scores[name] = judged(str(line.get("text", "")), known[name], others, took)
        if files:
            for name, score in sorted(scores.items(), key=lambda item: item[1].kept):
                print(f"  {candidate}: {name}: {score}")
        failed = sum(bool(found[candidate].get(name, {"error": "stopped"}).get("error")) for name in chosen)
        peak = max((int(str(line["peak"])) for line in found[candidate].values()), default=0)
        worst = min(score.kept for score in scores.values())
        each = list(scores.values())
        print(
            f"| {candidate} | {fmean(s.kept for s in each):.1%} | {worst:.0%} | {fmean(s.glued for s in each):.1f} | "
            f"{fmean(s.order for s in each):.1%} | {fmean(s.rows for s in each):.1%} | "
            f"{fmean(s.seconds for s in each):.3f} | {peak / 1e6:.0f} | {failed} |"
        )


if __name__ == "__main__":
    main()
