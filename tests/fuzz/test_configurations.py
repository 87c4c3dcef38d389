"""A stranger's configuration is read as data, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tests.fuzz.harness import SPENDS, fuzz
from tests.fuzz.mutate import json_values, mutated

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.run_base import load_config
from ldmlab.core.errors import UserError

PIECES = (
    "a: &a [x, x]\nb: *a\n", "!!python/object/apply:os.system ['touch harmed']\n", "a: ${b}\n",
    "a: ${oc.env:HOME}\n", "a: ${\n", "? [1, 2]\n: 3\n", "a: 2001-99-99\n", "a: 0b\n", "a: 1__0\n",
    "<<: *a\n", "a: !!binary x\n", "a: !!float x\n", "a: 1e999\n", "a: .nan\n", "\0", "a:\n\tb",
    "%", "a: !!set {x, y}\n", "a: !!timestamp x\n", "a: 99:99\n", "- a\n", "...\n---\n", "1: 2\n",
    "a: ???\n", "null: 1\n", "true: 1\n", "a: !!omap [x: 1]\n", "[" * 600, "{a: " * 600,
)  # fmt: skip


def deep(depth: int) -> str:
    """Tables in tables."""
    return "a: " + "{a: " * depth + "}" * depth + "\n"


def bomb(depth: int) -> str:
    """Lines that name more and more of themselves."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for k in range(1, depth):
        lines.append(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]")
    return "\n".join(lines) + "\n"


@st.composite
def configurations(draw: st.DrawFn, whole: dict[str, object]) -> bytes:
    """A run's configuration in which some keys are others, or in odd YAML."""
    told = dict(whole)
    for key in draw(st.lists(st.sampled_from([*sorted(whole), "_target_", "x"]), max_size=2)):
        told[key] = draw(json_values(6))
    text = yaml.safe_dump(told, allow_unicode=True)
    piece = draw(st.sampled_from(("", *PIECES, bomb(9))) | st.integers(1, 400).map(deep))
    return (text + piece if draw(st.booleans()) else piece + text).encode("utf-8", "replace")


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_configuration_is_read_or_refused(tmp_path: Path, spend: float) -> None:
    path = tmp_path / "config.yaml"
    cfg = OmegaConf.to_container(compose())
    small = {k: v for k, v in cfg.items() if k in ("config_version", "seed", "network", "name")}
    whole = yaml.safe_dump(small).encode()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_config(path)

    fuzz(read, mutated([whole]) | configurations(small), (UserError,), 60, spend)
