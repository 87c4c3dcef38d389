"""`ldmlab evaluate`: judge a trained run, or anyone's images, and write a metric card."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_data, build_validation
from ldmlab.apps.commands.evaluate_run import measure_codec, measure_model
from ldmlab.apps.commands.evaluate_sets import print_metrics, progress_bars, run_on_sets
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.runs.restore import Restored, restore, restore_codec, stage_of_run
from ldmlab.core.device import device_to_show_on
from ldmlab.core.errors import UserError
from ldmlab.core.processes import is_main_process
from ldmlab.core.terminal import console
from ldmlab.evaluation.card import heading, rests_on
from ldmlab.evaluation.likelihood import BitsPerDim, DensityBaseline
from ldmlab.evaluation.names import BITS_PER_DIM, OWN
from ldmlab.evaluation.protocol import Evaluation, Metric, NoEvaluation, Subject


def run(cfg: DictConfig) -> None:
    """Judge the run that `run` names, or what `samples` names.

    Args:
        cfg: The run's configuration with this verb's keys on top.

    Raises:
        UserError: Nothing is to be measured.
    """
    if cfg.run is None:
        run_on_sets(cfg)
        return
    if cfg.samples is not None:
        raise UserError("give run=R, whose samples are drawn, or samples=<folder or npz>, not both")
    if stage_of_run(cfg.run) == "autoencoder":
        codec = restore_codec(cfg, cfg.run)
        card = measure_codec(cfg, codec)
        folder = codec.folder
    else:
        wanted = list(cfg.metrics or [OWN])
        if wanted == [OWN] and isinstance(build(cfg.evaluation), NoEvaluation):
            raise UserError(
                "evaluation=none judges nothing, and the card would hold nothing: ask for "
                "metrics=[bits_per_dim], or name a judge with evaluation=<name>"
            )
        restored = restore(cfg, cfg.run, cfg.ema_std)
        folder = restored.folder
        exists = folder.card.is_file()
        seconds = folder.read_card().get("wall_seconds", {}) if exists else {}
        card = write_card(cfg, restored, seconds, wanted)
    if is_main_process():
        print_metrics(card["metrics"])
        print(folder.card)


def write_card(
    cfg: DictConfig, restored: Restored, seconds: dict[str, float], wanted: Sequence[str] = (OWN,)
) -> dict[str, Any]:
    """Judge a model and write the card into its run folder.

    Args:
        cfg: Sampler, guidance, evaluation and seed.
        restored: The model.
        seconds: Wall time of the phases so far.
        wanted: What to measure: `judge`, the run's own evaluation, `bits_per_dim`, and metrics of
            sets of images.

    Returns:
        The card.

    Raises:
        UserError: What the model draws cannot be judged, or a metric of it is not finite.
    """
    started = time.monotonic()
    restored.model.to(device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices))
    subject = _subject(cfg, restored)
    # What was measured before under the same protocol stays beside what is measured now.
    before = card_of(cfg, restored) or {"metrics": {}, "measured": []}
    metrics: dict[str, Any] = dict(before["metrics"])
    of_sets = [name for name in wanted if name not in (OWN, BITS_PER_DIM)]
    if of_sets:
        metrics |= measure_model(cfg, restored, subject, of_sets)
    with progress_bars() as on_progress:
        if OWN in wanted:
            evaluation: Evaluation = build(cfg.evaluation)
            metrics |= evaluation(subject, on_progress("judging"))
        if BITS_PER_DIM in wanted:
            unseen = build_validation(cfg, restored.spec)
            bits = BitsPerDim(**cfg.bits_per_dim)
            metrics |= bits(subject, unseen, on_progress("bits per dim"))
            if cfg.density.network is not None:
                density = DensityBaseline(**{**cfg.density, "network": build(cfg.density.network)})
                train, _, _ = build_data(cfg)
                metrics |= density(
                    subject, train, unseen, bits.num_samples, on_progress("density baseline")
                )
    _tell(metrics)
    card = {
        "metrics": metrics,
        "measured": sorted({*before["measured"], *wanted}),
        **_heading(cfg, restored),
        "wall_seconds": seconds | {"evaluation": time.monotonic() - started},
    }
    if is_main_process():
        restored.folder.write_card(card)
    return card


def _tell(metrics: Mapping[str, Metric]) -> None:
    """Say what warns of a number, and let none on the card that is no number."""
    for name, metric in metrics.items():
        if not math.isfinite(metric["value"]):
            raise UserError(
                f"{name} is {metric['value']}, and no card is written: the model knows no such "
                "images; train it longer, or leave this metric out of metrics="
            )
        if warning := metric.get("warning"):
            console.print(f"[yellow]warning:[/] {name}: {warning}")


def card_of(cfg: DictConfig, restored: Restored) -> dict[str, Any] | None:
    """The run's card, if it says what `write_card` would measure again."""
    if not restored.folder.card.is_file():
        return None
    card = restored.folder.read_card()
    return card if rests_on(card, _heading(cfg, restored)) else None


def _subject(cfg: DictConfig, restored: Restored) -> Subject:
    sampler, guidance = build(cfg.sampler), build(cfg.guidance)
    return Subject(restored.model, restored.spec, sampler, guidance, cfg.seed)


def _heading(cfg: DictConfig, restored: Restored) -> dict[str, Any]:
    subject, run = _subject(cfg, restored), restored.folder.path.name
    return heading(build(cfg.evaluation), subject, run, restored.step)
