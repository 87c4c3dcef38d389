"""The same as `ldmlab train`: `uv run train.py [key=value ...]`."""

import sys

from ldmlab.apps.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
