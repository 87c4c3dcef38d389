"""`ldmlab report`: one page about a run, for a browser or a phone."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ldmlab.apps.report.run_report import write_report
from ldmlab.apps.runs.find import find_run


def run(cfg: DictConfig) -> None:
    """Write the report of a run and print where it is.

    Args:
        cfg: This verb's keys.

    Raises:
        UserError: There is no such run, or its configuration cannot be read.
    """
    out = None if cfg.out is None else Path(cfg.out)
    print(write_report(find_run(cfg.run), out, cfg.against, list(cfg.trust)))
