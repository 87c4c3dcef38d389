"""Images of other shapes, channels and depths through data, training, samples and export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.compose import compose
from ldmlab.apps.runs.restore import restore
from ldmlab.apps.stages.codec import stage_one_codec
from ldmlab.apps.stages.session import Session
from ldmlab.apps.stages.two_stage import train_autoencoder, train_diffusion
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.checkpoint_keys import spec_in
from ldmlab.core.errors import UserError

NARROW = [
    "data=image_folder", "name=narrow", "autoencoder.channels=8", "stages.autoencoder.val_every=1",
    "stages.diffusion.val_every=1", "sampler.steps=1", "bottleneck.latent_channels=2",
    "discriminator=none", "network.channels=8", "network.channel_mult=[1,2]",
    "network.head_channels=8", "codec.num_images=4", "stages.autoencoder.max_steps=1",
    "stages.diffusion.max_steps=1", "stages.autoencoder.batch_size=2",
    "stages.diffusion.batch_size=2", "stages.diffusion.warmup_steps=0", "callbacks.num_samples=2",
    "data.num_workers=0", "data.flip=false", "conditioner=none", "guidance=none",
]  # fmt: skip

WIDE = ["codec=identity", "network.channels=32", "network.channel_mult=[1]"]  # diffusers' norms


def command(*words: str) -> None:
    code = None
    try:
        cli.main(list(words))
    except SystemExit as leaving:
        code = leaving.code
    assert not code


def test_16_bit_ramp_survives_check_training_samples_and_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, runs, out = tmp_path / "root", tmp_path / "runs", tmp_path / "out"
    root.mkdir()
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    for k in range(4):
        Image.fromarray(np.roll(ramp, 3 * k, 1)).save(root / f"{k}.png")
    data = [f"data.root={root}", "data.image_size=16", "data.channels=1", "data.bits=16"]
    command("data", "action=check", "data=image_folder", *data, f"out={tmp_path}/check")
    found = json.loads((tmp_path / "check" / "report.json").read_text())
    assert found["train"]["changes"] == found["validation"]["changes"] == {}

    session = Session.open(compose([*NARROW, *data, *WIDE, f"paths.runs={runs}"]))
    names = [session.train.source.name(k) for k in range(len(session.train))]  # type: ignore[attr-defined]
    batch = session.train.__getitems__([0])
    assert batch.image is not None
    seen = session.spec.values.from_unit(batch.image[0])[0]
    assert np.array_equal(seen, np.asarray(Image.open(names[0])))
    folder = train_diffusion(session)
    assert "16 bits" in capsys.readouterr().err

    # Nothing of the picture is to be painted anew, so that the sample is the picture.
    Image.new("L", (16, 16), 0).save(tmp_path / "nothing.png")
    command("sample", f"run={folder.path}", "num_samples=1", f"image={root}/1.png",
            f"inpaint={tmp_path}/nothing.png", f"out={out}")  # fmt: skip
    drawn, real = (
        np.asarray(Image.open(p)).astype(int) for p in (out / "00000.png", root / "1.png")
    )
    assert drawn.max() > 60000 and abs(drawn - real).max() <= 1

    diffusers = pytest.importorskip("diffusers")
    command("convert", f"run={folder.path}", f"out={tmp_path}/pipeline")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        tmp_path / "pipeline", custom_pipeline=str(tmp_path / "pipeline"),
        trust_remote_code=True, low_cpu_mem_usage=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    values = pipeline(num_inference_steps=2, output_type="values").images
    assert values.shape == (1, 16, 16, 1) and values.dtype == np.uint16
    unit = batch.image.movedim(1, -1).numpy() / 2 + 0.5
    assert abs(pipeline._stored(unit)[0, ..., 0].astype(int) - seen).max() <= 1
    command("convert", f"diffusers={tmp_path}/pipeline", f"out={tmp_path}/back")
    back = spec_in(read_checkpoint(tmp_path / "back" / "checkpoints" / "last.ckpt"))
    assert back.values == session.spec.values


def test_oblong_images_train_both_stages_and_are_sampled(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for k in range(6):
        Image.effect_noise((60, 40), 50 + k).convert("RGB").save(root / f"{k}.png")
    words = [*NARROW, f"data.root={root}", "data.image_size=[16,24]", f"paths.runs={tmp_path}/runs"]
    train_autoencoder(Session.open(compose(words)))
    command("encode", *words, f"out={tmp_path}/latents", "trainer.accelerator=cpu")
    manifest = json.loads((tmp_path / "latents" / "train" / "manifest.json").read_text())
    assert manifest["latent_shape"] == [2, 4, 6]
    folder = train_diffusion(Session.open(compose([*words, f"data.latents={tmp_path}/latents"])))
    command("sample", f"run={folder.path}", "num_samples=2", f"out={tmp_path}/out")
    assert Image.open(tmp_path / "out" / "00001.png").size == (24, 16)
    cfg = compose(words)
    assert restore(cfg, folder.path).spec.frame == (16, 24)
    grid = Image.open(next((folder.samples).glob("samples-*.png")))
    assert grid.width > grid.height


def test_4_channels_of_npy_train_an_autoencoder_with_measured_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, generator = tmp_path / "root", np.random.default_rng(0)
    root.mkdir()
    for k in range(6):
        planes = generator.integers(100, 4000, (4, 16, 16)).astype(np.uint16)
        np.save(root / f"{k}.npy", planes)
    words = [*NARROW, f"data.root={root}", "data.image_size=16", "data.channels=4", "data.bits=16",
             "data.value_percentile=[1,99]", f"paths.runs={tmp_path}/runs"]  # fmt: skip
    with pytest.raises(UserError, match=r"data\.channels=4: take perceptual=none"):
        train_autoencoder(Session.open(compose([*words, "perceptual=vistas"])))
    session = Session.open(compose(words))
    folder = train_autoencoder(session)
    assert "the first three as red, green and blue" in capsys.readouterr().err
    spec = spec_in(read_checkpoint(folder.checkpoints / "last.ckpt"))
    assert spec.image_channels == 4 and len(spec.value_range or ()) == 4
    assert json.loads((folder.path / "data.json").read_text())["value_range"] == [
        list(pair) for pair in spec.value_range or ()
    ]
    others = [*words[:-2], "data.value_range=[0,5000]", words[-1], f"codec.run={folder.path}"]
    stage_one_codec(Session.open(compose(others)))
    said = capsys.readouterr().err
    assert "warning" in said and "16 bits from 0 to 5000" in said
    run = train_diffusion(Session.open(compose(words)))
    assert "warning" not in capsys.readouterr().err
    command("sample", f"run={run.path}", "num_samples=1", f"out={tmp_path}/out")
    drawn = tifffile.imread(tmp_path / "out" / "00000.tiff")
    assert drawn.shape == (4, 16, 16) and drawn.dtype == np.uint16
    low, high = torch.tensor(spec.value_range).T
    assert (drawn.min((1, 2)) >= low.numpy() - 1).all() and (
        drawn.max((1, 2)) <= high.numpy() + 1
    ).all()
