"""Averages of any length from a run's checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ldmlab.core.checkpoint_file import write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.training.ema import EMA, power_lengths
from ldmlab.training.post_hoc_ema import average_of_length


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, EMA]:
    """400 steps of a weight that is its own step, with averages of .10 and .05, and of .07."""
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
                tmp_path / f"{name}.ckpt",
            )
    return tmp_path, wanted


def test_average_of_another_length_is_put_together(run: tuple[Path, EMA]) -> None:
    folder, wanted = run
    found = float(average_of_length(folder, [0.1, 0.05], 0.07)["weight"])
    assert found == pytest.approx(float(wanted.network.weight), abs=2e-3)
    # A longer memory holds more of what lies behind.
    assert found > float(average_of_length(folder, [0.1, 0.05], 0.1)["weight"]) + 0.02
    with pytest.raises(UserError, match="has no such averages"):
        average_of_length(folder, None, 0.07)
