"""Metrics and preprocessing give the numbers on which two other implementations agree."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ldmlab.core.tensors import to_bytes, to_unit_range
from ldmlab.evaluation import distances, metrics
from ldmlab.evaluation.preprocessing import center_crop, resize
from tests.golden.metrics import recipe

FOLDER = Path(__file__).parent / "metrics"
CASES = json.loads((FOLDER / "cases.json").read_text())["cases"]
OF_ROWS = {
    "frechet", "kernel", "inception_score", "precision_recall", "density_coverage", "cmmd",
}  # fmt: skip


def _of_kind(*kinds: str) -> Any:
    chosen = [pytest.param(c, id=c["case"]) for c in CASES if c["kind"] in kinds]
    return pytest.mark.parametrize("case", chosen)


def _check(case: dict[str, Any], found: Any) -> None:
    values = found if isinstance(found, tuple | list) else [found]
    for value, (name, wanted) in zip(values, case["outputs"].items(), strict=False):
        expected = pytest.approx(wanted["value"], rel=wanted["rtol"], abs=wanted["atol"])
        assert float(value) == expected, name


def _rows(case: dict[str, Any]) -> list[Tensor]:
    sets = {name: torch.from_numpy(recipe.features(s)) for name, s in case["inputs"].items()}
    for name, rows in sets.items():
        stamp = [
            float(rows.flatten()[0]),
            float(rows.flatten()[-1]),
            float(rows.double().abs().sum()),
        ]
        assert stamp == pytest.approx(case["stamps"][name], rel=1e-6)
    return list(sets.values())


@_of_kind(*OF_ROWS)
def test_distances_of_rows_have_their_golden_values(case: dict[str, Any]) -> None:
    measure = getattr(distances, case["kind"])
    _check(case, measure(*_rows(case), **case.get("arguments", {})))


@_of_kind("frechet_from_moments")
def test_distances_of_gaussians_have_their_closed_form(case: dict[str, Any]) -> None:
    spec = case["inputs"]
    d, seed, zeros = spec["d"], spec["seed"], spec.get("zeros", 0)
    means = [recipe.normal(seed + k, d) for k in range(2)]
    stds = [recipe.uniform(seed + k, d) + 0.2 for k in (2, 3)]
    stds[0][:zeros], stds[1][d - zeros :] = 0, 0
    axes, _ = np.linalg.qr(recipe.normal(spec["rotation"], d, d))
    moments = [(mean, axes * std**2 @ axes.T) for mean, std in zip(means, stds, strict=True)]
    given = [torch.from_numpy(array) for pair in moments for array in pair]
    _check(case, distances.frechet_from_moments(*given))


@_of_kind("memorisation")
def test_memorisation_has_its_golden_values(case: dict[str, Any]) -> None:
    train, fake = _rows(case)
    found = distances.memorisation(train, fake, **case["arguments"])
    _check(case, (found, distances.authenticity(train, fake)))


@_of_kind("pair")
def test_pairs_of_images_have_their_golden_values(case: dict[str, Any]) -> None:
    specs = case["inputs"]["images"]
    originals, images = (
        torch.from_numpy(np.stack([make(spec) for spec in specs])).permute(0, 3, 1, 2)
        for make in (lambda spec: recipe.image(spec["of"]), recipe.distorted)
    )
    pair = to_unit_range(images), to_unit_range(originals)
    names = ["psnr", "ssim", *(["ms_ssim"] if case["arguments"]["ms_ssim"] else [])]
    assert list(case["outputs"]) == names
    _check(case, [getattr(metrics, name)(*pair).mean() for name in names])


@_of_kind("lpips_distance")
def test_lpips_of_layers_has_its_golden_values(case: dict[str, Any]) -> None:
    layers = [[torch.from_numpy(x) for x in recipe.trunk(s)] for s in case["inputs"].values()]
    # The package itself takes seconds to import.
    package = next(iter(find_spec("lpips").submodule_search_locations))  # type: ignore
    file = Path(package) / "weights" / "v0.1" / f"{case['arguments']['net']}.pth"
    state = torch.load(file, map_location="cpu", weights_only=True)
    heads = [state[f"lin{k}.model.1.weight"] for k in range(len(layers[0]))]
    _check(case, list(metrics.lpips_distance(*layers, heads)))


@_of_kind("segmentation")
def test_label_maps_have_their_golden_values(case: dict[str, Any]) -> None:
    predicted, truth = map(torch.from_numpy, recipe.maps(case["inputs"]))
    _check(case, metrics.segmentation(predicted, truth, **case["arguments"]))


@_of_kind("resize")
def test_resized_images_have_their_golden_levels(case: dict[str, Any]) -> None:
    arguments, stored = case["arguments"], np.load(FOLDER / case["file"])
    image = torch.from_numpy(recipe.image(case["inputs"]["image"])).permute(2, 0, 1)[None]
    for how in arguments["hows"]:
        found = resize(image, arguments["size"], how)[0].permute(1, 2, 0).double().numpy()
        if "probe" in arguments:
            rows, columns = recipe.integers(arguments["probe"], arguments["size"], 64, 2).T
            found = found[rows, columns]
        assert np.abs(found - stored[how]).max() <= case["outputs"][how]["atol"], how


@_of_kind("center_crop")
def test_cropped_images_have_their_golden_levels(case: dict[str, Any]) -> None:
    found = center_crop(recipe.image(case["inputs"]["image"]), case["arguments"]["size"])
    wanted = np.load(FOLDER / case["file"])["out"]
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= case["outputs"]["out"]["atol"]


@_of_kind("to_bytes")
def test_bytes_are_rounded(case: dict[str, Any]) -> None:
    found = to_bytes(torch.from_numpy(recipe.pixels(case["inputs"]))).numpy().astype(int)
    difference = np.abs(found - np.load(FOLDER / case["file"])["round"].astype(int))
    halves = case["inputs"]["halves"]
    assert difference[:halves].max() <= 1
    assert not difference[halves:].any()
