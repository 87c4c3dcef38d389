"""`ldmlab verify`: the paper's experiments against their published numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.run_base import load_table
from ldmlab.core.errors import UserError
from ldmlab.core.suggest import did_you_mean
from ldmlab.models.published import PACKAGED, QUANTITIES, Finding, compare

Published = Mapping[str, Mapping[str, Any]]
TABLE_WIDTH = 110


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
    findings: list[Finding] = []
    for name in steps:
        blueprint = draw_blueprint(compose([f"experiment={name}"]))
        findings += compare(name, blueprint, published[name])
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
        table.add_row(name, *cells, verdict if good == len(own) else f"[red]{verdict}[/red]")
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
