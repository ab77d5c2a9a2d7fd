"""Models that are loaded here, measured on a GPU: `python bench/gpu.py [--json FILE]`, in under eight minutes.

Runs by itself: needs torch, transformers and numpy, and neither Dagster nor a network nor weights, for the model has
the shape of all-MiniLM-L6-v2 and random numbers. What it measures is the library's own code (`ai_assets/local_models`).
Without a CUDA device it says so, and measures a small part on the processor. It downloads nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MISSING: str | None = None
try:
    import numpy as np
    import torch
    import transformers
except ModuleNotFoundError as error:
    MISSING = error.name

from ai_assets.local_models.batching import BatchLimits, TextTooLarge  # noqa: E402
from ai_assets.local_models.model_folder import read_folder  # noqa: E402
from ai_assets.local_models.torch_model import TorchModel  # noqa: E402

SHAPE = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "vocab_size": 30_522, "max_position_embeddings": 512,
}  # fmt: skip
INSTALL = "pip install torch 'transformers>=4.56,<6'"
DEADLINE_S = 420.0
REPEATS = 3
WANTED = 0.9
EQUAL = 0.9999
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--texts", type=int, help="how many (default: 20,000 on a GPU, 32 on a processor)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if MISSING is not None:
        parser.exit(2, f"It needs torch, transformers and numpy, and {MISSING} is not installed: {INSTALL}\n")
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
    if given.child is not None:
        return child(given.child, given.texts or 2_000)
    has_cuda = torch.cuda.is_available()
    device = "cuda:0" if has_cuda else "cpu"
    count = given.texts or (20_000 if has_cuda else 32)
    card = torch.cuda.get_device_name(0) if has_cuda else f"{platform.machine()}, {torch.get_num_threads()} threads"
    if not has_cuda:
        print("No CUDA device here: nothing below is a figure of a GPU. A small part runs on the processor.\n")
    bench = Bench(device=device, count=count)
    found = bench.run()
    found = {
        "device": device,
        "card": card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **found,
    }
    show(found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0 if found["passed"] else 1


class Bench:
    def __init__(self, *, device: str, count: int) -> None:
        self.device, self.count = device, count
        self.has_cuda = device != "cpu"
        self.began = time.monotonic()

    def run(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            self.path = made_model(Path(folder) / "model")
            checks: dict[str, Any] = {}
            parts: Sequence[tuple[str, Callable[[], dict[str, Any]]]] = (
                ("same vectors whatever the batch", self.equality),
                ("throughput", self.throughput),
                ("out of memory", self.out_of_memory),
                ("memory after release", self.release),
                ("two processes", self.two_processes),
            )
            for name, part in parts:
                if time.monotonic() - self.began > DEADLINE_S:
                    checks[name] = {"skipped": "no time left"}
                    continue
                began = time.monotonic()
                checks[name] = {**outcome(part), "took_s": round(time.monotonic() - began, 2)}
        wrong = [name for name, each in checks.items() if each.get("holds") is False]
        return {
            "checks": checks,
            "passed": not wrong,
            "wrong": wrong,
            "seconds": round(time.monotonic() - self.began, 1),
        }

    def model(self, **more: Any) -> TorchModel:
        return TorchModel(read_folder(self.path, "bench", "embed"), device=self.device, **more)

    # What is measured

    def equality(self) -> dict[str, Any]:
        texts = ragged(min(self.count, 256), seed=1)
        full = self.model(dtype="float32")
        whole = full.embed(texts)
        full.limits = BatchLimits(tokens=512)
        small = full.embed(texts)
        full.close()
        found = {"cosine_small_batches": least_cosine(whole, small)}
        chosen = self.model()
        found |= {"cosine_auto": least_cosine(whole, chosen.embed(texts)), "auto_dtype": chosen.dtype}  # type: ignore[dict-item]
        chosen.close()
        return {**found, "holds": min(found["cosine_small_batches"], found["cosine_auto"]) >= EQUAL}

    def throughput(self) -> dict[str, Any]:
        """Against bare torch on the same texts, and against bare torch on texts of one length with as many tokens."""
        texts = ragged(self.count, seed=2)
        model = self.model()
        model.embed(texts[:64])
        bare = Bare(self.path, self.device, model.dtype, model)
        bare.embed(texts[:64])
        tokens = sum(len(text.split()) + 2 for text in texts)
        even = words(len(texts), [max(1, round(tokens / len(texts)) - 2)] * len(texts), seed=3)
        even_tokens = sum(len(text.split()) + 2 for text in even)
        ours, same, one, alike = [], [], [], []
        for _ in range(REPEATS):
            ours.append(seconds(lambda: model.embed(texts), self.has_cuda))
            same.append(seconds(lambda: bare.embed(texts), self.has_cuda))
            one.append(seconds(lambda: bare.embed(even), self.has_cuda))
            alike.append(seconds(lambda: model.embed(even), self.has_cuda))
        cosine = least_cosine(model.embed(texts[:256]), bare.embed(texts[:256]))
        model.close()
        rates = {
            "ours": tokens / min(ours), "bare_same": tokens / min(same), "bare_one_length": even_tokens / min(one),
            "ours_one_length": even_tokens / min(alike),
        }  # fmt: skip
        against_same, against_one = rates["ours"] / rates["bare_same"], rates["ours"] / rates["bare_one_length"]
        return {
            "texts": len(texts), "tokens": tokens, "dtype": bare.dtype,
            "texts_per_s": round(len(texts) / min(ours), 1),
            **{f"{name}_tokens_per_s": round(rate) for name, rate in rates.items()},
            "against_bare_same_texts": round(against_same, 3), "against_bare_one_length": round(against_one, 3),
            "against_ours_one_length": round(rates["ours"] / rates["ours_one_length"], 3),
            "cosine": cosine,
            # Per second of processor without a GPU, which says nothing of one.
            "holds": (min(against_same, against_one) >= WANTED and cosine >= 0.999) if self.has_cuda else None,
        }  # fmt: skip

    def out_of_memory(self) -> dict[str, Any]:
        """A batch that does not fit is halved, what fitted is known afterwards, and the vectors are the same."""
        if not self.has_cuda:
            return {"skipped": "on a processor tests/test_torch_models.py does it"}
        texts = ragged(2_000, seed=4)
        model = self.model(dtype="float32")
        expected = model.embed(texts)
        model.close()
        model = self.model(dtype="float32", limits=BatchLimits(tokens=1 << 21, texts=1 << 20))
        model.embed(texts[:8])
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved(0) + 256 * MIB) / total), 0)
        try:
            found = model.embed(texts)
            cosine, fitted = least_cosine(expected, found), model.limits.tokens
        except TextTooLarge as error:
            return {"holds": False, "said": str(error)}
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, 0)
            model.close()
        return {
            "began_with": 1 << 21,
            "fitted": fitted,
            "cosine": cosine,
            "holds": fitted < 1 << 21 and cosine >= EQUAL,
        }

    def release(self) -> dict[str, Any]:
        model = self.model()
        model.embed(ragged(min(self.count, 512), seed=5))
        held = model.held_bytes
        model.close()
        if not self.has_cuda:
            return {"held_bytes": held, "after_bytes": 0, "holds": None}
        after = (torch.cuda.memory_allocated(0), torch.cuda.memory_reserved(0))
        before_child = used_bytes()
        process = self._child(512)
        process.wait()
        return {
            "held_bytes": held, "allocated_after": after[0], "reserved_after": after[1],
            "used_by_an_ended_process": max(0, used_bytes() - before_child),
            "holds": after == (0, 0) and used_bytes() <= before_child + 8 * MIB,
        }  # fmt: skip

    def two_processes(self) -> dict[str, Any]:
        """One after the other against both at once: why a device is held by one process at a time."""
        if not self.has_cuda:
            return {"skipped": "two processes on a processor say nothing of a GPU"}
        count = 6_000
        alone = seconds(lambda: [self._child(count).wait() for _ in range(2)], self.has_cuda)
        both = seconds(lambda: [each.wait() for each in [self._child(count) for _ in range(2)]], self.has_cuda)
        return {"one_after_the_other_s": round(alone, 2), "both_at_once_s": round(both, 2), "holds": None}

    def _child(self, count: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, __file__, "--child", str(self.path), "--texts", str(count)], stdout=subprocess.DEVNULL
        )


def outcome(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A part that fails takes no other figures with it: such a machine is often lent once, and for minutes."""
    try:
        return part()
    except Exception as error:  # noqa: BLE001 - torch and its driver may raise anything
        return {"holds": False, "failed": f"{type(error).__name__}: {error}"[:500]}


