"""The judge's networks: one names the slots of an image, one labels its pixels."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import TypeVar

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn

from ldmlab.data.vistas.materials import MASK_LABELS
from ldmlab.data.vistas.scene import SLOTS

JUDGE_ASSET = "vistas_judge.safetensors"
SEGMENTER_ASSET = "vistas_segmenter.safetensors"

_SIDE = 32
Network = TypeVar("Network", bound=nn.Module)
UNRECOGNISABLE = len(SLOTS["object"])
"""The extra answer of the object head: something stands there that is no object of this world."""


def _block(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _prepare(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 12 16 16"]:
    if images.shape[-2:] != (_SIDE, _SIDE):
        images = nn.functional.interpolate(images, (_SIDE, _SIDE), mode="area")
    return nn.functional.pixel_unshuffle(images.float(), 2)


class VistasJudge(nn.Module):
    """A small classifier with one head per slot and one that tells landscapes from other images.

    Attributes:
        num_features: Width of the features that a Fréchet distance is taken in.
    """

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            _block(12, 32),
            _block(32, 48),
            nn.MaxPool2d(2),
            _block(48, 64),
            _block(64, 64),
            nn.MaxPool2d(2),
            _block(64, 64),
            nn.Flatten(),
            nn.Linear(64 * 16, self.num_features),
        )
        widths = {slot: len(values) for slot, values in SLOTS.items()}
        widths |= {"object": UNRECOGNISABLE + 1, "valid": 2}
        self.heads = nn.ModuleDict(
            {slot: nn.Linear(self.num_features, width) for slot, width in widths.items()}
        )

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 64"]:
        """What the heads read.

        Args:
            images: Pixels in [-1, 1] at any size; others than 32 x 32 are averaged down.

        Returns:
            Unbounded features near zero mean and unit order.
        """
        features: Tensor = self.trunk(_prepare(images))
        return features

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b answers"]]:
        """Logits of every slot's values, "object" with one more, and of "valid" (no, yes).

        Args:
            images: Pixels in [-1, 1] at any size; others than 32 x 32 are averaged down.

        Returns:
            One table of logits per head.
        """
        active = torch.relu(self.features(images))
        return {name: head(active) for name, head in self.heads.items()}


class VistasSegmenter(nn.Module):
    """A small U-shaped network that labels each pixel of a 32 x 32 picture."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(_block(12, 32), _block(32, 32))
        self.coarse = nn.Sequential(
            nn.MaxPool2d(2), _block(32, 64), _block(64, 64), nn.Upsample(scale_factor=2)
        )
        self.join = nn.Sequential(_block(96, 48), nn.Conv2d(48, 4 * len(MASK_LABELS), 1))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b labels 32 32"]:
        """Logits of the mask's labels.

        Args:
            images: Pixels in [-1, 1] at any size; others than 32 x 32 are averaged down.

        Returns:
            One map per label, always at 32 x 32.
        """
        fine = self.fine(_prepare(images))
        joined: Tensor = self.join(torch.cat([fine, self.coarse(fine)], dim=1))
        return nn.functional.pixel_shuffle(joined, 2)


def _asset(name: str) -> bytes:
    return resources.files("ldmlab.evaluation.vistas").joinpath("assets", name).read_bytes()


def _restore(network: Network, asset: str) -> Network:
    state = {name: value.float() for name, value in load(_asset(asset)).items()}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


@functools.cache
def load_judge() -> VistasJudge:
    """The packaged judge: frozen, in evaluation mode, shared by all callers."""
    return _restore(VistasJudge(), JUDGE_ASSET)


@functools.cache
def load_segmenter() -> VistasSegmenter:
    """The packaged segmenter: frozen, in evaluation mode, shared by all callers."""
    return _restore(VistasSegmenter(), SEGMENTER_ASSET)


@functools.cache
def asset_hash(name: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a packaged network, by its file name."""
    return hashlib.sha256(_asset(name)).hexdigest()[:16]
