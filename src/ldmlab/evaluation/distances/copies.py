"""Whether samples are copies of training rows."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.ranges import positive
from ldmlab.evaluation.distances.neighbours import nearest
from ldmlab.evaluation.distances.rows import as_rows


def memorisation(
    train: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, ratio: float = 1 / 3
) -> float:
    """Share of the samples that lie much nearer to one training row than to any other.

    Such is a sample whose distance to its nearest training row is below `ratio` of that to the
    second nearest (Yoon et al. 2023). A row that the training set holds twice hides its copies.

    Args:
        train: Rows of the training set, 2 or more.
        fake: Rows of the samples.
        ratio: Of the two distances, above 0.

    Raises:
        ValueError: A set is too small, not finite, or of another width.
    """
    positive(ratio=ratio)
    train, fake = as_rows(1, train=train, fake=fake)
    first, second = nearest(fake, train, 2)[0].unbind(1)
    return float((first < ratio * second).double().mean())


def authenticity(train: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """Share of the samples that are farther from their nearest training row than its neighbours.

    The neighbour of a training row is the nearest other one (Alaa et al. 2022, section 3.3).

    Args:
        train: Rows of the training set, 2 or more.
        fake: Rows of the samples.

    Raises:
        ValueError: A set is too small, not finite, or of another width.
    """
    train, fake = as_rows(1, train=train, fake=fake)
    distance, position = (found[:, 0] for found in nearest(fake, train, 1))
    own = nearest(train, train, 1, itself=True)[0][:, 0]
    return float((distance > own[position]).double().mean())
