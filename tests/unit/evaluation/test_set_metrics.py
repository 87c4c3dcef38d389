"""Metrics by their names: values, what they rest on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.evaluation.image_sets import Given, pictures, small_network
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.evaluation import distances, names
from ldmlab.evaluation.intervals import by_jackknife, of_mean, of_share
from ldmlab.evaluation.measurement import Judged, Measurement
from ldmlab.evaluation.pair_metrics import PAIR_METRICS
from ldmlab.evaluation.set_metrics import SET_METRICS


def _measurement(cache: Path, rows: int = 10_000, folds: int = 5) -> Measurement:
    quiet = lambda name: lambda done, total: None  # noqa: E731
    return Measurement(small_network, cache, 16, rows, folds, torch.device("cpu"), quiet)


def test_names_are_those_of_the_tables() -> None:
    assert set(SET_METRICS) == set(names.OF_SETS)
    assert set(PAIR_METRICS) == set(names.OF_PAIRS)
    assert {name.removeprefix("r") for name in names.OF_RECONSTRUCTIONS} <= set(SET_METRICS)


def test_set_metrics_are_the_distances_of_features_with_what_they_rest_on(tmp_path: Path) -> None:
    real, fake = Given(pictures(80, 0)), Given(pictures(60, 1))
    wanted = ["fid", "kid", "precision_recall", "density_coverage", "inception_score"]
    found = _measurement(tmp_path)(Judged(fake, real, drawn={"seed": 3}), wanted)
    rows = [small_network()(list(x.images))["features"] for x in (real, fake)]
    assert found["fid"]["value"] == pytest.approx(distances.frechet(*rows))
    assert found["kid"]["value"] == pytest.approx(distances.kernel(*rows)[0])
    both = found["precision"]["value"], found["recall"]["value"]
    assert both == pytest.approx(distances.precision_recall(*rows))
    assert found["coverage"]["value"] == pytest.approx(distances.density_coverage(*rows)[1])
    for entry in found.values():
        assert entry["samples"] == 60 and entry["seed"] == 3
        assert entry["network_sha256"] == "f" * 64 and "torch to 8 x 8" in entry["preprocessing"]
        low, high = entry["interval"]
        assert low - 1e-9 <= entry["value"] <= high + 1e-9
    assert found["fid"]["reference_sha"] == real.fingerprint()
    assert found["fid"]["reference_samples"] == 80
    folds = by_jackknife(
        lambda k: distances.frechet(rows[0], rows[1][k]), 60, found["fid"]["value"], 5
    )
    assert found["fid"]["interval"] == pytest.approx(folds)
    halves = distances.frechet(rows[0][::2], rows[0][1::2])
    assert (found["fid"]["floor"], found["fid"]["floor_rows"]) == (pytest.approx(halves), 40)
    assert "reference" not in found["inception_score"] and "floor" not in found["inception_score"]


def test_fid_of_few_kept_rows_is_that_of_all_moments(tmp_path: Path) -> None:
    real, fake = Given(pictures(80, 0)), Given(pictures(60, 1))
    found = _measurement(tmp_path, rows=20)(Judged(fake, real), ["fid", "kid"])
    rows = [small_network()(list(x.images))["features"] for x in (real, fake)]
    assert found["fid"]["value"] == pytest.approx(distances.frechet(*rows), rel=1e-6)
    assert found["kid"]["reference_rows"] == 20
    assert found["kid"]["value"] == pytest.approx(distances.kernel(rows[0][::4], rows[1])[0])


def test_kernel_distance_of_many_rows_has_an_interval_of_its_subsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldmlab.evaluation.set_metrics._SUBSET", 20)
    real, fake = Given(pictures(80, 0)), Given(pictures(45, 1))
    entry = _measurement(tmp_path)(Judged(fake, real), ["kid"])["kid"]
    rows = [small_network()(list(x.images))["features"] for x in (real, fake)]
    mean, _ = distances.kernel(*rows, subset_size=20)
    _, std = distances.kernel(*rows, subset_size=20, subsets=20)
    half = 1.959964 * std * (20 / 45) ** 0.5
    assert entry["value"] == pytest.approx(mean)
    assert entry["interval"] == pytest.approx((mean - half, mean + half))


def test_fid_of_a_set_with_itself_is_zero(tmp_path: Path) -> None:
    images = Given(pictures(40, 0))
    found = _measurement(tmp_path)(Judged(images, images), ["fid", "memorisation"])
    assert abs(found["fid"]["value"]) < 1e-8
    assert found["memorised"]["value"] == 1 and found["authentic"]["value"] == 0


def test_reconstructions_have_names_of_their_own(tmp_path: Path) -> None:
    images = Given(pictures(40, 0))
    darker = Given(images.images // 2)
    found = _measurement(tmp_path)(Judged(mirrored=darker, originals=images), ["rfid", "psnr"])
    assert set(found) == {"rfid", "psnr"}
    error = (images.images.double() - darker.images.double()).square().mean((1, 2, 3))
    assert found["psnr"]["value"] == pytest.approx(float((10 * (255**2 / error).log10()).mean()))


@pytest.mark.parametrize(
    ("judged", "wanted", "words"),
    [
        (Judged(), "fid", "need samples"),
        (Judged(Given(pictures(9, 0))), "fid", "need a reference"),
        (Judged(Given(pictures(9, 0))), "psnr", "need reconstructions"),
        (Judged(Given(pictures(3, 0)), Given(pictures(9, 1))), "precision_recall", "4 rows"),
        (
            Judged(mirrored=Given(pictures(3, 0)), originals=Given(pictures(4, 0))),
            "psnr",
            "has 3 images, given 4",
        ),
        (
            Judged(mirrored=Given(pictures(3, 0)), originals=Given(pictures(3, 0, 9))),
            "ssim",
            "pair 0 has 8 x 8 and 9 x 9 pixels",
        ),
        (
            Judged(mirrored=Given(pictures(3, 0)), originals=Given(pictures(3, 0))),
            "ms_ssim",
            "161 pixels",
        ),
    ],
)
def test_what_a_metric_lacks_is_named(
    judged: Judged, wanted: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        _measurement(tmp_path)(judged, [wanted])
    assert f"metrics=[{wanted}]" in str(refusal.value)


def _normal(count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_intervals_cover_the_truth_in_nineteen_of_twenty_cases() -> None:
    hits = {"mean": 0, "share": 0, "jackknife": 0}
    for seed in range(300):
        x = _normal(60, seed)
        intervals = {
            "mean": (of_mean(x.tolist()), 0.0),
            "share": (of_share(float((x < -0.8416212).double().mean()), 60), 0.2),
            # Of a mean the jackknife is exact in its centre, and has few folds in its width.
            "jackknife": (by_jackknife(lambda r, x=x: float(x[r].mean()), 60, float(x.mean()), 15),
                          0.0),
        }  # fmt: skip
        for name, (interval, truth) in intervals.items():
            assert interval is not None
            hits[name] += interval[0] <= truth <= interval[1]
    assert all(270 <= count <= 298 for count in hits.values()), hits


def test_intervals_of_too_little_are_none() -> None:
    assert of_mean([1.0]) is None
    assert by_jackknife(lambda rows: 0.0, 10, 0.0, 0) is None
    assert by_jackknife(lambda rows: 0.0, 3, 0.0, 2) is None
