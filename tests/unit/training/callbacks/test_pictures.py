"""ImageDataset drawn while training."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

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
