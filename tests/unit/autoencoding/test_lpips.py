"""The published perceptual term without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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


def test_lpips_matches_the_published_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.squeezenet1_1(weights=None).state_dict()
    name = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "checkpoints" / name)
    distance = LPIPS("squeeze")
    distance.train()
    assert not any(module.training for module in distance.modules())
    x, y = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    assert distance(x, y).shape == (2, 1, 1, 1)
    assert float(distance(x, x).abs().max()) == 0
    assert bool((distance(x, y) > 0).all())
