"""The benchmarks' runner as a user starts it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def runner(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/run.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_runner_lists_every_benchmark_and_what_it_measures() -> None:
    lines = runner("--list").stdout.splitlines()
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"run"}
    assert {line.split()[0] for line in lines} == names
    assert all(line.endswith(".") and len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("latnets",), "no benchmark 'latnets'; did you mean latents?"),
        (("sampler_overhead", "round=3"), "no size 'round'; did you mean rounds?"),
        (("cards", "cards=none/*.json"), "cards=none/*.json finds no metric card"),
    ],
)
def test_runner_mistake_is_one_line_and_exits_2(arguments: tuple[str, ...], words: str) -> None:
    ended = runner(*arguments)
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 2 and words in last and "Traceback" not in ended.stderr


@pytest.mark.slow
def test_runner_writes_figures_with_what_they_were_measured_on(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    ended = runner("sampler_overhead", "rounds=3", "--quick", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(out.read_text())
    assert "rounds=3" in report["command"] and report["date"].startswith("20")
    assert report["environment"]["versions"]["torch"] and report["environment"]["cpus"] > 0
    figures = report["benchmarks"]["sampler_overhead"]["figures"]
    assert figures.keys() == {"1x4x64x64", "16x4x64x64"}
    for found in figures.values():
        low, median, high = found["ratio_quartiles"]
        assert 0 < low <= median <= high and found["ours_us"] > 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("[!r]*.py")), ids=lambda p: p.stem
)
def test_benchmark_imports_and_has_quick_sizes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert module.QUICK.keys() <= inspect.signature(module.run).parameters.keys()
