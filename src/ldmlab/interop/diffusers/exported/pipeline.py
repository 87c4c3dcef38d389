"""A latent diffusion model as a pipeline; this file travels with the model and stands alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn


class LatentDiffusionPipeline(DiffusionPipeline):
    """Noise to latents to images, under a condition where the model takes one.

    Args:
        unet: The network.
        scheduler: Its schedule and sampler.
        vae: Latents to images; None for diffusion on pixels.
        conditioner: Makes of labels, masks or captions what the network takes; None for none.
        normalization: `mean` and `std` of each latent channel, where the configuration of `vae`
            has no place for them.
        values: `bits` (8, 16 or `float`) of the files that the model learnt from, and
            `value_range`, the values [[low, high]] that are -1 and 1, of all channels or of each,
            null for 0 and the largest of the bits; None for pictures of 8 bits.
    """

    model_cpu_offload_seq = "conditioner->unet->vae"
    _optional_components = ("vae", "conditioner")

    def __init__(
        self,
        unet: nn.Module,
        scheduler: DDIMScheduler,
        vae: nn.Module | None = None,
        conditioner: nn.Module | None = None,
        normalization: dict[str, list[float]] | None = None,
        values: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae, conditioner=conditioner)
        self.register_to_config(normalization=normalization, values=values)

    @torch.no_grad()
    def __call__(
        self,
        condition: Any = None,
        batch_size: int = 1,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw images.

        Args:
            condition: Numbers of classes, masks [b, h, w] or captions, as the model takes.
            batch_size: Number of images of a model without a condition.
            num_inference_steps: Number of steps.
            guidance_scale: Classifier-free guidance; 1 for none.
            eta: DDIM's share of noise, in [0, 1].
            generator: Source of noise.
            latents: Noise to start from [b, c, h, w]; drawn by default.
            output_type: `pil`, `np` ([b, h, w, c] in [0, 1]), `pt` ([b, c, h, w] in [0, 1]), or
                `values` ([b, h, w, c] as in the files that the model learnt from).
            return_dict: Whether to give an output with `images` instead of a tuple.
        """
        known = unknown = {}
        if self.conditioner is not None:
            if condition is None:
                raise ValueError("this model needs a condition: classes, masks or captions")
            numbers = self.conditioner.read(condition)
            batch_size = len(numbers)
            known = self.conditioner(numbers)
            if guidance_scale != 1:
                unknown = self.conditioner(self.conditioner.null(numbers))
        device = self._execution_device
        if latents is None:
            size = self.unet.config.sample_size
            height, width = (size, size) if isinstance(size, int) else size
            shape = (batch_size, self.unet.config.out_channels, height, width)
            latents = randn_tensor(shape, generator, device, self.unet.dtype)
        z = latents.to(device) * self.scheduler.init_noise_sigma
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for t in self.progress_bar(self.scheduler.timesteps):
            output = self._predict(z, t, known)
            if unknown:
                null = self._predict(z, t, unknown)
                output = null + guidance_scale * (output - null)
            z = self.scheduler.step(output, t, z, eta=eta, generator=generator).prev_sample
        images: Any = (self._decoded(z) / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            images = images.cpu().permute(0, 2, 3, 1).float().numpy()
        if output_type == "pil":
            if self.config.values is not None or images.shape[-1] not in (1, 3):
                raise ValueError("these are no 8-bit pictures: output_type='values', 'np' or 'pt'")
            images = self.numpy_to_pil(images)
        if output_type == "values":
            images = self._stored(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _stored(self, images: np.ndarray) -> np.ndarray:
        known = self.config.values or {"bits": 8, "value_range": None}
        whole = known["bits"] != "float"
        pairs = known["value_range"] or [[0, 2 ** known["bits"] - 1]]
        low, high = np.array(pairs, np.float64).T
        values = images.astype(np.float64) * (high - low) + low
        if not whole:
            return values.astype(np.float32)
        return np.rint(values).astype(np.uint8 if known["bits"] == 8 else np.uint16)

    def _predict(self, z: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        maps = condition.get("maps")
        x = self.scheduler.scale_model_input(z, t)
        x = x if maps is None else torch.cat([x, maps], dim=1)
        slots = {name: value for name, value in condition.items() if name != "maps"}
        return self.unet(x, t, **slots).sample

    def _decoded(self, z: Tensor) -> Tensor:
        if self.vae is None:
            return z
        known = self.config.normalization or {
            "mean": self.vae.config.get("latents_mean"),
            "std": self.vae.config.get("latents_std"),
        }
        if known["mean"] is None:
            return self.vae.decode(z / self.vae.config.scaling_factor).sample
        mean, std = (torch.tensor(known[k]).to(z)[:, None, None] for k in ("mean", "std"))
        return self.vae.decode(z * std + mean).sample
