"""Builds objects from configuration nodes, and only objects that a configuration may name.

A run's configuration may come from a stranger: it is data, and builds only what some leaf of
conf/ builds as well.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldmlab.apps.config.conf_dir import targets
from ldmlab.apps.config.suggest import did_you_mean
from ldmlab.core.errors import UserError

# Of which any class may stand in a leaf's place.
_INTERCHANGEABLE = ("optuna.samplers", "optuna.pruners")
_DIRECTIVES = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}


def build(node: DictConfig | Mapping[str, Any], /, **kwargs: Any) -> Any:
    """Build the object that a node describes, nested nodes first.

    Lists and tables reach constructors as plain Python containers; objects in `kwargs` are
    handed over as they are. With `_partial_: true` the result is a callable that waits for
    the remaining arguments.

    Args:
        node: A node with a `_target_`.
        **kwargs: Further arguments of the outermost object; they win over the node's.

    Returns:
        The object, or a `functools.partial` of it.

    Raises:
        UserError: If a target is not allowed or does not exist, or if a constructor refuses
            the node's values; the message names the configuration path.
    """
    path, plain = _plain(node)
    if "_target_" not in plain:
        raise UserError(f"{path or 'the node'} has no _target_ to build")
    _check_targets(plain, path)
    return _build(plain, path, kwargs)


def _plain(node: DictConfig | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path of a node and its resolved content."""
    if not isinstance(node, DictConfig):
        return "", dict(node)
    path = str(node._get_full_key(None) or "")
    try:
        plain: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{path} is incomplete: {str(error).splitlines()[0]}") from error
    return path, plain


def _check_targets(tree: Any, path: str) -> None:
    """Refuse every forbidden target of a tree before its first object is built."""
    if isinstance(tree, DictConfig | ListConfig):
        tree = OmegaConf.to_container(tree, resolve=True)
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            _resolve(tree["_target_"], path)
        for key, value in tree.items():
            _check_targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            _check_targets(value, f"{path}[{i}]")


def _build(tree: Any, path: str, kwargs: Mapping[str, Any]) -> Any:
    if isinstance(tree, list | tuple):
        return [_build(value, f"{path}[{i}]", {}) for i, value in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    arguments = {
        key: _build(value, f"{path}.{key}".lstrip("."), {})
        for key, value in tree.items()
        if key not in _DIRECTIVES
    }
    if "_target_" not in tree:
        return arguments
    target = _resolve(tree["_target_"], path)
    positional = _build(list(tree.get("_args_", [])), f"{path}._args_", {})
    arguments.update(kwargs)
    partial = bool(tree.get("_partial_", False))
    _check_signature(target, positional, arguments, path, partial)
    if partial:
        return functools.partial(target, *positional, **arguments)
    try:
        return target(*positional, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path or tree['_target_']}: {' '.join(str(error).split())}") from error


def _resolve(target: Any, path: str) -> Callable[..., Any]:
    """The callable behind a dotted name that a leaf of conf/ has, or could have."""
    where = f"{path}._target_".lstrip(".")
    known = isinstance(target, str) and (target in targets() or _is_interchangeable(target))
    if not known:
        nearest = did_you_mean(target, targets()) if isinstance(target, str) else ""
        raise UserError(
            f"{where}: '{target}' is not among the things a configuration may build, which are "
            f"those that conf/ names{nearest}"
        )
    found = _find(target.split("."))
    if not callable(found) or (target not in targets() and not isinstance(found, type)):
        raise UserError(f"{where}: there is no class or function '{target}'")
    return found


def _is_interchangeable(target: str) -> bool:
    module, _, name = target.rpartition(".")
    return module in _INTERCHANGEABLE and name.isidentifier() and not name.startswith("_")


def _find(parts: list[str]) -> Any:
    """Import the longest module of a dotted name and follow its attributes."""
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found: Any = import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists and lacks a dependency
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def _check_signature(
    target: Callable[..., Any],
    positional: list[Any],
    arguments: Mapping[str, Any],
    path: str,
    partial: bool,
) -> None:
    """Refuse unknown and missing arguments in words of the configuration."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return  # a builtin without a signature: its own error will do
    try:
        (signature.bind_partial if partial else signature.bind)(*positional, **arguments)
    except TypeError as error:
        takes = signature.parameters
        unknown = [name for name in arguments if name not in takes]
        where = path or getattr(target, "__qualname__", "the node")
        if unknown:
            raise UserError(
                f"{where}.{unknown[0]}: {target.__name__} takes no '{unknown[0]}'"
                f"{did_you_mean(unknown[0], takes)}"
            ) from error
        raise UserError(f"{where}: {target.__name__} {error}") from error
