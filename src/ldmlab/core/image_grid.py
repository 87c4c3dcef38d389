"""Grids of images with a line of text below each."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ldmlab.core.files import atomic_write
from ldmlab.core.tensors import to_bytes

_LINES = 8  # of a caption: one of a web page's length would make a tower of the grid


def to_pil(image: Float[Tensor, "c h w"]) -> Image.Image:
    """A picture of one image in [-1, 1]: of its first channel, or of its first three as colours."""
    shown = image[:3] if len(image) >= 3 else image[:1]
    pixels = to_bytes(shown).cpu().movedim(0, -1).numpy()
    return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())


def picture_grid(
    images: Float[Tensor, "b c h w"],
    captions: Sequence[str] | None = None,
    columns: int = 4,
    tile: int = 160,
) -> Image.Image:
    """Images side by side, enlarged to whole multiples, each above its caption.

    Args:
        images: Pixels in [-1, 1].
        captions: One text per image; their beginnings are shown.
        columns: Images a row.
        tile: Least width of an image on the grid, in pixels.
    """
    height, width = images.shape[-2:]
    zoom = max(1, -(-tile // width))
    w, h = width * zoom, height * zoom
    font = ImageFont.load_default(size=11)
    wrap = textwrap.TextWrapper(max(12, w // 6), max_lines=_LINES, placeholder=" ...").wrap
    wrapped = [wrap(text) for text in captions or [""] * len(images)]
    lines = max((len(text) for text in wrapped), default=0)
    cell_w, cell_h, gap = w + 8, h + 13 * lines + 8, 8
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (image, text) in enumerate(zip(images, wrapped, strict=True)):
        x, y = gap + i % columns * cell_w, gap + i // columns * cell_h
        canvas.paste(to_pil(image).resize((w, h), Image.Resampling.NEAREST), (x, y))
        for k, line in enumerate(text):
            draw.text((x, y + h + 2 + 13 * k), line, fill="black", font=font)
    return canvas


def save_picture(picture: Image.Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write a PNG whole or not at all.

    Args:
        picture: The picture.
        path: The file.
        texts: What it is to say of itself, a text chunk each.
    """
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)  # Latin-1, or UTF-8 where that does not do
    data = io.BytesIO()
    picture.save(data, format="PNG", pnginfo=info)
    with atomic_write(path) as file:
        file.write(data.getvalue())
