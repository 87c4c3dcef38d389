"""Chooses what is left open: conditions by the data, sizes by the machine, steps by the time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.build.experiment import (
    build_autoencoder_module,
    build_codec,
    build_diffusion_module,
    build_model,
)
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.overrides import key_of
from ldmlab.apps.config.run_base import load_table
from ldmlab.apps.stages.session import Session, console
from ldmlab.core.device import device_of
from ldmlab.core.errors import UserError
from ldmlab.core.files import make_folder, write_text
from ldmlab.core.locks import locked
from ldmlab.data.sampling.datasets import with_latents
from ldmlab.data.sources.contents import Contents, look_into

DATA, SIZE = "data", "size"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Of the time that there is: for each stage; the rest is for reading, validations and samples.
_SHARES = {"autoencoder": 0.25, "diffusion": 0.6}
# What a step takes beside its passes: the optimiser, the average of the weights, the data.
_OVERHEAD = 1.2
# Fewer steps than these teach a wide network less than a narrower one.
_ENOUGH = 3000
_LEAST = 50
_NARROWER = (0.75, 0.5)  # parts of its width
_WIDTH_STEP = 32
_START_OF_ADVERSARY = 0.8
# Gigabytes of a GPU's memory from which an overlay is taken, the largest first.
_OVERLAYS = (("own_large", 60, 512), ("own_medium", 7, 128), ("own_small", 0, 0))
_TOKENS = 4096  # of captions at most
_SIDES = (512, 384, 256, 192, 128, 96, 64, 48, 32)
# Of the configuration, what a plan depends on, whatever the verb.
_DECISIVE = (
    "plan", "budget", "data", "autoencoder", "bottleneck", "discriminator", "perceptual", "codec",
    "network", "conditioner", "stages", "trainer",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What was chosen.

    Attributes:
        overrides: The choice, as it could have been typed.
        reasons: Why, in lines for the user.
    """

    overrides: tuple[str, ...]
    reasons: tuple[str, ...]


def planned(cfg: DictConfig, typed: Sequence[str]) -> DictConfig:
    """The configuration with all that it leaves open chosen; the same choice at each later start.

    Args:
        cfg: A configuration; one without `plan` and `budget` is given back as it is.
        typed: The user's overrides, which no choice touches.

    Raises:
        UserError: The data cannot be read, or the budget is too short for any training.
    """
    if not cfg.plan and cfg.budget is None:
        return cfg
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    asked = {key: tree[key] for key in _DECISIVE}
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:10]
    path = Path(cfg.paths.runs) / str(cfg.name) / "plans" / f"{name}.yaml"
    make_folder(path.parent, lambda reason: f"paths.runs={cfg.paths.runs}: {reason}")
    # Other processes of the same training wait for the first one's choice.
    with locked(path.with_suffix(".lock")):
        if path.is_file():
            plan = _read(path)
            console.print(f"as planned before ({path}; delete it to plan anew):", markup=False)
            _say(plan.reasons)
        else:
            plan = _make(cfg, typed)
            write_text(path, OmegaConf.to_yaml(OmegaConf.create(vars(plan))))
    return _with(cfg, plan.overrides, typed)


