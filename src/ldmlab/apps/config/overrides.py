"""Command-line arguments `key=value`: text is literal, everything else is Hydra's grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from ldmlab.apps.config.conf_dir import OF_OTHERS, options
from ldmlab.core.errors import UserError

# What Hydra takes for a number or a word of its own, where the name of an option is due.
_NO_NAME = re.compile(r"|null|true|false|[-+.\d]+", re.IGNORECASE)
# A key whose last part is one of these holds free text or a path, never a number or a list.
_PROMPTS = {"prompt", "also", "negative_prompt"}
_TEXTS = _PROMPTS | {
    "captions", "prompts", "labels", "negative_label", "run", "out", "config", "root", "folder",
    "path", "autoguidance", "image", "inpaint", "images", "latents", "masks", "vocabulary",
    "train_list", "validation_list", "cache", "encoder", "compvis", "diffusers", "weights",
    "run_id", "name",
}  # fmt: skip


def is_text(key: str) -> bool:
    """Whether the value of `key` is taken literally."""
    return key.startswith("paths.") or key.rpartition(".")[2] in _TEXTS


def key_of(argument: str) -> str:
    """The dotted key, or the group, that an argument sets."""
    return argument.partition("=")[0].lstrip("+")


def text_of(key: str, arguments: Iterable[str]) -> str | None:
    """The text that the arguments last give to `key`; None where they give none, or `null`."""
    found = [_meant(key, a.partition("=")[2]) for a in arguments if key_of(a) == key]
    return found[-1] if found and found[-1] != "null" else None


def check_shape(argument: str) -> None:
    """Refuse an argument that is no `key=value`, guessing the group it was meant for.

    Raises:
        UserError: It has no key or no equals sign, deletes a key, or empties a group.
    """
    if argument.startswith("~"):
        raise UserError(
            f"{argument}: nothing may be deleted from the configuration; choose another option "
            f"({argument[1:]}=...) or set the key to null"
        )
    groups, key = options(), key_of(argument)
    if "=" in argument and key:
        option = argument.partition("=")[2]
        if key in groups and (_NO_NAME.fullmatch(option) or f"{key}/{option}.yaml" in OF_OTHERS):
            listed = ", ".join(groups[key])
            raise UserError(f"{key} has no option '{option}': choose one of {listed}")
        return
    homes = [f"{group}={argument}" for group, names in groups.items() if argument in names]
    hint = f"; did you mean {' or '.join(homes)}?" if homes else ""
    raise UserError(f"'{argument}' is not an override: write key=value{hint}")


def parse(argument: str) -> Override:
    """Take an argument apart as Hydra's grammar does, its text protected.

    Raises:
        UserError: Its value cannot be read.
    """
    check_shape(argument)
    try:
        return OverridesParser.create().parse_override(protect(argument))
    except HydraException as error:
        key, _, text = argument.partition("=")
        raise UserError(
            f"cannot read the value of {key}: {text!r}; put quotes inside quotes around a text "
            f"with special characters: '{key}=\"...\"'"
        ) from error


def protect(argument: str) -> str:
    """Quote the text of an argument, so that Hydra's grammar hands it through unchanged."""
    key, equals, text = argument.partition("=")
    if not equals or not is_text(key_of(argument)):
        return argument
    text = _meant(key, text)
    # `null` empties a path; as a prompt it is a word like any other.
    if text == "null" and key.rpartition(".")[2] not in _PROMPTS:
        return argument
    return f"{key}={QuotedString(text=_escape(text), quote=Quote.single).with_quotes()}"


def unprotect(argument: str) -> str:
    """Undo `protect`: the argument as the user would type it."""
    key, _, text = argument.partition("=")
    if not is_text(key_of(argument)) or not text.startswith(("'", '"')):
        return argument
    return f"{key}={_unescape(str(OverridesParser.create().parse_override(argument).value()))}"


def typed_overrides() -> list[str]:
    """What the user of the running verb has typed; nothing outside of Hydra's main."""
    if not HydraConfig.initialized():
        return []
    return [unprotect(override) for override in HydraConfig.get().overrides.task]


def _meant(key: str, text: str) -> str:
    """A path or a name without the quotes that Hydra's users put around it, `~` as the home."""
    if key.rpartition(".")[2] in _PROMPTS:
        return text
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return str(Path(text).expanduser()) if text.startswith("~") else text


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
