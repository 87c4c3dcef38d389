"""Refuses values that would run for hours and mean nothing, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldmlab.apps.config.overrides import Override
from ldmlab.core.errors import UserError


@dataclass(frozen=True)
class Check:
    """A test of one value, with the words for what it expects."""

    expects: str
    holds: Callable[[Any], bool]
    optional: bool = False

    def __call__(self, value: Any) -> bool:
        """Whether `value` passes."""
        return (self.optional and value is None) or self.holds(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_of(*names: str) -> Check:
    """One of some words."""
    return Check(" or ".join(names), lambda value: value in names)


def _is_metrics(value: Any) -> bool:
    return isinstance(value, list) and value != [] and set(value) <= {"judge", "bits_per_dim"}


def _or_null(check: Check) -> Check:
    return Check(f"{check.expects}, or null", check.holds, optional=True)


POSITIVE_INT = Check("a whole number above 0", lambda x: _is_int(x) and x > 0)
NATURAL = Check("a whole number from 0 up", lambda x: _is_int(x) and x >= 0)
SEED = Check("a whole number from 0 to 2**32 - 1", lambda x: _is_int(x) and 0 <= x < 2**32)
POSITIVE = Check("a finite number above 0", lambda x: _is_number(x) and x > 0)
NON_NEGATIVE = Check("a finite number from 0 up", lambda x: _is_number(x) and x >= 0)
PROBABILITY = Check("a number from 0 to 1", lambda x: _is_number(x) and 0 <= x <= 1)
FINITE = Check("a finite number", _is_number)
POSITIVE_SHARE = Check("a share above 0 and up to 1", lambda x: _is_number(x) and 0 < x <= 1)
BOOL = Check("true or false", lambda x: isinstance(x, bool))
NAME = Check("a name", lambda x: isinstance(x, str | int) and str(x) != "")
COLOUR = Check(
    "three numbers from 0 to 255",
    lambda x: (
        isinstance(x, list) and len(x) == 3 and all(_is_number(c) and 0 <= c <= 255 for c in x)
    ),
)
BETAS = Check(
    "two numbers from 0 to below 1",
    lambda x: isinstance(x, list) and len(x) == 2 and all(_is_number(b) and 0 <= b < 1 for b in x),
)
DEVICES = Check(
    "a whole number above 0, or auto",
    lambda x: x == "auto" or POSITIVE_INT(x) or (isinstance(x, list) and all(map(NATURAL, x))),
)

# The first pattern that matches a dotted key decides.
RULES: tuple[tuple[str, Check], ...] = (
    ("sweep.space.*", Check("values such as interval(0,1)", lambda x: isinstance(x, str))),
    ("sweep.direction", one_of("minimize", "maximize")),
    ("sweep.pruning.direction", one_of("minimize", "maximize")),
    ("n_trials", POSITIVE_INT),
    ("workers", POSITIVE_INT),
    ("launcher.slurm.cpus_per_task", POSITIVE_INT),
    ("seed", SEED),
    ("to", one_of("diffusers", "safetensors")),
    ("name", NAME),
    ("scale_lr", BOOL),
    ("stage", one_of("autoencoder", "diffusion", "all")),
    ("traceback", BOOL),
    ("format", one_of("table", "json")),
    ("stages.*.lr", POSITIVE),
    ("stages.*.*_lr", POSITIVE),
    ("stages.*.*_dropout", PROBABILITY),
    ("stages.*.betas", BETAS),
    ("stages.*.weight_decay", NON_NEGATIVE),
    ("stages.*.warmup_steps", NATURAL),
    ("stages.*.max_steps", POSITIVE_INT),
    ("stages.*.batch_size", POSITIVE_INT),
    ("stages.*.accumulate_grad_batches", POSITIVE_INT),
    ("stages.*.clip_norm", _or_null(POSITIVE)),
    ("stages.*.val_every", POSITIVE_INT),
    # Not 16-mixed: fused optimisers unscale gradients inside their step, after they were clipped.
    # Not 64-true: Lightning converts a batch field by field, and a frozen record refuses.
    ("stages.*.precision", one_of("32-true", "bf16-mixed")),
    ("trainer.devices", DEVICES),
    ("trainer.num_nodes", POSITIVE_INT),
    ("trainer.strategy.timeout", POSITIVE),
    ("trainer.accelerator", one_of("cpu", "gpu", "cuda", "auto")),
    ("trainer.log_every_n_steps", POSITIVE_INT),
    ("callbacks.*_every", _or_null(POSITIVE_INT)),
    ("callbacks.keep_*", NATURAL),
    ("callbacks.patience", POSITIVE_INT),
    ("guidance.scale", FINITE),
    ("num_samples", NATURAL),
    ("data.limit", _or_null(POSITIVE_INT)),
    ("data.validation_limit", _or_null(POSITIVE_INT)),
    ("data.image_size", POSITIVE_INT),
    ("data.resized", _or_null(POSITIVE_INT)),
    ("data.num_classes", _or_null(POSITIVE_INT)),
    ("data.num_mask_labels", _or_null(POSITIVE_INT)),
    (
        "data.vocabulary_size",
        _or_null(Check("a whole number above 5", lambda x: _is_int(x) and x > 5)),
    ),
    (
        "data.validation_share",
        Check("a share between 0 and 1", lambda x: _is_number(x) and 0 < x < 1),
    ),
    ("data.max_bad", NATURAL),
    ("data.window", POSITIVE_INT),
    ("data.cache_gib", POSITIVE),
    ("data.min_side", _or_null(POSITIVE_INT)),
    ("data.max_aspect", _or_null(Check("a number from 1 up", lambda x: _is_number(x) and x >= 1))),
    ("data.min_similarity", _or_null(FINITE)),
    ("data.*_caption", _or_null(NATURAL)),
    ("data.crop", one_of("center", "random")),
    ("data.flip", BOOL),
    ("data.flip_captions", one_of("keep", "swap")),
    ("data.in_memory", BOOL),
    *((f"data.{key}", _or_null(NAME)) for key in ("latents", "images", "masks", "captions")),
    ("data.background", COLOUR),
    ("dtype", one_of("fp16", "bf16")),
    ("crops", POSITIVE_INT),
    ("shard_size", POSITIVE_INT),
    ("action", one_of("check", "make", "tokenizer")),
    ("size", Check("a multiple of 8", lambda x: _is_int(x) and x > 0 and x % 8 == 0)),
    ("pictures", POSITIVE_INT),
    ("data.root", _or_null(NAME)),
    ("discriminator.start", NATURAL),
    ("discriminator.weight", NON_NEGATIVE),
    ("discriminator.loss", one_of("hinge", "vanilla")),
    ("bottleneck.weight", NON_NEGATIVE),
    ("bottleneck.latent_channels", POSITIVE_INT),
    ("perceptual.weight", NON_NEGATIVE),
    ("stages.*.loss_type", one_of("l1", "l2")),
    ("stages.*.reduction", one_of("sum_pixels", "mean_pixels")),
    ("*.num_workers", NATURAL),
    ("*.num_samples", NATURAL),
    ("batch_size", POSITIVE_INT),
    ("*.batch_size", POSITIVE_INT),
    ("*.timesteps", POSITIVE_INT),
    ("*.num_steps", POSITIVE_INT),
    ("sampler.steps", POSITIVE_INT),
    ("ema_std", _or_null(POSITIVE_SHARE)),
    ("strength", POSITIVE_SHARE),
    ("resamplings", POSITIVE_INT),
    ("metrics", Check("a list of judge and bits_per_dim", _is_metrics)),
    ("bits_per_dim.terms", _or_null(POSITIVE_INT)),
    ("bits_per_dim.variance", one_of("beta", "beta_tilde", "learned")),
    ("bits_per_dim.trace", one_of("hutchinson", "exact")),
    ("bits_per_dim.tolerance", POSITIVE),
    ("density.max_steps", POSITIVE_INT),
)


def validate(cfg: DictConfig) -> None:
    """Check every value that has a rule.

    Raises:
        UserError: Naming the key, what it expects and what it got.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        tree = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {_one_line(error)}") from error
    if missing:
        raise UserError(f"{missing[0]} is mandatory: add {missing[0]}=<value>")
    for key, value in leaves(tree):
        for pattern, check in RULES:
            if fnmatchcase(key, pattern):
                if not check(value):
                    raise UserError(f"{key} must be {check.expects}; got {_show(value)}")
                break
    _check_shares(tree)


