"""Every number and word that conf/ hands to a constructor has a range, which it is refused outside.

The table names each argument with its kind: values that are refused, and the outermost ones that
are not. A last test walks the targets of conf/ and asks for what the table lacks.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass, replace
from pkgutil import resolve_name
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import jaxtyping
import pytest
from torch import nn

from ldmlab.apps.config.conf_dir import targets
from ldmlab.core.errors import ArgumentError, UserError
from ldmlab.core.records import DataSpec
from ldmlab.data.digits import Digits
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.weighting import Unit

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Kind:
    """Values that are refused and values that are accepted."""

    bad: tuple[Any, ...]
    good: tuple[Any, ...]

    @property
    def or_none(self) -> Kind:
        return Kind(tuple(x for x in self.bad if x is not None), (*self.good, None))

    def many(self, good: Sequence[Any]) -> Kind:
        """A list, in which one wrong entry is too many."""
        wrong = tuple([*good[:-1], x] for x in self.bad)
        return Kind((*wrong, None, 1, "12"), (list(good), tuple(good)))

    def but(self, *good: Any) -> Kind:
        return replace(self, good=good)


_NOT_NUMBERS = (None, True, "1", NAN, INF, -INF)
COUNT = Kind((0, -1, 1.5, *_NOT_NUMBERS), (1,))
SEVERAL = Kind((1, *COUNT.bad), (2,))
NATURAL = Kind((-1, 0.5, *_NOT_NUMBERS), (0, 1))
FINITE = Kind(_NOT_NUMBERS, (-1e9, 0, 1e9))
POSITIVE = Kind((0, -1.0, *_NOT_NUMBERS), (1e-9, 1e9))
NON_NEGATIVE = Kind((-1e-9, *_NOT_NUMBERS), (0, 1e9))
PROBABILITY = Kind((-0.1, 1.1, *_NOT_NUMBERS), (0, 0.5, 1))
SHARE = Kind((0, 1.1, *_NOT_NUMBERS), (1e-9, 1))
FRACTION = Kind((-0.1, 1, *_NOT_NUMBERS), (0, 0.999))
INSIDE = Kind((0, 1, *_NOT_NUMBERS), (1e-9, 0.999))
EIGHTS = Kind((0, -8, 12, *COUNT.bad), (8, 16))
WIDTHS = Kind((*COUNT.many([1, 2]).bad, []), ([1], (1, 2)))
FACTORS = COUNT.many([1, 2])
SIZE = Kind((*COUNT.bad, [8], [8, 0], [8, 8, 8], "12"), (8, [8, 16], (8, 8)))
BITS = Kind((None, 1, "", 12, "8", True), (8, 16, "float"))
PAIR = Kind(([1, 1], [2, 1], [1], [1, 2, 3], [0, INF], [0, "1"], 1, "12"), ([0, 1], (-1.5, 2)))
PAIRS = Kind((*([x] for x in PAIR.bad), [], 1), ([[0, 1]], ((0, 1), (2, 3))))
WINDOW = Kind(([1, 0], [1, -2], [1], [1, NAN], 1, "12"), ([1, 2],))


def word(*words: str) -> Kind:
    return Kind((None, 1, "", words[0].title(), words[0].upper() + "s"), words)


SPLIT = word("train", "validation")
SAMPLER = {
    "steps": COUNT,
    "spacing": word("trailing", "linspace", "leading", "leading_plus_one"),
    "final": word("data", "first_entry"),
}
EDM_SAMPLER = SAMPLER | {
    "churn": NON_NEGATIVE,
    "churn_min": NON_NEGATIVE,
    "churn_max": Kind((-0.1, "1", None, NAN, -INF), (0, 80.0, INF)),
    "churn_noise": NON_NEGATIVE,
}
LINE = {
    "num_steps": COUNT,
    "beta_start": SHARE.but(1e-9),
    "beta_end": Kind((1e-9, 0, 1.1, *_NOT_NUMBERS), (1,)),
}
WIDTH = {
    "channels": EIGHTS,
    "channel_mult": WIDTHS,
    "num_res_blocks": NATURAL,
    "attention_factors": FACTORS,
}
OPTIMIZER = {
    "lr": POSITIVE,
    "betas": Kind(
        ((0.9,), (0.9, 0.9, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, "1"), 0.9, None),
        ((0.0, 0.0), (0.9, 0.999)),
    ),
    "weight_decay": NON_NEGATIVE,
}
TEXT = {"max_length": COUNT, "dim": COUNT, "depth": COUNT, "num_heads": COUNT, "head_dim": COUNT}
TABLE: dict[str, dict[str, Kind]] = {
    "autoencoding.adversary.Adversary": {
        "start": NATURAL, "weight": NON_NEGATIVE, "loss": word("hinge", "vanilla"),
    },
    "autoencoding.autoencoder.Autoencoder": WIDTH | {"image_channels": COUNT, "patch": COUNT},
    "autoencoding.bottlenecks.KL": {
        "latent_channels": COUNT, "weight": NON_NEGATIVE, "inner_channels": COUNT.or_none,
    },
    "autoencoding.bottlenecks.VQ": {
        "latent_channels": COUNT, "num_codes": COUNT, "weight": NON_NEGATIVE,
        "commitment_weight": NON_NEGATIVE, "codebook_weight": NON_NEGATIVE,
        "inner_channels": COUNT.or_none,
    },
    "autoencoding.codec.IdentityCodec": {"channels": COUNT},
    "autoencoding.losses.ReconstructionLoss": {
        "loss_type": word("l1", "l2"), "reduction": word("sum_pixels", "mean_pixels"),
        "perceptual_weight": NON_NEGATIVE, "regularizer_weight": NON_NEGATIVE,
    },
    "autoencoding.lpips.LPIPS": {"net": word("vgg", "alex", "squeeze").but()},
    "conditioning.classes.ClassConditioner": {"num_classes": COUNT, "dim": COUNT},
    "conditioning.classes.ClassConditioner.for_data": {"dim": COUNT},
    "conditioning.hf_text.HFText.for_data": {"max_length": COUNT},
    "conditioning.low_resolution.LowResolution": {"image_channels": COUNT, "factor": COUNT},
    "conditioning.masked_image.MaskedImage.for_data": {"latent_channels": COUNT, "factor": COUNT},
    "conditioning.masks.MaskConditioner": {"num_labels": COUNT},
    "conditioning.masks.MaskConditioner.for_data": {"map_channels": COUNT.or_none, "factor": COUNT},
    "conditioning.text.TextConditioner.for_data": TEXT | {
        "max_length": Kind((2, *COUNT.bad), (3,)),
    },
    "conditioning.vocabulary_making.build_vocabulary": {"size": Kind((5, *COUNT.bad), (6,))},
    "conditioning.vocabulary_making.train_vocabulary": {"size": Kind((5, *COUNT.bad), (6,))},
    "core.records.DataSpec": {
        "image_size": SIZE, "image_channels": COUNT, "num_classes": COUNT.or_none,
        "num_mask_labels": COUNT.or_none, "bits": BITS, "value_range": PAIRS.or_none,
    },
    "data.digits.Digits": {
        "split": word("train", "validation", "test"), "image_size": EIGHTS, "seed": NATURAL,
        "num_samples": Kind((1398, *COUNT.bad), (1, 1397)).or_none,
    },
    "data.images.dataset.ImageDataset": {"max_bad": NATURAL},
    "data.images.pixels.Pixels": {
        "channels": Kind((17, *COUNT.bad), (1, 16)), "bits": BITS,
        "value_range": PAIR.or_none, "value_window": WINDOW.or_none,
        "value_percentile": Kind(([-1, 5], [5, 101], *PAIR.bad), ([0, 100],)).or_none,
        "pages": word("first", "channels"), "measured": PAIRS.or_none,
    },
    "data.images.transform.Transform": {
        "image_size": SIZE.but(8, [8, 16]), "resized": COUNT.but(8).or_none,
        "crop": word("center", "random"), "resize_mode": word("crop", "pad", "squash"),
        "flip_captions": word("keep", "swap"),
        "background": Kind(
            ([0, 0], [0] * 4, [0, 0, 256], [-1, 0, 0], [0, 0, 0.5], 0, "red", None),
            ([0, 0, 0], (255, 255, 255)),
        ),
        "mirrored_labels": Kind(([[1]], [[1, -1]], [1, 2], 1, None), ([], [[4, 5], (6, 7)])),
    },
    "data.sampling.datasets.StridedSubset": {"count": COUNT},
    "data.sampling.datasets.Subset": {"limit": COUNT},
    "data.shards.dataset.Shards": {
        "split": SPLIT, "validation_share": INSIDE, "window": COUNT, "cache_gib": POSITIVE,
        "max_bad": NATURAL,
    },
    "data.shards.filters.Filters": {
        "min_side": COUNT.or_none, "min_similarity": FINITE.or_none,
        "max_aspect": Kind((0.9, *_NOT_NUMBERS), (1, 3.5)).or_none,
        "min_caption": NATURAL.or_none, "max_caption": NATURAL.or_none,
        "nsfw": Kind(([], ["no"], ["UNLIKELY", ""], "NSFW"), (["NSFW", "UNSURE"], None)),
    },
    "data.sources.celebahq.CelebAHQ": {"split": SPLIT},
    "data.sources.image_folder.ImageFolder": {
        "split": SPLIT, "num_classes": COUNT.or_none, "first_label": NATURAL, "unlabelled": NATURAL,
        "num_mask_labels": Kind((256, *COUNT.bad), (1, 255)).or_none, "validation_share": INSIDE,
    },
    "data.sources.imagenet.ImageNet": {"split": SPLIT, "num_classes": COUNT},
    "data.vistas.dataset.Vistas": {
        "split": word("train", "validation", "test", "compositions"), "image_size": EIGHTS,
        "num_samples": Kind((10**9 + 1, *COUNT.bad), (1, 10**9)), "seed": NATURAL,
    },
    "diffusion.guidance.ClassifierFree": {"scale": FINITE},
    "diffusion.guidance.ClassifierGuidance": {"scale": FINITE},
    "diffusion.guidance.Interval": {
        "low": PROBABILITY.but(0), "high": Kind((0.2, *PROBABILITY.bad), (0.21, 1)),
    },
    "diffusion.guidance.Rescaled": {"scale": FINITE, "rescale": PROBABILITY},
    "diffusion.learned_variance.LearnedVariance": {"vlb_weight": NON_NEGATIVE},
    "diffusion.parameterization.EDM": {"data_std": POSITIVE},
    "diffusion.parameterization.Eps": {"num_times": COUNT},
    "diffusion.samplers.ddim.DDIM": SAMPLER | {"eta": NON_NEGATIVE},
    "diffusion.samplers.ddpm.DDPM": SAMPLER | {"variance": word("beta", "beta_tilde", "learned")},
    "diffusion.samplers.dpm_solver.DPMSolver": SAMPLER,
    "diffusion.samplers.dpm_solver_sde.DPMSolverSDE": SAMPLER,
    "diffusion.samplers.edm.Euler": EDM_SAMPLER,
    "diffusion.samplers.edm.Heun": EDM_SAMPLER,
    "diffusion.samplers.inpainting.Inpainting": {"resamplings": COUNT},
    "diffusion.samplers.langevin.AnnealedLangevin": SAMPLER | {
        "inner_steps": COUNT, "step_size": POSITIVE,
    },
    "diffusion.samplers.langevin.PredictorCorrector": SAMPLER | {
        "corrections": NATURAL, "snr": POSITIVE,
    },
    "diffusion.samplers.ode.ODE": SAMPLER | {
        "tolerance": POSITIVE, "method": word("RK23", "RK45", "DOP853"),
    },
    "diffusion.samplers.unipc.UniPC": SAMPLER,
    "diffusion.schedule.KarrasVE": {
        "sigma_min": POSITIVE.but(1e-9, 79), "rho": POSITIVE.but(1, 7),
        "sigma_max": Kind((0.002, *POSITIVE.bad), (0.003, 1e3)),
    },
    "diffusion.schedule.cosine": {
        "num_steps": COUNT, "offset": NON_NEGATIVE.but(0, 0.1), "max_beta": SHARE,
    },
    "diffusion.schedule.linear": LINE,
    "diffusion.schedule.scaled_linear": LINE,
    "diffusion.schedule.sigmoid": {
        "num_steps": COUNT, "start": FINITE.but(-5, 0), "temperature": POSITIVE.but(0.5, 2),
        "end": Kind((-3, -4, *_NOT_NUMBERS), (-1, 5)),
    },
    "diffusion.timestep_sampler.LogNormal": {"mean": FINITE, "std": POSITIVE},
    "diffusion.timestep_sampler.LogitNormal": {"mean": FINITE, "std": POSITIVE},
    "diffusion.timestep_sampler.LossSecondMoment": {
        "bins": COUNT, "history": COUNT, "uniform_share": SHARE,
    },
    "diffusion.weighting.EDM": {"data_std": POSITIVE},
    "diffusion.weighting.MinSNR": {"gamma": POSITIVE},
    "diffusion.weighting.SoftMinSNR": {"gamma": POSITIVE},
    "diffusion.weighting.Sum": {"factors": NON_NEGATIVE.many([1, 0.5])},
    "diffusion.weighting.VLB": {"num_steps": COUNT, "variance": word("beta", "beta_tilde")},
    "evaluation.digits.DigitsEvaluation": {"num_samples": SEVERAL},
    "evaluation.likelihood.BitsPerDim": {
        "num_samples": COUNT, "terms": COUNT.or_none, "tolerance": POSITIVE,
        "variance": word("beta", "beta_tilde", "learned"), "trace": word("hutchinson", "exact"),
    },
    "evaluation.likelihood.DensityBaseline": {
        "max_steps": COUNT, "batch_size": COUNT, "lr": POSITIVE,
    },
    "evaluation.protocol.NoEvaluation": {"num_samples": NATURAL},
    "evaluation.vistas.evaluation.VistasEvaluation": {
        "num_samples": SEVERAL, "batch_size": COUNT, "seed": NATURAL,
    },
    "nn.discriminator.PatchDiscriminator": {
        "in_channels": COUNT, "channels": COUNT.but(8), "num_layers": COUNT,
        "norm": word("batch", "group"),
    },
    "nn.realnvp.RealNVP": {
        "in_channels": COUNT, "hidden_channels": COUNT, "num_steps": COUNT, "levels": COUNT,
    },
    "nn.text_transformer.TextTransformer": TEXT | {"vocab_size": COUNT},
    "nn.unet.UNet": WIDTH | {
        "in_channels": COUNT, "out_channels": COUNT, "token_dim": COUNT.or_none,
        "vector_dim": COUNT.or_none, "num_heads": COUNT.but().or_none,
        "head_channels": Kind((3, 32, *COUNT.or_none.bad), (1, 8, 16)), "transformer_depth": COUNT,
        "dropout": FRACTION,
    },
    "training.ema.power_decay": {"gamma": NON_NEGATIVE},
    "training.ema.power_lengths": {
        "lengths": Kind(([], [0.1, 0.28], [0], [NAN], ["1"], 0.1, None), ([0.1], (0.27, 0.01))),
    },
    "training.ema.warmup_decay": {"decay": FRACTION},
    "training.optimizers.factories.adam": OPTIMIZER,
    "training.optimizers.factories.adamw": OPTIMIZER,
    "training.optimizers.factories.muon": OPTIMIZER | {
        "matrix_ratio": POSITIVE, "momentum": FRACTION,
    },
    "training.optimizers.lr_schedules.constant": {
        "total_steps": COUNT, "warmup_steps": NATURAL, "start": PROBABILITY.or_none,
    },
    "training.optimizers.lr_schedules.warmup_cosine": {
        "total_steps": COUNT, "warmup_steps": NATURAL, "start": PROBABILITY.or_none,
        "final": PROBABILITY,
    },
}  # fmt: skip

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a")
DATA = {"spec": DataSpec(8, 3, 2, 2, WORDS), "factor": 2}
RATES = {"network": nn.Linear(2, 2), "lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.0}
RUN = {"total_steps": 10}


def _given() -> dict[str, dict[str, Any]]:
    """What a target needs beside the argument in question, kept small."""
    from ldmlab.autoencoding.bottlenecks import KL

    small = {"max_length": 3, "dim": 8, "depth": 1, "num_heads": 1, "head_dim": 8}
    return {
        "autoencoding.adversary.Adversary": {"discriminator": nn.Identity()},
        "autoencoding.autoencoder.Autoencoder": {"bottleneck": KL(), "channels": 8},
        "autoencoding.losses.ReconstructionLoss": {"perceptual": nn.Identity()},
        "conditioning.classes.ClassConditioner": {"num_classes": 2},
        "conditioning.classes.ClassConditioner.for_data": DATA,
        "conditioning.hf_text.HFText.for_data": DATA,
        "conditioning.low_resolution.LowResolution": {"image_channels": 3, "factor": 2},
        "conditioning.masked_image.MaskedImage.for_data": DATA
        | {"latent_channels": 4, "encode": nn.Identity()},
        "conditioning.masks.MaskConditioner": {"num_labels": 2, "factor": 2},
        "conditioning.masks.MaskConditioner.for_data": DATA,
        "conditioning.text.TextConditioner.for_data": DATA | small,
        "conditioning.vocabulary_making.build_vocabulary": {"captions": ["a"]},
        "conditioning.vocabulary_making.train_vocabulary": {"captions": ["a"]},
        "core.records.DataSpec": {"image_size": 8, "image_channels": 3},
        "data.images.dataset.ImageDataset": {"source": [], "transform": None},
        "data.images.transform.Transform": {"image_size": 8},
        "data.sampling.datasets.StridedSubset": {"dataset": Digits("test")},
        "data.sampling.datasets.Subset": {"dataset": Digits("test")},
        "data.shards.dataset.Shards": {"split": "train"},
        "data.sources.image_folder.ImageFolder": {"split": "train"},
        "data.sources.imagenet.ImageNet": {"split": "train"},
        "diffusion.guidance.ClassifierGuidance": {"log_prob": print},
        "diffusion.guidance.Interval": {"guidance": ClassifierFree()},
        "diffusion.samplers.inpainting.Inpainting": {"sampler": None, "known": None, "mask": None},
        "diffusion.weighting.Sum": {"weightings": [Unit(), Unit()]},
        "evaluation.likelihood.DensityBaseline": {"network": print},
        "nn.realnvp.RealNVP": {"in_channels": 1, "num_steps": 1},
        "nn.text_transformer.TextTransformer": {"vocab_size": 6, **small},
        "nn.unet.UNet": {"in_channels": 1, "out_channels": 1, "channels": 8, "head_channels": 8},
        "training.optimizers.factories.adam": RATES,
        "training.optimizers.factories.adamw": RATES,
        "training.optimizers.factories.muon": RATES,
        "training.optimizers.lr_schedules.constant": RUN,
        "training.optimizers.lr_schedules.warmup_cosine": RUN,
    }


@pytest.fixture(autouse=True)
def _types_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own type checks would answer before the constructors do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("name", TABLE)
def test_values_out_of_range_are_refused_by_name(name: str) -> None:
    target, given = resolve_name(f"ldmlab.{name}"), _given().get(name, {})
    for argument, kind in TABLE[name].items():
        for value in kind.bad:
            refusal = _refusal(target, given | {argument: value})
            assert refusal is not None, f"{argument}={value!r} was accepted"
            assert refusal.argument == argument
            assert str(refusal).startswith(f"{argument} must be ")
            assert str(refusal).endswith(f"; got {value!r}")


def _refusal(target: Callable[..., Any], arguments: dict[str, Any]) -> ArgumentError | None:
    try:
        target(**arguments)
    except ArgumentError as error:
        return error
    return None


@pytest.mark.parametrize("name", TABLE)
def test_range_ends_are_accepted(name: str) -> None:
    target, given = resolve_name(f"ldmlab.{name}"), _given().get(name, {})
    for argument, kind in TABLE[name].items():
        for value in kind.good:
            with suppress(UserError):  # of what is not there: a folder, an encoder, letters
                target(**given | {argument: value})


def test_every_number_and_word_of_conf_is_in_the_table() -> None:
    ours = {name.removeprefix("ldmlab.") for name in targets() if name.startswith("ldmlab.")}
    missing = [
        f"{name}({argument})"
        for name in sorted(ours)
        if not name.startswith("training.strategies.")  # the trainer's keys have their own checks
        for argument in _numbers_and_words(resolve_name(f"ldmlab.{name}"))
        if argument not in TABLE.get(name, {})
    ]
    assert missing == []


def _numbers_and_words(target: Callable[..., Any]) -> Iterator[str]:
    """The parameters that hold numbers or one of some words."""
    plain = isinstance(target, type) and not is_dataclass(target)
    hints = get_type_hints(target.__init__ if plain else target)  # type: ignore[misc]
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and inspect.ismethod(target):
            yield from _numbers_and_words(target.__self__)  # on their way to the constructor
        elif parameter.name != "factor" and _has_range(hints.get(parameter.name)):  # the codec's
            yield parameter.name


def _has_range(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType, Sequence, tuple, list):
        return any(map(_has_range, get_args(hint)))
    return hint in (int, float) or get_origin(hint) is Literal
