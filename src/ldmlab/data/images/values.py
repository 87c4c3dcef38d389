"""Reads the values of image files as they are stored: any number of channels, depth and type."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import MAX_PIXELS, BrokenFileError, first_line, open_image, upright
from ldmlab.data.images.medical import DICOM, is_dicom, read_dicom

Pages = Literal["first", "channels"]

MAX_CHANNELS = 16
MAX_VALUES = 4 * MAX_PIXELS
"""Larger arrays are refused: a header of bytes can promise any number of them."""

_NPY, _NPZ = b"\x93NUMPY", b"PK\x03\x04"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG"
_PNG_DEPTH, _PNG_KIND = 24, 25  # bytes behind signature, length, type, width and height
_TRANSPARENCY = (1, 2)  # of TIFF's ExtraSamples
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Values:
    """The numbers of a file.

    Attributes:
        array: [channels, height, width], as stored.
        alpha: Whether the last channel is transparency.
        full: Largest value of its type; None where that says nothing of its range.
        pages: Number of pages or frames in the file.
    """

    array: np.ndarray
    alpha: bool = False
    full: float | None = None
    pages: int = 1


def read_values(data: bytes, channels: int, pages: Pages = "first") -> Values:
    """The values of a file, upright.

    Args:
        data: A whole file: npy, npz, TIFF, DICOM, 16-bit PNG, or what Pillow opens.
        channels: How many are wanted, which tells channels from rows in an array.
        pages: Whether a file's pages are its channels, or only the first is meant.

    Raises:
        UserError: It is DICOM, and pydicom is not installed.
        BrokenFileError: It is no image, is cut short, too large or of an unknown kind.
    """
    try:
        if data.startswith((_NPY, _NPZ)):
            return _of_type(_planes(_array(data), channels))
        if is_dicom(data):
            return _stack(read_dicom(data), pages, DICOM)
        if data.startswith(_TIFF) and (found := _tiff(data, pages)) is not None:
            return found
        if data.startswith(_PNG) and data[_PNG_DEPTH] == 16 and data[_PNG_KIND] != 0:
            return _wide_png(data)
        return _pillow(data, pages)
    except (BrokenFileError, UserError):
        raise
    except Exception as error:  # the readers raise whatever they stumble over
        raise BrokenFileError(f"cannot be decoded: {first_line(error)}") from error


def _of_type(array: np.ndarray, alpha: bool = False, pages: int = 1) -> Values:
    """An array with the range that its type tells: that of 8 and 16 bits without a sign."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise BrokenFileError(f"holds {array.dtype}: an image holds numbers")
    if array.ndim != 3 or not 1 <= array.shape[0] <= MAX_CHANNELS or not array.size:
        raise BrokenFileError(
            f"holds {array.dtype} of shape {array.shape}: an image is (c, h, w), (h, w, c) or "
            f"(h, w), with 1 to {MAX_CHANNELS} channels"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BrokenFileError("holds values that are not finite")
    full = {np.dtype(bool): 1.0, np.dtype(np.uint8): 255.0}.get(array.dtype)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        full = 65535.0
    return Values(array, alpha, full, pages)


def _array(data: bytes) -> np.ndarray:
    """The array of an npy file, or the only one, or that called image, of an npz file."""
    if data.startswith(_NPY):
        _check_header(io.BytesIO(data))
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if len(names) != 1 and "image" not in names:
            raise BrokenFileError(f"holds {len(names)} arrays: call the one that is meant `image`")
        name = "image" if "image" in names else names[0]
        with archive.open(f"{name}.npy") as member:
            _check_header(member)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return np.asarray(arrays[name])


def _check_pages(count: int) -> None:
    if count > MAX_CHANNELS:
        raise BrokenFileError(
            f"has {count} pages, and an image has {MAX_CHANNELS} channels at most"
        )


def _check_header(file: Any) -> None:
    """Refuse an array that is too large before it takes memory."""
    major, _ = np.lib.format.read_magic(file)
    header = "read_array_header_1_0" if major == 1 else "read_array_header_2_0"
    shape = getattr(np.lib.format, header)(file)[0]
    if np.prod(shape, dtype=np.float64) > MAX_VALUES:
        raise BrokenFileError(f"is too large: an array of shape {shape}")


def _planes(array: np.ndarray, channels: int) -> np.ndarray:
    """An array with its channels first."""
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        return array
    first, last = array.shape[0], array.shape[2]
    is_last = last == channels if channels in (first, last) else last < first
    return array.transpose(2, 0, 1) if is_last and first != channels else array


def _stack(frames: list[np.ndarray], pages: Pages, kind: str) -> Values:
    """Frames of a file, [h, w] or [h, w, c] each, as channels or the first of them."""
    if pages == "channels":
        if any(frame.ndim != 2 or frame.shape != frames[0].shape for frame in frames):
            raise BrokenFileError(f"has pages of several sizes or channels; {kind}")
        return _of_type(np.stack(frames))
    first = frames[0]
    array = first[None] if first.ndim == 2 else first.transpose(2, 0, 1)
    return _of_type(array, pages=len(frames))


def _tiff(data: bytes, pages: Pages) -> Values | None:
    """A TIFF's values; None for palettes, and for coding that Pillow knows and tifffile does not.

    Raises:
        BrokenFileError: Neither knows the coding.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        chosen: list[Any] = list(file.pages) if pages == "channels" else [file.pages[0]]
        first = chosen[0]
        _check_pages(len(chosen))
        if first.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB"):
            return None
        for page in chosen:
            if page.size > MAX_VALUES or page.imagewidth * page.imagelength > MAX_PIXELS:
                raise BrokenFileError(
                    f"is too large: {page.imagewidth} x {page.imagelength} pixels, "
                    f"{MAX_PIXELS:,} at most"
                )
        try:
            arrays = [_tiff_planes(page) for page in chosen]
        except (ValueError, KeyError, RuntimeError) as error:
            simple = first.samplesperpixel == 1 or first.bitspersample == 8
            if simple and pages == "first":
                return None
            raise BrokenFileError(
                f"is coded by {first.compression.name}, which is read with the package imagecodecs "
                f"only: pip install imagecodecs ({first_line(error)})"
            ) from error
        if len({array.shape[1:] for array in arrays}) > 1:
            raise BrokenFileError("has pages of several sizes: data.pages=first takes the first")
        extra = tuple(int(kind) for kind in getattr(first, "extrasamples", ()))
        alpha = pages == "first" and bool(extra) and extra[-1] in _TRANSPARENCY
        return _of_type(np.concatenate(arrays), alpha, len(file.pages))


def _tiff_planes(page: Any) -> np.ndarray:
    """A page of a TIFF, channels first and upright."""
    array = page.asarray()
    array = array[None] if array.ndim == 2 else array
    array = array.transpose(2, 0, 1) if page.axes.endswith("S") else array
    if page.photometric.name == "MINISWHITE":
        if array.dtype.kind != "u":
            raise BrokenFileError(f"is white at 0 and holds {array.dtype}")
        array = np.iinfo(array.dtype).max - array
    tag = page.tags.get(_ORIENTATION)
    return _oriented(array, 1 if tag is None else int(tag.value))


def _oriented(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns in the order in which they are looked at, of EXIF's eight."""
    if orientation >= 5:
        array = array.swapaxes(1, 2)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return array[:, :: -1 if down else 1, :: -1 if across else 1]


def _wide_png(data: bytes) -> Values:
    """16 bits of several channels, which Pillow cuts to 8."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    open_image(data)  # its size is checked there
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    planes = decode_png(encoded, ImageReadMode.UNCHANGED).numpy()
    return _of_type(planes, alpha=len(planes) in (2, 4))


def _pillow(data: bytes, pages: Pages) -> Values:
    image = open_image(data)
    count = int(getattr(image, "n_frames", 1))
    if pages == "channels" and count > 1:
        _check_pages(count)
        frames = []
        for number in range(count):
            image.seek(number)
            frames.append(np.array(image.convert("L") if image.mode in ("1", "P") else image))
        return _stack(frames, pages, image.format or "")
    image = upright(image)
    if image.mode == "I":  # 16 bits of formats that have no name for them
        wide = np.asarray(image)
        fits = wide.min() >= 0 and wide.max() <= 65535
        return _of_type((wide.astype(np.uint16) if fits else wide)[None], pages=count)
    if image.mode.startswith("I;16"):
        return _of_type(np.asarray(image).astype(np.uint16)[None], pages=count)
    if image.mode == "F":
        return _of_type(np.asarray(image)[None], pages=count)
    return _bytes(image, count)


def _bytes(image: Image.Image, pages: int) -> Values:
    """8 bits: grey or colours, with transparency where there is any."""
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = image.has_transparency_data
    mode = {(True, False): "L", (True, True): "LA", (False, False): "RGB", (False, True): "RGBA"}
    array = np.array(image.convert(mode[grey, alpha]))
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return _of_type(array, alpha, pages)
