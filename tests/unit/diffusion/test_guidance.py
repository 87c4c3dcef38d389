"""Guidance on answers that are plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ldmlab.core.records import Prediction
from ldmlab.diffusion.guidance import (
    ClassifierFree,
    ClassifierGuidance,
    Interval,
    NoGuidance,
    Rescaled,
    compose,
)
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.schedule import RectifiedFlow, cosine, from_betas

CHAIN = from_betas([0.64])  # alpha = .6 and sigma = .8 at t = 1
ONE = torch.tensor(1.0, dtype=torch.float64)


def _says(x0: float) -> Denoiser:
    """A model that always answers with one x0."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return CHAIN.level(ONE).given_x0(x, torch.full_like(x, x0))

    return denoise


def _x0(denoiser: Denoiser, t: Tensor = ONE) -> float:
    return float(denoiser(torch.ones(1, 1, dtype=torch.float64), t).x0)


@pytest.mark.parametrize(("scale", "want"), [(0.0, 5), (1.0, 7), (2.5, 10), (-1.0, 3)])
def test_classifier_free_guidance_goes_on_from_the_null_to_the_condition(
    scale: float, want: float
) -> None:
    assert _x0(ClassifierFree(scale)(_says(7), _says(5), CHAIN)) == pytest.approx(want)


def test_no_guidance_is_the_condition() -> None:
    assert _x0(NoGuidance()(_says(7), _says(5), CHAIN)) == 7


def test_composition_weighs_each_condition_by_its_own_scale() -> None:
    both = compose([_says(7), _says(4)], _says(5), [2.0, -3.0])
    assert _x0(both) == pytest.approx(5 + 2 * 2 + 3)
    answer = both(torch.ones(1, 1, dtype=torch.float64), ONE)
    assert float(answer.eps) == pytest.approx((1 - 0.6 * 12) / 0.8)


@pytest.mark.parametrize(("rescale", "std"), [(0.0, 6), (0.25, 5), (0.5, 4), (1.0, 2)])
def test_rescaled_guidance_takes_its_share_of_the_smaller_deviation(
    rescale: float, std: float
) -> None:
    """The condition's deviation is 2 and the guided one's 6, of a sample with a mean."""
    row = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64)

    def spread(width: float) -> Denoiser:
        def denoise(x: Tensor, t: Tensor) -> Prediction:
            return CHAIN.level(t).given_x0(x, 1 + width * row)

        return denoise

    guided = Rescaled(scale=5.0, rescale=rescale)(spread(2.0), spread(1.0), CHAIN)
    x = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)
    answer = guided(x, ONE)
    assert float(answer.x0.std()) == pytest.approx(std)
    # Lin et al. multiply the mean too.
    assert float(answer.x0.mean()) == pytest.approx(std / 6)
    torch.testing.assert_close(0.6 * answer.x0 + 0.8 * answer.eps, x)


def test_rescaled_guidance_measures_each_sample_alone() -> None:
    row = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    rows = torch.stack([row, 3 * row])

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return CHAIN.level(t).given_x0(x, rows)

    got = Rescaled(5.0, 1.0)(denoise, _says(0), CHAIN)(torch.zeros_like(rows), ONE)
    torch.testing.assert_close(got.x0, rows)


def test_interval_guides_between_its_times_and_at_them() -> None:
    schedule = RectifiedFlow()
    guided = Interval(ClassifierFree(3.0), 0.25, 0.75)(_says(7), _says(5), schedule)
    times = torch.tensor([0.24, 0.25, 0.5, 0.75, 0.76], dtype=torch.float64)
    want = [7, 11, 11, 11, 7]
    assert [_x0(guided, t) for t in times] == pytest.approx(want)
    at_once = guided(torch.ones(5, 1, dtype=torch.float64), times).x0
    assert at_once.flatten().tolist() == pytest.approx(want)


def test_interval_does_not_ask_for_the_null_outside() -> None:
    def never(x: Tensor, t: Tensor) -> Prediction:
        raise AssertionError("asked")

    guided = Interval(ClassifierFree(3.0))(_says(7), never, CHAIN)
    assert _x0(guided, ONE) == 7


def test_guidances_have_their_published_defaults() -> None:
    assert (Rescaled().scale, Rescaled().rescale) == (7.5, 0.7)
    assert (Interval(NoGuidance()).low, Interval(NoGuidance()).high) == (0.2, 0.8)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_classifier_guidance_adds_sigma_times_the_gradient(scale: float) -> None:
    """log p = 3 x: eps falls by 2.4 a unit of scale, and x0 rises by .8 / .6 of it."""
    guidance = ClassifierGuidance(lambda x, t: 3 * x.sum(1), scale)
    got = guidance(_says(7), _says(5), CHAIN)(torch.ones(1, 1, dtype=torch.float64), ONE)
    plain = (1 - 0.6 * 7) / 0.8
    assert float(got.eps) == pytest.approx(plain - scale * 2.4)
    assert float(got.x0) == pytest.approx(7 + scale * 2.4 * 0.8 / 0.6)


def test_classifier_guidance_works_where_gradients_are_off() -> None:
    guided = ClassifierGuidance(lambda x, t: -x.square().sum(1))(_says(0), _says(0), cosine())
    with torch.no_grad():
        answer = guided(torch.ones(2, 3, dtype=torch.float64), torch.full((2,), 0.5).double())
    assert bool(answer.eps.isfinite().all()) and not answer.eps.requires_grad
    assert not math.isclose(float(answer.eps[0, 0]), 1.0)
