"""Ancestral steps on a chain of two, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracle.gaussian import CoefficientNoise
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.records import Prediction
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.schedule import from_betas

CHAIN = from_betas([0.36, 0.75])  # sigma² = .36 and .84
TILDE = 0.75 * 0.36 / 0.84


def _step(sampler: DDPM | DDIM, place: float | None = None, end: float = 0.5) -> list[float]:
    """Coefficients of the start and of the noise after one step of a model that says x0 = 0."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        answer = CHAIN.level(t).given_x0(x, torch.zeros_like(x))
        fraction = None if place is None else torch.full_like(x, place)
        return Prediction(answer.x0, answer.eps, fraction)

    x = torch.zeros(1, 3, dtype=torch.float64)
    x[:, 0] = 1
    times = torch.tensor([1.0, end], dtype=torch.float64)
    return sampler(denoise, x, times, CHAIN, CoefficientNoise())[0].tolist()


@pytest.mark.parametrize(
    ("variance", "place", "want"),
    [
        ("beta", None, 0.75),
        ("beta_tilde", None, TILDE),
        ("learned", 1.0, 0.75),
        ("learned", 0.0, TILDE),
        ("learned", 0.25, 0.75**0.25 * TILDE**0.75),
    ],
)
def test_ddpm_adds_noise_of_its_variance(variance: str, place: float | None, want: float) -> None:
    keep = 0.5 * 0.36 / 0.84  # sqrt(1 - beta) (1 - alpha_bar before) / (1 - alpha_bar)
    got = _step(DDPM(variance=variance), place)  # type: ignore[arg-type]
    assert got == pytest.approx([keep, math.sqrt(want), 0])


def test_ddpm_adds_no_noise_to_the_data() -> None:
    for variance in ("beta", "beta_tilde"):
        assert _step(DDPM(variance=variance), end=0.0) == [0, 0, 0]  # type: ignore[arg-type]
    assert DDPM().variance == "beta_tilde"


def test_ddpm_asks_the_model_for_learned_variances() -> None:
    with pytest.raises(UserError, match="learned_variance"):
        _step(DDPM(variance="learned"))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_shares_the_noise_between_old_and_new(eta: float) -> None:
    """Song et al. (2021), equation 12: what is added is taken from the direction to x_t."""
    std = eta * math.sqrt(TILDE)
    direction = math.sqrt((0.36 - std**2) / 0.84)
    assert _step(DDIM(eta=eta)) == pytest.approx([direction, std, 0])
    assert DDIM().eta == 0
