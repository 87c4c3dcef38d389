"""The time's embedding, by hand and as diffusers has it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding

from ldmlab.nn.embeddings import TimeEmbedding, sinusoidal_embedding


def test_sinusoidal_embedding_has_cosines_before_sines() -> None:
    got = sinusoidal_embedding(torch.tensor([0.0, 3.0]), 4)
    assert got[0].tolist() == [1, 1, 0, 0]
    # Frequencies of 1 and of 10000^(-1/2).
    want = [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)]
    assert got[1].tolist() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("dim", [32, 64])
def test_sinusoidal_embedding_matches_diffusers(dim: int) -> None:
    time = torch.tensor([0, 1, 17, 500, 999])
    other = get_timestep_embedding(time, dim, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoidal_embedding(time, dim), other)


def test_time_embedding_is_a_perceptron_of_the_sinusoids() -> None:
    torch.manual_seed(0)
    module, time = TimeEmbedding(8, 12), torch.tensor([3.0, 700.0])
    first, _, second = module.mlp
    h = F.linear(sinusoidal_embedding(time, 8), first.weight, first.bias)
    want = F.linear(h * torch.sigmoid(h), second.weight, second.bias)
    torch.testing.assert_close(module(time), want)
    assert module(time).shape == (2, 12)
    assert module.double()(time).dtype == torch.float64
