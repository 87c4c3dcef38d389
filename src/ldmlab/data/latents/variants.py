"""The augmentations of an image that a latent cache keeps: flips and random crops."""

from __future__ import annotations

from dataclasses import dataclass

from ldmlab.core.random import derive_seed
from ldmlab.data.sampling.step_batches import SeededIndex


@dataclass(frozen=True)
class Variants:
    """The views kept of each image: some of its random crops, each with its mirror image.

    Attributes:
        crops: Number of random crops; 0 for the one square in the centre.
        flips: Whether each square is kept mirrored, too.
    """

    crops: int = 0
    flips: bool = False

    def __str__(self) -> str:
        crops = f"{self.crops} random crops" if self.crops else "the centre"
        return f"{crops}, mirrored too" if self.flips else f"{crops}, not mirrored"

    def __len__(self) -> int:
        return max(1, self.crops) * (1 + self.flips)

    def visits(self, index: int) -> list[int]:
        """One visit for each view of an image, in the order in which they are kept.

        Args:
            index: The image's position.
        """
        if not (self.crops or self.flips):
            return [index]
        # The seed's last bit mirrors; see `Transform`.
        seeds = [derive_seed("crop", index, crop) & ~1 for crop in range(max(1, self.crops))]
        return [
            SeededIndex(index, seed | mirror) for seed in seeds for mirror in range(1 + self.flips)
        ]

    def choose(self, index: int) -> int:
        """Which view a visit sees: the mirror image where it would see one without a cache.

        Args:
            index: A `SeededIndex`, or a plain position, which sees the first view.
        """
        seed = index.seed if isinstance(index, SeededIndex) else 0
        crop = (seed >> 1) % max(1, self.crops)
        return 2 * crop + (seed & 1) if self.flips else crop
