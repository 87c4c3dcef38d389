"""`ldmlab encode`, and stage two trained from what it wrote."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.integration.test_training import TINY

from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.run_id import stage_identity
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.stages.codec import AUTOENCODER_KEYS
from ldmlab.apps.stages.session import Session
from ldmlab.apps.stages.two_stage import train_autoencoder, train_diffusion
from ldmlab.conditioning.hf_text import HFText
from ldmlab.conditioning.vocabulary_files import write_vocabulary
from ldmlab.conditioning.vocabulary_making import train_vocabulary
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.records import TextStates
from ldmlab.data.latents.dataset import LatentCache
from ldmlab.data.specimens.make import make

SMALL = (*TINY, "trainer.log_every_n_steps=1", "conditioner=class", "conditioner.dim=24")
ONE_STEP = ("stages.autoencoder.max_steps=1", "callbacks.sample_every=1000")


def opened(runs: Path, *overrides: str) -> Session:
    return Session.open(compose([f"paths.runs={runs}", *SMALL, *ONE_STEP, *overrides]))


def encode(runs: Path, *overrides: str) -> None:
    cli.main(["encode", f"paths.runs={runs}", *SMALL, *ONE_STEP, "shard_size=8", *overrides])


def losses(folder: RunFolder, name: str = "train/loss") -> list[float]:
    with (folder.path / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage one of vistas, and its latents in `latents`."""
    folder = tmp_path_factory.mktemp("runs")
    train_autoencoder(opened(folder))
    encode(folder, f"out={folder / 'latents'}")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("ldmlab: error: ")
    return said.splitlines()[-1]


@pytest.mark.parametrize(
    "conditioner",
    [
        ("conditioner=text", "conditioner.dim=24", "conditioner.head_dim=12"),
        ("conditioner=class", "conditioner.dim=24"),
        ("conditioner=mask",),
    ],
    ids=("text", "class", "mask"),
)
def test_cached_latents_give_the_same_losses(runs: Path, conditioner: tuple[str, ...]) -> None:
    base = [o for o in (*SMALL, *ONE_STEP) if not o.startswith("conditioner")]
    base.append(f"codec.run={runs / 'quickstart/autoencoder/latest'}")
    kind = conditioner[0].partition("=")[2]

    def train(*overrides: str) -> RunFolder:
        arguments = [f"paths.runs={runs}", *base, *conditioner, *overrides]
        return train_diffusion(Session.open(compose(arguments)))

    exact = train(f"run_id={kind}-exact")
    cached = train(f"run_id={kind}-cached", f"data.latents={runs / 'latents'}")
    assert len(losses(exact)) == 4
    assert losses(cached) == pytest.approx(losses(exact), rel=5e-4)
    assert losses(cached, "val/loss") == pytest.approx(losses(exact, "val/loss"), rel=5e-4)
    # It is the cache that was read: the images would give these very bits.
    assert losses(cached) != losses(exact)


