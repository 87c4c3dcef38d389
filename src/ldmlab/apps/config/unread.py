"""Refuses keys that nothing reads: what a configuration accepts, it obeys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.conf_dir import conf_dir, package_of
from ldmlab.apps.config.schema import SCHEMA
from ldmlab.core.errors import UserError
from ldmlab.core.nested import flatten
from ldmlab.core.suggest import did_you_mean

_REFERENCE = re.compile(r"\$\{(?:[\w.]+:)?(\.*)([\w.]+)\}")
# Tables whose keys are names of the user's choosing.
_OPEN = ("hydra", "launcher.slurm.options", "sweep.space", "sweep.pruning", "logger.wandb")
# Arguments of Lightning's Trainer that are decided by a key of another table.
_ELSEWHERE = {
    "max_": "stages.<stage>.max_steps says how long a stage trains",
    "fast_dev_run": "debug=fast is a smoke test of both stages",
    "overfit_batches": "debug=overfit learns one batch by heart",
    "limit_train_batches": "data.limit keeps fewer images, stages.<stage>.max_steps fewer steps",
    "limit_val_batches": "data.validation_limit keeps fewer images",
    "val_check_interval": "stages.<stage>.val_every counts the steps between validations",
    "precision": "stages.<stage>.precision is each stage's own",
    "accumulate_grad_batches": "stages.<stage>.accumulate_grad_batches is each stage's own",
    "gradient_clip": "stages.<stage>.clip_norm is each stage's own",
    "callbacks": "+callbacks.<name>._target_=<class> adds one",
    "logger": "logger=wandb, or +logger.<name>._target_=<class>",
    "default_root_dir": "paths.runs is where runs lie",
    "enable_checkpointing": "callbacks.checkpoint_every says how often a run is saved",
}
# Tables that hold further objects of the user's own.
_OBJECTS = ("callbacks", "logger")


def check_read(
    cfg: DictConfig, config_name: str = "config", inherited: Collection[str] = ()
) -> None:
    """Refuse a key that no part of the program, and no other key, reads.

    Whatever stands below a `_target_` is an argument of it, and checked when it is built.

    Args:
        cfg: A composed configuration.
        config_name: The primary configuration, whose keys the verb reads beside those of
            conf/config.yaml.
        inherited: Keys of the top that came with a run: those of another verb are its own.

    Raises:
        UserError: Naming the key.
    """
    tree: Any = OmegaConf.to_container(cfg)
    known = _known(conf_dir(), config_name) | _referred(tree, "")
    read = {key: value for key, value in tree.items() if key in known or key not in inherited}
    _check(read, "", known)


def _check(tree: dict[str, Any], path: str, known: frozenset[str]) -> None:
    for name, value in tree.items():
        key = f"{path}.{name}".lstrip(".")
        if key in _OPEN or (isinstance(value, dict) and "_target_" in value and key in known):
            continue
        if key not in known and not (path in _OBJECTS and _is_object(value)):
            raise UserError(_told(key, path, known - {path}))
        if isinstance(value, dict) and key in known:
            _check(value, key, known)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _told(key: str, path: str, known: frozenset[str]) -> str:
    if path.partition(".")[0] in ("experiment", "debug") or key in ("experiment", "debug"):
        return (
            f"{key}: a file of {key.partition('.')[0]}/ lays keys over a whole configuration: its "
            "first line is '# @package _global_', and its keys stand in no table of that name"
        )
    if path in _OBJECTS:
        return f"{key} is no key of {path}; one of your own is a table with a _target_" + (
            did_you_mean(key, known)
        )
    if path == "trainer":
        name = key.removeprefix("trainer.")
        mend = next((text for part, text in _ELSEWHERE.items() if name.startswith(part)), None)
        return f"{key} is not taken" + (f": {mend}" if mend else did_you_mean(key, known))
    return f"{key}: nothing reads this key{did_you_mean(key, known)}"


def _referred(tree: Any, path: str) -> frozenset[str]:
    """Keys that another one is interpolated from, with the tables that hold them."""
    found: set[str] = set()
    for key, value in _texts(tree, path):
        for dots, name in _REFERENCE.findall(value):
            owner = key.split(".")[: -len(dots)] if dots else []
            parts = [*owner, *name.split(".")]
            found |= {".".join(parts[: end + 1]) for end in range(len(parts))}
    return frozenset(found)


def _texts(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for name, value in items:
        key = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict | list):
            yield from _texts(value, key)
        elif isinstance(value, str):
            yield key, value


@cache
def _known(root: Path, config_name: str) -> frozenset[str]:
    """The keys that the program reads, whatever the choices of the groups."""
    known: set[str] = set()
    for file in (root / "config.yaml", root / f"{config_name}.yaml"):
        table = yaml.safe_load(file.read_text("utf-8"))
        entries = [entry for entry in table.pop("defaults", []) if isinstance(entry, dict)]
        groups = [group for entry in entries for group in entry]
        for parts in (package_of(group).split(".") for group in groups):
            known |= {".".join(parts[: end + 1]) for end in range(len(parts))}
        known |= set(flatten(table))
    for path, keys in SCHEMA.items():
        if path.partition(".")[0] in known:
            known |= {f"{path}.{name}" for name in keys}
    return frozenset(known)
