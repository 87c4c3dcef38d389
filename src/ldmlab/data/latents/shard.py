"""The tensors of one latent shard, rounded, joined and ready to be written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, TextStates

ROUNDED = ("mean", "std", "text")


@dataclass
class Rounding:
    """What storing numbers with few bits did to them.

    Attributes:
        squared_error: Sum of squared differences.
        squared_value: Sum of squared values.
        largest: Largest absolute difference.
    """

    squared_error: float = 0.0
    squared_value: float = 0.0
    largest: float = 0.0

    def add(self, exact: Float[Tensor, "..."], stored: Float[Tensor, "..."]) -> None:
        """Count numbers and what became of them."""
        exact = exact.double()
        error = stored.double() - exact
        self.squared_error += float(error.square().sum())
        self.squared_value += float(exact.square().sum())
        self.largest = max(self.largest, float(error.abs().max()))

    @staticmethod
    def summary(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
        """The error of many shards together."""
        shards = [Rounding(**part) for part in parts]
        error = sum(shard.squared_error for shard in shards)
        value = sum(shard.squared_value for shard in shards)
        return {
            "largest": max(shard.largest for shard in shards),
            "relative": math.sqrt(error / value) if value else 0.0,
        }


@dataclass
class ShardContent:
    """What goes into a shard, rounded as it comes.

    Attributes:
        dtype: Of latents and states.
        latents: Mean and deviation of each batch.
        texts: Caption and states of each view, where texts are encoded.
        masks: Labels of each batch.
        rest: Further conditions of each batch.
        errors: Rounding errors of mean, deviation and states.
    """

    dtype: torch.dtype
    latents: list[Float[Tensor, "b 2 z h w"]] = field(default_factory=list)
    texts: list[tuple[str, Float[Tensor, "_ d"]]] = field(default_factory=list)
    masks: list[UInt8[Tensor, "b h w"]] = field(default_factory=list)
    rest: list[Batch] = field(default_factory=list)
    errors: dict[str, Rounding] = field(
        default_factory=lambda: {name: Rounding() for name in ROUNDED}
    )

    def add(self, batch: Batch) -> None:
        """Take the latents and conditions of the next views.

        Raises:
            UserError: A number is none, or too large for the type; or a mask's label is.
        """
        assert batch.latent is not None
        exact = torch.stack([batch.latent.mean, batch.latent.std], 1)
        stored = self._round(exact, batch.index, "latents", "this image, and at stage one")
        self.errors["mean"].add(exact[:, 0], stored[:, 0])
        self.errors["std"].add(exact[:, 1], stored[:, 1])
        self.latents.append(stored.cpu())
        if batch.mask is not None:
            self.masks.append(_as_bytes(batch.mask).cpu())
        if batch.text is not None:
            self._add_texts(batch.caption or (), batch.text, batch.index)
        bare = replace(batch, latent=None, image=None, mask=None, text=None)
        self.rest.append(bare.to("cpu"))

    def _add_texts(self, captions: Sequence[str], text: TextStates, index: Tensor) -> None:
        stored = self._round(text.states, index, "text states", "its caption")
        self.errors["text"].add(text.states, stored)
        rows = zip(captions, stored.cpu(), text.length.tolist(), strict=True)
        # A copy: the row would keep its padding alive.
        self.texts += [(caption, row[:length].clone()) for caption, row, length in rows]

    def _round(
        self, exact: Float[Tensor, " b *shape"], index: Int[Tensor, " b"], what: str, where: str
    ) -> Float[Tensor, " b *shape"]:
        """Numbers as they are stored."""
        stored = exact.to(self.dtype)
        bad = ~stored.isfinite().flatten(1).all(1)
        if not bool(bad.any()):
            return stored
        row = int(bad.nonzero()[0, 0])
        which = f"the {what} of sample {int(index[row])}"
        if bool(exact[row].isfinite().all()):
            most = float(exact[row].abs().max())
            raise UserError(f"{which} reach {most:.3g}, which fp16 cannot hold: set dtype=bf16")
        raise UserError(f"{which} are not finite: look at {where}")

    def tensors(self, views: int) -> dict[str, Tensor]:
        """The shard's tensors.

        Args:
            views: How many views of each sample there are.
        """
        latent = torch.cat(self.latents)
        if not latent[:, 1].any():
            latent = latent[:, :1]
        tensors = {"latent": latent.unflatten(0, (-1, views)).contiguous()}
        labels = [batch.label for batch in self.rest if batch.label is not None]
        texts = [text for batch in self.rest for text in batch.caption or ()]
        if labels:
            tensors["label"] = torch.cat(labels)[::views].contiguous()
        if self.masks:
            tensors["mask"] = torch.cat(self.masks).unflatten(0, (-1, views))
        if texts:
            # A caption from JSON may hold half a surrogate pair, which plain UTF-8 refuses.
            encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
            blob = b"".join(encoded) or b"\0"
            ends = torch.tensor([len(text) for text in encoded]).cumsum(0)
            tensors["caption"] = torch.frombuffer(bytearray(blob), dtype=torch.uint8)
            tensors["caption_ends"] = ends.unflatten(0, (-1, views))
        if self.texts:
            tensors |= self._joined_texts(views)
        return tensors

    def _joined_texts(self, views: int) -> dict[str, Tensor]:
        """The states of all texts; views of a sample that say the same share theirs."""
        kept, spans, end = [], [], 0
        known: dict[str, tuple[int, int]] = {}
        for row, (caption, states) in enumerate(self.texts):
            if row % views == 0:
                known = {}
            if caption not in known:
                kept.append(states)
                known[caption] = end, end + len(states)
                end += len(states)
            spans.append(known[caption])
        spans_of_views = torch.tensor(spans).unflatten(0, (-1, views))
        return {"text": torch.cat(kept), "text_spans": spans_of_views}


def _as_bytes(mask: Int[Tensor, "b h w"]) -> UInt8[Tensor, "b h w"]:
    """Labels in a byte each.

    Raises:
        UserError: A label does not fit.
    """
    if int(mask.min()) < 0 or int(mask.max()) > 255:
        raise UserError("mask labels above 255 cannot be cached: train on the images")
    return mask.to(torch.uint8)
