"""The interface of the networks behind which sets of images are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ldmlab.evaluation.preprocessing import Resize, resize

Outputs = dict[str, Float[Tensor, "b _"]]


class FeatureNetwork(nn.Module):
    """A frozen network with what its input goes through.

    Args:
        name: What metrics call it.
        body: Floats of [b, 3, size, size] to tables of rows, `features` among them.
        fingerprint: SHA-256 of its weights' file.
        size: Side of its input in pixels.
        how: The way images are resized.
        mean: Subtracted from levels in [0, 255], a number a channel.
        std: Divided by, likewise.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        fingerprint: str,
        size: int,
        how: Resize,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.name, self.fingerprint, self.size, self.how = name, fingerprint, size, how
        self.body = body
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])
        self.requires_grad_(False).eval()
        self.preprocessing = (
            f"bytes, {how} to {size} x {size}, less {[round(float(x), 3) for x in mean]}, "
            f"over {[round(float(x), 3) for x in std]}"
        )

    @torch.inference_mode()
    def forward(self, images: Sequence[UInt8[Tensor, "3 _ _"]]) -> Outputs:
        """Rows of float32 on the CPU for images of any sizes."""
        device = self.get_buffer("mean").device
        sizes = {image.shape for image in images}
        groups = [torch.stack(list(images))] if len(sizes) == 1 else [x[None] for x in images]
        levels = torch.cat([resize(group.to(device), self.size, self.how) for group in groups])
        found = self.body((levels - self.get_buffer("mean")) / self.get_buffer("std"))
        return {name: rows.float().cpu() for name, rows in found.items()}

    def train(self, mode: bool = True) -> FeatureNetwork:
        """Stay in evaluation mode."""
        return super().train(False)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
