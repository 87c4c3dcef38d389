"""Jobs of SLURM: what is asked of sbatch, and what the job then runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from ldmlab.apps.cli import main as cli
from ldmlab.apps.cli import slurm as launch
from ldmlab.apps.cli.request import request_of
from ldmlab.apps.cli.verbs import VERBS
from ldmlab.apps.config.compose import compose, compose_request
from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.apps.config.run_base import load_config
from ldmlab.apps.config.run_id import stage_identity
from ldmlab.core.errors import UserError


def compose_search(arguments: list[str]) -> DictConfig:
    return compose_request(request_of(VERBS["sweep"], arguments), arguments)


_SBATCH = """\
#!{python} -S
import json, pathlib, sys
with pathlib.Path(r"{calls}").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if "--partition=full" in sys.argv:
    sys.exit("sbatch: error: invalid partition specified: full")
print("4711;cluster")
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that notes what it is asked for."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    found = tmp_path / "calls.jsonl"
    program.write_text(_SBATCH.format(python=sys.executable, calls=found))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return found


def _asked(calls: Path) -> list[list[str]]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_slurm_job_has_a_task_for_each_device() -> None:
    cfg = compose(
        ["launcher=slurm", "trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2",
         "launcher.slurm.partition=big", "launcher.slurm.memory=64G",
         "+launcher.slurm.options.constraint=a100", "launcher.slurm.time=1:30:00"]
    )  # fmt: skip
    job = launch.prepare(VERBS["train"], cfg)
    assert {
        "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8",
        "--partition=big", "--mem=64G", "--time=1:30:00", "--constraint=a100",
        "--dependency=singleton", f"--output={job.folder}/%j.log",
    } <= set(job.command)  # fmt: skip
    assert not [option for option in job.command if option.startswith("--account")]
    assert job.command[-3:] == (
        str(conf_dir() / "launcher/train.sbatch"), "train", f"config={job.config}"
    )  # fmt: skip
    cpu = launch.prepare(VERBS["train"], compose(["launcher=slurm"]))
    assert not [option for option in cpu.command if option.startswith("--gpus")]


def test_slurm_job_trains_the_requested_run(tmp_path: Path, calls: Path) -> None:
    asked = [f"paths.runs={tmp_path}/runs", "seed=3", "schedule=linear", "data.limit=32"]
    cli.main(["train", *asked, "launcher=slurm"])
    (call,) = _asked(calls)
    given = [argument for argument in call if argument.startswith("config=")]
    cfg = compose(given, base=load_config(given[0].removeprefix("config=")))
    assert cfg.launcher.slurm is None
    keys = ("seed", "data", "schedule", "stages.diffusion")
    assert stage_identity(cfg, keys) == stage_identity(compose(asked), keys)


def test_slurm_multirun_submits_a_job_for_each_value(
    tmp_path: Path, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["train", "-m", "seed=1,2", f"paths.runs={tmp_path}/runs", "launcher=slurm"])
    jobs = _asked(calls)
    names = [next(o for o in job if o.startswith("--job-name=")) for job in jobs]
    seeds = [load_config(job[-1].removeprefix("config=")).seed for job in jobs]
    assert seeds == [1, 2] and len(set(names)) == 2
    assert capsys.readouterr().out.count("submitted job 4711: ") == 2
    # Longer or elsewhere, it is the same run, and must wait for the job that has it.
    cli.main(
        ["train", "seed=1", f"paths.runs={tmp_path}/runs", "launcher=slurm",
         "stages.diffusion.max_steps=9", "trainer.devices=2"]
    )  # fmt: skip
    assert names[0] in _asked(calls)[2]


def test_slurm_sweep_workers_are_a_job_array() -> None:
    cfg = compose_search(
        ["sweep=optuna_lr", "workers=3", "launcher=slurm", "trainer=ddp", "trainer.devices=2"]
    )
    job = launch.prepare(VERBS["sweep"], cfg)
    assert {"--array=1-3", "--ntasks-per-node=1", "--cpus-per-task=16"} <= set(job.command)
    assert "--dependency=singleton" not in job.command
    with pytest.raises(UserError, match="num_nodes"):
        launch.prepare(
            VERBS["sweep"], compose_search(["sweep=optuna_lr", "launcher=slurm", "trainer=ddp",
                                            "trainer.num_nodes=2"])
        )  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("launcher.slurm.partition=full", "sbatch refuses the job: sbatch: error: invalid"),
        ("launcher.slurm.script=nowhere.sh", "launcher.slurm.script=nowhere.sh is no file"),
        ("trainer.devices=auto", "trainer.devices"),
        ("stages.diffusion.lr=-1", "stages.diffusion.lr must be"),
    ],
)
@pytest.mark.parametrize("several", [[], ["-m", "seed=1,2"]])
def test_slurm_mistake_is_reported_in_one_line(
    tmp_path: Path,
    calls: Path,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    words: str,
    several: list[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", *several, f"paths.runs={tmp_path}/runs", "launcher=slurm", argument])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_missing_slurm_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", f"paths.runs={tmp_path}/runs", "launcher=slurm"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "needs sbatch" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_slurm_template_signals_before_the_limit_and_requeues(tmp_path: Path) -> None:
    template = conf_dir() / "launcher" / "train.sbatch"
    options = [line.split()[1] for line in template.read_text().splitlines() if "#SBATCH" in line]
    assert {"--signal=USR1@120", "--requeue", "--open-mode=append"} <= set(options)
    # What stands for SLURM: a task that a signal ended, and one that failed.
    for name, code in (("srun", "exit ${CODE}"), ("scontrol", 'echo "$@" >> asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for code, asked in (("1", False), ("143", False), ("138", True)):
        done = subprocess.run(
            ["bash", str(template), "train"],
            env={"PATH": path, "CODE": code, "SLURM_JOB_ID": "7"},
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == int(code)
        assert (tmp_path / "asked").exists() is asked
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
