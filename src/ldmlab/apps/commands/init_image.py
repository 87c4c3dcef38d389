"""The initial image and the in-painting mask of `ldmlab sample`."""

from __future__ import annotations

import io
from pathlib import Path

from jaxtyping import Float
from omegaconf import DictConfig
from PIL.Image import Image
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform
from ldmlab.models.drawing import Start


def read_start(cfg: DictConfig, spec: DataSpec) -> Start | None:
    """The picture that `image=` and `inpaint=` name; None without them.

    Raises:
        UserError: One cannot be read, or `inpaint` comes without `image`.
    """
    if cfg.image is None:
        if cfg.inpaint is not None:
            raise UserError("inpaint= names what to paint anew of a picture: give image= too")
        return None
    image = read_image("image", cfg.image, spec.image_size, spec.image_channels)
    if cfg.inpaint is None:
        return Start(image, None)
    white = read_image("inpaint", cfg.inpaint, spec.image_size, 1)
    return Start(image, (white > 0).to(image.dtype))


def read_image(
    key: str, picture: str | Path | Image, size: int, channels: int
) -> Float[Tensor, "1 c s s"]:
    """The middle square of a picture, in [-1, 1].

    Args:
        key: What the user calls it.
        picture: A file, or a picture that was opened.
        size: Side of the result in pixels.
        channels: 3, or 1 for their mean.

    Raises:
        UserError: It cannot be read.
    """
    try:
        seen = Transform(size)(Sample(_bytes(picture)))
    except OSError as error:
        raise UserError(f"{key}={picture} cannot be read ({error.strerror})") from error
    except BrokenFileError as error:
        raise UserError(f"{key}={picture} {error}") from error
    pixels = to_unit_range(seen.image[None])
    return pixels if channels == 3 else pixels.mean(1, keepdim=True)


def _bytes(picture: str | Path | Image) -> bytes:
    if not isinstance(picture, Image):
        return Path(picture).read_bytes()
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()
