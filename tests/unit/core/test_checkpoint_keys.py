"""What is found under which name in a checkpoint."""

from __future__ import annotations

import pytest
import torch

from ldmlab.core.checkpoint_keys import (
    autoencoder_weights,
    codec_weights,
    kept_average,
    model_weights,
    spec_in,
    stage_of,
)
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec

A, B, C = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)


def test_stage_of_a_checkpoint_is_what_it_says_or_what_it_holds() -> None:
    weight = torch.zeros(1)
    assert stage_of({"metadata": {"stage": "autoencoder"}, "state_dict": {"model.a": weight}}) == (
        "autoencoder"
    )
    assert stage_of({"state_dict": {"model.a": weight}}) == "diffusion"
    # A diffusion model's codec lies under its own name.
    assert stage_of({"state_dict": {"model.autoencoder.a": weight}}) == "diffusion"
    assert stage_of({"state_dict": {"autoencoder.a": weight}}) == "autoencoder"
    assert stage_of({"state_dict": {"other.autoencoder.a": weight}}) is None
    assert stage_of({}) is None


def test_averages_are_told_apart_and_take_the_place_of_the_network() -> None:
    state = {"ema.network.w": A, "ema.others.0.w": B, "ema.others.1.w": C, "model.network.w": C}
    assert [float(kept_average(state, k)["w"]) for k in (0, 1, 2)] == [0, 1, 2]
    state |= {"model.codec.scale": B}
    assert model_weights(state, {"w": A}) == {"network.w": A, "codec.scale": B}
    assert model_weights(state, {}) == {"network.w": C, "codec.scale": B}


def test_autoencoder_is_found_in_either_stage() -> None:
    two = {"model.codec.autoencoder.w": A, "model.codec.scale": B, "ema.network.autoencoder.w": C}
    assert codec_weights(two) == {"autoencoder.w": A, "scale": B}
    assert autoencoder_weights(two, "run=a") == {"w": A}
    assert autoencoder_weights({"autoencoder.w": B}, "run=a") == {"w": B}
    with pytest.raises(UserError, match="run=a holds no autoencoder"):
        autoencoder_weights({"model.network.w": A}, "run=a")


def test_data_spec_comes_back_as_it_was() -> None:
    plain = {"image_size": 8, "image_channels": 1, "num_classes": 3, "num_mask_labels": None}
    for words in (None, ["a", "b"]):
        found = spec_in({"metadata": {"spec": plain | {"vocabulary": words}}})
        assert found == DataSpec(8, 1, 3, None, None if words is None else ("a", "b"))
