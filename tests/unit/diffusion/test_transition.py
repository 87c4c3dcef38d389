"""Transitions against the conditional law of jointly normal variables."""

from __future__ import annotations

import pytest
import torch

from ldmlab.diffusion.schedule import KarrasVE, RectifiedFlow, Schedule, cosine, from_betas
from ldmlab.diffusion.transition import transition, transitions


@pytest.mark.parametrize("schedule", [cosine(), RectifiedFlow(), KarrasVE(sigma_max=5.0)])
@pytest.mark.parametrize(("t", "s"), [(0.7, 0.4), (0.3, 0.29)])
def test_transition_is_the_conditional_of_the_joint_law(
    schedule: Schedule, t: float, s: float
) -> None:
    times = torch.tensor([t, s], dtype=torch.float64)
    step = transition(schedule, times[:1], times[1:])
    alpha, sigma = schedule.level(times).alpha, schedule.level(times).sigma
    # Covariance of (x0, x_s, x_t) for x0 ~ N(0, 1), where x_t depends on x0 through x_s alone.
    ratio = alpha[0] / alpha[1]
    joint = torch.tensor(
        [
            [1, alpha[1], alpha[0]],
            [alpha[1], alpha[1] ** 2 + sigma[1] ** 2, ratio * (alpha[1] ** 2 + sigma[1] ** 2)],
            [alpha[0], ratio * (alpha[1] ** 2 + sigma[1] ** 2), alpha[0] ** 2 + sigma[0] ** 2],
        ],
        dtype=torch.float64,
    )
    forward = joint[2, 1] / joint[1, 1]
    assert float(step.ratio) == pytest.approx(float(forward))
    rest = joint[2, 2] - joint[2, 1] ** 2 / joint[1, 1]
    assert float(step.variance) == pytest.approx(float(rest), rel=1e-6)
    given = joint[[0, 2]][:, [0, 2]]
    weights = torch.linalg.solve(given, joint[[0, 2], 1])
    assert [float(step.signal), float(step.keep)] == pytest.approx(weights.tolist(), rel=1e-6)
    left = joint[1, 1] - joint[1, [0, 2]] @ weights
    assert float(step.posterior_variance) == pytest.approx(float(left), rel=1e-6)


def test_transitions_are_between_neighbours_in_their_order() -> None:
    schedule = from_betas([0.36, 0.75])
    step = transitions(schedule, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    assert step.variance.tolist() == pytest.approx([0.75, 0.36])
    assert step.ratio.square().tolist() == pytest.approx([0.25, 0.64])
    # beta (1 - alpha_bar before) / (1 - alpha_bar): .75 * .36 / .84, and 0 at the data.
    assert step.posterior_variance.tolist() == pytest.approx([0.75 * 0.36 / 0.84, 0.0])
    assert step.start.sigma.square().tolist() == pytest.approx([0.84, 0.36])
    assert step.end.sigma.square().tolist() == pytest.approx([0.36, 0.0])
