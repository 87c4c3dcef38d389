"""Every key of a leaf of conf/ is obeyed: another value of it builds another object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir, options, package_of
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.stages.session import Session
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make
from tests.config.changes import changes, keys
from tests.config.fingerprint import fingerprint

GROUPS = (
    "autoencoder", "bottleneck", "discriminator", "codec", "network", "conditioner", "schedule",
    "parameterization", "weighting", "timestep_sampler", "sampler", "guidance", "evaluation",
    "optimizer", "lr_schedule", "ema",
)  # fmt: skip


def _own_leaves(group: str) -> list[str]:
    names = options()[group]
    return [n for n in names if "defaults:" not in (conf_dir() / group / f"{n}.yaml").read_text()]


def _parts(group: str) -> Callable[[DictConfig], str]:
    """What the leaves of a group are built into."""

    def made(cfg: DictConfig) -> str:
        if group in ("sampler", "guidance", "evaluation", "optimizer", "lr_schedule"):
            return fingerprint(build(cfg[group]))
        if group == "ema":
            return fingerprint(build(cfg.stages.diffusion.ema))
        drawn = draw_blueprint(cfg)
        if group == "discriminator":
            return fingerprint(build(cfg.discriminator, discriminator=drawn.discriminator))
        return fingerprint((drawn.codec, drawn.network, drawn.process))

    return made


BESIDE = {
    "autoencoder": ["data.image_size=256"],
    "conditioner": ["data.num_classes=10", "data.num_mask_labels=5"],
}
# Read by the run (below), or decided together with another key.
ELSEWHERE = {"codec.num_images", "codec.run", "network.num_heads", "network.head_channels"}
# Needs a text encoder's folder, and has tests of its own; and what has no keys.
WITHOUT = {("conditioner", "hf_text"), ("discriminator", "none")}
LEAVES = [(g, leaf) for g in GROUPS for leaf in _own_leaves(g) if (g, leaf) not in WITHOUT]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "leaf"), LEAVES)
def test_every_key_of_a_leaf_builds_something_else(group: str, leaf: str) -> None:
    cfg = compose([f"{group}={leaf}", *BESIDE.get(group, [])])
    assert _parts(group)(cfg) == _parts(group)(cfg)
    for key, value in keys(cfg, f"{package_of(group)}."):
        assert key in ELSEWHERE or changes(cfg, key, value, _parts(group)), key


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_every_key_of_a_data_set_reads_something_else(name: str, tmp_path: Path) -> None:
    form = make(name, tmp_path / "root", None, 24, 48)
    options = OVERRIDES.get((name, form), "").split()
    more = ["data.validation_share=0.3"] if name == "laion" else []  # of few samples, some
    cfg = compose(
        [f"data={name}", f"data.root={tmp_path}/root", *options, *more, "data.image_size=16"]
    )

    def made(cfg: DictConfig) -> str:
        # The view of a visit, and the loaded sample: an option may show in either.
        session = Session.open(cfg)
        return fingerprint((session.train, session.validation, session.spec), ("_open",))

    assert made(cfg) == made(cfg)
    for key, value in keys(cfg, "data."):
        if key.split(".")[1] not in ("train", "validation") and key not in ELSEWHERE_DATA:
            assert changes(cfg, key, value, made), key


# Of the run, in test_obeyed_runs.py; and what has one value that is true.
ELSEWHERE_DATA = {
    "data.num_workers", "data.in_memory", "data.latents", "data.channels", "data.num_classes",
    "data.vocabulary_size",  # of data with captions alone
    "data.min_similarity", "data.nsfw", "data.max_caption",  # in test_filters.py
    "data.cache_gib",  # of shards at an address
}  # fmt: skip
