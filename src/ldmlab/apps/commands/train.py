"""`ldmlab train`: both stages, samples and the metric card."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig
from rich.table import Table

from ldmlab.apps.build.check import check_experiment
from ldmlab.apps.commands.evaluate import card_of, write_card
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.overrides import typed_overrides
from ldmlab.apps.report.run_report import write_report
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.restore import Restored, restore
from ldmlab.apps.stages.fit_stage import check_resume
from ldmlab.apps.stages.plan import planned
from ldmlab.apps.stages.session import Session, console
from ldmlab.apps.stages.two_stage import train_autoencoder, train_diffusion
from ldmlab.core.jobs import report
from ldmlab.core.processes import is_main_process
from ldmlab.core.terminal import next_line
from ldmlab.evaluation.names import OWN

_WISH = 200  # characters of a caption that are shown


def run(cfg: DictConfig) -> None:
    """Train what `stage` asks for, judge it and say where everything is.

    Args:
        cfg: The composed configuration.

    Raises:
        UserError: Something of it cannot be had.
    """
    cfg = planned(cfg, typed_overrides())
    check_experiment(cfg)
    check_resume(cfg)
    session = Session.open(cfg)
    if cfg.stage == "autoencoder":
        folder = train_autoencoder(session)
        session.close()
        report_page(folder, cfg.trust)
        console.print(f"stage one is in {folder.path}", markup=False)
        line = next_line("train", "stage=diffusion", f"codec.run={folder.path}")
        console.print(line, markup=False)
        return
    learned = build(cfg.codec.module).func.learned
    if cfg.stage == "all" and cfg.codec.run is None and learned:
        report_page(train_autoencoder(session), cfg.trust)
    folder = train_diffusion(session)
    if not is_main_process():
        return
    restored = restore(cfg, folder.path)
    card = card_of(cfg, restored)
    if card is None or OWN not in card["measured"]:
        card = write_card(cfg, restored, session.seconds)
    session.close(card)
    report_page(folder, cfg.trust)
    report({name: metric["value"] for name, metric in card["metrics"].items()})
    table = Table("metric", "value", "on real images", title=str(cfg.name))
    for name, metric in card["metrics"].items():
        real = metric.get("real")
        table.add_row(name, _shown(metric["value"]), "" if real is None else _shown(real))
    if card["metrics"]:
        console.print(table)
    seconds = ", ".join(f"{phase} {spent:.0f} s" for phase, spent in card["wall_seconds"].items())
    console.print(f"time: {seconds}")
    places = f"run:     {folder.path}\nsamples: {folder.samples}\ncard:    {folder.card}"
    if folder.report.is_file():
        places += f"\nreport:  {folder.report}"
    console.print(places, markup=False)
    line = next_line("sample", f"run={folder.path}", _another_wish(cfg, restored))
    console.print(line, markup=False)
    if not card["metrics"]:
        judge = ("train_judge=true", "metrics=[fd_judge]")
        console.print(next_line("evaluate", f"run={folder.path}", *judge), markup=False)


def report_page(folder: RunFolder, trust: Sequence[str]) -> None:
    """Write the report of a run that was trained; a failure is told, and is none of the training's.

    Args:
        folder: The run.
        trust: Packages whose classes its configuration may name.
    """
    if not is_main_process():
        return
    try:
        write_report(folder, trust=list(trust))
    except Exception as error:  # no page is worth a trained model
        console.print(
            f"warning: no report was written ({type(error).__name__}: {error}); for another try: "
            f"ldmlab report run={folder.path}",
            markup=False,
        )


def _another_wish(cfg: DictConfig, restored: Restored) -> str:
    """An override of `sample` that asks this model for something."""
    key = restored.model.network.conditioner.input_key
    if key == "caption":
        caption = build(cfg.data.validation).__getitems__([0]).caption[0]
        return f"prompt={caption[:_WISH]}"
    return "labels=1" if key == "label" else "seed=1"


def _shown(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
