"""Evaluation of vistas: agreement of samples with their conditions, and likeness to the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.ranges import natural, positive_int, whole_above
from ldmlab.core.records import Batch
from ldmlab.data.vistas.dataset import Vistas
from ldmlab.data.vistas.scene import Scenes
from ldmlab.evaluation.metrics import reconstruction_metrics
from ldmlab.evaluation.protocol import Evaluation, Metric, OnProgress, Subject
from ldmlab.evaluation.vistas.metrics import (
    frechet_world,
    judge_conditional,
    mask_miou,
    valid_rate,
)
from ldmlab.evaluation.vistas.networks import (
    JUDGE_ASSET,
    SEGMENTER_ASSET,
    VistasJudge,
    asset_hash,
    load_judge,
)
from ldmlab.models.drawing import check_drawn


class VistasEvaluation(Evaluation):
    """Asks for unseen scenes and for held-out compositions, and judges the answers.

    Args:
        num_samples: Samples of the test scenes; half as many of the held-out compositions.
        batch_size: Samples drawn at once.
        seed: Seed of the world.
    """

    def __init__(self, num_samples: int = 256, batch_size: int = 64, seed: int = 0) -> None:
        whole_above(1)(num_samples=num_samples)  # one image has no covariance
        positive_int(batch_size=batch_size)
        natural(seed=seed)
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed

    def protocol(self) -> dict[str, Any]:
        """World, judging networks and preprocessing."""
        return {
            "data": "vistas",
            "world_seed": self.seed,
            "judge": asset_hash(JUDGE_ASSET),
            "segmenter": asset_hash(SEGMENTER_ASSET),
            "features": "the judge's, 64 wide",
            "reference_set": f"the first {self.num_samples} images of split test",
            "preprocessing": "pixels in [-1, 1], clipped, averaged down to 32 x 32 for the judge",
        }

    def __call__(self, subject: Subject, on_progress: OnProgress) -> dict[str, Metric]:
        """Metrics by name; which ones depends on what the model is conditioned on."""
        size = subject.spec.image_size
        if subject.spec.image_channels != 3 or not isinstance(size, int) or size % 32:
            raise UserError(
                "evaluation=vistas judges images of the vistas only; "
                "choose another evaluation for this data"
            )
        judge = load_judge()
        test = Vistas("test", self.num_samples, size, self.seed)
        real = test.__getitems__(list(range(len(test))))
        scenes = test.scenes(range(len(test)))
        assert real.image is not None
        mirrored = subject.reconstruct(real.image, self.batch_size)

        held_out = Vistas("compositions", max(1, self.num_samples // 2), size, self.seed)
        text = subject.model.network.conditioner.input_key == "caption"
        total = len(test) + (len(held_out) if text else 0)
        samples = torch.cat(list(self._samples(subject, real, 0, total, on_progress)))

        metrics: dict[str, Metric] = {
            name: {"value": value, "samples": len(test)}
            for name, value in reconstruction_metrics(mirrored, real.image).items()
        }
        other = Vistas("validation", self.num_samples, size, self.seed)
        unseen = other.__getitems__(list(range(len(other)))).image
        assert unseen is not None
        metrics["frechet_world"] = {
            "value": frechet_world(judge, [real.image], [samples]),
            "reconstruction": frechet_world(judge, [real.image], [mirrored]),
            "real": frechet_world(judge, [real.image], [unseen]),
            "samples": len(samples),
        }
        if len(samples) <= judge.num_features:
            metrics["frechet_world"]["warning"] = (
                f"{len(samples)} images do not fill the judge's {judge.num_features} features, and "
                "the distance is biased upwards: raise evaluation.num_samples above that"
            )
        metrics["valid_rate"] = {
            "value": valid_rate(judge, samples),
            "real": valid_rate(judge, real.image),
            "samples": len(samples),
        }
        metrics |= self._conditional(subject, judge, samples, real, mirrored, scenes)
        if text:
            asked = held_out.__getitems__(list(range(len(held_out))))
            drawn = self._samples(subject, asked, len(test), total, on_progress)
            composed = torch.cat(list(drawn))
            compositions = held_out.scenes(range(len(held_out)))
            metrics |= _held_out(judge, composed, asked, compositions)
        return metrics

    def _samples(
        self, subject: Subject, asked: Batch, first: int, total: int, on_progress: OnProgress
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Samples for each condition; sample k of the whole evaluation has noise k."""
        for start in range(0, len(asked), self.batch_size):
            conditions = replace(asked[start : start + self.batch_size], image=None)
            keys = range(first + start, first + start + len(conditions))
            noise = SampleNoise(subject.seed, keys)
            images = subject.model.sample(
                conditions,
                subject.spec.image_size,
                subject.sampler,
                noise,
                subject.guidance,
            )
            check_drawn(images, first + start)
            on_progress(first + start + len(conditions), total)
            yield images.clamp(-1, 1).cpu()

    def _conditional(
        self,
        subject: Subject,
        judge: VistasJudge,
        samples: Tensor,
        real: Batch,
        mirrored: Tensor,
        scenes: Scenes,
    ) -> dict[str, Metric]:
        """What the condition asked for, beside chance (shuffled) and the judge's own accuracy."""
        reads = subject.model.network.conditioner.input_key
        assert real.image is not None
        if reads == "mask":
            assert real.mask is not None
            return {
                "mask_miou": {
                    "value": mask_miou(judge, samples, real.mask),
                    "reconstruction": mask_miou(judge, mirrored, real.mask),
                    "real": mask_miou(judge, real.image, real.mask),
                    "shuffled": mask_miou(judge, samples, real.mask.roll(1, 0)),
                    "samples": len(samples),
                }
            }
        if reads not in ("caption", "label"):
            return {}
        found = _judged(judge, samples, scenes)
        truth = _judged(judge, real.image, scenes)
        codec = _judged(judge, mirrored, scenes)
        chance = _judged(judge, samples.roll(1, 0), scenes)
        names = list(found) if reads == "caption" else ["class_accuracy"]
        return {
            name: {
                "value": found[name],
                "reconstruction": codec[name],
                "real": truth[name],
                "shuffled": chance[name],
                "samples": len(samples),
            }
            for name in names
        }


def _judged(judge: VistasJudge, images: Tensor, scenes: Scenes) -> dict[str, float]:
    """The judge's shares; strict objects count only where an object was asked for, if anywhere."""
    metrics = judge_conditional(judge, images, scenes)
    del metrics["object_accuracy"]
    asked = [i for i, kind in enumerate(scenes.slot("object")) if kind > 0]
    if asked:
        strict = judge_conditional(judge, images[asked], scenes[asked])
        metrics["object_accuracy"] = strict["object_accuracy"]
    return metrics


def _held_out(
    judge: VistasJudge, samples: Tensor, asked: Batch, scenes: Scenes
) -> dict[str, Metric]:
    """Compositions that training never showed."""
    assert asked.image is not None
    found, truth = _judged(judge, samples, scenes), _judged(judge, asked.image, scenes)
    return {
        f"composition_{new}": {
            "value": found[old],
            "real": truth[old],
            "samples": len(samples),
        }
        for new, old in (
            ("accuracy", "caption_accuracy"),
            ("object_accuracy", "object_accuracy"),
        )
        if old in found
    }
