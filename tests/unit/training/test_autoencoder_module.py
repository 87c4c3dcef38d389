"""Stage one's step: when the adversary begins, and what its terms are made of."""

from __future__ import annotations

import pytest
import torch
from tests.oracle.gaussian import BatchNoise

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL
from ldmlab.autoencoding.losses import NoPerceptual, ReconstructionLoss
from ldmlab.core.records import Batch
from ldmlab.nn.discriminator import PatchDiscriminator
from ldmlab.training.autoencoder_module import AutoencoderModule


@pytest.mark.parametrize(("step", "active"), [(0, False), (2, False), (3, True), (4, True)])
def test_adversary_begins_at_its_start(
    step: int, active: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(KL(2), channels=8, channel_mult=(1, 1), num_res_blocks=1)
    adversary = Adversary(PatchDiscriminator(3, 4, 2, norm="group"), start=3)
    loss = ReconstructionLoss(NoPerceptual())
    module = AutoencoderModule(autoencoder, loss, adversary, None, None, None)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_average", lambda gradient: gradient)
    module.steps.fill_(step)
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    terms = module.terms(Batch(torch.arange(2), image=image), BatchNoise())
    assert terms.num_active_optimizers == (2 if active else 1)
    assert ("discriminator" in terms.logs) == active
    terms.total.backward()
    slopes = [p.grad for p in adversary.parameters()]
    assert all(slope is not None for slope in slopes)
    assert any(bool(slope.any()) for slope in slopes if slope is not None) == active
