"""What of an experiment can be held against a published number, and whether both agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ldmlab.models.blueprint import Blueprint

PACKAGED = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Quantity:
    """A number that an experiment can be asked for.

    Attributes:
        read: Takes it from a blueprint.
        tolerance: Largest relative difference; 0 for an exact number.
    """

    read: Callable[[Blueprint], Any]
    tolerance: float = 0.0

    def agrees(self, built: Any, published: Any) -> bool:
        """Whether two values are the same within the tolerance."""
        if self.tolerance == 0 or built is None:
            return bool(built == published)
        return math.isclose(built, published, rel_tol=self.tolerance)


@dataclass(frozen=True)
class Finding:
    """One number of one experiment.

    Attributes:
        experiment: Its name.
        quantity: What is compared.
        built: What the configuration gives; None where it has no such part.
        published: What the source says.
        agrees: Whether they are the same within the quantity's tolerance.
    """

    experiment: str
    quantity: str
    built: Any
    published: Any
    agrees: bool


def _weights(part: str) -> Quantity:
    return Quantity(lambda blueprint: blueprint.parameters.get(part))


def _gflops(part: str) -> Quantity:
    def read(blueprint: Blueprint) -> float | None:
        return blueprint.cost(part).flops / 1e9 if part in blueprint.calls else None

    return Quantity(read, 0.01)


QUANTITIES: dict[str, Quantity] = {
    "unet": _weights("unet"),
    "conditioner": _weights("conditioner"),
    "autoencoder": _weights("autoencoder"),
    "discriminator": _weights("discriminator"),
    "latent": Quantity(lambda blueprint: list(blueprint.latent_shape)),
    "alpha_bar": Quantity(lambda blueprint: blueprint.alpha_bar, 1e-9),
    "lr": Quantity(lambda blueprint: blueprint.training.lr),
    "batch": Quantity(lambda blueprint: blueprint.training.batch_size),
    # Printed rates are rounded to two digits.
    "base_lr": Quantity(
        lambda blueprint: blueprint.training.lr / blueprint.training.batch_size, 0.02
    ),
    "steps": Quantity(lambda blueprint: blueprint.training.max_steps),
    "gflops": _gflops("unet"),
    "encode_gflops": _gflops("encode"),
    "decode_gflops": _gflops("decode"),
}


def compare(name: str, blueprint: Blueprint, published: Mapping[str, Any]) -> list[Finding]:
    """Compare each number that an experiment's source states with what was built.

    Args:
        name: The experiment's.
        blueprint: The experiment.
        published: Names of quantities, each with what the source says; and the `source` itself.
    """
    findings = []
    with torch.no_grad():
        for key in (key for key in published if key != "source"):
            quantity = QUANTITIES[key]
            built = quantity.read(blueprint)
            agrees = quantity.agrees(built, published[key])
            findings.append(Finding(name, key, built, published[key], agrees))
    return findings
