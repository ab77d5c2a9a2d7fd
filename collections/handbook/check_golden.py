"""Checks the golden files of this collection against its documents and prints counts.

    python collections/handbook/check_golden.py

Reads the documents itself, plainly, so that it does not depend on the framework it helps to judge.
Leaves with status 1 and a list when something is wrong.
"""

import csv
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import docx
import pyarrow.parquet as pq
from pdfminer.high_level import extract_text

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE / "documents"
LABELS = {"contract", "invoice", "incident", "policy", "ticket", "note"}
AWKWARD = {  # not readable documents; "handover-copy" is the second copy of a readable one
    "2026-10-09/linked-readme.md",
    "2026-10-09/tickets.csv#T-1061",
    "2026-10-10/minutes.md",
    "2026-10-11/scan-0093.pdf",
    "2026-10-15/fax-transcript.txt",
    "2026-10-16/handover-copy.txt",
}
NO_GOLDEN = AWKWARD | {"2026-10-10/night-shift-handover.txt"}
RARE = 3  # a word in at most this many documents is rare
# What a name query must find in a text, for queries that are not just the name.
NAME_PARTS = {
    "complaint by Eleanor Whitcombe": "Eleanor Whitcombe",
    "What did Donna Pashley do?": "Donna Pashley",
    "Fraser, driver on route 31": "Fraser",
    "flower exporter Van Zuylen": "Van Zuylen",
    "Where is Aneta Brodzik involved?": "Brodzik",
}


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.parts = []

    def handle_data(self, data):
        self.parts.append(data)


def pdf_text(path):
    return extract_text(str(path))


def docx_text(path):
    document = docx.Document(str(path))
    cells = [c.text for t in document.tables for row in t.rows for c in row.cells]
    return "\n".join([p.text for p in document.paragraphs] + cells)


def html_text(path):
    parser = Text()
    parser.feed(path.read_text(encoding="utf-8"))
    return " ".join(parser.parts)


def load():
    """{document id: text} of everything readable, plus the awkward ones as None."""
    found = {}
    for path in sorted(DOCUMENTS.rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(DOCUMENTS).as_posix()
        if name in AWKWARD:
            found[name] = None
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as handle:
                for row in csv.DictReader(handle):
                    found[f"{name}#{row['ticket_id']}"] = f"{row['subject']}\n{row['body']}"
        elif path.suffix == ".jsonl":
            for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                found[f"{name}#{row['note_id']}"] = f"{row['title']}\n{row['body']}"
        elif path.suffix == ".parquet":
            for row in pq.read_table(path).to_pylist():
                found[f"{name}#{row['invoice_id']}"] = f"{row['subject']}\n{row['body']}"
        else:
            read = {".pdf": pdf_text, ".docx": docx_text, ".html": html_text}
            get = read.get(path.suffix, lambda p: p.read_text(encoding="utf-8"))
            found[name] = get(path)
    return {name: None if name in AWKWARD else text for name, text in found.items()}


def words(text):
    return re.findall(r"[^\W\d_]+", text.lower())


def lines(name):
    return [json.loads(x) for x in (HERE / "golden" / name).read_text("utf-8").splitlines()]


def check(texts, labels, queries):
    """Yields one sentence for each thing that is wrong."""
    readable = {name: text for name, text in texts.items() if text is not None}
    seen = Counter(row["document"] for row in labels)
    for row in labels:
        name = row["document"]
        if name not in readable or name in NO_GOLDEN:
            yield f"label for {name}: not a readable document"
        if row["label"] not in LABELS:
            yield f"{name}: unknown label {row['label']}"
        if seen[name] > 1:
            yield f"{name}: labelled twice"
    stems = {name: {w[:5] for w in words(text)} for name, text in readable.items()}
    frequency = Counter(stem for each in stems.values() for stem in each)
    for row in queries:
        query, wanted = row["query"], set(row["documents"])
        if wanted - set(readable) or wanted & NO_GOLDEN:
            yield f"{query!r}: unknown documents {sorted(wanted - set(readable))}"
            continue
        if row["kind"] in ("name", "number"):
            term = NAME_PARTS.get(query, query)
            if row["kind"] == "number":
                term = re.search(r"\b[A-Z]+(?:-\d+)+\b", query)[0]
            holds = {n for n, t in readable.items() if term.lower() in " ".join(t.lower().split())}
            if holds != wanted:
                yield f"{query!r}: in the texts {sorted(holds)}, in the file {sorted(wanted)}"
        for name in wanted if row["kind"] == "paraphrase" else ():
            shared = {w for w in words(query) if w[:5] in stems[name]}
            rare = {w for w in shared if frequency[w[:5]] <= RARE}
            if rare:
                yield f"{query!r}: rare words {sorted(rare)} stand in {name}"
            run, text = words(query), " ".join(words(readable[name]))
            if any(" ".join(run[i : i + 4]) in text for i in range(len(run) - 3)):
                yield f"{query!r}: four words in a row stand in {name}"


def main():
    texts, labels, queries = load(), lines("labels.jsonl"), lines("queries.jsonl")
    readable = [name for name, text in texts.items() if text is not None]
    suffix = {name: Path(name.split("#")[0]).suffix for name in texts}
    label = {row["document"]: row["label"] for row in labels}
    print(f"{len(readable)} readable documents, {len(texts) - len(readable)} awkward")
    print("by day     ", dict(Counter(name[:10] for name in readable)))
    print("by format  ", dict(Counter(suffix[name] for name in readable)))
    print("golden     ", len(labels), dict(Counter(label.values())))
    print("  by day   ", dict(Counter(name[:10] for name in label)))
    print("  by format", dict(Counter(suffix.get(name, "?") for name in label)))
    print("queries    ", len(queries), dict(Counter(row["kind"] for row in queries)))
    counts = sorted((len(words(texts[name])), name) for name in readable)
    print("words      ", counts[0], counts[len(counts) // 2], counts[-1])
    wrong = list(check(texts, labels, queries))
    print("\n".join(wrong) or "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
