"""Published checkpoints become runs that are sampled, judged and fine-tuned."""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.unit.interop.tiny import KINDS, WORDS, published
from torch import Tensor

from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.runs.find import find_checkpoint
from ldmlab.apps.runs.restore import restore
from ldmlab.conditioning.vocabulary_making import build_vocabulary
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.interop.common.read_foreign import read_tensors
from ldmlab.interop.compvis import model as compvis
from ldmlab.models.latent_diffusion import LatentDiffusion

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code = 0
        try:
            cli.main(arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, capsys.readouterr().err

    return run


def save(kind: str, folder: Path, **more: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, state = published(kind)
    torch.save({"state_dict": state, "global_step": 7, **more}, folder / "model.ckpt")
    (folder / "model.yaml").write_text(yaml.safe_dump(config))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return config, state


def words_of(kind: str) -> list[str]:
    return ["vocabulary=vocab.txt"] if kind == "text" else []


def same(ours: LatentDiffusion, theirs: LatentDiffusion, kind: str) -> None:
    conditions = Batch(
        index=torch.arange(2),
        label=torch.tensor([0, 3]),
        mask=torch.arange(4).repeat(2, 32, 8),
        caption=("a red house", "dark hills"),
    )
    x = SampleNoise(0, range(2)).normal(torch.empty(2, 2, 16, 16))
    one, other = (m.guided(conditions)(x, torch.tensor(0.4)) for m in (ours, theirs))
    assert torch.equal(one.eps, other.eps)
    assert torch.equal(ours.codec.decode(x), theirs.codec.decode(x))
    assert one.eps.std() > 0.01
    for name, value in theirs.codec.state_dict().items():
        assert torch.equal(ours.codec.state_dict()[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_converted_run_equals_the_published_model(
    kind: str, command: Command, tmp_path: Path
) -> None:
    config, state = save(kind, tmp_path)
    arguments = ["compvis=model.ckpt", "config=model.yaml", "out=here/faces", *words_of(kind)]
    code, err = command("convert", *arguments)
    assert code == 0, err
    words = WORDS if kind == "text" else None
    theirs = compvis.load(config, state, words)
    restored = restore(load_config("here/faces/config.yaml"), "here/faces")
    same(restored.model, theirs, kind)
    assert restored.spec.image_size == 32
    assert json.loads(Path("here/faces/environment.json").read_text())["versions"]["torch"]
    assert [path.name for path in Path("here").iterdir()] == ["faces"]


def test_converted_run_can_be_sampled_and_fine_tuned(command: Command, tmp_path: Path) -> None:
    save("class", tmp_path)
    Path("in").mkdir()
    assert command("convert", "compvis=model.ckpt", "config=model.yaml", "out=in")[0] == 0
    code, err = command("sample", "run=in", "labels=2", "num_samples=2", "sampler.steps=2", "out=o")
    assert code == 0, err
    assert sorted(path.name for path in Path("o").iterdir())[:2] == ["00000.png", "00001.png"]
    code, err = command(
        "train",
        "config=in/config.yaml",
        "stage=diffusion",
        "data.limit=8",
        "data.train.num_samples=8",
        "data.validation.num_samples=4",
        "stages.diffusion.max_steps=1",
        "stages.diffusion.batch_size=4",
        "evaluation.num_samples=4",
        "sampler.steps=1",
    )
    assert code == 0, err
    before = restore(load_config("in/config.yaml"), "in").model
    after = restore(load_config("in/config.yaml"), "runs/in/diffusion/latest").model
    assert before.codec.fingerprint() == after.codec.fingerprint()
    weights = dict(before.network.named_parameters())
    moved = [(p - weights[n]).abs().max() for n, p in after.network.named_parameters()]
    assert 0 < max(moved) < 1e-3


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_converted_first_stage_becomes_an_autoencoder_run(
    kind: str, command: Command, tmp_path: Path
) -> None:
    config, state = published("none" if kind == "kl" else "class")
    stage = config["model"]["params"]["first_stage_config"]
    prefix = "first_stage_model."
    alone = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    save_file(alone | {"loss.logvar": torch.zeros(1)}, "first.safetensors")
    Path("first.yaml").write_text(yaml.safe_dump({"model": stage}))
    code, err = command("convert", "compvis=first.safetensors", "config=first.yaml", "out=first")
    assert code == 0, err
    small = [
        "data.train.num_samples=8",
        "data.validation.num_samples=4",
        "stages.diffusion.max_steps=1",
        "stages.diffusion.batch_size=4",
        "evaluation.num_samples=4",
        "network.channels=32",
        "conditioner.dim=32",
        "sampler.steps=1",
    ]
    if kind == "kl":
        tuned = ["stages.autoencoder.max_steps=1", "stages.autoencoder.batch_size=4"]
        code, err = command("train", "config=first/config.yaml", "run_id=tuned", *tuned, *small)
        assert code == 0, err
        found = read_checkpoint("runs/first/autoencoder/tuned/checkpoints/last.ckpt")
        prefix, tolerance = "autoencoder.", 1e-3
    else:
        used = ["stage=diffusion", "codec.run=first"]
        code, err = command("train", "config=first/config.yaml", *used, *small)
        assert code == 0, err
        found = read_checkpoint(find_checkpoint("runs/first/diffusion/latest"))
        prefix, tolerance = "model.codec.autoencoder.", 0.0
    theirs = compvis.load_autoencoder(stage["params"], alone).state_dict()
    for name, value in theirs.items():
        assert (found["state_dict"][prefix + name] - value).abs().max() <= tolerance, name


@pytest.mark.parametrize("kind", ["text", "none"])
def test_diffusers_export_and_import_round_trip(
    kind: str, command: Command, tmp_path: Path
) -> None:
    save(kind, tmp_path)
    given = ["compvis=model.ckpt", "config=model.yaml", "out=in", *words_of(kind)]
    assert command("convert", *given)[0] == 0
    code, err = command("convert", "run=in", "to=diffusers", "out=taken")
    assert code == 0, err
    code, err = command("convert", "diffusers=taken", "out=back")
    assert code == 0, err
    before, back = (restore(load_config(f"{run}/config.yaml"), run) for run in ("in", "back"))
    same(back.model, before.model, kind)
    assert back.spec == before.spec
    assert load_config("back/config.yaml").sampler == load_config("in/config.yaml").sampler
    code, err = command("convert", "run=back", "to=safetensors", "out=bare")
    assert code == 0, err
    bare = load_file("bare/model.safetensors")
    assert all(torch.equal(bare[k], v) for k, v in before.model.state_dict().items())
    assert json.loads(Path("bare/config.json").read_text())["config"]["network"]["channels"] == 32
    code, err = command("convert", "run=back", "to=onnx", "out=more")
    assert code == 2 and "to must be diffusers or safetensors" in err


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return open, ("pwned", "w")


def _refused(command: Command, words: str, *arguments: str) -> None:
    code, err = command("convert", *arguments)
    assert code == 2 and err.count("\n") == 1 and words in err, err
    assert not Path("out").exists() and not Path("pwned").exists()
    assert not list(Path.cwd().glob(".*part"))


def test_convert_does_not_run_code_in_a_pickle(command: Command, tmp_path: Path) -> None:
    save("none", tmp_path, hook=_Evil())
    given = ["compvis=model.ckpt", "config=model.yaml", "out=out"]
    _refused(command, "holds code or unknown objects", *given)
    Path("model.ckpt").write_bytes(pickle.dumps({"state_dict": _Evil()}))
    _refused(command, "model.ckpt", *given)


def test_convert_ignores_lightning_classes_in_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    named = type("ModelCheckpoint", (), {"__module__": module.__name__})
    monkeypatch.setattr(module, "ModelCheckpoint", named, raising=False)
    with monkeypatch.context() as context:
        context.setitem(sys.modules, module.__name__, module)
        state = {"state_dict": {"w": torch.ones(2)}, "callbacks": {named: {}}}
        torch.save(state, tmp_path / "model.ckpt")
    assert torch.equal(read_tensors(tmp_path / "model.ckpt")["w"], torch.ones(2))


def test_convert_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    save("none", tmp_path)
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    code, err = command("convert", "compvis=model.ckpt", "config=model.yaml", "out=full")
    assert code == 2 and "out=full exists and is not overwritten" in err
    assert [path.name for path in Path("full").iterdir()] == ["mine"]
    given = ["compvis=model.ckpt", "config=model.yaml", "out=full/mine/below"]
    code, err = command("convert", *given)
    assert code == 2 and "out=full/mine/below cannot be written" in err


def test_convert_names_unknown_tensors_and_tables(command: Command, tmp_path: Path) -> None:
    config, state = save("class", tmp_path)
    given = ["compvis=model.ckpt", "config=model.yaml", "out=out"]
    torch.save({"state_dict": state | {"surplus": torch.zeros(1)}}, "model.ckpt")
    _refused(command, "1 unknown (surplus)", *given)
    torch.save({"weights": 3}, "model.ckpt")
    _refused(command, "neither a table state_dict of tensors nor bare tensors", *given)
    torch.save(state, "model.ckpt")
    Path("model.yaml").write_text("model: {target: os.system, params: {}}")
    _refused(command, "model.target=os.system", *given)
    Path("model.yaml").write_text("!!python/object/apply:os.system ['touch pwned']")
    _refused(command, "config=model.yaml cannot be read", *given)
    Path("model.yaml").write_text("- a list")
    _refused(command, "holds no table", *given)
    config["model"]["params"]["unet_config"]["params"]["model_channels"] = "wide"
    Path("model.yaml").write_text(yaml.safe_dump(config))
    _refused(command, "of the wrong kind", *given)
    _refused(command, "no checkpoint at", "compvis=nowhere.ckpt", "config=model.yaml", "out=out")
    _refused(command, "there is no nowhere", "run=nowhere", "out=out")
    _refused(command, "model_index.json cannot be read", "diffusers=nowhere", "out=out")
    _refused(command, "config= goes with compvis=", "run=nowhere", "config=m.yaml", "out=out")
    _refused(command, "needs config=", "compvis=model.ckpt", "out=out")
    _refused(command, "name one thing", "out=out")
    _refused(command, "out is mandatory", "compvis=model.ckpt")


def test_convert_of_a_text_model_needs_a_matching_vocabulary(
    command: Command, tmp_path: Path
) -> None:
    save("text", tmp_path)
    given = ["compvis=model.ckpt", "config=model.yaml", "out=out"]
    _refused(command, "give vocabulary=", *given)
    Path("vocab.txt").write_text("just\nwords\n")
    _refused(command, "lacks [PAD]", *given, "vocabulary=vocab.txt")
    Path("vocab.txt").write_text("\n".join(build_vocabulary(["a"])))
    _refused(command, "tokens and the model", *given, "vocabulary=vocab.txt")
