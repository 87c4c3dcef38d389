"""Data sets that need no download: the procedural landscapes, and scikit-learn's digits."""

from __future__ import annotations

from typing import Unpack

from ldmlab.data.digits import Digits
from ldmlab.data.vistas.dataset import Vistas
from ldmlab.data.vistas.scene import CLASSES
from ldmlab.training.datamodules.named import Loading, NamedDataModule

# They are small: all of both splits is used, and kept.
_SMALL: Loading = {"in_memory": True, "validation_limit": None, "num_workers": 0}


class VistasDataModule(NamedDataModule):
    """Procedural landscapes: images, classes, masks and captions.

    Args:
        image_size: Pixels a side, a multiple of 8.
        num_samples: Training images.
        num_validation_samples: Validation images.
        vocabulary_size: Tokens of the captions at most.
        **loading: As of `NamedDataModule`; by default the images are held in memory.
    """

    def __init__(
        self,
        image_size: int = 32,
        num_samples: int = 12_000,
        num_validation_samples: int = 512,
        vocabulary_size: int = 173,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(
            Vistas("train", num_samples, image_size),
            Vistas("validation", num_validation_samples, image_size),
            image_size,
            num_mask_labels=len(CLASSES),
            vocabulary_size=vocabulary_size,
            **(_SMALL | loading),
        )


class DigitsDataModule(NamedDataModule):
    """1,797 handwritten digits of 8 x 8 pixels: grey images, classes and captions.

    Args:
        image_size: Pixels a side, a multiple of 8.
        vocabulary_size: Tokens of the captions at most.
        **loading: As of `NamedDataModule`; by default the images are held in memory.
    """

    def __init__(
        self, image_size: int = 8, vocabulary_size: int = 153, **loading: Unpack[Loading]
    ) -> None:
        super().__init__(
            Digits("train", image_size),
            Digits("validation", image_size),
            image_size,
            channels=Digits.channels,
            vocabulary_size=vocabulary_size,
            **(_SMALL | loading),
        )
