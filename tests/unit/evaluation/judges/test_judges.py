"""Judges of one's own images: what they learn, what they see, and which sets they tell apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.evaluation.image_sets import Given
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.evaluation.judges.class_accuracy import class_accuracy
from ldmlab.evaluation.judges.network import Judge, load_judge, write_judge
from ldmlab.evaluation.judges.training import JudgeTrainer
from ldmlab.evaluation.measurement import Judged, Measurement
from ldmlab.evaluation.statistics import statistics

CPU = torch.device("cpu")
NAMES = ("across", "along", "spot")


def _shapes(count: int, seed: int, kinds: tuple[int, ...] = (0, 1, 2)) -> Given:
    """Bright bars that lie or stand, or spots, somewhere on dark noise, 16 x 16."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([kinds[k % len(kinds)] for k in range(count)])
    images = torch.randint(0, 40, (count, 3, 16, 16), generator=generator)
    for image, kind in zip(images, labels.tolist(), strict=True):
        y, x = torch.randint(3, 11, (2,), generator=generator).tolist()
        light = int(torch.randint(150, 216, (1,), generator=generator))
        height, width = ((2, 10), (10, 2), (4, 4))[kind]
        top, left = min(y, 15 - height), min(x, 15 - width)
        image[:, top : top + height, left : left + width] += light
    return Given(images.to(torch.uint8), labels, NAMES)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    trainer = JudgeTrainer(max_steps=60, batch_size=32)
    body, facts = trainer(_shapes(300, 0), _shapes(90, 1), CPU, lambda done, total: None)
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    write_judge(path, body, facts)
    return load_judge(path)


def _measured(judge: Judge, cache: Path, samples: Given, *wanted: str) -> dict[str, float]:
    quiet = lambda name: lambda done, total: None  # noqa: E731
    measure = Measurement(lambda name: judge, cache, 64, 10_000, 0, CPU, quiet)
    found = measure(Judged(samples, _shapes(200, 2)), wanted)
    return {name: entry["value"] for name, entry in found.items()}


def test_judge_names_what_it_has_learned(judge: Judge) -> None:
    assert judge.facts.held_out_accuracy >= 0.9
    assert (judge.facts.task, judge.facts.classes) == ("classes", NAMES)
    assert (judge.facts.trained_on, judge.facts.held_out) == (300, 90)
    others = _shapes(90, 5)
    found = judge(list(others.images))["logits"].argmax(1)
    assert float((found == others.labels).double().mean()) >= 0.9


def _blurred(images: Given) -> Given:
    soft = torch.nn.functional.avg_pool2d(images.images.float(), 5, 1, 2)
    return Given(soft.to(torch.uint8), images.labels, NAMES)


def test_worse_sets_are_ranked_below_by_the_metrics_that_see_it(
    judge: Judge, tmp_path: Path
) -> None:
    good = _shapes(150, 3)
    mislabelled = Given(good.images, (good.labels + 1) % 3, NAMES)  # type: ignore[operator]
    sets = {"good": good, "blurred": _blurred(good), "dropped": _shapes(150, 3, (0, 2)),
            "mislabelled": mislabelled}  # fmt: skip
    wanted = ("fd_judge", "kd_judge", "precision_recall_judge", "class_accuracy")
    found = {
        name: _measured(judge, tmp_path / name, images, *wanted) for name, images in sets.items()
    }
    for worse in ("blurred", "dropped"):
        assert found[worse]["fd_judge"] > 2 * found["good"]["fd_judge"]
        assert found[worse]["kd_judge"] > 2 * max(0, found["good"]["kd_judge"])
    assert found["blurred"]["precision_judge"] < found["good"]["precision_judge"] - 0.2
    assert found["dropped"]["recall_judge"] < found["good"]["recall_judge"] - 0.2
    assert found["dropped"]["precision_judge"] > found["good"]["precision_judge"] - 0.1
    assert found["good"]["class_accuracy"] >= 0.9
    assert found["mislabelled"]["class_accuracy"] <= 0.1
    # Labels are no part of the pixels.
    assert found["mislabelled"]["fd_judge"] == pytest.approx(found["good"]["fd_judge"])


def test_judge_without_classes_learns_which_way_is_up() -> None:
    # Bars only lie in the lower half.
    def lying(count: int, seed: int) -> Given:
        images = _shapes(count, seed, (0,)).images
        images[:, :, :8] = images[:, :, :8].clamp(max=39)
        images[:, :, 13:] = 120
        return Given(images)

    trainer = JudgeTrainer(max_steps=60, batch_size=32)
    _, facts = trainer(lying(200, 0), lying(50, 1), CPU, lambda done, total: None)
    assert (facts.task, len(facts.classes)) == ("rotations", 4)
    assert facts.held_out_accuracy >= 0.9


def test_same_seed_gives_the_same_judge_and_leaves_the_global_generator() -> None:
    state = torch.get_rng_state()
    found: list[Tensor] = []
    for seed in (0, 0, 1):
        trainer = JudgeTrainer(max_steps=2, batch_size=4, seed=seed)
        body, _ = trainer(_shapes(9, 0), _shapes(9, 1), CPU, lambda done, total: None)
        found.append(body.head.weight.detach().clone())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(state, torch.get_rng_state())


def test_judges_of_other_data_or_numbers_have_other_names() -> None:
    train, held_out = _shapes(9, 0), _shapes(9, 1)
    usual = JudgeTrainer().identity(train, held_out)
    assert usual == JudgeTrainer().identity(_shapes(9, 0), _shapes(9, 1))
    others = [
        JudgeTrainer(max_steps=7).identity(train, held_out),
        JudgeTrainer(seed=1).identity(train, held_out),
        JudgeTrainer().identity(held_out, train),
        JudgeTrainer().identity(Given(train.images, train.labels, ("a", "b", "c")), held_out),
    ]
    assert len({usual, *others}) == 5


def test_class_accuracy_finds_classes_by_name(judge: Judge, tmp_path: Path) -> None:
    good = _shapes(60, 3)
    assert good.labels is not None
    turned = Given(good.images, 2 - good.labels, NAMES[::-1])
    seen = statistics(turned, [judge], tmp_path)["judge"]
    entry = class_accuracy(judge, turned, seen)
    assert entry["value"] >= 0.9 and entry["chance"] == pytest.approx(1 / 3, abs=0.02)
    strange = Given(good.images, good.labels, ("across", "along", "cross"))
    with pytest.raises(UserError, match="has the class cross, which the judge does not know"):
        class_accuracy(judge, strange, seen)
    bare = Given(good.images)
    seen = statistics(bare, [judge], tmp_path / "bare")["judge"]
    with pytest.raises(UserError, match="needs classes, and given has none"):
        class_accuracy(judge, bare, seen)


def test_file_that_is_no_judge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for path in (tmp_path / "x.safetensors", tmp_path / "none"):
        with pytest.raises(UserError, match=r"networks.judge=.* is no judge .*train_judge=true"):
            load_judge(path)
