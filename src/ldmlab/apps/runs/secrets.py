"""Keeps the values of secret environment variables out of what is written and shown.

A word that conf/ itself is written with is no secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.core.secrets import replace_secrets

_WORD = re.compile(r"[\w./-]+")
_RESOLVER = re.compile(r"\$\{[\w.]+:")


def writable(cfg: DictConfig) -> DictConfig:
    """A configuration to be kept in a file: free of secrets and of what holds for now only.

    References to other keys stay, so that a later change of those is obeyed. What a resolver gives,
    such as the environment's, is written out, and then each secret by its variable's name: whoever
    has that variable reads the same values again.
    """
    raw, resolved = (OmegaConf.to_container(cfg, resolve=resolve) for resolve in (False, True))
    kept: Any = OmegaConf.create(redact_values(_answered(raw, resolved)))
    return kept


def redact_values(tree: Any) -> Any:
    """Plain containers with `${oc.env:NAME}` for each secret; keys and targets stay."""
    return replace_secrets(tree, lambda name: f"${{oc.env:{name}}}", _conf_words)


def masked(tree: Any) -> Any:
    """Plain containers to be shown, with `<redacted>` for each secret; keys and targets stay."""
    return replace_secrets(tree, lambda _: "<redacted>", _conf_words)


def _answered(raw: Any, resolved: Any) -> Any:
    """The raw tree, with the resolved values where a resolver is called."""
    if isinstance(raw, dict):
        return {key: _answered(value, resolved[key]) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_answered(*pair) for pair in zip(raw, resolved, strict=True)]
    if isinstance(raw, str) and _RESOLVER.search(raw):
        return resolved.replace("${", r"\${") if isinstance(resolved, str) else resolved
    return raw


def _conf_words() -> Iterator[str]:
    """The words that conf/ itself is written with."""
    for leaf in conf_dir().rglob("*.yaml"):
        yield from _WORD.findall(leaf.read_text("utf-8"))
