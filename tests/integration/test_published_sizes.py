"""The published sizes for real: weights with memory behind them, and numbers through them."""

from __future__ import annotations

import pytest
import torch

from ldmlab.apps.build.experiment import build_codec, build_network, build_process, data_spec
from ldmlab.apps.config.compose import compose
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, Conditioning
from ldmlab.models.cost import count_parameters
from ldmlab.models.latent_diffusion import ConditionalNetwork


def _network(experiment: str, dtype: torch.dtype) -> ConditionalNetwork:
    """An experiment's trainable network on the CPU; its codec stays without memory."""
    cfg = compose([f"experiment={experiment}", "data.root=nowhere"])
    spec = data_spec(cfg)
    with torch.device("meta"):
        codec = build_codec(cfg, spec)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        return build_network(cfg, spec, codec, build_process(cfg))
    finally:
        torch.set_default_dtype(before)


@pytest.mark.slow
def test_celebahq_trains_a_step_at_published_size() -> None:
    network = _network("celebahq", torch.float32)
    assert count_parameters([network]) == 274_056_163
    process = build_process(compose(["experiment=celebahq", "data.root=nowhere"]))
    z = SampleNoise(0, range(1)).normal(torch.empty(1, 3, 64, 64))
    loss = process.loss(network, z, Conditioning(), SampleNoise(1, range(1))).per_sample.mean()
    # A network whose last layer begins at zero predicts no noise at all: its error is the noise.
    assert loss.item() == pytest.approx(1, abs=0.05)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)


@pytest.mark.slow
def test_laion_runs_forward_at_published_size_in_bfloat16() -> None:
    network = _network("laion", torch.bfloat16)
    assert count_parameters([network]) == 872_300_484 + 581_994_042
    batch = Batch(index=torch.arange(1), caption=("a red house on the left of a meadow",))
    conditioner = network.conditioner
    z = SampleNoise(0, range(1)).normal(torch.empty(1, 4, 32, 32)).bfloat16()
    with torch.no_grad():
        conditioning = conditioner(conditioner.select(batch))
        assert conditioning.tokens is not None and conditioning.tokens.shape == (1, 77, 1280)
        output = network(z, torch.tensor([500.0]), conditioning)
    assert output.shape == z.shape and output.dtype == torch.bfloat16
    assert bool(output.isfinite().all())
