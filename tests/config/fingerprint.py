"""What an object holds, in one comparable value: all that its construction left in it."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Collection, Mapping
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
# Of nn.Module: hooks and caches that no argument decides.
_MACHINERY = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}


def fingerprint(thing: Any, leave: Collection[str] = ()) -> str:
    """A hash of an object and of all that hangs on it.

    Args:
        thing: Any object.
        leave: Names of attributes and keys that are not looked at.
    """
    return hashlib.sha256(repr(_told(thing, frozenset(leave), {})).encode()).hexdigest()


def _told(thing: Any, leave: frozenset[str], seen: dict[int, int]) -> Any:
    if isinstance(thing, _PLAIN):
        return repr(thing)
    if id(thing) in seen:
        return "again", seen[id(thing)]
    seen[id(thing)] = len(seen)
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, Tensor):
        values = "" if thing.is_meta else thing.detach().float().cpu().numpy().tobytes().hex()
        return kind, tuple(thing.shape), str(thing.dtype), thing.requires_grad, values
    if OmegaConf.is_config(thing):
        return kind, repr(OmegaConf.to_container(thing))
    if isinstance(thing, Mapping):
        named = {k: v for k, v in thing.items() if k not in leave}
        return kind, [(_told(k, leave, seen), _told(v, leave, seen)) for k, v in named.items()]
    if isinstance(thing, list | tuple):
        return kind, [_told(part, leave, seen) for part in thing]
    if isinstance(thing, set | frozenset):
        return kind, sorted(map(repr, thing))
    if isinstance(thing, functools.partial):
        return kind, [_told(part, leave, seen) for part in (thing.func, thing.args, thing.keywords)]
    if isinstance(thing, types.FunctionType):
        cells = [_cell(cell) for cell in thing.__closure__ or ()]
        return thing.__qualname__, [_told(c, leave, seen) for c in (*cells, thing.__defaults__)]
    if isinstance(thing, types.MethodType):
        return thing.__qualname__, _told(thing.__self__, leave, seen)
    if isinstance(thing, type | types.ModuleType) or not hasattr(thing, "__dict__"):
        slots = [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
        return kind, getattr(thing, "__name__", ""), [_told(part, leave, seen) for part in slots]
    held = {k: v for k, v in vars(thing).items() if k not in leave and k not in _MACHINERY}
    return kind, [(name, _told(value, leave, seen)) for name, value in held.items()]


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty yet
        return None
