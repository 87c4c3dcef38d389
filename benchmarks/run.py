"""Runs benchmarks by name and writes their figures, with what they were measured on, as JSON.

    uv run benchmarks/run.py --list
    uv run benchmarks/run.py data latents --out figures.json
    uv run benchmarks/run.py latents rounds=9

A benchmark is a module of this folder: its docstring begins with what it measures, `run` gives a
dictionary of figures and has its sizes as arguments (`key=value` here sets them), and `QUICK` holds
sizes at which it only shows that it works (`--quick`).
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

# One thread each, before torch is imported: the figures are those of one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from ldmlab.core.environment import describe_environment
from ldmlab.core.errors import UserError
from ldmlab.core.suggest import did_you_mean

HERE = Path(__file__).parent


def available() -> dict[str, str]:
    """Names of the benchmarks, and what each measures."""
    files = sorted(path for path in HERE.glob("*.py") if path.name != Path(__file__).name)
    docs = ((path.stem, ast.get_docstring(ast.parse(path.read_text())) or "") for path in files)
    return {name: doc.partition("\n")[0] for name, doc in docs}


def _sizes(assignments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        try:
            yield key, ast.literal_eval(value)
        except (ValueError, SyntaxError):
            yield key, value


def _cpu() -> str | None:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), None)


def _peers() -> dict[str, str]:
    """Versions of what is only compared with."""
    installed = {x.name: x.version for x in distributions()}
    return {name: installed[name] for name in ("diffusers", "webdataset") if name in installed}


def measure(name: str, sizes: dict[str, Any], quick: bool) -> dict[str, Any]:
    """The figures of one benchmark and the seconds that it took.

    Raises:
        UserError: If the benchmark has no such size.
    """
    module = importlib.import_module(name)
    known = inspect.signature(module.run).parameters
    for key in sizes:
        if key not in known:
            raise UserError(f"{name} has no size '{key}'{did_you_mean(key, known)}")
    started = time.perf_counter()
    figures = module.run(**(module.QUICK if quick else {}) | sizes)
    return {"figures": figures, "seconds": round(time.perf_counter() - started, 1)}


def main(arguments: Sequence[str]) -> None:
    """Run what was named, all by default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name | key=value")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--quick", action="store_true", help="toy sizes: shows that it works")
    parser.add_argument("--out", type=Path, help="a file for the JSON (default: standard output)")
    given = parser.parse_args(arguments)
    known = available()
    if given.list:
        print("\n".join(f"{name:<18}{measures}" for name, measures in known.items()))
        return
    names = [word for word in given.names if "=" not in word] or list(known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise UserError(f"there is no benchmark '{name}'{hint}")
    sizes = dict(_sizes([word for word in given.names if "=" in word]))
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["benchmarks/run.py", *arguments]),
        "environment": describe_environment() | {"cpu": _cpu(), "peers": _peers()},
        "benchmarks": {},
    }
    for name in names:
        print(f"{name}: {known[name]}", file=sys.stderr)
        report["benchmarks"][name] = measure(name, sizes, given.quick)
    text = json.dumps(report, indent=2)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"benchmarks/run.py: error: {error}", file=sys.stderr)
        sys.exit(2)
