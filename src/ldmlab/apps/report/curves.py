"""The charts of a run: what it logged, its learning rate, its noise schedule."""

from __future__ import annotations

import math

import torch
from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_lr_schedule, learning_rate
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.report.charts import Series, line_chart
from ldmlab.apps.report.elements import Markup
from ldmlab.apps.report.findings import History, points
from ldmlab.diffusion.schedule import Schedule

# Metrics that share a chart, by its title; every other metric has one of its own.
_TOGETHER = {
    "loss": ("train/loss", "val/loss"),
    "gradient norm": ("grad_norm/",),
    "discriminator's logits": ("train/logits_real", "train/logits_fake"),
    "KL of each channel": ("val/kl/",),
}
_PLACES = 200  # of a curve that is a formula


def metric_charts(history: History) -> list[Markup]:
    """A chart for each metric that was logged, losses first."""
    left = sorted({name for row in history.values() for name in row})
    groups: dict[str, list[str]] = {}
    for title, prefixes in _TOGETHER.items():
        groups[title] = [name for name in left if name.startswith(prefixes)]
        left = [name for name in left if name not in groups[title]]
    groups |= {name: [name] for name in left}
    charts = []
    for title, names in groups.items():
        series = [Series(name, points(history, name)) for name in names]
        if any(math.isfinite(y) for one in series for _, y in one.points):
            charts.append(line_chart(title, series))
    return charts


def rate_chart(cfg: DictConfig, stage: DictConfig, name: str) -> Markup:
    """The learning rate of a whole training, as its configuration has it."""
    factor, rate = build_lr_schedule(cfg, stage), learning_rate(cfg, stage, float(stage.lr))
    last = max(stage.max_steps - 1, 1)
    steps = sorted({round(k * last / _PLACES) for k in range(_PLACES + 1)})
    series = Series(f"stages.{name}.lr", [(float(k), rate * float(factor(k))) for k in steps])
    return line_chart("learning rate", [series])


def schedule_charts(cfg: DictConfig) -> list[Markup]:
    """Signal and noise over the time of the diffusion, and the log of their ratio."""
    schedule: Schedule = build(cfg.schedule)
    times = torch.linspace(0, 1, _PLACES + 1, dtype=torch.float64)
    level = schedule.level(times)
    alpha, sigma, log_snr = (
        list(zip(times.tolist(), values.tolist(), strict=True))
        for values in (level.alpha, level.sigma, level.log_snr)
    )
    return [
        line_chart("signal and noise", [Series("alpha", alpha), Series("sigma", sigma)], "time"),
        line_chart("log-SNR", [Series("log(alpha² / sigma²)", log_snr)], "time"),
    ]
