"""The command line in this process: exit codes, one-line errors, multiruns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.cli import hydra_main
from ldmlab.core.errors import UserError

Command = Callable[..., tuple[int, str, str]]


def _raise(error: BaseException) -> Callable[[DictConfig], None]:
    def act(cfg: DictConfig) -> None:
        raise error

    return act


def test_train_receives_its_configuration_and_leaves_no_environment(
    seen: SimpleNamespace, command: Command
) -> None:
    before = (list(sys.argv), os.environ.get("HYDRA_FULL_ERROR"))
    code, _, err = command("train", "seed=3", "schedule=linear")
    assert (code, err) == (0, "")
    assert (seen.cfg.seed, seen.cfg.schedule.first) == (3, 0.1)
    assert seen.argv == before[0] == sys.argv
    assert os.environ.get("HYDRA_FULL_ERROR") == before[1]
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "argument",
    ["stages.diffusion.lrr=1", "schedul=cosine", "schedule=cosin", "seed=1,2", "~sampler", "--foo"],
)
def test_hydra_mistake_is_one_line_and_exits_2(
    seen: SimpleNamespace, command: Command, argument: str
) -> None:
    code, out, err = command("train", argument)
    assert (code, out) == (2, "")
    assert err.startswith("ldmlab: error: ") and err.count("\n") == 1
    assert seen.cfg is None and list(Path.cwd().iterdir()) == []


def test_values_are_checked_before_the_command_is_imported(
    seen: SimpleNamespace, command: Command
) -> None:
    code, _, err = command("train", "stages.diffusion.lr=abc")
    assert code == 2 and "stages.diffusion.lr" in err and seen.cfg is None


def test_user_error_of_a_command_is_one_line_and_exits_2(
    seen: SimpleNamespace, command: Command
) -> None:
    seen.act = _raise(UserError("no folder x:\n name one"))
    assert command("train") == (2, "", "ldmlab: error: no folder x: name one\n")
    code, _, err = command("train", "traceback=true")
    assert code == 2 and "Traceback" in err and err.endswith("no folder x: name one\n")


def test_internal_failure_shows_its_traceback(seen: SimpleNamespace, command: Command) -> None:
    seen.act = _raise(ZeroDivisionError("oh"))
    code, _, err = command("train")
    assert code == 1 and "ZeroDivisionError: oh" in err
    assert err.splitlines()[-1].startswith("ldmlab: error: internal failure")


def test_interrupts_and_exit_codes_pass_through(seen: SimpleNamespace, command: Command) -> None:
    seen.act = _raise(KeyboardInterrupt())
    assert command("train")[0] == 130
    seen.act = _raise(SystemExit(143))
    assert command("train")[0] == 143
    seen.act = lambda cfg: 5
    assert command("train")[0] == 5


def test_unknown_verbs_are_refused(command: Command) -> None:
    assert command("trian") == (
        2,
        "",
        "ldmlab: error: there is no verb 'trian'; did you mean train?\n",
    )
    assert "verbs: train" in command("xyz")[2]


def test_cfg_job_shows_the_configuration(seen: SimpleNamespace, command: Command) -> None:
    code, out, _ = command("train", "--cfg", "job", "seed=9")
    assert code == 0 and OmegaConf.create(out).seed == 9 and seen.cfg is None


def test_run_can_be_sampled_and_repeated(seen: SimpleNamespace, command: Command) -> None:
    assert command("train", "schedule=linear")[0] == 0
    run = Path("runs/toy/diffusion/abc=1")
    run.mkdir(parents=True)
    OmegaConf.save(seen.cfg, run / "config.yaml")
    code, _, err = command("sample", f"run={run}", "prompt=it's red, and old", "sampler=euler")
    assert code == 0, err
    assert (seen.cfg.prompt, seen.cfg.run) == ("it's red, and old", str(run))
    assert seen.cfg.sampler.churn == 1.0 and seen.cfg.schedule.first == 0.1
    code, _, err = command("train", f"config={run}/config.yaml", "seed=4", "hydra.mode=RUN")
    assert code == 0, err
    assert (seen.cfg.seed, seen.cfg.schedule.first) == (4, 0.1)
    assert command("sample", f"run={run}", "sampler=eulr")[0] == 2
    assert command("train", "config=nowhere.yaml")[0] == 2


_JOB = """
import json, os, pathlib, sys
pathlib.Path("seen.txt").open("a").write(json.dumps(sys.argv[1:]) + "\\n")
assert "RANK" not in os.environ and "MASTER_PORT" not in os.environ
from ldmlab.core.jobs import report
report({"loss": 0.5, "bad": float("nan")})
sys.exit(3 if "seed=2" in sys.argv else 0)
"""


def test_multirun_uses_fresh_processes_and_survives_a_failure(
    seen: SimpleNamespace,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hydra_main, "program", lambda verb: [sys.executable, "-c", _JOB])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "1234")
    code, out, _ = command("train", "-m", "seed=1,2,3", "prompt=it's a, b", "schedule=linear")
    assert code == 1
    rows = [line.split(maxsplit=3) for line in out.splitlines()[-4:]]
    assert [row[:2] for row in rows[1:]] == [["0", "0"], ["1", "3"], ["2", "0"]]
    calls = [json.loads(line) for line in Path("seen.txt").read_text().splitlines()]
    assert calls[2] == ["seed=3", "prompt=it's a, b", "schedule=linear", "hydra.mode=RUN"]
    assert seen.cfg is None
    assert {path.name for path in Path.cwd().iterdir()} == {"seen.txt", "runs"}
    assert {path.name for path in Path("runs").iterdir()} == {".hydra"}


def test_multirun_of_an_unknown_option_starts_nothing(
    seen: SimpleNamespace, command: Command
) -> None:
    code, _, err = command("train", "-m", "schedule=linear,cosin")
    assert code == 2 and "did you mean cosine" in err
    code, _, err = command("train", "-m", "seed=1,2", "stages.diffusion.lrr=3")
    assert code == 2 and "did you mean stages.diffusion.lr" in err


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["sample", "-h"]])
def test_help_has_examples_and_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from ldmlab.apps.cli.main import main; main(sys.argv[1:])\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'lightning', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert "examples:" in done.stdout and "ldmlab " in done.stdout
