"""`ldmlab describe`: how large an experiment is, before anything is trained."""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.models.sizes import describe


def run(cfg: DictConfig) -> None:
    """Print the sizes of an experiment.

    Args:
        cfg: The experiment, with `format`.
    """
    description = describe(draw_blueprint(cfg))
    if cfg.format == "json":
        print(json.dumps(description, indent=2))
        return
    console = Console(highlight=False)
    for title, section in description.items():
        if not isinstance(section, dict):
            console.print(f"{title}: {section}")
            continue
        unit = UNITS.get(title, str)
        table = Table(show_header=False, title=title, title_justify="left", box=None)
        table.add_column(min_width=26)
        table.add_column(justify="right")
        for name, value in section.items():
            table.add_row(name.replace("_", " "), unit(value))
        console.print(table, "")


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _general(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _number(value)


UNITS: dict[str, Any] = {
    "weights": _number,
    "latents": _number,
    "schedule": _general,
    "flops": lambda value: f"{value / 1e9:,.1f} GFLOP",
    "memory_bytes": lambda value: f"{value / 2**30:,.2f} GiB",
    "training": _general,
}
