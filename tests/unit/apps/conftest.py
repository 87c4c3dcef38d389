"""A small conf/ of its own, so that these tests outlive every change of the real one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig

import ldmlab
from ldmlab.apps.cli.main import main
from ldmlab.apps.cli.verbs import VERBS, Verb

_FILES = {
    "config.yaml": """
        defaults:
          - _self_
          - schedule: cosine
          - sampler: ddim
          - trainer: cpu
          - experiment: toy
          - override hydra/job_logging: stdout
          - override hydra/hydra_logging: none
        hydra: {output_subdir: null, run: {dir: .}, sweep: {dir: "${paths.runs}/.hydra", subdir: .}}
        config_version: 1
        name: toy
        seed: 0
        stage: all
        run_id: null
        config: null
        prompt: null
        paths: {runs: runs}
        codec: {run: null}
        sweep: {metric: loss}
        traceback: false
        trust: []
        stages:
          diffusion: {lr: 1.0e-4, betas: [0.9, 0.99], batch_size: 8, max_steps: 10, ema: true}
        """,
    "schedule/cosine.yaml": "{_target_: toy.Cosine, timesteps: 1000, powers: [1, 2]}",
    "schedule/linear.yaml": "{_target_: toy.Linear, timesteps: 1000, first: 0.1}",
    "sampler/ddim.yaml": "{_target_: toy.DDIM, steps: 50, eta: 0.0, seed: '${seed}'}",
    "sampler/euler.yaml": "{_target_: toy.Euler, steps: 20, churn: 1.0}",
    "trainer/cpu.yaml": "{devices: 1, num_nodes: 1, accelerator: cpu}",
    "experiment/toy.yaml": "# @package _global_\nstages: {diffusion: {max_steps: 20}}",
    "sample.yaml": "run: ???\nprompt: null\nout: null\nnum_samples: 4",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small conf/, installed like a wheel's; the working directory is an empty folder."""
    folder = tmp_path / "package" / "ldmlab" / "conf"
    for name, text in _FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        indent = "        " if text.startswith("\n") else ""
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        (folder / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(ldmlab, "__file__", str(folder.parent / "__init__.py"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def seen(conf: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replaces `train` and `sample` by a function that keeps the configuration it is given."""
    record = SimpleNamespace(cfg=None, argv=None, act=lambda cfg: None)

    def run(cfg: DictConfig) -> int | None:
        record.cfg, record.argv = cfg, list(sys.argv)
        return record.act(cfg)

    monkeypatch.setitem(sys.modules, "toy_verb", SimpleNamespace(run=run))
    for name, base, keeps, trains in (
        ("train", "config", False, True),
        ("sample", "run", True, False),
    ):
        examples = (("ldmlab toy", "plays"),)
        verb = Verb(name, "A toy.", examples, base, keeps, trains, "toy_verb")
        monkeypatch.setitem(VERBS, name, verb)
    return record


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process and returns its exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
