"""`ldmlab verify`: the paper's experiments against their published numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ldmlab.apps.build.meta import Blueprint
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.run_base import load_table
from ldmlab.apps.config.suggest import did_you_mean
from ldmlab.core.errors import UserError

Published = Mapping[str, Mapping[str, Any]]
TABLE_WIDTH = 110
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
    "lr": Quantity(lambda blueprint: float(blueprint.stage.lr)),
    "batch": Quantity(lambda blueprint: int(blueprint.stage.batch_size)),
    # Printed rates are rounded to two digits.
    "base_lr": Quantity(lambda blueprint: blueprint.stage.lr / blueprint.stage.batch_size, 0.02),
    "steps": Quantity(lambda blueprint: int(blueprint.stage.max_steps)),
    "gflops": _gflops("unet"),
    "encode_gflops": _gflops("encode"),
    "decode_gflops": _gflops("decode"),
}


def run(cfg: DictConfig) -> int:
    """Print the comparison.

    Args:
        cfg: This verb's keys.

    Returns:
        0 where every number agrees, 1 otherwise.
    """
    path = PACKAGED if cfg.path is None else Path(cfg.path)
    published = read_published(path)
    names = _chosen(cfg.only, published)
    steps = track(names, "verifying", console=Console(stderr=True), transient=True)
    findings = [finding for name in steps for finding in examine(name, published[name])]
    wrong = [finding for finding in findings if not finding.agrees]
    if cfg.format == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        wide = max(Console().width, TABLE_WIDTH)
        Console(width=wide).print(_table(names, findings))
        for finding in wrong:
            print(
                f"{finding.experiment}.{finding.quantity}: built {_shown(finding.built)}, "
                f"published {_shown(finding.published)}"
            )
        print(f"{len(findings)} numbers of {len(names)} experiments, {len(wrong)} wrong")
        print(f"sources: {path}")
    return int(bool(wrong))


def read_published(path: Path) -> Published:
    """Read a file of published numbers.

    Raises:
        UserError: It cannot be read, or asks for a number that nothing here computes.
    """
    tree: Any = OmegaConf.to_container(load_table(path))
    for name, numbers in tree.items():
        for quantity in numbers if isinstance(numbers, dict) else [numbers]:
            if quantity not in (*QUANTITIES, "source"):
                raise UserError(
                    f"{path}: {name}.{quantity} is no quantity"
                    f"{did_you_mean(str(quantity), QUANTITIES)}"
                )
    return tree


def examine(name: str, published: Mapping[str, Any]) -> list[Finding]:
    """Build an experiment on `meta` and compare each number that its source states.

    Raises:
        UserError: There is no such experiment.
    """
    blueprint = Blueprint.draw(compose([f"experiment={name}"]))
    findings = []
    with torch.no_grad():
        for key in (key for key in published if key != "source"):
            quantity = QUANTITIES[key]
            built = quantity.read(blueprint)
            agrees = quantity.agrees(built, published[key])
            findings.append(Finding(name, key, built, published[key], agrees))
    return findings


def _chosen(only: Any, published: Published) -> list[str]:
    if only is None:
        return list(published)
    names = [only] if isinstance(only, str) else [str(name) for name in only]
    for name in names:
        if name not in published:
            raise UserError(
                f"only={name}: no numbers were published for it{did_you_mean(name, published)}"
            )
    return names


def _table(names: list[str], findings: list[Finding]) -> Table:
    shown = ("unet", "conditioner", "autoencoder", "latent", "alpha_bar", "lr", "gflops")
    table = Table("experiment", *shown, "agrees", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for name in names:
        own = {finding.quantity: finding for finding in findings if finding.experiment == name}
        cells = [_cell(own.get(quantity)) for quantity in shown]
        good = sum(finding.agrees for finding in own.values())
        verdict = f"{good} of {len(own)}"
        table.add_row(
            name,
            *cells,
            verdict if good == len(own) else f"[red]{verdict}[/red]",
        )
    return table


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ""
    text = _shown(finding.built)
    return text if finding.agrees else f"[red]{text}[/red]"


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
