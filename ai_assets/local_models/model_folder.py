"""What a folder with a model says of itself: read from its JSON files, without torch and without its weights.

The layout is that of sentence-transformers and transformers: `config.json`, `tokenizer.json`, weights, and for an
embedder `modules.json` with a pooling. A model may also be a package that has such a folder inside.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ai_assets.base.plural import plural

Task = Literal["embed", "rerank", "classify"]
Pooling = Literal["mean", "cls", "max", "last", "mean_sqrt_len", "weighted_mean"]
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_LENGTH = 1_000_000
"""Tokenizers write a larger number where they know no limit."""
AGAIN = "correct it there, or fetch the model again"
_ARTICLES: Mapping[type, str] = {list: "a list", dict: "an object", str: "a text", bool: "true or false"}
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
    vocabulary: int = 0
    """How many tokens its weights know; 0 where its config does not say."""

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
    config = _object(path, "config.json", "it has no config.json")
    if not _has_weights(path):
        others = [file.name for file in sorted(path.glob("*.onnx")) + sorted(path.glob("*.gguf"))]
        beside = f"; {others[0]} is of a kind that torch does not read" if others else ""
        raise FolderWrong(f"it has no weights (looked for {WEIGHTS[0]} and {WEIGHTS[2]}{beside})")
    hidden = next(
        (size for key in ("hidden_size", "d_model", "dim") if (size := _whole(config, key, "config.json"))), 0
    )
    if task == "embed":
        return _embedder(path, name, config, hidden)
    labels = _labels(config)
    built = _names(config, "architectures", "config.json")
    if not any("SequenceClassification" in each for each in built):
        said = ", ".join(built) or "no architecture"
        what, why = _TASKS[task]
        raise FolderWrong(f"it is no {what}, but an embedder or something else ({said}): a {what} {why}")
    if task == "rerank" and len(labels) != 1:
        raise FolderWrong(f"a reranker gives one score, and this model has {plural(len(labels), 'label')}")
    return ModelFolder(
        path=path,
        name=name,
        task=task,
        dimensions=len(labels),
        max_tokens=_max_tokens(path, config),
        labels=labels,
        vocabulary=_whole(config, "vocab_size", "config.json"),
    )


_TASKS: Mapping[Task, tuple[str, str]] = {
    "rerank": ("reranker", "reads two texts"),
    "classify": ("classifier", "has weights for its labels"),
}


def _embedder(path: Path, name: str, config: Mapping[str, Any], hidden: int) -> ModelFolder:
    if not hidden:
        raise FolderWrong("its config.json does not say how long its vectors are (hidden_size)")
    pooling: Pooling = "mean"
    dense: list[DenseLayer] = []
    if (path / "modules.json").is_file():
        for at, kind in _modules(path):
            match kind:
                case "Transformer" | "Normalize":
                    continue
                case "Pooling":
                    pooling = _pooling(_object(path, f"{at}/config.json", f"{at} has no config.json"))
                case "Dense":
                    dense.append(_dense(path, at))
                case _:
                    raise FolderWrong(f"its modules.json names a module of the kind {kind}, which is not known here")
    file = "config_sentence_transformers.json"
    said = _object(path, file, None).get("prompts") or {}
    prompts = {str(name): str(text) for name, text in _is(said, dict, f"prompts of {file}").items()}
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
        vocabulary=_whole(config, "vocab_size", "config.json"),
    )


def _modules(path: Path) -> Iterator[tuple[str, str]]:
    """The folder of each, and its kind."""
    for module in _is(_json(path, "modules.json", ""), list, "modules.json"):
        said = _is(module, dict, "a module in modules.json")
        if not isinstance(said.get("type"), str) or not isinstance(said.get("path"), str):
            raise FolderWrong(f"a module in modules.json has no 'type' and 'path' that are texts; {AGAIN}")
        yield said["path"], said["type"].rpartition(".")[2]


def _pooling(said: Mapping[str, Any]) -> Pooling:
    named = said.get("pooling_mode")
    chosen = [_NAMED_POOLINGS.get(str(named))] if named else [kind for key, kind in _POOLINGS.items() if said.get(key)]
    if len(chosen) != 1 or chosen[0] is None:
        found = str(named) if named else " and ".join(str(kind) for kind in chosen) or "none"
        raise FolderWrong(f"its pooling is {found}, and one of {', '.join(_NAMED_POOLINGS)} is known here")
    return chosen[0]


def _dense(path: Path, at: str) -> DenseLayer:
    file, folder = f"{at}/config.json", path / at
    said = _object(path, file, f"{at} has no config.json")
    if not any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        raise FolderWrong(f"{at} has no weights")
    sizes = [_whole(said, key, file) for key in ("in_features", "out_features")]
    if not all(sizes):
        raise FolderWrong(f"{file} does not say in_features and out_features; {AGAIN}")
    return DenseLayer(
        folder=folder,
        inputs=sizes[0],
        outputs=sizes[1],
        bias=bool(said.get("bias", True)),
        activation=str(said.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2],
    )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    named = _is(config.get("id2label") or {}, dict, "id2label of config.json")
    if not all(key.isdecimal() and isinstance(name, str) for key, name in named.items()):
        raise FolderWrong(f"id2label of config.json is not numbers with the names of labels; {AGAIN}")
    if named:
        return tuple(named[key] for key in sorted(named, key=int))
    return tuple(f"LABEL_{number}" for number in range(_whole(config, "num_labels", "config.json") or 2))


def _max_tokens(path: Path, config: Mapping[str, Any]) -> int:
    """The smallest of what its files say; 512 where none does."""
    positions = _whole(config, "max_position_embeddings", "config.json")
    if positions and config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these count from behind the padding token
    said = [
        _whole(_object(path, file, None), key, file)
        for file, key in (
            ("sentence_bert_config.json", "max_seq_length"),
            ("tokenizer_config.json", "model_max_length"),
        )
    ]
    known = [each for each in (*said, positions) if 0 < each < LARGEST_LENGTH]
    return min(known, default=512)


def _object(path: Path, file: str, missing: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _is(_json(path, file, missing), dict, file)
    return found


def _is(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        found = _ARTICLES.get(type(value), "something else")
        raise FolderWrong(f"{what} should be {_ARTICLES[kind]}, and {found} was found; {AGAIN}")
    return value


def _whole(said: Mapping[str, Any], key: str, file: str) -> int:
    """A number that says how many; 0 where it is not said."""
    value = said.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FolderWrong(f"{key} of {file} should be a number (found {str(value)[:40]}); {AGAIN}")
    return max(int(value), 0)


def _names(said: Mapping[str, Any], key: str, file: str) -> list[str]:
    return [
        str(_is(each, str, f"each of {key} of {file}")) for each in _is(said.get(key) or [], list, f"{key} of {file}")
    ]


def _json(path: Path, file: str, missing: str | None) -> Any:
    """`missing` is what is wrong where it is not there; None where it need not be."""
    try:
        return json.loads((path / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if missing is None:
            return {}
        raise FolderWrong(missing) from None
    except OSError as error:
        raise FolderWrong(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FolderWrong(f"{file} is not UTF-8 text; {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise FolderWrong(f"{file} is not JSON ({error}); {AGAIN}") from error
