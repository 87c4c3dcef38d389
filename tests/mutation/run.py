"""Plants the faults of the tables beside this file, one at a time, and runs the tests against each.

    uv run tests/mutation/run.py                     # every fault of every table
    uv run tests/mutation/run.py diffusion -k SNR    # one table, names that hold a word

A fault is seen when a test fails within a minute. Faults are planted in copies of the checkout;
the tests of the tables run once without any, so that a broken test is not taken for a witness.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.remove(str(HERE))
sys.path.insert(0, str(HERE.parents[1]))

from tests.mutation.runner import plant  # noqa: E402
from tests.mutation.table import read_tables, tables  # noqa: E402


def main() -> int:
    """Runs what the arguments ask for; 1 unless each fault was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(tables())}; all if left out")
    parser.add_argument("-k", default="", help="only faults whose name holds this")
    parser.add_argument("-j", type=int, default=2, help="processes at a time")
    parser.add_argument("-v", action="store_true", help="show what the tests said")
    options = parser.parse_args()
    faults = [f for f in read_tables(options.tables) if options.k.lower() in f.name.lower()]
    counts = plant(faults, options.j, options.v)
    return 0 if counts is not None and set(counts) <= {"seen"} else 1


if __name__ == "__main__":
    sys.exit(main())
