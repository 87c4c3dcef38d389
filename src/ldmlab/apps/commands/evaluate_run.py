"""What `ldmlab evaluate` measures of a run's images: those it draws, and its reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from ldmlab.apps.commands.evaluate_sets import Data, measure, reference_images, train_judge
from ldmlab.apps.runs.restore import Restored, RestoredCodec
from ldmlab.autoencoding.codec import Codec
from ldmlab.core.device import device_to_show_on
from ldmlab.core.errors import UserError
from ldmlab.core.processes import is_main_process
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.core.tensors import state_hash
from ldmlab.data.sampling.datasets import Cycle, StridedSubset
from ldmlab.evaluation.card import described, rests_on
from ldmlab.evaluation.images.dataset import DatasetImages, DrawnImages
from ldmlab.evaluation.measurement import Judged
from ldmlab.evaluation.names import OF_PAIRS, OF_RECONSTRUCTIONS
from ldmlab.evaluation.protocol import Subject

_USUAL = ("psnr", "ssim")


def measure_model(
    cfg: DictConfig, restored: Restored, subject: Subject, wanted: Sequence[str]
) -> dict[str, Any]:
    """Metrics of what a model draws, and of what its codec leaves of unseen images.

    Args:
        cfg: The run's configuration with this verb's keys on top.
        restored: The model.
        subject: The model and how it is sampled.
        wanted: Metrics by name.

    Raises:
        UserError: What a metric needs is not there.
    """
    data, judges = Data(cfg), restored.folder.path / "judges"
    if cfg.train_judge:
        train_judge(cfg, data, judges)
    mirrored, originals = _reconstructions(cfg, data, subject.model.codec)
    how = {
        "sampler": described(subject.sampler),
        "guidance": described(subject.guidance),
        "seed": subject.seed,
        "conditions": "those of the validation images, in their order",
    }
    samples = _drawn(cfg, restored, subject, data, how)
    judged = Judged(samples, reference_images(cfg, data), mirrored, originals, how)
    return measure(cfg, judged, wanted, data, judges)


def measure_codec(cfg: DictConfig, restored: RestoredCodec) -> dict[str, Any]:
    """Measure stage one on unseen images, and write the card into its run folder.

    Args:
        cfg: The run's configuration with this verb's keys on top.
        restored: The codec.

    Returns:
        The card.

    Raises:
        UserError: What a metric needs is not there, or it is one of stage two.
    """
    wanted = list(cfg.metrics or _USUAL)
    others = [m for m in wanted if m not in (*OF_PAIRS, *OF_RECONSTRUCTIONS)]
    if others:
        raise UserError(
            f"metrics=[{','.join(others)}] are of samples, and stage one draws none: ask for "
            f"{', '.join((*OF_PAIRS, *OF_RECONSTRUCTIONS))}"
        )
    data, judges = Data(cfg), restored.folder.path / "judges"
    if cfg.train_judge:
        train_judge(cfg, data, judges)
    codec = restored.codec.to(device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices))
    mirrored, originals = _reconstructions(cfg, data, codec)
    judged = Judged(mirrored=mirrored, originals=originals)
    folder = restored.folder
    about = {"run": folder.path.name, "step": restored.step, "codec": codec.fingerprint()}
    found = measure(cfg, judged, wanted, data, judges)
    # What was measured of the same weights before stays beside it.
    before = folder.read_card() if folder.card.is_file() else {}
    kept = before.get("metrics", {}) if rests_on({"measured": [], **before}, about) else {}
    card = {"metrics": kept | found, **about}
    if is_main_process():
        folder.write_card(card)
    return card


def _reconstructions(
    cfg: DictConfig, data: Data, codec: Codec
) -> tuple[DatasetImages, DatasetImages]:
    """Unseen images, `num_samples` at most and spread over all, as a codec leaves them, and so."""
    dataset = data.dataset("validation")
    if len(dataset) > cfg.num_samples:
        dataset = StridedSubset(dataset, cfg.num_samples)
    device = device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices)

    @torch.no_grad()
    def reconstruct(batch: Batch) -> Float[Tensor, "b c h w"]:
        assert batch.image is not None
        return codec.reconstruct(batch.image.to(device)).clamp(-1, 1).cpu()

    whole = data.images("validation")
    plain = whole.of(dataset, "")
    change: Callable[[Batch], Any] = reconstruct
    return whole.of(dataset, "reconstructions of ", change, codec=codec.fingerprint()), plain


def _drawn(
    cfg: DictConfig, restored: Restored, subject: Subject, data: Data, how: dict[str, Any]
) -> DrawnImages:
    """What the model draws, one image a condition of the validation data, in turn."""
    conditions = Cycle(data.dataset("validation"), cfg.num_samples)
    identity = {
        "weights": state_hash(subject.model.state_dict()),
        "conditions": data.images("validation").fingerprint(),
        "batch_size": cfg.batch_size,
        **how,
    }
    draw = partial(_draw, subject)
    name = f"samples of {restored.folder.path.name} at step {restored.step}"
    return DrawnImages(draw, conditions, name, identity)


def _draw(subject: Subject, asked: Batch, first: int) -> Float[Tensor, "b c h w"]:
    keys = range(first, first + len(asked))
    # Unless the condition is made from it, a model is not shown the image that it is to draw.
    shown = subject.model.network.conditioner.input_key == "image"
    conditions = asked if shown else replace(asked, image=None)
    return subject.model.sample(
        conditions,
        subject.spec.image_size,
        subject.sampler,
        SampleNoise(subject.seed, keys),
        subject.guidance,
    ).clamp(-1, 1)
