"""Image editing: image-to-image, in-painting and inversion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.diffusion.process import Denoiser
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.inpainting import Inpainting
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.models.latent_diffusion import LatentDiffusion


@torch.no_grad()
def image_to_image(
    model: LatentDiffusion,
    denoiser: Denoiser,
    images: Float[Tensor, "b c h w"],
    strength: float,
    sampler: Sampler,
    noise: Noise,
) -> Float[Tensor, "b c h w"]:
    """Noise images up to the time `strength` and sample them from there (Meng et al. 2022).

    Args:
        model: Owner of codec and process.
        denoiser: `model.guided(...)` of the wanted conditions.
        images: Pixels in [-1, 1].
        strength: Time in (0, 1] to start from: 1 keeps next to nothing of the images.
        sampler: The steps from there.
        noise: Row k of everything random belongs to image k.

    Raises:
        UserError: No step of the sampler lies below `strength`.
    """
    schedule = model.process.schedule
    z = model.codec.encode(images).mean
    timesteps = sampler.timesteps(schedule, start=strength)
    x = model.process.diffuse(z, timesteps[0], noise.normal(z))
    return model.codec.decode(sampler(denoiser, x, timesteps, schedule, noise))


@torch.no_grad()
def inpaint(
    model: LatentDiffusion,
    denoiser: Denoiser,
    images: Float[Tensor, "b c h w"],
    unknown: Float[Tensor, "b 1 h w"],
    sampler: Sampler,
    noise: Noise,
    resamplings: int = 1,
) -> Float[Tensor, "b c h w"]:
    """Paint part of each image anew, in agreement with the rest (Lugmayr et al. 2022).

    A latent value counts as unknown where any of its pixels is; known pixels are put back at
    the end, for the codec does not give them back exactly.

    Args:
        model: Owner of codec and process.
        denoiser: `model.guided(...)` of the wanted conditions.
        images: Pixels in [-1, 1]; what they hold in the unknown part does not matter.
        unknown: 1 where the image is to be painted, 0 where it is kept.
        sampler: Makes the steps.
        noise: Row k of everything random belongs to image k.
        resamplings: Times that each step is made; more agree better with the known part.
    """
    schedule = model.process.schedule
    # Grey, not what stood there: a pixel of the unknown part may shine into latents around it.
    known = model.codec.encode(torch.where(unknown > 0.5, 0.0, images)).mean
    kept = 1 - F.max_pool2d((unknown > 0.5).to(known.dtype), model.codec.factor)
    painter = Inpainting(sampler, known, kept.expand_as(known), resamplings)
    timesteps = sampler.timesteps(schedule)
    start = noise.normal(known) * float(schedule.level(timesteps[0]).scale)
    painted = model.codec.decode(painter(denoiser, start, timesteps, schedule, noise))
    return torch.where(unknown > 0.5, painted, images)


@torch.no_grad()
def invert(
    model: LatentDiffusion,
    denoiser: Denoiser,
    images: Float[Tensor, "b c h w"],
    sampler: DDIM,
    noise: Noise,
) -> Float[Tensor, "b z h2 w2"]:
    """The noise from which DDIM draws these images (Song et al. 2021, section 4.3).

    Args:
        model: Owner of codec and process.
        denoiser: `model.guided(...)` of the images' own conditions, best without guidance.
        images: Pixels in [-1, 1].
        sampler: Its steps are taken in reverse; eta must be 0.
        noise: What the sampler's interface asks for; nothing is drawn from it.

    Returns:
        Latent noise, to be edited or drawn from again with the sampler itself.
    """
    schedule = model.process.schedule
    # Not from t = 0, where a target such as x0 says nothing about the noise.
    timesteps = sampler.timesteps(schedule).clamp(min=schedule.first_time).unique()
    return sampler(denoiser, model.codec.encode(images).mean, timesteps, schedule, noise)
