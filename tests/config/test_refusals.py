"""Every key of conf/ refuses what it cannot mean, in one line with the key and the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from ldmlab.apps.build.check import check_experiment
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir, options, package_of
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.overrides import is_text
from ldmlab.apps.config.schema import check_values
from ldmlab.core.errors import UserError
from ldmlab.core.nested import leaves

# What takes any text, or is another program's to check.
FREE = {
    "name", "resume", "config", "run_id", "trainer.strategy", "launcher.slurm.time",
    "logger.wandb.project", "logger.wandb.mode", "logger.wandb.group", "conditioner.encoder",
    "perceptual.distance.net", "paths.runs", "paths.data", "data.cache", "data.root",
    "config_version",
}  # fmt: skip
VERBS = ("config", "encode", "describe", "data", "verify", "convert", "sweep")
GROUPS = (
    "data", "autoencoder", "bottleneck", "discriminator", "perceptual", "codec", "network",
    "conditioner", "schedule", "parameterization", "weighting", "timestep_sampler", "sampler",
    "guidance", "evaluation", "optimizer", "lr_schedule", "ema", "trainer", "callbacks",
)  # fmt: skip


def _own_leaves() -> Iterator[tuple[str, str]]:
    for group in GROUPS:
        for leaf in options()[group]:
            if "defaults:" not in (conf_dir() / group / f"{leaf}.yaml").read_text():
                yield group, leaf


def _bad_value(value: Any) -> Any:
    """What no key of this kind can mean."""
    if isinstance(value, bool):
        return "maybe"
    return float("nan") if isinstance(value, int | float) else "no_such_word"


def _keys(cfg: DictConfig, below: str = "") -> Iterator[tuple[str, Any]]:
    tree: Any = OmegaConf.to_container(cfg)  # an interpolation is a text, and no value of its own
    for key, value in leaves(tree):
        free = key in FREE or key.endswith(("_target_", "_partial_")) or is_text(key)
        if free or not key.startswith(below):
            continue
        if isinstance(value, bool | int | float) or (isinstance(value, str) and "$" not in value):
            yield key, value


def _refusal(cfg: DictConfig, key: str, value: Any) -> str:
    changed = cfg.copy()
    with open_dict(changed):
        OmegaConf.update(changed, key, value)
    with pytest.raises(UserError) as refused:
        _build_all(changed, key)
    return str(refused.value)


def _build_all(cfg: DictConfig, key: str) -> None:
    check_values(cfg)
    if key.startswith("data.validation."):
        build(cfg.data.validation)
    elif key.startswith("data."):
        build(cfg.data.train)
    check_experiment(cfg)


def _check(cfg: DictConfig, key: str, value: Any) -> None:
    bad = _bad_value(value)
    said = _refusal(cfg, key, bad)
    assert "\n" not in said
    assert key in said and str(bad) in said, said
    assert "must be" in said, said


@pytest.mark.parametrize(("group", "leaf"), list(_own_leaves()))
def test_every_key_of_a_leaf_refuses_what_it_cannot_mean(group: str, leaf: str) -> None:
    cfg = compose([f"{group}={leaf}", *_beside(group, leaf)])
    for key, value in _keys(cfg, f"{package_of(group)}."):
        _check(cfg, key, value)


def _beside(group: str, leaf: str) -> list[str]:
    """What a leaf needs to be built with."""
    if group == "data" and leaf not in ("vistas", "digits"):
        return ["data.root=/nowhere"]
    return []


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_a_verb_refuses_what_it_cannot_mean(verb: str) -> None:
    cfg = compose([], verb)
    inner = tuple(f"{package_of(group)}." for group in (*options(), "hydra"))
    for key, value in _keys(cfg):
        if not key.startswith(inner):
            _check(cfg, key, value)
