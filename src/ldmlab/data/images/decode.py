"""Decodes the bytes of image files, masks and captions, of every format met in practice."""

from __future__ import annotations

import codecs
import functools
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from ldmlab.core.records import UNLABELLED

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What Pillow may open, as far as it can; others start programs (EPS) or are no pictures."""

EXTENSIONS = frozenset(
    ".jpg .jpeg .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .jp2 .avif "
    ".npy .npz .dcm .nii .nii.gz".split()
)  # of files taken for images

MAX_PIXELS = 89_478_485
"""Larger images are refused: a file of kilobytes can hold gigabytes (Pillow's own limit)."""

WHITE = (255, 255, 255)

_OVERSAMPLING = 2
_ORIENTATION = 0x0112
_TIFF_DEPTH = 0x0102
_PNG_DEPTH = 24  # its byte, behind signature, length, type, width and height
_NPY = b"\x93NUMPY"


# What Pillow would warn of is refused here, or decoded for what it is worth.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class BrokenFileError(Exception):
    """A file that cannot be used, with the reason in a few words."""


def decode_image(
    data: bytes, min_side: int | None = None, background: Sequence[int] = WHITE
) -> UInt8[Tensor, "3 h w"]:
    """The pixels of an encoded image, upright, as RGB.

    Grey and CMYK become RGB, 16 bits become 8, an animation gives its first frame, transparent
    pixels show the background, and EXIF's orientation is applied.

    Args:
        data: A whole file: one of `FORMATS`, or numpy's npy of 8-bit RGB in any layout.
        min_side: What the image will be shrunk to: a JPEG with at least twice so many pixels on
            its shorter side may come out smaller by 2, 4 or 8, which its coding gives for free
            (47 dB and more from the exact result after the resize).
        background: Red, green and blue behind transparent pixels, 0 to 255.

    Raises:
        BrokenFileError: It is no image, is cut short, too large or of an unknown kind.
    """
    if data.startswith(_NPY):
        return _from_npy(data)
    image = open_image(data)
    try:
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            size = image.size
            if min_side is not None:
                _draft(image, _OVERSAMPLING * min_side)
            if image.size == size and image.getexif().get(_ORIENTATION, 1) == 1:
                return _from_jpeg(data)
        return _from_pillow(_to_rgb(upright(image), tuple(background)))
    except BrokenFileError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever they stumble over
        raise BrokenFileError(f"cannot be decoded: {first_line(error)}") from error


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of the upright image as the file tells them, in pixels.

    Raises:
        BrokenFileError: It is no image.
    """
    if data.startswith(_NPY):
        _, height, width = _from_npy(data).shape
        return width, height
    image = open_image(data)
    turned = _orientation(image) >= 5
    return image.size[::-1] if turned else image.size


def conversions(data: bytes) -> list[str]:
    """What `decode_image` changes about a file's pixels, each in a few words.

    Raises:
        BrokenFileError: It is no image.
    """
    if data.startswith(_NPY):
        return []
    image = open_image(data)
    found = []
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I"):
        found.append("grey to three equal channels")
    elif image.mode not in ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA"):
        found.append(f"{image.mode} to RGB")
    if image.mode.startswith("I") or _bits(image, data) > 8:
        found.append("16 bits to 8")
    if image.has_transparency_data:
        found.append("transparency to the background's colour")
    if getattr(image, "n_frames", 1) > 1:
        found.append("all frames but the first left out")
    return found


def is_picture(data: bytes) -> bool:
    """Whether a file is an image of 8 bits at most, by its header alone; npy is none.

    Raises:
        BrokenFileError: It is no image.
    """
    if data.startswith(_NPY):
        return False
    image = open_image(data)
    return image.mode != "F" and not image.mode.startswith("I") and _bits(image, data) <= 8


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits of a channel, of the formats whose colours Pillow cuts to 8 without a word."""
    if image.format == "PNG":
        return data[_PNG_DEPTH]
    if image.format == "TIFF":
        return max(np.atleast_1d(image.getexif().get(_TIFF_DEPTH, 8)).tolist())
    return 8


@dataclass(frozen=True)
class LabelMap:
    """An encoded segmentation mask and how its values are to be read.

    Attributes:
        data: A whole file; grey or palette, a label a pixel.
        num_labels: Number of labels.
        first: Value of label 0 in the file.
        unlabelled: Value of pixels without a label, which come out as 255.
    """

    data: bytes
    num_labels: int
    first: int = 0
    unlabelled: int = UNLABELLED

    def decode(self) -> Int[Tensor, "h w"]:
        """The label of each pixel, 255 where there is none.

        Raises:
            BrokenFileError: It is no label map, or has a label out of range.
        """
        image = open_image(self.data)
        if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L"):
            raise BrokenFileError(
                f"is a mask in colours (mode {image.mode}): a mask holds one label a pixel, "
                "as grey or palette"
            )
        try:
            values = torch.from_numpy(np.array(image).astype(np.int64))
        except Exception as error:
            raise BrokenFileError(f"cannot be decoded: {first_line(error)}") from error
        labels = values - self.first
        labels[values == self.unlabelled] = UNLABELLED
        wrong = ((labels < 0) | (labels >= self.num_labels)) & (values != self.unlabelled)
        if bool(wrong.any()):
            last = self.first + self.num_labels - 1
            raise BrokenFileError(
                f"has the label {int(values[wrong][0])}, out of range {self.first} to {last} "
                f"(unlabelled: {self.unlabelled})"
            )
        return labels


def decode_text(data: bytes) -> str:
    """A caption on one line."""
    return one_line(decoded(data))


def decoded(data: bytes) -> str:
    """A text: UTF-8, UTF-16 where its first bytes say so, or Latin-1 where it is neither."""
    data = as_utf8(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def as_utf8(data: bytes) -> bytes:
    """A text whose first bytes say that it is UTF-16, as UTF-8; any other as it is."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16", "replace").encode() if marked else data


def one_line(text: str) -> str:
    """A text on one line, of characters that any encoding has (JSON may hold half of one)."""
    whole = text.encode("utf-8", "replace").decode()
    return " ".join(whole.replace("\0", " ").split())


def open_image(data: bytes) -> Image.Image:
    """The header of an image.

    Raises:
        BrokenFileError: It is none, or too large.
    """
    if not data:
        raise BrokenFileError("is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_openable())
    except Image.DecompressionBombError as error:
        raise BrokenFileError(f"is too large: {first_line(error)}") from error
    except Exception as error:
        raise BrokenFileError(f"is no whole image; it starts with {data[:12]!r}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenFileError(f"is too large: {width} x {height} pixels, {MAX_PIXELS:,} at most")
    return image


@functools.cache
def _openable() -> tuple[str, ...]:
    Image.init()  # Pillow raises for the name of a format that it was built without
    return tuple(form for form in FORMATS if form in Image.OPEN)


def _draft(image: Image.Image, side: int) -> None:
    """Let a JPEG be decoded at a fraction of its size, both sides staying above `side`."""
    image.draft(None, (side, side))


def upright(image: Image.Image) -> Image.Image:
    """The image as its camera was held, where that is told."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # of EXIF that is none; the pixels are whole
        return image


def _from_jpeg(data: bytes) -> UInt8[Tensor, "3 h w"]:
    """The same pixels as Pillow's, a third faster for want of its wider pixels."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except (ImportError, RuntimeError):  # torchvision goes without decoders some day, or with less
        return _from_pillow(open_image(data).convert("RGB"))


def _from_pillow(image: Image.Image) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _from_npy(data: bytes) -> UInt8[Tensor, "3 h w"]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise BrokenFileError(f"cannot be decoded: {first_line(error)}") from error
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] != 3 and array.shape[2] == 3:
        array = array.transpose(2, 0, 1)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3 or not array.size:
        raise BrokenFileError(
            f"holds {array.dtype} of shape {shape}: an image is uint8 of shape (1, 3, h, w), "
            "(3, h, w) or (h, w, 3)"
        )
    return torch.from_numpy(array)


def _to_rgb(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits to 8 instead of scaling them.
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise BrokenFileError("has more than 16 bits a pixel")
        grey = np.empty(wide.shape, np.uint8)
        for out, row in zip(grey, wide, strict=True):  # a row at a time: images may be huge
            out[:] = (row.astype(np.uint32) + 128) // 257
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise BrokenFileError("holds floating-point pixels, of unknown range")
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # of EXIF that is none
        return 1


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
