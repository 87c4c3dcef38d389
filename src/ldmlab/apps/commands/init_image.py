"""The picture that `ldmlab sample` starts from, and the part of it to paint anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.core.tensors import to_unit_range
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform


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
    image = _square("image", cfg.image, spec)
    if cfg.inpaint is None:
        return Start(image, None)
    white = _square("inpaint", cfg.inpaint, spec).mean(1, keepdim=True)
    return Start(image, (white > 0).to(image.dtype))


def _square(key: str, path: str, spec: DataSpec) -> Tensor:
    """The middle square of a picture, at the size and with the channels of the data."""
    try:
        seen = Transform(spec.image_size)(Sample(Path(path).read_bytes()))
    except OSError as error:
        raise UserError(f"{key}={path} cannot be read ({error.strerror})") from error
    except BrokenFileError as error:
        raise UserError(f"{key}={path} {error}") from error
    pixels = to_unit_range(seen.image[None])
    return pixels if spec.image_channels == 3 else pixels.mean(1, keepdim=True)
