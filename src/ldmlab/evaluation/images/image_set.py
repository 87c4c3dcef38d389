"""The interface of a set of images that is judged, or judged against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.tensors import to_bytes

Picture = UInt8[Tensor, "3 h w"]


@dataclass(frozen=True)
class Pictures:
    """Some images of a set, whose sizes may differ.

    Attributes:
        images: Bytes, upright RGB.
        labels: Class number of each, where the set has any.
    """

    images: Sequence[UInt8[Tensor, "3 _ _"]]
    labels: Int[Tensor, " b"] | None = None


class ImageSet(ABC):
    """Images in a fixed order.

    Attributes:
        name: Where they are, for messages and cards.
        classes: Name of each class number; empty where there are none.
    """

    name: str
    classes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, rows: range) -> Pictures:
        """The images at these positions.

        Raises:
            UserError: One of them cannot be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of what the set shows, wherever it lies."""


def as_pictures(images: Float[Tensor, "b c h w"], name: str) -> list[UInt8[Tensor, "3 h w"]]:
    """Images in [-1, 1] as networks read them: bytes of three channels, grey ones thrice alike.

    Raises:
        UserError: They are neither grey nor RGB, or not finite.
    """
    if images.shape[1] not in (1, 3):
        raise UserError(f"{name} has images of {images.shape[1]} channels; metrics read 1 or 3")
    if not bool(torch.isfinite(images).all()):
        raise UserError(f"{name} holds pixels that are not finite: nothing is judged")
    return list(to_bytes(images).expand(-1, 3, -1, -1).cpu())
