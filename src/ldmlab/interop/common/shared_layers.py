"""Names that diffusers has kept from CompVis' modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import VQ
from ldmlab.interop.common.key_map import Layer, renamed
from ldmlab.nn.autoencoder import Decoder, Encoder

TRANSFORMER_BLOCK = {
    f"{ours}.{name}": f"{theirs}.{published}"
    for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2"))
    for name, published in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("out", "to_out.0"))
} | {
    "feed_forward.0.proj": "ff.net.0.proj",
    "feed_forward.1": "ff.net.2",
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
}


def autoencoder_layers(
    autoencoder: Autoencoder, half_layers: Callable[[Encoder | Decoder, str], Iterator[Layer]]
) -> Iterator[Layer]:
    """Both halves and what lies between them.

    Args:
        autoencoder: Ours.
        half_layers: The layers of a half, given its way: `down` or `up`.

    Yields:
        A layer and its published name.
    """
    for ours, half, way in (
        ("encoder", autoencoder.encoder, "down"),
        ("decoder", autoencoder.decoder, "up"),
    ):
        for layer in half_layers(half, way):
            yield layer.under(ours, ours)
    yield from renamed({"bottleneck.quant": "quant_conv", "post_quant": "post_quant_conv"})
    if isinstance(autoencoder.bottleneck, VQ):
        yield from renamed({"bottleneck.codes": "quantize.embedding"})
