"""Whether a run that is killed again and again ends as one that is left alone, bit for bit.

The quickstart's second stage at toy size is trained twice: once undisturbed, and once with SIGTERM
or SIGKILL at seeded random times, the same command being started again after each. Compared are
all of the last checkpoint but its clocks, and the rows of metrics.csv but for their throughput; the
peak memory of each process is measured, and files that a killed writer left are counted, before
and after the start that sweeps them.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.errors import UserError

TRAIN = Path(__file__).parents[1] / "train.py"
TOY = (
    "data.image_size=16", "data.train.num_samples=256", "data.validation.num_samples=16",
    "autoencoder.channels=16", "network.channels=16", "network.head_channels=16",
    "conditioner.dim=16", "discriminator.discriminator.channels=8", "callbacks.num_samples=4",
    "sampler.steps=2", "evaluation=none", "stages.autoencoder.max_steps=20",
    "stages.autoencoder.batch_size=4", "stages.diffusion.batch_size=4",
    "callbacks.sample_every=500",
)  # fmt: skip
CLOCKS = "throughput/"
COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "metadata")
OLD = 7 * 3600  # seconds since a killed writer's last write, after which its file is swept
QUICK = {"steps": 60, "every": 10, "validate": 20, "soonest": 4.0, "latest": 20.0, "most_kills": 2}


@dataclass(frozen=True)
class Attempt:
    """One process of a run.

    Attributes:
        sent: The signal that it got; None where it was left alone.
        after: Seconds until then, or until its end.
        code: What it exited with; minus the signal's number where that ended it.
        step: The step that its last checkpoint has reached.
        peak_mib: The most memory that it took.
    """

    sent: str | None
    after: float
    code: int
    step: int
    peak_mib: int


def attempt(folder: Path, arguments: list[str], plan: tuple[int, float] | None) -> Attempt:
    """Start the command, and send it a signal after some seconds if it still runs then."""
    home = {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode")}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | home
    started = time.monotonic()
    with (folder.parent / "said.txt").open("w+") as said:
        command = [sys.executable, str(TRAIN), *arguments]
        child = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        sent = None
        while True:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            spent = time.monotonic() - started
            if pid:
                break
            if plan is not None and sent is None and spent >= plan[1]:
                sent = signal.Signals(plan[0]).name
                child.send_signal(plan[0])
            time.sleep(0.02)
        code = child.returncode = os.waitstatus_to_exitcode(status)
        expected = {None: (0,), "SIGTERM": (0, 143, -15), "SIGKILL": (0, -9)}[sent]
        if code not in expected:
            said.seek(0)
            raise UserError(f"exit code {code} after {sent}: {said.read()[-2000:]}")
    print(f"  {sent or 'left alone'}: exit {code} after {spent:.1f} s", file=sys.stderr)
    return Attempt(sent, round(spent, 2), code, reached(folder), used.ru_maxrss // 1024)


def last(folder: Path) -> Path:
    """The newest checkpoint of stage two."""
    return folder / "quickstart/diffusion/latest/checkpoints/last.ckpt"


def reached(folder: Path) -> int:
    """The step of that checkpoint, which must be whole whenever it is there."""
    path = last(folder)
    return int(read_checkpoint(path)["state_dict"]["steps"]) if path.is_file() else 0


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """The places at which two nests of tensors and plain values differ in any bit."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [x for key in one for x in differences(one[key], two[key], f"{where}.{key}")]
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [x for k, (a, b) in pairs for x in differences(a, b, f"{where}.{k}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        same = one.dtype == two.dtype and torch.equal(one, two)
        return [] if same else [where]
    return [] if one == two else [f"{where}: {str(one)[:60]} is not {str(two)[:60]}"]


def rows(folder: Path) -> dict[str, dict[str, str]]:
    """What metrics.csv says of each step, times and memory left out."""
    text = (last(folder).parents[1] / "metrics.csv").read_text()
    read = csv.DictReader(text.splitlines())
    return {row["step"]: {k: v for k, v in row.items() if not k.startswith(CLOCKS)} for row in read}


def leftovers(folder: Path) -> list[Path]:
    """Files that a killed writer has left."""
    return sorted(folder.rglob("*.part"))


def swept(folder: Path, arguments: list[str]) -> tuple[int, int]:
    """Unfinished files at the end, and how many of them stay when they have become old."""
    found = leftovers(folder)
    for path in found:
        os.utime(path, (time.time() - OLD,) * 2)
    if found:
        attempt(folder, arguments, None)
    return len(found), len(leftovers(folder))


def run(
    steps: int = 2000,
    every: int = 50,
    validate: int = 500,
    soonest: float = 5.0,
    latest: float = 60.0,
    most_kills: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Attempts of the disturbed run, what differs at the end, peaks of memory, leftovers.

    A checkpoint is written `every` so many of the `steps`, and after `validate` of them comes a
    validation; a signal comes `soonest` to `latest` seconds after each start, `most_kills` times
    at most.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        first, whole, torn = (Path(home, name) for name in ("first", "whole", "torn"))
        span = (f"stages.diffusion.max_steps={steps}", f"stages.diffusion.val_every={validate}")
        common = [*TOY, *span, f"callbacks.checkpoint_every={every}"]
        attempt(first, [f"paths.runs={first}", *common, "stage=autoencoder"], None)
        for folder in (whole, torn):
            shutil.copytree(first, folder, symlinks=True)
        alone = attempt(whole, [f"paths.runs={whole}", *common], None)
        command = [f"paths.runs={torn}", *common]
        attempts: list[Attempt] = []
        for number in count():
            plan = chance.choice((signal.SIGTERM, signal.SIGKILL)), chance.uniform(soonest, latest)
            attempts.append(attempt(torn, command, plan if number < most_kills else None))
            if attempts[-1].code == 0:
                break
        one, two = (read_checkpoint(last(folder)) for folder in (whole, torn))
        unequal = [x for part in COMPARED for x in differences(one[part], two[part], part)]
        one_rows, two_rows = rows(whole), rows(torn)
        at_end, stay = swept(torn, command)
    kills = [a.sent for a in attempts if a.code != 0]
    trained = [a.peak_mib for k, a in enumerate(attempts) if k and a.step > attempts[k - 1].step]
    return {
        "steps": steps,
        "tensors_compared": len(one["state_dict"]),
        "weights_equal": not any(x.startswith("state_dict") for x in unequal),
        "unequal": unequal,
        "metrics_rows": len(one_rows),
        "metrics_unequal": differences(one_rows, two_rows, "step"),
        "sigterm": kills.count("SIGTERM"),
        "sigkill": kills.count("SIGKILL"),
        "undisturbed": asdict(alone),
        "peak_mib_of_first_and_last": [trained[0], trained[-1]] if trained else [],
        "leftovers": at_end,
        "leftovers_after_sweep": stay,
        "attempts": [asdict(a) for a in attempts],
    }
