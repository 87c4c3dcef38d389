"""The record that every importer returns: model, size and origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ldmlab.autoencoding.autoencoder import Autoencoder
from ldmlab.core.records import DataSpec
from ldmlab.models.latent_diffusion import LatentDiffusion


@dataclass(frozen=True)
class Imported:
    """A model from elsewhere.

    Attributes:
        model: The model with its weights; an autoencoder where there is no stage two.
        leaves: Groups of a configuration that build it again.
        spec: What it knows of its data.
    """

    model: LatentDiffusion | Autoencoder
    leaves: Mapping[str, Any]
    spec: DataSpec
