"""Numbers that are none, and means over uneven parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.faults.harness import PAIR, TINY, started, told_in_one_line
from tests.integration.test_convert import save
from torch.optim import Optimizer

from ldmlab.apps.cli import main as cli
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.history import read_history
from ldmlab.evaluation.digits import DigitsEvaluation
from ldmlab.evaluation.likelihood import BitsPerDim
from ldmlab.training.optimizers.muon import Muon
from ldmlab.training.step_module import StepModule


class _Module(StepModule):
    def __init__(self) -> None:
        super().__init__(0, 1)
        self.logged: dict[str, float] = {}

    def terms(self, batch, noise):
        raise NotImplementedError

    def log(self, name, value, **_):
        self.logged[name] = float(value)


def test_validation_mean_weighs_every_sample_alike() -> None:
    parts = {0: [(1.0, 2), (4.0, 1)], 1: [(10.0, 1)]}  # a mean and a count a batch
    modules = {rank: _Module() for rank in parts}
    for rank, module in modules.items():
        for value, count in parts[rank]:
            module.log_mean("val/loss", torch.tensor(value), count)
    total = sum(module._validated["val/loss"] for module in modules.values())
    strategy = SimpleNamespace(reduce=lambda part, reduce_op: total)
    for module in modules.values():
        module._trainer = SimpleNamespace(strategy=strategy)
        module.on_validation_epoch_end()
        assert module.logged["val/loss"] == (2 * 1 + 4 + 10) / 4
        assert not module._validated  # the next validation begins anew


@pytest.mark.slow
def test_validation_of_two_processes_with_uneven_counts_is_that_of_one(tmp_path: Path) -> None:
    uneven = ("data.validation_limit=3", "optimizer=adamw")
    figures = {}
    for name, options in (("one", ()), ("two", PAIR)):
        with started(tmp_path / name, *TINY, *uneven, *options) as run:
            assert run.end(240) == 0, run.said
            for stage, figure in (("autoencoder", "val/psnr"), ("diffusion", "val/loss")):
                rows = read_history(run.run(stage) / "metrics.csv").values()
                figures[name, stage] = [row[figure] for row in rows if figure in row]
    for stage in ("autoencoder", "diffusion"):
        assert figures["one", stage]
        assert figures["two", stage] == pytest.approx(figures["one", stage], rel=1e-3)


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, spoilt = Muon.step, []

    def spoil(self: Optimizer, *arguments: object, **named: object) -> object:
        done = step(self, *arguments, **named)
        if len(spoilt) < 3:
            spoilt.append(1)
        else:  # as an overflow would, gradients being finite
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("inf"))
        return done

    monkeypatch.setattr(Muon, "step", spoil)
    arguments = [*TINY, "stage=autoencoder", "callbacks.checkpoint_every=1"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", f"paths.runs={tmp_path}", *arguments])
    assert len(spoilt) == 3
    assert stopped.value.code == 2
    told_in_one_line(capsys.readouterr().err, "after step 4", "not finite", "lr")
    (last,) = (tmp_path / "tiny/autoencoder/latest/checkpoints").glob("*")
    state = read_checkpoint(last)["state_dict"]
    assert int(state["steps"]) == 3
    assert all(bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point())


@pytest.fixture
def run(stored_run: Path, tmp_path: Path) -> Path:
    """A copy of the stored run."""
    copy = tmp_path / "stored/diffusion/stored"
    shutil.copytree(stored_run, copy)
    return copy


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_loaded(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for value in checkpoint["state_dict"].values():
        if value.is_floating_point():
            value.fill_(float("nan"))
    torch.save(checkpoint, last)
    out = tmp_path / "out"
    for verb in (["sample", f"run={run}", f"out={out}"], ["convert", f"run={run}", f"out={out}"]):
        told_in_one_line(_refused(capsys, *verb), "last.ckpt", "not finite")
        assert not out.exists()


def test_image_that_is_not_finite_ends_sampling(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    huge = ["guidance=classifier_free", "guidance.scale=1e38", "num_samples=2"]
    said = _refused(capsys, "sample", f"run={run}", f"out={out}", *huge)
    told_in_one_line(said, "image 0", "not finite", "guidance.scale")
    assert not out.exists()


def test_evaluation_of_nothing_leaves_the_card_as_it_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = run / "card.json"
    card.write_text(json.dumps({"metrics": {"a": {"value": 1.0}}}))
    before = card.read_bytes()
    said = _refused(capsys, "evaluate", f"run={run}", "evaluation=none")
    told_in_one_line(said, "evaluation=none", "metrics=[bits_per_dim]", "evaluation=<name>")
    assert card.read_bytes() == before


def test_discriminator_too_large_for_its_images_is_refused_before_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [o for o in TINY if o != "discriminator=none"]
    said = _refused(capsys, "train", f"paths.runs={tmp_path}", *small)
    told_in_one_line(said, "data.image_size=8", "num_layers", "discriminator=none")
    assert not list(tmp_path.iterdir())


def test_published_weights_that_are_not_finite_are_not_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, state = save("none", tmp_path)
    for value in state.values():
        if value.is_floating_point():
            value.fill_(float("nan"))
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    model = [f"compvis={tmp_path}/model.ckpt", f"config={tmp_path}/model.yaml"]
    said = _refused(capsys, "convert", *model, f"out={tmp_path}/out")
    told_in_one_line(said, "model.ckpt", "not finite")
    assert not (tmp_path / "out").exists()


def test_card_warns_of_metrics_of_few_images_and_refuses_one(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card, evaluate = run / "card.json", ["evaluate", f"run={run}", "evaluation=digits"]
    for count in (0, 1):
        said = _refused(capsys, *evaluate, f"evaluation.num_samples={count}")
        told_in_one_line(said, f"num_samples must be a whole number above 1; got {count}")
    huge = ["guidance=classifier_free", "guidance.scale=1e38", "evaluation.num_samples=2"]
    told_in_one_line(_refused(capsys, *evaluate, *huge), "image 0", "not finite")
    few = {"distance": {"value": 1.0, "warning": "of few images"}}
    monkeypatch.setattr(DigitsEvaluation, "__call__", lambda *_: few)
    cli.main(evaluate)
    assert "warning: distance: of few images" in capsys.readouterr().err
    assert json.loads(card.read_text())["metrics"]["distance"] == few["distance"]


def test_metric_that_is_no_number_leaves_the_card_as_it_is(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = run / "card.json"
    card.write_text(json.dumps({"metrics": {"a": {"value": 1.0}}}))
    before = card.read_bytes()
    found = {"bits_per_dim": {"value": float("nan")}}
    monkeypatch.setattr(BitsPerDim, "__call__", lambda *_: found)
    said = _refused(capsys, "evaluate", f"run={run}", "metrics=[bits_per_dim]")
    told_in_one_line(said, "bits_per_dim is nan", "metrics=")
    assert card.read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("num_samples=0", "num_samples must be"),
        ("labels=10", "class 10 is not one"),
        ("labels=-1", "class -1 is not one"),
    ],
)
def test_samples_that_cannot_be_asked_for_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str, words: str
) -> None:
    out = tmp_path / "out"
    told_in_one_line(_refused(capsys, "sample", f"run={run}", f"out={out}", asked), words)
    assert not out.exists()
