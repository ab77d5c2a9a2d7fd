"""The same assets as a tutorial would write them: a function per asset, a run per partition, the default executor."""

from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd

ROOT = Path(__file__).parent
OUT = ROOT / "out"
DAYS = dg.DailyPartitionsDefinition(start_date="2026-09-01", end_date="2026-10-01")
LABELS = {
    "invoice": "A bill that asks for payment of an amount that is due.",
    "contract": "An agreement between parties with terms and notice.",
    "incident": "A report of an outage or damage with cause and action.",
    "ticket": "A customer asks for help or complains about a delivery.",
}


def _path(asset: str, day: str) -> Path:
    path = OUT / asset / f"{day}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _model():  # type: ignore[no-untyped-def]
    import wordllama
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    root = Path(wordllama.__file__).parent
    vectors = next(iter(load_file(root / "weights" / "l2_supercat_256.safetensors").values())).astype(np.float32)
    tokenizer = Tokenizer.from_file(str(root / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    return WordLlamaInference(embedding=vectors, tokenizer=tokenizer)


@dg.asset(partitions_def=DAYS)
def documents(context: dg.AssetExecutionContext) -> None:
    day = context.partition_key
    rows = [{"id": path.name, "text": path.read_text()} for path in sorted((ROOT / "documents" / day).glob("*.txt"))]
    pd.DataFrame(rows).to_parquet(_path("documents", day))


@dg.asset(partitions_def=DAYS, deps=[documents])
def chunks(context: dg.AssetExecutionContext) -> None:
    from semantic_text_splitter import TextSplitter

    day = context.partition_key
    splitter = TextSplitter(800)
    frame = pd.read_parquet(_path("documents", day))
    rows = [{"id": row.id, "text": part} for row in frame.itertuples() for part in splitter.chunks(row.text)]
    pd.DataFrame(rows).to_parquet(_path("chunks", day))


@dg.asset(partitions_def=DAYS, deps=[chunks])
def embeddings(context: dg.AssetExecutionContext) -> None:
    day = context.partition_key
    frame = pd.read_parquet(_path("chunks", day))
    frame["vector"] = list(_model().embed(frame["text"].tolist(), norm=True))
    frame.to_parquet(_path("embeddings", day))


@dg.asset(partitions_def=DAYS, deps=[documents])
def classification(context: dg.AssetExecutionContext) -> None:
    day = context.partition_key
    frame = pd.read_parquet(_path("documents", day))
    model = _model()
    scores = model.embed(frame["text"].tolist(), norm=True) @ model.embed(list(LABELS.values()), norm=True).T
    frame["label"] = [list(LABELS)[place] for place in scores.argmax(axis=1)]
    frame.to_parquet(_path("classification", day))


defs = dg.Definitions(assets=[documents, chunks, embeddings, classification])
