"""Chunks and embeddings per second: our stages against the two libraries called directly, on the same texts.

Both sides cut with the same splitter and settings. Repeats alternate, and each starts without cached words.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.documents.chunk import chunk_document
from ai_assets.embedding import builtin
from bench.hybrid_search import documents
from bench.measure import Figure, median_ratio

if TYPE_CHECKING:
    import numpy as np

MAX_CHARACTERS, OVERLAP = 1200, 100


def library() -> "Callable[[list[str]], np.ndarray]":
    """WordLlama as its README uses it, with the files it ships."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    spec = importlib.util.find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    vectors = next(iter(load_file(root / "weights" / "l2_supercat_256.safetensors").values()))
    tokenizer = Tokenizer.from_file(str(root / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    model = WordLlamaInference(embedding=vectors, tokenizer=tokenizer)
    return lambda texts: model.embed(texts, norm=True)


def measure(count: int = 4_000, repeats: int = 5) -> list[Figure]:
    import numpy as np
    from semantic_text_splitter import MarkdownSplitter

    texts = [f"{each.summary}\n\n{each.body}" for each in documents()[:count]]
    embed, ours = library(), builtin.BuiltinEmbedder()

    def their_chunks() -> list[str]:
        splitter = MarkdownSplitter(MAX_CHARACTERS, OVERLAP)
        return [passage for text in texts for passage in splitter.chunks(text)]

    def our_texts() -> list[str]:
        settings = {"max_characters": MAX_CHARACTERS, "overlap": OVERLAP}
        chunks = [chunk for i, text in enumerate(texts) for chunk in chunk_document(str(i), text, **settings)]
        return list({chunk.text_digest: chunk.text for chunk in chunks}.values())

    passages = their_chunks()
    difference = float(np.abs(embed(passages) - ours.embed(passages)).max())
    tasks: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "chunk + embed": (lambda: embed(their_chunks()), lambda: ours.embed(our_texts())),
        "embed whole ragged texts": (lambda: embed(texts), lambda: ours.embed(texts)),
    }
    figures = []
    for name, sides in tasks.items():
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for side, times in zip(sides, took, strict=True):
                builtin._load().forget()
                started = time.perf_counter()
                side()
                times.append(time.perf_counter() - started)
        theirs, mine = (len(texts) / statistics.median(times) for times in took)
        figures.append(
            Figure(
                name=f"documents per second, {name}: ours / library",
                value=median_ratio(took[0], took[1]),
                limit=2,
                at_most=False,
                detail=f"{mine:,.0f} and {theirs:,.0f} documents/s; vectors differ by at most {difference:.0e}",
            )
        )
    return figures
