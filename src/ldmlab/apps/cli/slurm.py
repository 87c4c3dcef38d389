"""Runs a verb here, or hands it to SLURM where `launcher=slurm` asks for that."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ldmlab.apps.cli.verbs import Verb
from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.apps.config.run_id import run_id
from ldmlab.apps.runs.secrets import writable
from ldmlab.core.errors import UserError
from ldmlab.core.files import make_folder, write_text


@dataclass(frozen=True)
class Submission:
    """A job of SLURM that is not submitted yet.

    Attributes:
        folder: Where its configuration and its logs go.
        config: Its configuration, which later changes of conf/ do not reach.
        text: What that file is to hold.
        command: What submits it.
    """

    folder: Path
    config: Path
    text: str
    command: tuple[str, ...]


def launch(verb: Verb, cfg: DictConfig) -> int:
    """Run a verb, or submit a job that does.

    Args:
        verb: The verb.
        cfg: Its configuration.

    Returns:
        The exit code.

    Raises:
        UserError: The job cannot be submitted.
    """
    if not is_remote(verb, cfg):
        return verb.load()(cfg) or 0
    print(submit(verb, cfg))
    return 0


def is_remote(verb: Verb, cfg: DictConfig) -> bool:
    """Whether the verb trains, and `launcher` hands that to SLURM."""
    return verb.trains and OmegaConf.select(cfg, "launcher.slurm") is not None


def submit(verb: Verb, cfg: DictConfig) -> str:
    """Submit a job; gives a line with its number and its log.

    Raises:
        UserError: There is no SLURM here, or it refuses the job.
    """
    job = prepare(verb, cfg)
    if shutil.which("sbatch") is None:
        raise UserError(
            "launcher=slurm needs sbatch, which this machine has not: log in to the cluster, or "
            "take launcher=local"
        )
    make_folder(job.folder, lambda reason: f"paths.runs={cfg.paths.runs}: {reason}")
    write_text(job.config, job.text)
    done = subprocess.run(job.command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"sbatch refuses the job: {done.stderr.strip() or done.returncode}")
    number = done.stdout.strip().partition(";")[0]
    return f"submitted job {number}: {job.folder / f'{number}.log'}"


def prepare(verb: Verb, cfg: DictConfig) -> Submission:
    """A job with one process for each device, or with one process for each worker of a search.

    Jobs of one run have one name, and SLURM starts the next when the one before has ended.

    Raises:
        UserError: `launcher.slurm.script` is no file.
    """
    slurm = cfg.launcher.slurm
    script = Path(slurm.script or conf_dir() / "launcher" / "train.sbatch")
    if not script.is_file():
        raise UserError(f"launcher.slurm.script={script} is no file: give a copy of train.sbatch")
    text = _local(cfg)
    name = f"{cfg.name}-{_id(verb, cfg)}"
    folder = Path(cfg.paths.runs).absolute() / str(cfg.name) / "slurm" / name
    config = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.yaml"
    options = [
        "--parsable",
        f"--job-name={name}",
        f"--output={folder}/%j.log",
        f"--export=ALL,LDMLAB_PYTHON={sys.executable}",
        *_resources(verb, cfg),
        *(f"--{key}={slurm[key]}" for key in ("partition", "account", "time") if slurm[key]),
        *([f"--mem={slurm.memory}"] if slurm.memory else []),
        *(f"--{key}={value}" for key, value in slurm.options.items()),
    ]
    return Submission(
        folder, config, text, ("sbatch", *options, str(script), verb.name, f"config={config}")
    )


def _resources(verb: Verb, cfg: DictConfig) -> list[str]:
    devices = cfg.trainer.devices
    if not isinstance(devices, int):
        raise UserError("launcher=slurm needs a whole number of trainer.devices")
    if verb.name == "sweep":
        # A worker starts the processes of a trial itself.
        if cfg.trainer.num_nodes != 1:
            raise UserError("a trial of ldmlab sweep runs on one node: set trainer.num_nodes=1")
        shape = ["--nodes=1", "--ntasks-per-node=1", f"--array=1-{cfg.workers}"]
        cpus = cfg.launcher.slurm.cpus_per_task * devices
    else:
        shape = [f"--nodes={cfg.trainer.num_nodes}", f"--ntasks-per-node={devices}"]
        shape.append("--dependency=singleton")
        cpus = cfg.launcher.slurm.cpus_per_task
    gpus = [] if cfg.trainer.accelerator == "cpu" else [f"--gpus-per-node={devices}"]
    return [*shape, f"--cpus-per-task={cpus}", *gpus]


def _local(cfg: DictConfig) -> str:
    """The configuration that the job itself runs, its interpolations kept."""
    local: Any = OmegaConf.create(OmegaConf.to_container(cfg))
    with open_dict(local):
        local.launcher = {"slurm": None}
    return OmegaConf.to_yaml(writable(local))


def _id(verb: Verb, cfg: DictConfig) -> str:
    """What two jobs share that would write to one run folder."""
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    kept = {key: value for key, value in tree.items() if key not in ("n_trials", "workers")}
    return run_id(kept | {"job": [verb.name, tree["stage"], tree["run_id"]]})
