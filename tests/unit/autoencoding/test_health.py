"""What stage one says of its bottleneck, against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ldmlab.autoencoding.bottlenecks import VQ, Latent, Posterior, Quantised
from ldmlab.training.callbacks.health import troubles


def _summary(*latents: Latent) -> dict[str, float]:
    sums = [latent.sums() for latent in latents]
    return latents[0].summary({k: torch.stack([s[k] for s in sums]).sum(0) for k in sums[0]})


def test_health_averages_channel_kl_over_uneven_batches() -> None:
    # Channel 0 says nothing; channel 1 has mean 3 and variance 1/4.
    parts = [
        Posterior(
            torch.tensor([0.0, 3.0]).reshape(1, 2, 1, 1).expand(b, 2, 4, 4),
            torch.tensor([0.0, math.log(0.25)]).reshape(1, 2, 1, 1).expand(b, 2, 4, 4),
        )
        for b in (1, 5)
    ]
    summary = _summary(*parts)
    assert summary["kl/00"] == pytest.approx(0, abs=1e-12)
    assert summary["kl/01"] == pytest.approx(0.5 * (9 + 0.25 - 1 - math.log(0.25)), rel=1e-6)
    assert summary["latent_std"] == pytest.approx(math.sqrt((1 + 0.25) / 2), rel=1e-6)
    assert [name for name, _ in troubles(summary, {})] == ["channels"]


def test_health_reports_code_usage_and_perplexity() -> None:
    torch.manual_seed(0)
    bottleneck = VQ(latent_channels=2, num_codes=64)
    with torch.no_grad():
        bottleneck.codes.weight.fill_(100.0)
        bottleneck.codes.weight[:2] = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        bottleneck.quant.weight.copy_(torch.eye(2)[..., None, None])
        bottleneck.quant.bias.zero_()
    left = torch.zeros(1, 2, 4, 4)
    left[:, 0] = -1
    right = left.clone()
    right[:, 0] = 1
    both = [bottleneck(left), bottleneck(left), bottleneck(left), bottleneck(right)]
    assert all(isinstance(latent, Quantised) for latent in both)
    summary = _summary(*both)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert summary["codes_used"] == pytest.approx(2 / 64)
    assert summary["perplexity"] == pytest.approx(math.exp(entropy))
    # Deviation of +-1 in one channel and of 0 in the other.
    assert summary["latent_std"] == pytest.approx(math.sqrt(0.75 / 2), rel=1e-6)
    assert [name for name, _ in troubles(summary, {})] == ["codes"]


@pytest.mark.parametrize(
    ("game", "expected"),
    [
        ((0.9, 3.0, 0.2, -0.1), []),
        ((0.9, 5000.0, 0.2, -0.1), ["weight"]),
        ((0.001, 3.0, 4.0, -4.0), ["won"]),
        ((1.0, 3.0, 0.05, 0.05), ["blind"]),
    ],
)
def test_health_reports_a_failing_discriminator(
    game: tuple[float, ...], expected: list[str]
) -> None:
    names = ("discriminator", "adversarial_weight", "logits_real", "logits_fake")
    found = list(troubles({"kl/00": 1.0}, dict(zip(names, game, strict=True))))
    assert [name for name, _ in found] == expected
    # Each names the key that mends it.
    assert all("discriminator" in words for _, words in found)
