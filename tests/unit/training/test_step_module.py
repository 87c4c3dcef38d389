"""One step, in one part or in several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.integration.test_training import train, weights


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_gradient_accumulation_equals_the_whole_batch(
    tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group, plain = "discriminator.discriminator.norm=group", "optimizer=adamw"
    only = (
        ["stage=autoencoder"]
        if stage == "autoencoder"
        else ["codec=identity", "timestep_sampler=stratified"]
    )
    for parts in (1, 4):
        more = [f"stages.{stage}.accumulate_grad_batches={parts}", f"stages.{stage}.batch_size=8"]
        train(tmp_path / str(parts), group, plain, "perceptual=none", *only, *more)
    one, four = (weights(tmp_path / str(parts), stage) for parts in (1, 4))
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(four[name], value, rtol=1e-3, atol=2e-5, msg=name)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "odd", *only, f"stages.{stage}.accumulate_grad_batches=3")
    assert stopped.value.code == 2
    assert "accumulate_grad_batches=3" in capsys.readouterr().err


def test_autoencoder_trains_in_bfloat16(tmp_path: Path) -> None:
    only = ["stage=autoencoder", "perceptual=none", "discriminator.discriminator.norm=group"]
    for precision in ("32-true", "bf16-mixed"):
        more = [
            f"stages.autoencoder.precision={precision}",
            "stages.autoencoder.accumulate_grad_batches=2",
        ]
        train(tmp_path / precision, *only, *more)
    exact, rounded = (weights(tmp_path / p, "autoencoder") for p in ("32-true", "bf16-mixed"))
    moved = [n for n, v in exact.items() if v.is_floating_point() and v.numel() > 1]
    assert all(rounded[n].dtype == torch.float32 and rounded[n].isfinite().all() for n in moved)
    # The same training, to what eight bits of a mantissa leave of it.
    name = "autoencoder.decoder.conv_out.weight"
    torch.testing.assert_close(rounded[name], exact[name], rtol=0, atol=0.02)
    assert not torch.equal(rounded[name], exact[name])
