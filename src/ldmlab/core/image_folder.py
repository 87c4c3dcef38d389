"""A folder for sampled images and their grid, in which nothing is overwritten."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.sample_log import SETTINGS

_OURS = re.compile(r"(\d{5,}|grid)\.(png|tiff)")


@contextmanager
def image_folder(
    out: str | Path | None, samples: Path, prompt: str | None, seed: int
) -> Iterator[Path]:
    """A folder that can be written and holds no images but a log's; gone if it stays empty.

    Args:
        out: Where the user wants it; None for a new one in `samples`.
        samples: Folder of such folders.
        prompt: What is drawn, for the new one's name; None without a text.
        seed: Of the noise, likewise.

    Yields:
        The folder.

    Raises:
        UserError: It cannot be written, or images in it would be overwritten.
    """
    folder = Path(out) if out else None
    made = folder is None or not folder.exists()
    try:
        if folder is None:
            folder = _new_folder(samples, prompt or "samples", seed)
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        taken = sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))
    except OSError as error:
        raise UserError(
            f"out={error.filename} cannot be written ({error.strerror}): name another folder"
        ) from error
    if taken and not (folder / SETTINGS).is_file():
        raise UserError(f"{taken[0]} exists and is not overwritten: name another folder with out=")
    try:
        yield folder
    finally:
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _new_folder(samples: Path, prompt: str, seed: int) -> Path:
    """Make a folder whose name tells prompt and seed, and no other process has."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60]
    stem = f"{words or 'samples'}-seed{seed}"
    for name in (stem, *(f"{stem}-{k}" for k in range(2, 10_000))):
        with suppress(FileExistsError):
            (samples / name).mkdir(parents=True)
            return samples / name
    raise UserError(f"{samples} holds every folder {stem}-<number>: name another with out=")
