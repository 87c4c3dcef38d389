"""Keeps the values of secret environment variables out of what is written and shown.

A value is secret when the name of its variable says so, it is long enough to be one, and it is no
word that conf/ itself is written with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.conf_dir import conf_dir

_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST = 8
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
    return _replace(tree, lambda name: f"${{oc.env:{name}}}")


def masked(tree: Any) -> Any:
    """Plain containers to be shown, with `<redacted>` for each secret; keys and targets stay."""
    return _replace(tree, lambda _: "<redacted>")


def _answered(raw: Any, resolved: Any) -> Any:
    """The raw tree, with the resolved values where a resolver is called."""
    if isinstance(raw, dict):
        return {key: _answered(value, resolved[key]) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_answered(*pair) for pair in zip(raw, resolved, strict=True)]
    if isinstance(raw, str) and _RESOLVER.search(raw):
        return resolved.replace("${", r"\${") if isinstance(resolved, str) else resolved
    return raw


def _replace(tree: Any, shown: Callable[[str], str]) -> Any:
    secrets = _secrets()
    if not secrets:
        return tree
    # The longest first: one secret may begin like another.
    values = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, values)))

    def walk(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: v if key == "_target_" else walk(v) for key, v in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value) for value in node]
        if isinstance(node, str):
            return pattern.sub(lambda found: shown(secrets[found.group()]), node)
        return node

    return walk(tree)


def _secrets() -> dict[str, str]:
    """The secret values of the environment, with the names of their variables."""
    found = {
        value: name
        for name, value in os.environ.items()
        if _NAME.search(name) and len(value) >= _SHORTEST
    }
    if found:
        for leaf in conf_dir().rglob("*.yaml"):
            for word in _WORD.findall(leaf.read_text("utf-8")):
                found.pop(word, None)
    return found
