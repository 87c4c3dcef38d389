"""The published text model, narrowed, on shards: from the command line, with its own tokenizer."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ldmlab.apps.cli import main as cli
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.data.specimens.make import make

NARROW = (
    "experiment=laion", "data.image_size=16", "data.max_bad=5", "data.validation_share=0.2",
    "data.num_workers=0", "data.window=4", "trainer=cpu", "perceptual=none", "discriminator=none",
    "autoencoder.channels=8", "autoencoder.channel_mult=[1,2]", "bottleneck.latent_channels=2",
    "autoencoder.num_res_blocks=1", "codec.num_images=4",
    "network.channels=32", "network.channel_mult=[1,2]", "network.attention_factors=[1]",
    "network.num_heads=4", "conditioner.dim=8", "conditioner.depth=1", "conditioner.head_dim=4",
    "conditioner.num_heads=2", "sampler.steps=1", "callbacks.num_samples=2",
    "stages.autoencoder.max_steps=1", "stages.autoencoder.batch_size=2",
    "stages.autoencoder.val_every=1", "stages.diffusion.batch_size=4",
    "stages.diffusion.val_every=50", "trainer.log_every_n_steps=1", "callbacks.checkpoint_every=3",
)  # fmt: skip


def losses(run: Path) -> list[str]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_small_laion_experiment_trains_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, words, runs = tmp_path / "shards", tmp_path / "words", tmp_path / "runs"
    make("laion", root, None, 24, 32)
    whole = (root / "00001.tar").read_bytes()
    (root / "00001.tar").write_bytes(whole[: len(whole) // 2])
    cli.main(["data", "action=tokenizer", "data=laion", f"data.root={root}", f"out={words}",
              "data.max_bad=5", f"paths.runs={runs}"])  # fmt: skip
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"next: data.vocabulary={words} data.vocabulary_size=")
    size = said.rpartition("=")[2]

    def train(run_id: str, steps: int, *more: str) -> Path:
        cli.main(["train", *NARROW, f"data.root={root}", f"data.vocabulary={words}",
                  f"data.vocabulary_size={size}", f"paths.runs={runs}", f"run_id={run_id}",
                  f"stages.diffusion.max_steps={steps}", *more])  # fmt: skip
        return runs / "laion" / "diffusion" / run_id

    whole_run = train("whole", 6)
    train("parts", 3)
    parts = train("parts", 6)
    assert len(losses(whole_run)) == 6 and losses(parts) == losses(whole_run)
    checkpoint = read_checkpoint(whole_run / "checkpoints" / "last.ckpt")
    assert len(checkpoint["metadata"]["spec"]["vocabulary"]) == int(size)
    embedding = checkpoint["state_dict"]["model.network.conditioner.transformer.tokens.weight"]
    assert embedding.shape == (int(size), 8)
    assert str(root / "00001.tar") in (whole_run / "broken_files.txt").read_text()

    lines = (words / "vocab.txt").read_text().splitlines()
    lines[-1], lines[-2] = lines[-2], lines[-1]
    (words / "tokenizer.json").unlink()
    (words / "vocab.txt").write_text("\n".join(lines))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        train("parts", 8)
    said = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and "was trained on captions in other tokens" in said
    with pytest.raises(SystemExit) as stop:
        train("other", 1, "data.vocabulary_size=30522")
    assert f"set data.vocabulary_size={size}" in capsys.readouterr().err.splitlines()[-1]