def check_types(base: DictConfig, cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Refuse overrides that change what kind of thing a key holds, or make it infinite.

    Raises:
        UserError: Naming the key, its default and what it got.
    """
    for override in overrides:
        # Lightning checks its own arguments, and many of them take several kinds.
        if override.adds or override.key.startswith(("trainer.", "hydra.", "hydra/")):
            continue
        try:
            old, new = (OmegaConf.select(tree, override.key) for tree in (base, cfg))
        except OmegaConfBaseException:
            continue  # an interpolation that does not resolve: `validate` tells
        problem = _mismatch(old, new)
        if problem:
            raise UserError(f"{override.key} {problem}; got {_show(new)}")


def _mismatch(old: Any, new: Any) -> str | None:
    if OmegaConf.is_dict(old):
        keys = ", ".join(map(str, old))
        return None if OmegaConf.is_dict(new) else f"is a table, set one of its keys: {keys}"
    if old is None or new is None:
        return None
    if OmegaConf.is_list(old):
        return None if OmegaConf.is_list(new) else f"must be a list like {_show(list(old))}"
    if isinstance(old, bool):
        return None if isinstance(new, bool) else "must be true or false"
    if isinstance(old, int | float):
        if _is_number(new) or (not math.isfinite(old) and isinstance(new, float)):
            return None
        return f"must be a finite number like {old}"
    return "must be a word" if OmegaConf.is_config(new) else None


def _check_shares(tree: Any) -> None:
    """A global batch falls into equal parts."""
    devices, nodes = _at(tree, "trainer", "devices"), _at(tree, "trainer", "num_nodes")
    if not (_is_int(devices) and _is_int(nodes)):
        return
    for stage in ("autoencoder", "diffusion"):
        size = _at(tree, "stages", stage, "batch_size")
        if _is_int(size) and size % (devices * nodes):
            raise UserError(
                f"stages.{stage}.batch_size={size} is global and does not divide by "
                f"{devices * nodes} devices: choose a multiple of {devices * nodes}"
            )


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def leaves(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of nested tables with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _show(value: Any) -> str:
    return f"the text '{value}'" if isinstance(value, str) else str(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
