"""The first stage's losses, the moving average and learning rates against the published code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ldmlab.autoencoding.adversary import Adversary
from ldmlab.autoencoding.losses import ReconstructionLoss
from ldmlab.core.records import Batch
from ldmlab.interop.compvis import model as compvis
from ldmlab.nn.discriminator import PatchDiscriminator
from ldmlab.training.autoencoder_module import AutoencoderModule
from ldmlab.training.ema import EMA, warmup_decay
from ldmlab.training.optimizers.factories import adam
from ldmlab.training.optimizers.lr_schedules import constant, warmup_cosine
from tests.golden.cases import Case, Replay, names


class Standin(nn.Module):
    """A perceptual distance that is one convolution."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        difference = nn.functional.conv2d(x - y, self.weight, stride=2, padding=1)
        return difference.square().mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("name", [*names("vae_gan_loss_kl"), *names("vae_gan_loss_vq")])
def test_autoencoder_loss_matches_published_implementation(name: str) -> None:
    case = Case(name)
    config, kl = case.config, case.config["n_embed"] is None
    autoencoder = compvis.load_autoencoder(config, case.weights)
    discriminator = PatchDiscriminator(3, config["ndf"], config["disc_num_layers"])
    discriminator.load_state_dict(case.section("loss.discriminator."))
    adversary = Adversary(discriminator, config["disc_start"], config["disc_weight"])
    loss = ReconstructionLoss(
        Standin(case["standin_weight"]),
        reduction="sum_pixels" if kl else "mean_pixels",
        regularizer_weight=config["kl_weight"] if kl else config["codebook_weight"],
    )
    stage = AutoencoderModule(
        autoencoder, loss, adversary, adam, adam, constant(1), max_steps=10**6
    )
    stage._average = lambda gradient: gradient  # type: ignore[method-assign]
    stage.steps.fill_(config["global_step"])
    noise = Replay([case["eps"]] if kl else ())
    step = stage.terms(Batch(torch.arange(len(case["x"])), image=case["x"]), noise)
    step.total.backward()
    playing = step.num_active_optimizers == 2
    # The parts, which a step before the adversary's start does not name.
    latent = autoencoder.encode(case["x"])
    reconstruction = autoencoder.decode_as_given(latent.sample(Replay([case["eps"]] if kl else ())))
    terms = loss(case["x"], reconstruction, latent.regularizer())
    game = adversary(case["x"], reconstruction, terms.likelihood, autoencoder.last_layer)
    generator = step.total - game.discriminator * playing
    case.check_all(
        {
            "rec": reconstruction,
            "gen.total_loss": generator,
            "gen.kl_loss" if kl else "gen.quant_loss": terms.regularizer,
            "gen.nll_loss": terms.likelihood,
            "gen.rec_loss": terms.pixel + terms.perceptual,
            "gen.d_weight": config["disc_weight"] * game.weight,
            "gen.g_loss": -discriminator(reconstruction).mean(),
            "disc.disc_loss": game.discriminator * playing,
            "disc.logits_real": game.real,
            "disc.logits_fake": game.fake,
            "disc.grad.main.0.weight": discriminator.main[0].weight.grad,
            "grad.decoder.conv_out.weight": autoencoder.decoder.conv_out.weight.grad,
            "grad.decoder.conv_out.bias": autoencoder.decoder.conv_out.bias.grad,
            "grad.quant_conv.weight": autoencoder.bottleneck.quant.weight.grad,
            "grad.encoder.conv_in.bias": autoencoder.encoder.layers[1].bias.grad,
        }
    )
    if not kl:
        case.check_all({"gen.p_loss": terms.perceptual})


@pytest.mark.parametrize("name", names("ema"))
def test_ema_matches_published_implementation(name: str) -> None:
    case = Case(name)
    network = nn.Linear(3, 4)
    network.load_state_dict(
        {part: case.stored[f"diffusion_model.0.{part}"] for part in ("weight", "bias")}
    )
    average = EMA(network, warmup_decay(case.config["decay"]))
    for j, step in enumerate(case["w0_steps"]):
        network.weight.data.copy_(step)
        average.update(network)
        case.check_all({f"ema_w0_{j}": average.network.weight})
    case.check(num_updates=average.num_updates)


@pytest.mark.parametrize("name", names("lr_schedule"))
def test_lr_schedules_match_published_values(name: str) -> None:
    case = Case(name)
    # The second one's factors are of a tenth of its rate.
    churches = constant(total_steps=10**6, warmup_steps=10_000, start=1e-6)
    inpainting = warmup_cosine(50_000, warmup_steps=1000, final=1e-3, start=1e-2)
    case.check(
        churches=torch.tensor([churches(n) for n in case["n"].tolist()], dtype=torch.float64),
        inpainting=torch.tensor(
            [0.1 * inpainting(n) for n in case["n"].tolist()], dtype=torch.float64
        ),
    )
