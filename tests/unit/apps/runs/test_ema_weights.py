"""Which average of a run's weights a model is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from ldmlab.apps.runs.ema_weights import kept_average, other_average
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.restore import model_weights
from ldmlab.core.checkpoint_file import write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.training.ema import EMA, power_lengths

STATE = {
    "model.network.weight": torch.tensor([1.0]),
    "model.codec.scale": torch.tensor([2.0]),
    "ema.network.weight": torch.tensor([3.0]),
    "ema.others.0.weight": torch.tensor([4.0]),
    "ema.others.1.weight": torch.tensor([5.0]),
    "steps": torch.tensor(9),
}


def test_model_is_given_the_average_for_its_network() -> None:
    assert [float(kept_average(STATE, k)["weight"]) for k in (0, 1, 2)] == [3.0, 4.0, 5.0]
    weights = model_weights(STATE, kept_average(STATE))
    assert {name: float(value) for name, value in weights.items()} == {
        "network.weight": 3.0,
        "codec.scale": 2.0,
    }


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, EMA]:
    """400 steps of a weight that is its own step, with averages of .10 and .05, and of .07."""
    folder = RunFolder.create(tmp_path, "toy", "diffusion", "a")
    network = nn.Linear(1, 1, bias=False)
    kept, wanted = EMA(network, *power_lengths([0.1, 0.05])), EMA(network, *power_lengths([0.07]))
    for step in range(1, 401):
        nn.init.constant_(network.weight, step / 400)
        kept.update(network)
        wanted.update(network)
        if step % 25 == 0:
            state = {f"ema.{name}": value for name, value in kept.state_dict().items()}
            name = "last" if step == 400 else f"step-{step:06d}"
            write_checkpoint(
                {"state_dict": state | {"steps": torch.tensor(step)}},
                folder.checkpoints / f"{name}.ckpt",
            )
    return folder, wanted


def test_average_of_another_length_is_put_together(run: tuple[RunFolder, EMA]) -> None:
    folder, wanted = run
    cfg = OmegaConf.create({"stages": {"diffusion": {"ema": {"lengths": [0.1, 0.05]}}}})
    found = float(other_average(cfg, folder, 0.07)["weight"])
    assert found == pytest.approx(float(wanted.network.weight), abs=2e-3)
    # A longer memory holds more of what lies behind.
    assert found > float(other_average(cfg, folder, 0.1)["weight"]) + 0.02
    plain = OmegaConf.create({"stages": {"diffusion": {"ema": {"gamma": 6.94}}}})
    with pytest.raises(UserError, match="has no such averages"):
        other_average(plain, folder, 0.07)
