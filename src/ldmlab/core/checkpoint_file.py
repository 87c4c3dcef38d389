"""Checkpoints as files: written whole or not at all, read without running their contents."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write

_NAMED = 3  # differences that are told of two architectures


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write tensors and plain values; a kill leaves no half file under the final name.

    Args:
        checkpoint: What `read_checkpoint` gives back.
        path: A `.ckpt` file; its folder is made where it is missing.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(checkpoint, file)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values on the CPU, mapped from the file.

    Args:
        path: A `.ckpt` file.

    Raises:
        UserError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"checkpoint {path} is damaged (bad sum of {damaged}); use another")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} holds code or unknown objects and was not loaded; "
            "only tensors and plain values are read"
        ) from error
    except Exception as error:  # zipfile and torch's reader raise whatever they stumble over
        raise UserError(f"checkpoint {path} is cut short or no checkpoint; use another") from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__} and no table")
    return content


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], misfit: str) -> None:
    """Give a module exactly these tensors.

    Args:
        module: What takes them.
        weights: Every tensor of its state by name, and no other.
        misfit: What to say of another architecture's tensors; the first difference follows.

    Raises:
        UserError: A tensor is missing, left over or of another shape, or holds no numbers.
    """
    if spoilt := not_finite(weights):
        raise UserError(
            f"{spoilt} of these weights holds numbers that are not finite: take another "
            f"checkpoint ({misfit.partition(' ')[0]})"
        )
    with told_if_misfit(misfit):
        module.load_state_dict(weights)


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity; None where all are finite."""
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None


@contextmanager
def told_if_misfit(misfit: str) -> Iterator[None]:
    """Name the first tensors that `load_state_dict` could not place, with their shapes.

    Args:
        misfit: What to say of another architecture's tensors; the first differences follow.

    Raises:
        UserError: There is such a tensor. Other errors, such as a lack of memory, pass.
    """
    try:
        yield
    except RuntimeError as error:
        # torch has no class for it, only "Error(s) in loading state_dict for …:\n\t… \n\t…".
        head, _, differences = str(error).partition(":\n\t")
        if "loading state_dict" not in head or not differences:
            raise
        kinds = [_first_names(" ".join(line.split())) for line in differences.split("\n\t")]
        raise UserError(f"{misfit}: {_first(kinds, '; ')}") from error


def _first_names(difference: str) -> str:
    """A line that lists missing or unexpected tensors, with the first of their names."""
    head, *names = re.split(r'(?=")(?<=[ ])', difference)
    return difference if not names else head + _first([n.rstrip(", .") for n in names], ", ") + "."


def _first(entries: list[str], between: str) -> str:
    rest = len(entries) - _NAMED
    return between.join(entries[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
