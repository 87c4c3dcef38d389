"""Files of any channels and depth become what was asked for, or are refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.images.values import read_values

RAMP = np.linspace(0, 65535, 12 * 10).round().astype(np.uint16).reshape(12, 10)
PLANES = np.stack([RAMP, RAMP[::-1], RAMP.T.reshape(12, 10), 65535 - RAMP])


def saved(writer: Any, *args: Any, **options: Any) -> bytes:
    data = io.BytesIO()
    writer(data, *args, **options)
    return data.getvalue()


def png16(planes: np.ndarray) -> bytes:
    """A PNG of 16 bits by hand: unfiltered rows."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[len(planes)]
    _, height, width = planes.shape
    rows = planes.transpose(1, 2, 0).astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def npz(**arrays: np.ndarray) -> bytes:
    return saved(np.savez, **arrays)


TIFF = {"photometric": "minisblack"}
FILES = {
    "npy": (saved(np.save, PLANES), PLANES),
    "npy, channels last": (saved(np.save, PLANES.transpose(1, 2, 0)), PLANES),
    "npy, one plane": (saved(np.save, RAMP), PLANES[:1]),
    "npz": (npz(anything=PLANES), PLANES),
    "npz, one of many": (npz(image=PLANES, mask=RAMP), PLANES),
    "png of grey": (png16(PLANES[:1]), PLANES[:1]),
    "png of colours": (png16(PLANES[:3]), PLANES[:3]),
    "png with transparency": (png16(PLANES), PLANES),
    "tiff of planes": (saved(tifffile.imwrite, PLANES, planarconfig="separate", **TIFF), PLANES),
    "tiff of pixels": (
        saved(tifffile.imwrite, PLANES.transpose(1, 2, 0).copy(), planarconfig="contig", **TIFF),
        PLANES,
    ),
    "tiff of tiles": (
        saved(tifffile.imwrite, RAMP, tile=(16, 16), compression="zlib", **TIFF),
        PLANES[:1],
    ),
    "tiff turned": (saved(tifffile.imwrite, RAMP, extratags=[(274, "H", 1, 6)], **TIFF), None),
}


@pytest.mark.parametrize("name", FILES)
def test_every_value_of_a_file_is_read(name: str) -> None:
    data, planes = FILES[name]
    if planes is None:  # its first row is the right-hand side of what is looked at
        planes = np.rot90(RAMP, -1)[None]
    found = read_values(data, len(planes))
    assert found.full == 65535 and np.array_equal(found.array, planes)
    unit = Pixels(len(planes), 16).decode(data)
    assert np.array_equal(Pixels(len(planes), 16).values.from_unit(unit), planes)


def test_pages_are_channels_where_asked() -> None:
    data = saved(tifffile.imwrite, PLANES, **TIFF)
    assert np.array_equal(read_values(data, 4, "channels").array, PLANES)
    first = read_values(data, 4, "first")
    assert np.array_equal(first.array, PLANES[:1]) and first.pages == 4
    said = Pixels(1, 16).conversions(data)
    assert said == ["all frames but the first left out"]
    assert Pixels(4, 16, pages="channels").conversions(data) == []


def test_grey_becomes_colours_and_colours_grey() -> None:
    grey = saved(Image.fromarray(RAMP).save, format="PNG")
    unit = Pixels(3, 16).decode(grey)
    assert torch.equal(unit[0], unit[1]) and torch.equal(unit[0], unit[2])
    assert Pixels(3, 16).conversions(grey) == ["grey to three equal channels"]
    colours = saved(Image.new("RGB", (2, 2), (255, 0, 0)).save, format="PNG")
    assert float(Pixels(1).decode(colours)[0, 0, 0]) == pytest.approx(2 * 0.299 - 1, abs=1e-6)
    assert Pixels(1).conversions(colours) == ["colours to grey"]


def test_transparency_shows_the_background_or_is_a_channel() -> None:
    data = saved(Image.new("RGBA", (2, 2), (0, 0, 0, 51)).save, format="PNG")
    shown = Pixels(3, 16).decode(data, background=(255, 0, 0))[:, 0, 0]
    assert shown.tolist() == pytest.approx([2 * 0.8 - 1, -1, -1], abs=1e-6)
    assert "transparency to the background's colour" in Pixels(3, 16).conversions(data)
    kept = Pixels(4, 8).decode(data)[:, 0, 0]
    assert kept.tolist() == pytest.approx([-1, -1, -1, 2 * 0.2 - 1], abs=1e-6)


def test_depths_meet_in_the_full_range_of_their_types() -> None:
    eight = saved(np.save, np.array([[0, 128, 255]], np.uint8))
    unit = Pixels(1, 16).decode(eight)
    assert Pixels(1, 16).values.from_unit(unit).flatten().tolist() == [0, 128 * 257, 65535]
    sixteen = saved(np.save, np.array([[0, 128 * 257, 65535]], np.uint16))
    assert torch.allclose(Pixels(1, 8).decode(sixteen), unit, atol=1e-6)
    assert Pixels(1, 8).conversions(sixteen) == ["uint16, of which samples keep 8 bits"]


def test_clipped_values_are_said() -> None:
    data = saved(np.save, np.array([[0, 5000]], np.uint16))
    pixels = Pixels(1, 16, value_range=[0, 4095])
    assert pixels.decode(data).flatten().tolist() == [-1, 1]
    assert pixels.conversions(data) == ["values out of the range clipped"]
    window = Pixels(1, "float", value_window=[40, 400])
    assert window.values.value_range == ((-160, 240),)


@pytest.mark.parametrize(
    ("data", "pixels", "why"),
    [
        (saved(np.save, PLANES), Pixels(3, 16), r"4 channels.*data\.channels=4"),
        (saved(np.save, np.zeros((2, 2), np.float32)), Pixels(1), r"data\.value_range"),
        (saved(np.save, np.array([[np.nan]])), Pixels(1, value_range=[0, 1]), "not finite"),
        (saved(np.save, np.zeros((17, 20, 20))), Pixels(16, 16), "1 to 16"),
        (saved(np.save, np.array([["a"]])), Pixels(1), "numbers"),
        (saved(np.save, np.array([[{}]], object), allow_pickle=True), Pixels(1), "decoded"),
        (npz(a=RAMP, b=RAMP), Pixels(1), "2 arrays"),
        (saved(np.save, PLANES)[:-9], Pixels(4), "decoded"),
        (saved(tifffile.imwrite, PLANES, **TIFF)[:300], Pixels(1), "decoded|no whole image"),
        (b"", Pixels(1), "empty"),
        (b"PK\x03\x04", Pixels(1), "decoded"),
    ],
)
def test_unusable_values_say_why(data: bytes, pixels: Pixels, why: str) -> None:
    with pytest.raises(BrokenFileError, match=why):
        pixels.decode(data)


def test_huge_array_is_refused_before_it_takes_memory() -> None:
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, shape)
    with pytest.raises(BrokenFileError, match="too large"):
        Pixels(1).decode(header.getvalue())


def test_rules_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="give one"):
        Pixels(1, 16, value_range=[0, 1], value_window=[0, 1])
    with pytest.raises(UserError, match="tells no range"):
        Pixels(1, "float")
    with pytest.raises(UserError, match=r"data\.bits=float"):
        Pixels(1, 16, value_window=[40, 400])
    with pytest.raises(UserError, match="none were looked at"):
        Pixels(1, 16, value_percentile=[1, 99]).decode(FILES["npy, one plane"][0])
