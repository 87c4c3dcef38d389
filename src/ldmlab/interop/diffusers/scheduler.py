"""The diffusion process and DDIM as diffusers' DDIMScheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ldmlab.core.errors import UserError
from ldmlab.diffusion.parameterization import X0, Eps, Parameterization, V
from ldmlab.diffusion.process import DiffusionProcess
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.diffusion.schedule import (
    TableSchedule,
    cosine,
    from_betas,
    linear,
    scaled_linear,
    zero_terminal_snr,
)
from ldmlab.diffusion.timestep_sampler import Uniform
from ldmlab.diffusion.weighting import MinSNR, Unit, Velocity, Weighting
from ldmlab.interop.common.to_config import Leaf, leaf, schedule_leaf

_PREDICTIONS: dict[type[Parameterization], str] = {
    Eps: "epsilon",
    V: "v_prediction",
    X0: "sample",
}
_CURVES = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
_WEIGHTINGS: dict[str, type[Weighting]] = {
    "epsilon": Unit,
    "v_prediction": Velocity,
    # A plain error in x0 weighs eps without bound where there is little noise.
    "sample": MinSNR,
}
_STEPS = 50


def scheduler_config(process: DiffusionProcess, sampler: Sampler | None = None) -> dict[str, Any]:
    """The configuration of a DDIMScheduler for a process.

    Args:
        process: Schedule and parameterisation.
        sampler: Its list of steps is kept if it is DDIM; trailing steps to the data otherwise.

    Raises:
        UserError: The process has no counterpart there.
    """
    schedule, parameterization = process.schedule, process.parameterization
    if not isinstance(schedule, TableSchedule):
        raise UserError(
            f"schedule={type(schedule).__name__} has no counterpart in diffusers' DDIMScheduler: "
            "only a table of betas has one"
        )
    kind = type(parameterization)
    if kind not in _PREDICTIONS:
        raise UserError(
            f"parameterization={kind.__name__} has no counterpart in diffusers' DDIMScheduler: "
            "only eps, v and x0 have one"
        )
    count = len(schedule.betas)
    times = (torch.arange(count, dtype=torch.float64) + 1) / count
    shown = parameterization.c_noise(times, schedule.level(times))
    if not torch.allclose(shown, torch.arange(count, dtype=torch.float64), atol=1e-4):
        raise UserError(
            f"schedule.num_steps={count} has no counterpart in diffusers, where a network sees "
            f"the number of its table's entry: parameterization={kind.__name__} shows it others"
        )
    return {
        "num_train_timesteps": count,
        "prediction_type": _PREDICTIONS[kind],
        "clip_sample": False,
        **_betas(schedule),
        **_steps(sampler),
    }


def _betas(schedule: TableSchedule) -> dict[str, Any]:
    known = schedule_leaf(schedule)
    name = known["_target_"].rpartition(".")[2]
    if name not in _CURVES:
        return {"trained_betas": schedule.betas.tolist()}
    ends: dict[str, Any] = {key: known[key] for key in known if key in ("beta_start", "beta_end")}
    return {"beta_schedule": _CURVES[name]} | ends


def _steps(sampler: Sampler | None) -> dict[str, Any]:
    if not isinstance(sampler, DDIM):
        return {"timestep_spacing": "trailing", "set_alpha_to_one": True}
    plus_one = sampler.spacing == "leading_plus_one"
    return {
        "timestep_spacing": "leading" if plus_one else sampler.spacing,
        "steps_offset": int(plus_one),
        "set_alpha_to_one": sampler.final == "data",
    }


def process_of(config: Mapping[str, Any]) -> DiffusionProcess:
    """The process of a scheduler's configuration.

    Raises:
        UserError: It has no counterpart here.
    """
    for key in ("clip_sample", "thresholding"):
        if config.get(key, False):
            raise UserError(
                f"scheduler_config.json has {key}=true, which has no counterpart here: set it to "
                "false there if the samples may differ"
            )
    count, prediction = config["num_train_timesteps"], config.get("prediction_type", "epsilon")
    names = {name: kind for kind, name in _PREDICTIONS.items()}
    if prediction not in names:
        raise UserError(
            f"scheduler_config.json has prediction_type={prediction}: only {', '.join(names)} can "
            "be read"
        )
    if prediction != "epsilon" and count != 1000:
        raise UserError(
            f"scheduler_config.json has num_train_timesteps={count} with {prediction}: only 1000 "
            "can be read"
        )
    parameterization = Eps(count) if prediction == "epsilon" else names[prediction]()
    weighting = _WEIGHTINGS[prediction]()
    return DiffusionProcess(_schedule(config, count), parameterization, weighting, Uniform())


def sampler_leaf(config: Mapping[str, Any]) -> Leaf:
    """DDIM with the list of steps of a scheduler's configuration."""
    spacing = config.get("timestep_spacing", "leading")
    if spacing == "leading" and config.get("steps_offset", 0) == 1:
        spacing = "leading_plus_one"
    final = "data" if config.get("set_alpha_to_one", True) else "first_entry"
    steps = min(_STEPS, config["num_train_timesteps"])
    return leaf(DDIM, steps=steps, spacing=spacing, final=final, eta=0.0)


def _schedule(config: Mapping[str, Any], count: int) -> TableSchedule:
    name = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        schedule = from_betas(list(config["trained_betas"]))
    elif name == "squaredcos_cap_v2":
        schedule = cosine(count)
    elif name in ("linear", "scaled_linear"):
        maker = linear if name == "linear" else scaled_linear
        schedule = maker(count, config["beta_start"], config["beta_end"])
    else:
        raise UserError(f"scheduler_config.json has beta_schedule={name}, which cannot be read")
    return zero_terminal_snr(schedule) if config.get("rescale_betas_zero_snr") else schedule
