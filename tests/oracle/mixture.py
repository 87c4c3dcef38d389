"""A mixture of two Gaussians, for which denoiser, path, density and quantiles are known."""

from __future__ import annotations

import torch
from torch import Tensor

from ldmlab.core.records import Conditioning, Prediction
from ldmlab.core.tensors import broadcast_like
from ldmlab.diffusion.level import NoiseLevel
from ldmlab.diffusion.process import DiffusionProcess, Network
from ldmlab.diffusion.schedule import Schedule

WEIGHTS = torch.tensor([0.35, 0.65], dtype=torch.float64)
MEANS = torch.tensor([-1.2, 0.7], dtype=torch.float64)
STDS = torch.tensor([0.35, 0.5], dtype=torch.float64)


def _components(level: NoiseLevel, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each component at a noise level, the components last."""
    alpha, sigma = (broadcast_like(v, x).unsqueeze(-1) for v in (level.alpha, level.sigma))
    return alpha * MEANS, (alpha * STDS).square() + sigma.square()


def log_density(level: NoiseLevel, x: Tensor) -> Tensor:
    """log p_t of each value; the values of a sample are independent."""
    mean, variance = _components(level, x)
    normal = torch.distributions.Normal(mean, variance.sqrt())
    return torch.logsumexp(WEIGHTS.log() + normal.log_prob(x.unsqueeze(-1)), dim=-1)


def denoise(level: NoiseLevel, x: Tensor) -> Prediction:
    """E[x0 | x_t] and the eps that goes with it."""
    mean, variance = _components(level, x)
    off = x.unsqueeze(-1) - mean
    share = torch.softmax(
        WEIGHTS.log() - 0.5 * variance.log() - 0.5 * off.square() / variance, dim=-1
    )
    alpha = broadcast_like(level.alpha, x).unsqueeze(-1)
    x0 = (share * (MEANS + alpha * STDS.square() / variance * off)).sum(-1)
    eps = broadcast_like(level.sigma, x) * (share * off / variance).sum(-1)
    return Prediction(x0=x0, eps=eps)


def quantile(level: NoiseLevel, probability: Tensor) -> Tensor:
    """The inverse of the distribution function at a noise level, by bisection."""
    low, high = torch.full_like(probability, -400.0), torch.full_like(probability, 400.0)
    for _ in range(80):
        middle = (low + high) / 2
        mean, variance = _components(level, middle)
        z = (middle.unsqueeze(-1) - mean) / variance.sqrt()
        below = (WEIGHTS * torch.special.ndtr(z)).sum(-1) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def as_network(process: DiffusionProcess, schedule: Schedule) -> Network:
    """The exact denoiser, spoken in the process' own target, input scale and time."""

    def network(x: Tensor, time: Tensor, conditioning: Conditioning) -> Tensor:
        # The network's time is a float32: recover the level from the test's own record.
        level = schedule.level(AT[0])
        scale = broadcast_like(process.parameterization.c_in(level), x)
        prediction = denoise(level, x / scale)
        return process.parameterization.target(prediction.x0, prediction.eps, level)

    return network


AT: list[Tensor] = [torch.tensor(0.0)]


def exact_denoiser(process: DiffusionProcess, schedule: Schedule):
    """The process' denoiser around the exact network."""
    inner = process.denoiser(as_network(process, schedule), Conditioning())

    def call(x: Tensor, t: Tensor) -> Prediction:
        AT[0] = t
        return inner(x, t)

    return call
