"""A trained model as an object: conditions in, images out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Integer
from PIL.Image import Image
from torch import Tensor

from ldmlab.api.conditions import conditions_of
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.runs.find import find_run
from ldmlab.apps.runs.restore import restore
from ldmlab.conditioning.asked import one_condition
from ldmlab.conditioning.class_names import asked_classes
from ldmlab.core.device import device_to_show_on
from ldmlab.core.errors import UserError
from ldmlab.core.picture_file import picture_of
from ldmlab.core.random import SampleNoise, derive_seed
from ldmlab.core.records import Batch, DataSpec
from ldmlab.data.images.picture import Picture, pixels_of
from ldmlab.diffusion.guidance import ClassifierFree, Guidance
from ldmlab.diffusion.probability_flow import log_likelihood
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.evaluation.likelihood import values_of
from ldmlab.evaluation.protocol import Subject
from ldmlab.models.drawing import Drawing, check_drawn, start_of
from ldmlab.models.latent_diffusion import LatentDiffusion


def load(
    run: str | Path,
    *,
    device: torch.device | str | None = None,
    ema_std: float | None = None,
    trust: Sequence[str] = (),
) -> Pipeline:
    """The model of a run of stage two, with its averaged weights.

    Args:
        run: Its folder, or one of its checkpoints.
        device: Where it computes; where it was trained by default, as far as this machine has it.
        ema_std: Deviation of the average's profile, of a run with `ema=post_hoc`; its own by
            default.
        trust: Packages whose classes the run's configuration may name, beside ldmlab's.

    Raises:
        UserError: There is no such run, or it has no checkpoint of stage two, or it names classes
            of other packages.
    """
    cfg = load_config(find_run(run).config, trust)
    restored = restore(cfg, run, ema_std)
    if device is None:
        device = device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices)
    model, sampler, guidance = restored.model.to(device), build(cfg.sampler), build(cfg.guidance)
    return Pipeline(model, restored.spec, sampler, guidance, restored.classes)


@dataclass(frozen=True)
class Pipeline:
    """A model with the way it is sampled.

    Attributes:
        model: The model, in evaluation mode.
        spec: What it knows of its data.
        sampler: The steps from noise to data, where no other is asked for.
        guidance: How the condition is strengthened, likewise.
        classes: Name of each class; empty where the training data names none.
    """

    model: LatentDiffusion
    spec: DataSpec
    sampler: Sampler
    guidance: Guidance
    classes: tuple[str, ...] = ()

    def sample(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        label: int | str | Sequence[int | str] | None = None,
        mask: Integer[Tensor, "*b h w"] | None = None,
        negative_prompt: str | None = None,
        negative_label: int | str | None = None,
        also: str | int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        sampler: str | Sampler | None = None,
        steps: int | None = None,
        guidance: float | Guidance | None = None,
        image: Picture | None = None,
        strength: float = 0.6,
        inpaint: Picture | None = None,
        resamplings: int = 1,
        batch_size: int = 64,
    ) -> list[Image]:
        """Draw pictures; those of a seed are the same as with `ldmlab sample`.

        Args:
            prompt: Text, for every picture or for each.
            label: Number or name of a class, likewise.
            mask: Label map of the pictures' size, likewise.
            negative_prompt: Text to be guided away from, in the place of no condition.
            negative_label: Class to be guided away from.
            also: A second text or class that every picture is to match as well.
            num_samples: How many to draw of one condition.
            seed: Seed of the noise; picture k depends on it and on k.
            size: Side in pixels, or height and width; those of the training data by default.
            sampler: Name of one in `conf/sampler`, or an object; the run's by default.
            steps: Its number of steps.
            guidance: Scale of classifier-free guidance, or an object; the run's by default.
            image: Picture to start from, instead of noise; the condition itself of a model
                that takes images.
            strength: Time in (0, 1] that `image` is noised to.
            inpaint: Picture of the same frame, white where to paint `image` anew; in a tensor
                [1, h, w], above 0.
            resamplings: Times that each step of in-painting is made.
            batch_size: Pictures drawn at once; changes no picture's noise.

        Raises:
            UserError: The model does not take what is asked for, or a picture is not finite.
        """
        start = start_of(image, inpaint, self.spec)
        conditioner = self.model.network.conditioner
        taken, start = (start, None) if conditioner.input_key == "image" else (None, start)
        conditions = conditions_of(
            conditioner, prompt, self._numbers(label), mask, taken, num_samples
        )
        drawing = Drawing(
            self.model,
            self._size(size, image),
            self._sampler(sampler, steps),
            self._guidance(guidance),
            seed,
            self._asked("also", also),
            self._negative(negative_prompt, negative_label),
            start=start,
            strength=strength,
            resamplings=resamplings,
        )
        pictures: list[Image] = []
        for first in range(0, len(conditions), batch_size):
            images = drawing.draw(conditions[first : first + batch_size], first).cpu()
            check_drawn(images, first)
            pictures += map(self._picture, images)
        return pictures

    def encode(self, images: Picture | Sequence[Picture]) -> Float[Tensor, "b z h w"]:
        """Means of the images' latents, of about unit variance.

        Args:
            images: One or more; or pixels [b, c, h, w] in [-1, 1].

        Raises:
            UserError: One cannot be read.
        """
        with torch.no_grad():
            return self.model.codec.encode(self._pixels(images)).mean

    def decode(self, latents: Float[Tensor, "b z h w"]) -> list[Image]:
        """Pictures of latents such as `encode` gives."""
        with torch.no_grad():
            return [
                self._picture(x) for x in self.model.codec.decode(latents.to(self.model.device))
            ]

    def log_likelihood(
        self,
        images: Picture | Sequence[Picture],
        prompt: str | Sequence[str] | None = None,
        *,
        label: int | str | Sequence[int | str] | None = None,
        mask: Integer[Tensor, "*b h w"] | None = None,
        seed: int = 0,
        tolerance: float = 1e-3,
    ) -> Float[Tensor, " b"]:
        """Log-likelihood of each image in nats, by the probability-flow ODE, unguided.

        For a model in latent space it is the log-density of a draw of the image's latents, and may
        be positive; for one in pixel space, that of the image's bytes.

        Args:
            images: As of `encode`.
            prompt: Text, for every image or for each.
            label: Number or name of a class, likewise.
            mask: Label map, likewise.
            seed: Seed of the draw and of the trace's estimate.
            tolerance: Of the ODE's solver.

        Raises:
            UserError: An image cannot be read, or the model does not take the condition.
        """
        pixels, conditioner = self._pixels(images), self.model.network.conditioner
        conditions = conditions_of(
            conditioner, prompt, self._numbers(label), mask, None, len(pixels)
        )
        if len(conditions) != len(pixels):
            raise UserError(f"{len(conditions)} conditions are given for {len(pixels)} images")
        batch = replace(conditions, image=pixels).to(self.model.device)
        noise = SampleNoise(derive_seed("likelihood", seed), range(len(pixels)))
        subject = Subject(self.model, self.spec, self.sampler, self.guidance, seed)
        with torch.no_grad():
            _, x, unit = values_of(subject, batch, noise)
            network, process = self.model.network, self.model.process
            conditioning = network.conditioner(network.conditioner.select(batch))
            denoiser = process.denoiser(network, conditioning)
            nats = log_likelihood(denoiser, x, process.schedule, noise, tolerance=tolerance)
        return nats + x[0].numel() * math.log(unit)

    def _picture(self, image: Tensor) -> Image:
        picture = picture_of(image, self.spec.values)
        if picture is None:
            raise UserError(
                f"images of {self.spec.image_channels} channels with data.bits={self.spec.bits} "
                "are no pictures: write them with `ldmlab sample`, or take tensors from "
                "`.model.sample`"
            )
        return picture

    def _pixels(self, images: Picture | Sequence[Picture]) -> Tensor:
        size, channels = self.spec.image_size, self.spec.image_channels
        return pixels_of("images", images, size, channels, self.spec).to(self.model.device)

    def _asked(self, key: str, value: str | int | None) -> list[Batch]:
        if value is None:
            return []
        conditioner, classes = self.model.network.conditioner, self.spec.num_classes
        return [one_condition(value, key, conditioner, classes, self.classes)]

    def _numbers(self, label: int | str | Sequence[int | str] | None) -> list[int] | None:
        if label is None:
            return None
        if self.model.network.conditioner.input_key != "label":
            return []  # refused with what the model takes instead
        return asked_classes("label", label, self.spec.num_classes or 0, self.classes)

    def _negative(self, prompt: str | None, label: int | str | None) -> Batch | None:
        asked = self._asked("negative_prompt", prompt) + self._asked("negative_label", label)
        if len(asked) > 1:
            raise UserError("give negative_prompt= or negative_label=, not both")
        return asked[0] if asked else None

    def _size(self, size: int | tuple[int, int] | None, image: object) -> int | tuple[int, int]:
        if size is None:
            return self.spec.image_size
        if image is not None:
            raise UserError("size= goes with noise: from image= comes a picture of its own size")
        divisor = self.model.codec.factor * self.model.network.backbone.factor
        for side in (size,) if isinstance(size, int) else size:
            if side < divisor or side % divisor:
                raise UserError(f"size={size} must be a multiple of {divisor}")
        return size

    def _sampler(self, sampler: str | Sampler | None, steps: int | None) -> Sampler:
        chosen = self.sampler
        if isinstance(sampler, str):
            chosen = build(compose([f"sampler={sampler}"]).sampler)
        elif sampler is not None:
            chosen = sampler
        try:
            return chosen if steps is None else replace(chosen, steps=steps)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _guidance(self, guidance: float | Guidance | None) -> Guidance:
        if guidance is None:
            return self.guidance
        return guidance if isinstance(guidance, Guidance) else ClassifierFree(float(guidance))
