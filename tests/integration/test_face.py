"""The Python face does what the command line does, and trains under a plain Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from tests.integration.test_training import TINY, weights

import ldmlab
from ldmlab.apps.cli import main as cli
from ldmlab.diffusion.guidance import Rescaled
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.training.step_module import StepModule

PLAIN = (
    *TINY, "data.in_memory=false", "data.train.num_samples=32", "trainer=cpu",
    "stages.autoencoder.clip_norm=null", "stages.diffusion.clip_norm=null",
    "stages.autoencoder.max_steps=6", "stages.diffusion.max_steps=6", "evaluation=none",
    "discriminator.start=3", "codec.num_images=32",
)  # fmt: skip
PROMPT = "a red house, on the left"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages, trained by the command line."""
    folder = tmp_path_factory.mktemp("runs")
    cli.main(["train", f"paths.runs={folder}", *PLAIN])
    return folder


@pytest.fixture(scope="module")
def run(runs: Path) -> Path:
    return runs / "quickstart" / "diffusion" / "latest"


@pytest.fixture(scope="module")
def pipeline(run: Path) -> ldmlab.Pipeline:
    return ldmlab.load(run, device="cpu")


def trainer(**options: Any) -> L.Trainer:
    """What stands in anyone's notebook, quiet."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", **quiet, **options)


def assert_equal_weights(module: StepModule, stored: dict[str, torch.Tensor]) -> None:
    state = module.state_dict()
    assert state.keys() == stored.keys()
    assert [name for name in stored if not torch.equal(state[name], stored[name])] == []


def test_plain_trainer_equals_the_command_line(runs: Path, tmp_path: Path) -> None:
    experiment = ldmlab.build(ldmlab.compose([*PLAIN, f"paths.runs={runs}"]))
    first = experiment.autoencoder_module
    assert first is not None
    one = trainer(max_steps=6, enable_checkpointing=False)
    one.fit(first, experiment.datamodule("autoencoder"))
    assert (first.step, one.global_step) == (6, 6)
    assert one.callback_metrics.keys() >= {"train/loss", "val/psnr"}
    assert_equal_weights(first, weights(runs, "autoencoder"))

    second = experiment.diffusion_module(first.autoencoder)
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=2, filename="{step}", save_top_k=-1)
    trainer(max_steps=4, callbacks=[keep]).fit(second, experiment.datamodule("diffusion"))
    assert second.step == 4
    resumed = experiment.diffusion_module(first.autoencoder)
    # Without max_steps the module itself ends the training.
    two = trainer(max_epochs=-1, enable_checkpointing=False)
    two.fit(resumed, experiment.datamodule("diffusion"), ckpt_path=tmp_path / "step=4.ckpt")
    assert (resumed.step, two.global_step) == (6, 6)
    assert_equal_weights(resumed, weights(runs, "diffusion"))

    mine = experiment.pipeline(resumed).sample(PROMPT, seed=3)
    theirs = ldmlab.load(runs / "quickstart" / "diffusion" / "latest").sample(PROMPT, seed=3)
    assert np.array_equal(mine[0], theirs[0])


SAME: dict[str, tuple[list[str], dict[str, Any]]] = {
    "named sampler and scale": (
        ["sampler=ddim", "sampler.steps=3", "guidance=classifier_free", "guidance.scale=4"],
        {"sampler": "ddim", "steps": 3, "guidance": 4},
    ),
    "objects": (
        ["sampler=ddim", "sampler.steps=3", "guidance=rescaled", "guidance.scale=3"],
        {"sampler": DDIM(steps=3), "guidance": Rescaled(3.0)},
    ),
    "image": (
        ["image={image}", "strength=0.8", "also=snow", "negative_prompt=night"],
        {"image": "{image}", "strength": 0.8, "also": "snow", "negative_prompt": "night"},
    ),
    "inpaint": (
        ["image={image}", "inpaint={hole}", "resamplings=2"],
        {"image": "{image}", "inpaint": "{hole}", "resamplings": 2},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_pipeline_samples_equal_the_command_line(
    case: str, run: Path, pipeline: ldmlab.Pipeline, tmp_path: Path
) -> None:
    files = {"image": tmp_path / "image.png", "hole": tmp_path / "hole.png"}
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(files["image"])
    Image.fromarray((np.indices((40, 48))[1] > 24).astype(np.uint8) * 255).save(files["hole"])
    typed, given = SAME[case]
    out = tmp_path / "out"
    common = [f"run={run}", f"prompt={PROMPT}", "num_samples=3", "seed=7", f"out={out}"]
    cli.main(["sample", *common, *(argument.format(**files) for argument in typed)])
    opened = {
        key: Image.open(value.format(**files)) if isinstance(value, str) and "{" in value else value
        for key, value in given.items()
    }
    drawn = pipeline.sample(PROMPT, num_samples=3, seed=7, **opened)
    for k, picture in enumerate(drawn):
        assert np.array_equal(picture, Image.open(out / f"{k:05d}.png"))
    assert len(drawn) == 3


def test_pipeline_accepts_prompts_sizes_and_batches(pipeline: ldmlab.Pipeline) -> None:
    wide = pipeline.sample(["snow", "a lake"], size=(32, 48), batch_size=1)
    assert [picture.size for picture in wide] == [(48, 32)] * 2
    whole = pipeline.sample(["snow", "a lake"], size=(32, 48))
    for one, other in zip(wide, whole, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


REFUSED: dict[str, tuple[Callable[[ldmlab.Pipeline], object], str]] = {
    "no condition": (lambda p: p.sample(), "give prompt="),
    "a class": (lambda p: p.sample(label=3), "label= is not for this model, which takes prompt="),
    "a mask": (lambda p: p.sample(mask=torch.zeros(32, 32)), "mask= is not for this model"),
    "a hole alone": (lambda p: p.sample("a", inpaint=torch.ones(1, 32, 32)), "give image= too"),
    "a size": (lambda p: p.sample("a", size=33), "size=33 must be a multiple of"),
    "size and image": (lambda p: p.sample("a", size=32, image="x"), "x cannot be read"),
    "no sampler": (lambda p: p.sample("a", sampler="dimm"), "did you mean"),
    "no step": (lambda p: p.sample("a", steps=0), "steps must be a whole number above 0; got 0"),
    "no file": (lambda p: p.encode("gone.png"), "images=gone.png cannot be read"),
    "grey": (lambda p: p.encode(torch.zeros(1, 32, 32)), r"make it \[b, 3, h, w\]"),
    "counts": (lambda p: p.log_likelihood(torch.zeros(3, 3, 32, 32), ["a", "b"]), "2 conditions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pipeline_refuses_conditions_the_model_does_not_take(
    case: str, pipeline: ldmlab.Pipeline
) -> None:
    ask, words = REFUSED[case]
    with pytest.raises(ldmlab.UserError, match=words) as refused:
        ask(pipeline)
    assert "\n" not in str(refused.value)


def test_pipeline_likelihood_of_an_untrained_model_is_that_of_noise() -> None:
    """Its last layer is zero, and v = 0 is what a model of N(0, 1) answers."""
    cfg = ldmlab.compose(
        ["experiment=digits", "codec=identity", "conditioner=none", "network.channels=8",
         "network.head_channels=8", "network.channel_mult=[1]"]
    )  # fmt: skip
    experiment = ldmlab.build(cfg)
    pipeline = experiment.pipeline(experiment.diffusion_module())
    images = experiment.validation.__getitems__([0, 1]).image
    assert images is not None
    nats = pipeline.log_likelihood(images, tolerance=1e-2)
    # Within a byte, whose width is the unit, the density hardly changes.
    normal = (-0.5 * (images.square() + math.log(2 * math.pi))).flatten(1).sum(1)
    expected = normal + 64 * math.log(2 / 255)
    torch.testing.assert_close(nats, expected, rtol=2e-3, atol=0.5)


def test_pipeline_decode_of_encode_is_the_reconstruction(pipeline: ldmlab.Pipeline) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = pipeline.encode(images)
    assert latents.shape == (2, pipeline.model.codec.latent_channels, 8, 8)
    shown = torch.stack([torch.from_numpy(np.array(p)) for p in pipeline.decode(latents)])
    exact = pipeline.model.codec.reconstruct(images).clamp(-1, 1).movedim(1, -1)
    assert float((shown / 127.5 - 1 - exact).abs().max()) < 1 / 127
    assert torch.equal(pipeline.encode([images[0], images[1]]), latents)
