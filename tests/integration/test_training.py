"""Both stages through the real command line, at a size that a test can afford."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from torch import Tensor

from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.compose import compose
from ldmlab.apps.runs.restore import restore
from ldmlab.core.checkpoint_file import read_checkpoint

TINY = (
    "data.train.num_samples=64",
    "data.validation.num_samples=16",
    "autoencoder.channels=16",
    "network.channels=16",
    "network.head_channels=16",
    "conditioner.dim=24",
    "perceptual=none",
    "discriminator.start=2",
    "discriminator.discriminator.channels=8",
    "stages.autoencoder.max_steps=4",
    "stages.autoencoder.batch_size=8",
    "stages.autoencoder.val_every=4",
    "stages.diffusion.max_steps=4",
    "stages.diffusion.batch_size=8",
    "stages.diffusion.val_every=4",
    "callbacks.num_samples=4",
    "sampler.steps=2",
    "evaluation.num_samples=8",
)


def train(folder: Path, *overrides: str) -> None:
    """`ldmlab train` with everything tiny."""
    cli.main(["train", f"paths.runs={folder}", *TINY, *overrides])


def weights(folder: Path, stage: str, experiment: str = "quickstart") -> dict[str, Tensor]:
    """The newest checkpoint's tensors."""
    path = folder / experiment / stage / "latest" / "checkpoints" / "last.ckpt"
    return read_checkpoint(path)["state_dict"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of both stages."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder)
    return folder


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run elsewhere, which also keeps what it was halfway."""
    folder = tmp_path_factory.mktemp("again")
    train(folder, "callbacks.keep_every=2")
    return folder


def test_run_folder_holds_every_promised_file(trained: Path) -> None:
    for stage in ("autoencoder", "diffusion"):
        run = trained / "quickstart" / stage / "latest"
        assert run.is_symlink()
        for name in ("config.yaml", "environment.json", "metrics.csv", "checkpoints/last.ckpt"):
            assert (run / name).is_file(), name
        assert list((run / "samples").glob("*-000004.png"))
    card = json.loads((trained / "quickstart/diffusion/latest/card.json").read_text())
    promised = {
        "psnr", "ssim", "class_accuracy", "caption_accuracy", "composition_accuracy",
        "object_accuracy", "frechet_world",
    }  # fmt: skip
    assert promised <= set(card["metrics"])
    assert {"real", "reconstruction"} <= set(card["metrics"]["frechet_world"])
    assert card["metrics"]["caption_accuracy"]["real"] > 0.9
    assert {"sampler", "guidance", "seed", "judge"} <= set(card["protocol"])
    assert {"autoencoder", "codec", "diffusion", "evaluation"} <= set(card["wall_seconds"])


def test_losses_are_logged_once_per_step(trained: Path) -> None:
    with (trained / "quickstart/diffusion/latest/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "train/loss" in rows[0]
    assert len({row["step"] for row in rows}) == len(rows)


def test_codec_stays_frozen_during_diffusion_training(trained: Path) -> None:
    stage_one = weights(trained, "autoencoder")
    stage_two = weights(trained, "diffusion")
    for name, value in stage_one.items():
        if name.startswith("autoencoder."):
            assert torch.equal(stage_two[f"model.codec.{name}"], value), name


def test_finished_run_is_reused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained / "quickstart/diffusion/latest/checkpoints/last.ckpt"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    train(trained)
    assert "reusing" in capsys.readouterr().err
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_resume_keeps_the_original_configuration(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained / "quickstart/diffusion/latest"
    before = (run / "config.yaml").read_bytes()
    longer = ["stage=diffusion", "stages.diffusion.max_steps=5"]
    other = [f"codec.run={trained / 'quickstart/autoencoder/latest'}", "stages.diffusion.lr=0.5"]
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path, *longer, *other, f"resume={run / 'checkpoints/last.ckpt'}")
    said = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and "stages.diffusion.lr=0.003, not 0.5" in said
    # A finished run keeps the configuration that it was trained with.
    train(trained, "stage=diffusion", "stages.diffusion.max_steps=3")
    assert (run / "config.yaml").read_bytes() == before


def test_repeated_run_is_equal_bit_for_bit(trained: Path, repeated: Path) -> None:
    for stage in ("autoencoder", "diffusion"):
        first, second = weights(trained, stage), weights(repeated, stage)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_interrupted_run_resumes_to_the_same_weights(
    trained: Path, repeated: Path, tmp_path: Path
) -> None:
    # Schedules look at max_steps, so the run is cut by a copy of its halfway checkpoint.
    shutil.copytree(repeated, tmp_path, symlinks=True, dirs_exist_ok=True)
    for stage in ("autoencoder", "diffusion"):
        folder = tmp_path / "quickstart" / stage / "latest" / "checkpoints"
        (folder / "last.ckpt").unlink()
        (folder / "step-000004.ckpt").unlink()
    train(tmp_path)
    for stage in ("autoencoder", "diffusion"):
        whole, resumed = weights(trained, stage), weights(tmp_path, stage)
        assert all(torch.equal(whole[name], resumed[name]) for name in whole), stage


def test_sample_depends_only_on_seed_and_index(trained: Path, tmp_path: Path) -> None:
    run = f"run={trained}/quickstart/diffusion/latest"
    caption = "prompt=a red house on the left of a meadow, with hills"
    for name, size in (("a", 4), ("b", 1), ("c", 4)):
        out = tmp_path / name
        cli.main(["sample", run, caption, "num_samples=4", f"batch_size={size}", f"out={out}"])
    files = [f"{k:05d}.png" for k in range(4)]
    a, _, c = ([(tmp_path / n / f).read_bytes() for f in files] for n in "abc")
    assert a == c
    assert len(set(a)) == 4
    # Pixels are bytes: differences of 1e-4 between batch sizes round away almost everywhere.
    for left, right in zip(files, files, strict=True):
        pair = (Image.open(tmp_path / "a" / left), Image.open(tmp_path / "b" / right))
        assert max(high for _, high in ImageChops.difference(*pair).getextrema()) <= 1


def test_sample_edits_an_image(trained: Path, tmp_path: Path) -> None:
    run = trained / "quickstart/diffusion/latest"
    picture, mask = Image.new("RGB", (40, 32), (200, 30, 90)), Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 32))
    picture.save(tmp_path / "picture.png")
    mask.save(tmp_path / "mask.png")
    start = ["sample", f"run={run}", f"image={tmp_path}/picture.png", "num_samples=2"]
    ask = [
        "prompt=a house",
        "also=a boat, on the left",
        "negative_prompt=a tree",
        "guidance.scale=2",
    ]
    cli.main([*start, *ask, "strength=0.5", f"out={tmp_path}/noised"])
    weak = f"autoguidance={run}/checkpoints/last.ckpt"
    cli.main([*start, weak, f"inpaint={tmp_path}/mask.png", f"out={tmp_path}/painted"])
    pixels = np.asarray(Image.open(tmp_path / "painted/00001.png"))
    assert (pixels[:, 16:] == (200, 30, 90)).all()
    assert (pixels[:, :16] != (200, 30, 90)).any()
    assert (np.asarray(Image.open(tmp_path / "noised/00001.png")) != pixels).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inpaint=mask.png"], "give image= too"),
        (["image=nowhere.png"], "image=nowhere.png cannot be read"),
        (
            ["negative_prompt=a tree", "autoguidance={run}"],
            "give a negative condition or autoguidance=",
        ),
        (["image=a.png", "strength=0"], "strength"),
    ],
)
def test_sample_mistake_is_reported_in_one_line(
    trained: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained / "quickstart/diffusion/latest"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sample", f"run={run}", *(a.format(run=run) for a in arguments)])
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip()
    assert words in line
    assert "\n" not in line


def test_samples_use_the_ema_weights(trained: Path) -> None:
    run = trained / "quickstart/diffusion/latest"
    cfg = compose([f"paths.runs={trained}", *TINY])
    restored = restore(cfg, run)
    state = weights(trained, "diffusion")
    name = "backbone.conv_in.weight"
    value = restored.model.network.state_dict()[name]
    assert torch.equal(value, state[f"ema.network.{name}"])
    assert not torch.equal(value, state[f"model.network.{name}"])


def test_sample_uses_the_requested_ema_std(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["codec.run=" + str(trained / "quickstart/autoencoder/latest"), "stage=diffusion"]
    # The last checkpoint has no number.
    train(tmp_path, *same, "ema=post_hoc", "callbacks.keep_every=3")
    run = tmp_path / "quickstart/diffusion/latest"
    cfg = compose([f"paths.runs={tmp_path}", *TINY, "ema=post_hoc"])
    state = weights(tmp_path, "diffusion")
    name = "backbone.conv_in.weight"
    # A length that was kept comes back as it was; one between lies between.
    kept = restore(cfg, run, 0.05).model.network.state_dict()[name]
    torch.testing.assert_close(kept, state[f"ema.others.0.{name}"], rtol=1e-4, atol=1e-6)
    cli.main(["sample", f"run={run}", "ema_std=0.07", "num_samples=1", f"out={tmp_path}/out"])
    assert (tmp_path / "out/00000.png").is_file()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sample", f"run={trained}/quickstart/diffusion/latest", "ema_std=0.07"])
    assert stopped.value.code == 2
    assert "ema=post_hoc" in capsys.readouterr().err


def test_evaluate_accepts_another_sampler(trained: Path) -> None:
    run = trained / "quickstart/diffusion/latest"
    before = (run / "card.json").read_bytes()
    cli.main(["evaluate", f"run={run}", "sampler=ddim", "sampler.steps=3", "guidance=none"])
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_bytes(before)  # as the quickstart writes it
    assert card["protocol"]["sampler"]["name"] == "DDIM"
    assert card["protocol"]["guidance"]["name"] == "NoGuidance"


def test_bits_per_dim_join_the_metric_card_with_a_flow_baseline(trained: Path) -> None:
    run = trained / "quickstart/diffusion/latest"
    before = (run / "card.json").read_bytes()
    numbers = ["bits_per_dim.num_samples=4", "bits_per_dim.terms=3", "density.max_steps=2"]
    wanted = ["metrics=[bits_per_dim]", "density=realnvp"]
    cli.main(["evaluate", f"run={run}", *wanted, *numbers])
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_bytes(before)
    names = {"bits_per_dim", "bits_per_dim_ode", "bits_per_dim_flow"}
    assert set(card["metrics"]) - set(json.loads(before)["metrics"]) == names
    assert set(json.loads(before)["metrics"]) < set(card["metrics"])
    assert all(math.isfinite(card["metrics"][name]["value"]) for name in names)
    assert card["metrics"]["bits_per_dim"]["last_term"] == "continuous"


@pytest.mark.parametrize("conditioner", ["none", "class", "mask"])
def test_another_conditioner_reuses_the_autoencoder(
    trained: Path, conditioner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [o for o in TINY if not o.startswith("conditioner.dim")]
    cli.main(["train", f"paths.runs={trained}", *overrides, f"conditioner={conditioner}"])
    assert "autoencoder: finished" in capsys.readouterr().err
    card = json.loads((trained / "quickstart/diffusion/latest/card.json").read_text())
    named = {"none": "valid_rate", "class": "class_accuracy", "mask": "mask_miou"}[conditioner]
    assert named in card["metrics"]


def test_diffusion_without_an_autoencoder_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, "stage=diffusion")
    assert stop.value.code == 2
    assert "stage=autoencoder" in capsys.readouterr().err


def test_codec_of_another_latent_shape_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained / "quickstart/autoencoder/latest"
    with pytest.raises(SystemExit) as stop:
        train(trained, "stage=diffusion", f"codec.run={run}", "bottleneck.latent_channels=3")
    assert stop.value.code == 2
    assert "another autoencoder" in capsys.readouterr().err


def test_damaged_checkpoint_is_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = trained / "quickstart/diffusion/latest/checkpoints/last.ckpt"
    short = tmp_path / "short.ckpt"
    short.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(SystemExit) as stop:
        train(trained, f"resume={short}")
    assert stop.value.code == 2
    assert "short.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides",
    [
        ("bottleneck=vq", "stage=autoencoder"),
        ("perceptual=vistas", "discriminator=none", "stage=autoencoder"),
        ("codec=identity", "network.attention_factors=[2]"),
        ("schedule=rectified_flow", "parameterization=flow", "sampler=ddim"),
        pytest.param(
            (
                "schedule=linear",
                "parameterization=eps",
                "weighting=unit",
                "timestep_sampler=uniform",
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("schedule=scaled_linear", "sampler=ddpm", "optimizer=adamw"), marks=pytest.mark.slow
        ),
        pytest.param(
            (
                "schedule=karras_ve",
                "parameterization=edm",
                "weighting=edm",
                "timestep_sampler=log_normal",
                "sampler=heun",
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("schedule=zero_terminal_snr", "timestep_sampler=loss_second_moment", "sampler=unipc"),
            marks=pytest.mark.slow,
        ),
        ("parameterization=learned_variance", "sampler=ddpm_learned", "weighting=soft_min_snr"),
        pytest.param(
            ("weighting=vlb", "timestep_sampler=stratified", "guidance=interval", "sampler=ode"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("guidance=rescaled", "sampler=predictor_corrector"), marks=pytest.mark.slow),
    ],
    ids=lambda overrides: overrides[0],
)
def test_each_override_trains_another_model(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    kept = [o for o in TINY if "discriminator=none" not in overrides or "discriminator." not in o]
    many = ("sampler=ddpm", "sampler=ddpm_learned", "sampler=predictor_corrector", "sampler=heun")
    steps = ["sampler.steps=3"] if set(many) & set(overrides) else []
    cli.main(["train", f"paths.runs={tmp_path}", *kept, *overrides, *steps])
    stage = "autoencoder" if "stage=autoencoder" in overrides else "diffusion"
    state = weights(tmp_path, stage)
    assert int(state["steps"]) == 4
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


def test_wandb_logs_offline_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tmp_path, "logger=wandb")
    for stage in ("autoencoder", "diffusion"):
        run = tmp_path / "quickstart" / stage / "latest"
        (offline,) = (run / "wandb").glob("offline-run-*")
        assert list(offline.glob("*.wandb"))
        assert list(offline.rglob("*.png"))
        assert (run / "metrics.csv").is_file()
