"""Sets of images and networks for tests of metrics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldmlab.evaluation.features.network import FeatureNetwork
from ldmlab.evaluation.images.image_set import ImageSet, Pictures


class Given(ImageSet):
    """Images that lie in memory, and a count of how often they were read."""

    def __init__(
        self, images: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] = ()
    ) -> None:
        self.images, self.labels, self.classes = images, labels, classes
        self.name, self.reads = "given", 0

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: range) -> Pictures:
        self.reads += len(rows)
        labels = None if self.labels is None else self.labels[rows.start : rows.stop]
        return Pictures(list(self.images[rows.start : rows.stop]), labels)

    def fingerprint(self) -> str:
        return f"{int(self.images.double().sum() + self.images[0].double().sum()):016x}"


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        cells = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        answers = cells[:, :5] * torch.arange(5) / 200
        return {"features": cells, "logits": answers}


def small_network(name: str = "inception") -> FeatureNetwork:
    """Means of each quarter and channel."""
    return FeatureNetwork(name, _Mean(), "f" * 64, 8, "torch", [0.0] * 3, [1.0] * 3)


def pictures(count: int, seed: int, size: int = 8) -> Tensor:
    """Bytes of noise, each with a brightness of its own."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 128, (count, 3, size, size), generator=generator)
    light = torch.randint(0, 128, (count, 3, 1, 1), generator=generator)
    return (noise + light).to(torch.uint8)
