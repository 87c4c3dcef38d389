"""ImageDataset drawn while training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.training.test_diffusion_module import module as diffusion_module

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import NoGuidance
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.schedule import cosine
from ldmlab.training.callbacks.pictures import Samples
from ldmlab.training.diffusion_module import DiffusionModule


def test_sampler_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    asked = Batch(index=torch.arange(1))
    samples = Samples(asked, 8, DDIM(steps=20), NoGuidance(), 0, tmp_path, every=100)
    module = Mock(spec=DiffusionModule)
    module.model = Mock()
    module.model.process.schedule = cosine(10)
    with pytest.raises(UserError, match=r"sampler\.steps=20"):
        samples.on_train_start(Mock(), module)
    module.model.process.schedule = cosine(20)
    samples.on_train_start(Mock(), module)


def _samples(folder: Path, seed: int = 0) -> Samples:
    asked = Batch(index=torch.arange(2), label=torch.tensor([0, 2]))
    return Samples(asked, 8, DDIM(steps=4), NoGuidance(), seed, folder, every=2)


def _shown(samples: Samples, subject: DiffusionModule) -> list[int]:
    with torch.no_grad():
        return np.asarray(samples.draw(subject)).flatten().tolist()


def test_samples_show_the_average_from_the_same_noise(tmp_path: Path) -> None:
    subject, samples = diffusion_module().eval(), _samples(tmp_path)
    first = _shown(samples, subject)
    subject.steps += 50
    with torch.no_grad():
        for weight in subject.model.network.parameters():
            weight += 0.1
    assert _shown(samples, subject) == first
    assert _shown(_samples(tmp_path, seed=1), subject) != first
    with torch.no_grad():
        for weight in subject.ema.network.parameters():
            weight += 0.1
    assert _shown(samples, subject) != first


def test_drawing_comes_at_its_step_and_leaves_training_as_it_was(tmp_path: Path) -> None:
    subject, samples = diffusion_module().train(), _samples(tmp_path)
    modes: list[bool] = []

    def draw(module: DiffusionModule) -> Image.Image:
        modes.append(module.training)
        torch.rand(5)
        return Image.new("RGB", (4, 4))

    samples.draw = draw  # type: ignore[method-assign]
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    subject.max_steps = 5
    torch.manual_seed(7)
    for _ in range(5):
        subject.steps += 1
        samples.on_train_batch_end(trainer, subject)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        "samples-000002", "samples-000004", "samples-000005",
    ]  # fmt: skip
    assert modes == [False] * 3 and subject.training
