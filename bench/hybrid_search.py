"""Recall and MRR of vector, text and hybrid search on a corpus we did not write: docstrings of Python packages.

A document is a docstring without its summary line and without its own name. Queries, each with one right document:
`summary` is the removed line, `name` a qualified name that one body mentions, `rare` a number or word of one body only.
"""

import ast
import hashlib
import random
import re
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ai_assets.documents.chunk import chunk_document
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.storage.index import Mode, SearchIndex
from bench.measure import Figure

if TYPE_CHECKING:
    import pyarrow as pa

MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")
KINDS = ("summary", "name", "rare")
PACKAGES = ("numpy", "pandas", "pyarrow", "sqlalchemy", "scipy", "networkx", "click", "starlette", "lxml", "requests")
DOCUMENTS = 6_000
WORD = re.compile(r"\w+")
DOTTED = re.compile(r"\b[A-Za-z_]\w+(?:\.[A-Za-z_]\w+)+\b")
RARE = re.compile(r"\b(?:\d[\d.,:/-]{2,}\d|[a-zA-Z_]*\d[\w-]{2,}|[A-Za-z]{5,20})\b")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One docstring."""

    name: str
    module: str
    summary: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked, and the one document that answers it."""

    kind: str
    text: str
    document: str


def sources() -> Iterator[tuple[str, Path]]:
    standard = Path(sysconfig.get_path("stdlib"))
    for path in sorted(standard.rglob("*.py")):
        parts = path.relative_to(standard).with_suffix("").parts
        if not {"test", "tests", "idlelib", "lib2to3", "site-packages"} & set(parts):
            yield ".".join(parts), path
    installed = Path(sysconfig.get_path("purelib"))
    for package in PACKAGES:
        for path in sorted((installed / package).rglob("*.py")):
            parts = path.relative_to(installed).with_suffix("").parts
            if not {"test", "tests"} & set(parts):
                yield ".".join(parts), path


def documents() -> list[Document]:
    found: dict[str, Document] = {}
    for module, path in sources():
        for node, summary, body in docstrings_of(path, least_words=40):
            digest = hashlib.sha256(body.encode()).hexdigest()
            name = f"{module}.{node.name}:{node.lineno}"
            found.setdefault(digest, Document(name=name, module=module, summary=summary, body=body))
    return list(found.values())


Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def docstrings_of(path: Path, *, least_words: int) -> Iterator[tuple[Named, str, str]]:
    """Summary and body of each docstring that is long enough; in the body without the name of what it is of."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, Named):
            continue
        summary, _, body = (ast.get_docstring(node) or "").partition("\n\n")
        summary, body = " ".join(summary.split()), re.sub(rf"\b{re.escape(node.name)}\b", " ", body).strip()
        if len(WORD.findall(body)) >= least_words and 4 <= len(WORD.findall(summary)) <= 40:
            yield node, summary, body


def queries(corpus: list[Document], per_kind: int, rng: random.Random) -> list[Query]:
    dotted = Counter(name for each in corpus for name in set(DOTTED.findall(each.body)))
    words = Counter(word for each in corpus for word in {w.lower() for w in RARE.findall(each.body)})
    summaries = Counter(each.summary for each in corpus)
    made: dict[str, list[Query]] = {kind: [] for kind in KINDS}
    for each in corpus:
        if summaries[each.summary] == 1:
            made["summary"].append(Query(kind="summary", text=each.summary, document=each.name))
        names = sorted(name for name in set(DOTTED.findall(each.body)) if dotted[name] == 1)
        if names:
            made["name"].append(Query(kind="name", text=rng.choice(names), document=each.name))
        rare = sorted(word for word in set(RARE.findall(each.body)) if words[word.lower()] == 1)
        if rare:
            made["rare"].append(Query(kind="rare", text=rng.choice(rare), document=each.name))
    return [query for kind in KINDS for query in rng.sample(made[kind], min(per_kind, len(made[kind])))]


def rows(corpus: list[Document], embedder: BuiltinEmbedder) -> "dict[str, pa.Table]":
    import numpy as np
    import pyarrow as pa

    chunks = [
        (each, chunk)
        for each in corpus
        for chunk in chunk_document(each.name, each.body, max_characters=1200, overlap=100)
    ]
    vectors = embedder.embed([chunk.text for _, chunk in chunks])
    table = pa.table(
        {
            "chunk_id": [chunk.chunk_id for _, chunk in chunks],
            "document_id": [each.name for each, _ in chunks],
            "partition": [each.module.partition(".")[0] for each, _ in chunks],
            "title": [each.module for each, _ in chunks],
            "text": [chunk.text for _, chunk in chunks],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(vectors)), embedder.dimensions),
        }
    )
    packages = table["partition"].to_pylist()
    return {name: table.filter(pa.array([p == name for p in packages])) for name in sorted(set(packages))}


def measure(seed: int = 20261121, per_kind: int = 150) -> list[Figure]:
    rng = random.Random(seed)
    everything = documents()
    corpus = rng.sample(everything, min(DOCUMENTS, len(everything)))
    asked = queries(corpus, per_kind, rng)
    embedder = BuiltinEmbedder()
    with tempfile.TemporaryDirectory() as folder:
        index = SearchIndex(Path(folder), "bench", embedder.dimensions)
        version = index.replace(rows(corpus, embedder), base_version=None)
        vectors = embedder.embed([query.text for query in asked])
        ranks: dict[tuple[str, Mode], list[int | None]] = {}
        took: dict[tuple[str, Mode], float] = defaultdict(float)
        for mode in MODES:
            for query, vector in zip(asked, vectors, strict=True):
                started = time.perf_counter()
                hits = index.search(version, vector, query.text, 50, mode)
                for kind in (query.kind, "all"):
                    took[kind, mode] += time.perf_counter() - started
                    rank = next((i for i, hit in enumerate(hits, 1) if hit.document_id == query.document), None)
                    ranks.setdefault((kind, mode), []).append(rank)
    table = Table("queries", "mode", "recall@1", "recall@5", "MRR", "ms per query")
    for kind in (*KINDS, "all"):
        for mode in MODES:
            got = ranks[kind, mode]
            mrr = sum(1 / rank for rank in got if rank) / len(got)
            shares = [f"{_share(got, k):.3f}" for k in (1, 5)]
            table.add_row(
                f"{kind} ({len(got)})", mode, *shares, f"{mrr:.3f}", f"{took[kind, mode] / len(got) * 1e3:.1f}"
            )
    Console().print(table)
    return [
        Figure(
            name="recall@5 of search, both combined - vectors alone",
            value=_share(ranks["all", "hybrid"], 5) - _share(ranks["all", "vector"], 5),
            limit=0,
            at_most=False,
            detail=f"{_share(ranks['all', 'hybrid'], 5):.2f} and {_share(ranks['all', 'vector'], 5):.2f} on "
            f"{len(corpus):,} docstrings we did not write, {len(asked)} queries",
        )
    ]


def _share(ranks: list[int | None], k: int) -> float:
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks)
