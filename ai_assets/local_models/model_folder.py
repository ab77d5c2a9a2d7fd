"""What a folder with a model says of itself: read from its JSON files, without torch and without its weights.

The layout is that of sentence-transformers and transformers: `config.json`, `tokenizer.json`, weights, and for an
embedder `modules.json` with a pooling. A model may also be a package that has such a folder inside.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ai_assets.base.plural import plural

Task = Literal["embed", "rerank", "classify"]
Pooling = Literal["mean", "cls", "max", "last", "mean_sqrt_len", "weighted_mean"]
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_LENGTH = 1_000_000
"""Tokenizers write a larger number where they know no limit."""
_POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
_NAMED_POOLINGS: Mapping[str, Pooling] = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}


class FolderWrong(Exception):
    """What is wrong with a model's folder, as half a sentence."""


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """A layer after the pooling."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model that can be loaded."""

    path: Path
    name: str
    task: Task
    dimensions: int
    """Of its vectors, or the number of labels of a classifier; 1 for a reranker."""
    max_tokens: int
    pooling: Pooling = "mean"
    dense: tuple[DenseLayer, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What stands before a text, by kind: `query`, `passage`."""
    labels: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All that decides what it computes, in order."""
        suffixes = {".json", ".safetensors", ".bin", ".txt", ".model"}
        found = (path for path in self.path.rglob("*") if path.is_file() and path.suffix in suffixes)
        return tuple(sorted(path for path in found if not path.relative_to(self.path).parts[0].startswith(".")))


def find_folder(model: str, near: Path | None = None) -> Path:
    """The folder of that name, relative to `near`, or the one inside an installed package. FolderWrong otherwise."""
    for base in (near, Path.cwd()) if near is not None else (Path.cwd(),):
        path = (base / model).expanduser()
        if path.is_dir():
            return path.resolve()
    packed = _in_package(model)
    if packed is not None:
        return packed
    if "/" in model and not model.startswith((".", "/", "~")):
        raise FolderWrong(
            f"there is no folder '{model}', and nothing is downloaded: fetch the model yourself (for instance hf "
            f"download {model} --local-dir models/{model.rpartition('/')[2]}) and write that folder"
        )
    where = f" (looked in {near} and in {Path.cwd()})" if near is not None else f" (looked in {Path.cwd()})"
    raise FolderWrong(f"there is no folder and no installed package '{model}'{where}")


def _in_package(model: str) -> Path | None:
    """The folder with a `config.json` that a distribution or a package of that name has inside."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model):
        return None
    try:
        files = importlib.metadata.files(model) or []
    except importlib.metadata.PackageNotFoundError:
        return _in_module(model.replace("-", "_"))
    found = sorted((file for file in files if file.name == "config.json"), key=lambda file: len(file.parts))
    places = (Path(str(file.locate())).parent for file in found)
    return next((place.resolve() for place in places if _has_weights(place)), None)


def _in_module(name: str) -> Path | None:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        for config in sorted(Path(root).rglob("config.json"), key=lambda path: len(path.parts)):
            if _has_weights(config.parent):
                return config.parent.resolve()
    return None


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in WEIGHTS)


def read_folder(path: Path, name: str, task: Task) -> ModelFolder:
    """FolderWrong where something that is needed is missing or is not understood."""
    config = _json(path / "config.json", "it has no config.json")
    if not _has_weights(path):
        others = [file.name for file in sorted(path.glob("*.onnx")) + sorted(path.glob("*.gguf"))]
        beside = f"; {others[0]} is of a kind that torch does not read" if others else ""
        raise FolderWrong(f"it has no weights (looked for {WEIGHTS[0]} and {WEIGHTS[2]}{beside})")
    hidden = int(config.get("hidden_size") or config.get("d_model") or config.get("dim") or 0)
    if task == "embed":
        return _embedder(path, name, config, hidden)
    labels = _labels(config)
    if task == "rerank" and not any("SequenceClassification" in each for each in config.get("architectures") or ()):
        said = ", ".join(config.get("architectures") or ()) or "no architecture"
        raise FolderWrong(f"it is no reranker, but an embedder or something else ({said}): a reranker reads two texts")
    if task == "rerank" and len(labels) != 1:
        raise FolderWrong(f"a reranker gives one score, and this model has {plural(len(labels), 'label')}")
    return ModelFolder(
        path=path, name=name, task=task, dimensions=len(labels), max_tokens=_max_tokens(path, config), labels=labels
    )


def _embedder(path: Path, name: str, config: Mapping[str, Any], hidden: int) -> ModelFolder:
    if not hidden:
        raise FolderWrong("its config.json does not say how long its vectors are (hidden_size)")
    pooling: Pooling = "mean"
    dense: list[DenseLayer] = []
    if (path / "modules.json").is_file():
        for module in _json(path / "modules.json", ""):
            kind, folder = str(module["type"]).rpartition(".")[2], path / module["path"]
            match kind:
                case "Transformer" | "Normalize":
                    continue
                case "Pooling":
                    pooling = _pooling(_json(folder / "config.json", f"{module['path']} has no config.json"))
                case "Dense":
                    dense.append(_dense(folder))
                case _:
                    raise FolderWrong(f"its modules.json names a module of the kind {kind}, which is not known here")
    said = _json(path / "config_sentence_transformers.json", None)
    prompts = {str(name): str(text) for name, text in (said.get("prompts") or {}).items()}
    known = {
        "query": prompts.get("query", ""),
        "passage": prompts.get("passage", prompts.get("document", "")),
    }
    return ModelFolder(
        path=path,
        name=name,
        task="embed",
        dimensions=dense[-1].outputs if dense else hidden,
        max_tokens=_max_tokens(path, config),
        pooling=pooling,
        dense=tuple(dense),
        prompts={kind: text for kind, text in known.items() if text},
    )


def _pooling(said: Mapping[str, Any]) -> Pooling:
    named = said.get("pooling_mode")
    chosen = [_NAMED_POOLINGS.get(str(named))] if named else [kind for key, kind in _POOLINGS.items() if said.get(key)]
    if len(chosen) != 1 or chosen[0] is None:
        found = str(named) if named else " and ".join(str(kind) for kind in chosen) or "none"
        raise FolderWrong(f"its pooling is {found}, and one of {', '.join(_NAMED_POOLINGS)} is known here")
    return chosen[0]


def _dense(folder: Path) -> DenseLayer:
    said = _json(folder / "config.json", f"{folder.name} has no config.json")
    if not any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        raise FolderWrong(f"{folder.name} has no weights")
    return DenseLayer(
        folder=folder,
        inputs=int(said["in_features"]),
        outputs=int(said["out_features"]),
        bias=bool(said.get("bias", True)),
        activation=str(said.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2],
    )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    named: Mapping[str, str] = config.get("id2label") or {}
    if named:
        return tuple(named[key] for key in sorted(named, key=int))
    return tuple(f"LABEL_{number}" for number in range(int(config.get("num_labels") or 2)))


def _max_tokens(path: Path, config: Mapping[str, Any]) -> int:
    """The smallest of what its files say; 512 where none does."""
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these count from behind the padding token
    said = [
        _json(path / "sentence_bert_config.json", None).get("max_seq_length"),
        _json(path / "tokenizer_config.json", None).get("model_max_length"),
        positions,
    ]
    known = [int(each) for each in said if each and 0 < each < LARGEST_LENGTH]
    return min(known, default=512)


def _json(path: Path, missing: str | None) -> Any:
    """`missing` is what is wrong where it is not there; None where it need not be."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if missing is None:
            return {}
        raise FolderWrong(missing) from None
    except (OSError, ValueError) as error:
        raise FolderWrong(f"{path.name} cannot be read: {error}") from error
