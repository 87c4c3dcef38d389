"""The notebooks run as they stand, and what they show is true."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
STORED = sorted(NOTEBOOKS.glob("*.ipynb"))


def _cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def _run(path: Path) -> dict[str, Any]:
    """Every code cell in one namespace: no kernel to start, and shapes are checked."""
    scope: dict[str, Any] = {"__name__": path.stem}
    for cell in _cells(path):
        exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), scope)
    return scope


@pytest.fixture(scope="module")
def course() -> dict[str, Any]:
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(), torch.random.fork_rng(), warnings.catch_warnings():
        plt.switch_backend("Agg")
        warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive")
        scope = _run(NOTEBOOKS / "01_ddpm.ipynb")
        plt.close("all")
    return scope


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_notebook_outputs_are_small_and_clean(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 200_000, "clear the outputs, or store the figures with a palette"
    assert not re.search(r"/(home|root|tmp|Users|work|mnt)/", text)
    for cell in _cells(path):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"


def test_notebook_schedules_end_at_known_alpha_bar(course: dict[str, Any]) -> None:
    end = course["alpha_bar_end"]
    assert end["linear"] == pytest.approx(4.0358e-5, rel=1e-4)
    assert end["scaled_linear"] == pytest.approx(1.4230e-4, rel=1e-4)
    assert end["rectified_flow"] == 0 and end["karras_ve"] == 1


def test_notebook_reverse_step_matches_bayes_rule(course: dict[str, Any]) -> None:
    assert course["posterior_error"] < 1e-5
    right, posterior, wrong = course["chain_std"].values()
    assert right == pytest.approx(1, abs=1e-3)
    assert posterior == pytest.approx(1, abs=0.01)
    assert wrong < 0.1


def test_notebook_vlb_equals_the_entropy(course: dict[str, Any]) -> None:
    for (_, s), (bound, entropy) in course["bounds"].items():
        assert entropy == pytest.approx(0.5 * math.log(2 * math.pi * math.e * s * s))
        if s == 1:
            assert bound == pytest.approx(entropy, abs=1e-8)
        else:
            assert 0 < bound - entropy < 2e-3


def test_notebook_samples_match_the_data(course: dict[str, Any]) -> None:
    data = course["train"]
    for name, x in {**course["samples"], "flow": course["flow_samples"]}.items():
        assert float((x.mean(0) - data.mean(0)).abs().max()) < 0.15, name
        assert float((x.std(0) - data.std(0)).abs().max()) < 0.15, name
        assert float(torch.cdist(x, data).min(1).values.mean()) < 0.1, name


def test_notebook_likelihoods_integrate_to_one(course: dict[str, Any]) -> None:
    assert course["mass"] == pytest.approx(1, abs=0.05)
    assert course["nll"] < course["vlb"] < 2.5 < 2 * 1.41894


def test_notebook_flow_error_at_few_steps_is_smaller(course: dict[str, Any]) -> None:
    missed = course["few_errors"]
    for steps in (5, 10, 20):
        assert missed["flow", steps] < missed["linear", steps]


def test_notebook_images_have_the_brightness_of_the_data(course: dict[str, Any]) -> None:
    images, pictures = course["images"], course["pictures"]
    assert pictures.shape == (20, 1, 8, 8)
    assert float(pictures.mean()) == pytest.approx(float(images.mean()), abs=0.15)
    assert float(pictures.std()) == pytest.approx(float(images.std()), abs=0.2)
