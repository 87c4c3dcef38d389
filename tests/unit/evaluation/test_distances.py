"""Distances of rows: laws, and direct calculations on random rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from torch import Tensor

from ldmlab.evaluation import distances
from ldmlab.evaluation.distances import neighbours


def _rows(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [9, 40])
def test_frechet_of_rows_is_that_of_their_moments_and_of_matrix_square_roots(count: int) -> None:
    real, fake = _rows(60, 12, 0), 0.7 * _rows(count, 12, 1) + 0.3
    moments = [m for rows in (real, fake) for m in (rows.double().mean(0), rows.double().T.cov())]
    found = distances.frechet(real, fake)
    assert found == pytest.approx(distances.frechet_from_moments(*moments), abs=1e-6)
    mean_a, cov_a, mean_b, cov_b = (moment.numpy() for moment in moments)
    both = np.trace(sqrtm(cov_a @ cov_b)).real
    direct = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * both
    assert found == pytest.approx(direct, abs=1e-6)


def test_frechet_of_a_set_with_itself_is_zero_also_by_deficient_moments() -> None:
    rows = _rows(30, 200, 2)
    assert abs(distances.frechet(rows, rows)) < 1e-11
    mean, cov = rows.double().mean(0), rows.double().T.cov()
    assert abs(distances.frechet_from_moments(mean, cov, mean, cov)) < 1e-10
    # One direction of variance against others: closed form, and most of the axes are empty.
    one = torch.zeros(200, 200, dtype=torch.float64)
    turn = torch.linalg.qr(_rows(200, 200, 3).double()).Q
    one[0, 0] = 4.0
    found = distances.frechet_from_moments(
        mean, turn @ one @ turn.T, mean, turn @ (9 * one) @ turn.T
    )
    assert found == pytest.approx((6 - 2) ** 2, abs=1e-10)


def test_frechet_of_deficient_moments_is_that_of_their_rows() -> None:
    # Two flat sets in other directions: the rounding of empty axes would add some 1e-6.
    real, fake = _rows(30, 200, 0), _rows(40, 200, 1)
    moments = [m for rows in (real, fake) for m in (rows.double().mean(0), rows.double().T.cov())]
    exact = distances.frechet(real, fake)
    assert distances.frechet_from_moments(*moments) == pytest.approx(exact, rel=0, abs=1e-9)


def test_kernel_distance_in_blocks_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = _rows(23, 5, 0), _rows(17, 5, 1)
    whole = distances.kernel(real, fake)[0], distances.cmmd(real, fake)
    monkeypatch.setattr("ldmlab.evaluation.distances.kernels._BLOCK", 4)
    assert distances.kernel(real, fake)[0] == pytest.approx(whole[0], rel=1e-12)
    assert distances.cmmd(real, fake) == pytest.approx(whole[1], rel=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    # Of many small pairs of one law the mean is 0; the biased one would be near 3.
    values = [distances.kernel(_rows(6, 3, k), _rows(5, 3, 1000 + k))[0] for k in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5


def _direct(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Each measure from whole tables of distances."""
    own = {name: cdist(x, x) for name, x in (("real", real), ("fake", fake))}
    for table in own.values():
        np.fill_diagonal(table, np.inf)
    radius = {name: np.sort(table, axis=1)[:, k - 1] for name, table in own.items()}
    between = cdist(fake, real)
    inner = between < radius["real"]
    two = np.sort(between, axis=1)[:, :2]
    return {
        "precision": (between <= radius["real"]).any(1).mean(),
        "recall": (radius["fake"] >= between.T).any(1).mean(),
        "density": inner.sum() / (k * len(fake)),
        "coverage": inner.any(0).mean(),
        "memorised": (two[:, 0] < two[:, 1] / 3).mean(),
        "authentic": (two[:, 0] > own["real"].min(1)[between.argmin(1)]).mean(),
    }


def _found(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    precision, recall = distances.precision_recall(real, fake, k=k)
    density, coverage = distances.density_coverage(real, fake, k=k)
    return {
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "memorised": distances.memorisation(real, fake),
        "authentic": distances.authenticity(real, fake),
    }


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_measures_of_neighbours_are_those_of_whole_tables(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    monkeypatch.setattr(neighbours, "_PAIRS", 11)
    real, fake = _rows(40, 4, 0), 0.8 * _rows(31, 4, 1)
    fake[:6] = real[:6] + 0.02
    real, fake = real + offset, fake + offset
    expected = _direct(real.double().numpy(), fake.double().numpy(), 3)
    assert _found(real, fake, 3) == pytest.approx(expected)
    assert 0 < expected["memorised"] < 1 and 0 < expected["authentic"] < 1


def test_ties_are_exact() -> None:
    # Copies of copies: each row thrice, so that the second neighbour is at distance 0.
    rows = _rows(50, 64, 0).repeat(3, 1)
    other = rows * (1 + 1e-6)
    assert distances.precision_recall(rows, rows[::2], k=2)[0] == 1
    assert distances.precision_recall(rows, other, k=2)[0] == 0
    assert distances.density_coverage(rows, rows, k=2) == (0, 0)


def test_precision_falls_with_noise_and_recall_with_collapse() -> None:
    real, fake = _rows(200, 4, 0), _rows(200, 4, 1)
    good = distances.precision_recall(real, fake)
    noisy = distances.precision_recall(real, 3 * fake)
    collapsed = distances.precision_recall(real, fake[:1] + 0.1 * fake)
    assert noisy[0] < good[0] - 0.3
    assert collapsed[1] < good[1] - 0.3


@pytest.mark.parametrize(
    ("measure", "sizes", "words"),
    [
        (distances.frechet, (1, 5), "real needs 2 rows or more"),
        (distances.precision_recall, (5, 3), "fake needs 4 rows or more"),
        (distances.memorisation, (1, 3), "no 2 neighbours"),
        (lambda a, b: distances.kernel(a, b, subset_size=6), (5, 9), "2 to 5, the smaller set's"),
        (lambda a, b: distances.inception_score(a, splits=6), (5, 5), "6 rows or more"),
    ],
)
def test_sets_too_small_are_refused(
    measure: Callable[[Tensor, Tensor], object], sizes: tuple[int, int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        measure(_rows(sizes[0], 3, 0), _rows(sizes[1], 3, 1))


def test_rows_that_are_not_finite_are_refused() -> None:
    spoiled = _rows(9, 3, 0)
    spoiled[4, 1] = torch.nan
    for measure in (distances.frechet, distances.kernel, distances.precision_recall):
        with pytest.raises(ValueError, match="fake holds numbers that are not finite"):
            measure(_rows(9, 3, 1), spoiled)
