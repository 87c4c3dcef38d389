"""The report of a run: read from its folder, written as one page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.report import page
from ldmlab.apps.report.changes import changes, experiment_of
from ldmlab.apps.report.curves import metric_charts, rate_chart, schedule_charts
from ldmlab.apps.report.elements import Markup
from ldmlab.apps.report.findings import History, findings
from ldmlab.apps.report.pictures import over_time
from ldmlab.apps.runs.find import find_checkpoint
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.checkpoint_keys import stage_of
from ldmlab.core.errors import UserError
from ldmlab.core.files import write_text
from ldmlab.core.history import read_history

_BROKEN_SHOWN = 10
_CLASSES_OPEN = 12  # names that are shown without being asked for


def write_report(
    folder: RunFolder,
    out: Path | None = None,
    against: str | None = None,
    trust: Sequence[str] = (),
) -> Path:
    """Write the report of a run, finished or not.

    Args:
        folder: The run.
        out: The file; None for report.html in the run.
        against: Experiment to compare its configuration with; None for that of its name.
        trust: Packages whose classes its configuration may name.

    Returns:
        The file.

    Raises:
        UserError: The run's configuration cannot be read, `against` is no experiment, or the file
            cannot be written. Whatever else of the run is damaged is told on the page.
    """
    out = folder.report if out is None else out
    text = _report(folder, load_config(folder.config, trust), against)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}): name another by out=") from error
    return out


def _report(folder: RunFolder, cfg: DictConfig, against: str | None) -> str:
    complaints: list[str] = []
    experiment = experiment_of(cfg, against)
    state = _State.of(folder, cfg, complaints)
    history = _tried(complaints, lambda: read_history(folder.metrics), {})
    card = _tried(complaints, folder.read_card, {}) if folder.card.is_file() else {}
    facts, environment = (
        _tried(complaints, partial(_read_table, path), {})
        for path in (folder.data, folder.environment)
    )
    pictures, damaged = over_time(folder.samples)
    warned = [
        *complaints, *damaged, *_broken_files(folder), *findings(history),
        *_of_card(card, state.step),
    ]  # fmt: skip
    curves = metric_charts(history)
    stage = cfg.stages.get(state.stage)
    rate = [] if stage is None else [rate_chart(cfg, stage, state.stage)]
    charts = [*curves, *rate]
    sections = [
        page.section("Run", page.table(state.rows(folder, history, environment))),
        page.section("Warnings", *_listed(warned), missing="None."),
        page.section("Data", *_data(facts), missing="This run has no data.json."),
        page.section("Changed", *_changed(cfg, experiment)),
        page.section("Metric card", *_card(card), missing="There is no card yet."),
        page.section("Curves", page.row(charts), *_no_metrics(history)),
        page.section("Pictures over time", *pictures, missing="No picture was drawn yet."),
    ]
    if state.stage == "diffusion":
        sections.append(page.section("Schedule", page.row(schedule_charts(cfg))))
    return page.page(f"{cfg.name}, {state.stage}", sections)


class _State(NamedTuple):
    """Where a run stands.

    Attributes:
        stage: Its stage.
        step: Of its last checkpoint; None where there is none.
        max_steps: Where it ends.
    """

    stage: str
    step: int | None
    max_steps: int | None

    @classmethod
    def of(cls, folder: RunFolder, cfg: DictConfig, complaints: list[str]) -> _State:
        stage, step = folder.path.parent.name, None
        if any(folder.checkpoints.glob("*.ckpt")):
            checkpoint = _tried(
                complaints, lambda: read_checkpoint(find_checkpoint(folder.path)), {}
            )
            stage = stage_of(checkpoint) or stage
            steps = checkpoint.get("state_dict", {}).get("steps")
            step = None if steps is None else int(steps)
        if stage not in cfg.stages and cfg.stage in cfg.stages:
            stage = cfg.stage
        return cls(stage, step, cfg.stages[stage].max_steps if stage in cfg.stages else None)

    def rows(
        self, folder: RunFolder, history: History, environment: dict[str, Any]
    ) -> list[tuple[str, str]]:
        rows = [("folder", str(folder.path)), ("stage", self.stage)]
        if self.step is not None:
            done = self.max_steps is not None and self.step >= self.max_steps
            word = "finished" if done else "not finished"
            rows.append(("step", f"{self.step:,} of {self.max_steps or 0:,}, {word}"))
        else:
            rows.append(("step", f"no checkpoint yet; {max(history, default=-1) + 1:,} logged"))
        if seconds := folder.read_seconds():
            rows.append(("training time", f"{seconds:,.0f} s"))
        rates = [row["throughput/images_per_second"] for row in history.values()
                 if "throughput/images_per_second" in row]  # fmt: skip
        if rates:
            middle = sorted(rates)[len(rates) // 2]
            rows.append(("throughput", f"{middle:,.1f} images a second (median)"))
        if devices := environment.get("devices"):
            rows.append(("devices", ", ".join(map(str, devices))))
        for name, version in environment.get("versions", {}).items():
            if name in ("ldmlab", "torch"):
                rows.append((name, str(version)))
        return rows


def _data(facts: dict[str, Any]) -> list[Markup]:
    if not facts:
        return []
    plain = [(k, str(v)) for k, v in facts.items() if k != "classes"]
    classes = facts.get("classes") or {}
    parts = [page.table([*plain, ("classes", f"{len(classes):,}")])]
    if classes:
        names = page.table([(str(k), str(v)) for k, v in classes.items()], ("number", "class"))
        short = len(classes) <= _CLASSES_OPEN
        parts.append(names if short else page.folded(f"{len(classes):,} class names", names))
    return parts


def _changed(cfg: DictConfig, experiment: str) -> list[Markup]:
    try:
        found = changes(cfg, experiment)
    except UserError as error:
        return [page.paragraph(f"experiment={experiment} does not compose by itself: {error}")]
    said = page.paragraph(f"{len(found)} keys differ from experiment={experiment} as it is now.")
    return [said, page.table(found, ("key", "experiment", "this run"))] if found else [said]


def _card(card: dict[str, Any]) -> list[Markup]:
    if not card.get("metrics"):
        return []
    rows = []
    for name, metric in card["metrics"].items():
        interval = metric.get("interval")
        rows.append((
            name,
            _shown(metric.get("value")),
            "" if not interval else f"{_shown(interval[0])} to {_shown(interval[1])}",
            _shown(metric.get("floor")),
            _shown(metric.get("real")),
            _shown(metric.get("samples")),
        ))  # fmt: skip
    head = ("metric", "value", "interval", "floor", "on real images", "samples")
    return [page.table(rows, head), page.paragraph(f"Measured at step {card.get('step', '?')}.")]


def _of_card(card: dict[str, Any], step: int | None) -> list[str]:
    metrics = card.get("metrics", {})
    said = [f"{name}: {m['warning']}" for name, m in metrics.items() if m.get("warning")]
    if metrics and step is not None and card.get("step", step) != step:
        said.append(f"the card is of step {card['step']}, the run is at step {step}")
    return said


def _broken_files(folder: RunFolder) -> list[str]:
    """How many files could not be read, and the first of them."""
    names = {
        line for path in sorted(folder.path.glob("broken_files*.txt"))
        for line in path.read_text("utf-8", errors="replace").splitlines()
    }  # fmt: skip
    if not names:
        return []
    more = ", …" if len(names) > _BROKEN_SHOWN else ""
    first = ", ".join(sorted(names)[:_BROKEN_SHOWN])
    return [f"{len(names):,} broken files were replaced by others: {first}{more}"]


def _no_metrics(history: History) -> list[Markup]:
    return [] if history else [page.paragraph("Nothing was logged yet.")]


def _listed(lines: Sequence[str]) -> list[Markup]:
    return [page.warnings(lines)] if lines else []


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _read_table(path: Path) -> dict[str, Any]:
    """A table of the run; an empty one where there is no such file.

    Raises:
        UserError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}) and is left out") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it holds no table) and is left out")
    return content


def _tried(complaints: list[str], read: Callable[[], Any], otherwise: Any) -> Any:
    """What is read; where it cannot be, a complaint for the page and something else."""
    try:
        return read()
    except UserError as error:
        complaints.append(str(error))
        return otherwise
