"""Searches: what they may try, what becomes of each trial, and what a second call does."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.cli import main as cli
from ldmlab.apps.cli.request import request_of
from ldmlab.apps.cli.verbs import VERBS
from ldmlab.apps.config.compose import compose, compose_request
from ldmlab.apps.config.conf_dir import options
from ldmlab.apps.sweep import search as sweep
from ldmlab.apps.sweep.space import corner, point, read_space
from ldmlab.apps.sweep.study import Study
from ldmlab.core.errors import UserError


def compose_search(arguments: list[str]) -> DictConfig:
    return compose_request(request_of(VERBS["sweep"], arguments), arguments)


# What stands in for `ldmlab train`: a run folder as one leaves it, in no time.
_TRIAL = r"""
import json, os, pathlib, signal, sys, time
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
runs = pathlib.Path(given["config"]).parents[2]
with (runs.parent / "calls.jsonl").open("a") as file:
    file.write(json.dumps(given) + "\n")
if given.get("stage") == "autoencoder":
    sys.exit(0)
run = runs / "diffusion" / given["run_id"]
run.mkdir(parents=True, exist_ok=True)
number = int(given["run_id"][-4:])
act = json.loads(os.environ["TRIALS"]).get(str(number), "")
if act == "fail":
    sys.exit("no memory left")
if act == "stop":  # the worker is told to stop; it tells its job
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
lr = float(given.get("stages.diffusion.lr", 1e-3))
rows = [(step, number + lr) for step in (5, 10)]
text = "step,val/loss\n" + "".join(f"{a},{b!r}\n" for a, b in rows)
(run / "metrics.csv").write_text(text if act != "nan" else "step,val/loss\n5,nan\n")
if act == "lag":
    time.sleep(60)
(run / "card.json").write_text(json.dumps({"metrics": {"caption_accuracy": {"value": -number}}}))
"""
_WIDE = "tag(log, interval(1e-4, 1e-2))"


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`ldmlab sweep` on trials that behave as asked; the exit code."""
    monkeypatch.setattr(sweep, "PROGRAM", (sys.executable, "-S", "-c", _TRIAL))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, trials: dict[int, str] | None = None) -> int:
        monkeypatch.setenv("TRIALS", json.dumps(trials or {}))
        try:
            cli.main(["sweep", f"paths.runs={tmp_path}", "codec=identity", *arguments])
        except SystemExit as leaving:
            return int(leaving.code or 0)
        return 0

    return run


