"""Models of a few thousand random numbers in the layout of transformers, made here: nothing is downloaded."""

import json
from pathlib import Path
from typing import Any

WORDS = "the a pump in hall leaks invoice total due is of note third and seal report water pressure".split()
HIDDEN = 32


def make_embedder(
    folder: Path, *, pooling: str = "mean", dense: int | None = None, wide: int = 64, seed: int = 7
) -> Path:
    import torch
    from transformers import BertModel

    torch.manual_seed(seed)
    BertModel(_config(intermediate_size=wide), add_pooling_layer=False).save_pretrained(folder)
    _tokenizer(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {"pooling_mode": pooling, "word_embedding_dimension": HIDDEN})
    if dense is not None:
        modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
        _dense(folder / "2_Dense", dense)
    _write(folder / "modules.json", modules)
    return folder


def make_classifier(folder: Path, labels: list[str], *, wide: int = 64) -> Path:
    """With one label it is a reranker."""
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(7)
    numbered = {name: number for number, name in enumerate(labels)}
    config = _config(id2label=dict(enumerate(labels)), label2id=numbered, intermediate_size=wide)
    BertForSequenceClassification(config).save_pretrained(folder)
    _tokenizer(folder)
    return folder


def _config(**more: Any) -> Any:
    from transformers import BertConfig

    return BertConfig(
        hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2, vocab_size=4 + len(WORDS),
        max_position_embeddings=64, **{"intermediate_size": 64, **more},
    )  # fmt: skip


def _dense(folder: Path, outputs: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    said = {"in_features": HIDDEN, "out_features": outputs, "bias": True}
    _write(folder / "config.json", {**said, "activation_function": "torch.nn.modules.activation.Tanh"})
    layer = torch.nn.Linear(HIDDEN, outputs)
    save_file(
        {f"linear.{name}": value.contiguous() for name, value in layer.state_dict().items()},
        str(folder / "model.safetensors"),
    )


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {name: number for number, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "tokenizer_config.json", {"model_max_length": 64})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
