"""The picture that `ldmlab sample` starts from, and the part of it to paint anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from PIL import Image, ImageOps
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.core.tensors import to_unit_range


@dataclass(frozen=True)
class Start:
    """A picture at the model's size.

    Attributes:
        image: Pixels in [-1, 1].
        unknown: 1 where it is to be painted anew; None to noise and draw all of it again.
    """

    image: Float[Tensor, "1 c h w"]
    unknown: Float[Tensor, "1 1 h w"] | None


def read_start(cfg: DictConfig, spec: DataSpec) -> Start | None:
    """The picture that `image=` and `inpaint=` name; None without them.

    Raises:
        UserError: One cannot be read, or `inpaint` comes without `image`.
    """
    if cfg.image is None:
        if cfg.inpaint is not None:
            raise UserError("inpaint= names what to paint anew of a picture: give image= too")
        return None
    image = _pixels("image", cfg.image, spec, Image.Resampling.BICUBIC)
    if cfg.inpaint is None:
        return Start(image, None)
    white = _pixels("inpaint", cfg.inpaint, spec, Image.Resampling.NEAREST).mean(1, keepdim=True)
    return Start(image, (white > 0).to(image.dtype))


def _pixels(key: str, path: str, spec: DataSpec, resampling: Image.Resampling) -> Tensor:
    """The middle square of a picture, at the size and with the channels of the data."""
    mode = "L" if spec.image_channels == 1 else "RGB"
    try:
        with Image.open(Path(path)) as picture:
            upright = ImageOps.exif_transpose(picture).convert(mode)
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{key}={path} cannot be read as a picture: {error}") from error
    fitted = ImageOps.fit(upright, (spec.image_size, spec.image_size), resampling)
    pixels = torch.from_numpy(np.array(fitted)).reshape(spec.image_size, spec.image_size, -1)
    return to_unit_range(pixels.movedim(-1, 0)[None])
