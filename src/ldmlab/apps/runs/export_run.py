"""Exports a run's model as a diffusers pipeline or as safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import OmegaConf
from safetensors.torch import save_file

from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.runs.find import find_run
from ldmlab.apps.runs.restore import restore
from ldmlab.apps.runs.secrets import masked
from ldmlab.core.files import write_json


def export_run(run: str | Path, folder: Path, to: str, trust: Sequence[str] = ()) -> None:
    """Write the model of a run, with its averaged weights, into an empty folder.

    Args:
        run: The run or one of its checkpoints.
        folder: Where to write.
        to: `diffusers` or `safetensors`.
        trust: Packages whose classes its configuration may name, beside ldmlab's.

    Raises:
        UserError: The run holds no model of stage two, or an option of it has no counterpart.
    """
    cfg = load_config(find_run(run).config, trust)
    restored = restore(cfg, run)
    if to == "safetensors":
        state = {name: value.contiguous() for name, value in restored.model.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        description = {"spec": asdict(restored.spec), "step": restored.step}
        config = masked(OmegaConf.to_container(cfg, resolve=True))
        write_json(folder / "config.json", description | {"config": config})
        return
    from ldmlab.interop.diffusers.pipeline import write_pipeline

    spec = restored.spec
    write_pipeline(restored.model, spec.image_size, folder, build(cfg.sampler), spec.values)
