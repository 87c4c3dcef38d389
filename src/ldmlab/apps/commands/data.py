"""`ldmlab data`: check a data set on disk, make a specimen of one, or a tokenizer for it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from ldmlab.apps.commands.say import console, next_line, progress
from ldmlab.apps.commands.tokenizer import make_tokenizer
from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.apps.config.instantiate import build
from ldmlab.core.errors import UserError
from ldmlab.core.files import check_new, write_json
from ldmlab.core.image_grid import picture_grid, save_picture
from ldmlab.core.records import UNLABELLED, Batch
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.inspect import Report, inspect
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.data.sampling.step_batches import StepBatches
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make

_SHOWN = 10


def run(cfg: DictConfig) -> None:
    """Do what `action` asks for.

    Args:
        cfg: An experiment's configuration with this verb's keys.

    Raises:
        UserError: The data cannot be used, or the result not be written.
    """
    {"check": _check, "make": _make, "tokenizer": make_tokenizer}[cfg.action](cfg)


def _make(cfg: DictConfig) -> None:
    if cfg.out is None:
        raise UserError("out is mandatory: ldmlab data action=make out=<folder to write>")
    name = _specimen(cfg)
    form = make(name, cfg.out, cfg.form, cfg.num_samples, cfg.size, cfg.seed)
    console.print(f"{name} ({form}) is in {cfg.out}")
    more = OVERRIDES.get((name, form), "").split()
    line = next_line("data", "action=check", f"data={name}", f"data.root={cfg.out}", *more)
    console.print(line, markup=False)


def _specimen(cfg: DictConfig) -> str:
    """The data set that `data=` chose, found again by what it builds."""
    for name in FORMS:
        leaf = OmegaConf.load(conf_dir() / "data" / f"{name}.yaml")
        if set(leaf) <= set(cfg.data) and leaf.train == cfg.data.train:
            return name
    raise UserError(f"data= must be one of {', '.join(FORMS)} to make a specimen of it")


def _check(cfg: DictConfig) -> None:
    splits = {split: build(cfg.data[split]) for split in ("train", "validation")}
    out = _new_folder(cfg)
    reports: dict[str, Report] = {}
    earlier: dict[bytes, str] = {}
    with progress() as bars:
        for split, data in splits.items():
            if isinstance(data, ImageDataset):
                reports[split] = report = Report(damaged=getattr(data.source, "damaged", {}))
                found = inspect(data, cfg.data.num_workers)
                for finding in bars.track(found, total=len(data), description=split):
                    report.add(finding, earlier)
    for split, report in reports.items():
        _show(split, report, splits[split].classes)
    if reports:
        write_json(out / "report.json", {name: _plain(report) for name, report in reports.items()})
    problem = next(filter(None, (_unusable(cfg, *item) for item in reports.items())), None)
    if problem is None:
        save_picture(_grid(splits["train"], cfg.pictures, cfg.seed), out / "grid.png")
        console.print(f"what the model will see: {out / 'grid.png'}")
    else:
        raise UserError(f"{problem}; all are named in {out / 'report.json'}")


def _new_folder(cfg: DictConfig) -> Path:
    """The folder of the results, which holds none yet."""
    if cfg.out is not None:
        folder = Path(cfg.out)
        check_new(folder)
    else:
        stem = Path(str(cfg.data.get("root") or "data")).expanduser().name
        base = Path(cfg.paths.runs) / "data"
        names = (stem, *(f"{stem}-{k}" for k in range(2, 10_000)))
        folder = next(base / name for name in names if not (base / name).exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={folder} cannot be created ({error.strerror})") from error
    return folder


def _unusable(cfg: DictConfig, split: str, report: Report) -> str | None:
    """Why a training on this split would stop."""
    broken = len(report.broken)
    if not report.usable:
        return f"none of the {report.count} {split} samples can be used"
    if broken > cfg.data.max_bad:
        first = next(iter(report.broken.items()))
        return (
            f"{broken} of {report.count} {split} samples cannot be used, "
            f"data.max_bad={cfg.data.max_bad} are allowed; the first: {' '.join(first)}"
        )
    return None


def _show(split: str, report: Report, classes: tuple[str, ...]) -> None:
    table = Table("", split)
    table.add_row("samples", f"{report.count:,}")
    sides = sorted(min(size) for size in report.sizes.elements())
    if sides:
        middle = statistics.median_low(sides)
        table.add_row("shorter side", f"{sides[0]} to {sides[-1]} px, median {middle}")
        (width, height), often = report.sizes.most_common(1)[0]
        table.add_row("sizes", f"{len(report.sizes)}; {often:,} are {width} x {height}")
    if classes:
        few, many = min(report.classes.values(), default=0), max(report.classes.values(), default=0)
        empty = len(classes) - len(report.classes)
        table.add_row("classes", f"{len(classes)}, {few:,} to {many:,} samples each, {empty} empty")
    if report.mask_labels:
        labels = sorted(set(report.mask_labels) - {UNLABELLED})
        span = f", {labels[0]} to {labels[-1]}" if labels else ": no pixel has one"
        table.add_row("mask labels", f"{len(labels)} occur{span}")
    if report.captioned or report.uncaptioned:
        table.add_row("captions", f"{report.captioned:,}, {len(report.uncaptioned):,} missing")
    table.add_row("duplicates", f"{len(report.duplicates):,}")
    table.add_row("broken", f"{len(report.broken):,}")
    console.print(table)
    for name, why in list(report.broken.items())[:_SHOWN]:
        console.print(f"  broken: {name} {why}", markup=False)
    for name, first in list(report.duplicates.items())[:_SHOWN]:
        console.print(f"  duplicate: {name} of {first}", markup=False)
    for why in list(report.damaged.values())[:_SHOWN]:
        console.print(f"  damaged: {why}", markup=False)
    for name in report.uncaptioned[:_SHOWN]:
        console.print(f"  no caption: {name}", markup=False)


def _plain(report: Report) -> dict[str, Any]:
    """A report as JSON."""
    return {
        "count": report.count,
        "usable": report.usable,
        "sizes": {f"{w}x{h}": count for (w, h), count in sorted(report.sizes.items())},
        "classes": {str(label): count for label, count in sorted(report.classes.items())},
        "mask_labels": {str(k): count for k, count in sorted(report.mask_labels.items())},
        "broken": report.broken,
        "damaged": report.damaged,
        "captioned": report.captioned,
        "uncaptioned": report.uncaptioned,
        "duplicates": report.duplicates,
    }


def _grid(data: BatchDataset, count: int, seed: int) -> Any:
    """The first images of training as the model will see them, masks beside them."""
    batch: Batch = data.__getitems__(next(iter(StepBatches(len(data), count, seed))))
    assert batch.image is not None
    images = batch.image.expand(-1, 3, -1, -1)
    if batch.mask is not None:
        generator = torch.Generator().manual_seed(0)
        colours = torch.rand(256, 3, generator=generator) * 2 - 1
        colours[UNLABELLED] = -1
        images = torch.cat([images, colours[batch.mask].movedim(-1, 1)], -1)
    words = batch.caption
    classes = getattr(data, "classes", ())
    if words is None and batch.label is not None:
        words = tuple(classes[label] for label in batch.label.tolist())
    return picture_grid(images, words)
