"""The keys that no constructor takes: what each may hold, checked when a configuration is composed.

Whatever else a configuration holds is an argument of a `_target_`, which checks it itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldmlab.core.arguments import (
    Betas,
    Name,
    Natural,
    NonNegative,
    Positive,
    PositiveInt,
    Probability,
    Seed,
    Share,
    check_kinds,
)
from ldmlab.core.errors import UserError
from ldmlab.core.image_size import any_image_size
from ldmlab.core.ranges import Range, rising_pair
from ldmlab.evaluation.names import METRICS

Devices = Annotated[
    int | list[int] | Literal["auto"],
    Range(
        "a whole number above 0, a list of numbers, or auto",
        lambda x: x == "auto" or (bool(x) if isinstance(x, list) else x > 0),
    ),
]
Strategy = Annotated[
    dict[str, Any] | Literal["auto"],
    Range("auto, or a table with a _target_ as of trainer=ddp and trainer=fsdp", bool),
]
# Not 16-mixed: fused optimisers unscale gradients inside their step, after they were clipped.
# Not 64-true: Lightning converts a batch field by field, and a frozen record refuses.
Precision = Literal["32-true", "bf16-mixed"]
Pair = Annotated[list[float], rising_pair]
Multiple = Annotated[int, Range("a multiple of 8", lambda x: x > 0 and x % 8 == 0)]
Metrics = Annotated[
    list[Literal[METRICS]],  # type: ignore[valid-type]
    Range(f"a list of {', '.join(METRICS)}", lambda x: bool(x) and set(x) <= set(METRICS)),
]


# What both stages have.
_STAGE: dict[str, Any] = {
    "loss_type": Literal["l1", "l2"],
    "lr": Positive,
    "betas": Betas,
    "weight_decay": NonNegative,
    "warmup_steps": Natural,
    "max_steps": PositiveInt,
    "batch_size": PositiveInt,
    "weights": str | None,
    "accumulate_grad_batches": PositiveInt,
    "clip_norm": Positive | None,
    "precision": Precision,
    "val_every": PositiveInt,
}

# Tables by their dotted keys. In `callbacks` and `logger`, a table with `_target_` is one of the
# user's; `trainer` has those arguments of Lightning's that no key elsewhere decides.
SCHEMA: dict[str, dict[str, Any]] = {
    # conf/config.yaml, and the verbs' own files: what stands in no table.
    "": {
        "name": Name,
        "stage": Literal["autoencoder", "diffusion", "all"],
        "seed": Seed,
        "run_id": Name | None,
        "resume": str,
        "config": str | None,
        "plan": list[Literal["data", "size"]],
        "budget": str | None,
        "scale_lr": bool,
        "traceback": bool,
        "trust": list[str],
        "format": Literal["table", "json"],
        "num_samples": PositiveInt,
        "batch_size": PositiveInt,
        "prompt": str | None,
        "prompts": str | None,
        "labels": int | str | list[int | str] | None,
        "per_class": PositiveInt | None,
        "masks": str | None,
        "negative_prompt": str | None,
        "negative_label": Natural | str | None,
        "autoguidance": str | None,
        "image": str | None,
        "inpaint": str | None,
        "strength": Share,
        "resamplings": PositiveInt,
        "ema_std": Share | None,
        "metrics": Metrics | None,
        "samples": Name | None,
        "reference": Name | None,
        "reference_rows": PositiveInt,
        "folds": Natural,
        "cache": Name,
        "train_judge": bool,
        "against": Name | None,
        "to": Literal["diffusers", "safetensors"],
        "action": Literal["check", "make", "tokenizer"],
        "size": Multiple,
        "pictures": PositiveInt,
        "dtype": Literal["fp16", "bf16"],
        "crops": PositiveInt,
        "shard_size": PositiveInt,
        "n_trials": PositiveInt,
        "workers": PositiveInt,
    },
    "stages.autoencoder": {
        **_STAGE,
        "reduction": Literal["sum_pixels", "mean_pixels"],
        "discriminator_lr": Positive,
    },
    "stages.diffusion": {**_STAGE, "condition_dropout": Probability},
    "trainer": {
        "accelerator": Literal["cpu", "gpu", "cuda", "auto"],
        "devices": Devices,
        "num_nodes": PositiveInt,
        "strategy": Strategy,
        "log_every_n_steps": PositiveInt,
        "deterministic": bool | Literal["warn"],
        "benchmark": bool | None,
        "detect_anomaly": bool,
        "profiler": Literal["simple", "advanced", "pytorch"] | None,
    },
    "callbacks": {
        "checkpoint_every": PositiveInt,
        "keep_every": PositiveInt | None,
        "best": bool,
        "sample_every": PositiveInt,
        "num_samples": Natural,
        "patience": PositiveInt,
    },
    "data": {
        "train": dict[str, Any],
        "validation": dict[str, Any],
        "root": Name | None,
        "images": Name | None,
        "masks": Name | None,
        "captions": Name | None,
        "image_size": Annotated[int | list[int], any_image_size],
        "channels": PositiveInt,
        "bits": Literal[8, 16, "float"],
        "value_range": Pair | None,
        "value_window": list[float] | None,
        "value_percentile": Pair | None,
        "num_classes": PositiveInt | None,
        "num_mask_labels": PositiveInt | None,
        "vocabulary": str | None,
        "vocabulary_size": Annotated[int, Range("a whole number above 5", lambda x: x > 5)] | None,
        "in_memory": bool,
        "latents": str | None,
        "limit": PositiveInt | None,
        "validation_limit": PositiveInt | None,
        "num_workers": Natural,
    },
    "bits_per_dim": {
        "num_samples": PositiveInt,
        "terms": PositiveInt | None,
        "variance": Literal["beta", "beta_tilde", "learned"],
        "trace": Literal["hutchinson", "exact"],
        "tolerance": Positive,
    },
    "networks": dict.fromkeys(("inception", "dinov2", "clip", "judge"), Name | None),
    "judge": {
        "max_steps": PositiveInt,
        "batch_size": PositiveInt,
        "lr": Positive,
        "limit": PositiveInt,
        "seed": Seed,
    },
    "density": {
        "network": dict[str, Any] | None,
        "max_steps": PositiveInt,
        "batch_size": PositiveInt,
        "lr": Positive,
    },
    "codec": {"module": dict[str, Any], "run": str | None, "num_images": Natural},
    "perceptual": {"distance": dict[str, Any], "weight": NonNegative},
    "launcher": {"slurm": dict[str, Any] | None},
    "launcher.slurm": {
        "script": str | None,
        "partition": str | int | None,
        "account": str | int | None,
        "time": str | int | None,
        "cpus_per_task": PositiveInt,
        "memory": str | int | None,
        "options": dict[str, Any],
    },
    "sweep": {
        "metric": str | None,
        "direction": Literal["minimize", "maximize"],
        "space": dict[str, str],
        "sampler": dict[str, Any],
        "pruning": dict[str, Any] | None,
    },
    "paths": {"runs": Name, "data": Name},
    "logger": {"wandb": dict[str, Any] | None},
}
_OPTIONAL = ("launcher.slurm",)


def check_values(cfg: DictConfig) -> None:
    """Refuse values out of their range, of the keys that no constructor takes.

    Args:
        cfg: A composed configuration.

    Raises:
        UserError: Naming the key, what it expects and what it got.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        tree: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        said = " ".join(str(error).split())
        raise UserError(f"the configuration does not resolve: {said}") from error
    if missing:
        raise UserError(f"{missing[0]} is mandatory: add {missing[0]}=<value>")
    for path, kinds in SCHEMA.items():
        node = _table(tree, path)
        if node is not None:
            check_kinds(kinds, node, path)
    for stage in ("autoencoder", "diffusion"):
        _check_share(tree, stage)


def _table(tree: Any, path: str) -> dict[str, Any] | None:
    """The table at a path; None where the configuration has none."""
    reached = ""
    for part in filter(None, path.split(".")):
        if part not in tree or (tree[part] is None and path in _OPTIONAL):
            return None
        tree, reached = tree[part], f"{reached}.{part}".lstrip(".")
        if not isinstance(tree, dict):
            keys = SCHEMA[path] if reached == path else ()
            inner = f"set one of its keys: {', '.join(keys)}" if keys else "set one of its keys"
            raise UserError(f"{reached} is a table, {inner}; got {tree}")
    return dict(tree)


def _check_share(tree: dict[str, Any], stage: str) -> None:
    """A global batch falls into equal parts."""
    trainer, options = tree.get("trainer"), (tree.get("stages") or {}).get(stage)
    if not trainer or not options or not isinstance(trainer["devices"], int):
        return
    devices = trainer["devices"] * trainer.get("num_nodes", 1)
    if options["batch_size"] % devices:
        raise UserError(
            f"stages.{stage}.batch_size={options['batch_size']} is global and does not divide by "
            f"{devices} devices: choose a multiple of {devices}"
        )
