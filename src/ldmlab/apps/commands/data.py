"""`ldmlab data`: check a data set on disk, make a specimen of one, or a tokenizer for it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.overrides import typed_overrides
from ldmlab.apps.stages.plan import planned
from ldmlab.conditioning.vocabulary import BERT_TOKENS
from ldmlab.conditioning.vocabulary_files import write_vocabulary
from ldmlab.conditioning.vocabulary_making import FirstCaptions, train_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.files import check_new, make_folder, write_json
from ldmlab.core.image_grid import save_picture
from ldmlab.core.terminal import console, next_line, progress
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.inspect import inspect
from ldmlab.data.images.percentile import settle_values
from ldmlab.data.images.preview import preview
from ldmlab.data.images.report import Report
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make

_SHOWN = 10


def run(cfg: DictConfig) -> None:
    """Do what `action` asks for.

    Args:
        cfg: An experiment's configuration with this verb's keys.

    Raises:
        UserError: The data cannot be used, or the result not be written.
    """
    {"check": _check, "make": _make, "tokenizer": _tokenizer}[cfg.action](cfg)


def _make(cfg: DictConfig) -> None:
    if cfg.out is None:
        raise UserError("out is mandatory: ldmlab data action=make out=<folder to write>")
    name = _specimen(cfg)
    form = make(name, cfg.out, cfg.form, cfg.num_samples, cfg.size, cfg.seed)
    console.print(f"{name} ({form}) is in {cfg.out}")
    more = OVERRIDES.get((name, form), "").split()
    line = next_line("data", "action=check", f"data={name}", f"data.root={cfg.out}", *more)
    console.print(line, markup=False)


def _tokenizer(cfg: DictConfig) -> None:
    """Learn a vocabulary of `data.vocabulary_size` tokens at most, and write its folder.

    Args:
        cfg: An experiment's configuration; `data.limit` captions are read.

    Raises:
        UserError: The data has no captions, or `out` cannot be written.
    """
    if cfg.out is None:
        raise UserError("out is mandatory: ldmlab data action=tokenizer out=<folder to write>")
    check_new(cfg.out)
    train: BatchDataset = build(cfg.data.train)
    count = min(len(train), cfg.data.limit or len(train))
    size = cfg.data.vocabulary_size or BERT_TOKENS
    tokens = train_vocabulary(FirstCaptions(train, count), size)
    write_vocabulary(cfg.out, tokens)
    console.print(f"{len(tokens):,} tokens from {count:,} captions are in {cfg.out}")
    if "vocabulary" in cfg.data:
        console.print(f"next: data.vocabulary={cfg.out} data.vocabulary_size={len(tokens)}")


def _specimen(cfg: DictConfig) -> str:
    """The data set that `data=` chose, found again by what it builds."""
    for name in FORMS:
        leaf = OmegaConf.load(conf_dir() / "data" / f"{name}.yaml")
        if set(leaf) <= set(cfg.data) and leaf.train == cfg.data.train:
            return name
    raise UserError(f"data= must be one of {', '.join(FORMS)} to make a specimen of it")


def _check(cfg: DictConfig) -> None:
    cfg.budget = None  # nothing is trained
    cfg = planned(cfg, typed_overrides())
    splits = {split: build(cfg.data[split]) for split in ("train", "validation")}
    settle_values(splits["train"], splits["validation"], cfg.data.limit)
    out = _new_folder(cfg)
    reports: dict[str, Report] = {}
    earlier: dict[bytes, str] = {}
    with progress() as bars:
        for split, data in splits.items():
            if isinstance(data, ImageDataset):
                reports[split] = report = Report(
                    damaged=getattr(data.source, "damaged", {}),
                    left_out=getattr(data.source, "left_out", {}),
                )
                found = inspect(data, cfg.data.num_workers)
                for finding in bars.track(found, total=len(data), description=split):
                    report.add(finding, earlier)
    for split, report in reports.items():
        _show(split, report, splits[split].classes)
    if reports:
        write_json(out / "report.json", {name: report.plain() for name, report in reports.items()})
    problems = (report.unusable(split, cfg.data.max_bad) for split, report in reports.items())
    problem = next(filter(None, problems), None)
    if problem is None:
        save_picture(preview(splits["train"], cfg.pictures, cfg.seed), out / "grid.png")
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
    make_folder(folder, lambda reason: f"out={folder} cannot be created ({reason})")
    return folder


def _show(split: str, report: Report, classes: tuple[str, ...]) -> None:
    table = Table("", split)
    for row in report.rows(classes):
        table.add_row(*row)
    console.print(table)
    for line in report.remarks(_SHOWN):
        console.print(f"  {line}", markup=False)
