"""Tensors in and out of the published modules, and the recipe of the weights behind them.

They were computed in float32 on a CPU with CompVis/latent-diffusion at a506df5 and
CompVis/taming-transformers at 3ba01b2, at small widths. A tolerance is thirty times what a last
bit of noise in every weight changes, and at least 3e-6 of the largest value.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ldmlab.core.random import Noise
from ldmlab.interop.compvis import model as compvis
from ldmlab.models.latent_diffusion import LatentDiffusion

DATA = Path(__file__).parent / "data"


@cache
def read(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))


def names(kind: str) -> list[str]:
    return [name for name, case in read("cases").items() if case["kind"] == kind]


def weight(key: str, shape: Iterable[int], seed: int, rules: Iterable[tuple[str, float]]) -> Tensor:
    """A weight as a function of its published name: every layer matters, none is near zero."""
    shape = tuple(shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    random = np.random.RandomState((zlib.crc32(key.encode()) + seed * 7919) % 2**32)
    z = random.standard_normal(math.prod(shape)).reshape(shape)
    if key.endswith("running_var"):
        value = np.abs(1 + 0.2 * z)
    elif key.endswith("running_mean"):
        value = 0.1 * z
    elif key.endswith("logvar"):
        value = 0.3 * z
    elif re.search(r"(emb|embedding)\.weight$", key) and len(shape) >= 2:
        value = 0.5 * z
    elif len(shape) >= 2:
        value = z / math.sqrt(math.prod(shape[1:]))
    else:
        value = 1 + 0.2 * z if key.endswith("weight") else 0.2 * z
    for pattern, factor in rules:
        if re.search(pattern, key):
            value = value * factor
    return torch.from_numpy(value.astype(np.float16).astype(np.float32))


class Case:
    """One run of a published module."""

    def __init__(self, name: str) -> None:
        case = read("cases")[name]
        tensors = load_file(DATA / f"{name}.safetensors")
        self.config: dict[str, Any] = case["config"]
        self._tolerances = case["tolerances"]
        self._weights = case.get("weights")
        self._out = {k[4:]: v for k, v in tensors.items() if k.startswith("out.")}
        self.stored = {k[2:]: v.float() for k, v in tensors.items() if k.startswith("w.")}
        self._in = {
            k[3:]: v.float() if v.is_floating_point() else v
            for k, v in tensors.items()
            if k.startswith("in.")
        }

    def __getitem__(self, name: str) -> Tensor:
        return self._in[name]

    def given(self, name: str) -> Tensor | None:
        return self._in.get(name)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        seed, rules = self._weights["seed"], self._weights["rules"]
        made = {}
        for key, shape in self._weights["keys"]:
            inner = key.removeprefix("loss.discriminator.")
            if key.endswith("logvar"):
                made[key] = torch.zeros(shape)
            else:
                made[key] = weight(inner, shape, seed + (inner != key), rules)
        return made

    def section(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)}

    def check(self, **got: Tensor) -> None:
        self.check_all(got)

    def check_all(self, got: Mapping[str, Tensor]) -> None:
        for name, value in got.items():
            want = self._out[name]
            atol, rtol = self._tolerances[name]
            torch.testing.assert_close(
                value.detach().to(want.dtype).reshape(want.shape),
                want,
                rtol=rtol,
                atol=atol,
                msg=lambda text, name=name: f"{name}: {text}",
            )

    def model(self, **params: Any) -> LatentDiffusion:
        """The whole model of a case whose first stage is the identity."""
        unet = self.config["unet"]
        classes = "class_label" in self._in
        embedder = {"n_classes": 11, "embed_dim": unet.get("context_dim")}
        section = {
            "unet_config": {"params": unet},
            "first_stage_config": {"target": "ldm.models.autoencoder.IdentityFirstStage"},
            "cond_stage_config": (
                {"target": "ldm.modules.encoders.modules.ClassEmbedder", "params": embedder}
                if classes
                else "__is_unconditional__"
            ),
            "conditioning_key": "crossattn" if classes else None,
            "channels": unet["out_channels"],
        }
        known = ("timesteps", "linear_start", "linear_end", "loss_type", "l_simple_weight")
        section |= {k: self.config[k] for k in (*known, "original_elbo_weight") if k in self.config}
        config = {"model": {"target": "ddpm.LatentDiffusion", "params": section | params}}
        return compvis.load(config, self.weights)


class Replay(Noise):
    """A source of random numbers that gives back what is put in."""

    def __init__(self, normal: Iterable[Tensor] = (), uniform: Iterable[Tensor] = ()) -> None:
        self._normal, self._uniform = iter(normal), iter(uniform)

    def normal(self, like: Tensor) -> Tensor:
        return next(self._normal).to(like)

    def uniform(self, like: Tensor) -> Tensor:
        return next(self._uniform).to(like)
