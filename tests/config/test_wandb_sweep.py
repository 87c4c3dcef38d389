"""The command lines of wandb's agents are command lines of ours."""

from __future__ import annotations

import pytest
import yaml
from wandb.sdk.launch.sweeps import utils

from ldmlab.apps.compose import compose
from ldmlab.apps.conf import conf_dir

FILES = sorted((conf_dir() / "sweep" / "wandb").glob("*.yaml"))


def _ends(parameter: dict[str, object]) -> list[object]:
    values = parameter.get("values")
    return list(values) if isinstance(values, list) else [parameter["min"], parameter["max"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("end", [0, -1])
def test_an_agent_starts_what_can_be_composed(path, end: int) -> None:
    sweep = yaml.safe_load(path.read_text())
    chosen = {key: {"value": _ends(p)[end]} for key, p in sweep["parameters"].items()}
    # The two functions with which the agent itself makes its command.
    arguments = utils.create_sweep_command_args({"args": chosen})
    words: list[str] = []
    for word in utils.create_sweep_command(sweep["command"]):
        name = str(word).removeprefix("${").removesuffix("}")
        words += arguments[name] if name in arguments else [str(word)]
    assert words[:4] == ["${env}", "uv", "run", "${program}"] and sweep["program"] == "train.py"
    cfg = compose(words[4:])
    assert cfg.logger.wandb.mode == "online" and cfg.stage == "diffusion"
    for key, value in chosen.items():
        if key != "schedule":
            node = cfg
            for part in key.split("."):
                node = node[part]
            assert node == value["value"]
    assert sweep["metric"]["name"] == "val/loss"
