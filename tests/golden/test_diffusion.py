"""Losses and samplers of whole models against tensors of the published code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ldmlab.core.records import Batch, LatentMoments, Prediction
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.transition import transitions
from ldmlab.models.latent_diffusion import LatentDiffusion
from tests.golden.cases import Case, Replay, names


@pytest.mark.parametrize("name", names("diffusion_loss"))
def test_loss_matches_published_implementation(name: str) -> None:
    case = Case(name)
    z, count, label = case["z"], case.config["timesteps"], case["class_label"]
    # The published batch names the null class; here such a sample was dropped.
    null = label == case.model().network.conditioner.num_classes
    batch = Batch(
        index=torch.arange(len(z)),
        label=label.where(~null, 0),
        latent=LatentMoments(z, torch.zeros_like(z)),
    )

    def loss(model: LatentDiffusion) -> Tensor:
        # Posterior and noise; condition dropout and time.
        uniform = [(~null).double(), (case["t"].double() + 0.5) / count]
        model.condition_dropout = 0.5
        return model.loss(batch, Replay([z, case["noise"]], uniform)).per_sample.mean()

    model = case.model()
    total = loss(model)
    total.backward()
    process = model.process
    case.check(
        x_noisy=process.diffuse(z, (case["t"].double() + 1) / count, case["noise"]),
        loss=total,
        loss_simple=loss(case.model(l_simple_weight=1.0, original_elbo_weight=0.0)),
        loss_vlb=loss(case.model(l_simple_weight=0.0, original_elbo_weight=1.0)),
        grad_class_emb=model.network.conditioner.embedding.weight.grad,
        grad_out_2_bias=model.network.backbone.conv_out.bias.grad,
    )


@pytest.mark.parametrize("name", names("ddim"))
def test_ddim_matches_published_implementation(name: str) -> None:
    case = Case(name)
    model = case.model()
    schedule, network = model.process.schedule, model.network
    sampler = DDIM(
        steps=case.config["steps"],
        spacing="leading_plus_one",
        final="first_entry",
        eta=case.config["eta"],
    )
    times = sampler.timesteps(schedule)
    batch = Batch(index=torch.arange(len(case["x_T"])), label=case.given("class_label"))
    condition = network.conditioner.select(batch)
    null = case.given("uncond_label")
    wanted, against = (
        model.process.denoiser(network, network.conditioner(label))
        for label in (condition, condition if null is None else null)
    )
    guided = ClassifierFree(case.config["guidance"])(wanted, against, schedule)
    predictions: list[Prediction] = []
    states: list[Tensor] = []

    def denoiser(x: Tensor, t: Tensor) -> Prediction:
        predictions.append(guided(x, t))
        return predictions[-1]

    noise = case.given("noise")
    with torch.no_grad():
        sample = sampler(
            denoiser,
            case["x_T"],
            times,
            schedule,
            Replay(() if noise is None else noise),
            lambda done, x: states.append(x),
        )
    step = transitions(schedule, times)
    case.check(
        samples=sample,
        x_1=states[0],
        x_mid=states[len(states) // 2],
        pred_x0_1=predictions[0].x0,
        pred_x0_last=predictions[-1].x0,
        ddim_timesteps=(times[:-1] * schedule.num_steps - 1).round().long().flip(0),
        ddim_alphas=step.start.alpha.square().flip(0),
        ddim_alphas_prev=step.end.alpha.square().flip(0),
        ddim_sigmas=(sampler.eta * step.posterior_variance.sqrt()).flip(0),
    )


@pytest.mark.parametrize("name", names("ddpm_sampling"))
def test_ddpm_matches_published_implementation(name: str) -> None:
    case = Case(name)
    model = case.model()
    process = model.process
    nothing = model.network.conditioner(torch.arange(len(case["x_T"])))
    denoiser = process.denoiser(model.network, nothing)
    sampler = DDPM(steps=case.config["timesteps"])
    times = sampler.timesteps(process.schedule)
    with torch.no_grad():
        sample = sampler(denoiser, case["x_T"], times, process.schedule, Replay(case["noise"]))
        first = denoiser(case["x_T"], times[0])
    step = transitions(process.schedule, times)
    case.check(
        samples=sample,
        mean_first=float(step.keep[0]) * case["x_T"] + float(step.signal[0]) * first.x0,
        logvar_first=step.posterior_variance[0].log().expand(len(sample)),
    )
