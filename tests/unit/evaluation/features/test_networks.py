"""Feature networks: their files, what they are refused for, and what they compute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ldmlab.core.errors import UserError
from ldmlab.evaluation.features import inception as module
from ldmlab.evaluation.features.inception import InceptionBody, inception
from ldmlab.evaluation.features.network import FeatureNetwork
from ldmlab.evaluation.features.transformers import clip, dinov2


def _bytes(count: int, height: int = 20, width: int = 24) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, height, width)
    return list(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))


class _Flat(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x.flatten(1)}


def test_network_sees_resized_and_shifted_bytes_of_any_sizes() -> None:
    network = FeatureNetwork("n", _Flat(), "0", 8, "torch", [100.0, 0, 0], [2.0, 1, 1])
    mixed = [*_bytes(2), *_bytes(1, 9, 30)]
    found = network(mixed)["features"].reshape(3, 3, 8, 8)
    for image, row in zip(mixed, found, strict=True):
        wanted = interpolate(image[None].float(), (8, 8), mode="bilinear")[0]
        wanted[0] = (wanted[0] - 100) / 2
        torch.testing.assert_close(row, wanted)
    assert not network.train().training


@pytest.fixture(scope="module")
def body() -> InceptionBody:
    torch.manual_seed(0)
    body = InceptionBody().eval()
    for part in body.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return body


def test_inception_pools_without_its_padding_and_last_by_the_highest(body: InceptionBody) -> None:
    """The two ways in which TensorFlow's network differs from torchvision's."""
    x = torch.randn(1, 192, 35, 35)
    block: Any = body.network.Mixed_5b
    average = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    with torch.no_grad():
        torch.testing.assert_close(block(x)[:, -32:], block.branch_pool(average))
        y = torch.randn(1, 2048, 8, 8)
        last: Any = body.network.Mixed_7c
        highest = nn.functional.max_pool2d(y, 3, 1, 1)
        torch.testing.assert_close(last(y)[:, -192:], last.branch_pool(highest))


@pytest.mark.slow
def test_inception_gives_what_its_tables_are_called(
    body: InceptionBody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "inception.pth"
    torch.save(body.network.state_dict(), file)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    network = inception(str(file))
    found = network(_bytes(2))
    shapes = {name: tuple(rows.shape) for name, rows in found.items()}
    assert shapes == {"features": (2, 2048), "spatial": (2, 2023), "logits": (2, 1008)}
    unbiased = found["features"] @ body.network.fc.weight.detach().T
    torch.testing.assert_close(found["logits"], unbiased)
    assert network.fingerprint == module.SHA256
    assert "tf1 to 299 x 299" in network.preprocessing


def test_inception_of_other_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "inception_v3.pth"
    file.write_bytes(b"torchvision's")
    with pytest.raises(UserError, match=r"is not the Inception network of FID.*6726825d") as told:
        inception(str(file))
    assert str(file) in str(told.value)
    with pytest.raises(UserError, match=r"networks.inception=nowhere.pth is no file"):
        inception("nowhere.pth")


def test_inception_without_a_net_names_its_file_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*rest: Any, **options: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(UserError) as told:
        inception()
    assert f"put that file at {tmp_path}/checkpoints/{name}" in str(told.value)
    assert "networks.inception=<file>" in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(UserError, match=r"https://x.org/mine.pth cannot be fetched"):
        inception("https://x.org/mine.pth")
    # A file that lies there already is not fetched.
    (tmp_path / "checkpoints" / "mine.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="is not the Inception network"):
        inception("https://x.org/mine.pth")


def _tiny(kind: str, folder: Path) -> Any:
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, image_size=28))
    else:
        config = transformers.CLIPVisionConfig(
            **sizes, intermediate_size=16, image_size=28, projection_dim=6
        )
        model = transformers.CLIPVisionModelWithProjection(config)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize(("make", "kind"), [(dinov2, "dinov2"), (clip, "clip")])
def test_transformers_are_read_from_a_folder(
    make: Callable[[str], FeatureNetwork], kind: str, tmp_path: Path
) -> None:
    model = _tiny(kind, tmp_path)
    network = make(str(tmp_path))
    rows = network(_bytes(2))["features"]
    pixels = torch.stack(_bytes(2)).permute(0, 2, 3, 1).numpy()
    from PIL import Image

    side = 224 if kind == "dinov2" else 28
    resized = [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in pixels]
    import numpy as np

    levels = torch.from_numpy(np.stack([np.asarray(p) for p in resized])).permute(0, 3, 1, 2)
    means = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    if kind == "clip":
        means = (
            [0.48145466, 0.4578275, 0.40821073],
            [0.26862954, 0.26130258, 0.27577711],
        )
    mean, std = (torch.tensor(values)[:, None, None] for values in means)
    with torch.no_grad():
        answers = model(pixel_values=(levels.float() / 255 - mean) / std)
    if kind == "dinov2":
        wanted = answers.last_hidden_state[:, 0]
    else:
        wanted = answers.image_embeds / answers.image_embeds.norm(dim=1, keepdim=True)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(rows, wanted, rtol=1e-4, atol=1e-4)
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert network.fingerprint == digest


@pytest.mark.parametrize(("make", "key"), [(dinov2, "dinov2"), (clip, "clip")])
def test_transformers_that_are_not_there_name_their_key(
    make: Callable[[str | None], FeatureNetwork],
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ldmlab.evaluation.features.transformers.offline", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for given in (None, str(tmp_path)):
        with pytest.raises(UserError, match=rf"model.safetensors.*networks.{key}=<folder>") as told:
            make(given)
        assert "\n" not in str(told.value)