def child(path: Path, count: int) -> int:
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    model = TorchModel(read_folder(path, "bench", "embed"), device=device)
    model.embed(ragged(count, seed=6))
    return 0


class Bare:
    """The same model with nothing around it: sorted texts, batches of one size, one copy at the end."""

    def __init__(self, path: Path, device: str, dtype: str, like: TorchModel) -> None:
        self.dtype, self.device = dtype, device
        self.model = transformers.AutoModel.from_pretrained(path, dtype=getattr(torch, dtype)).to(device).eval()
        self.tokenizer = like._tokenizer
        self.batch = 256 if device != "cpu" else 16

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        encodings = self.tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda place: -len(encodings[place].ids))
        out = torch.zeros(len(texts), SHAPE["hidden_size"], device=self.device)
        with torch.inference_mode():
            for at in range(0, len(order), self.batch):
                places = order[at : at + self.batch]
                width = len(encodings[places[0]].ids)
                ids = np.zeros((len(places), width), dtype=np.int64)
                mask = np.zeros_like(ids)
                for row, place in enumerate(places):
                    size = len(encodings[place].ids)
                    ids[row, :size], mask[row, :size] = encodings[place].ids, 1
                given = torch.from_numpy(mask).to(self.device)
                states = self.model(
                    input_ids=torch.from_numpy(ids).to(self.device), attention_mask=given
                ).last_hidden_state.float()
                weights = given.unsqueeze(-1).float()
                pooled = (states * weights).sum(1) / weights.sum(1)
                out[torch.tensor(places, device=self.device)] = torch.nn.functional.normalize(pooled, dim=1)
        found: np.ndarray = out.cpu().numpy()
        return found


