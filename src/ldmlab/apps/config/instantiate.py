"""Builds objects from configuration nodes by Hydra, after one walk over what they name.

A node that came with a run was looked through when it was read; see `run_base`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldmlab.apps.config.conf_dir import targets
from ldmlab.core.arguments import check_arguments, check_signature, shown
from ldmlab.core.errors import ArgumentError, UserError
from ldmlab.core.suggest import did_you_mean

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_FULL_KEY = re.compile(r"full_key: (\S+)")
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
        UserError: If a target does not exist, or refuses the node's values; the message names
            the key.
    """
    node = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    path = str(node._get_full_key(None) or "")
    try:
        plain: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{path} is incomplete: {str(error).splitlines()[0]}") from error
    if "_target_" not in plain:
        raise UserError(f"{path or 'the node'} has no _target_ to build")
    _check(plain, path, kwargs, node)
    target = _resolve(plain["_target_"], path)
    inner = {key: value for key, value in plain.items() if key not in _DIRECTIVES}
    with _under(path, node):
        # Objects go past Hydra, which would copy them into a configuration.
        arguments = instantiate(inner, _convert_="all") | kwargs
        positional = instantiate(plain.get("_args_", []), _convert_="all")
        if plain.get("_partial_"):
            return _Later(node, target, *positional, **arguments)
        return target(*positional, **arguments)


def takes(node: DictConfig, name: str) -> bool:
    """Whether the class or function of a node has an argument that the node does not give."""
    if name in node or "_target_" not in node:
        return False
    return name in inspect.signature(_resolve(node["_target_"], "")).parameters


class _Later(functools.partial[Any]):
    """A call that waits for its last arguments, and knows the keys of those that it has."""

    node: DictConfig

    def __new__(
        cls, node: DictConfig, make: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> _Later:
        self = super().__new__(cls, make, *args, **kwargs)
        self.node = node
        return self

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with _under(str(self.node._get_full_key(None) or ""), self.node):
            return super().__call__(*args, **kwargs)


@contextmanager
def _under(path: str, node: DictConfig) -> Iterator[None]:
    """Tell what is wrong with arguments by the key that they were given under."""
    try:
        yield
    except InstantiationException as error:
        found = _FULL_KEY.search(str(error))
        key = f"{path}.{found[1]}".lstrip(".") if found else path
        raise _told(error.__cause__ or error, key, node) from error
    except (TypeError, ValueError) as error:
        raise _told(error, path, node) from error


def _told(error: BaseException, path: str, node: DictConfig) -> Exception:
    if isinstance(error, UserError) or not isinstance(error, TypeError | ValueError | ImportError):
        return error if isinstance(error, Exception) else UserError(f"{path}: {error}")
    if isinstance(error, ArgumentError):
        key = typed_key(f"{path}.{error.argument}".lstrip("."), node)
        return UserError(f"{key} must be {error.expects}; got {shown(error.value)}")
    return UserError(f"{path}: {' '.join(str(error).split())}".lstrip(": "))


def typed_key(key: str, node: DictConfig) -> str:
    """The key that a user would type for a value: the one that an interpolation leads to."""
    found: Any = node._get_root()
    for part in key.split("."):
        found = found._get_node(part) if isinstance(found, DictConfig) else None
    source = _REFERENCE.fullmatch(str(found._value())) if isinstance(found, Node) else None
    return key if source is None else typed_key(source[1], node)


def _check(tree: Any, path: str, kwargs: Mapping[str, Any], node: DictConfig) -> None:
    """Refuse what does not exist, or is not taken, before the first object is built."""
    if isinstance(tree, list):
        for i, value in enumerate(tree):
            _check(value, f"{path}[{i}]", {}, node)
    if not isinstance(tree, Mapping):
        return
    arguments = {key: value for key, value in tree.items() if key not in _DIRECTIVES}
    for key, value in arguments.items():
        _check(value, f"{path}.{key}".lstrip("."), {}, node)
    if "_target_" in tree:
        target = _resolve(tree["_target_"], path)
        given = arguments | dict(kwargs)
        check_signature(target, tree.get("_args_", ()), given, path, bool(tree.get("_partial_")))
        check_arguments(target, arguments, path, lambda key: typed_key(key, node))


def _resolve(target: Any, path: str) -> Callable[..., Any]:
    """The class or function behind a dotted name."""
    where = f"{path}._target_".lstrip(".")
    found = _find(target.split(".")) if isinstance(target, str) else None
    if not callable(found):
        near = did_you_mean(str(target), targets())
        raise UserError(f"{where}: there is no class or function '{target}'{near}")
    return found


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