def _calls(tmp_path: Path) -> list[dict[str, str]]:
    path = tmp_path / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_failed_trials_are_recorded_and_not_repeated(
    tmp_path: Path, search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {0: "fail", 2: "nan"}
    assert search("sweep=optuna_lr", "n_trials=4", trials=broken) == 1
    said = capsys.readouterr().out
    assert re.search(r"│ 1 +│ 1\.\d+ +│ 0\.0\d+ ", said), said
    assert said.index("│ 1 ") < said.index("│ 3 ")
    assert "2 complete, 2 failed" in said
    assert "trial 0 failed: exit code 1: no memory left" in said
    assert "trial 2 failed: no finite val/loss among caption_accuracy, val/loss" in said
    (folder,) = (tmp_path / "quickstart/sweep").iterdir()
    best = f"{tmp_path}/quickstart/diffusion/{folder.name}-0001/config.yaml"
    assert f"repeat the best: ldmlab train config={best} run_id=best" in said
    assert search("sweep=optuna_lr", "n_trials=4") == 0
    assert len(_calls(tmp_path)) == 4
    assert search(f"config={folder}/sweep.yaml", "n_trials=5") == 0
    calls = _calls(tmp_path)
    assert [call["run_id"][-4:] for call in calls] == ["0000", "0001", "0002", "0003", "0004"]
    rates = [float(call["stages.diffusion.lr"]) for call in calls]
    assert len(set(rates)) == 5 and all(1e-4 <= rate <= 1e-2 for rate in rates)


def test_lagging_trial_is_pruned(
    tmp_path: Path, search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    arguments = ["sweep=optuna_lr", "n_trials=4", "sweep.pruning.pruner.n_startup_trials=2"]
    assert search(*arguments, trials={3: "lag"}) == 0
    assert time.monotonic() - started < 30
    assert "3 complete, 1 ended early" in capsys.readouterr().out


def test_stopped_sweep_resumes_the_same_trial(tmp_path: Path, search: Callable[..., int]) -> None:
    assert search("sweep=optuna_lr", "n_trials=2", trials={0: "stop"}) == 143
    assert search("sweep=optuna_lr", "n_trials=2") == 0
    calls = _calls(tmp_path)
    assert calls[0] == calls[1] and calls[2]["run_id"].endswith("0001")


def test_shared_autoencoder_is_trained_once_for_all_trials(
    tmp_path: Path, search: Callable[..., int]
) -> None:
    both = ["codec=normalized", "sweep=optuna_guidance", "logger=wandb", "n_trials=3"]
    assert search(*both) == 0
    first, *trials = _calls(tmp_path)
    assert first["stage"] == "autoencoder" and "run_id" not in first
    assert [trial["stage"] for trial in trials] == ["diffusion"] * 3
    assert len({trial["codec.run"] for trial in trials}) == 1
    assert trials[0]["codec.run"].startswith(f"{tmp_path}/quickstart/autoencoder/")
    study = trials[0]["run_id"].partition("-")[0]
    assert trials[0]["logger.wandb.group"] == f"quickstart-sweep-{study}"


def test_ranges_on_the_command_line_become_the_search_space() -> None:
    cfg = compose_search([f"stages.diffusion.lr={_WIDE}", "schedule=cosine,linear", "seed=3"])
    assert cfg.seed == 3 and cfg.n_trials == 20
    assert list(cfg.sweep.space) == ["stages.diffusion.lr", "schedule"]
    with pytest.raises(UserError, match="nothing to search"):
        sweep.Search.open(compose_search(["seed=3", "sweep.metric=val/loss"]))
    with pytest.raises(UserError, match=r"sweep\.direction must be"):
        compose_search(["sweep=optuna_lr", "sweep.direction=up"])


def test_search_space_is_parsed() -> None:
    space = {
        "a": _WIDE, "b": "int(interval(1, 9))", "c": "range(2, 8, 2)", "d": "x,y",
        "e": "choice([1,2],[1,2,4])", "f": "range(0, 1, 0.25)",
    }  # fmt: skip
    found = read_space(space)
    assert (found["a"].low, found["a"].high, found["a"].log) == (1e-4, 1e-2, True)
    assert [type(d).__name__[:3] for d in found.values()] == "Flo Int Int Cat Cat Flo".split()
    assert (found["c"].low, found["c"].high, found["c"].step) == (2, 6, 2)
    assert found["e"].choices == ("[1,2]", "[1,2,4]") and found["f"].high == 0.75
    assert point({"e": ""}, {"e": "[1,2]"}) == ["e=[1,2]"]


@pytest.mark.parametrize("text", ["3", "glob(*)", "interval(1,", "interval(2,1)", "range(3,3)"])
def test_invalid_search_space_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="guidance"):
        read_space({"guidance.scale": text})


@pytest.mark.parametrize("name", [name for name in options()["sweep"] if name != "none"])
def test_every_sweep_leaf_fits_the_default_experiment(name: str) -> None:
    cfg = compose_search([f"sweep={name}"])
    tried = compose(corner(cfg.sweep.space), base=cfg)
    assert OmegaConf.to_container(tried, resolve=True) != OmegaConf.to_container(cfg, resolve=True)


def test_sweep_that_does_not_compose_starts_nothing(
    tmp_path: Path, search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    metric = "sweep.metric=val/loss"
    assert search(metric, "stages.diffusion.lrr=interval(0,1)") == 2
    assert "did you mean stages.diffusion.lr?" in capsys.readouterr().err
    assert search(metric, "schedule=linear,cosin") == 2
    assert "did you mean cosine" in capsys.readouterr().err
    assert search("schedule=linear,cosine") == 2
    assert "sweep.metric is mandatory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_optuna_says_what_to_install(
    search: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert search("sweep=optuna_lr") == 2
    said = capsys.readouterr().err
    assert "pip install" in said and said.count("\n") == 1


def test_sweep_workers_share_a_study_and_take_over_abandoned_trials(tmp_path: Path) -> None:
    node = {"_target_": "optuna.samplers.RandomSampler"}

    def worker() -> Study:
        return Study(tmp_path / "s", read_space({"x": "interval(0,1)"}), "maximize", node, None, 0)

    one, two = worker(), worker()
    with one.claim(2) as a, two.claim(2) as b, worker().claim(2) as c:
        assert a is not None and b is not None and c is None
        assert (a.trial.number, b.trial.number) == (0, 1)
        assert a.trial.params != b.trial.params
        two.finish(b, 0.5)
    with two.claim(2) as again:
        assert again is not None and again.trial.number == 0
        assert again.trial.params == a.trial.params
        two.fail(again, "why not")
    with one.claim(2) as none:
        assert none is None
    assert [trial.value for trial in one.best()] == [0.5]
