"""Plans: conditions by a look at the data, steps by the time there is, and the same ones later."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from ldmlab.apps.build.check import check_experiment
from ldmlab.apps.config.compose import compose
from ldmlab.apps.stages import plan
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sources.contents import look_into


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of small pictures."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(6):
            Image.new("RGB", (70, 50), (40 * k, 0, 0)).save(tmp_path / "data" / name / f"{k}.png")
    return tmp_path / "data"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a step of each stage, instead of what this machine needs."""
    seconds = {"autoencoder": 0.05, "diffusion": 0.1}

    def told(module: str, batch: Batch, device: torch.device) -> float:
        assert len(batch) == {"autoencoder": 16, "diffusion": 64}[module]
        return seconds[module]

    monkeypatch.setattr("ldmlab.training.step_time.seconds_a_step", told)
    # What is timed need not be built for that.
    monkeypatch.setattr(plan, "build_autoencoder_module", lambda *_: "autoencoder")
    monkeypatch.setattr(plan, "build_diffusion_module", lambda *_: "diffusion")
    monkeypatch.setattr(plan, "build_model", lambda *_: None)
    monkeypatch.setattr(plan, "build_codec", lambda *_: SimpleNamespace(encode=None))
    monkeypatch.setattr(plan, "with_latents", lambda batch, encode: batch)
    return seconds


def _planned(root: Path, *typed: str) -> DictConfig:
    arguments = ["experiment=own", f"data.root={root}", f"paths.runs={root.parent}", *typed]
    return plan.planned(compose(arguments), arguments)


def test_experiment_without_a_plan_stays_as_it_is() -> None:
    cfg = compose(["experiment=quickstart"])
    assert plan.planned(cfg, ()) is cfg


def test_plan_follows_data_machine_and_time(root: Path, steps: dict[str, float]) -> None:
    cfg = _planned(root, "budget=20m", "trainer=cpu")
    assert cfg.data.class_folders
    assert cfg.conditioner._target_.endswith("ClassConditioner.for_data")
    assert cfg.data.image_size == 48  # of images of 50 pixels
    # A quarter and 60 % of 1200 s, a step being its passes and a fifth more.
    assert cfg.stages.autoencoder.max_steps == int(0.25 * 1200 / 0.06)
    assert cfg.stages.diffusion.max_steps == int(0.6 * 1200 / 0.12)
    assert cfg.discriminator.start == int(0.8 * cfg.stages.autoencoder.max_steps)
    assert cfg.network.channels == 64
    assert (cfg.plan, cfg.budget) == ([], None)
    check_experiment(cfg)


def test_captions_come_before_classes(root: Path, steps: dict[str, float]) -> None:
    for image in root.rglob("*.png"):
        image.with_suffix(".txt").write_text(f"a {image.parent.name}")
    cfg = _planned(root, "budget=20m")
    assert (cfg.data.captions, cfg.data.class_folders) == ("txt", False)
    assert cfg.conditioner._target_.endswith("TextConditioner.for_data")
    check_experiment(cfg)


def test_single_stage_has_all_the_time(root: Path, steps: dict[str, float]) -> None:
    cfg = _planned(root, "budget=10m", "stage=autoencoder")
    assert cfg.stages.autoencoder.max_steps == int(0.85 * 600 / 0.06)


def test_slow_machine_gets_a_narrower_network(root: Path, steps: dict[str, float]) -> None:
    steps["diffusion"] = 0.5
    assert _planned(root, "budget=20m").network.channels == 32
    assert _planned(root, "budget=20m", "network.channels=96").network.channels == 96


def test_typed_overrides_are_kept(root: Path, steps: dict[str, float]) -> None:
    cfg = _planned(
        root, "budget=20m", "data.image_size=32", "conditioner=none", "guidance=none",
        "stages.diffusion.max_steps=7", "+trainer.detect_anomaly=true",
    )  # fmt: skip
    assert cfg.data.image_size == 32
    assert cfg.conditioner._target_.endswith("Unconditional.for_data")
    assert cfg.stages.diffusion.max_steps == 7
    assert cfg.trainer.detect_anomaly


def test_later_start_keeps_the_plan(
    root: Path, steps: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    first = _planned(root, "budget=20m")
    steps["autoencoder"] = 0.2
    assert _planned(root, "budget=20m") == first
    assert "as planned before" in capsys.readouterr().err
    assert _planned(root, "budget=40m") != first


def test_time_for_no_training_is_refused(root: Path, steps: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"budget=5s leaves 20 steps of 0\.1 s for the autoencoder"):
        _planned(root, "budget=5s")


@pytest.mark.parametrize("budget", ["20", "m", "20 minutes", "0m", "-3h"])
def test_budget_that_is_no_time_is_refused(budget: str) -> None:
    with pytest.raises(UserError, match="is no time: write a number and s, m, h or d"):
        plan.seconds_of(budget)


@pytest.mark.parametrize(("budget", "seconds"), [("90s", 90), ("1.5m", 90), ("8h", 28800)])
def test_budget_is_read_in_its_unit(budget: str, seconds: float) -> None:
    assert plan.seconds_of(budget) == seconds


def test_damaged_plan_is_refused(root: Path, steps: dict[str, float]) -> None:
    _planned(root, "budget=20m")
    file = next((root.parent / "own" / "plans").glob("*.yaml"))
    file.write_text("overrides: []\n")
    with pytest.raises(UserError, match="is no plan: delete it"):
        _planned(root, "budget=20m")


def test_values_of_other_kinds_are_planned_for(tmp_path: Path) -> None:
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.zeros((4, 8, 8), np.uint16))
    overrides, line = plan._conditions(look_into(tmp_path))
    assert {"data.channels=4", "data.bits=16", "data.value_percentile=[0,100]"} <= {*overrides}
    assert "4 channels of 16 bits" in line
