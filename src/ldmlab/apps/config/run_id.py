"""The id of a run: a hash of everything that decides its result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldmlab.core.nested import leaves

_DIGITS = 10

# Where a run happens, how long it lasts and what it shows do not make it another run.
_IRRELEVANT = (
    "hydra", "paths", "logger", "callbacks", "launcher", "sweep", "debug", "experiment", "name",
    "stage", "run_id", "resume", "config", "config_version", "traceback",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
    "trainer.enable_*", "trainer.log_*",
    "data.*root", "data.num_workers", "data.validation_limit", "data.*max_bad", "data.*cache",
    "data.*cache_gib",
    "data.latents",  # what they are is, wherever they lie
    "codec.run",  # its weights are, wherever they lie
    "max_steps", "val_every", "stages.*.max_steps", "stages.*.val_every",
    "stages.*.accumulate_grad_batches",
)  # fmt: skip

# Keys that came later: at these values a run is the one that it was without them.
_PIXELS = {
    "_target_": "ldmlab.data.images.pixels.Pixels", "channels": 3, "bits": 8, "value_range": None,
    "value_window": None, "value_percentile": None, "pages": "first",
}  # fmt: skip
_LATER: dict[str, Any] = {
    "data.bits": 8,
    "data.value_range": None, "data.value_window": None, "data.value_percentile": None,
    "data.pages": "first", "data.resize_mode": "crop",
    "data.*.transform.resize_mode": "crop", "data.*.transform.pixels": _PIXELS,
}  # fmt: skip


def run_id(stage_config: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that name a stage's resolved configuration.

    Moving the run, giving it other devices, another logger or more steps keeps the id, so that
    the same configuration finds its run again; a key's order in the file does not matter.

    Args:
        stage_config: What the stage is made of, as plain containers.
    """
    text = json.dumps(identifying(stage_config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def name_of_run(cfg: DictConfig, identity: Mapping[str, Any]) -> str:
    """The user's name for a run, or a hash of what decides its result; see `stage_identity`."""
    return str(run_id(identity) if cfg.run_id is None else cfg.run_id)


def stage_identity(cfg: DictConfig, keys: Sequence[str], **more: Any) -> dict[str, Any]:
    """What decides the result of a run, by dotted key.

    Args:
        cfg: The configuration.
        keys: Dotted keys of its parts that do, and with a `~` those of parts of them that do not.
        **more: What does beside the configuration.
    """
    tree = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    for key in keys:
        if key.startswith("~"):
            parent, _, name = key[1:].rpartition(".")
            OmegaConf.select(tree, parent).pop(name, None)
    chosen = {key: OmegaConf.select(tree, key) for key in keys if not key.startswith("~")}
    plain = {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for key, value in chosen.items()
    }
    return dict(leaves(identifying(plain | more)))


def split_identity(cfg: DictConfig, split: str) -> dict[str, Any]:
    """What decides the pixels of a split, by dotted key, whatever folder it lies in."""
    data = {split: OmegaConf.to_container(cfg.data[split], resolve=True)}
    if split == "train":
        data["limit"] = cfg.data.limit
    tree = {"data": data, "codec": {"num_images": cfg.codec.num_images}}
    return dict(leaves(identifying(tree)))


def identifying(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration without what says where and how long, and not what."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if any(fnmatchcase(name, pattern) for pattern in _IRRELEVANT):
            continue
        if any(fnmatchcase(name, key) and value == usual for key, usual in _LATER.items()):
            continue
        if isinstance(value, Mapping):
            inner = identifying(value, f"{name}.")
            # A table emptied by the exclusions says no more than an absent one.
            if inner or not value:
                kept[str(key)] = inner
        else:
            kept[str(key)] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    """Make 1 and 1.0 one number: YAML and the command line write the same value both ways."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return str(value)
