"""The command line as a user meets it: in a checkout, through train.py and from a wheel."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from ldmlab.apps.cli import main as cli
from ldmlab.apps.cli.verbs import VERBS
from ldmlab.apps.config.conf_dir import conf_dir, options
from ldmlab.apps.config.overrides import parse

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "ldmlab"]


def _run(*command: str, cwd: Path, **environment: str) -> tuple[subprocess.CompletedProcess, float]:
    start = time.monotonic()
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, time.monotonic() - start


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("stages.diffusion.lrr=1", "stages.diffusion.lr"),
        ("schedul=cosine", "did you mean schedule"),
        ("schedule=cosin", "did you mean cosine"),
        ("stages.diffusion.lr=abc", "stages.diffusion.lr must be"),
        ("stages.autoencoder.batch_size=0", "stages.autoencoder.batch_size must be"),
        ("seed=007", "seed must be"),
        ("stages.diffusion.precision=16-mixed", "precision must be 32-true or bf16-mixed"),
        ("stages.autoencoder.precision=64-true", "precision must be 32-true or bf16-mixed"),
        ("~optimizer", "nothing may be deleted"),
    ],
)
def test_cli_mistake_is_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    argument: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", argument])
    said = capfd.readouterr().err
    assert stop.value.code == 2 and words in said
    assert said.startswith("ldmlab: error: ") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# In processes of their own: mistakes that arguments show, and that take a configuration.
@pytest.mark.parametrize(
    ("program", "argument", "words"),
    [
        ([*MODULE, "train"], "stages.autoencoder.batch_size=0", "batch_size must be"),
        ([sys.executable, str(ROOT / "train.py")], "schedule=cosin", "did you mean cosine"),
        ([sys.executable, str(ROOT / "train.py")], "stages.diffusion.lrr=1", "stages.diffusion.lr"),
    ],
)
def test_cli_mistake_is_reported_quickly(
    tmp_path: Path, program: list[str], argument: str, words: str
) -> None:
    done, seconds = _run(*program, argument, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.startswith("ldmlab: error: ") and done.stderr.count("\n") == 1
    assert seconds < 10, "3 seconds on an idle machine"
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_shows_the_default_experiment(tmp_path: Path) -> None:
    done, _ = _run(*MODULE, "train", "--cfg", "job", "name=mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["name"] == "mine"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_help_examples_name_existing_leaves(verb: str) -> None:
    for command, _ in VERBS[verb].examples:
        program, name, *arguments = shlex.split(command.replace("prompt=a red house, on the ", ""))
        assert (program, name) == ("ldmlab", verb)
        for argument in arguments:
            key, _, value = argument.partition("=")
            if key in options():
                assert value in options()[key]
            elif "=" in argument:
                parse(argument)


def test_defaults_list_names_existing_groups() -> None:
    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text())["defaults"]
    chosen = {key: name for entry in defaults if entry != "_self_" for key, name in entry.items()}
    missing = [key for key, name in chosen.items() if name not in options().get(key, ["default"])]
    assert missing == []
    judging = {"density"}  # of `ldmlab evaluate`: no training knows it
    assert set(options()) == set(chosen) - {"hydra"} | judging, "a group nothing reaches"


def test_every_conf_leaf_has_a_first_line_comment() -> None:
    for leaf in conf_dir().rglob("*.yaml"):
        first, *rest = leaf.read_text().splitlines()
        says = rest[0] if first.startswith("# @package") else first
        assert says.startswith("# ") and not says.startswith("# @"), leaf


def test_wheel_ships_conf(tmp_path: Path) -> None:
    done, _ = _run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)), cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    done, _ = _run(*MODULE, "train", "schedule=cosin", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 2 and "did you mean cosine" in done.stderr
    code = "from ldmlab.apps.config.conf_dir import conf_dir; print(conf_dir())"
    done, _ = _run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    assert Path(done.stdout.strip()) == site / "ldmlab" / "conf", done.stderr