def made_model(folder: Path) -> Path:
    """Of MiniLM's shape, in half precision on disk (45 MiB), with a word for each of its tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    torch.manual_seed(7)
    transformers.utils.logging.disable_progress_bar()
    config = transformers.BertConfig(**SHAPE)
    transformers.BertModel(config, add_pooling_layer=False).half().save_pretrained(folder)
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
    vocabulary |= {f"w{number}": number for number in range(4, SHAPE["vocab_size"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    return folder


def ragged(count: int, seed: int) -> list[str]:
    """As passages are: half of them below 60 words, few above 250."""
    drawn = np.random.default_rng(seed)
    return words(count, np.clip(drawn.lognormal(4.0, 0.7, count), 3, 400).astype(int), seed)


def words(count: int, sizes: Sequence[int] | np.ndarray, seed: int) -> list[str]:
    drawn = np.random.default_rng(seed)
    return [" ".join(f"w{number}" for number in drawn.integers(4, SHAPE["vocab_size"], size)) for size in sizes[:count]]


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one.astype(np.float64) * other).sum(axis=1).min())


def seconds(work: Callable[[], Any], has_cuda: bool) -> float:
    """By the clock; without a GPU of processor, since the machine has other work too."""
    if not has_cuda:
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def used_bytes() -> int:
    free, total = torch.cuda.mem_get_info(0)
    return total - free


def show(found: dict[str, Any]) -> None:
    print(f"{found['card']} ({found['device']}), torch {found['torch']}, {found['seconds']} s\n")
    for name, each in found["checks"].items():
        holds = each.get("holds")
        mark = "skipped" if "skipped" in each else "not judged" if holds is None else "holds" if holds else "FAILS"
        print(f"{name:34} {mark}")
        for key, value in each.items():
            if key != "holds":
                shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
                print(f"    {key:30} {shown}")
    print("\nAll that was judged holds." if found["passed"] else f"\nFails: {', '.join(found['wrong'])}")


if __name__ == "__main__":
    sys.exit(main())
