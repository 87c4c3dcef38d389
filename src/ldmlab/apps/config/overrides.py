"""One command-line argument, `key=value`: text is literal, everything else is Hydra's grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.errors import HydraException

from ldmlab.core.errors import UserError

# A key whose last part is one of these holds free text or a path, never a number or a list.
_CAPTION_NAMES = {"prompt", "also", "negative_prompt"}
_TEXT_NAMES = _CAPTION_NAMES | {
    "captions", "prompts", "run", "out", "config", "root", "folder", "path", "autoguidance",
    "image", "inpaint", "images", "latents", "masks", "vocabulary", "train_list",
    "validation_list", "cache", "encoder",
    "compvis", "diffusers", "weights",
}  # fmt: skip


@dataclass(frozen=True)
class Override:
    """An argument taken apart.

    Attributes:
        argument: As the user wrote it.
        key: Dotted key, or the name of a group.
        value: The value; text when the key takes text, a list where it sweeps over choices.
        adds: Whether the key may be new (`+key=value`).
        sweeps: Whether it names several values, one per job.
    """

    argument: str
    key: str
    value: Any
    adds: bool = False
    sweeps: bool = False


def is_text(key: str) -> bool:
    """Whether the value of `key` is taken literally."""
    return key.startswith("paths.") or key.rpartition(".")[2] in _TEXT_NAMES


def parse(argument: str) -> Override:
    """Take one argument apart.

    Raises:
        UserError: If it is no `key=value`, deletes a key, or has a value that cannot be read.
    """
    key, equals, text = argument.partition("=")
    if key.startswith("~"):
        raise UserError(
            f"{argument}: nothing may be deleted from the configuration; choose another option "
            f"({key[1:]}=...) or set the key to null"
        )
    name = key.lstrip("+")
    if not equals or not name:
        raise UserError(f"'{argument}' is not an override: write key=value")
    adds = key.startswith("+")
    if is_text(name):
        return Override(argument, name, _literal(name, text), adds)
    parsed = parse_with_hydra(argument)
    if parsed.is_sweep_override():
        values = parsed.value()
        choices = values.list if isinstance(values, ChoiceSweep) else []
        return Override(argument, parsed.key_or_group, choices, adds, sweeps=True)
    return Override(argument, parsed.key_or_group, parsed.value(), adds)


def protect(argument: str) -> str:
    """Quote the text of an argument, so that Hydra's grammar hands it through unchanged."""
    key, equals, text = argument.partition("=")
    if not equals or not is_text(key.lstrip("+")):
        return argument
    value = _literal(key.lstrip("+"), text)
    return f"{key}=null" if value is None else f"{key}={_quote(value)}"


def unprotect(argument: str) -> str:
    """Undo `protect`: the argument as the user would type it."""
    key, _, text = argument.partition("=")
    if not is_text(key.lstrip("+")) or not text.startswith(("'", '"')):
        return argument
    return f"{key}={_unescape(str(parse_with_hydra(argument).value()))}"


def refuse_sweeps(overrides: Sequence[Override]) -> None:
    """Refuse several values for one key outside a multirun.

    Raises:
        UserError: Naming the argument and both ways out.
    """
    for override in overrides:
        if override.sweeps:
            raise UserError(
                f"{override.argument} names several values: write a list as key=[a,b], quote a "
                f"text, or run one job per value with `ldmlab train -m`"
            )


def _literal(key: str, text: str) -> str | None:
    # `null` empties a path; as a caption it is a word like any other.
    if text == "null" and key.rpartition(".")[2] not in _CAPTION_NAMES:
        return None
    return _escape(text)


def _escape(text: str) -> str:
    """Keep OmegaConf from resolving what looks like an interpolation."""
    parts = text.split("${")
    for i, part in enumerate(parts[:-1]):
        slashes = len(part) - len(part.rstrip("\\"))
        parts[i] = part + "\\" * (slashes + 1)
    return "${".join(parts)


def _unescape(text: str) -> str:
    parts = text.split("${")
    for i, part in enumerate(parts[:-1]):
        slashes = len(part) - len(part.rstrip("\\"))
        parts[i] = part[: len(part) - (slashes + 1) // 2]
    return "${".join(parts)


def _quote(text: str) -> str:
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def parse_with_hydra(argument: str) -> HydraOverride:
    """Take one argument apart as Hydra's own grammar does.

    Raises:
        UserError: If its value cannot be read.
    """
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        key, _, text = argument.partition("=")
        raise UserError(
            f"cannot read the value of {key}: {text!r}; put quotes inside quotes around a text "
            f"with special characters: '{key}=\"...\"'"
        ) from error
