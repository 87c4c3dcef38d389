"""Frozen text encoders of transformers: tiny ones, of three families, made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ldmlab.apps.build.experiment import build_codec, build_diffusion_module, build_model
from ldmlab.apps.config.compose import compose
from ldmlab.conditioning.hf_text import HFText
from ldmlab.conditioning.vocabulary_files import write_vocabulary
from ldmlab.conditioning.vocabulary_making import train_vocabulary
from ldmlab.core.checkpoint_file import load_weights
from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, DataSpec

transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")

CAPTIONS = ("a red house by the sea", "two houses near a tree", "")
SPEC = DataSpec(16, 3, vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
FAMILIES = ("bert", "t5", "clip")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    words = train_vocabulary(CAPTIONS * 3, 200)
    write_vocabulary(folder / "words", words)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder / "words")
    size = {"vocab_size": len(words)}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    wide = size | layers | {"hidden_size": 16, "intermediate_size": 32}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    t5 = transformers.T5Config(**size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    for name, make in {
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**wide)),
        "other": lambda: transformers.BertModel(transformers.BertConfig(**wide)),
        "t5": lambda: transformers.T5ForConditionalGeneration(t5),
        "clip": lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**wide, **ends)),
    }.items():
        make().save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def batch(captions=CAPTIONS) -> Batch:
    return Batch(index=torch.arange(len(captions)), caption=captions)


@pytest.mark.parametrize("family", FAMILIES)
def test_hf_text_states_equal_the_encoder_output(encoders: Path, family: str) -> None:
    conditioner = HFText(str(encoders / family), 12, pooled=True).train()
    condition = conditioner.select(batch())
    assert condition.shape == (3, 12, 17)
    found = conditioner(condition)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoders / family)
    ids = tokenizer(CAPTIONS[0], return_tensors="pt")
    module = conditioner._frozen.module
    with torch.no_grad():
        expected = module(**{k: ids[k] for k in ("input_ids", "attention_mask")})
    length = ids["input_ids"].shape[1]
    states = expected.last_hidden_state[0]
    torch.testing.assert_close(found.tokens[0, :length], states, rtol=1e-4, atol=1e-5)
    assert found.tokens.shape == (3, 12, 16) and not found.tokens[0, length:].any()
    torch.testing.assert_close(found.vector[0], states.mean(0), rtol=1e-4, atol=1e-5)
    assert found.tokens[2].isfinite().all() and not torch.equal(found.tokens[0], found.tokens[1])
    dropped = conditioner.drop(condition, torch.tensor([True, False, False]))
    torch.testing.assert_close(dropped[0], condition[2], rtol=1e-4, atol=1e-5)
    assert torch.equal(dropped[1:], condition[1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_hf_text_cached_states_are_the_condition(encoders: Path, family: str) -> None:
    conditioner = HFText(str(encoders / family), 12, pooled=True)
    twice = batch((*CAPTIONS, CAPTIONS[0]))
    ahead = conditioner.precompute(twice)
    assert ahead.text is not None and torch.equal(ahead.text.states[0], ahead.text.states[3])
    # As from a cache: without captions, and padded no further than the longest of a batch.
    part = ahead[1:3]
    short = part.text.states[:, : int(part.text.length.max())]
    cached = replace(part, caption=None, text=replace(part.text, states=short))
    found, wanted = (conditioner.select(b) for b in (cached, batch(CAPTIONS[1:])))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    half = replace(part, text=replace(part.text, states=part.text.states.half()))
    assert conditioner.select(half).dtype == torch.float32


def test_hf_text_cache_key_depends_on_encoder_and_length(encoders: Path) -> None:
    names = [HFText(str(encoders / name), length).cache_key for name, length in
             (("bert", 12), ("bert", 12), ("bert", 11), ("other", 12))]  # fmt: skip
    assert names[0] == names[1] and names[0] not in names[2:]


@pytest.mark.parametrize("family", FAMILIES)
def test_hf_text_sizes_are_known_without_weights(encoders: Path, family: str) -> None:
    with torch.device("meta"):
        conditioner = HFText(str(encoders / family), 12)
        assert conditioner.token_dim == 16
        assert conditioner(conditioner.select(batch()).to("meta")).tokens.shape == (3, 12, 16)


def module(encoder: Path):
    cfg = compose([
        "conditioner=hf_text", f"conditioner.encoder={encoder}", "conditioner.max_length=12",
        "codec=identity", "network.channels=8", "network.channel_mult=[1,2]",
        "network.head_channels=8",
    ])  # fmt: skip
    return build_diffusion_module(cfg, build_model(cfg, SPEC, build_codec(cfg, SPEC)))


def weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}


def test_hf_text_encoder_is_not_trained_averaged_or_stored(encoders: Path) -> None:
    trained = module(encoders / "bert")
    model, average = trained.model, trained.ema.network
    encoder = model.network.conditioner._frozen.module
    assert average.conditioner._frozen.module is encoder
    inside = {id(p) for p in encoder.parameters()}
    optimizer = trained.configure_optimizers()["optimizer"]
    handed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not inside & (handed | {id(p) for p in trained.parameters()})
    stored = [k for k in trained.state_dict() if "conditioner" in k]
    assert {k.rpartition(".")[2] for k in stored} == {"fingerprint"} and len(stored) == 2
    before = [p.clone() for p in encoder.parameters()]
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = Batch(index=torch.arange(2), image=images, caption=CAPTIONS[:2])
    model.loss(seen, SampleNoise(0, [0, 1])).per_sample.mean().backward()
    optimizer.step()
    trained.ema.update(model.network)
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    assert all(p.grad is None for p in encoder.parameters())


def test_hf_text_refuses_another_encoder_than_in_training(encoders: Path) -> None:
    state = weights(module(encoders / "bert").state_dict())
    load_weights(module(encoders / "bert").model, state, "misfit")
    with pytest.raises(UserError, match=r"misfit: conditioner\.encoder=.*other is not the encoder"):
        load_weights(module(encoders / "other").model, state, "misfit")


def test_hf_text_reports_an_unusable_encoder_in_one_line(
    encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    monkeypatch.setattr("ldmlab.conditioning.hf_text.offline", lambda: True)
    for name in (str(tmp_path), str(encoders / "words"), "no-such/encoder"):
        with pytest.raises(UserError, match=r"conditioner\.encoder=.* cannot be had") as raised:
            HFText(name)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"conditioner\.encoder is not set"):
        HFText()
    with pytest.raises(UserError, match="needs a caption"):
        HFText.for_data(DataSpec(16, 3), 1)


def test_hf_text_does_not_open_pickled_weights(encoders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in (encoders / "bert").iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    ran = tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {ran}'\ntR.".encode())
    with pytest.raises(UserError, match="safetensors"):
        HFText(str(folder))
    assert not ran.exists()
