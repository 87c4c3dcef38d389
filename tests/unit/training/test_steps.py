"""One step, in one part or in several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.integration.test_training import train, weights


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_a_batch_taken_in_parts_is_the_same_step(
    tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group, plain = "discriminator.discriminator.norm=group", "optimizer=adamw"
    only = ["stage=autoencoder"] if stage == "autoencoder" else ["codec=identity"]
    for parts in (1, 4):
        more = [f"stages.{stage}.accumulate={parts}", f"stages.{stage}.batch_size=8"]
        train(tmp_path / str(parts), group, plain, "perceptual=none", *only, *more)
    one, four = (weights(tmp_path / str(parts), stage) for parts in (1, 4))
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(four[name], value, rtol=1e-3, atol=2e-5, msg=name)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "odd", *only, f"stages.{stage}.accumulate=3")
    assert stopped.value.code == 2
    assert "accumulate=3" in capsys.readouterr().err