def test_frozen_text_encoder_states_are_cached(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")
    captions = opened(runs).train.captions(list(range(64)))
    words = train_vocabulary(captions, 200)
    write_vocabulary(tmp_path / "bert", words)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    config = transformers.BertConfig(vocab_size=len(words), intermediate_size=16, **sizes)
    for name in ("bert", "other"):
        transformers.BertModel(config).save_pretrained(tmp_path / name)
        transformers.BertTokenizerFast.from_pretrained(tmp_path / "bert").save_pretrained(
            tmp_path / name
        )
    base = [o for o in (*SMALL, *ONE_STEP) if not o.startswith("conditioner")]
    base += [f"paths.runs={tmp_path}", "conditioner=hf_text", "conditioner.max_length=24",
             "conditioner.pooled=true", f"conditioner.encoder={tmp_path / 'bert'}",
             f"codec.run={runs / 'quickstart/autoencoder/latest'}"]  # fmt: skip
    latents = tmp_path / "latents"
    cli.main(["encode", *base, f"out={latents}"])
    assert "text " in capsys.readouterr().err  # its rounding error
    cached = LatentCache(latents / "train")[3]
    assert cached.text is not None and cached.text.states.dtype == torch.float16

    def train(*overrides: str) -> RunFolder:
        return train_diffusion(Session.open(compose([*base, *overrides])))

    exact = train("run_id=exact")
    asked: list[int] = []
    encode = HFText._encode

    def counted(self: HFText, captions: Sequence[str]) -> TextStates:
        asked.append(len(captions))
        return encode(self, captions)

    monkeypatch.setattr(HFText, "_encode", counted)
    from_cache = train("run_id=cached", f"data.latents={latents}")
    assert losses(from_cache) == pytest.approx(losses(exact), rel=5e-4)
    # The empty caption, and the four validation captions of the one picture: once each.
    assert asked == [1, 4]
    cli.main(["sample", f"run={from_cache.path}", "prompt=a house", "negative_prompt=snow",
              "num_samples=1", f"out={tmp_path / 'drawn'}"])  # fmt: skip
    assert (tmp_path / "drawn" / "00000.png").is_file()
    line = ["train", *base, "stage=diffusion", f"data.latents={latents}"]
    said = refused(capsys, *line, f"conditioner.encoder={tmp_path / 'other'}")
    assert "latents of conditioner.encoder=" in said and "ldmlab encode" in said
    said = refused(capsys, *line, "conditioner.max_length=23")
    assert "conditioner.max_length=24, not 23" in said
    # Latents without texts, and texts that another conditioner does not read.
    train("run_id=bare", f"data.latents={runs / 'latents'}")
    assert 8 in asked
    tokens = [o for o in base if not o.startswith("conditioner")] + ["conditioner=class"]
    train_diffusion(Session.open(compose([*tokens, f"data.latents={latents}"])))


def test_latent_cache_keeps_the_identity_of_stage_one(runs: Path) -> None:
    whole, cached = (opened(runs, *more) for more in ((), (f"data.latents={runs / 'latents'}",)))
    one, other = (stage_identity(each.cfg, AUTOENCODER_KEYS) for each in (whole, cached))
    assert one == other
    cache = LatentCache(runs / "latents" / "train")
    assert len(cache) == 64 and cache.manifest.num_shards == 8
    assert 0 < cache.manifest.error["mean"]["relative"] < 5e-4


def test_encode_uses_the_normalisation_of_a_diffusion_run(runs: Path, tmp_path: Path) -> None:
    stage_one = f"codec.run={runs / 'quickstart/autoencoder/latest'}"
    first = train_diffusion(opened(tmp_path, stage_one, "data.limit=32", "name=first"))
    own = f"codec.run={first.path}"
    encode(tmp_path, own, f"out={tmp_path / 'latents'}")
    second = train_diffusion(opened(tmp_path, own, f"data.latents={tmp_path / 'latents'}"))
    # Trained on rounded latents is not trained on images: two runs, wherever the latents lie.
    (tmp_path / "latents").rename(tmp_path / "moved")
    session = opened(tmp_path, own, f"data.latents={tmp_path / 'moved'}")
    assert train_diffusion(session).path == second.path
    assert train_diffusion(opened(tmp_path, own)).path != second.path
    metadata = [read_checkpoint(r.checkpoints / "last.ckpt")["metadata"] for r in (first, second)]
    cache = LatentCache(tmp_path / "moved" / "train")
    assert metadata[0]["codec"] == metadata[1]["codec"] == cache.manifest.codec


def test_killed_encode_resumes(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    arguments = [f"paths.runs={runs}", *SMALL, *ONE_STEP, "shard_size=8", "batch_size=1"]
    command = [sys.executable, "-m", "ldmlab", "encode", *arguments, f"out={out}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while len(list(out.glob("train/*.safetensors"))) < 2:
            assert process.poll() is None and time.monotonic() < until, process.communicate()[1]
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert 2 <= len(there) < 10
    encode(runs, f"out={out}", "batch_size=1")
    assert all(path.stat().st_mtime_ns == written for path, written in there.items())
    assert len(LatentCache(out / "train")) == 64 and len(LatentCache(out / "validation")) == 16


def test_encode_is_shared_by_two_processes(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latents"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    encode(runs, f"out={out}")
    assert "train: 4 files are other processes' to write" in capsys.readouterr().err
    assert [p.name[:5] for p in sorted((out / "train").glob("*.safetensors"))] == [
        "00000", "00002", "00004", "00006"
    ]  # fmt: skip
    monkeypatch.setenv("RANK", "1")
    encode(runs, f"out={out}")
    assert files(out) == files(runs / "latents")


def test_latents_of_another_codec_or_data_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", f"paths.runs={tmp_path}", *SMALL, *ONE_STEP, "stage=diffusion"]
    train += [f"codec.run={runs / 'quickstart/autoencoder/latest'}"]
    train += [f"data.latents={runs / 'latents'}"]
    said = refused(capsys, *train, "data.train.num_samples=63")
    assert "data.train.num_samples=64, not 63" in said and "ldmlab encode" in said
    assert "data.limit=None, not 32" in refused(capsys, *train, "data.limit=32")
    assert "codec.num_images=2048, not 9" in refused(capsys, *train, "codec.num_images=9")
    other = train_autoencoder(opened(tmp_path, "seed=1"))
    train[-2] = f"codec.run={other.path}"
    assert "latents of the codec" in refused(capsys, *train)
    images = [*train[:-2], "conditioner=low_resolution", f"codec.run={runs}/quickstart/autoencoder"]
    images = [o for o in images if o != "conditioner.dim=24"] + [f"data.latents={runs / 'latents'}"]
    said = refused(capsys, *images)
    assert "conditioned on its images" in said and "leave data.latents out" in said
    assert "set data.in_memory=false" in refused(capsys, *images[:-1])
    train[-1] = f"data.latents={tmp_path / 'nowhere'}"
    assert "holds no latents" in refused(capsys, *train)
    encode_other = ["encode", f"paths.runs={tmp_path}", *SMALL, *ONE_STEP, train[-2]]
    said = refused(capsys, *encode_other, f"out={runs / 'latents'}", "shard_size=8")
    assert "name another folder with out=<folder>" in said
    assert "shard_size" in refused(capsys, *encode_other, "shard_size=0")
    assert "stage one" in refused(capsys, *encode_other[:-1], f"paths.runs={tmp_path / 'none'}")
    assert not list(tmp_path.rglob("diffusion/*/checkpoints/*.ckpt"))


def test_cached_latents_are_flipped_as_without_a_cache(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make("image_folder", root, "plain", 8, 32)
    (root / "a" / "0002.jpg").write_bytes(b"<html>")
    folder = ("data=image_folder", f"data.root={root}", "data.image_size=16", "data.num_workers=0")
    own = [o for o in (*SMALL, *ONE_STEP) if not o.startswith(("data.", "conditioner"))]

    def session(*overrides: str) -> Session:
        arguments = [f"paths.runs={tmp_path}", *own, *folder, "conditioner=none"]
        return Session.open(compose([*arguments, *overrides]))

    train_autoencoder(session())
    cli.main(["encode", f"paths.runs={tmp_path}", *own, *folder, "conditioner=none",
              "data.num_workers=1", "batch_size=3"])  # fmt: skip
    (latents,) = (tmp_path / "quickstart" / "latents").iterdir()
    assert "a/0002.jpg" in (latents / "train" / "broken_files.txt").read_text()
    assert len(LatentCache(latents / "train").manifest.variants) == 2
    codec = f"codec.run={tmp_path / 'quickstart/autoencoder/latest'}"
    exact = train_diffusion(session("run_id=exact", codec))
    moved = tmp_path / "moved"
    root.rename(moved)
    cached = train_diffusion(
        session("run_id=cached", codec, f"data.latents={latents}", f"data.root={moved}")
    )
    assert losses(cached) == pytest.approx(losses(exact), rel=5e-4)
