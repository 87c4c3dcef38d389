"""Rules of the house that a reader would otherwise have to count: sizes and published networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ldmlab.nn.autoencoder import Decoder, Encoder
from ldmlab.nn.unet import UNet

SOURCE = Path(__file__).parents[2] / "src" / "ldmlab"


def test_source_files_stay_small() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert max(lengths.values()) <= 350
    modules = [
        path for path in lengths if path.name in ("autoencoder_module.py", "diffusion_module.py")
    ]
    assert len(modules) == 2
    assert all(lengths[path] <= 120 for path in modules)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        (
            {"in_channels": 3, "out_channels": 3, "channels": 224, "channel_mult": (1, 2, 3, 4),
             "attention_factors": (2, 4, 8), "head_channels": 32},
            274_056_163,
        ),
        (
            {"in_channels": 4, "out_channels": 4, "channels": 192, "channel_mult": (1, 2, 2, 4, 4),
             "attention_factors": (1, 2, 4, 8), "num_heads": 8, "scale_shift": True,
             "resample_blocks": True},
            294_966_916,
        ),
        (
            {"in_channels": 3, "out_channels": 3, "token_dim": 512, "channels": 192,
             "channel_mult": (1, 2, 3, 5), "attention_factors": (2, 4, 8), "num_heads": 1},
            400_920_579,
        ),
        (
            {"in_channels": 4, "out_channels": 4, "token_dim": 1280, "channels": 320,
             "channel_mult": (1, 2, 4, 4), "attention_factors": (1, 2, 4), "num_heads": 8},
            872_300_484,
        ),
        (
            {"in_channels": 6, "out_channels": 3, "channels": 128, "channel_mult": (1, 4, 8),
             "attention_factors": (8, 16, 32), "num_heads": 8},
            215_229_315,
        ),
    ],
)  # fmt: skip
def test_published_unets_have_their_parameter_counts(shape: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in UNet(**shape).parameters()) == count  # type: ignore[arg-type]


def test_published_kl_f8_halves_have_their_parameter_counts() -> None:
    with torch.device("meta"):
        encoder = Encoder(3, 8, channel_mult=(1, 2, 4, 4))
        decoder = Decoder(4, 3, channel_mult=(1, 2, 4, 4))
    assert sum(p.numel() for p in encoder.parameters()) == 34_163_592
    assert sum(p.numel() for p in decoder.parameters()) == 49_490_179
