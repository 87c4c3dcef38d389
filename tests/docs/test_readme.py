"""What the README shows is true: its commands compose, its code runs, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.cli import hydra_main, slurm
from ldmlab.apps.cli.main import main
from ldmlab.apps.cli.verbs import Verb
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir, options
from ldmlab.core.jobs import Job

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip()
    for kind, block in BLOCKS
    if kind == "bash"
    for line in block.splitlines()
    if "uv run train.py" in line or "uv run ldmlab" in line
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs and the parts that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    for run in set(re.findall(r"=(runs/[\w/]+?)(?:/config\.yaml)?[ `\n]", README)):
        path = Path(run)
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(OmegaConf.to_yaml(compose()))
    leaf, text = re.search(r"```yaml\n# (\S+)\n(.*?)```", README, re.DOTALL).groups()  # type: ignore[union-attr]
    Path(leaf).parent.mkdir(parents=True)
    Path(leaf).write_text(text)
    monkeypatch.setenv("LDMLAB_TRUST", "")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_command_reaches_its_verb(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[DictConfig | Sequence[str]] = []
    monkeypatch.setattr(Verb, "load", lambda verb: reached.append)
    monkeypatch.setattr(slurm, "submit", lambda verb, cfg: reached.append(cfg) or "submitted")
    monkeypatch.setattr(
        hydra_main, "run_job", lambda program, job: reached.append(job) or Job((), 0, 0.0, {})
    )
    line = command.rpartition("&& ")[2].replace("uv run train.py", "train")
    words = shlex.split(line.replace("uv run ldmlab ", ""))
    main(words)
    jobs = 1
    for word in words:
        jobs *= word.count(",") + 1 if "-m" in words and "=" in word else 1
    assert len(reached) == jobs
    cfg = reached[0]
    if isinstance(cfg, DictConfig):
        for key, value in (
            word.split("=", 1) for word in words if re.match(r"[\w.]+=[\w.]+$", word)
        ):
            if key not in options():
                assert str(OmegaConf.select(cfg, key)).lower() == value.lower()


@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"])
def test_readme_python_examples_run(code: str) -> None:
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["images"].shape == (4, 3, 8, 8)  # type: ignore[attr-defined]


def test_readme_links_and_images_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).is_file(), target


def test_readme_leaf_table_is_complete() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) >= 6
    for group, leaves in rows:
        # A leaf that only changes another's numbers is no entry of its own.
        own = [
            leaf
            for leaf in options()[group]
            if "defaults:" not in (conf_dir() / group / f"{leaf}.yaml").read_text()
        ]
        assert sorted(re.findall(r"`(\w+)`", leaves)) == sorted(own)
