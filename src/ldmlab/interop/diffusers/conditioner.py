"""Exports conditioners as the classes that travel with a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.conditioning.text import TextConditioner
from ldmlab.interop.common.key_map import Layer, renamed

_TEXT_BLOCK = {
    "norm1": "norm1",
    "attention.q": "attn1.to_q",
    "attention.k": "attn1.to_k",
    "attention.v": "attn1.to_v",
    "attention.out": "attn1.to_out.0",
    "norm2": "norm3",
    "feed_forward.0": "ff.net.0.proj",
    "feed_forward.2": "ff.net.2",
}
# Names of both classes: ours, and those of exported/conditioner.py.
KINDS: dict[str, type[Conditioner]] = {
    kind.__name__: kind for kind in (ClassConditioner, MaskConditioner, TextConditioner)
}


def conditioner_layers(conditioner: Conditioner) -> Iterator[Layer]:
    """Our layers and those of the exported class."""
    if isinstance(conditioner, ClassConditioner):
        yield from renamed({"embedding": "embedding"})
    elif isinstance(conditioner, MaskConditioner):
        if list(conditioner.parameters()):
            yield from renamed({"proj": "proj"})
    elif isinstance(conditioner, TextConditioner):
        names = ("tokens", "positions", "norm")
        yield from renamed({f"transformer.{name}": name for name in names})
        for i in range(len(conditioner.transformer.blocks)):
            for layer in renamed(_TEXT_BLOCK):
                yield layer.under(f"transformer.blocks.{i}", f"blocks.{i}")
