"""Clipped gradients, and steps that are left out."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.training.toys import Line, fit
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from ldmlab.core.errors import UserError
from ldmlab.core.random import Noise
from ldmlab.core.records import Batch
from ldmlab.training.callbacks.gradients import GradientGuard
from ldmlab.training.optimizers.lr_schedules import constant
from ldmlab.training.step_module import StepTerms


class _Pair(Line):
    """Two networks, the second's gradient ten times the first's, (0.5, 1) and (5, 10)."""

    trained = ("network", "steep")

    def __init__(self) -> None:
        super().__init__()
        self.steep = nn.Linear(2, 1, bias=False)

    def configure_optimizers(self) -> Any:
        networks = (self.network, self.steep)
        return [self.scheduled(SGD(n.parameters(), lr=1.0), constant(1)) for n in networks]

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        loss = super().terms(batch, noise).total
        assert batch.image is not None
        both = loss + 10 * self.steep(batch.image.flatten(1)).mean()
        return StepTerms(both, {"loss": both}, num_active_optimizers=2)


class _Failing(Line):
    """A normalised network whose loss is no number at some steps."""

    def __init__(self, max_steps: int, failing: set[int]) -> None:
        super().__init__(max_steps)
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        self.failing = failing
        self.seen: list[dict[str, Tensor]] = []

    def optimizer(self) -> Optimizer:
        return Adam(self.network.parameters(), lr=0.1)

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        self.seen.append(copy.deepcopy(self.network.state_dict()))
        loss = super().terms(batch, noise).total
        return StepTerms(loss * (math.nan if self.step in self.failing else 1), {"loss": loss})


@pytest.mark.parametrize(
    ("clip_norm", "share"), [(0.5, 0.5 / math.sqrt(1.25)), (2.0, 1.0), (None, 1.0)]
)
def test_gradient_is_clipped_to_its_norm(
    tmp_path: Path, clip_norm: float | None, share: float
) -> None:
    module = Line()
    trainer = fit(module, [GradientGuard(clip_norm, 1, tmp_path)])
    # From (1, 1) along the gradient (0.5, 1), whose norm is the root of 1.25.
    torch.testing.assert_close(module.weight, 1 - share * torch.tensor([0.5, 1.0]))
    assert float(trainer.callback_metrics["grad_norm/network"]) == pytest.approx(math.sqrt(1.25))


def test_each_optimizer_is_clipped_by_all_of_its_own_gradients(tmp_path: Path) -> None:
    module = _Pair()
    before = module.steep.weight.detach().clone()
    trainer = fit(module, [GradientGuard(2.0, 1, tmp_path)])
    torch.testing.assert_close(module.weight, torch.tensor([0.5, 0.0]))
    moved = (module.steep.weight.detach() - before).flatten()
    torch.testing.assert_close(moved, -2 * torch.tensor([0.5, 1.0]) / math.sqrt(1.25))
    norms = [float(trainer.callback_metrics[f"grad_norm/{name}"]) for name in module.trained]
    assert norms == pytest.approx([math.sqrt(1.25), 10 * math.sqrt(1.25)])
    # Weights and biases are clipped as one: the step of all of them has the norm asked for.
    one, descent = _Failing(1, set()), SGD
    one.optimizer = lambda: descent(one.network.parameters(), lr=1.0)  # type: ignore[method-assign]
    fit(one, [GradientGuard(1e-3, 1, tmp_path)])
    start = one.seen[0]
    step = [p.detach() - start[name] for name, p in one.network.named_parameters()]
    assert float(torch.cat([part.flatten() for part in step]).norm()) == pytest.approx(
        1e-3, rel=1e-3
    )


def test_skipped_step_changes_nothing(tmp_path: Path) -> None:
    module = _Failing(6, {2, 3})
    guard = GradientGuard(1.0, 3, tmp_path)
    trainer = fit(module, [guard])
    seen = module.seen
    for name in seen[2]:
        assert torch.equal(seen[3][name], seen[2][name]), name
        assert torch.equal(seen[4][name], seen[2][name]), name
    assert not torch.equal(seen[5]["0.weight"], seen[4]["0.weight"])
    assert module.step == 6 and guard.skipped == 2
    assert float(trainer.callback_metrics["train/skipped_steps"]) == 2
    # The optimiser has seen the four others only.
    assert {float(s["step"]) for s in trainer.optimizers[0].state.values()} == {4.0}
    assert int(module.network.state_dict()["1.num_batches_tracked"]) == 4


def test_too_many_skipped_steps_in_a_row_end_training(tmp_path: Path) -> None:
    fit(_Failing(8, {1, 2, 4, 5, 7}), [GradientGuard(1.0, 3, tmp_path)])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="3 steps in a row, to step 6"):
        fit(_Failing(8, {1, 3, 4, 5}), [GradientGuard(1.0, 3, tmp_path)])
    (kept,) = tmp_path.iterdir()
    content = torch.load(kept)
    assert content["step"] == 6 and content["batch"]["image"].shape == (4, 2, 1, 1)
