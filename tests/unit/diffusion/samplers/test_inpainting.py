"""What is known is noised to the level at which the model is asked."""

from __future__ import annotations

import pytest
import torch
from tests.oracle.gaussian import BatchNoise
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.inpainting import Inpainting
from ldmlab.diffusion.schedule import from_betas

CHAIN = from_betas([0.36, 0.75])  # alpha = .8 and .4
COUNT = 20_000


def _seen(resamplings: int, start: float = 5.0) -> list[tuple[float, Tensor]]:
    """Times and samples that a model saying x0 = 0 is asked about; the first value is known."""
    seen: list[tuple[float, Tensor]] = []

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        seen.append((float(t), x))
        return CHAIN.level(t).given_x0(x, torch.zeros_like(x))

    known = torch.full((COUNT, 2), 3.0, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(COUNT, 2)
    painter = Inpainting(DDIM(steps=2), known, mask, resamplings)
    times = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    x = torch.full((COUNT, 2), start, dtype=torch.float64)
    painted = painter(denoise, x, times, CHAIN, BatchNoise())
    assert bool((painted[:, 0] == 3).all()) and bool((painted[:, 1] == 0).all())
    return seen


def test_inpainting_noises_the_known_to_the_time_that_is_asked() -> None:
    for time, x in _seen(1):
        level = CHAIN.level(torch.tensor(time))
        assert float(x[:, 0].mean()) == pytest.approx(3 * float(level.alpha), abs=0.03)
        assert float(x[:, 0].std()) == pytest.approx(float(level.sigma), abs=0.02)


def test_inpainting_takes_each_step_again_from_a_renoised_start() -> None:
    seen = _seen(3)
    assert [time for time, _ in seen] == [1.0] * 3 + [0.5] * 3
    # DDIM carries 5 to 5 * .6 / sqrt(.84), which the forward step of variance .75 halves.
    unknown = seen[1][1][:, 1]
    assert float(unknown.mean()) == pytest.approx(0.5 * 5 * 0.6 / 0.84**0.5, abs=0.03)
    assert float(unknown.var()) == pytest.approx(0.75, abs=0.03)
    # At the last step what is re-noised is the data, at alpha .8 and sigma .6.
    assert float(seen[4][1][:, 1].var()) == pytest.approx(0.36, abs=0.02)
    assert float(seen[4][1][:, 1].mean()) == pytest.approx(0, abs=0.03)
