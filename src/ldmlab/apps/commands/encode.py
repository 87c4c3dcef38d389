"""`ldmlab encode`: the latents of every image, written once for all trainings."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.progress import Progress

from ldmlab.apps.build.experiment import build_conditioner
from ldmlab.apps.config.overrides import typed_overrides
from ldmlab.apps.config.run_id import run_id, split_identity
from ldmlab.apps.stages.codec import normalize, stage_one_codec
from ldmlab.apps.stages.plan import planned
from ldmlab.apps.stages.session import Session, console
from ldmlab.autoencoding.codec import Codec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.device import device_of
from ldmlab.core.errors import UserError
from ldmlab.core.files import check_room, make_folder
from ldmlab.core.processes import is_main_process
from ldmlab.core.terminal import Rate, next_line, progress
from ldmlab.data.images.dataset import broken_files
from ldmlab.data.latents.format import Manifest
from ldmlab.data.latents.writer import LatentWriter
from ldmlab.training.latents import LatentMaker, normalize_like

_PATIENCE = 3600.0
_SPLITS = ("train", "validation")


def run(cfg: DictConfig) -> None:
    """Write what is missing of an experiment's latents.

    Under torchrun each process writes its share of the files, and needs no word from the others.

    Args:
        cfg: An experiment's configuration with this verb's keys.

    Raises:
        UserError: There is no stage one, `out` holds other latents, or has no room.
    """
    cfg = planned(cfg, typed_overrides())
    cfg.data.in_memory = False
    cfg.data.latents = None
    session = Session.open(cfg)
    codec, normalized = stage_one_codec(session)
    conditioner = build_conditioner(cfg, session.spec, codec)
    out = Path(cfg.out or _usual_folder(cfg, codec, conditioner))
    if not normalized:
        _normalize(session, codec, out)
    makers = session.latent_makers(codec, conditioner)
    writers = {split: _writer(cfg, maker, split, out / split) for split, maker in makers.items()}
    check_room(out, sum(writer.missing_bytes() for writer in writers.values()))
    device = device_of(cfg.trainer.accelerator, cfg.trainer.devices)
    codec.to(device)
    conditioner.to(device)
    with progress(Rate(), on=console) as bars:
        for split, writer in writers.items():
            _encode(cfg, split, makers[split], writer, device, bars)
    _conclude(makers, out, writers)


def _usual_folder(cfg: DictConfig, codec: Codec, conditioner: Conditioner) -> Path:
    """A folder that the same command finds again and no other one does."""
    parts = {split: split_identity(cfg, split) for split in _SPLITS}
    storage = {key: cfg[key] for key in ("dtype", "crops", "shard_size")}
    parts["text"] = conditioner.cache_key
    id = run_id({"codec": codec.fingerprint(), "preprocessing": parts, "storage": storage})
    return Path(cfg.paths.runs) / str(cfg.name) / "latents" / id


def _normalize(session: Session, codec: Codec, out: Path) -> None:
    """Measure the codec's normalisation, or take it from where it was written before."""
    if is_main_process() and Manifest.read(out / "train") is None:
        normalize(session, codec)
        return
    # Another device may measure other bits, so the first process decides for all.
    until = time.monotonic() + _PATIENCE
    while not all((out / split / "manifest.json").is_file() for split in _SPLITS):
        if is_main_process():  # killed between the two
            break
        if time.monotonic() > until:
            raise UserError(f"the first process has not begun {out} in an hour: start all anew")
        time.sleep(0.2)
    normalize_like(codec, out / "train")


def _writer(cfg: DictConfig, maker: LatentMaker, split: str, folder: Path) -> LatentWriter:
    make_folder(folder, lambda reason: f"out={folder} cannot be created ({reason})")
    crops = cfg.crops if split == "train" else None
    preprocessing = split_identity(cfg, split)
    return LatentWriter(folder, maker.manifest(preprocessing, cfg.dtype, cfg.shard_size, crops))


def _encode(
    cfg: DictConfig,
    split: str,
    maker: LatentMaker,
    writer: LatentWriter,
    device: torch.device,
    bars: Progress,
) -> None:
    """Write this process's missing shards of a split."""
    rank, world = (int(os.environ.get(name, k)) for k, name in enumerate(("RANK", "WORLD_SIZE")))
    shards = [shard for shard in writer.missing() if shard % world == rank]
    if not shards:
        return
    manifest = writer.manifest
    total = len(manifest.variants) * sum(len(manifest.rows(shard)) for shard in shards)
    task = bars.add_task(split, total=total)
    written = maker.write_shards(
        writer,
        shards,
        cfg.batch_size,
        device,
        cfg.data.num_workers,
        lambda count: bars.advance(task, count),
    )
    line = max(1, len(shards) // 10)
    for number in written:
        if not console.is_terminal and number % line == 0:
            console.print(f"{split}: {number} of {len(shards)} files")


def _conclude(
    makers: Mapping[str, LatentMaker], out: Path, writers: dict[str, LatentWriter]
) -> None:
    """Say what there is now, and what to do with it."""
    for split, writer in writers.items():
        broken = broken_files(makers[split].images)
        if broken:
            listed = writer.note_broken(broken)
            console.print(f"[yellow]warning:[/] {len(broken)} broken files were replaced: {listed}")
        manifest = writer.finish()
        if manifest is None:
            console.print(f"{split}: {len(writer.missing())} files are other processes' to write")
            continue
        size = sum(file.stat().st_size for file in writer.folder.glob("*.safetensors"))
        console.print(
            f"{split}: {manifest.num_samples:,} samples x {len(manifest.variants)} views, "
            f"{size / 2**20:,.1f} MiB; {manifest.rounding()}"
        )
    if is_main_process():
        line = next_line("train", "stage=diffusion", f"data.latents={out}")
        console.print(f"{line}  (and your overrides)", markup=False)
