"""Which choices make another run."""

from __future__ import annotations

import copy

import pytest
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.apps.config.run_id import name_of_run, split_identity, stage_identity
from ldmlab.apps.stages.codec import AUTOENCODER_KEYS
from ldmlab.apps.stages.two_stage import DIFFUSION_KEYS

DEFAULT = compose([])
BOTH = [
    "seed=1", "data.image_size=64", "data.limit=100", "optimizer=adamw", "lr_schedule=constant",
    "scale_lr=true",
]  # fmt: skip
STAGE_ONE = [
    "autoencoder.channels=32", "bottleneck=vq", "bottleneck.weight=1e-5", "discriminator=none",
    "discriminator.start=3", "perceptual=vistas", "stages.autoencoder.lr=1e-3",
    "stages.autoencoder.discriminator_lr=1e-3", "stages.autoencoder.batch_size=8",
    "stages.autoencoder.betas=[0.5,0.9]", "stages.autoencoder.clip_norm=2.0",
    "stages.autoencoder.loss_type=l1", "stages.autoencoder.precision=bf16-mixed",
]  # fmt: skip
STAGE_TWO = [
    "codec.num_images=100", "network.channels=32", "conditioner=class", "schedule=linear",
    "parameterization=eps", "weighting=min_snr", "weighting=min_snr weighting.gamma=2",
    "timestep_sampler=uniform", "ema=warmup", "stages.diffusion.lr=1e-3",
    "stages.diffusion.batch_size=8", "stages.diffusion.condition_dropout=0.2",
    "stages.diffusion.warmup_steps=7", "stages.diffusion.weight_decay=0.5",
]  # fmt: skip
# Where, how long, and what is shown of it.
NEITHER = [
    "paths.runs=elsewhere", "callbacks.sample_every=7", "callbacks.best=true", "sampler=ddim",
    "guidance=none", "evaluation=none", "trainer.devices=2", "trainer=ddp", "data.num_workers=3",
    "stages.autoencoder.max_steps=9", "stages.diffusion.max_steps=9",
    "stages.diffusion.val_every=9", "stages.diffusion.accumulate_grad_batches=2",
]  # fmt: skip


def names(cfg: DictConfig) -> tuple[str, str]:
    """Of the runs of both stages, over one codec."""
    one = stage_identity(cfg, AUTOENCODER_KEYS)
    two = stage_identity(cfg, DIFFUSION_KEYS, codec_hash="c0dec", latents=None)
    return name_of_run(cfg, one), name_of_run(cfg, two)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        *((words, (True, True)) for words in BOTH),
        *((words, (True, False)) for words in STAGE_ONE),
        *((words, (False, True)) for words in STAGE_TWO),
        *((words, (False, False)) for words in NEITHER),
    ],
)
def test_run_is_another_where_its_result_is(words: str, changed: tuple[bool, bool]) -> None:
    before, after = names(DEFAULT), names(_with(words.split()))
    assert tuple(a != b for a, b in zip(before, after, strict=True)) == changed


def _with(words: list[str]) -> DictConfig:
    """The default experiment with some words; composing each anew would take half a second."""
    cfg = copy.deepcopy(DEFAULT)
    for word in words:
        key, _, value = word.partition("=")
        path = conf_dir() / key / f"{value}.yaml"
        if not path.is_file():
            cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist([word]))
        elif "defaults" in (leaf := OmegaConf.load(path)) or "@package" in path.read_text():
            return compose(words)
        else:
            cfg[key] = leaf
    return cfg  # type: ignore[return-value]


def test_keys_that_came_later_change_no_id_at_their_defaults() -> None:
    words = ["data=image_folder", "data.root=photos"]
    cfg = compose(words)
    before = copy.deepcopy(cfg)
    OmegaConf.set_struct(before, False)
    rules = ("value_range", "value_window", "value_percentile")
    for split in ("train", "validation"):
        for key in ("pixels", "resize_mode"):
            before.data[split].transform.pop(key)
    for key in ("bits", "pages", "resize_mode", *rules):
        before.data.pop(key)
    assert names(cfg) == names(before)
    assert split_identity(cfg, "train") == split_identity(before, "train")
    others = ("data.bits=16", "data.channels=1", "data.resize_mode=pad", "data.value_range=[0,9]")
    changed = [names(OmegaConf.merge(cfg, OmegaConf.from_dotlist([word]))) for word in others]
    assert len({*changed, names(cfg)}) == len(others) + 1
