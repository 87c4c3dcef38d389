"""Composes one checked configuration from command-line arguments, the same way for every verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldmlab.apps.config.conf_dir import conf_dir, options, own_keys
from ldmlab.apps.config.overrides import check_shape, key_of, parse, protect
from ldmlab.apps.config.run_base import OF_RUN, first_line, store_base
from ldmlab.apps.config.schema import check_values
from ldmlab.apps.config.unread import check_read
from ldmlab.core.errors import UserError
from ldmlab.core.nested import flatten
from ldmlab.core.suggest import did_you_mean

_REQUEST = "request"


class Request(NamedTuple):
    """What Hydra is asked to compose.

    Attributes:
        name: Name of the primary configuration.
        overrides: Arguments with their text protected.
        verb: Name of the configuration in conf/ whose keys are read.
        inherited: Keys that came with a run, and may be those of another verb.
    """

    name: str
    overrides: tuple[str, ...]
    verb: str
    inherited: frozenset[str] = frozenset()


def request(
    arguments: Sequence[str],
    config_name: str = "config",
    base: DictConfig | None = None,
    extra: Mapping[str, Any] | None = None,
    beside: str | None = None,
) -> Request:
    """Prepare a composition.

    Args:
        arguments: As typed, `key=value`; text needs no quoting.
        config_name: Name of the primary configuration.
        base: A configuration to compose on, in the place of conf/config.yaml.
        extra: Keys to lay over both, below the arguments.
        beside: Another primary configuration of conf/ to compose first, in the place of `base`.

    Raises:
        UserError: An argument is no override.
    """
    for argument in arguments:
        check_shape(argument)
    overrides = tuple(map(protect, arguments))
    inherited = frozenset(map(str, base or ()))
    names = ([] if beside is None else [beside]) if base is None else [store_base(base)]
    names += [config_name] if base is None or config_name != "config" else []
    if len(names) == 1 and not extra:
        return Request(names[0], overrides, config_name, inherited)
    node = {"defaults": [*names, "_self_"], **(extra or {})}
    ConfigStore.instance().store(name=_REQUEST, node=node)
    return Request(_REQUEST, overrides, config_name, inherited)


def compose(
    arguments: Sequence[str] = (),
    config_name: str = "config",
    base: DictConfig | None = None,
    config_dir: str | Path | None = None,
) -> DictConfig:
    """Compose a configuration with overrides on top, and check the result.

    Args:
        arguments: As typed, `key=value`; text needs no quoting.
        config_name: Name of the primary configuration, a file of conf/.
        base: A configuration to compose on, in the place of conf/config.yaml: its groups may be
            replaced and its keys changed.
        config_dir: A folder of configurations of the user's own, beside conf/.

    Returns:
        The configuration in struct mode, interpolations kept.

    Raises:
        UserError: If an argument, a value or a combination is refused.
    """
    return compose_request(request(arguments, config_name, base), arguments, config_dir)


def compose_request(
    wanted: Request, arguments: Sequence[str] = (), config_dir: str | Path | None = None
) -> DictConfig:
    """Compose what was prepared, in this process, and check the result; see `compose`."""
    path = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    # Hydra is one per process, and a verb may be running inside its main.
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra.compose(wanted.name, overrides=[*wanted.overrides, *path])
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, arguments) from error
    finally:
        GlobalHydra.instance().hydra = running
    check_values(cfg)
    check_read(cfg, wanted.verb, wanted.inherited)
    return cfg


def explain(error: Exception, arguments: Sequence[str]) -> UserError:
    """What Hydra says of a failed composition, in one line that names the argument at fault."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        names = [name for name in error.options or () if name != OF_RUN]
        if names:
            return UserError(
                f"{group} has no option '{option}'{did_you_mean(option, names)} "
                f"(options: {', '.join(names)})"
            )
    if isinstance(error, OverrideParseException):
        try:
            for argument in arguments:
                parse(argument)
        except UserError as found:
            return found
    source: BaseException | None = error
    while source is not None and not isinstance(source, OmegaConfBaseException):
        source = source.__cause__
    if source is not None and source.parent_node is not None:
        return _explain_key(source, arguments)
    text = first_line(error)
    if "Ambiguous value" in text or "requires --multirun" in text or "Sweep" in text:
        several = next((a for a in arguments if _sweeps(a)), "an argument")
        known = {*options(), *(key for key, _, _ in own_keys("*"))}
        if "." not in (key := key_of(several)) and key not in known:
            return UserError(f"there is no key or group '{key}'{did_you_mean(key, known)}")
        return UserError(
            f"{several} names several values: write a list as key=[a,b], quote a text, or run one "
            "job per value with -m"
        )
    return UserError(text)


def _explain_key(source: OmegaConfBaseException, arguments: Sequence[str]) -> UserError:
    """A key that is not there, or holds another kind of thing."""
    key = str(source.full_key or source.key)
    typed = [key_of(argument) for argument in arguments]
    key = next((name for name in typed if name == key or name.startswith(f"{key}.")), key)
    root = source.parent_node._get_root()
    names = flatten(OmegaConf.to_container(root))
    known = {name for name in names if not name.startswith("sweep.space.")}
    if key in known:
        return UserError(f"{key}: {first_line(source)}")
    return UserError(f"there is no key or group '{key}'{did_you_mean(key, [*known, *options()])}")


def _sweeps(argument: str) -> bool:
    try:
        return bool(parse(argument).is_sweep_override())
    except UserError:
        return False
