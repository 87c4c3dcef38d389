"""A perceptual distance for small landscapes: the LPIPS form over a trunk that needs no download.

The trunk learnt to label the pixels of the procedural world. It shares neither its architecture
nor its seed nor its task with the network that judges results, so that optimising this distance
does not optimise the judge.
"""

from __future__ import annotations

from importlib import resources

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn

from ldmlab.autoencoding.colours import COLOUR_CHANNELS, as_colours

TRUNK_ASSET = "vistas_trunk.safetensors"

_EPSILON = 1e-8


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class VistasTrunk(nn.Module):
    """Three stages of features at full, half and quarter resolution.

    Attributes:
        widths: Channels of each stage.
    """

    widths = (16, 32, 64)

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = self.widths
        self.stages = nn.ModuleList(
            [
                _stage(3, fine, 1),
                _stage(fine, middle, 2),
                nn.Sequential(_stage(middle, coarse, 2), _stage(coarse, coarse, 1)),
            ]
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c h_l w_l"]]:
        """The output of every stage, for pixels in [-1, 1] and sides that 4 divides."""
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


class VistasPerceptual(nn.Module):
    """How different two images look: squared distances of unit-length features.

    At every place of every stage the features are scaled to unit length; the squared distance of
    the two is averaged over places and over stages, which all weigh the same. The weights are
    frozen and the module stays in evaluation mode.
    """

    channels = COLOUR_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.trunk = VistasTrunk()
        state = {name: value.float() for name, value in load(_asset()).items()}
        self.trunk.load_state_dict(state)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> VistasPerceptual:
        """Stay in evaluation mode: the distance must not drift with what it is asked."""
        super().train(False)
        return self

    def forward(
        self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 1 1 1"]:
        """Distance of each pair of images.

        Args:
            x: Pixels in [-1, 1] of 3 channels, or of 1 that stands for all; sides that 4 divides.
            y: Pixels in [-1, 1], of the same shape.

        Returns:
            Distances from 0 (equal) to 2; the same for (x, y) and (y, x).
        """
        total = x.new_zeros(len(x), 1, 1, 1)
        for a, b in zip(self.trunk(as_colours(x)), self.trunk(as_colours(y)), strict=True):
            difference = (_unit(a) - _unit(b)).square().sum(dim=1, keepdim=True)
            total = total + difference.mean(dim=(2, 3), keepdim=True)
        return total / len(self.trunk.widths)


def _unit(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    # The constant keeps the gradient finite where every feature of a place is zero.
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + _EPSILON)


def _asset() -> bytes:
    return resources.files("ldmlab.autoencoding").joinpath("assets", TRUNK_ASSET).read_bytes()
