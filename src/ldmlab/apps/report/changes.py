"""What a configuration has other than the experiment that it began as."""

from __future__ import annotations

from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import options
from ldmlab.apps.runs.secrets import writable
from ldmlab.core.errors import UserError
from ldmlab.core.nested import leaves
from ldmlab.core.suggest import did_you_mean

USUAL = "quickstart"  # the one of conf/config.yaml
ABSENT = "–"


class Change(NamedTuple):
    """A key whose value differs, both values as text."""

    key: str
    default: str
    value: str


def experiment_of(cfg: DictConfig, against: str | None = None) -> str:
    """The experiment to compare with: the named one, or that of the run's name, or the usual one.

    Args:
        cfg: The configuration of a run.
        against: What the user named.

    Raises:
        UserError: There is no such experiment.
    """
    known = options()["experiment"]
    if against is None:
        return cfg.name if cfg.name in known else USUAL
    if against not in known:
        raise UserError(f"against={against} is no experiment{did_you_mean(against, known)}")
    return against


def changes(cfg: DictConfig, experiment: str) -> list[Change]:
    """The leaves that differ from a freshly composed experiment, sorted by key.

    References between keys are compared as they are written, so that what only follows another
    key is no change of its own.

    Args:
        cfg: The configuration of a run.
        experiment: A name under conf/experiment.

    Raises:
        UserError: The experiment does not compose as it stands.
    """
    # As a run keeps its own: what the environment gives is written out, secrets are not.
    fresh = writable(compose([f"experiment={experiment}"]))
    before, after = _leaves(fresh), _leaves(cfg)
    keys = sorted({*before, *after})
    pairs = [Change(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    return [change for change in pairs if change.default != change.value]


def _leaves(cfg: DictConfig) -> dict[str, str]:
    tree: Any = OmegaConf.to_container(cfg)
    return {key: "null" if value is None else str(value) for key, value in leaves(tree)}
