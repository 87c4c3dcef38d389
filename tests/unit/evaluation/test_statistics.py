"""Statistics of sets of images: moments, parts, processes, and what a second start finds."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from tests.unit.evaluation.image_sets import Given, pictures, small_network

from ldmlab.core.errors import UserError
from ldmlab.evaluation import statistics as module
from ldmlab.evaluation.statistics import Statistics, statistics


def _same(a: Statistics, b: Statistics) -> bool:
    return all(
        torch.equal(getattr(a.outputs[name], part), getattr(b.outputs[name], part))
        for name in a.outputs
        for part in ("mean", "cov", "kept")
    )


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 10)
    monkeypatch.setattr(module, "_NAP", 0.01)


def test_moments_are_those_of_all_rows_in_float64(tmp_path: Path) -> None:
    images = Given(pictures(47, 0), torch.arange(47) % 3)
    network = small_network()
    found = statistics(images, [network], tmp_path, keep=20, batch_size=4)["inception"]
    rows = network(list(images.images))["features"]
    features = found.outputs["features"]
    torch.testing.assert_close(features.mean, rows.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(features.cov, rows.double().T.cov(), rtol=1e-9, atol=1e-9)
    chosen = [i * 47 // 20 for i in range(20)]
    torch.testing.assert_close(features.kept, rows[chosen])
    assert features.count == 47
    assert found.labels is not None and found.labels.tolist() == [i % 3 for i in chosen]


def test_moments_far_from_zero_keep_their_digits(tmp_path: Path) -> None:
    network = small_network()
    network.mean -= 1e4  # type: ignore[operator]
    images = Given(pictures(47, 0))
    found = statistics(images, [network], tmp_path)["inception"].outputs["features"]
    near = statistics(images, [small_network("other")], tmp_path)["other"].outputs["features"]
    torch.testing.assert_close(found.cov, near.cov, rtol=1e-4, atol=1e-3)


def test_second_start_reads_no_image(tmp_path: Path) -> None:
    images = Given(pictures(25, 0))
    first = statistics(images, [small_network()], tmp_path)
    assert images.reads == 25
    second = statistics(images, [small_network()], tmp_path)
    assert images.reads == 25
    assert _same(first["inception"], second["inception"])
    # Another network, other images, another count of rows: each is measured.
    statistics(images, [small_network("dinov2")], tmp_path)
    statistics(images, [small_network()], tmp_path, keep=5)
    assert images.reads == 75
    others = Given(pictures(25, 1))
    statistics(others, [small_network()], tmp_path)
    assert others.reads == 25
    # One pass serves several networks.
    both = Given(pictures(25, 2))
    statistics(both, [small_network(), small_network("clip")], tmp_path)
    assert both.reads == 25


def test_killed_start_goes_on_where_it_was(tmp_path: Path) -> None:
    class Dying(Given):
        def read(self, rows: range) -> module.ImageSet:  # type: ignore[override]
            if rows.start >= 20:
                raise KeyboardInterrupt
            return super().read(rows)  # type: ignore[return-value]

    dying, images = Dying(pictures(47, 0)), Given(pictures(47, 0))
    with pytest.raises(KeyboardInterrupt):
        statistics(dying, [small_network()], tmp_path)
    found = statistics(images, [small_network()], tmp_path)["inception"]
    assert images.reads == 27
    whole = statistics(images, [small_network()], tmp_path / "other")["inception"]
    assert _same(found, whole)


def _one_of_two(rank: int, cache: Path) -> None:
    module.PART, module._NAP = 10, 0.01
    torch.set_num_threads(1)
    images = Given(pictures(47, 0))
    found = statistics([images][0], [small_network()], cache, rank=rank, world=2)
    torch.save((found["inception"].outputs["features"].cov, images.reads), cache / f"{rank}.pt")


def test_two_processes_give_the_bits_of_one_and_read_each_image_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_one_of_two, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    one = statistics(Given(pictures(47, 0)), [small_network()], tmp_path / "one")["inception"]
    told = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for cov, _ in told:
        assert torch.equal(cov, one.outputs["features"].cov)
    assert [reads for _, reads in told] == [27, 20]


def test_dead_process_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    with pytest.raises(UserError, match="another process has died"):
        statistics(Given(pictures(47, 0)), [small_network()], tmp_path, rank=0, world=2)


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = small_network()
    network.std *= 0  # type: ignore[operator]
    with pytest.raises(UserError, match="inception gives features that are not finite for given"):
        statistics(Given(pictures(5, 0)), [network], tmp_path)
