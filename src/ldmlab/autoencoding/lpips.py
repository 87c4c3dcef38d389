"""The published perceptual distance, LPIPS."""

from __future__ import annotations

import contextlib
import io
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.autoencoding.colours import COLOUR_CHANNELS, as_colours
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import one_of

Trunk = Literal["vgg", "alex", "squeeze"]


class LPIPS(nn.Module):
    """LPIPS (Zhang et al. 2018) of the `lpips` package, frozen; of colours, or of grey as such.

    The package holds the linear heads; torchvision downloads the trunk at first use.

    Args:
        net: Trunk; the autoencoders of latent diffusion use VGG16.

    Raises:
        UserError: The trunk is not on this machine and cannot be downloaded.
    """

    channels = COLOUR_CHANNELS

    def __init__(self, net: Trunk = "vgg") -> None:
        super().__init__()
        one_of(Trunk)(net=net)
        import lpips  # imports torchvision's models: seconds that other runs need not pay

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.distance = lpips.LPIPS(net=net, verbose=False)
        except OSError as error:
            raise UserError(
                f"perceptual=lpips needs torchvision's {net} weights in {torch.hub.get_dir()}/"
                f"checkpoints, and downloading them failed ({error}); put them there, or choose "
                "perceptual=vistas or perceptual=none"
            ) from error
        self.requires_grad_(False).eval()

    def forward(
        self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 1 1 1"]:
        """Distance of each pair of images in [-1, 1]."""
        return self.distance(as_colours(x), as_colours(y))

    def train(self, mode: bool = True) -> LPIPS:
        """Stay in evaluation mode: the heads' dropout is not for training another network."""
        return super().train(False)
