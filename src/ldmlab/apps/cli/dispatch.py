"""Runs a verb on a configuration composed without Hydra's main."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.cli.slurm import launch
from ldmlab.apps.cli.verbs import Source, Verb
from ldmlab.apps.config.compose import compose, compose_on_run, load_config
from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.apps.config.overrides import Override, parse
from ldmlab.core.errors import UserError


def run_directly(verb: Verb, arguments: Sequence[str]) -> int:
    """Compose a verb's configuration and run it.

    Args:
        verb: The verb, which is imported only when its configuration has passed.
        arguments: What the user typed after the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If the arguments or the configuration are refused.
    """
    # Lightning's ranks, and a multirun's jobs, add overrides of Hydra's own configuration.
    overrides = [a for a in arguments if not a.startswith(("hydra.", "hydra/"))]
    show = _wants_config(overrides)
    for argument in overrides:
        if argument.startswith("-"):
            raise UserError(f"'{argument}' is no option: ldmlab {verb.name} takes key=value")
    cfg = _compose(verb, overrides)
    if show:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    return launch(verb, cfg)


def _compose(verb: Verb, overrides: list[str]) -> DictConfig:
    if verb.source is Source.CONF:
        own = (conf_dir() / f"{verb.name}.yaml").is_file()
        return compose(overrides, verb.name if own else "config")
    if verb.source is Source.SEARCH:
        from ldmlab.apps.sweep.space import compose_search

        return compose_search(overrides)
    if verb.source is Source.HYDRA:
        config = _value("config", overrides)
        return compose_on_run(load_config(str(config)), overrides, anything=True)
    from ldmlab.apps.runs.find import find_run

    request = verb.name if (conf_dir() / f"{verb.name}.yaml").is_file() else None
    run = _value("run", overrides)
    if run is None:
        raise UserError(f"run is mandatory: ldmlab {verb.name} run=<run folder or checkpoint>")
    cfg = load_config(find_run(str(run)).config)
    if request is None:
        OmegaConf.set_struct(cfg, False)
        cfg.run = None
    return compose_on_run(cfg, overrides, request)


def _value(key: str, overrides: Sequence[str]) -> str | None:
    """The last value given to a key of text."""
    found: list[Override] = [parse(a) for a in overrides if a.partition("=")[0] == key]
    return found[-1].value if found else None


def _wants_config(overrides: list[str]) -> bool:
    """Take `--cfg job` out of the arguments, telling whether it was there."""
    if "--cfg" not in overrides:
        return False
    at = overrides.index("--cfg")
    del overrides[at : at + 2]
    return True
