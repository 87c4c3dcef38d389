"""The flow inverts, its determinant is autograd's, and its density is one."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from ldmlab.data.digits import Digits
from ldmlab.nn.realnvp import RealNVP


def _randomised(
    in_channels: int, levels: int, dtype: torch.dtype, spread: float = 0.1
) -> tuple[RealNVP, torch.Generator]:
    """A flow in which no part is an identity, and the generator that made it so."""
    generator = torch.Generator().manual_seed(0)
    flow = RealNVP(in_channels, hidden_channels=8, num_steps=2, levels=levels).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=dtype)
            parameter.add_(noise, alpha=spread)
        for step in flow.steps:
            step.mean.normal_(generator=generator)
            step.std.uniform_(0.5, 2, generator=generator)
    return flow, generator


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("channels", "side", "levels"), [(1, 8, 3), (4, 8, 2), (3, 4, 1)])
def test_realnvp_inverse_inverts(
    channels: int, side: int, levels: int, dtype: torch.dtype, error: float
) -> None:
    flow, generator = _randomised(channels, levels, dtype, spread=0.03)
    x = torch.randn(16, channels, side, side, generator=generator, dtype=dtype)
    flow.initialise(x)  # random statistics magnify each step's rounding for the next
    with torch.no_grad():
        z, _ = flow(x)
        assert z.shape == x.shape
        assert float((z - x).abs().max()) > 0.1
        assert float((flow.inverse(z) - x).abs().max()) < error
        assert float((flow(flow.inverse(x))[0] - x).abs().max()) < error


@pytest.mark.parametrize(("shape", "levels"), [((1, 4, 4), 2), ((2, 2, 4), 1), ((3, 2, 2), 1)])
def test_realnvp_log_determinant_matches_autograd_jacobian(
    shape: tuple[int, int, int], levels: int
) -> None:
    flow, generator = _randomised(shape[0], levels, torch.float64)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    log_det = flow(x)[1].detach()
    for row, found in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], row)
        expected = torch.linalg.slogdet(jacobian.reshape(row.numel(), -1)).logabsdet
        assert float(found) == pytest.approx(float(expected), abs=1e-8)
    assert float(log_det.std()) > 1e-3  # the couplings take part, not only the linear maps


def test_untrained_realnvp_is_standard_normal() -> None:
    flow = RealNVP(2, hidden_channels=8, num_steps=3, levels=2).double()
    x = 2 * torch.randn(6, 2, 4, 8, dtype=torch.float64)
    normal = Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(flow.log_prob(x), normal, rtol=1e-6, atol=0)
    assert float(flow(x)[1].detach().abs().max()) < 1e-4  # W is orthogonal to float32


def test_realnvp_density_integrates_to_one() -> None:
    flow, generator = _randomised(1, 1, torch.float32)
    # Samples say where the mass is; the trapezoid rule is exact for what dies out within the grid.
    with torch.no_grad():
        samples = flow.inverse(torch.randn(4000, 1, 2, 2, generator=generator)).flatten(1)
        centre, reach = samples.mean(0), 5 * samples.std(0)
        ticks = torch.linspace(-1, 1, 24)
        x = torch.cartesian_prod(*(c + r * ticks for c, r in zip(centre, reach, strict=True)))
        density = flow.log_prob(x.reshape(-1, 1, 2, 2)).double().exp()
    cell = float((reach * (ticks[1] - ticks[0])).prod())
    assert float(density.sum()) * cell == pytest.approx(1, abs=2e-3)


def test_realnvp_initialise_normalises_its_batch_and_survives_a_state_dict() -> None:
    x = 3 + 5 * torch.randn(64, 1, 8, 8) * torch.rand(8, 8)
    flow = RealNVP(1, hidden_channels=8, num_steps=2, levels=2)
    state = {name: value.clone() for name, value in flow.state_dict().items()}
    flow.initialise(x)
    z, _ = flow(x)
    folded = torch.nn.functional.pixel_unshuffle(z.detach(), 4)
    rotation = flow.steps[-1].weight.detach()
    moments = torch.einsum("bchw,bdhw->cd", folded, folded) / (64 * 4)
    assert float(folded.mean((0, 2, 3)).abs().max()) < 1e-4
    assert torch.allclose((rotation.T @ moments @ rotation).diag(), torch.ones(16), atol=1e-4)

    again = RealNVP(1, hidden_channels=8, num_steps=2, levels=2)
    again.load_state_dict(state)
    again.initialise(x)
    assert torch.equal(again.log_prob(x), flow.log_prob(x))
    restored = RealNVP(1, hidden_channels=8, num_steps=2, levels=2)
    restored.load_state_dict(flow.state_dict())
    assert torch.equal(restored.log_prob(x), flow.log_prob(x))


def test_realnvp_density_is_finite_for_a_constant_channel() -> None:
    x = torch.randn(16, 1, 4, 4)
    x[:, :, ::2, ::2] = 1
    flow = RealNVP(1, hidden_channels=8, num_steps=1, levels=1)
    flow.initialise(x)
    assert bool(flow.log_prob(x).isfinite().all())


def test_realnvp_beats_a_gaussian_per_pixel_on_digits() -> None:
    generator = torch.Generator().manual_seed(0)

    def dequantised(split: str) -> torch.Tensor:
        digits = Digits(split)
        image = digits.__getitems__(range(len(digits))).image
        assert image is not None
        return image + torch.rand(image.shape, generator=generator) / 8  # a grey level is 1/8

    train, held_out = dequantised("train"), dequantised("validation")
    flow = RealNVP(1, hidden_channels=16, num_steps=2, levels=3)
    flow.initialise(train)
    parameters = list(flow.parameters())
    for _ in range(40):
        rows = torch.randint(len(train), (64,), generator=generator)
        loss = -flow.log_prob(train[rows]).mean()
        with torch.no_grad():  # the first optimiser of a process takes seconds to import
            for parameter, slope in zip(
                parameters, torch.autograd.grad(loss, parameters), strict=True
            ):
                parameter.sub_(slope.sign(), alpha=3e-3)
    with torch.no_grad():
        learned = float(flow.log_prob(held_out).mean())
        samples = flow.inverse(torch.randn(64, 1, 8, 8, generator=generator))
    gaussian = Normal(train.mean(0), train.std(0)).log_prob(held_out).flatten(1).sum(1)
    assert learned > float(gaussian.mean()) + 5  # nats a digit; -19 against -6
    assert bool(samples.isfinite().all())


@pytest.mark.parametrize("shape", [(1, 1, 7, 8), (1, 1, 8, 6), (1, 1, 9, 9), (1, 2, 8, 8)])
def test_realnvp_refuses_shapes_that_do_not_fold(shape: tuple[int, ...]) -> None:
    flow = RealNVP(1, hidden_channels=8, num_steps=1, levels=2)
    for method in (flow, flow.inverse, flow.log_prob, flow.initialise):
        with pytest.raises(ValueError, match="cannot take"):
            method(torch.zeros(shape))


def test_realnvp_refuses_empty_batches() -> None:
    flow = RealNVP(1, hidden_channels=8, num_steps=1)
    for method in (flow, flow.inverse, flow.log_prob, flow.initialise):
        with pytest.raises(ValueError, match="no samples"):
            method(torch.zeros(0, 1, 8, 8))
