"""Whether a judge sees the classes that images were asked to show."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.evaluation.images.image_set import ImageSet
from ldmlab.evaluation.intervals import of_share
from ldmlab.evaluation.judges.network import Judge
from ldmlab.evaluation.protocol import Metric
from ldmlab.evaluation.statistics import Statistics


def class_accuracy(judge: Judge, images: ImageSet, seen: Statistics) -> Metric:
    """Share of the images in which the judge sees the class that they have.

    Args:
        judge: Who sees.
        images: What is judged; its class names, where it has any, are found among the judge's.
        seen: The images behind the judge, all rows kept.

    Raises:
        UserError: The judge knows no classes, the images have none, or others.
    """
    if judge.facts.task != "classes":
        raise UserError(
            "metrics=[class_accuracy] needs a judge of classes, and this one has learned "
            "rotations, its data having none: train one on data with classes"
        )
    if seen.labels is None:
        raise UserError(
            f"metrics=[class_accuracy] needs classes, and {images.name} has none: class folders "
            "of the judge's class names, or arr_1 of an npz with class numbers"
        )
    wanted = _numbers(seen.labels, images, judge)
    found = seen.outputs["logits"].kept.argmax(1)
    share = float((found == wanted).double().mean())
    return {
        "value": share,
        "interval": of_share(share, len(found)),
        "interval_by": "Wilson, 95 %",
        "samples": len(found),
        "real": judge.facts.held_out_accuracy,
        "chance": _chance(found, wanted, len(judge.facts.classes)),
    }


def _chance(found: Int[Tensor, " n"], wanted: Int[Tensor, " n"], classes: int) -> float:
    """The share if each image were asked for another one's class."""
    shares = [torch.bincount(x, minlength=classes).double() / len(x) for x in (found, wanted)]
    return float((shares[0] * shares[1]).sum())


def _numbers(labels: Int[Tensor, " n"], images: ImageSet, judge: Judge) -> Int[Tensor, " n"]:
    """The judge's number of each image's class."""
    known = judge.facts.classes
    if images.classes:
        strange = [name for name in images.classes if name not in known]
        if strange:
            raise UserError(
                f"{images.name} has the class {strange[0]}, which the judge does not know; it "
                f"knows {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
            )
        return torch.tensor([known.index(name) for name in images.classes])[labels]
    if int(labels.min()) < 0 or int(labels.max()) >= len(known):
        raise UserError(
            f"{images.name} has class numbers from {int(labels.min())} to {int(labels.max())}; "
            f"the judge knows {len(known)} classes"
        )
    return labels
