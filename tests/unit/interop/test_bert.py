"""The exported text encoder against diffusers' own class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ldmlab.conditioning.text import TextConditioner
from ldmlab.conditioning.vocabulary_making import build_vocabulary
from ldmlab.interop.diffusers.bert import read_bert, write_bert

pytest.importorskip("transformers", reason="the extra `text` is not installed")
stock = pytest.importorskip("diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion")


def test_exported_text_encoder_computes_the_same_states(tmp_path: Path) -> None:
    words = build_vocabulary(["a red house by the sea"])
    torch.manual_seed(0)
    conditioner = TextConditioner(words, 77, dim=8, depth=2, num_heads=2, head_dim=4)
    with torch.no_grad():
        for weight in conditioner.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    write_bert(conditioner, tmp_path)
    told = json.loads((tmp_path / "bert" / "config.json").read_text())
    model = stock.LDMBertModel(stock.LDMBertConfig(**told)).eval()
    state = load_file(tmp_path / "bert" / "model.safetensors")
    model.load_state_dict(state, strict=False)
    named = {name for name, _ in model.named_parameters()}
    assert set(state) == named
    tokens = conditioner.tokenizer(["a red house", "the sea"])
    with torch.no_grad():
        expected = model(tokens)[0]
        found = conditioner(tokens).tokens
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(read_bert(tmp_path)(tokens).tokens, found)
    assert expected.std() > 0.1
