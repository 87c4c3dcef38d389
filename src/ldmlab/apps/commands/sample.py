"""`ldmlab sample`: draw images from a trained run."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from ldmlab.apps.commands.sample_conditions import conditions_asked
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.runs.find import find_run
from ldmlab.apps.runs.restore import Restored, restore
from ldmlab.conditioning.asked import one_condition
from ldmlab.core.device import device_to_show_on
from ldmlab.core.errors import UserError
from ldmlab.core.image_folder import image_folder
from ldmlab.core.image_grid import picture_grid, save_picture
from ldmlab.core.picture_file import write_picture
from ldmlab.core.records import Batch
from ldmlab.core.terminal import console
from ldmlab.models.drawing import Drawing, check_drawn, start_of
from ldmlab.models.latent_diffusion import LatentDiffusion

GRID = 64


def run(cfg: DictConfig) -> None:
    """Draw `num_samples` images under the asked condition, and a grid of the first of them.

    Each image is in its file as soon as its batch is drawn, and no longer in memory.

    Args:
        cfg: The run's configuration with this verb's keys on top.
    """
    samples = find_run(cfg.run).samples
    with image_folder(cfg.out, samples, cfg.prompt, cfg.seed) as out:
        restored = restore(cfg, cfg.run, cfg.ema_std)
        restored.model.to(device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices))
        conditions = conditions_asked(cfg, restored)
        weak = None if cfg.autoguidance is None else _weak_model(cfg, restored)
        drawing = _drawing(cfg, restored, weak)
        shown: list[Tensor] = []
        captions: list[str] = []
        batches = range(0, len(conditions), cfg.batch_size)
        for first in track(batches, "sampling", console=console, transient=True):
            part = conditions[first : first + cfg.batch_size]
            images = drawing.draw(part, first).cpu()
            check_drawn(images, first)
            for k, image in enumerate(images, first):
                write_picture(image, restored.spec, out / f"{k:05d}")
            shown += images[: GRID - len(shown)].clone()  # a view would keep the whole batch
            captions += part.caption or ()
        grid = picture_grid(torch.stack(shown), captions[: len(shown)] or None)
        save_picture(grid, out / "grid.png")
    rest = f" of the first {GRID}" if len(conditions) > GRID else ""
    console.print(f"{len(conditions)} images and grid.png{rest} in {out}", markup=False)


def _drawing(cfg: DictConfig, restored: Restored, weak: LatentDiffusion | None) -> Drawing:
    """All that was asked for beside the conditions."""

    def asked(key: str) -> list[Batch]:
        if cfg[key] is None:
            return []
        conditioner, classes = restored.model.network.conditioner, restored.spec.num_classes
        return [one_condition(cfg[key], key, conditioner, classes, restored.classes)]

    return Drawing(
        restored.model,
        restored.spec.image_size,
        build(cfg.sampler),
        build(cfg.guidance),
        cfg.seed,
        asked("also"),
        [*asked("negative_prompt"), *asked("negative_label"), None][0],
        weak,
        start_of(cfg.image, cfg.inpaint, restored.spec),
        cfg.strength,
        cfg.resamplings,
    )


def _weak_model(cfg: DictConfig, restored: Restored) -> LatentDiffusion:
    """The model to be guided away from.

    Raises:
        UserError: It speaks of other latents or other noise levels.
    """
    if cfg.negative_prompt is not None or cfg.negative_label is not None:
        raise UserError(
            "give a negative condition or autoguidance=, not both: guidance leads away from one"
        )
    weak_cfg = load_config(find_run(cfg.autoguidance).config, cfg.trust)
    weak = restore(weak_cfg, cfg.autoguidance).model
    if weak.codec.fingerprint() != restored.model.codec.fingerprint():
        raise UserError(f"autoguidance={cfg.autoguidance} was trained with another autoencoder")
    if weak_cfg.schedule != cfg.schedule:
        raise UserError(f"autoguidance={cfg.autoguidance} was trained on another schedule")
    return weak.to(restored.model.device)
