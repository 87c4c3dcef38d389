"""Loss weights at levels whose signal-to-noise ratio is a round number."""

from __future__ import annotations

import pytest
import torch

from ldmlab.diffusion.schedule import KarrasVE, from_betas
from ldmlab.diffusion.weighting import (
    EDM,
    VLB,
    MinSNR,
    SoftMinSNR,
    Sum,
    Unit,
    Velocity,
    Weighting,
)

# alpha_bar .8, .5 and .05: ratios of 4, 1 and 1/19.
CHAIN = from_betas([0.2, 0.375, 0.9])


def _weights(weighting: Weighting, entries: int = 3) -> list[float]:
    t = torch.arange(1, entries + 1, dtype=torch.float64) / 3
    return weighting(CHAIN, t).tolist()


@pytest.mark.parametrize(
    ("weighting", "want"),
    [
        (Unit(), [1, 1, 1]),
        (Velocity(), [1.25, 2, 20]),  # v has a plain error: eps - eps' = alpha (v - v')
        (MinSNR(2.0), [0.5, 1, 1]),
        (MinSNR(0.5), [0.125, 0.5, 1]),
        (SoftMinSNR(4.0), [0.5, 0.8, 76 / 77]),
        (EDM(), [1.25, 2, 20]),
        (EDM(0.5), [2, 5, 77]),
        (Sum([0.5, 2.0], [Unit(), Velocity()]), [3, 4.5, 40.5]),
    ],
)
def test_weight_has_its_value_at_round_levels(weighting: Weighting, want: list[float]) -> None:
    assert _weights(weighting) == pytest.approx(want)


def test_weights_have_their_published_defaults() -> None:
    assert MinSNR().gamma == SoftMinSNR().gamma == 5
    assert EDM().data_std == 1
    assert (VLB().num_steps, VLB().variance) == (1000, "beta")


def test_vlb_weight_is_that_of_the_published_chain() -> None:
    """beta² / (2 variance (1 - beta) (1 - alpha_bar)) a step (Ho et al. 2020, equation 12)."""
    first, second = 0.2 / (2 * 0.8 * 0.2), 0.375 / (2 * 0.625 * 0.5)
    third = 0.9 / (2 * 0.1 * 0.95)
    assert _weights(VLB()) == pytest.approx([3 * first, 3 * second, 3 * third])
    # With beta_tilde each is larger by beta / beta_tilde; the first step takes the second's.
    of_second, of_third = 3 * second * 0.5 / 0.2, 3 * third * 0.95 / 0.5
    want = [of_second, of_second, of_third]
    assert _weights(VLB(variance="beta_tilde")) == pytest.approx(want)


def test_vlb_weight_of_a_formula_counts_its_own_steps() -> None:
    schedule = KarrasVE(sigma_min=1.0, sigma_max=5.0, rho=1.0)  # sigma = 1 + 4 t
    t = torch.tensor([0.5], dtype=torch.float64)
    # Steps of a quarter: from sigma 2 to 3, beta = 5; without a loss of signal.
    assert float(VLB(num_steps=4)(schedule, t)) == pytest.approx(4 * 5 / (2 * 9))
    assert float(VLB(4, "beta_tilde")(schedule, t)) == pytest.approx(4 * 9 / (2 * 4) * 5 / 9)
