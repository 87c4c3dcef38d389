"""Bits per dimension of a diffusion model, by its bound and by its ODE, and of a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.pixel_values import PixelValues
from ldmlab.core.random import SampleNoise, derive_seed
from ldmlab.core.ranges import one_of, positive, positive_int
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.diffusion.probability_flow import Trace, log_likelihood
from ldmlab.diffusion.reverse import Variance
from ldmlab.diffusion.vlb import variational_bound
from ldmlab.evaluation.protocol import Metric, OnProgress, Subject
from ldmlab.nn.realnvp import RealNVP

CHUNK = 16
# Half the distance of two bytes on the scale of [-1, 1].
HALF_BYTE = 1 / 255


@dataclass(frozen=True)
class BitsPerDim:
    """How bits per dimension are measured.

    In pixel space the bound's last term is a probability of bytes and the densities are of
    dequantised bytes: the bits are those of a code. In latent space they are those of a
    continuous density, and may be negative.

    Args:
        num_samples: Unseen images.
        terms: Steps of the chain evaluated for each; all of them by default.
        variance: Of the reverse steps.
        trace: Of the ODE's Jacobian.
        tolerance: Of the ODE's solver.
    """

    num_samples: int = 64
    terms: int | None = 50
    variance: Variance = "beta"
    trace: Trace = "hutchinson"
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        positive_int(num_samples=self.num_samples)
        positive_int.or_none(terms=self.terms)
        one_of(Variance)(variance=self.variance)
        one_of(Trace)(trace=self.trace)
        positive(tolerance=self.tolerance)

    def __call__(
        self, subject: Subject, data: BatchDataset, on_progress: OnProgress
    ) -> dict[str, Metric]:
        """`bits_per_dim` by the bound with its terms, and `bits_per_dim_ode`.

        Args:
            subject: The model; sampler and guidance are not used.
            data: Unseen images with their conditions.
            on_progress: Called with the images done and in all.

        Raises:
            UserError: `variance=learned` of a model without learned variances.
        """
        count = min(self.num_samples, len(data))
        pixels = not subject.model.codec.learned
        names = ("total", "prior", "steps", "decoder", "ode")
        sums = dict.fromkeys(names, 0.0)
        bits = 1.0
        for start in range(0, count, CHUNK):
            batch = data.__getitems__(list(range(start, min(start + CHUNK, count))))
            terms, bits = self._chunk(subject, batch, pixels)
            for name, values in zip(names, terms, strict=True):
                sums[name] += float(values.sum())
            on_progress(start + len(batch), count)
        mean = {name: value / (count * bits) for name, value in sums.items()}
        space = "bytes" if pixels else "density of the latents"
        rests_on = {"samples": count, "space": space, **asdict(self)}
        return {
            "bits_per_dim": {
                "value": mean["total"],
                **{name: mean[name] for name in ("prior", "steps", "decoder")},
                "by": "variational bound",
                "last_term": "discretised" if pixels else "continuous",
                **rests_on,
            },
            "bits_per_dim_ode": {
                "value": mean["ode"],
                "by": "probability-flow ODE",
                **rests_on,
            },
        }

    def _chunk(
        self, subject: Subject, batch: Batch, pixels: bool
    ) -> tuple[tuple[Tensor, ...], float]:
        """Nats of each part for each image, and the nats that are one bit a value."""
        model = subject.model
        noise = SampleNoise(derive_seed("likelihood", subject.seed), batch.index.tolist())
        device = next(model.network.parameters()).device
        batch = batch.to(device)
        conditioner = model.network.conditioner
        with torch.no_grad():
            z, dequantised, scale = values_of(subject, batch, noise)
            conditioning = conditioner(conditioner.select(batch))
            denoiser = model.process.denoiser(model.network, conditioning)
            bound = variational_bound(
                denoiser,
                z,
                model.process.schedule,
                noise,
                self.variance,
                "discretised" if pixels else "continuous",
                terms=self.terms,
            )
            ode = -log_likelihood(
                denoiser, dequantised, model.process.schedule, noise, self.trace, self.tolerance
            )
        ode = ode - bound.values * math.log(scale)
        parts = (bound.total, bound.prior, bound.steps.sum(1), bound.decoder, ode)
        return parts, bound.values * math.log(2)


def values_of(
    subject: Subject, batch: Batch, noise: SampleNoise
) -> tuple[Float[Tensor, "b z h w"], Float[Tensor, "b z h w"], float]:
    """What the model's space holds of a batch: exact, for a density, and a density's unit.

    Pixels are dequantised by uniform noise of a byte's width, which is then the unit; latents
    are draws of the codec's posterior.

    Raises:
        UserError: The batch has no images, or they are no bytes.
    """
    if batch.image is None:
        raise UserError("bits_per_dim needs images: this data has none")
    moments = subject.model.codec.encode(batch.image)
    z = moments.mean + moments.std * noise.normal(moments.mean)
    if subject.model.codec.learned:
        return z, z, 1.0
    if subject.spec.values != PixelValues():
        raise UserError(
            "bits_per_dim of a model of pixels counts bytes from 0 to 255, and this data has other "
            "values: leave it out with metrics=[judge]"
        )
    return z, z + (2 * noise.uniform(z) - 1) * HALF_BYTE, 2 * HALF_BYTE


@dataclass(frozen=True)
class DensityBaseline:
    """A normalizing flow fitted to what the diffusion model was trained on.

    Args:
        network: Makes the flow for a number of channels.
        max_steps: Training steps.
        batch_size: Images a step.
        lr: Learning rate of Adam.
    """

    network: Callable[..., RealNVP]
    max_steps: int = 400
    batch_size: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        positive_int(max_steps=self.max_steps, batch_size=self.batch_size)
        positive(lr=self.lr)

    def __call__(
        self,
        subject: Subject,
        train: BatchDataset,
        unseen: BatchDataset,
        num_samples: int,
        on_progress: OnProgress,
    ) -> dict[str, Metric]:
        """`bits_per_dim_flow` of unseen images, by the exact likelihood.

        Args:
            subject: The model whose space is used.
            train: Images to fit.
            unseen: Images to measure.
            num_samples: How many of them.
            on_progress: Called with the steps done and in all.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("density", subject.seed))
            flow = self.network(in_channels=subject.model.codec.latent_channels)
        device = next(subject.model.network.parameters()).device
        flow = flow.to(device)
        flow.initialise(self._draw(subject, train, 0, 4 * self.batch_size))
        optimizer = torch.optim.Adam(flow.parameters(), lr=self.lr)
        for step in range(self.max_steps):
            x = self._draw(subject, train, step, self.batch_size)
            loss = -flow.log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 100.0)
            optimizer.step()
            on_progress(step + 1, self.max_steps)
        count = min(num_samples, len(unseen))
        batch = unseen.__getitems__(list(range(count))).to(device)
        noise = SampleNoise(derive_seed("likelihood", subject.seed), batch.index.tolist())
        with torch.no_grad():
            _, x, unit = values_of(subject, batch, noise)
            nats = -flow.log_prob(x) / x[0].numel() - math.log(unit)
        return {
            "bits_per_dim_flow": {
                "value": float(nats.mean()) / math.log(2),
                "by": type(flow).__name__,
                "samples": count,
                "steps": self.max_steps,
                "parameters": sum(p.numel() for p in flow.parameters()),
            }
        }

    @staticmethod
    @torch.no_grad()
    def _draw(subject: Subject, train: BatchDataset, step: int, count: int) -> Tensor:
        """A random batch in the model's space."""
        generator = torch.Generator().manual_seed(derive_seed("density", subject.seed, step))
        rows = torch.randint(len(train), (count,), generator=generator).tolist()
        batch = train.__getitems__(rows).to(next(subject.model.network.parameters()).device)
        noise = SampleNoise(derive_seed("density", subject.seed, step), range(count))
        return values_of(subject, batch, noise)[1]
