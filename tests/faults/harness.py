"""Runs as a user starts them, and what may befall them: signals, file systems, small memories.

A fault that is patched into a process writes a line each time it strikes, so that a test can
prove that it did: `Faults.struck`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ldmlab.core.history import read_history

ROOT = Path(__file__).parents[2]
TINY = (
    "experiment=digits", "codec=normalized", "name=tiny", "data.limit=32", "discriminator=none",
    "autoencoder.patch=2", "autoencoder.channels=8", "network.channels=16",
    "network.head_channels=16", "network.channel_mult=[1]", "conditioner.dim=16", "sampler.steps=2",
    "stages.autoencoder.batch_size=8", "stages.diffusion.batch_size=8", "evaluation.num_samples=8",
    "stages.autoencoder.max_steps=4", "stages.diffusion.max_steps=4", "callbacks.num_samples=2",
    "stages.autoencoder.val_every=4", "stages.diffusion.val_every=4", "callbacks.sample_every=2",
    "trainer.log_every_n_steps=1",
)  # fmt: skip
# One stage that only a fault ends, and that saves by itself only once, after its fifth step.
ENDLESS = (
    *TINY, "stage=autoencoder", "stages.autoencoder.max_steps=1000000",
    "stages.autoencoder.val_every=1000000", "callbacks.sample_every=1000000",
    "callbacks.checkpoint_every=1000000",
)  # fmt: skip
PAIR = ("trainer=ddp", "trainer.accelerator=cpu")


@dataclass
class Started:
    """A command that runs.

    Attributes:
        process: It.
        runs: The folder of its runs.
        log: What it says, on both streams.
    """

    process: subprocess.Popen[bytes]
    runs: Path
    log: Path

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def run(self, stage: str = "autoencoder") -> Path:
        """The folder of its run of a stage."""
        return self.runs / "tiny" / stage / "latest"

    def wait_for(self, done: Callable[[], bool], seconds: float = 90) -> None:
        """Wait for something that the process does while it lives."""
        until = time.monotonic() + seconds
        while not done():
            assert self.process.poll() is None, self.said[-3000:]
            assert time.monotonic() < until, self.said[-3000:]
            time.sleep(0.05)

    def wait_for_step(self, step: int, stage: str = "autoencoder") -> None:
        """Wait until a step has been logged."""
        self.wait_for(lambda: logged(self.run(stage)) >= step)

    def send(self, number: int, group: bool = False) -> None:
        """Send a signal, to the whole process group as a terminal does, or to the process."""
        assert self.process.poll() is None, self.said[-3000:]
        os.killpg(self.process.pid, number) if group else self.process.send_signal(number)

    def end(self, seconds: float = 90) -> int:
        """Its exit code."""
        return self.process.wait(seconds)


@contextmanager
def started(
    runs: Path, *arguments: str, verb: str = "train", **environment: str
) -> Iterator[Started]:
    """Start a verb in a process group of its own, and end what is left of it.

    Args:
        runs: Where its runs go.
        *arguments: What is typed after the verb.
        verb: The verb.
        **environment: Variables on top of the present ones.
    """
    runs.mkdir(parents=True, exist_ok=True)
    log = runs / f"said-{time.monotonic_ns()}.log"
    folder = [f"paths.runs={runs}"] if verb == "train" else []
    program = ["train.py"] if verb == "train" else ["-m", "ldmlab", verb]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *program, *folder, *arguments],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield Started(process, runs, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def logged(run: Path) -> int:
    """The last step in a run's history; 0 without one."""
    try:
        return max(read_history(run / "metrics.csv"), default=0)
    except (OSError, ValueError):
        return 0


def told_in_one_line(said: str, *words: str) -> str:
    """The last line of what was said, which names all of these; there is no traceback.

    Args:
        said: What a process has said.
        *words: Parts of the line.
    """
    assert "Traceback" not in said, said[-3000:]
    line = said.strip().splitlines()[-1]
    assert all(word in line for word in words), said[-3000:]
    return line


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks(pid: int) -> list[int]:
    """Those of them that train with it."""
    return [c for c in children(pid) if b"train.py" in _command(c) and not _is_loader(c)]


def loaders(pid: int) -> list[int]:
    """Those of them that load data for it."""
    return [c for c in children(pid) if _is_loader(c)]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _is_loader(pid: int) -> bool:
    """A forked process has its parent's command line, a rank adds nothing of its own either."""
    return b"PyTorch" in _command(pid) or "LOCAL_RANK" not in _environment(pid)


def _environment(pid: int) -> set[str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return {entry.partition("=")[0] for entry in text.split("\0")}


@dataclass
class Faults:
    """System calls that fail in every process that is started with `environment`.

    Attributes:
        folder: Where the patch and its marks are kept.
        patches: Python statements, run before anything else; `strike(name)` leaves a mark.
    """

    folder: Path
    patches: list[str] = field(default_factory=list)

    def no_flock(self) -> Faults:
        """A file system without locks, as NFS and Lustre may be mounted."""
        self.patches.append(
            "import fcntl, errno\n"
            "def _no_lock(*args):\n"
            "    strike('flock')\n"
            "    raise OSError(errno.ENOLCK, 'No locks available')\n"
            "fcntl.flock = fcntl.lockf = _no_lock\n"
        )
        return self

    def no_symlink(self) -> Faults:
        """A file system without symbolic links, such as FAT."""
        self.patches.append(
            "import errno, os\n"
            "def _no_symlink(*args, **kwargs):\n"
            "    strike('symlink')\n"
            "    raise OSError(errno.EPERM, 'Operation not permitted')\n"
            "os.symlink = _no_symlink\n"
        )
        return self

    def environment(self) -> dict[str, str]:
        """The variables that bring the faults into a process."""
        head = (
            "import os\n"
            "def strike(name):\n"
            f"    with open({str(self.folder / 'struck')!r}, 'a') as file:\n"
            "        file.write(name + '\\n')\n"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(head + "".join(self.patches))
        before = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": os.pathsep.join(filter(None, [str(self.folder), before]))}

    @property
    def struck(self) -> set[str]:
        """The faults that struck."""
        marks = self.folder / "struck"
        return set(marks.read_text().split()) if marks.exists() else set()
