"""Initial weights for fine-tuning, taken from a run of one's own or an imported one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from ldmlab.apps.runs.find import find_checkpoint
from ldmlab.core.checkpoint_file import load_weights, read_checkpoint
from ldmlab.core.checkpoint_keys import autoencoder_weights, below, kept_average, spec_in
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec


def spec_to_start_from(run: str | Path, spec: DataSpec) -> DataSpec:
    """What the model must know of new data: its own tables of words and classes stay.

    Args:
        run: The run of stage two that is fine-tuned.
        spec: Of the new data.

    Raises:
        UserError: The new images have other channels.
    """
    known = spec_in(read_checkpoint(find_checkpoint(run)))
    if known.image_channels != spec.image_channels:
        raise UserError(
            f"stages.diffusion.weights={run} was trained on images of {known.image_channels} "
            f"channels and this data has {spec.image_channels}: choose other data"
        )
    return replace(known, image_size=spec.image_size, bits=spec.bits, value_range=spec.value_range)


def start_network(network: nn.Module, run: str | Path) -> None:
    """Give a network the averaged weights of a run of stage two.

    Raises:
        UserError: The run is of stage one, or of another architecture.
    """
    state = read_checkpoint(find_checkpoint(run))["state_dict"]
    weights = below("model.network.", state) | kept_average(state)
    misfit = f"stages.diffusion.weights={run} is of another network than this configuration's"
    load_weights(network, weights, misfit)


def start_autoencoder(autoencoder: nn.Module, run: str | Path) -> None:
    """Give an autoencoder the weights of a run, of stage one or two.

    Raises:
        UserError: The run holds no autoencoder, or one of another architecture.
    """
    misfit = f"stages.autoencoder.weights={run} is another autoencoder than this configuration's"
    state = read_checkpoint(find_checkpoint(run))["state_dict"]
    weights = autoencoder_weights(state, f"stages.autoencoder.weights={run}")
    load_weights(autoencoder, weights, misfit)
