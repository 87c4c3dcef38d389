"""Networks, forwards and backwards, against tensors of the published modules."""

from __future__ import annotations

import pytest
import torch

from ldmlab.autoencoding.losses import hinge_loss
from ldmlab.interop.compvis import model as compvis
from ldmlab.nn.discriminator import PatchDiscriminator
from tests.golden.cases import Case, names, read


@pytest.mark.parametrize("name", [n for n, case in read("cases").items() if "weights" in case])
def test_weight_recipe_reproduces_recorded_weights(name: str) -> None:
    case = Case(name)
    total = sum(float(v.double().abs().sum()) for v in case.weights.values())
    assert total == pytest.approx(read("cases")[name]["weights"]["abs_sum"], rel=1e-9)
    if case.stored:
        assert case.stored.keys() == case.weights.keys()
        assert all(torch.equal(case.stored[key], case.weights[key]) for key in case.stored)


@pytest.mark.parametrize("name", names("unet"))
def test_unet_matches_published_module(name: str) -> None:
    case = Case(name)
    unet = compvis.load_unet(case.config["unet"], case.weights)
    x = case["x"].requires_grad_()
    maps = case.given("c_concat")
    inputs = x if maps is None else torch.cat([x, maps], dim=1)
    y = unet(inputs, case["t"], tokens=case.given("context"))
    mse = (y - case["target"]).square().mean()
    mse.backward()
    gradients = [p.grad for p in unet.parameters()]
    assert all(gradient is not None for gradient in gradients)
    case.check(
        emb=unet.time_embedding(case["t"]),
        y=y,
        mse=mse,
        grad_x=x.grad,
        grad_time_embed_0_weight=unet.time_embedding.mlp[0].weight.grad[:4],
        grad_out_2_bias=unet.conv_out.bias.grad,
        grad_norm=torch.stack([g.norm() for g in gradients]).norm(),
    )


@pytest.mark.parametrize("name", names("autoencoder_kl"))
def test_kl_autoencoder_matches_published_module(name: str) -> None:
    case = Case(name)
    autoencoder = compvis.load_autoencoder(case.config, case.weights)
    posterior = autoencoder.encode(case["x"])
    sample = posterior.mean + posterior.std * case["eps"]
    law = torch.distributions.Normal(posterior.mean, posterior.std)
    case.check(
        moments=autoencoder.bottleneck.quant(autoencoder.encoder(case["x"])),
        mean=posterior.mean,
        std=posterior.std,
        kl=posterior.regularizer(),
        sample=sample,
        nll=-law.log_prob(sample).flatten(1).sum(1),
        rec_mode=autoencoder.decode(posterior.mean),
        rec_sample=autoencoder.decode(sample),
    )


@pytest.mark.parametrize("name", names("autoencoder_vq"))
def test_vq_autoencoder_matches_published_module(name: str) -> None:
    case = Case(name)
    autoencoder = compvis.load_autoencoder(case.config, case.weights)
    latent = autoencoder.encode(case["x"])
    reconstruction = autoencoder.decode_as_given(latent.quantised)
    loss = latent.codebook_loss.mean()
    ((reconstruction * case["g"]).mean() + loss).backward()
    case.check(
        prequant=latent.prequant,
        quant=latent.quantised,
        indices=latent.indices.flatten(),
        emb_loss=loss,
        rec=autoencoder.decode(latent.prequant),
        rec_no_quant=autoencoder.decode_as_given(latent.prequant),
        grad_codebook=autoencoder.bottleneck.codes.weight.grad,
        grad_quant_conv_weight=autoencoder.bottleneck.quant.weight.grad,
    )


@pytest.mark.parametrize("name", names("bert_embedder"))
def test_text_transformer_matches_published_module(name: str) -> None:
    case = Case(name)
    conditioner = compvis.load_conditioner("modules.BERTEmbedder", case.config, case.weights)
    tokens = conditioner(case["tokens"]).tokens
    head = [case.weights[f"transformer.to_logits.{part}"] for part in ("weight", "bias")]
    case.check(z=tokens, logits=torch.nn.functional.linear(tokens, *head))


@pytest.mark.parametrize("name", names("class_embedder"))
def test_class_embedder_matches_published_module(name: str) -> None:
    case = Case(name)
    conditioner = compvis.load_conditioner("modules.ClassEmbedder", case.config, case.weights)
    case.check(c=conditioner(case["class_label"]).tokens)


@pytest.mark.parametrize("name", names("spatial_rescaler"))
def test_spatial_rescaler_matches_published_module(name: str) -> None:
    case = Case(name)
    conditioner = compvis.load_conditioner("modules.SpatialRescaler", case.config, case.weights)
    maps = conditioner(case["labels"]).maps
    assert maps.shape[1] == conditioner.map_channels
    case.check(c=maps)


@pytest.mark.parametrize("name", names("patch_discriminator"))
def test_patch_discriminator_matches_published_module(name: str) -> None:
    case = Case(name)
    shape = (case.config[key] for key in ("input_nc", "ndf", "n_layers"))
    discriminator = PatchDiscriminator(*shape)
    discriminator.load_state_dict(case.weights)
    case.check(eval_logits=discriminator.eval()(case["x"]))
    real = discriminator.train()(case["x"])
    fake = discriminator(case["x2"])
    after = {f"after.{k}": v for k, v in discriminator.state_dict().items() if "running" in k}
    case.check_all(
        {"train_logits": real, "train_logits_x2": fake, "hinge": hinge_loss(real, fake)} | after
    )
