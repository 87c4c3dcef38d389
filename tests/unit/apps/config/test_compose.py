"""Composition: what is refused, with which words, and what a run's configuration accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import own_keys
from ldmlab.apps.config.run_base import check_changeable, load_config
from ldmlab.core.errors import UserError


def test_defaults_compose(conf: Path) -> None:
    cfg = compose()
    assert cfg.stages.diffusion.max_steps == 20  # the experiment's
    assert OmegaConf.is_struct(cfg)


def test_compose_applies_values_and_groups(conf: Path) -> None:
    cfg = compose(["stages.diffusion.lr=3e-4", "schedule=linear", "+schedule.new=1"])
    assert (cfg.stages.diffusion.lr, cfg.schedule.first, cfg.schedule.new) == (3e-4, 0.1, 1)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("stages.diffusion.lrr=1", "stages.diffusion.lr"),
        ("lr=1", "stages.diffusion.lr"),
        ("schedul=cosine", "did you mean schedule"),
        ("schedule=cosin", "did you mean cosine"),
        ("schedule=null", "choose one of cosine, linear"),
        ("cosine", "did you mean schedule=cosine"),
        ("seed=1,2", "-m"),
        ("seed=007", "seed must be a whole number"),
        ("seed=-1", "seed must be a whole number"),
        ("seed=1.5", "seed must be a whole number"),
        ("stages.diffusion.lr=abc", "stages.diffusion.lr must be a finite number"),
        ("stages.diffusion.lr=1e400", "stages.diffusion.lr must be a finite number"),
        ("stages.diffusion.lr=nan", "stages.diffusion.lr must be a finite number"),
        ("stages.diffusion.lr=-1", "stages.diffusion.lr must be a finite number above 0"),
        ("stages.diffusion.lr=", "stages.diffusion.lr must be a finite number"),
        ("stages.diffusion.betas=[0.9,1]", "stages.diffusion.betas must be a list of 2, each"),
        ("stages.diffusion.betas=0.9", "stages.diffusion.betas must be a list of 2, each"),
        ("stages.diffusion.batch_size=0", "stages.diffusion.batch_size must be"),
        ("stages.diffusion.batch_size=true", "stages.diffusion.batch_size must be"),
        ("stages.diffusion=3", "set one of its keys: loss_type, lr"),
        ("stages=null", "is a table"),
        ("stage=diffusio", "autoencoder or diffusion or all"),
        ("trainer.devices=3", "stages.diffusion.batch_size=8"),
        ("trainer.devices=abc", "trainer.devices must be"),
        ("seed=${nowhere}", "nowhere"),
        ("name=???", "name is mandatory"),
    ],
)
def test_compose_names_mistakes(conf: Path, argument: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        compose([argument])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert argument.partition("=")[0].rpartition(".")[2] in str(refused.value)


@pytest.fixture
def run_config(conf: Path, tmp_path: Path) -> DictConfig:
    path = tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml(compose(["schedule=linear"]), resolve=True))
    return load_config(path)


def on_run(run_config: DictConfig, arguments: list[str]) -> DictConfig:
    check_changeable(arguments, [key for key, _, _ in own_keys("sample")], run_config)
    return compose(arguments, "sample", base=run_config)


def test_compose_on_run_accepts_another_sampler_and_its_values(run_config: DictConfig) -> None:
    overrides = ["run=here", "sampler=euler", "sampler.churn=0.5", "prompt=a, b", "seed=3"]
    cfg = on_run(run_config, overrides)
    assert OmegaConf.to_container(cfg.sampler) == {
        "_target_": "toy.Euler",
        "steps": 20,
        "churn": 0.5,
    }
    assert (cfg.prompt, cfg.seed, cfg.num_samples) == ("a, b", 3, 4)
    assert cfg.schedule.first == 0.1
    assert "steps" in run_config.sampler and "churn" not in run_config.sampler


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("sampler=eulr", "did you mean euler"),
        ("sampler.step=3", "did you mean sampler.steps"),
        ("schedule=cosine", "trained with its own schedule"),
        ("schedule.timesteps=10", "trained with its own schedule.timesteps"),
        ("num_sample=3", "did you mean num_samples"),
        ("num_samples=-3", "num_samples must be"),
        ("promt=a, b", "did you mean prompt"),
    ],
)
def test_compose_on_run_refuses_keys_that_change_the_model(
    run_config: DictConfig, argument: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        on_run(run_config, ["run=here", argument])


def test_missing_mandatory_key_is_named(run_config: DictConfig) -> None:
    with pytest.raises(UserError, match="run is mandatory"):
        on_run(run_config, [])


def test_repeating_a_run_accepts_any_override(run_config: DictConfig) -> None:
    cfg = compose(["schedule=cosine", "name=again"], base=run_config)
    assert "first" not in cfg.schedule and cfg.name == "again"


@pytest.mark.parametrize(
    "text",
    ["- a list", "a: [", "\x00", "a: !!float x", "a: 2001-99-99", "a: " + "[" * 600, "a: !!int"],
)
def test_damaged_run_config_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_config(path)
