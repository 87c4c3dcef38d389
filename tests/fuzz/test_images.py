"""Damaged pictures and masks are broken files, whatever was done to them."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st
from PIL import Image
from tests.fuzz.harness import SPENDS, Bounds, fuzz
from tests.fuzz.mutate import mutated

from ldmlab.data.images.decode import (
    MAX_PIXELS,
    BrokenFileError,
    LabelMap,
    conversions,
    decode_image,
    image_size,
)
from ldmlab.data.images.pixels import Pixels

FORMS = (
    ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "LA"), ("PNG", "P"),
    ("PNG", "I;16"), ("PNG", "1"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "F"),
    ("TIFF", "CMYK"), ("WEBP", "RGBA"), ("PPM", "RGB"), ("PPM", "I"), ("JPEG2000", "RGB"),
    ("AVIF", "RGB"),
)  # fmt: skip
# What the largest picture that is accepted may cost: RGBA twice (Pillow's), and RGB.
PICTURE = Bounds(memory=12 * MAX_PIXELS >> 20)
# Four values a pixel at most, of 8 bytes in the file and of 4 as they are seen, twice.
VALUES = Bounds(memory=4 * 16 * MAX_PIXELS >> 20)
# A label takes 8 bytes, as torch wants it, beside the file's own 4 at most.
MASK = Bounds(memory=14 * MAX_PIXELS >> 20)


def specimens() -> list[bytes]:
    """A small picture in every format and mode, upright or not, and arrays."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).resize((24, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for form, mode in FORMS:
        grey = smooth.convert("L")
        image = grey.convert("I").convert(mode) if mode.startswith("I") else smooth.convert(mode)
        file = io.BytesIO()
        image.save(file, form, **({"exif": exif} if form == "JPEG" else {}))
        made.append(file.getvalue())
    for array in (np.zeros((4, 5, 3), np.uint8), np.zeros((1, 3, 4, 5), np.uint8)):
        file = io.BytesIO()
        np.save(file, array)
        made.append(file.getvalue())
    return made


def labels() -> list[bytes]:
    """Small masks in every mode that has labels."""
    made = []
    for mode in ("L", "P", "1", "I;16"):
        file = io.BytesIO()
        Image.new("L", (9, 7), 1).convert("I" if mode == "I;16" else mode).convert(mode).save(
            file, "PNG"
        )
        made.append(file.getvalue())
    return made


SIDE = st.integers(-2, 300) | st.sampled_from((9_000, 9_459, 9_460, 65_535, 2**31 - 1))


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Headers that promise more than there is: netpbm's, a bitmap's, an array's."""
    width, height = draw(SIDE), draw(SIDE)
    body = draw(st.binary(max_size=64))
    kind = draw(st.sampled_from(("netpbm", "bmp", "npy")))
    if kind == "netpbm":
        magic = draw(st.sampled_from((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"PF")))
        most = draw(st.sampled_from((b"1", b"255", b"65535", b"65536", b"-1", b"1e9")))
        return b"%s %d %d %s\n" % (magic, width, height, most) + body
    if kind == "bmp":
        bits = draw(st.sampled_from((1, 4, 8, 16, 24, 32, 0, 255)))
        how = draw(st.integers(0, 6))
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, how, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + info + body
    kinds = ("|u1", "|S0", "|O", "<f8", "|V3", "u1,u1", "<M8[ns]")
    told = {"descr": draw(st.sampled_from(kinds)), "fortran_order": draw(st.booleans()),
            "shape": tuple(draw(st.lists(SIDE, max_size=5)))}  # fmt: skip
    text = draw(st.just(repr(told)) | st.just("(" * 5000) | st.text(max_size=20)).encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + body


def read(data: bytes) -> None:
    """Everything that is asked of a picture, the last one as if it were the only thing."""
    for ask in (image_size, conversions, lambda x: decode_image(x, 4)):
        with contextlib.suppress(BrokenFileError):
            ask(data)
    decode_image(data)


def stored() -> list[bytes]:
    """Small files of many channels, pages and depths."""
    planes = np.arange(3 * 5 * 4, dtype=np.uint16).reshape(3, 5, 4)
    made = []
    for options in ({}, {"planarconfig": "separate"}, {"compression": "zlib"}, {"tile": (16, 16)}):
        file = io.BytesIO()
        tifffile.imwrite(file, planes, photometric="minisblack", **options)
        made.append(file.getvalue())
    for write in (np.savez, np.savez_compressed, np.save):
        file = io.BytesIO()
        write(file, planes)  # type: ignore[operator]
        made.append(file.getvalue())
    return made


def read_stored(data: bytes) -> None:
    pixels = Pixels(3, "float", value_range=[0, 60])
    for ask in (pixels.size, pixels.conversions, Pixels(3, 16, pages="channels").decode):
        with contextlib.suppress(BrokenFileError):
            ask(data)
    found = pixels.decode(data)
    assert found.shape[0] == 3 and bool(found.isfinite().all()) and float(found.abs().max()) <= 1


def read_mask(data: bytes) -> None:
    found = LabelMap(data, 12, first=1, unlabelled=0).decode()
    assert found.ndim == 2 and int(found.min()) >= 0 and int(found.max()) <= 255


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_picture_is_decoded_or_broken(spend: float) -> None:
    fuzz(read, mutated(specimens()) | headers(), (BrokenFileError,), 40, spend, PICTURE)


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_values_are_read_or_broken(spend: float) -> None:
    inputs = mutated([*stored(), *specimens()]) | headers()
    fuzz(read_stored, inputs, (BrokenFileError,), 40, spend, VALUES)


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_mask_is_decoded_or_broken(spend: float) -> None:
    inputs = mutated([*labels(), *specimens()]) | headers()
    fuzz(read_mask, inputs, (BrokenFileError,), 40, spend, MASK)
