"""Chunks and embeddings per second: our stages against the two libraries called directly, on the same texts.

    python bench/embed.py [--documents 4000] [--repeats 5]

Both sides cut with the same splitter and settings. Repeats alternate and each starts without cached words; the last
column is the largest difference of any number of any vector.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ai_assets.stages.chunk import chunk_document  # noqa: E402
from ai_assets.stages.embed import embed_chunks  # noqa: E402
from bench.hybrid_search import documents  # noqa: E402
from resources.backends import builtin  # noqa: E402

MAX_CHARACTERS, OVERLAP = 1200, 100


def library() -> Callable[[list[str]], np.ndarray]:
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


def main() -> None:
    import numpy as np
    from semantic_text_splitter import MarkdownSplitter

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    texts = [f"{each.summary}\n\n{each.body}" for each in documents()[: options.documents]]
    embed, ours = library(), builtin.BuiltinEmbedder()

    def their_chunks() -> list[str]:
        splitter = MarkdownSplitter(MAX_CHARACTERS, OVERLAP)
        return [passage for text in texts for passage in splitter.chunks(text)]

    def our_chunks() -> dict[str, str]:
        settings = {"max_characters": MAX_CHARACTERS, "overlap": OVERLAP}
        chunks = [chunk for i, text in enumerate(texts) for chunk in chunk_document(str(i), text, **settings)]
        return {chunk.text_digest: chunk.text for chunk in chunks}

    passages = their_chunks()
    tasks: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "embed passages": (lambda: embed(passages), lambda: ours.embed(passages)),
        "embed whole documents": (lambda: embed(texts), lambda: ours.embed(texts)),
        "chunk + embed": (lambda: embed(their_chunks()), lambda: embed_chunks(our_chunks(), {}, ours)),
    }
    difference = float(np.abs(embed(passages) - ours.embed(passages)).max())
    print(f"{len(texts):,} documents, {len(passages):,} passages, {sum(map(len, passages)):,} characters\n")
    print("| task | library, s | ours, s | ratio | largest difference |\n|---|---|---|---|---|")
    for name, sides in tasks.items():
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.repeats):
            for side, times in zip(sides, took, strict=True):
                builtin._load().forget()
                started = time.perf_counter()
                side()
                times.append(time.perf_counter() - started)
        theirs, mine = (statistics.median(times) for times in took)
        print(f"| {name} | {theirs:.2f} | {mine:.2f} | {theirs / mine:.1f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
