"""How large an experiment is, before anything is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ldmlab.models.blueprint import Blueprint

# Adam keeps two averages of each gradient; muon one of a matrix's.
MOMENTS = 2
BYTES = 4
# A backward pass costs twice the forward: one product for the inputs, one for the weights.
TRAINING_PASSES = 3

Section = dict[str, Any]


def describe(blueprint: Blueprint) -> dict[str, Any]:
    """The sizes of an experiment as plain data.

    Weights are counted; `flops` are floating-point operations of one image, a multiply-add being
    two; `memory_bytes` is a training step in 32 bits on one device.
    """
    training = blueprint.training
    costs = {part: blueprint.cost(part) for part in blueprint.calls}
    two_stages = blueprint.network is not None
    trained_parts = ("conditioner", "unet") if two_stages else ("encode", "decode")
    forward = sum(costs[part].flops for part in trained_parts)
    batch = training.batch_size
    flops = {part: cost.flops for part, cost in costs.items()} | {
        "training_step_of_an_image": TRAINING_PASSES * forward,
        f"training_step_of_{batch}": TRAINING_PASSES * forward * batch,
    }
    channels, height, width = blueprint.latent_shape
    description: dict[str, Any] = {
        "experiment": blueprint.name,
        "weights": blueprint.parameters,
        "latents": {
            "channels": channels,
            "height": height,
            "width": width,
            "values_in_an_image": math.prod((blueprint.spec.image_channels, *blueprint.spec.frame)),
            "values_in_a_latent": math.prod(blueprint.latent_shape),
        },
    }
    if two_stages:
        description["schedule"] = _schedule(blueprint)
    return description | {
        "flops": flops,
        "memory_bytes": _memory(blueprint, sum(costs[p].saved_bytes for p in trained_parts), batch),
        "training": {
            "stage": blueprint.stage,
            "lr": training.lr,
            "global_batch": batch,
            "lr_an_image": training.lr_an_image,
            "steps": training.max_steps,
            "precision": training.precision,
        },
    }


def _schedule(blueprint: Blueprint) -> Section:
    assert blueprint.process is not None
    schedule = blueprint.process.schedule
    first, last = schedule.first_time, 1.0
    levels = {name: schedule.level(_time(t)) for name, t in (("first", first), ("last", last))}
    snr = {name: 2 * float((x.alpha / x.sigma).log()) for name, x in levels.items()}
    return {
        "steps": schedule.num_steps,
        "alpha_bar_first": float(levels["first"].alpha.square()),
        "alpha_bar_last": float(levels["last"].alpha.square()),
        # JSON has no infinity: null where no signal is left.
        "log_snr_first": snr["first"],
        "log_snr_last": snr["last"] if math.isfinite(snr["last"]) else None,
    }


def _memory(blueprint: Blueprint, activations: int, batch: int) -> Section:
    """Bytes of what is trained, of what is frozen beside it, and of a batch's activations."""
    parameters = blueprint.parameters
    if blueprint.network is None:
        trained = parameters["autoencoder"] + parameters.get("discriminator", 0)
        frozen = average = 0
    else:
        trained = sum(p.numel() for p in blueprint.network.parameters() if p.requires_grad)
        average = parameters["network"]
        frozen = parameters.get("autoencoder", 0) + parameters["network"] - trained
    bill = {
        "weights": BYTES * trained,
        "gradients": BYTES * trained,
        "optimizer_at_most": MOMENTS * BYTES * trained,
        "average_of_weights": BYTES * average,
        "frozen_weights": BYTES * frozen,
    }
    return bill | {
        "without_activations": sum(bill.values()),
        "activations_of_an_image": activations,
        f"with_activations_of_{batch}": sum(bill.values()) + activations * batch,
    }


def _time(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)
