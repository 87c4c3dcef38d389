"""A CompVis checkpoint and its YAML as a model that a configuration of ours describes."""

from __future__ import annotations

from typing import Any

from ldmlab.conditioning.given import GivenConditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.interop.common.imported import Imported
from ldmlab.interop.common.key_map import State
from ldmlab.interop.common.to_config import Leaf, autoencoder_leaves, leaf, leaves_of, spec_of
from ldmlab.interop.compvis import model as compvis
from ldmlab.interop.compvis.conditioner import Vocabulary
from ldmlab.interop.compvis.options import Options, need
from ldmlab.nn.text_transformer import TextTransformer

_AUTOENCODERS = ("AutoencoderKL", "VQModel", "VQModelInterface")
_SAMPLER_STEPS = 50


def import_compvis(config: Options, state: State, vocabulary: Vocabulary = None) -> Imported:
    """The model of a published configuration.

    Args:
        config: The published YAML as plain tables: data, in which nothing is looked up.
        state: The published tensors.
        vocabulary: Tokens of a model of captions in order of their numbers.

    Raises:
        UserError: The configuration describes no model that can be read, or the tensors are not
            those of the configuration.
    """
    model = _table(need(config, "model", "the top"), "model")
    target = str(need(model, "target", "model"))
    params = _table(need(model, "params", "model"), "model.params")
    try:
        if target.endswith(_AUTOENCODERS):
            return _first_stage(params, state)
        if target.endswith("LatentDiffusion"):
            return _latent_diffusion(params, state, vocabulary)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UserError(
            f"the CompVis configuration has a value of the wrong kind in model.params: {error}"
        ) from error
    known = ", ".join(("LatentDiffusion", *_AUTOENCODERS))
    raise UserError(f"model.target={target} of the CompVis configuration is none of {known}")


def _first_stage(params: Options, state: State) -> Imported:
    autoencoder = compvis.load_autoencoder(params, state)
    spec = DataSpec(params["ddconfig"]["resolution"], autoencoder.image_channels)
    return Imported(autoencoder, autoencoder_leaves(autoencoder), spec)


def _latent_diffusion(params: Options, state: State, vocabulary: Vocabulary) -> Imported:
    model = compvis.load(params, state, vocabulary)
    conditioner = model.network.conditioner
    if isinstance(conditioner, GivenConditioner) and isinstance(conditioner.embed, TextTransformer):
        raise UserError("this model reads captions: give vocabulary=<its tokenizer's vocab.txt>")
    # The published size counts latents.
    size = int(need(params, "image_size", "model.params")) * model.codec.factor
    leaves = leaves_of(model) | {"sampler": _sampler(params.get("timesteps", 1000))}
    return Imported(model, leaves, spec_of(model.codec, conditioner, size))


def _sampler(count: int) -> Leaf:
    """The published DDIM, where its list of steps stays inside the table."""
    if count > _SAMPLER_STEPS and count % _SAMPLER_STEPS == 0:
        published: dict[str, Any] = {"spacing": "leading_plus_one", "final": "first_entry"}
    else:
        published = {"spacing": "trailing", "final": "data"}
    return leaf(DDIM, steps=min(count, _SAMPLER_STEPS), **published, eta=0.0)


def _table(value: Any, where: str) -> Options:
    if not isinstance(value, dict):
        raise UserError(f"{where} of the CompVis configuration is no table")
    return value