def seconds_of(budget: str) -> float:
    """Seconds of a time such as 90s, 20m, 8h or 2d.

    Raises:
        UserError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if match is None or not float(match[1]):
        raise UserError(f"budget={budget} is no time: write a number and s, m, h or d, as 20m")
    return float(match[1]) * _UNITS[match[2]]


def _read(path: Path) -> Plan:
    table = load_table(path)
    if set(table) != {"overrides", "reasons"}:
        raise UserError(f"{path} is no plan: delete it")
    return Plan(tuple(table.overrides), tuple(table.reasons))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"  {line}", markup=False)


def _make(cfg: DictConfig, typed: Sequence[str]) -> Plan:
    overrides: list[str] = []
    reasons: list[str] = []
    if cfg.plan:
        found = look_into(cfg.data.root)
        if DATA in cfg.plan:
            chosen, why = _conditions(found)
            overrides += chosen
            reasons.append(why)
            _say([why])
        if SIZE in cfg.plan:
            chosen, why = _overlay(cfg, found)
            if "data.image_size" in map(key_of, typed):
                why += "; data.image_size is yours"
            overrides += chosen
            reasons.append(why)
            _say([why])
    if cfg.budget is not None:
        _say(["timing a few steps ..."])
        chosen, lines = _steps(cfg, overrides, typed, seconds_of(cfg.budget))
        overrides += chosen
        reasons += lines
        _say(lines)
    mine = {key_of(override) for override in typed}
    return Plan(tuple(o for o in overrides if key_of(o) not in mine), tuple(reasons))


def _with(cfg: DictConfig, overrides: Sequence[str], typed: Sequence[str]) -> DictConfig:
    """What was chosen on top of a configuration, and what was typed on top of both."""
    settled = ("experiment", "plan", "budget", "config")
    again = [f"++{o.lstrip('+')}" if o.startswith("+") else o for o in typed]
    again = [o for o in again if key_of(o) not in settled and not o.startswith("~")]
    return compose([*overrides, *again, "plan=[]", "budget=null"], base=cfg)


def _conditions(found: Contents) -> tuple[list[str], str]:
    """Captions where there are any, else masks, else classes, else none."""
    overrides = [] if found.images is None else [f"data.images={found.images}"]
    what = {
        "captions": found.captions and f"captions ({found.captions})",
        "masks": found.masks and f"masks of {found.num_mask_labels} labels ({found.masks})",
        "classes": found.classes and f"{len(found.classes)} classes",
    }
    there = [kind for kind, text in what.items() if text]
    kind = there[0] if there else None
    if kind == "captions":
        overrides += ["conditioner=text", f"data.captions={found.captions}"]
        overrides += [f"data.vocabulary_size={_TOKENS}"]
    elif kind == "masks":
        overrides += ["conditioner=mask", f"data.masks={found.masks}"]
        overrides += [f"data.num_mask_labels={found.num_mask_labels}"]
    elif kind == "classes":
        overrides += ["conditioner=class", "data.class_folders=true"]
        overrides += [f"data.num_classes={len(found.classes)}"]
    if kind is not None:
        overrides += ["guidance=classifier_free"]
    text = ", ".join(str(what[kind]) for kind in there) or "neither captions nor masks nor classes"
    line = f"found {found.count:,} images in {found.root}, {found.side} px a side"
    if (found.channels, found.bits) != (3, 8):
        overrides += [f"data.channels={found.channels}", f"data.bits={found.bits}"]
        values = "floats" if found.bits == "float" else f"{found.bits} bits"
        line += f", {found.channels} channel{'s' * (found.channels > 1)} of {values}"
    if found.bits != 8:  # few use all that their type holds
        overrides.append("data.value_percentile=[0,100]")
    line += f", with {text}"
    if kind is not None:
        line += f"; the model is conditioned on the {kind}"
    return overrides, line


def _overlay(cfg: DictConfig, found: Contents) -> tuple[list[str], str]:
    """The largest overlay for the device, and images as large as it and they are."""
    device = device_of(cfg.trainer.accelerator, cfg.trainer.devices)
    memory = 0.0
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    name = next(o for o, least, side in _OVERLAYS if memory >= least and found.side >= side)
    size = compose([f"experiment={name}"]).data.image_size
    side = next((s for s in _SIDES if s <= min(size, found.side)), _SIDES[-1])
    where = f"a GPU of {memory:.0f} GiB" if memory else "a CPU"
    overrides = [f"experiment={name}", f"data.image_size={side}"]
    return overrides, f"{name}, made for {side} x {side} px, on {where}"


def _steps(
    cfg: DictConfig, overrides: Sequence[str], typed: Sequence[str], seconds: float
) -> tuple[list[str], list[str]]:
    """Steps that fit into the time, of the widest network that still gets enough of them."""
    stages = ["autoencoder", "diffusion"] if cfg.stage == "all" else [str(cfg.stage)]
    shares = _SHARES if len(stages) == 2 else {stages[0]: sum(_SHARES.values())}
    chosen: list[str] = []
    tried = _with(cfg, overrides, typed)
    session = Session.open(tried)
    known = dict(_step_times(tried, session, stages))
    wide = int(tried.network.channels)
    for width in _NARROWER if SIZE in cfg.plan and "diffusion" in stages else ():
        if shares["diffusion"] * seconds / known["diffusion"] >= _ENOUGH:
            break
        channels = max(_WIDTH_STEP, int(wide * width) // _WIDTH_STEP * _WIDTH_STEP)
        chosen = [f"network.channels={channels}"]
        tried = _with(cfg, [*overrides, *chosen], typed)
        known |= dict(_step_times(tried, session, ["diffusion"]))
    lines = []
    for stage in stages:
        time = shares[stage] * seconds
        steps = int(time / known[stage])
        if steps < _LEAST:
            raise UserError(
                f"budget={cfg.budget} leaves {steps} steps of {known[stage]:.1f} s for the "
                f"{stage}: give more time, or a smaller data.image_size"
            )
        chosen.append(f"stages.{stage}.max_steps={steps}")
        if stage == "autoencoder" and tried.discriminator is not None:
            chosen.append(f"discriminator.start={int(_START_OF_ADVERSARY * steps)}")
        rate = tried.stages[stage].batch_size / known[stage]
        lines.append(f"{stage}: {steps:,} steps at {rate:,.0f} images/s, {time / 60:.0f} min")
    return chosen, lines


def _step_times(
    cfg: DictConfig, session: Session, stages: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Seconds of a step of each stage, measured on the first images."""
    from ldmlab.training.step_time import seconds_a_step  # Lightning is slow to import

    device = device_of(cfg.trainer.accelerator, cfg.trainer.devices)
    devices = cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else 1
    for stage in stages:
        count = max(1, cfg.stages[stage].batch_size // (devices * cfg.trainer.num_nodes))
        batch = session.train.__getitems__([k % len(session.train) for k in range(count)])
        if stage == "autoencoder":
            module: Any = build_autoencoder_module(cfg, session.spec)
        else:
            codec = build_codec(cfg, session.spec)
            model = build_model(cfg, session.spec, codec)
            module = build_diffusion_module(cfg, model)
            if cfg.data.in_memory or cfg.data.latents is not None:
                batch = with_latents(batch, codec.encode)
        yield stage, _OVERHEAD * seconds_a_step(module, batch, device)
