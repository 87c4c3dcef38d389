"""The published text encoder as diffusers' LDMBertModel, with its tokenizer's files.

Both are read and written as files, since the classes behind them need transformers.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldmlab.conditioning.text import TextConditioner
from ldmlab.conditioning.vocabulary_files import read_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.files import write_json, write_text
from ldmlab.interop.common.introspect import conditioner_options
from ldmlab.interop.common.key_map import Layer, Renaming, renamed

_BLOCK = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "norm1": "self_attn_layer_norm",
    "feed_forward.0": "fc1",
    "feed_forward.2": "fc2",
    "norm2": "final_layer_norm",
}
_OUTER = {"tokens": "embed_tokens", "positions": "embed_positions", "norm": "layer_norm"}
# A head of the class that no pipeline uses.
_HEAD = ("to_logits.weight", "to_logits.bias")
_SPECIALS = ("pad", "unk", "cls", "sep", "mask")
# The pipeline tokenizes to this length, whatever the model says.
PIPELINE_LENGTH = 77


def fits_stock_pipeline(conditioner: TextConditioner) -> bool:
    """Whether LDMTextToImagePipeline treats captions as this conditioner does."""
    options = conditioner_options(conditioner)
    padded = options["vocabulary"][0] == "[PAD]"
    return options["max_length"] == PIPELINE_LENGTH and not options["pooled"] and padded


def write_bert(conditioner: TextConditioner, folder: Path) -> None:
    """Write `bert/` and `tokenizer/` into a pipeline's folder."""
    options = conditioner_options(conditioner)
    words, dim = options["vocabulary"], options["dim"]
    state = Renaming(conditioner, _layers(conditioner)).published()
    state |= {"to_logits.weight": torch.zeros(len(words), dim)}
    state |= {"to_logits.bias": torch.zeros(len(words))}
    for name in ("bert", "tokenizer"):
        (folder / name).mkdir()
    save_file(state, folder / "bert" / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LDMBertModel"],
        "model_type": "ldmbert",
        "vocab_size": len(words),
        "max_position_embeddings": options["max_length"],
        "encoder_layers": options["depth"],
        "encoder_ffn_dim": 4 * dim,
        "encoder_attention_heads": options["num_heads"],
        "head_dim": options["head_dim"],
        "d_model": dim,
        "activation_function": "gelu",
        "dropout": 0.0,
        "pad_token_id": 0,
    }
    write_json(folder / "bert" / "config.json", config)
    write_text(folder / "tokenizer" / "vocab.txt", "\n".join(words) + "\n")
    tokens = {f"{name}_token": f"[{name.upper()}]" for name in _SPECIALS}
    shape = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    length = {"model_max_length": PIPELINE_LENGTH}
    write_json(folder / "tokenizer" / "tokenizer_config.json", {**shape, **length, **tokens})


def read_bert(folder: Path) -> TextConditioner:
    """The conditioner of a pipeline's `bert/` and `tokenizer/`.

    Raises:
        UserError: A file is missing or damaged, or the tensors are not those of the configuration.
    """
    where = folder / "bert" / "config.json"
    config = _read_json(where)
    # Absolute: a folder that is not there is no name on Hugging Face.
    vocabulary = read_vocabulary(str((folder / "tokenizer").absolute()), "diffusers")
    try:
        conditioner = TextConditioner(
            vocabulary,
            max_length=config["max_position_embeddings"],
            dim=config["d_model"],
            depth=config["encoder_layers"],
            num_heads=config["encoder_attention_heads"],
            head_dim=config["head_dim"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} and the tokenizer describe no text encoder: {error}") from error
    if config.get("activation_function", "gelu") != "gelu":
        raise UserError(f"{where} has activation_function={config['activation_function']}")
    state = _read_state(folder / "bert")
    renaming = Renaming(conditioner, _layers(conditioner))
    found = {key: tuple(value.shape) for key, value in state.items() if key not in _HEAD}
    if wrong := sorted({key for key, _ in found.items() ^ renaming.shapes.items()}):
        raise UserError(f"{folder / 'bert'}: other tensors than {where.name} says ({wrong[0]})")
    renaming.load(state)
    return conditioner


def _layers(conditioner: TextConditioner) -> Iterator[Layer]:
    for layer in renamed(_OUTER):
        yield layer.under("transformer", "model")
    for i in range(len(conditioner.transformer.blocks)):
        for layer in renamed(_BLOCK):
            yield layer.under(f"transformer.blocks.{i}", f"model.layers.{i}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no table")
    return value


def _read_state(folder: Path) -> dict[str, Tensor]:
    try:
        if (folder / "model.safetensors").is_file():
            return load_file(folder / "model.safetensors")
        path = folder / "pytorch_model.bin"
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"the tensors in {folder} cannot be read as data") from error
