"""The patch discriminator of the adversarial loss (PatchGAN)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.core.ranges import multiple_of, one_of, positive_int

Norm = Literal["batch", "group"]


def _norm(kind: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(8, channels)


class PatchDiscriminator(nn.Module):
    """Convolutions that judge overlapping patches (Isola et al. 2017).

    Args:
        in_channels: Channels of the images.
        channels: Width of the first layer; doubled at each layer up to eight times.
        num_layers: Layers of stride 2; three see patches of 70 pixels.
        norm: `batch` is the published one; `group` does not depend on the batch, so that the
            result is the same on any number of devices.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 64,
        num_layers: int = 3,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        positive_int(in_channels=in_channels, channels=channels, num_layers=num_layers)
        one_of(Norm)(norm=norm)
        if norm == "group":
            multiple_of(4)(channels=channels)
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        width = channels
        for layer in range(1, num_layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < num_layers else 1
            layers += [
                nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False),
                _norm(norm, wider),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))
        self.apply(_initialise)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        """One logit per patch: positive where it looks real."""
        return self.main(x)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
