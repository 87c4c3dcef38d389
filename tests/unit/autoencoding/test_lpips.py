"""The published perceptual term without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ldmlab.autoencoding.lpips import LPIPS
from ldmlab.core.errors import UserError


def test_missing_lpips_trunk_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match="perceptual=vistas") as refusal:
        LPIPS("squeeze")
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


@pytest.fixture
def distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LPIPS:
    """LPIPS over a trunk of random weights, found where the download would put it."""
    import torchvision

    torch.manual_seed(0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.squeezenet1_1(weights=None).state_dict()
    name = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "checkpoints" / name)
    return LPIPS("squeeze")


def _published(distance: LPIPS, tmp_path: Path, x: Tensor, y: Tensor) -> Tensor:
    """Zhang et al. (2018), equation 1, on torchvision's trunk and its own pixels."""
    import torchvision

    trunk = torchvision.models.squeezenet1_1(weights=None)
    trunk.load_state_dict(torch.load(next((tmp_path / "hub" / "checkpoints").iterdir())))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x, y = (((image + 1) / 2 - mean) / std for image in (x, y))
    total, taps = torch.zeros(len(x)), iter(distance.distance.lins)
    for k, layer in enumerate(trunk.features):
        x, y = layer(x), layer(y)
        if k in (1, 4, 7, 9, 10, 11, 12):
            apart = (F.normalize(x) - F.normalize(y)).square()
            total = total + F.conv2d(apart, next(taps).model[1].weight).mean((1, 2, 3))
    return total


def test_lpips_matches_the_published_distance(distance: LPIPS, tmp_path: Path) -> None:
    x, y = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    got = distance(x, y)
    assert got.shape == (2, 1, 1, 1)
    # The package rounds the trunk's constants to three digits.
    want = _published(distance, tmp_path, x, y)
    torch.testing.assert_close(got.flatten(), want, rtol=5e-3, atol=0)
    assert float(distance(x, x).abs().max()) == 0


def test_lpips_is_frozen_in_evaluation_mode(distance: LPIPS) -> None:
    distance.train()
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
