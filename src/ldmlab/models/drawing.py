"""Draws images under conditions in batches, from noise or from an initial image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.image_size import ImageSize
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, DataSpec
from ldmlab.core.tensors import first_not_finite
from ldmlab.data.images.picture import Picture, pixels_of
from ldmlab.diffusion.guidance import Guidance
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.models.editing import image_to_image, inpaint
from ldmlab.models.latent_diffusion import LatentDiffusion


@dataclass(frozen=True)
class Start:
    """A picture at the model's size.

    Attributes:
        image: Pixels in [-1, 1].
        unknown: 1 where it is to be painted anew; None to noise and draw all of it again.
    """

    image: Float[Tensor, "1 c h w"]
    unknown: Float[Tensor, "1 1 h w"] | None


def start_of(image: Picture | None, inpaint: Picture | None, spec: DataSpec) -> Start | None:
    """The picture to start from; None without one.

    Args:
        image: The picture.
        inpaint: White where it is to be painted anew, above 0 in a tensor; None for all of it.
        spec: What the model knows of its data.

    Raises:
        UserError: One cannot be read, or `inpaint` comes without `image`.
    """
    if image is None:
        if inpaint is not None:
            raise UserError("inpaint= names what to paint anew of a picture: give image= too")
        return None
    pixels = pixels_of("image", image, spec.image_size, spec.image_channels, spec)
    if inpaint is None:
        return Start(pixels, None)
    white = pixels_of("inpaint", inpaint, spec.image_size, 1)
    return Start(pixels, (white > 0).to(pixels.dtype))


def check_drawn(images: Float[Tensor, "b c h w"], first: int | Sequence[int] = 0) -> None:
    """Let no image that is none be saved as a black square, or judged.

    Args:
        images: Drawn images.
        first: Place of the first of them among all, or the place of each.

    Raises:
        UserError: An image holds numbers that are not finite.
    """
    row = first_not_finite(images)
    if row is not None:
        place = _places(first, len(images))[row]
        raise UserError(
            f"image {place} holds numbers that are not finite: the sampler has left what "
            "the model knows; lower guidance.scale, or take more sampler.steps"
        )


@dataclass(frozen=True)
class Drawing:
    """All that decides images beside their conditions, whatever the parts they are drawn in.

    Attributes:
        model: The model.
        image_size: Side in pixels, or height and width; without effect where there is a start.
        sampler: The steps from noise to data.
        guidance: How the condition is strengthened.
        seed: Row k of all noise depends on it and on k.
        also: Further conditions, a batch of one each, that hold for every image at once.
        negative: A batch of one to be guided away from, in the place of no condition.
        autoguidance: A worse model to be guided away from.
        start: A picture to start from, in the place of noise.
        strength: Time in (0, 1] that a start without an unknown part is noised to.
        resamplings: Times that each step around an unknown part is made.
    """

    model: LatentDiffusion
    image_size: ImageSize
    sampler: Sampler
    guidance: Guidance | None = None
    seed: int = 0
    also: Sequence[Batch] = ()
    negative: Batch | None = None
    autoguidance: LatentDiffusion | None = None
    start: Start | None = None
    strength: float = 0.6
    resamplings: int = 1

    def draw(self, conditions: Batch, first: int | Sequence[int] = 0) -> Float[Tensor, "b c h w"]:
        """Draw one image for each condition; pixels about in [-1, 1], on the model's device.

        Args:
            conditions: A part of all.
            first: The place of its first among them, or the place of each.

        Raises:
            UserError: The model does not take what is asked for.
        """
        model, count = self.model, len(conditions)
        noise = SampleNoise(self.seed, _places(first, count))
        denoiser = model.guided(
            conditions,
            self.guidance,
            [also[[0] * count] for also in self.also],
            None if self.negative is None else self.negative[[0] * count],
            self.autoguidance,
        )
        if self.start is None:
            return model.draw(denoiser, count, self.image_size, self.sampler, noise)
        images = self.start.image.to(model.device).expand(count, -1, -1, -1)
        if self.start.unknown is None:
            return image_to_image(model, denoiser, images, self.strength, self.sampler, noise)
        unknown = self.start.unknown.to(model.device).expand(count, -1, -1, -1)
        return inpaint(model, denoiser, images, unknown, self.sampler, noise, self.resamplings)


def _places(first: int | Sequence[int], count: int) -> Sequence[int]:
    return range(first, first + count) if isinstance(first, int) else first
