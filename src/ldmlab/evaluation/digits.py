"""Evaluation of digits: whether a classifier reads the label that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.ranges import whole_above
from ldmlab.data.digits import Digits
from ldmlab.evaluation.metrics import reconstruction_metrics
from ldmlab.evaluation.protocol import Evaluation, Metric, OnProgress, Subject
from ldmlab.models.drawing import check_drawn


class DigitsEvaluation(Evaluation):
    """A support-vector classifier, fitted to the real training digits, reads the samples.

    Args:
        num_samples: Number of samples; the labels asked for are those of the test digits.
    """

    def __init__(self, num_samples: int = 200) -> None:
        whole_above(1)(num_samples=num_samples)  # the shuffled control needs another label
        self.num_samples = num_samples

    def protocol(self) -> dict[str, Any]:
        """Data, judge and preprocessing."""
        return {
            "data": "digits",
            "judge": "sklearn.svm.SVC, default kernel, fitted to split train",
            "reference_set": f"the first {self.num_samples} digits of split test",
            "preprocessing": "pixels in [-1, 1], clipped",
        }

    def __call__(self, subject: Subject, on_progress: OnProgress) -> dict[str, Metric]:
        """Reconstruction, and class accuracy where there is a class to ask for."""
        size = subject.spec.image_size
        if subject.spec.image_channels != 1 or not isinstance(size, int):
            raise UserError("evaluation=digits judges digits only; choose another evaluation")
        from sklearn.svm import SVC

        train, test = Digits("train", size), Digits("test", size)
        known = train.__getitems__(list(range(len(train))))
        asked = test.__getitems__(list(range(min(self.num_samples, len(test)))))
        assert known.image is not None and asked.image is not None and asked.label is not None
        images = subject.model.sample(
            replace(asked, image=None),
            size,
            subject.sampler,
            SampleNoise(subject.seed, range(len(asked))),
            subject.guidance,
        ).cpu()
        check_drawn(images)
        on_progress(len(asked), len(asked))
        mirrored = subject.reconstruct(asked.image)
        metrics: dict[str, Metric] = {
            name: {"value": value, "samples": len(asked)}
            for name, value in reconstruction_metrics(mirrored, asked.image).items()
        }
        if subject.model.network.conditioner.input_key is None:
            return metrics
        judge = SVC().fit(known.image.flatten(1).numpy(), known.label)
        label = asked.label

        def accuracy(pixels: Tensor, wanted: Tensor) -> float:
            read = torch.from_numpy(judge.predict(pixels.clamp(-1, 1).flatten(1).cpu().numpy()))
            return float((read == wanted).double().mean())

        metrics["class_accuracy"] = {
            "value": accuracy(images, label),
            "real": accuracy(asked.image, label),
            "shuffled": accuracy(images, label.roll(1, 0)),
            "samples": len(asked),
        }
        return metrics
