"""`ldmlab evaluate`: judge a trained run and write its metric card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_data, build_validation
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.runs.restore import Restored, restore
from ldmlab.core.device import device_to_show_on
from ldmlab.core.errors import UserError
from ldmlab.core.terminal import progress
from ldmlab.evaluation.card import heading, rests_on
from ldmlab.evaluation.likelihood import BitsPerDim, DensityBaseline
from ldmlab.evaluation.protocol import Evaluation, NoEvaluation, OnProgress, Subject

JUDGE = "judge"  # the run's own evaluation, and not other measurements alone


def run(cfg: DictConfig) -> None:
    """Judge the run that `run` names.

    Args:
        cfg: The run's configuration with this verb's keys on top.

    Raises:
        UserError: Nothing is to be measured.
    """
    if cfg.metrics == [JUDGE] and isinstance(build(cfg.evaluation), NoEvaluation):
        raise UserError(
            "evaluation=none judges nothing, and the card would hold nothing: ask for "
            "metrics=[bits_per_dim], or name a judge with evaluation=<name>"
        )
    restored = restore(cfg, cfg.run, cfg.ema_std)
    exists = restored.folder.card.is_file()
    seconds = restored.folder.read_card().get("wall_seconds", {}) if exists else {}
    card = write_card(cfg, restored, seconds, cfg.metrics)
    for name, metric in card["metrics"].items():
        print(f"{name} {metric['value']:.4f}")
    print(restored.folder.card)


def write_card(
    cfg: DictConfig, restored: Restored, seconds: dict[str, float], wanted: Sequence[str] = (JUDGE,)
) -> dict[str, Any]:
    """Judge a model and write the card into its run folder.

    Args:
        cfg: Sampler, guidance, evaluation and seed.
        restored: The model.
        seconds: Wall time of the phases so far.
        wanted: What to measure: `judge`, the run's own evaluation, and `bits_per_dim`.

    Returns:
        The card.
    """
    started = time.monotonic()
    restored.model.to(device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices))
    subject = _subject(cfg, restored)
    # What was measured before under the same protocol stays beside what is measured now.
    before = card_of(cfg, restored) or {"metrics": {}, "measured": []}
    metrics: dict[str, Any] = dict(before["metrics"])
    with progress() as bars:

        def on_progress(name: str) -> OnProgress:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        if JUDGE in wanted:
            evaluation: Evaluation = build(cfg.evaluation)
            metrics |= evaluation(subject, on_progress("judging"))
        if "bits_per_dim" in wanted:
            unseen = build_validation(cfg, restored.spec)
            bits = BitsPerDim(**cfg.bits_per_dim)
            metrics |= bits(subject, unseen, on_progress("bits per dim"))
            if cfg.density.network is not None:
                density = DensityBaseline(**{**cfg.density, "network": build(cfg.density.network)})
                train, _, _ = build_data(cfg)
                metrics |= density(
                    subject, train, unseen, bits.num_samples, on_progress("density baseline")
                )
    card = {
        "metrics": metrics,
        "measured": sorted({*before["measured"], *wanted}),
        **_heading(cfg, restored),
        "wall_seconds": seconds | {"evaluation": time.monotonic() - started},
    }
    restored.folder.write_card(card)
    return card


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
