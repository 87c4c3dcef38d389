"""A run's model in other formats."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from omegaconf import OmegaConf
from safetensors.torch import save_file

from ldmlab.apps.config.compose import load_config
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.runs.find import find_run
from ldmlab.apps.runs.restore import Restored, restore
from ldmlab.core.files import write_json


def take_out(run: str | Path, folder: Path, to: str) -> None:
    """Write the model of a run, with its averaged weights, into an empty folder.

    Args:
        run: The run or one of its checkpoints.
        folder: Where to write.
        to: `diffusers` or `safetensors`.

    Raises:
        UserError: The run holds no model of stage two, or an option of it has no counterpart.
    """
    cfg = load_config(find_run(run).config)
    restored = restore(cfg, run)
    if to == "safetensors":
        metadata = {"spec": asdict(restored.spec), "step": restored.step}
        resolved = OmegaConf.to_container(cfg, resolve=True)
        _write_tensors(restored, {**metadata, "config": resolved}, folder)
        return
    from ldmlab.interop.diffusers.pipeline import write_pipeline

    write_pipeline(restored.model, restored.spec.image_size, folder, build(cfg.sampler))


def _write_tensors(restored: Restored, metadata: dict[str, object], folder: Path) -> None:
    state = restored.model.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    write_json(folder / "config.json", metadata)
