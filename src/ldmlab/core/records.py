"""The records that layers hand to each other: frozen, named and shape-annotated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ldmlab.core.image_size import ImageSize, any_image_size, height_and_width, plain_size
from ldmlab.core.pixel_values import Bits, PixelValues, ValueRange
from ldmlab.core.ranges import positive_int

UNLABELLED = 255
"""The label of pixels without one in `Batch.mask`."""


def _map_tensors(record: Any, change: Any) -> Any:
    """Copy of `record` with `change` applied to every tensor, nested records included."""
    changed = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif is_dataclass(value):
            changed[field.name] = _map_tensors(value, change)
    return replace(record, **changed)


def _tensors(record: Any) -> Iterator[Tensor]:
    """Every tensor of `record`, nested records included."""
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            yield value
        elif is_dataclass(value):
            yield from _tensors(value)


def _joined(parts: Sequence[Any]) -> Any:
    """One value of many, row after row: None, tensors, tuples, or records of such."""
    first = parts[0]
    if any(type(part) is not type(first) for part in parts):
        raise ValueError("a field must be there in all batches or in none")
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, tuple):
        return tuple(chain.from_iterable(parts))
    if isinstance(first, TextStates):  # padded to the longest of each batch
        longest = max(part.states.shape[1] for part in parts)
        padded = [F.pad(part.states, (0, 0, 0, longest - part.states.shape[1])) for part in parts]
        return TextStates(torch.cat(padded), torch.cat([part.length for part in parts]))
    if first is None:
        return None
    names = [field.name for field in fields(first)]
    return type(first)(*(_joined([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class LatentMoments:
    """Mean and standard deviation of an encoder's posterior, one entry per latent value.

    Attributes:
        mean: The means.
        std: The deviations; an axis of length 1 stands for all of its entries.
    """

    mean: Float[Tensor, "b z h w"]
    std: Float[Tensor, " b #z #h #w"]

    @classmethod
    def without_spread(cls, mean: Float[Tensor, "b z h w"]) -> LatentMoments:
        """Latents that are known exactly."""
        return cls(mean, torch.zeros_like(mean))


@dataclass(frozen=True)
class TextStates:
    """What a frozen text encoder makes of captions.

    Attributes:
        states: One vector a token, zeros behind the last.
        length: Number of tokens of each caption.
    """

    states: Float[Tensor, "b n d"]
    length: Int[Tensor, " b"]


@dataclass(frozen=True)
class Batch:
    """What a data set yields; a field is None where the data has no such thing.

    Attributes:
        index: Position of each sample in its data set.
        image: Pixels in [-1, 1].
        label: Class of each image.
        mask: Segmentation label of each pixel, `UNLABELLED` where there is none.
        caption: One text per image.
        latent: Cached posterior of the codec, standing in for `image`.
        text: Cached states of a frozen text encoder, standing in for `caption`.
    """

    index: Int[Tensor, " b"]
    image: Float[Tensor, "b c h w"] | None = None
    label: Int[Tensor, " b"] | None = None
    mask: Int[Tensor, "b height width"] | None = None
    caption: tuple[str, ...] | None = None
    latent: LatentMoments | None = None
    text: TextStates | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy with every tensor on `device`."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Copy with every tensor in page-locked memory, as a DataLoader asks for."""
        return _map_tensors(self, lambda x: x.pin_memory())

    def share_memory(self) -> None:
        """Move every tensor into the memory that processes share."""
        _map_tensors(self, lambda x: x.share_memory_())

    def __getitem__(self, rows: slice | list[int]) -> Batch:
        """The samples at `rows`, as a smaller batch; a slice shares the memory of this one."""
        picked = _map_tensors(self, lambda x: x[rows])
        if self.caption is None:
            return picked
        places = range(len(self))[rows] if isinstance(rows, slice) else rows
        return replace(picked, caption=tuple(self.caption[i] for i in places))

    @classmethod
    def concatenate(cls, batches: Sequence[Batch]) -> Batch:
        """One batch of many.

        Raises:
            ValueError: A field is there in some of them only.
        """
        return _joined(batches)

    @property
    def nbytes(self) -> int:
        """Memory of its tensors, in bytes."""
        return sum(tensor.nbytes for tensor in _tensors(self))


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data, and all that it must know to be built again without it.

    Attributes:
        image_size: Side of the images in pixels; height and width where they are no squares.
        image_channels: Channels of the images.
        num_classes: Number of classes; None where the data has none.
        num_mask_labels: Number of segmentation labels; None where the data has none.
        vocabulary: Tokens of the captions; None where the data has none.
        bits: Of the values in files, 8, 16 or `float`.
        value_range: The values that are -1 and 1 to the model, of all channels or of each; None
            for 0 and the largest of the type.
    """

    image_size: ImageSize
    image_channels: int
    num_classes: int | None = None
    num_mask_labels: int | None = None
    vocabulary: tuple[str, ...] | None = None
    bits: Bits = 8
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        any_image_size(image_size=self.image_size)
        positive_int(image_channels=self.image_channels)
        positive_int.or_none(num_classes=self.num_classes, num_mask_labels=self.num_mask_labels)
        object.__setattr__(self, "image_size", plain_size(self.image_size))
        object.__setattr__(self, "value_range", self.values.value_range)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return height_and_width(self.image_size)

    @property
    def plain(self) -> bool:
        """Whether its images are pictures as any: 8 bits of grey or of colours."""
        return self.image_channels in (1, 3) and self.values == PixelValues()

    @property
    def values(self) -> PixelValues:
        """What the numbers in the images' files mean."""
        return PixelValues(self.bits, self.value_range)


@dataclass(frozen=True)
class Conditioning:
    """What a network is conditioned on, one named slot per way of entering it.

    Attributes:
        tokens: A sequence for cross-attention.
        maps: Feature maps concatenated to the network's input.
        vector: One vector per sample, added to the time embedding.
    """

    tokens: Float[Tensor, "b n d"] | None = None
    maps: Float[Tensor, "b c h w"] | None = None
    vector: Float[Tensor, "b d_vector"] | None = None


@dataclass(frozen=True)
class Prediction:
    """A denoiser's answer: the clean signal and the noise that `x` is made of.

    Attributes:
        x0: Estimate of the clean signal.
        eps: Estimate of the noise; x = alpha x0 + sigma eps holds exactly.
        variance_fraction: Where a learned variance lies between the smallest (0) and the largest
            (1) of a reverse step, in logarithms; None for a model with fixed variances.
    """

    x0: Float[Tensor, " b *shape"]
    eps: Float[Tensor, " b *shape"]
    variance_fraction: Float[Tensor, " b *shape"] | None = None


@dataclass(frozen=True)
class LossTerms:
    """A training loss before its mean is taken.

    Attributes:
        per_sample: Loss of each sample, its time's importance weight included.
        unweighted: The same without the importance weight and without a gradient.
        t: Time at which each sample was noised.
    """

    per_sample: Float[Tensor, " b"]
    unweighted: Float[Tensor, " b"]
    t: Float[Tensor, " b"]
