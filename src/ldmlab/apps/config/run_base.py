"""A run's configuration as a base that Hydra composes on: each of its groups is an option.

The parts of the configuration become options `of_run` of their groups, so that a leaf chosen on
the command line, or by an experiment, replaces a part and is not mixed with it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.conf_dir import EXCHANGEABLE, conf_dir, options, package_of, targets
from ldmlab.apps.config.migrations import migrate
from ldmlab.apps.config.overrides import key_of
from ldmlab.core.errors import UserError
from ldmlab.core.nested import cut
from ldmlab.core.suggest import did_you_mean

OF_RUN = "of_run"
TRUST_VARIABLE = "LDMLAB_TRUST"

# What else may differ between the run that trained a model and a verb that uses it.
_KEYS = (
    "seed", "traceback", "trust", "paths.*", "trainer.accelerator", "trainer.devices",
    "sampler.*", "guidance.*", "evaluation.*", "density.*",
    "data.*root", "data.*_list", "data.num_workers", "data.*limit", "data.max_bad", "data.cache*",
)  # fmt: skip
# Of which any class may stand in a leaf's place.
_INTERCHANGEABLE = ("optuna.samplers", "optuna.pruners")
_RESOLVER = re.compile(r"\$\{(?:oc\.env:(\w+)|(?:[\w.]+):)")


def load_config(path: str | Path, trust: Sequence[str] = ()) -> DictConfig:
    """Read the configuration of a run: data, which builds only what conf/ builds.

    Args:
        path: Its config.yaml.
        trust: Packages, or names of classes, that it may name, beside those of the environment's
            LDMLAB_TRUST.

    Raises:
        UserError: The file is missing, is no configuration, is of another version, or names what
            it may not.
    """
    table: Any = OmegaConf.to_container(load_table(path))
    try:
        cfg = OmegaConf.create(migrate(table))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    check_targets(cfg, Path(path), trust)
    OmegaConf.set_struct(cfg, True)
    return cfg


def load_table(path: str | Path) -> DictConfig:
    """Read a YAML file that holds a table.

    Raises:
        UserError: The file is missing, or is no such table.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        # A few lines that name each other again and again stand for more than memory holds.
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise UserError(f"{path} refers to a part of itself (*name): write that part out")
        table = OmegaConf.load(io.StringIO(text))
    except UserError:
        raise
    except Exception as error:  # YAML's constructors raise whatever they stumble over
        raise UserError(f"cannot read the configuration {path}: {first_line(error)}") from error
    if not isinstance(table, DictConfig):
        raise UserError(f"{path} holds no configuration: expected a table of keys")
    return table


def check_targets(cfg: DictConfig, path: Path, trust: Sequence[str] = ()) -> None:
    """Refuse every class of a stranger's configuration that conf/ does not build.

    Raises:
        UserError: Naming the key, and what would let its class in.
    """
    trusted = [*trust, *filter(None, os.environ.get(TRUST_VARIABLE, "").split(","))]
    _check(OmegaConf.to_container(cfg), "", path, targets(), trusted)


def _check(tree: Any, where: str, path: Path, known: frozenset[str], trusted: list[str]) -> None:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        name = f"{where}.{key}".lstrip(".")
        if isinstance(value, dict | list):
            _check(value, name, path, known, trusted)
        elif key == "_target_":
            if not isinstance(value, str) or "${" in value:
                raise UserError(f"{path}: {name}={value} is no name of a class")
            if not (value in known or _interchangeable(value) or _inside(value, trusted)):
                package = value.partition(".")[0]
                raise UserError(
                    f"{path} names {value} ({name}), which conf/ does not build"
                    f"{did_you_mean(value, known)}; if you trust this run and that package: "
                    f"trust=[{package}], or {TRUST_VARIABLE}={package} in the environment"
                )
        elif isinstance(value, str):
            # A stranger may not read the environment into a path or an address.
            asked = [found or "?" for found in _RESOLVER.findall(value) if found not in trusted]
            if asked and not name.startswith("logger."):
                raise UserError(
                    f"{path}: {name}={value} asks for more than another key; if you trust this "
                    f"run: trust=[{asked[0]}]"
                )


def _interchangeable(target: str) -> bool:
    module, _, name = target.rpartition(".")
    return module in _INTERCHANGEABLE and name.isidentifier() and not name.startswith("_")


def _inside(target: str, packages: Iterable[str]) -> bool:
    return any(f"{target}.".startswith(f"{package}.") for package in packages)


def store_base(cfg: DictConfig) -> str:
    """Let Hydra compose on a configuration; gives the name of the primary one to compose.

    Args:
        cfg: A composed configuration, interpolations kept.
    """
    rest: Any = OmegaConf.to_container(cfg)
    store = ConfigStore.instance()
    defaults: list[Any] = ["_self_"]
    choices = _default_choices(conf_dir())
    for group, usual in choices.items():
        package = package_of(group)
        shared = group == "hydra" or (package != group and package in choices)
        part = None if shared else cut(rest, package.split("."))
        if part is not None:
            store.store(group=group, name=OF_RUN, node=part, package="_global_")
            defaults.append({group: OF_RUN})
        else:
            # What lies in another group's table comes with that one.
            defaults.append({group: None if group in ("experiment", "debug") else usual})
    # What a run was allowed to name is not what its reader allows.
    rest |= {"trust": []} if "trust" in rest else {}
    store.store(name=OF_RUN, node={"defaults": defaults, **rest})
    return OF_RUN


def check_changeable(arguments: Iterable[str], own: Iterable[str], base: DictConfig) -> None:
    """Refuse overrides of what a trained model is made of.

    Args:
        arguments: As typed.
        own: The verb's own keys.
        base: The configuration of the run.

    Raises:
        UserError: Naming the first one that would not be obeyed.
    """
    keys = {name for key in own for name in (key, key.partition(".")[0])}
    groups = options()
    for argument in arguments:
        key = key_of(argument)
        head = key.partition(".")[0]
        free = key in EXCHANGEABLE or head in keys or any(fnmatchcase(key, k) for k in _KEYS)
        # Hydra refuses what is neither, and names what is near it.
        if free or not (head in base or key in groups):
            continue
        raise UserError(
            f"{argument}: the run was trained with its own {key}; what can be exchanged here: "
            f"{', '.join(EXCHANGEABLE)}{did_you_mean(key, [*keys, 'seed'])}"
        )


@cache
def _default_choices(root: Path) -> dict[str, str | None]:
    """The groups of conf/config.yaml in their order, each with the option it takes by itself."""
    table = yaml.safe_load((root / "config.yaml").read_text("utf-8"))
    entries = [next(iter(entry.items())) for entry in table["defaults"] if entry != "_self_"]
    return {group: choice for group, choice in entries if not group.startswith("override ")}


def first_line(error: BaseException) -> str:
    """The first line that an exception says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
