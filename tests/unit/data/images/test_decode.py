"""Every kind of image that is met in the wild becomes the same kind of tensor, or one reason."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ldmlab.data.images.decode import (
    BrokenFileError,
    LabelMap,
    conversions,
    decode_image,
    decode_text,
)
from ldmlab.data.specimens.scenes import scenes

PICTURE = scenes(1, 64)[0].image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def close(a: torch.Tensor, b: Image.Image, tolerance: float) -> bool:
    other = torch.from_numpy(np.array(b.convert("RGB"))).permute(2, 0, 1)
    return a.shape == other.shape and float((a.float() - other.float()).abs().mean()) <= tolerance


@pytest.mark.parametrize(
    ("form", "mode", "tolerance"),
    [
        ("JPEG", "RGB", 4), ("JPEG", "L", 4), ("JPEG", "CMYK", 4), ("PNG", "RGB", 0),
        ("PNG", "L", 0), ("PNG", "1", 0), ("PNG", "P", 0), ("GIF", "P", 0), ("TIFF", "RGB", 0),
        ("TIFF", "CMYK", 1), ("WEBP", "RGB", 8), ("BMP", "RGB", 0), ("PPM", "RGB", 0),
    ],
)  # fmt: skip
def test_decode_reads_formats_and_modes(form: str, mode: str, tolerance: float) -> None:
    image = PICTURE.convert(mode)
    assert close(decode_image(encoded(image, form)), image, tolerance)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_decoded_as_pillow_does(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PICTURE.convert(mode), "JPEG", quality=90)
    assert close(decode_image(data), Image.open(io.BytesIO(data)), 0)
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    assert close(decode_image(data), Image.open(io.BytesIO(data)), 0)


def test_large_jpeg_is_decoded_at_reduced_size() -> None:
    data = encoded(PICTURE.resize((1024, 512), Image.Resampling.BICUBIC), "JPEG", quality=92)
    assert decode_image(data, min_side=64).shape == (3, 128, 256)
    assert decode_image(data, min_side=256).shape == (3, 512, 1024)
    assert decode_image(data).shape == (3, 512, 1024)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_the_background(mode: str) -> None:
    image = Image.new("RGBA", (8, 4), (200, 200, 200, 255))
    image.paste((10, 20, 30, 0), (0, 0, 4, 4))
    image = image.convert(mode)
    pixels = decode_image(encoded(image, "PNG"), background=(1, 2, 3))
    assert pixels[:, 0, 0].tolist() == [1, 2, 3]
    assert pixels[:, 0, 7].tolist() == [200, 200, 200]
    assert decode_image(encoded(image, "PNG"))[:, 0, 0].tolist() == [255, 255, 255]


def test_transparent_palette_colour_shows_the_background() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 250, 0, 0])
    image.putpixel((0, 0), 0)
    pixels = decode_image(encoded(image, "PNG", transparency=0))
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 1, 1].tolist() == [250, 0, 0]


def test_sixteen_bit_images_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    pixels = decode_image(encoded(Image.fromarray(ramp), "PNG"))
    assert torch.equal(pixels[0, 0].int(), torch.arange(256, dtype=torch.int))
    # Whose lower half says something else: 100.4 and 100.6 steps of 257.
    uneven = np.array([[25803, 25854]], np.uint16)
    assert decode_image(encoded(Image.fromarray(uneven), "PNG"))[:, 0].tolist() == [[100, 101]] * 3


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    data = encoded(PICTURE.crop((0, 0, 64, 32)), form, exif=exif, quality=95)
    turned = PICTURE.crop((0, 0, 64, 32)).transpose(Image.Transpose.ROTATE_270)
    assert close(decode_image(data), turned, 6 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_animation_gives_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50)
    assert decode_image(data).float().mean() > 250


@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (3, 8, 6), (8, 6, 3)])
def test_npy_is_read_in_each_layout(shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    np.save(file, np.full(shape, 7, np.uint8))
    pixels = decode_image(file.getvalue())
    assert pixels.shape == (3, 8, 6) and bool((pixels == 7).all())


def bomb() -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0))
    rows = zlib.compress(b"\0" * 1251 * 10_000)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    return file.getvalue()


def floats() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((3, 4, 4), np.float32))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "no whole image; it starts with b'<!DOCTYPE"),
        (encoded(PICTURE, "JPEG")[:700], "cannot be decoded"),
        (encoded(PICTURE, "JPEG")[:2], "no whole image"),
        (encoded(PICTURE, "PNG")[:900], "cannot be decoded"),
        (encoded(PICTURE.convert("CMYK"), "JPEG")[:1500], "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no whole image"),
        (bomb(), "too large"),
        (pickled(), "cannot be decoded"),
        (floats(), "float32"),
    ],
    ids=["empty", "html", "jpeg", "start", "png", "cmyk", "eps", "bomb", "pickle", "floats"],
)
def test_unusable_image_says_why(data: bytes, words: str) -> None:
    with pytest.raises(BrokenFileError, match=words):
        decode_image(data)


def test_mask_decoding_keeps_values() -> None:
    values = np.array([[0, 5], [181, 255]], np.uint8)
    grey, palette = Image.fromarray(values), Image.fromarray(values)
    palette.putpalette(bytes(range(256)) * 3)
    for image in (grey, palette):
        mask = LabelMap(encoded(image, "PNG"), 182).decode()
        assert mask.tolist() == [[0, 5], [181, 255]]


def test_mask_labels_from_one_are_shifted() -> None:
    values = np.array([[0, 1, 150]], np.uint8)
    mask = LabelMap(encoded(Image.fromarray(values), "PNG"), 150, 1, 0).decode()
    assert mask.tolist() == [[255, 0, 149]]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(np.array([[182]], np.uint8)), "label 182, out of range 0 to 181"),
        (PICTURE, "mask in colours"),
    ],
)
def test_unusable_mask_is_refused(image: Image.Image, words: str) -> None:
    with pytest.raises(BrokenFileError, match=words):
        LabelMap(encoded(image, "PNG"), 182).decode()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a house\n", "a house"),
        (b"", ""),
        ("café \N{SNOWMAN} \N{HEBREW LETTER ALEF}".encode(), "café ☃ א"),
        ("\ufeffwith a mark".encode(), "with a mark"),
        ("café".encode("latin-1"), "café"),
        (b"a\0b", "a b"),
    ],
)
def test_caption_decoding_accepts_any_bytes(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000"])
def test_newer_formats_are_read_if_pillow_reads_them(form: str) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"Pillow lacks {form}")
    assert close(decode_image(encoded(PICTURE, form)), PICTURE, 6)


def test_pillow_decodes_what_torchvision_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("decode_jpeg, /build/decode_jpeg.cpp:171, Unsupported")

    monkeypatch.setattr("torchvision.io.decode_jpeg", refuse)
    data = encoded(PICTURE, "JPEG", quality=90)
    assert close(decode_image(data), Image.open(io.BytesIO(data)), 0)
    with pytest.raises(BrokenFileError, match="image file is truncated") as error:
        decode_image(data[: len(data) // 2])
    assert ".cpp" not in str(error.value)


def test_damaged_exif_is_ignored() -> None:
    data = encoded(PICTURE, "PNG", exif=b"Exif\0\0garbage")
    assert close(decode_image(data), PICTURE, 0)
    with pytest.raises(BrokenFileError, match="truncated"):
        decode_image(data[:-200])


@pytest.mark.parametrize("shape", [(0, 0, 3), (3, 0, 0), (3, 4, 0)])
def test_empty_array_is_a_broken_file(shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, np.uint8))
    with pytest.raises(BrokenFileError, match=r"holds uint8 of shape"):
        decode_image(file.getvalue())


def sixteen_bits(channels: int) -> bytes:
    """A PNG of 16 bits a channel, by hand: Pillow writes no such colours."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 8, 8, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(16 * channels)) for _ in range(8))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(PICTURE, "PNG"), []),
        (encoded(PICTURE, "JPEG"), []),
        (encoded(PICTURE.convert("P"), "PNG"), []),
        (encoded(PICTURE.convert("L"), "JPEG"), ["grey"]),
        (encoded(PICTURE.convert("1"), "PNG"), ["grey"]),
        (encoded(PICTURE.convert("LA"), "PNG"), ["grey", "transparency"]),
        (encoded(PICTURE.convert("RGBA"), "PNG"), ["transparency"]),
        (encoded(PICTURE.convert("CMYK"), "JPEG"), ["CMYK to RGB"]),
        (sixteen_bits(1), ["grey", "16 bits"]),
        (sixteen_bits(3), ["16 bits"]),
        (encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]), ["frames"]),
    ],
)
def test_conversions_name_what_decoding_loses(data: bytes, words: list[str]) -> None:
    found = conversions(data)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))
    assert decode_image(data).dtype == torch.uint8  # and it can be decoded


def test_sixteen_bit_values_are_rounded_to_the_nearest_of_eight() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode_image(encoded(Image.fromarray(values), "PNG"))
    exact = values.astype(np.float64) * 255 / 65535
    assert np.abs(image[0].numpy() - exact).max() <= 0.5


def test_large_sixteen_bit_image_takes_little_memory() -> None:
    data = encoded(Image.fromarray(np.zeros((4000, 4000), np.uint16)), "PNG", compress_level=1)
    code = (
        "import resource, sys; from ldmlab.data.images.decode import decode_image;"
        "small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "decode_image(sys.stdin.buffer.read());"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert int(done.stdout) * 1024 < 16e6 * 14  # bytes a pixel; floats alone would be eight more
