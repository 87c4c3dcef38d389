"""The metrics of two sets of images behind a network, by the names that users ask for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.evaluation import distances
from ldmlab.evaluation.distances.moments import distance_of_roots, root_of_covariance
from ldmlab.evaluation.intervals import Interval, around, by_jackknife, of_leave_outs, of_share
from ldmlab.evaluation.protocol import Metric
from ldmlab.evaluation.statistics import Rows, Statistics, joined, moments_of

_SUBSET = 1000  # rows of a kernel distance's subset, as torch-fidelity has them

# Of kept rows: metric values by name.
Measure = Callable[[Tensor, Tensor], dict[str, float]]


@dataclass(frozen=True)
class SetMetric:
    """One entry of the table.

    Attributes:
        network: Whose rows are compared.
        measure: Values of kept rows, real and fake.
        output: Which of the network's outputs.
        shares_of: For a value that is a share: the set whose rows are counted.
        whole: Whether all rows' moments give the value, and not only those that were kept.
        needs_reference: Whether the real rows matter.
        said: What is fixed about it, for the card.
    """

    network: str
    measure: Measure
    output: str = "features"
    shares_of: Mapping[str, str] = ()  # type: ignore[assignment]
    whole: bool = False
    needs_reference: bool = True
    said: str = ""


def _frechet(name: str) -> Measure:
    return lambda real, fake: {name: distances.frechet(real, fake)}


def _kernel(name: str) -> Measure:
    def measure(real: Tensor, fake: Tensor) -> dict[str, float]:
        smaller = min(len(real), len(fake))
        size = _SUBSET if smaller > _SUBSET else None
        return {name: distances.kernel(real, fake, subset_size=size)[0]}

    return measure


def _precision_recall(real: Tensor, fake: Tensor) -> dict[str, float]:
    return dict(zip(("precision", "recall"), distances.precision_recall(real, fake), strict=True))


def _density_coverage(real: Tensor, fake: Tensor) -> dict[str, float]:
    return dict(zip(("density", "coverage"), distances.density_coverage(real, fake), strict=True))


def _copies(real: Tensor, fake: Tensor) -> dict[str, float]:
    return {
        "memorised": distances.memorisation(real, fake),
        "authentic": distances.authenticity(real, fake),
    }


_KERNEL = "mean of 100 subsets of 1000 rows, seed 2020; all pairs of fewer rows"
_FAKE = {"precision": "fake", "recall": "real", "coverage": "real"}
SET_METRICS: dict[str, SetMetric] = {
    "fid": SetMetric("inception", _frechet("fid"), whole=True),
    "sfid": SetMetric("inception", _frechet("sfid"), "spatial", whole=True),
    "kid": SetMetric("inception", _kernel("kid"), said=_KERNEL),
    "inception_score": SetMetric(
        "inception",
        lambda real, fake: {"inception_score": distances.inception_score(fake)[0]},
        "logits",
        needs_reference=False,
        said="10 splits in the order of the images",
    ),
    "precision_recall": SetMetric(
        "inception", _precision_recall, shares_of=_FAKE, said="3rd neighbour, balls closed"
    ),
    "density_coverage": SetMetric(
        "inception", _density_coverage, shares_of=_FAKE, said="5th neighbour, balls open"
    ),
    "fd_dinov2": SetMetric("dinov2", _frechet("fd_dinov2"), whole=True),
    "kd_dinov2": SetMetric("dinov2", _kernel("kd_dinov2"), said=_KERNEL),
    "cmmd": SetMetric("clip", lambda real, fake: {"cmmd": distances.cmmd(real, fake)}),
    "fd_judge": SetMetric("judge", _frechet("fd_judge"), whole=True),
    "kd_judge": SetMetric("judge", _kernel("kd_judge"), said=_KERNEL),
    "precision_recall_judge": SetMetric(
        "judge",
        lambda real, fake: {f"{k}_judge": v for k, v in _precision_recall(real, fake).items()},
        shares_of={"precision_judge": "fake", "recall_judge": "real"},
        said="3rd neighbour, balls closed",
    ),
    "memorisation": SetMetric(
        "inception",
        _copies,
        shares_of={"memorised": "fake", "authentic": "fake"},
        said="nearest below a third of the second nearest; the reference is what was trained on",
    ),
    "memorisation_judge": SetMetric(
        "judge",
        lambda real, fake: {f"{k}_judge": v for k, v in _copies(real, fake).items()},
        shares_of={"memorised_judge": "fake", "authentic_judge": "fake"},
        said="nearest below a third of the second nearest; the reference is what was trained on",
    ),
}


def networks_of(metrics: list[str]) -> list[str]:
    """The networks that some metrics need, each once."""
    return list(dict.fromkeys(SET_METRICS[name].network for name in metrics))


def compare(name: str, real: Statistics | None, fake: Statistics, folds: int) -> dict[str, Metric]:
    """Values of one metric, each with interval and floor.

    Args:
        name: Of the table.
        real: The reference; None where the metric needs none.
        fake: What is judged.
        folds: Of the jackknife.

    Raises:
        UserError: A set is too small for the metric.
    """
    metric = SET_METRICS[name]
    drawn = fake.outputs[metric.output]
    known = drawn if real is None else real.outputs[metric.output]
    try:
        values = metric.measure(known.kept, drawn.kept)
        if metric.whole and known.count > len(known.kept):
            (only,) = values
            values = {only: _of_moments(known, drawn)}
        return {
            key: _entry(metric, key, value, known, drawn, folds) for key, value in values.items()
        }
    except ValueError as error:
        raise UserError(f"metrics=[{name}]: {error}") from error


def _of_moments(real: Rows, fake: Rows) -> float:
    return distances.frechet_from_moments(real.mean, real.cov, fake.mean, fake.cov)


def _entry(metric: SetMetric, key: str, value: float, real: Rows, fake: Rows, folds: int) -> Metric:
    entry: dict[str, Any] = {"value": value, "interval": None, "samples": fake.count}
    shares = dict(metric.shares_of)
    if key in shares:
        count = len(fake.kept) if shares[key] == "fake" else len(real.kept)
        entry["interval"], entry["interval_by"] = of_share(value, count), "Wilson, 95 %"
    elif metric.said == _KERNEL and min(len(real.kept), len(fake.kept)) > _SUBSET:
        entry["interval"] = _of_subsets(value, real, fake)
        entry["interval_by"] = "deviation of 20 subsets, scaled to the smaller set's rows, 95 %"
    else:
        entry["interval"] = _jackknife(metric, key, value, real, fake, folds)
        entry["interval_by"] = f"jackknife over {folds} folds of the samples, 95 %"
    if metric.needs_reference:
        entry["reference_samples"] = real.count
        if not metric.whole and len(real.kept) < real.count:
            entry["reference_rows"] = len(real.kept)
        entry["floor"] = _floor(metric, key, real.kept)
        entry["floor_rows"] = len(real.kept) // 2
    if metric.said:
        entry["method"] = metric.said
    return entry


def _jackknife(
    metric: SetMetric, key: str, value: float, real: Rows, fake: Rows, folds: int
) -> Interval | None:
    """Of kept rows, about the value of all."""
    if metric.whole:
        return _jackknife_of_moments(value, real, fake, folds)
    return by_jackknife(
        lambda rows: metric.measure(real.kept, fake.kept[rows])[key], len(fake.kept), value, folds
    )


def _of_subsets(value: float, real: Rows, fake: Rows) -> Interval:
    """A kernel distance's: leaving folds out would take ten times as long as the value itself."""
    _, std = distances.kernel(real.kept, fake.kept, subset_size=_SUBSET, subsets=20)
    rows = min(len(real.kept), len(fake.kept))
    return around(value, std * math.sqrt(_SUBSET / rows))


def _jackknife_of_moments(value: float, real: Rows, fake: Rows, folds: int) -> Interval | None:
    """A Fréchet distance's, each fold's moments taken once: minutes less of many rows."""
    if folds < 2 or folds > len(fake.kept) // 2:
        return None
    parts = [moments_of(fake.kept[fold::folds].double()) for fold in range(folds)]
    root = root_of_covariance(real.cov)

    def without(fold: int) -> float:
        others = [part for number, part in enumerate(parts) if number != fold]
        count, mean, scatter = functools.reduce(joined, others)
        found = root_of_covariance(scatter / (count - 1))
        return distance_of_roots(real.mean, root, mean, found)

    return of_leave_outs([without(fold) for fold in range(folds)], value)


def _floor(metric: SetMetric, key: str, rows: Float[Tensor, "n d"]) -> float | None:
    """The metric of one half of the reference against the other; None of too few rows."""
    try:
        found = metric.measure(rows[::2], rows[1::2])[key]
    except ValueError:
        return None
    return found if math.isfinite(found) else None
