"""Metrics of vistas samples: slots, strict objects, validity, masks and Fréchet distance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ldmlab.core.tensors import to_unit_range
from ldmlab.data.vistas.materials import MASK_LABELS
from ldmlab.data.vistas.scene import SLOTS, Scenes
from ldmlab.evaluation.metrics import check_judgeable
from ldmlab.evaluation.vistas.networks import VistasJudge, load_segmenter
from ldmlab.evaluation.vistas.objects import strict_objects

_CHUNK = 256


def _answers(judge: VistasJudge, images: Float[Tensor, "b 3 h w"]) -> dict[str, Int[Tensor, " b"]]:
    check_judgeable(images)
    device = next(judge.parameters()).device
    with torch.inference_mode():
        parts = [judge(chunk.to(device)) for chunk in images.split(_CHUNK)]
    return {
        name: torch.cat([part[name].argmax(dim=1) for part in parts]).cpu() for name in parts[0]
    }


def judge_conditional(
    judge: VistasJudge, images: Float[Tensor, "b 3 h w"], scenes: Scenes
) -> dict[str, float]:
    """How often images show what their scenes ask for; slots at -1 are not asked.

    Args:
        judge: The network that names the slots.
        images: Pixels in [-1, 1].
        scenes: What each image was asked to show.

    Returns:
        Shares in [0, 1]: "class_accuracy" (object kind and backdrop), "caption_accuracy" (all
        slots), "object_accuracy" (the strict check: an exact drawing of the asked object, in the
        asked colour and light, explains the pixels) and "slot/<name>" for each slot that at least
        one scene asks for.

    Raises:
        ValueError: There is not one scene per image, or no image, or one is not finite.
    """
    if len(images) != len(scenes):
        raise ValueError(f"{len(images)} images cannot be judged by {len(scenes)} scenes")
    seen = _answers(judge, images)
    right, metrics = {}, {}
    for slot in SLOTS:
        asked = torch.from_numpy(scenes.slot(slot).copy())
        right[slot] = (seen[slot] == asked) | (asked < 0)
        if bool((asked >= 0).any()):
            metrics[f"slot/{slot}"] = _share(right[slot][asked >= 0])
    return {
        "class_accuracy": _share(right["object"] & right["backdrop"]),
        "caption_accuracy": _share(torch.stack(list(right.values())).all(dim=0)),
        "object_accuracy": _share(strict_objects(images, scenes)),
        **metrics,
    }


def valid_rate(judge: VistasJudge, images: Float[Tensor, "b 3 h w"]) -> float:
    """Share of the images, in [-1, 1], that look like landscapes of this world at all.

    Raises:
        ValueError: There is no image, or one is not finite.
    """
    return _share(_answers(judge, images)["valid"] == 1)


def mask_miou(
    judge: VistasJudge | None,
    images: Float[Tensor, "b 3 h w"],
    masks: Int[Tensor, "b height width"],
) -> float:
    """Mean over the mask's labels of intersection over union of the asked and the seen pixels.

    Args:
        judge: Where to compute; the packaged segmenter follows its device. None is the CPU.
        images: Pixels in [-1, 1].
        masks: Asked labels, at any size; what is seen at 32 x 32 is interpolated to it.

    Returns:
        A number in [0, 1]; labels that are neither asked nor seen do not count.

    Raises:
        ValueError: There is no image, or one is not finite.
    """
    check_judgeable(images)
    device = torch.device("cpu") if judge is None else next(judge.parameters()).device
    segmenter = load_segmenter().to(device)
    seen, size = [], tuple(masks.shape[-2:])
    with torch.inference_mode():
        for chunk in images.split(_CHUNK):
            logits = segmenter(chunk.to(device))
            logits = interpolate(logits, size, mode="bilinear", align_corners=False)
            seen.append(logits.argmax(dim=1).cpu())
    labels = len(MASK_LABELS)
    pairs = masks.cpu() * labels + torch.cat(seen)
    table = torch.bincount(pairs.flatten(), minlength=labels**2)
    counts = table.reshape(labels, labels).double()
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    return float((counts.diag() / union.clamp_min(1))[union > 0].mean())


class _Features(nn.Module):
    """The judge's features, in the form that torchmetrics asks for: bytes in, one row out."""

    def __init__(self, judge: VistasJudge) -> None:
        super().__init__()
        self.judge = judge
        self.num_features = judge.num_features

    def forward(self, images: Tensor) -> Float[Tensor, "b 64"]:
        pixels = to_unit_range(images) if images.dtype == torch.uint8 else images
        return self.judge.features(pixels)


def frechet_world(
    judge: VistasJudge,
    real: Iterable[Float[Tensor, "b 3 h w"]],
    fake: Iterable[Float[Tensor, "b 3 h w"]],
) -> float:
    """Fréchet distance of two sets of images in the judge's feature space.

    Args:
        judge: Whose features are compared.
        real: Batches of the reference set, in [-1, 1].
        fake: Batches of the judged set, in [-1, 1].

    Returns:
        0 for equal Gaussian statistics; it has no unit and depends on the sizes of the sets, and
        with no more images than features it is biased upwards.

    Raises:
        ValueError: A set has fewer than two images, or one is not finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    device = next(judge.parameters()).device
    metric = FrechetInceptionDistance(
        feature=_Features(judge),
        normalize=False,
        input_img_size=(3, 32, 32),
        sync_on_compute=False,  # one process judges; the others of its training are gone
    ).to(device)
    counts = {True: 0, False: 0}
    for batch, is_real in _marked(real, fake):
        check_judgeable(batch)
        metric.update(batch.to(device), real=is_real)
        counts[is_real] += len(batch)
    if min(counts.values()) < 2:
        raise ValueError(f"sets of {counts[True]} and {counts[False]} images have no covariance")
    return float(metric.compute())


def _marked(real: Iterable[Tensor], fake: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    yield from ((batch, True) for batch in real)
    yield from ((batch, False) for batch in fake)


def _share(verdicts: Bool[Tensor, " b"]) -> float:
    return float(verdicts.double().mean())
