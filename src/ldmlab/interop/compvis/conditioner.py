"""The conditioners under their CompVis options and names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.given import GivenConditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.conditioning.text import TextConditioner
from ldmlab.conditioning.vocabulary import BERT_TOKENS
from ldmlab.core.errors import UserError
from ldmlab.interop.common.key_map import Layer, Renaming, State, renamed
from ldmlab.interop.compvis.checkpoint import CONDITIONER, load_section
from ldmlab.interop.compvis.options import Options, need, only
from ldmlab.nn.text_transformer import TextTransformer

Vocabulary = Sequence[str] | None

_IMAGENET_CLASSES = 1000
_TEXT_BLOCK = {
    "norm1": "{0}.0",
    "attention.q": "{0}.1.to_q",
    "attention.k": "{0}.1.to_k",
    "attention.v": "{0}.1.to_v",
    "attention.out": "{0}.1.to_out",
    "norm2": "{1}.0",
    "feed_forward.0": "{1}.1.net.0.0",
    "feed_forward.2": "{1}.1.net.2",
}


@dataclass(frozen=True)
class Kind:
    """How one of the published classes is read.

    Attributes:
        build: Makes our conditioner, on `meta`, from its options and a vocabulary.
        layers: Our layers and theirs.
        unused: Published weights that nothing reads: the head of the text transformer.
    """

    build: Callable[[Options, Vocabulary], Conditioner]
    layers: Callable[[Conditioner], Iterator[Layer]]
    unused: tuple[str, ...] = ()


def kind_of(target: str) -> Kind:
    """The entry of a class that a configuration names.

    Raises:
        UserError: It has no counterpart here.
    """
    name = target.rpartition(".")[2]
    if name not in _KINDS:
        raise UserError(
            f"the CompVis conditioner {target} has no counterpart here; known are "
            f"{', '.join(_KINDS)}"
        )
    return _KINDS[name]


def _classes(params: Options, vocabulary: Vocabulary) -> ClassConditioner:
    rows = params.get("n_classes", _IMAGENET_CLASSES)
    # Published tables beyond ImageNet's thousand classes end with the null class.
    null_class = rows != _IMAGENET_CLASSES
    dim = need(params, "embed_dim", "cond_stage_config")
    return ClassConditioner(rows - null_class, dim, null_class=null_class)


def _class_layers(conditioner: Conditioner) -> Iterator[Layer]:
    yield from renamed({"embedding": "embedding"})


def _masks(params: Options, vocabulary: Vocabulary) -> MaskConditioner:
    where = "cond_stage_config"
    # Halving by bilinear interpolation is the mean of four pixels.
    method = "area" if params.get("method") == "area" else "bilinear"
    only(params, where, {"method": method, "multiplier": 0.5})
    return MaskConditioner(
        num_labels=params.get("in_channels", 3),
        factor=2 ** params.get("n_stages", 1),
        map_channels=params.get("out_channels"),
        bias=params.get("bias", False),
    )


def _mask_layers(conditioner: Conditioner) -> Iterator[Layer]:
    if list(conditioner.parameters()):
        yield from renamed({"proj": "channel_mapper"})


def _text(params: Options, vocabulary: Vocabulary) -> Conditioner:
    where = "cond_stage_config"
    shape = {
        "max_length": params.get("max_seq_len", 77),
        "dim": need(params, "n_embed", where),
        "depth": need(params, "n_layer", where),
        "num_heads": params.get("heads", 8),
        "head_dim": params.get("dim_head", 64),
    }
    size = params.get("vocab_size", BERT_TOKENS)
    if vocabulary is None:
        transformer = TextTransformer(size, **shape)
        return GivenConditioner("token numbers", transformer, token_dim=shape["dim"])
    if len(vocabulary) != size:
        raise UserError(f"the vocabulary has {len(vocabulary)} tokens and the model {size}")
    return TextConditioner(vocabulary, **shape)


def _text_layers(conditioner: Conditioner) -> Iterator[Layer]:
    ours, transformer = next(
        (name, module)
        for name, module in conditioner.named_modules()
        if isinstance(module, TextTransformer)
    )
    for layer in renamed({"tokens": "token_emb", "positions": "pos_emb.emb"}):
        yield layer.under(ours, "transformer")
    for i in range(len(transformer.blocks)):
        names = {k: v.format(2 * i, 2 * i + 1) for k, v in _TEXT_BLOCK.items()}
        for layer in renamed(names):
            yield layer.under(f"{ours}.blocks.{i}", "transformer.attn_layers.layers")
    yield Layer(f"{ours}.norm", ("transformer.norm",))


def _given(params: Options, vocabulary: Vocabulary) -> GivenConditioner:
    return GivenConditioner("embeddings or maps made elsewhere")


def _no_layers(conditioner: Conditioner) -> Iterator[Layer]:
    yield from ()


_LOGITS = ("transformer.to_logits.weight", "transformer.to_logits.bias")
_KINDS = {
    "ClassEmbedder": Kind(_classes, _class_layers),
    "SpatialRescaler": Kind(_masks, _mask_layers),
    "BERTEmbedder": Kind(_text, _text_layers, _LOGITS),
    "TransformerEmbedder": Kind(_text, _text_layers, _LOGITS),
    "Identity": Kind(_given, _no_layers),
}


def build_conditioner(target: str, params: Options, vocabulary: Vocabulary) -> Conditioner:
    """Our conditioner for the options of a published one, on `meta`.

    Raises:
        UserError: The class or an option has no counterpart here.
    """
    with torch.device("meta"):
        return kind_of(target).build(params, vocabulary)


def load_conditioner(
    target: str, params: Options, state_dict: State, vocabulary: Vocabulary = None
) -> Conditioner:
    """The published conditioner.

    Args:
        target: Its class, as `cond_stage_config.target` names it.
        params: `cond_stage_config.params`.
        state_dict: The published tensors, under `cond_stage_model.` or no prefix.
        vocabulary: Tokens of a text model in order of their numbers (the lines of
            bert-base-uncased's vocab.txt), for captions; without it the conditioner takes
            token numbers.

    Raises:
        UserError: The class or an option has no counterpart, or the tensors are not those of
            `params`.
    """
    conditioner = build_conditioner(target, params, vocabulary)
    kind = kind_of(target)
    renaming = Renaming(conditioner, kind.layers(conditioner))
    load_section(renaming, state_dict, CONDITIONER, kind.unused)
    return conditioner


def conditioner_to_compvis(target: str, conditioner: Conditioner) -> dict[str, Tensor]:
    """Copies of a conditioner's weights under the names of a published class.

    A text model's unused head is not among them.

    Raises:
        UserError: The class has no counterpart here.
    """
    return Renaming(conditioner, kind_of(target).layers(conditioner)).published()
