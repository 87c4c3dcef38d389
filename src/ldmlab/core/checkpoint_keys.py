"""What lies under which name in a checkpoint: its stage, its model's parts, and their averages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.image_size import plain_size
from ldmlab.core.pixel_values import as_value_range
from ldmlab.core.records import DataSpec


def stage_of(checkpoint: Mapping[str, Any]) -> str | None:
    """The stage that a checkpoint is of, `autoencoder` or `diffusion`; None for neither."""
    stages = {"model.": "diffusion", "autoencoder.": "autoencoder"}
    names = checkpoint.get("state_dict", {})
    of_old = (s for prefix, s in stages.items() if any(n.startswith(prefix) for n in names))
    stage: str | None = checkpoint.get("metadata", {}).get("stage") or next(of_old, None)
    return stage


def spec_in(checkpoint: Mapping[str, Any]) -> DataSpec:
    """What the model of a checkpoint knows of its data."""
    metadata = dict(checkpoint["metadata"]["spec"])
    if metadata["vocabulary"] is not None:
        metadata["vocabulary"] = tuple(metadata["vocabulary"])
    metadata["image_size"] = plain_size(metadata["image_size"])
    metadata["value_range"] = as_value_range(metadata.get("value_range"))
    return DataSpec(**metadata)


def class_names_in(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """Name of each class of the data that a checkpoint was trained on; empty if it tells none."""
    return tuple((checkpoint["metadata"].get("data") or {}).get("classes") or ())


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def kept_average(state: Mapping[str, Tensor], which: int = 0) -> dict[str, Tensor]:
    """The network's averaged weights, by their names in the network."""
    return below("ema.network." if which == 0 else f"ema.others.{which - 1}.", state)


def model_weights(state: Mapping[str, Tensor], average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model of stage two, an average in the place of the trained network."""
    return below("model.", state) | {f"network.{name}": v for name, v in average.items()}


def codec_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole codec, normalisation included, of a run of stage two; empty for stage one."""
    return below("model.codec.", state)


def autoencoder_weights(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The autoencoder's tensors among those of a run of either stage.

    Args:
        state: The run's tensors.
        source: The key and value that name it, for the message.

    Raises:
        UserError: There is no autoencoder in it.
    """
    weights = below("autoencoder.", state) or below("autoencoder.", codec_weights(state))
    if not weights:
        raise UserError(f"{source} holds no autoencoder")
    return weights
