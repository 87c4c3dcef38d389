"""Warnings come with what they warn of, and not without."""

from __future__ import annotations

import math

import pytest

from ldmlab.apps.report.findings import findings


def _run(name: str, values: list[float]) -> dict[int, dict[str, float]]:
    return {10 * k: {name: value} for k, value in enumerate(values)}


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("throughput/waiting_for_data", [0.5, 0.2, 0.5], "40% of the time"),
        ("throughput/waiting_for_data", [0.3, 0.2, 0.4], None),
        # The count begins anew with a second start.
        ("train/skipped_steps", [1, 3, 1, 2], "at least 5 steps"),
        ("val/loss", [1.0, 0.5, 0.6, 0.7], "val/loss rose from 0.5 at step 10 to 0.7"),
        ("val/loss", [1.0, 0.5, 0.7], None),
        ("val/loss", [1.0, 0.500, 0.501, 0.502], None),
        ("val/loss", [1.0, 0.9, 0.8, 0.7], None),
        ("val/psnr", [20.0, 25.0, 24.0, 24.0], "val/psnr fell from 25 at step 10 to 24"),
        ("val/psnr", [20.0, 21.0, 22.0, 23.0], None),
        ("train/loss", [1.0, math.nan], "not finite were logged of train/loss"),
    ],
)
def test_findings(name: str, values: list[float], said: str | None) -> None:
    found = findings(_run(name, values))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_nothing_logged_warns_of_nothing() -> None:
    assert findings({}) == []
