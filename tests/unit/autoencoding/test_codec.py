"""Bottlenecks and the frozen codec."""

from __future__ import annotations

import pytest
import torch

from ldmlab.autoencoding import bottlenecks
from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.autoencoding.bottlenecks import KL, VQ, Posterior, Quantised
from ldmlab.autoencoding.codec import IdentityCodec, NormalizedCodec
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import LatentMoments


def _autoencoder(bottleneck: type[KL] | type[VQ], channels: int = 3) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        bottleneck(channels), channels=16, channel_mult=(1, 2), num_res_blocks=1, patch=2
    )


def test_normalised_latents_round_trip() -> None:
    codec = NormalizedCodec(_autoencoder(KL))
    images = torch.rand(64, 3, 32, 32) * 2 - 1
    codec.normalize_on(images.split(16))
    moments = codec.encode(images)
    assert moments.mean.shape == (64, 3, 8, 8)
    z = moments.mean + moments.std * torch.randn_like(moments.mean)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=0.05)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(3), rtol=0.05, atol=0)
    raw = codec.autoencoder.encode(images).moments().mean
    torch.testing.assert_close(codec.decode(moments.mean), codec.autoencoder.decode(raw))


@pytest.mark.parametrize("bottleneck", [KL, VQ])
def test_codec_encodes_as_the_autoencoder_does(
    bottleneck: type[KL] | type[VQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = NormalizedCodec(_autoencoder(bottleneck))
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    trained_on = codec.autoencoder.encode(image).moments()
    monkeypatch.setattr(bottlenecks, "nearest_codes", None)  # stage two searches no code
    codec.normalize_on([image])
    codec.normalize_as([0.0] * 3, [1.0] * 3)
    moments = codec.encode(image)
    assert torch.equal(moments.mean, trained_on.mean)
    assert torch.equal(moments.std, trained_on.std)


@pytest.mark.parametrize("bottleneck", [KL, VQ])
def test_codec_keeps_its_precision_under_mixed_precision(
    bottleneck: type[KL] | type[VQ],
) -> None:
    codec, mixed = (NormalizedCodec(_autoencoder(bottleneck)) for _ in range(2))
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    codec.normalize_on([image])
    moments = codec.encode(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert codec.autoencoder.encoder(image).dtype == torch.bfloat16  # stage one trains so
        mixed.normalize_on([image])
        under = mixed.encode(image)
        decoded = mixed.decode(moments.mean)
    assert mixed.normalization == codec.normalization
    assert torch.equal(under.mean, moments.mean)
    assert torch.equal(under.std, moments.std)
    assert torch.equal(decoded, codec.decode(moments.mean))


def test_codec_is_frozen_and_named_by_its_weight_hash() -> None:
    codec = NormalizedCodec(_autoencoder(KL))
    codec.train()
    assert not any(module.training for module in codec.modules())
    assert not any(p.requires_grad for p in codec.parameters())
    name = codec.fingerprint()
    assert name == NormalizedCodec(_autoencoder(KL)).fingerprint()
    codec.scale[0] = 2
    assert codec.fingerprint() != name


def test_normalising_on_no_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        NormalizedCodec(_autoencoder(KL)).normalize_on([])


def test_identity_codec_returns_pixels() -> None:
    image = torch.rand(2, 3, 8, 8)
    codec = IdentityCodec(3)
    assert torch.equal(codec.decode(codec.encode(image).mean), image)


def test_kl_matches_two_gaussians() -> None:
    posterior = Posterior(torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3))
    q = torch.distributions.Normal(posterior.mean, posterior.std)
    p = torch.distributions.Normal(0.0, 1.0)
    exact = torch.distributions.kl_divergence(q, p).flatten(1).sum(1)
    torch.testing.assert_close(posterior.regularizer(), exact)
    noise = SampleNoise(0, range(4)).normal(posterior.mean)
    z = posterior.sample(SampleNoise(0, range(4)))
    torch.testing.assert_close(z, posterior.mean + posterior.std * noise)


def test_vq_takes_the_nearest_code_with_straight_through_gradients() -> None:
    torch.manual_seed(0)
    bottleneck = VQ(2, num_codes=7)
    torch.nn.init.normal_(bottleneck.codes.weight)
    features = torch.randn(3, 2, 4, 4, requires_grad=True)
    latent = bottleneck(features)
    assert isinstance(latent, Quantised)
    distances = torch.cdist(
        latent.prequant.movedim(1, -1).reshape(-1, 2), bottleneck.codes.weight
    ).argmin(1)
    assert torch.equal(latent.indices.flatten(), distances)
    torch.testing.assert_close(bottleneck.project(latent.prequant), latent.quantised)
    (through,) = torch.autograd.grad(latent.quantised.sum(), latent.prequant, retain_graph=True)
    assert torch.equal(through, torch.ones_like(through))
    latent.regularizer().sum().backward()
    assert bottleneck.codes.weight.grad.abs().sum() > 0


def test_vq_search_is_full_precision_and_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    features, codes = torch.randn(50, 3), torch.randn(1000, 3)
    whole = bottlenecks.nearest_codes(features, codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bottlenecks.nearest_codes(features, codes), whole)
    monkeypatch.setattr(bottlenecks, "_DISTANCES", 7000)
    held: list[int] = []
    argmin = torch.Tensor.argmin
    monkeypatch.setattr(
        torch.Tensor, "argmin", lambda x, *a, **k: (held.append(x.numel()), argmin(x, *a, **k))[1]
    )
    assert torch.equal(bottlenecks.nearest_codes(features, codes), whole)
    assert len(held) == 8 and max(held) <= 7000


class _Known(Autoencoder):
    """An encoder of known moments, and a decoder that gives back its latents."""

    def __init__(self) -> None:
        super().__init__(KL(1), channels=8, channel_mult=(1,), num_res_blocks=0)

    def moments(self, image: torch.Tensor) -> LatentMoments:
        mean = image[:, :1]
        return LatentMoments(mean, torch.full_like(mean, 4.0))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z.expand(-1, 3, -1, -1)


def test_latents_are_normalised_by_the_variance_of_their_draws() -> None:
    """Means of -1 and 5 lie 3 from 2; with a deviation of 4 the latents' is 5."""
    codec = NormalizedCodec(_Known())
    low, high = torch.full((1, 3, 2, 2), -1.0), torch.full((1, 3, 2, 2), 5.0)
    codec.normalize_on([low, high])
    assert codec.normalization == {"shift": [2.0], "scale": [5.0]}
    moments = codec.encode(high)
    assert float(moments.mean[0, 0, 0, 0]) == pytest.approx(0.6)
    assert float(moments.std[0, 0, 0, 0]) == pytest.approx(0.8)
    assert torch.equal(codec.decode(torch.ones(1, 1, 2, 2)), torch.full((1, 3, 2, 2), 7.0))
    torch.testing.assert_close(codec.reconstruct(low), low)


def test_each_channel_is_normalised_alone() -> None:
    codec = NormalizedCodec(_autoencoder(KL))
    codec.normalize_as([1.0, 2.0, 3.0], [1.0, 10.0, 100.0])
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    raw, got = codec.autoencoder.moments(image), codec.encode(image)
    torch.testing.assert_close(got.mean[:, 1], (raw.mean[:, 1] - 2) / 10)
    torch.testing.assert_close(got.std[:, 2], raw.std[:, 2] / 100)
    with pytest.raises(ValueError, match="2 numbers for 3 channels"):
        codec.normalize_as([1.0, 2.0], [1.0, 1.0])


def test_identity_codec_does_not_spread_pixels() -> None:
    assert not IdentityCodec(3).encode(torch.rand(2, 3, 8, 8)).std.any()
    assert IdentityCodec(3).factor == 1


def test_autoencoder_decodes_quantised_latents_and_trains_on_given_ones() -> None:
    autoencoder = _autoencoder(VQ)
    torch.nn.init.normal_(autoencoder.bottleneck.codes.weight)
    z = torch.randn(1, 3, 2, 2)
    nearest = autoencoder.bottleneck.project(z)
    given = autoencoder.decode_as_given(nearest)
    assert torch.equal(autoencoder.decode(z), given)
    assert not torch.equal(autoencoder.decode_as_given(z), given)
    want = autoencoder.decoder(autoencoder.post_quant(nearest))
    assert torch.equal(given, want)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    latent = autoencoder.encode(image)
    torch.testing.assert_close(
        autoencoder.reconstruct(latent), autoencoder.decode_as_given(latent.quantised)
    )
    assert autoencoder.last_layer is autoencoder.decoder.conv_out.weight
