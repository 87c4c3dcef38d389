"""What the options of a published configuration mean here."""

from __future__ import annotations

import pytest
import torch
from tests.unit.interop.test_compvis import KL, VQ, config, state_of

from ldmlab.autoencoding.bottlenecks import VQ as Codebook
from ldmlab.diffusion.weighting import VLB, Sum, Unit
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.compvis.autoencoder import build_autoencoder


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        # The published `linear` is linear in the roots of the betas.
        ("linear", ((1e-4**0.5 + 0.02**0.5) / 2) ** 2),
        ("sqrt_linear", (1e-4 + 0.02) / 2),
    ],
)
def test_published_schedule_names_mean_their_published_betas(name: str, middle: float) -> None:
    schedule = compvis.schedule_of({"beta_schedule": name, "timesteps": 3})
    assert schedule.betas.tolist() == pytest.approx([1e-4, middle, 0.02])


def test_published_bound_is_a_mean_over_steps() -> None:
    # ldm/models/diffusion/ddpm.py: l_simple_weight x simple + original_elbo_weight x mean of
    # lvlb_weights x error, where ours is the bound itself, a sum over the steps.
    options = {"original_elbo_weight": 0.25, "l_simple_weight": 0.5, "timesteps": 50}
    process = compvis.load(config(beta_schedule="cosine", **options), state_of()).process
    assert isinstance(process.weighting, Sum)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    bound = VLB(variance="beta_tilde")(process.schedule, t)
    simple = Unit()(process.schedule, t)
    expected = 0.5 * simple + 0.25 / 50 * bound
    torch.testing.assert_close(process.weighting(process.schedule, t), expected)
    plain = compvis.load(config(), state_of()).process
    assert isinstance(plain.weighting, Unit)


def test_published_codebook_loss_keeps_its_exchanged_weight() -> None:
    # taming's legacy VectorQuantizer: mean((sg[z_q] - z)²) + beta mean((z_q - sg[z])²).
    legacy, mended = (
        build_autoencoder(VQ | {"beta": 0.1, "legacy_beta": old}).bottleneck
        for old in (True, False)
    )
    for bottleneck, commitment, codebook in ((legacy, 1.0, 0.1), (mended, 0.1, 1.0)):
        assert isinstance(bottleneck, Codebook)
        assert bottleneck.commitment_weight == commitment
        assert bottleneck.codebook_weight == codebook
    assert not isinstance(build_autoencoder(KL).bottleneck, Codebook)
