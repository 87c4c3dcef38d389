"""Other values of configuration keys, and whether they make any difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ldmlab.apps.config.overrides import is_text
from ldmlab.apps.config.schema import check_values
from ldmlab.core.errors import UserError
from ldmlab.core.nested import leaves


def others(value: Any) -> Iterator[Any]:
    """Other values of the same kind, of which a key should take one."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, 2 * value, value - 1, value // 2, 8, 16, 3, 1)
    elif isinstance(value, float):
        yield from (value / 2, value * 1.5, value + 1, 0.25)
    elif isinstance(value, str):
        yield from WORDS
    elif value == []:
        yield from ([2], [4], [8])
    elif isinstance(value, list):
        yield from (value[:-1], [*value, value[-1]], value[::-1])
        for other in others(value[-1]):
            yield [*value[:-1], other]
    elif value is None:
        yield from (7, 32, 0.5, 0.1, "a word", [1, 2], [1, 60], True)


# Of every annotation with words; each key takes its own.
WORDS = (
    "l1", "l2", "trailing", "leading", "linspace", "leading_plus_one", "data", "first_entry",
    "beta", "beta_tilde", "learned", "group", "batch", "center", "random", "keep", "swap", "noise",
    "attention", "mean", "sum_pixels", "mean_pixels", "hinge", "vanilla", "add", "scale_shift",
    "cross", "none", "pad", "channels",
    "bf16-mixed", "hutchinson", "exact", "warn", "gpu", "auto", "bfloat16",
    "float16", "midpoint", "heun", "alex", "vgg", "squeeze", "RK23", "RK45",
)  # fmt: skip


def keys(cfg: DictConfig, below: str) -> Iterator[tuple[str, Any]]:
    tree: Any = OmegaConf.to_container(cfg)
    for key, value in leaves(tree):
        inner = key.startswith(below) and not key.endswith(("_target_", "_partial_", "_convert_"))
        if inner and not is_text(key) and not (isinstance(value, str) and "$" in value):
            yield key, value


def changes(cfg: DictConfig, key: str, value: Any, made: Callable[[DictConfig], Any]) -> bool:
    """Whether some other valid value of a key makes something else; fails where none is valid."""
    before, tried = made(cfg), []
    for other in others(value):
        changed = cfg.copy()
        with open_dict(changed):
            OmegaConf.update(changed, key, other)
        try:
            check_values(changed)
            after = made(changed)
        except UserError as error:
            tried.append(f"{other}: {error}")
            continue
        if after != before:
            return True
        tried.append(f"{other}: the same")
    raise AssertionError(f"{key}={value}: " + "; ".join(tried))
