"""Runs that are repeated, cut at an epoch's end, or resumed from no checkpoint of theirs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults.harness import TINY, told_in_one_line
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from ldmlab.apps.cli import main as cli
from ldmlab.apps.stages.session import Session
from ldmlab.core.checkpoint_file import read_checkpoint, write_checkpoint
from ldmlab.core.history import read_history
from ldmlab.core.records import Batch
from ldmlab.training.step_module import StepModule

STEPS, EPOCH, CUT = 20, 4, 12  # the cut is at the end of the third epoch of 32 images
STAGES = ("autoencoder", "diffusion")
# Both stages, the discriminator playing from the first step.
GAME = (
    *(option for option in TINY if option != "discriminator=none" and "max_steps" not in option),
    "discriminator.start=0", "discriminator.discriminator.num_layers=1", "optimizer=adamw",
    "stages.autoencoder.max_steps=20", "stages.diffusion.max_steps=20", "evaluation=none",
    f"callbacks.keep_every={CUT}", "callbacks.sample_every=20",
)  # fmt: skip


@dataclass
class Seen:
    """What a training did.

    Attributes:
        batches: Places of the images of each batch, by stage.
        updates: Steps of each optimiser.
    """

    batches: dict[str, list[list[int]]] = field(default_factory=lambda: {s: [] for s in STAGES})
    updates: Counter[int] = field(default_factory=Counter)
    optimizers: list[Optimizer] = field(default_factory=list)  # kept, so that no id comes twice


def train(runs: Path, *overrides: str) -> Seen:
    """`ldmlab train`, watched from below the product."""
    seen, step = Seen(), StepModule.training_step

    def noted(self: StepModule, batch: Batch, batch_idx: int) -> Any:
        stage = "autoencoder" if len(self.trained) == 2 else "diffusion"
        seen.batches[stage].append(batch.index.tolist())
        return step(self, batch, batch_idx)

    def counted(optimizer: Optimizer, *_: Any) -> None:
        seen.updates[id(optimizer)] += 1
        seen.optimizers.append(optimizer)

    hook = register_optimizer_step_post_hook(counted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepModule, "training_step", noted)
        cli.main(["train", f"paths.runs={runs}", *overrides])
    hook.remove()
    return seen


def folder(runs: Path, stage: str) -> Path:
    """The run of a stage."""
    return runs / "tiny" / stage / "latest"


def assert_same_end(one: Path, two: Path, stage: str) -> None:
    """Losses, weights, averages, optimisers, schedules and counters, bit for bit."""
    histories = [read_history(folder(runs, stage) / "metrics.csv") for runs in (one, two)]
    losses = [[row["train/loss"] for row in h.values() if "train/loss" in row] for h in histories]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
    ends = [read_checkpoint(folder(runs, stage) / "checkpoints/last.ckpt") for runs in (one, two)]
    for part in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        for a, b in zip(*(_leaves(end[part]) for end in ends), strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, part


def _leaves(tree: Any) -> Iterator[Any]:
    """The values of a nest of tables and lists, with their keys."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield key
            yield from _leaves(value)
    else:
        yield tree


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A run of both stages, from its beginning to its end."""
    runs = tmp_path_factory.mktemp("whole")
    return runs, train(runs, *GAME)


def test_steps_are_batches_and_updates_of_both_players(whole: tuple[Path, Seen]) -> None:
    runs, seen = whole
    # Autoencoder, discriminator, diffusion network: Lightning's own counter adds some of them up.
    assert sorted(seen.updates.values()) == [STEPS] * 3
    for stage, players in (("autoencoder", 2), ("diffusion", 1)):
        assert [len(batch) for batch in seen.batches[stage]] == [8] * STEPS
        end = read_checkpoint(folder(runs, stage) / "checkpoints/last.ckpt")
        assert int(end["state_dict"]["steps"]) == STEPS
        states = [state["state"].values() for state in end["optimizer_states"]]
        assert len(states) == players
        assert {int(s["step"]) for state in states for s in state} == {STEPS}


def test_run_cut_at_an_epochs_end_resumes_to_the_same_bits(
    whole: tuple[Path, Seen], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, seen = whole
    shutil.copytree(runs, tmp_path, symlinks=True, dirs_exist_ok=True)
    for stage in STAGES:
        (folder(tmp_path, stage) / "checkpoints/last.ckpt").unlink()
    resumed = train(tmp_path, *GAME)
    said = capsys.readouterr().err
    for stage in STAGES:
        assert f"{stage}: continuing" in said and f"from step {CUT}" in said
        assert resumed.batches[stage] == seen.batches[stage][CUT:]
        # Whole epochs, each in an order of its own.
        flat = [place for batch in seen.batches[stage] for place in batch]
        epochs = [flat[k : k + 8 * EPOCH] for k in range(0, len(flat), 8 * EPOCH)]
        assert all(sorted(epoch) == list(range(8 * EPOCH)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
        assert_same_end(runs, tmp_path, stage)


def test_stored_configuration_repeats_the_run_bit_for_bit(
    whole: tuple[Path, Seen], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, seen = whole
    again = train(tmp_path, f"config={folder(runs, 'diffusion')}/config.yaml")
    said = capsys.readouterr().err
    assert again.batches == seen.batches
    for stage in STAGES:
        assert f"{stage}: beginning" in said  # nothing to continue, and it says so
        assert_same_end(runs, tmp_path, stage)
    assert "continuing" not in said and said.count("holds no checkpoint yet") == 2


def _refused(capsys: pytest.CaptureFixture[str], runs: Path, *overrides: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", f"paths.runs={runs}", *GAME, *overrides])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_missing_checkpoint_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for resume in (tmp_path / "nowhere.ckpt", tmp_path):
        said = _refused(capsys, tmp_path / "runs", f"resume={resume}")
        told_in_one_line(said, f"resume={resume} is no checkpoint", "leave resume out")
        assert not list(tmp_path.iterdir())


def test_checkpoint_of_another_architecture_is_refused_with_its_differences(
    whole: tuple[Path, Seen], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(whole[0], "autoencoder") / "checkpoints/step-000012.ckpt"
    only = ("stage=autoencoder", f"resume={path}")
    said = _refused(capsys, tmp_path, *only, "autoencoder.channels=16")
    told_in_one_line(said, path.name, "autoencoder.channels=8, not 16", "run_id=<name>")
    # One whose metadata agree all the same, as after a change of the code.
    checkpoint = read_checkpoint(path)
    state = checkpoint["state_dict"]
    lost = "autoencoder.decoder.conv_out.bias"
    state["autoencoder.decoder.conv_older.bias"] = state.pop(lost)
    wide = next(name for name, value in state.items() if value.ndim == 4)
    shape = tuple(state[wide].shape)
    state[wide] = torch.zeros(shape[0] + 1, *shape[1:])
    write_checkpoint(checkpoint, tmp_path / "changed.ckpt")
    said = _refused(capsys, tmp_path, "stage=autoencoder", f"resume={tmp_path}/changed.ckpt")
    told_in_one_line(said, "changed.ckpt", lost, "conv_older", wide, f"{list(shape)}")
    assert not list(tmp_path.rglob("last.ckpt"))


# Values of another type or out of range, wherever they are read.
WRONG = (
    "stages.diffusion.lr=abc", "stages.diffusion.lr=-1", "stages.autoencoder.lr=inf",
    "stages.diffusion.batch_size=0", "stages.autoencoder.max_steps=1.5", "schedule.num_steps=0",
    "sampler.steps=0", "network.channels=33", "discriminator.weight=-1", "bottleneck.weight=nan",
    "seed=one", "data.num_workers=-1", "trainer.devices=0",
)  # fmt: skip


@pytest.mark.parametrize("override", WRONG)
def test_wrong_value_is_refused_before_data_or_model_are_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
) -> None:
    built: list[str] = []
    monkeypatch.setattr(Session, "open", lambda *_: built.append("data"))
    normal = torch.Tensor.normal_

    def real(self: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        if self.device.type != "meta":
            built.append("weights")
        return normal(self, *given, **named)

    monkeypatch.setattr(torch.Tensor, "normal_", real)
    said = _refused(capsys, tmp_path / "runs", override)
    key, _, value = override.partition("=")
    told_in_one_line(said, key.rpartition(".")[2], value)
    assert built == [] and not list(tmp_path.iterdir())
