"""Slices of medical images: DICOM files, and volumes of NIfTI. Needs the extra `medical`."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import MAX_PIXELS, BrokenFileError, first_line

DICOM = "its frames are no channels"
VOLUMES = (".nii", ".nii.gz")
_MARK, _AT = b"DICM", 128


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM."""
    return data[_AT : _AT + len(_MARK)] == _MARK


def is_volume(name: str) -> bool:
    """Whether a file's name says that it is NIfTI."""
    return name.lower().endswith(VOLUMES)


def read_dicom(data: bytes) -> list[np.ndarray]:
    """The frames of a DICOM file, [h, w] or [h, w, 3] each, in the units that it states.

    Stored values become those of the modality (Hounsfield units of a CT) by its slope and
    intercept; what is stored with white at 0 (MONOCHROME1) is turned over first.

    Args:
        data: A whole file.

    Raises:
        UserError: pydicom is not installed.
        BrokenFileError: It has no pixels, or they cannot be decoded.
    """
    pydicom = _package("pydicom")
    from pydicom.pixels.processing import apply_modality_lut

    try:
        file = pydicom.dcmread(io.BytesIO(data))
        count = int(file.Rows) * int(file.Columns) * int(file.get("NumberOfFrames", 1) or 1)
        if count > MAX_PIXELS:
            raise BrokenFileError(f"is too large: {count:,} pixels, {MAX_PIXELS:,} at most")
        stored = file.pixel_array
    except BrokenFileError:
        raise
    except Exception as error:
        raise BrokenFileError(f"cannot be decoded: {first_line(error)}") from error
    if file.get("PhotometricInterpretation") == "MONOCHROME1" and not file.PixelRepresentation:
        stored = (2 ** int(file.BitsStored) - 1) - stored
    values = np.asarray(apply_modality_lut(stored, file))
    if values.dtype.itemsize == 2 and values.dtype.kind == "u":
        values = values.astype(np.int32)  # of 12 bits or more: the type tells no range
    frames = values if int(file.get("NumberOfFrames", 1) or 1) > 1 else values[None]
    return list(frames.astype(np.float32) if frames.dtype.kind == "f" else frames)


def count_slices(path: Path) -> int:
    """The number of slices of a volume along its third axis, all times of a fourth.

    Raises:
        UserError: nibabel is not installed.
        BrokenFileError: It is no volume.
    """
    shape = _volume(path).shape
    if not 2 <= len(shape) <= 4:
        raise BrokenFileError(f"is no volume: it has the shape {shape}")
    return int(np.prod(shape[2:], dtype=np.int64))


def read_slice(path: Path, number: int) -> bytes:
    """A slice of a volume as npy, float32, in the units that the file states, first axis across.

    Args:
        path: The volume's file; of a compressed one everything before the slice is read too.
        number: From 0 up, the third axis running fastest.

    Raises:
        UserError: nibabel is not installed.
        BrokenFileError: It cannot be read.
    """
    try:
        volume = _volume(path)
        place = np.unravel_index(number, volume.shape[2:], order="F") if volume.ndim > 2 else ()
        # Rows run from the back to the front, as radiologists look at them.
        plane = np.asarray(volume.dataobj[(slice(None), slice(None), *map(int, place))]).T[::-1]
    except (UserError, BrokenFileError):
        raise
    except Exception as error:
        raise BrokenFileError(f"cannot be decoded: {first_line(error)}") from error
    file = io.BytesIO()
    np.save(file, plane.astype(np.float32))
    return file.getvalue()


@functools.lru_cache(maxsize=8)
def _volume(path: Path) -> Any:
    try:
        return _package("nibabel").load(path)
    except UserError:
        raise
    except Exception as error:
        raise BrokenFileError(f"cannot be read: {first_line(error)}") from error


def _package(name: str) -> Any:
    """A package of the extra.

    Raises:
        UserError: It is not installed.
    """
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(f"medical images need {name}: pip install 'ldmlab[medical]'") from error
