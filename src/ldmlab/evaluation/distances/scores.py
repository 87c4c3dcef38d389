"""Inception Score (Salimans et al. 2016): whether samples are each clear and together various."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import positive_int
from ldmlab.evaluation.distances.rows import as_rows


def inception_score(
    logits: Float[Tensor, "n classes"], *, splits: int = 10, shuffle: int | None = None
) -> tuple[float, float]:
    """exp of the mean divergence of each sample's classes from those of all, over splits.

    Args:
        logits: A classifier's answers, a row a sample.
        splits: Parts that are scored by themselves; part i holds the rows from i n // splits on.
        shuffle: Seed of a permutation of the rows beforehand; None keeps their order.

    Returns:
        Mean over the parts, from 1 to the number of classes, and their standard deviation, divided
        by their number.

    Raises:
        ValueError: There are fewer rows than parts, or some are not finite.
    """
    positive_int(splits=splits)
    (logits,) = as_rows(splits, logits=logits)
    count = len(logits)
    if shuffle is not None:
        logits = logits[np.random.RandomState(shuffle).permutation(count)]
    log_p = logits.log_softmax(1)
    bounds = [part * count // splits for part in range(splits + 1)]
    scores = [_score(log_p[start:end]) for start, end in pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: Float[Tensor, "n classes"]) -> float:
    marginal = log_p.logsumexp(0) - math.log(len(log_p))
    divergence = (log_p.exp() * (log_p - marginal)).sum(1)
    return float(torch.exp(divergence.mean()))
