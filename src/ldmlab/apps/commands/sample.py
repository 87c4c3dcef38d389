"""`ldmlab sample`: draw images from a trained run."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from PIL.Image import Image
from rich.progress import track
from torch import Tensor

from ldmlab.apps.commands.sample_conditions import conditions_asked
from ldmlab.apps.commands.sample_records import Records, settings_of, texts_of
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
from ldmlab.core.records import Batch, DataSpec
from ldmlab.core.sample_log import SampleLog
from ldmlab.core.terminal import console
from ldmlab.data.images.picture import pixels_of
from ldmlab.models.drawing import Drawing, check_drawn, start_of
from ldmlab.models.latent_diffusion import LatentDiffusion

GRID = 64


def run(cfg: DictConfig) -> None:
    """Draw the images that are not there yet, and a grid of the first of them.

    Each image is in its file as soon as its batch is drawn, and no longer in memory.

    Args:
        cfg: The run's configuration with this verb's keys on top.
    """
    samples, settings = find_run(cfg.run).samples, settings_of(cfg)
    with image_folder(cfg.out, samples, cfg.prompt, cfg.seed) as out:
        log = SampleLog(out, settings)
        restored = restore(cfg, cfg.run, cfg.ema_std)
        conditions = conditions_asked(cfg, restored)
        records = Records(settings, restored, conditions)
        missing = log.missing(records.all(), len(conditions))
        there = len(conditions) - len(missing)
        if there:
            console.print(f"{there} of {len(conditions)} images are in {out} already", markup=False)
        restored.model.to(device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices))
        weak = None if cfg.autoguidance is None else _weak_model(cfg, restored)
        drawing = _drawing(cfg, restored, weak)
        shown: dict[int, Tensor] = {}
        with log.open():
            batches = range(0, len(missing), cfg.batch_size)
            for first in track(batches, "sampling", console=console, transient=True):
                indices = missing[first : first + cfg.batch_size]
                part = conditions[indices]
                images = drawing.draw(part, indices).cpu()
                check_drawn(images, indices)
                told = records.of(part, indices)
                for index, image in zip(indices, images, strict=True):
                    stem, texts = out / f"{index:05d}", texts_of(told[index])
                    path = write_picture(image, restored.spec, stem, texts)
                    log.add({"file": path.name, **told[index]})
                    if index < GRID:
                        shown[index] = image.clone()  # a view would keep the whole batch
        if missing or not (out / "grid.png").is_file():
            save_picture(_grid(log, shown, len(conditions), restored.spec), out / "grid.png")
    rest = f" of the first {GRID}" if len(conditions) > GRID else ""
    console.print(f"{len(conditions)} images and grid.png{rest} in {out}", markup=False)


def _grid(log: SampleLog, drawn: dict[int, Tensor], count: int, spec: DataSpec) -> Image:
    """The first images under their prompts or classes, those of an earlier start from its files."""
    images, captions = [], []
    for index in range(min(count, GRID)):
        record = log.records[index]
        if index not in drawn:
            path = log.folder / record["file"]
            drawn[index] = pixels_of("out", path, spec.image_size, spec.image_channels, spec)[0]
        images.append(drawn[index])
        captions.append(record.get("prompt") or record.get("class") or "")
    return picture_grid(torch.stack(images), captions if any(captions) else None)


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
