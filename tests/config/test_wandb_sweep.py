"""The command lines of wandb's agents are command lines of ours."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps import utils

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir
from ldmlab.core.errors import UserError

FILE = conf_dir() / "sweep/wandb.yaml"
SWEEP = yaml.safe_load(FILE.read_text())


def _ends(parameter: dict[str, object]) -> list[object]:
    values = parameter.get("values")
    return list(values) if isinstance(values, list) else [parameter["min"], parameter["max"]]


def _command(chosen: dict[str, object]) -> list[str]:
    """What an agent starts, made by the two functions with which it makes it."""
    values = {key: {"value": value} for key, value in chosen.items()}
    arguments = utils.create_sweep_command_args({"args": values})
    words: list[str] = []
    for word in utils.create_sweep_command(SWEEP["command"]):
        name = str(word).removeprefix("${").removesuffix("}")
        words += arguments[name] if name in arguments else [str(word)]
    return words


@pytest.mark.parametrize("end", [0, -1])
def test_wandb_agent_command_composes(end: int) -> None:
    chosen = {key: _ends(p)[end] for key, p in SWEEP["parameters"].items()}
    words = _command(chosen | {"name": "two words"})
    assert words[:4] == ["${env}", "uv", "run", "${program}"] and SWEEP["program"] == "train.py"
    cfg = compose(words[4:])
    assert cfg.logger.wandb.mode == "online" and cfg.stage == "diffusion"
    assert cfg.name == "two words"
    for key, value in chosen.items():
        if key != "schedule":
            assert OmegaConf.select(cfg, key) == value
    assert SWEEP["metric"]["name"] == "val/loss"


def test_wandb_sweep_file_is_tracked_and_is_no_config_group() -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", FILE], cwd=FILE.parent, check=False)
    assert ignored.returncode != 0
    with pytest.raises(UserError, match="no option 'wandb'"):
        compose(["sweep=wandb"])
