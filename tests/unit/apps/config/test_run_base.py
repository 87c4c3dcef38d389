"""A run's configuration is data: what it may name, and what replaces its parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.run_base import TRUST_VARIABLE, load_config
from ldmlab.core.errors import UserError


def _run(path: Path, target: object, key: str = "inner") -> Path:
    cfg = OmegaConf.to_container(compose())
    cfg["network"] = {"_target_": "ldmlab.nn.unet.UNet", key: [{"_target_": target}]}
    OmegaConf.save(OmegaConf.create(cfg), path / "config.yaml")
    return path / "config.yaml"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.open",
        "torch.load",
        "numpy.load",
        "ldmlab.core.files.write_text",
        "ldmlab.data.specimens.make.make",
        "ldmlab.conditioning.vocabulary_files.write_vocabulary",
        "ldmlab.apps.cli.main.main",
        "ldmlab.nn.unet.UNet.__init__",
        "torch.optim.AdamW",
        "optuna.samplers.nothing.deeper",
        "optuna.samplers.__class__",
        "optuna.samplers.os.system",
        "my_package.Network",
        "${name}",
        7,
    ],
)
def test_stored_run_builds_only_targets_of_conf(tmp_path: Path, target: object) -> None:
    with pytest.raises(UserError, match=r"network\.inner\.0\._target_") as refused:
        load_config(_run(tmp_path, target))
    assert "\n" not in str(refused.value)


def test_stored_run_may_name_a_trusted_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _run(tmp_path, "my_package.parts.Network")
    with pytest.raises(UserError, match=rf"trust=\[my_package\], or {TRUST_VARIABLE}=my_package"):
        load_config(path)
    with pytest.raises(UserError):
        load_config(path, ["my_pack", "my_package.other"])
    assert load_config(path, ["my_package"]).network.inner
    monkeypatch.setenv(TRUST_VARIABLE, "other,my_package")
    assert load_config(path).network.inner


def test_stored_run_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    lines = ["config_version: 1", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join(9 * [f'*a{k - 1}'])}]" for k in range(1, 10)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"refers to a part of itself \(\*name\)"):
        load_config(tmp_path / "config.yaml")


def test_stored_run_cannot_read_the_environment_or_trust_itself(tmp_path: Path) -> None:
    cfg = OmegaConf.to_container(compose())
    cfg |= {"name": "${oc.env:HOME}", "trust": ["my_package"]}
    OmegaConf.save(OmegaConf.create(cfg), tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"name=.*trust=\[HOME\]"):
        load_config(tmp_path / "config.yaml")
    cfg["name"] = "plain"
    OmegaConf.save(OmegaConf.create(cfg), tmp_path / "config.yaml")
    assert compose(base=load_config(tmp_path / "config.yaml")).trust == []


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["ema=warmup"], "stages.diffusion.ema.decay", 0.9999),
        (["discriminator=none"], "discriminator", None),
        (["data=digits"], "data.image_size", 8),
        (["sampler=ddim", "sampler.eta=1"], "sampler.eta", 1),
        (["experiment=celebahq"], "data.image_size", 256),
        (["bottleneck=vq"], "bottleneck.num_codes", 1024),
    ],
)
def test_leaf_chosen_on_a_run_replaces_its_group(
    arguments: list[str], key: str, value: object
) -> None:
    base = compose(["data.image_size=64", "stages.diffusion.lr=0.5", "data.limit=7"])
    cfg = compose(arguments, base=base)
    fresh = compose(["experiment=quickstart", *arguments])
    assert OmegaConf.select(cfg, key) == value
    group = key.rpartition(".")[0] or key
    if group != "data":
        assert OmegaConf.select(cfg, group) == OmegaConf.select(fresh, group)
        assert cfg.stages.diffusion.lr == 0.5 or "experiment=celebahq" in arguments
    else:
        assert set(cfg.data) == set(fresh.data) and cfg.data.limit is None


def test_composing_on_a_run_changes_nothing_by_itself() -> None:
    base = compose(["schedule=linear", "ema=warmup", "name=mine", "data.image_size=64"])
    assert compose(base=base) == base
    assert compose(["data.image_size=32"], base=base).data.train.image_size == 32
