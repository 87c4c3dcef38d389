"""The keys that no constructor takes: what each may hold, checked when a configuration is composed.

Whatever else a configuration holds is an argument of a `_target_`, which checks it itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    check_arguments,
    hints_of,
)
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import Range

Devices = Annotated[
    int | list[int] | Literal["auto"],
    Range(
        "a whole number above 0, a list of numbers, or auto",
        lambda x: x == "auto" or (bool(x) if isinstance(x, list) else x > 0),
    ),
]
# Not 16-mixed: fused optimisers unscale gradients inside their step, after they were clipped.
# Not 64-true: Lightning converts a batch field by field, and a frozen record refuses.
Precision = Literal["32-true", "bf16-mixed"]
Multiple = Annotated[int, Range("a multiple of 8", lambda x: x > 0 and x % 8 == 0)]
Metrics = Annotated[
    list[Literal["judge", "bits_per_dim"]], Range("a list of judge and bits_per_dim", bool)
]


@dataclass
class Top:
    """Keys of conf/config.yaml, and of the verbs' own files, that stand in no table."""

    name: Name
    stage: Literal["autoencoder", "diffusion", "all"]
    seed: Seed
    run_id: Name | None
    resume: str
    config: str | None
    scale_lr: bool
    traceback: bool
    trust: list[str]
    format: Literal["table", "json"]
    num_samples: PositiveInt
    batch_size: PositiveInt
    prompt: str | None
    prompts: str | None
    labels: int | list[int] | None
    negative_prompt: str | None
    negative_label: Natural | None
    autoguidance: str | None
    image: str | None
    inpaint: str | None
    strength: Share
    resamplings: PositiveInt
    ema_std: Share | None
    metrics: Metrics
    to: Literal["diffusers", "safetensors"]
    action: Literal["check", "make", "tokenizer"]
    size: Multiple
    pictures: PositiveInt
    dtype: Literal["fp16", "bf16"]
    crops: PositiveInt
    shard_size: PositiveInt
    n_trials: PositiveInt
    workers: PositiveInt


@dataclass
class Stage:
    """What both stages have: `stages.<stage>`."""

    loss_type: Literal["l1", "l2"]
    lr: Positive
    betas: Betas
    weight_decay: NonNegative
    warmup_steps: Natural
    max_steps: PositiveInt
    batch_size: PositiveInt
    weights: str | None
    accumulate_grad_batches: PositiveInt
    clip_norm: Positive | None
    precision: Precision
    val_every: PositiveInt


@dataclass
class AutoencoderStage(Stage):
    """`stages.autoencoder`."""

    reduction: Literal["sum_pixels", "mean_pixels"]
    discriminator_lr: Positive


@dataclass
class DiffusionStage(Stage):
    """`stages.diffusion`."""

    condition_dropout: Probability


@dataclass
class Trainer:
    """`trainer`: what is checked of it here; Lightning checks its own arguments."""

    accelerator: Literal["cpu", "gpu", "cuda", "auto"]
    devices: Devices
    num_nodes: PositiveInt
    log_every_n_steps: PositiveInt
    deterministic: bool | Literal["warn"]


@dataclass
class Callbacks:
    """`callbacks`: numbers of the built-in ones; a table with `_target_` is one of the user's."""

    checkpoint_every: PositiveInt
    keep_every: PositiveInt | None
    best: bool
    sample_every: PositiveInt
    num_samples: Natural
    patience: PositiveInt


@dataclass
class Data:
    """What every data set has: `data`, where no source takes it."""

    root: Name | None
    images: Name | None
    masks: Name | None
    captions: Name | None
    image_size: PositiveInt
    channels: PositiveInt
    num_classes: PositiveInt | None
    num_mask_labels: PositiveInt | None
    vocabulary: str | None
    vocabulary_size: Annotated[int, Range("a whole number above 5", lambda x: x > 5)] | None
    in_memory: bool
    latents: str | None
    limit: PositiveInt | None
    validation_limit: PositiveInt | None
    num_workers: Natural


@dataclass
class BitsPerDim:
    """`bits_per_dim` of `ldmlab evaluate`."""

    num_samples: PositiveInt
    terms: PositiveInt | None
    variance: Literal["beta", "beta_tilde", "learned"]
    trace: Literal["hutchinson", "exact"]
    tolerance: Positive


@dataclass
class Density:
    """`density` of `ldmlab evaluate`."""

    max_steps: PositiveInt
    batch_size: PositiveInt
    lr: Positive


@dataclass
class Codec:
    """`codec`: where its weights are, and what it is normalised on."""

    run: str | None
    num_images: Natural


@dataclass
class Perceptual:
    """`perceptual`: the weight beside the distance of pixels."""

    weight: NonNegative


@dataclass
class Slurm:
    """`launcher.slurm`."""

    script: str | None
    cpus_per_task: PositiveInt


@dataclass
class Sweep:
    """`sweep`."""

    metric: str | None
    direction: Literal["minimize", "maximize"]
    space: dict[str, str]


SCHEMA: dict[str, Callable[..., Any]] = {
    "": Top,
    "stages.autoencoder": AutoencoderStage,
    "stages.diffusion": DiffusionStage,
    "trainer": Trainer,
    "callbacks": Callbacks,
    "data": Data,
    "bits_per_dim": BitsPerDim,
    "density": Density,
    "codec": Codec,
    "perceptual": Perceptual,
    "launcher.slurm": Slurm,
    "sweep": Sweep,
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
    for path, schema in SCHEMA.items():
        node = _table(tree, path, schema)
        if node is not None:
            check_arguments(schema, node, path)
    for stage in ("autoencoder", "diffusion"):
        _check_share(tree, stage)


def _table(tree: Any, path: str, schema: Callable[..., Any]) -> dict[str, Any] | None:
    """The table at a path; None where the configuration has none."""
    reached = ""
    for part in filter(None, path.split(".")):
        if part not in tree or (tree[part] is None and path in _OPTIONAL):
            return None
        tree, reached = tree[part], f"{reached}.{part}".lstrip(".")
        if not isinstance(tree, dict):
            keys = [name for name in hints_of(schema) if reached == path]
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
