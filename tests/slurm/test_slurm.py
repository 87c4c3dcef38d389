"""A real SLURM on this machine, where it is installed: `launcher=slurm` to the end of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.test_wandb import TINY

from ldmlab.apps.cli import main as cli
from ldmlab.core.checkpoint_file import read_checkpoint

CLUSTER = Path(__file__).with_name("cluster.sh")
NEEDS = ("slurmctld", "slurmd", "sbatch", "munged")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 or any(shutil.which(name) is None for name in NEEDS),
        reason="needs root and slurmctld, slurmd, slurm-client and munge",
    ),
]
OWN = [argument for argument in TINY if argument != "logger=wandb"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One node of two CPUs."""
    folder = tmp_path_factory.mktemp("slurm")
    before = os.environ.get("SLURM_CONF")
    subprocess.run([CLUSTER, "start", folder], check=True, timeout=60)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        subprocess.run([CLUSTER, "stop", folder], check=True, timeout=60)
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def _field(job: str, name: str) -> str:
    shown = subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=True
    ).stdout
    return next(word.partition("=")[2] for word in shown.split() if word.startswith(f"{name}="))


def _wait_for(done: Callable[[], bool], log: Path, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, log.read_text() if log.is_file() else "no log"
        time.sleep(0.3)


def test_slurm_job_of_two_ranks_saves_requeues_and_resumes(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(
        ["train", f"paths.runs={tmp_path}", *OWN, "codec=identity", "launcher=slurm",
         "launcher.slurm.cpus_per_task=1", "trainer=ddp", "trainer.accelerator=cpu",
         "stages.diffusion.max_steps=100000", "stages.diffusion.val_every=100000",
         "callbacks.sample_every=100000", "callbacks.checkpoint_every=5"]
    )  # fmt: skip
    line = capsys.readouterr().out.split()
    job, log = line[2].rstrip(":"), Path(line[3])
    last = tmp_path / "tiny/diffusion/latest/checkpoints/last.ckpt"
    _wait_for(last.is_file, log)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)  # as the end of its time does
    _wait_for(lambda: _field(job, "Restarts") == "1", log)
    reached = int(read_checkpoint(last)["state_dict"]["steps"])
    assert f"stopped by a signal after step {reached}," in log.read_text()
    _wait_for(lambda: f"from step {reached}" in log.read_text(), log)
    _wait_for(lambda: int(read_checkpoint(last)["state_dict"]["steps"]) > reached, log)
    assert len(list(last.parents[2].glob("*/config.yaml"))) == 2  # the run and `latest`
    subprocess.run(["scancel", job], check=True)


def test_slurm_multirun_finishes_its_runs(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(
        ["train", "-m", "seed=1,2", f"paths.runs={tmp_path}", *OWN, "codec=identity",
         "launcher=slurm", "launcher.slurm.cpus_per_task=1", "launcher.slurm.time=10"]
    )  # fmt: skip
    for line in capsys.readouterr().out.splitlines():
        job, log = line.split()[2].rstrip(":"), Path(line.split()[3])
        _wait_for(lambda job=job: _field(job, "JobState") not in ("PENDING", "RUNNING"), log)
        assert _field(job, "JobState") == "COMPLETED", log.read_text()
    assert len(list((tmp_path / "tiny/diffusion").glob("*/card.json"))) == 3  # and `latest`
