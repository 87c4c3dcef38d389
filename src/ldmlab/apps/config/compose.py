"""From command-line arguments to one checked configuration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ldmlab.apps.config.conf_dir import conf_dir, options
from ldmlab.apps.config.overrides import Override, parse, protect, refuse_sweeps
from ldmlab.apps.config.suggest import check_group, check_key, check_shape, did_you_mean, flatten
from ldmlab.apps.config.validate import check_types, validate
from ldmlab.core.errors import UserError

# What may differ between the run that trained a model and a verb that uses it.
CHANGEABLE = ("sampler", "guidance", "evaluation", "density", "data", "trainer", "paths", "logger")
_CHANGEABLE_GROUPS = ("sampler", "guidance", "evaluation", "density")
_CHANGEABLE_KEYS = ("seed", "traceback", "codec.run")


def compose(overrides: Sequence[str] = (), config_name: str = "config") -> DictConfig:
    """Compose conf/<config_name>.yaml with overrides on top, and check the result.

    Args:
        overrides: Arguments as typed, `key=value`; text needs no quoting.
        config_name: Name of the primary configuration.

    Returns:
        The configuration in struct mode, interpolations kept.

    Raises:
        UserError: If an argument, a value or a combination is refused.
    """
    parsed = read(overrides)
    try:
        cfg = _compose(overrides, config_name)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, overrides, config_name) from error
    verify(cfg, parsed, config_name)
    return cfg


def compose_on_run(
    run_config: DictConfig,
    overrides: Sequence[str] = (),
    request: str | None = None,
    anything: bool = False,
) -> DictConfig:
    """Apply overrides to the configuration of a finished run.

    Args:
        run_config: The run's own configuration; it is not changed.
        overrides: Arguments as typed; a group override replaces that group by a leaf of conf/.
        request: Name of a file in conf/ with the verb's own keys, laid over the run's.
        anything: Whether every key and group may change, instead of those that leave the
            trained model as it is.

    Returns:
        The configuration in struct mode.

    Raises:
        UserError: If an argument is refused.
    """
    cfg = _copy(run_config)
    own: tuple[str, ...] = ()
    if request is not None:
        extra = _compose((), request)
        own = tuple(str(key) for key in extra)
        cfg = OmegaConf.unsafe_merge(cfg, extra)  # type: ignore[assignment]
    parsed = read(overrides)
    groups = [override for override in parsed if override.key in options()]
    for override in groups:
        if not anything:
            _check_changeable_group(override)
        leaf = _compose((), f"{override.key}/{override.value}")
        # Struct mode would compare the new leaf's keys with those of the old one.
        with open_dict(cfg):
            if override.key in leaf:
                cfg[override.key] = leaf[override.key]
            else:
                cfg = OmegaConf.merge(cfg, leaf)  # type: ignore[assignment]
    before = _copy(cfg)
    known = list(flatten(OmegaConf.to_container(cfg)))
    for override in parsed:
        if override.key in options():
            continue
        check_key(override, known)
        refuse_sweeps([override])
        if not anything:
            _check_changeable_key(override, own)
        OmegaConf.update(cfg, override.key, override.value, force_add=override.adds)
    OmegaConf.set_struct(cfg, True)
    validate(cfg)
    check_types(before, cfg, parsed)
    return cfg


def load_config(path: str | Path) -> DictConfig:
    """Read a run's config.yaml.

    Raises:
        UserError: If the file is missing or is no YAML table.
    """
    path = Path(path)
    try:
        cfg = OmegaConf.load(path)
    except (OSError, YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"cannot read the configuration {path}: {_first_line(error)}") from error
    if not isinstance(cfg, DictConfig):
        raise UserError(f"{path} holds no configuration: expected a table of keys")
    OmegaConf.set_struct(cfg, True)
    return cfg


def read(arguments: Sequence[str], shipped: bool = True) -> list[Override]:
    """Take arguments apart, refusing what is no override.

    Args:
        arguments: As typed.
        shipped: Whether every option is one of conf/, and none of a `--config-dir`.

    Raises:
        UserError: At the first argument that cannot be read, or names no option of its group.
    """
    for argument in arguments:
        check_shape(argument)
    overrides = [parse(argument) for argument in arguments]
    if shipped:
        for override in overrides:
            check_group(override)
    return overrides


def verify(cfg: DictConfig, overrides: Sequence[Override], config_name: str = "config") -> None:
    """Check a composed configuration: options, types against the defaults, and ranges.

    Raises:
        UserError: Naming the first key that is refused.
    """
    validate(cfg)
    groups = [override for override in overrides if override.key in options()]
    if len(groups) < len(overrides):
        base = _try_compose([override.argument for override in groups], config_name)
        if base is not None:
            check_types(base, cfg, overrides)


def explain(error: Exception, arguments: Sequence[str], config_name: str = "config") -> UserError:
    """Turn a failed composition into one line, by finding the argument at fault."""
    try:
        overrides = read(arguments)
        groups = [override for override in overrides if override.key in options()]
        base = _try_compose([o.argument for o in groups if not o.sweeps], config_name)
        base = _try_compose([], config_name) if base is None else base
        if base is not None:
            known = list(flatten(OmegaConf.to_container(base)))
            for override in overrides:
                if override not in groups:
                    check_key(override, known)
        if "Ambiguous value" in str(error):
            refuse_sweeps(overrides)
    except UserError as found:
        return found
    return UserError(_first_line(error))


def _compose(arguments: Sequence[str], config_name: str) -> DictConfig:
    # Hydra is one per process, and a verb may be running inside its main.
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return hydra.compose(config_name, overrides=[protect(a) for a in arguments])
    finally:
        GlobalHydra.instance().hydra = running


def _try_compose(arguments: Sequence[str], config_name: str) -> DictConfig | None:
    try:
        return _compose(arguments, config_name)
    except (HydraException, OmegaConfBaseException):
        return None  # leaves of a --config-dir, or the very mistake that is being explained


def _copy(cfg: DictConfig) -> DictConfig:
    copy: Any = OmegaConf.create(OmegaConf.to_container(cfg))
    return copy


def _check_changeable_group(override: Override) -> None:
    if override.key not in _CHANGEABLE_GROUPS:
        raise UserError(
            f"{override.argument}: the run was trained with its own {override.key}; only "
            f"{', '.join(_CHANGEABLE_GROUPS)} can be exchanged here"
        )


def _check_changeable_key(override: Override, own: Collection[str]) -> None:
    head = override.key.partition(".")[0]
    if head in CHANGEABLE or head in own or override.key in _CHANGEABLE_KEYS:
        return
    raise UserError(
        f"{override.argument}: {override.key} is fixed by the run"
        f"{did_you_mean(override.key, [*own, *_CHANGEABLE_KEYS])}"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
