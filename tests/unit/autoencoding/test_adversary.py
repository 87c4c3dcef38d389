"""The adversary: each side's gradient is its own, and the balance is what it says."""

from __future__ import annotations

import pytest
import torch

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL
from ldmlab.autoencoding.losses import adaptive_weight, hinge_loss, vanilla_loss
from ldmlab.nn.discriminator import PatchDiscriminator


@pytest.fixture
def game() -> tuple[Autoencoder, Adversary, torch.Tensor]:
    """A small autoencoder, its adversary and a batch."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(KL(2), channels=16, channel_mult=(1, 1), num_res_blocks=1)
    adversary = Adversary(PatchDiscriminator(3, 8, 2, norm="group"), start=0, weight=0.5)
    return autoencoder, adversary, torch.rand(2, 3, 16, 16) * 2 - 1


def test_adversarial_backward_gives_each_network_its_own_gradient(
    game: tuple[Autoencoder, Adversary, torch.Tensor],
) -> None:
    autoencoder, adversary, image = game
    reconstruction = autoencoder.decode_as_given(autoencoder.encode(image).moments().mean)
    likelihood = (image - reconstruction).abs().mean()
    terms = adversary(image, reconstruction, likelihood, autoencoder.last_layer)
    (terms.generator + terms.discriminator).backward(retain_graph=True)
    judge = [p.grad.clone() for p in adversary.parameters() if p.grad is not None]
    maker = [p.grad.clone() for p in autoencoder.parameters() if p.grad is not None]

    real = adversary.discriminator(image)
    fake = adversary.discriminator(reconstruction.detach())
    alone = torch.autograd.grad(hinge_loss(real, fake), list(adversary.parameters()))
    for mixed, expected in zip(judge, alone, strict=True):
        torch.testing.assert_close(mixed, expected)
    fooled = -adversary.discriminator(reconstruction).mean() * terms.weight * 0.5
    used = [p for p in autoencoder.parameters() if p.grad is not None]
    for mixed, expected in zip(maker, torch.autograd.grad(fooled, used), strict=True):
        torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-7)


def test_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    layer = torch.ones(3, requires_grad=True)
    weight = adaptive_weight((2 * layer).sum(), (0.5 * layer).sum(), layer)
    assert float(weight) == pytest.approx(4.0, rel=1e-3)
    capped = adaptive_weight((1e6 * layer).sum(), (0 * layer).sum(), layer)
    assert float(capped) == 1e4


def test_idle_adversary_gives_every_parameter_a_zero_gradient() -> None:
    adversary = Adversary(PatchDiscriminator(3, 8, 2), start=10)
    adversary.zero_loss().backward()
    for parameter in adversary.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_vanilla_loss_is_half_the_cross_entropy() -> None:
    real, fake = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))
    torch.testing.assert_close(vanilla_loss(real, fake), expected / 2)
    image = torch.rand(2, 3, 16, 16)
    judge = PatchDiscriminator(3, 8, 2, norm="group")
    layer = torch.ones((), requires_grad=True)
    terms = Adversary(judge, loss="vanilla")(image, layer * image, layer * image.mean(), layer)
    torch.testing.assert_close(terms.discriminator, vanilla_loss(judge(image), judge(image)))


def test_hinge_loss_of_a_confident_discriminator_is_zero() -> None:
    assert hinge_loss(torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), -2.0)) == 0
    assert hinge_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == 1


class _Mean(torch.nn.Module):
    """Judges an image by gain times its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x.mean((1, 2, 3), keepdim=True)


def test_adversary_terms_have_their_signs_and_weights() -> None:
    """Images of mean .25 and reconstructions of mean -.5 that scale with the last layer."""
    layer = torch.ones((), requires_grad=True)
    image, fake = torch.full((2, 1, 2, 2), 0.25), layer * torch.full((2, 1, 2, 2), -0.5)
    terms = Adversary(_Mean(), weight=0.25)(image, fake, 3 * layer, layer)
    assert (float(terms.real), float(terms.fake)) == (0.5, -1)
    # The autoencoder's is - D = 1, with gradients of 3 and 1 at the last layer.
    assert float(terms.weight) == pytest.approx(3, rel=1e-3)
    assert float(terms.generator.detach()) == pytest.approx(0.25 * 3 * 1, rel=1e-3)
    assert float(terms.discriminator.detach()) == pytest.approx(0.5 * (0.5 + 0))


def test_adversary_has_its_published_defaults() -> None:
    adversary = Adversary(_Mean())
    assert (adversary.start, adversary.weight) == (50_001, 0.5)
    assert adversary.loss is hinge_loss
