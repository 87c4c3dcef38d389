"""Changes operators, numbers and conditions one at a time, and runs the tests against each.

    uv run --with cosmic-ray tests/mutation/generic.py                  # a seeded sample of 600
    uv run --with cosmic-ray tests/mutation/generic.py diffusion --all  # every change of one room

The changes are those of cosmic-ray, one of each kind at each place; what runs them is this
folder's own runner, in forks of a warm process. The tests are those of the same name as the file,
then those that the tables beside this file name for it, then those of its room.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.remove(str(HERE))
sys.path.insert(0, str(ROOT))

from tests.mutation.runner import plant  # noqa: E402
from tests.mutation.table import read_tables  # noqa: E402

SOURCE = "src/ldmlab/"
ROOMS = {
    "diffusion": "diffusion/**/*.py",
    "core": "core/*.py",
    "losses": "autoencoding/losses.py",
    "ema": "training/*ema.py",
    "muon": "training/optimizers/muon.py",
    "steps": "training/*_module.py",
    "distances": "evaluation/distances/*.py",
}
# Without those that only change a name, or a message's text.
KINDS = (
    "ReplaceBinaryOperator", "ReplaceComparisonOperator", "ReplaceUnaryOperator", "AddNot",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer",
    "ZeroIterationForLoop",
)  # fmt: skip
_ROOM_OF_TESTS = "tests/unit/"


@dataclass(frozen=True)
class Mutant:
    """One change at one place.

    Attributes:
        table: The room.
        name: Place, kind and the line after the change.
        file: From the root of the checkout.
        text: The whole file after the change.
        tests: What is to see it, the likeliest first.
    """

    table: str
    name: str
    file: str
    text: str
    tests: list[str]

    def planted(self, root: Path) -> str:
        """The text of the file with the change in it."""
        return self.text


def main() -> int:
    """Runs what the arguments ask for; 1 where fewer than nine of ten changes are seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)}; all if left out")
    parser.add_argument("--all", action="store_true", help="every change instead of a sample")
    parser.add_argument("--sample", type=int, default=600, help="how many changes")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("-k", default="", help="only changes whose name holds this")
    parser.add_argument("-j", type=int, default=2, help="processes at a time")
    parser.add_argument("-v", action="store_true", help="show what the tests said")
    options = parser.parse_args()
    mutants = [
        m for room in options.rooms or ROOMS for m in mutants_of(room) if options.k in m.name
    ]
    print(f"{len(mutants)} changes in {len({m.file for m in mutants})} files")
    if not options.all and len(mutants) > options.sample:
        mutants = random.Random(options.seed).sample(mutants, options.sample)
    counts = plant(mutants, options.j, options.v)
    if counts is None:
        return 1
    share = 1 - counts["NOT SEEN"] / len(mutants)
    print(f"{share:.1%} seen")
    return int(share < 0.9)


def mutants_of(room: str) -> Iterator[Mutant]:
    """Every change of a room's files."""
    for path in sorted((ROOT / SOURCE).glob(ROOMS[room])):
        if path.name != "__init__.py":
            yield from _mutants(room, path)


def _mutants(room: str, path: Path) -> Iterator[Mutant]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = path.read_text("utf-8")
    file = path.relative_to(ROOT).as_posix()
    silent, tests = _silent(source), _tests(file)
    nodes = list(ast_nodes(get_ast(source)))
    chosen: dict[tuple[Any, str], tuple[Any, int]] = {}
    draw = random.Random(file)
    for name in sorted(operator_names()):
        kind = name.removeprefix("core/").split("_")[0]
        if kind not in KINDS:
            continue
        operator = get_operator(name)()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for index, place in enumerate(places):
            if any(start <= place[0] < stop for start, stop in silent):
                continue
            # Of the many operators that may stand there instead, one.
            if (place, kind) not in chosen or draw.random() < 0.3:
                chosen[place, kind] = (operator, index)
    for ((begin, _), kind), (operator, index) in sorted(
        chosen.items(), key=lambda entry: (entry[0][0], entry[0][1])
    ):
        text = mutate_code(source, operator, index)
        if text is None or text == source:
            continue
        line = text.splitlines()[begin[0] - 1].strip()
        yield Mutant(room, f"{file}:{begin[0]} {kind}: {line}", file, text, tests)


def _silent(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a change is none: annotations, which nothing evaluates here."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append(node.returns)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
    ]


def _tests(file: str) -> list[str]:
    """Test files, the likeliest to see a change of the file first."""
    inside = Path(file).relative_to(SOURCE)
    mirrored = sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / _ROOM_OF_TESTS / inside.parts[0]).rglob(f"test_{inside.stem}*.py")
    )
    named = [
        test.partition("::")[0]
        for fault in read_tables()
        if fault.file == file
        for test in fault.tests
    ]
    return list(dict.fromkeys([*mirrored, *named, _ROOM_OF_TESTS + inside.parts[0]]))


if __name__ == "__main__":
    sys.exit(main())
