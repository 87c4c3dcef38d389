"""The notebooks run as they stand, and what they show is true."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
STORED = sorted(NOTEBOOKS.glob("*.ipynb"))


def _cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def _run(path: Path, changes: dict[str, str]) -> dict[str, Any]:
    """Every code cell in one namespace: no kernel to start, and shapes are checked."""
    scope: dict[str, Any] = {"__name__": path.stem}
    for cell in _cells(path):
        source = "".join(cell["source"])
        for old, new in changes.items():
            source = source.replace(old, new)
        exec(compile(source, f"{path.name}:{cell['id']}", "exec"), scope)
    return scope


def _shown(name: str, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """What a notebook has computed at its end, some of its numbers changed."""
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(), torch.random.fork_rng(), warnings.catch_warnings():
        plt.switch_backend("Agg")
        warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive")
        scope = _run(NOTEBOOKS / name, changes or {})
        plt.close("all")
    return scope


@pytest.fixture(scope="module")
def course() -> dict[str, Any]:
    return _shown("01_ddpm.ipynb")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_notebook_outputs_are_small_and_clean(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 200_000, "clear the outputs, or store the figures with a palette"
    assert not re.search(r"/(home|root|tmp|Users|work|mnt)/", text)
    for cell in _cells(path):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"


@pytest.mark.slow
def test_notebook_schedules_end_at_known_alpha_bar(course: dict[str, Any]) -> None:
    end = course["alpha_bar_end"]
    assert end["linear"] == pytest.approx(4.0358e-5, rel=1e-4)
    assert end["scaled_linear"] == pytest.approx(1.4230e-4, rel=1e-4)
    assert end["rectified_flow"] == 0 and end["karras_ve"] == 1


@pytest.mark.slow
def test_notebook_reverse_step_matches_bayes_rule(course: dict[str, Any]) -> None:
    assert course["posterior_error"] < 1e-5
    right, posterior, wrong = course["chain_std"].values()
    assert right == pytest.approx(1, abs=1e-3)
    assert posterior == pytest.approx(1, abs=0.01)
    assert wrong < 0.1


@pytest.mark.slow
def test_notebook_vlb_equals_the_entropy(course: dict[str, Any]) -> None:
    for (_, s), (bound, entropy) in course["bounds"].items():
        assert entropy == pytest.approx(0.5 * math.log(2 * math.pi * math.e * s * s))
        if s == 1:
            assert bound == pytest.approx(entropy, abs=1e-8)
        else:
            assert 0 < bound - entropy < 2e-3


@pytest.mark.slow
def test_notebook_samples_match_the_data(course: dict[str, Any]) -> None:
    data = course["train"]
    for name, x in {**course["samples"], "flow": course["flow_samples"]}.items():
        assert float((x.mean(0) - data.mean(0)).abs().max()) < 0.15, name
        assert float((x.std(0) - data.std(0)).abs().max()) < 0.15, name
        assert float(torch.cdist(x, data).min(1).values.mean()) < 0.1, name


@pytest.mark.slow
def test_notebook_likelihoods_integrate_to_one(course: dict[str, Any]) -> None:
    assert course["mass"] == pytest.approx(1, abs=0.05)
    assert course["nll"] < course["vlb"] < 2.5 < 2 * 1.41894


@pytest.mark.slow
def test_notebook_flow_error_at_few_steps_is_smaller(course: dict[str, Any]) -> None:
    missed = course["few_errors"]
    for steps in (5, 10, 20):
        assert missed["flow", steps] < missed["linear", steps]


@pytest.mark.slow
def test_notebook_images_have_the_brightness_of_the_data(course: dict[str, Any]) -> None:
    images, pictures = course["images"], course["pictures"]
    assert pictures.shape == (20, 1, 8, 8)
    assert float(pictures.mean()) == pytest.approx(float(images.mean()), abs=0.15)
    assert float(pictures.std()) == pytest.approx(float(images.std()), abs=0.2)


def test_the_latent_notebook_runs_from_end_to_end() -> None:
    few = {
        "num_samples=2000": "num_samples=64",
        "max_steps=300": "max_steps=4",
        "max_steps=250": "max_steps=4",
        "val_check_interval=150": "val_check_interval=4",
        "val_check_interval=125": "val_check_interval=4",
        '"ddpm": 100': '"ddpm": 4',
    }
    scope = _shown("02_latent_diffusion.ipynb", few)
    assert (scope["experiment"].autoencoder_module.step, scope["diffusion"].step) == (4, 4)
    assert scope["kept"]


@pytest.fixture(scope="module")
def latent() -> dict[str, Any]:
    return _shown("02_latent_diffusion.ipynb")


@pytest.mark.slow
def test_the_latent_models_shown_have_learned(latent: dict[str, Any]) -> None:
    assert latent["experiment"].autoencoder_module.step == 300
    assert latent["diffusion"].step == 250
    assert latent["psnr"] > 23
    assert 0.2 < latent["loss"] < 0.7
    assert float(latent["latents"].std()) == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_the_prompts_shown_decide_what_is_seen(latent: dict[str, Any]) -> None:
    day, night, desert, snow = (np.stack(pictures) for pictures in latent["by_prompt"])
    assert day.mean() > night.mean() + 30
    assert snow[:, 16:].mean() > day[:, 16:].mean() > night[:, 16:].mean()
    ground = desert[:, 16:].mean((0, 1, 2))
    assert ground[0] > ground[2] + 50, "a desert is not blue"
    assert latent["darkness"][0] < min(latent["darkness"][1:])


@pytest.mark.slow
def test_the_pictures_shown_keep_what_they_were_told_to(latent: dict[str, Any]) -> None:
    assert latent["change"] == sorted(latent["change"])
    assert latent["kept"]
    grounds = [np.asarray(picture)[16:].mean((0, 1)) for picture in latent["painted"]]
    assert grounds[1].min() > 120, "snow is bright"
    assert grounds[2][0] > grounds[2][2] > 0 and grounds[3][2] > grounds[3][0]
