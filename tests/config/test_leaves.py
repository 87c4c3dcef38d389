"""Every leaf of every model group composes and builds; experiments build whole."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch
from omegaconf import OmegaConf

from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_codec,
    build_diffusion_module,
    build_model,
)
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import options
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from tests.config.paper import PAPER

SPEC = DataSpec(32, 3, 12, 12, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "sea"))
DIGITS = DataSpec(8, 1, 10, None, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "one"))
MODEL_GROUPS = (
    "autoencoder", "bottleneck", "discriminator", "perceptual", "codec", "network", "conditioner",
    "schedule", "parameterization", "weighting", "timestep_sampler", "optimizer", "lr_schedule",
    "sampler", "guidance", "evaluation", "data", "ema", "experiment",
)  # fmt: skip
OURS = ("digits", "quickstart", "quickstart_long")
GROUPS = {
    *MODEL_GROUPS,
    "density",
    "trainer",
    "callbacks",
    "logger",
    "paths",
    "launcher",
    "sweep",
    "debug",
}
# Those of the paper are built in the experiments that choose them: test_experiments.py.
LEAVES = [
    (group, leaf)
    for group in MODEL_GROUPS
    for leaf in options()[group]
    if not any(fnmatchcase(f"{group}/{leaf}", pattern) for pattern in PAPER)
    and (group != "experiment" or leaf in OURS)
]


def test_config_groups_are_the_promised_ones() -> None:
    assert set(options()) - {"hydra"} >= GROUPS


@pytest.mark.parametrize(("group", "leaf"), LEAVES)
def test_every_leaf_builds_both_stages(group: str, leaf: str) -> None:
    overrides = [f"{group}={leaf}"]
    if (group, leaf) == ("perceptual", "lpips"):
        pytest.skip("downloads its trunk; tested without network in test_lpips")
    if (group, leaf) == ("conditioner", "hf_text"):
        pytest.skip("needs an encoder's folder; test_hf_text makes some")
    cfg = compose(overrides)
    assert "latents" in cfg.data
    spec = DIGITS if "digits" in leaf else SPEC
    with torch.device("meta"):
        if group in ("autoencoder", "bottleneck", "discriminator"):
            module = build_autoencoder_module(cfg, spec)
            assert sum(p.numel() for p in module.autoencoder.parameters()) > 1000
    if group in ("autoencoder", "bottleneck", "discriminator", "perceptual"):
        assert build_autoencoder_module(cfg, spec).configure_optimizers()
    else:
        model = build_model(cfg, spec, build_codec(cfg, spec))
        assert build_diffusion_module(cfg, model).configure_optimizers()


@pytest.mark.parametrize("group", sorted(GROUPS - {"launcher", "paths"}))
def test_leaves_begin_with_a_comment(group: str) -> None:
    from ldmlab.apps.config.conf_dir import conf_dir

    for path in (conf_dir() / group).glob("*.yaml"):
        lines = path.read_text().splitlines()
        first = next(line for line in lines if not line.startswith("# @package"))
        assert first.startswith("# "), path
        assert OmegaConf.load(path) is not None


def test_eps_prediction_without_terminal_signal_is_refused() -> None:
    cfg = compose(["schedule=rectified_flow", "parameterization=eps", "codec=identity"])
    with pytest.raises(UserError, match="no signal is left"):
        build_model(cfg, SPEC, build_codec(cfg, SPEC))


def test_image_size_not_divisible_by_the_codec_is_refused() -> None:
    cfg = compose([])
    with pytest.raises(UserError, match=r"data\.image_size"):
        build_model(cfg, DataSpec(36, 3, 12, 12, SPEC.vocabulary), build_codec(cfg, SPEC))


def test_mask_conditioner_without_masks_is_refused() -> None:
    cfg = compose(["conditioner=mask"])
    with pytest.raises(UserError, match="segmentation mask"):
        build_model(cfg, DataSpec(32, 3), build_codec(cfg, SPEC))
