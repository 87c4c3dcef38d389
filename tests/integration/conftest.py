"""A small run that costs no training."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

STORED = sorted((Path(__file__).parents[1] / "data").glob("run_v*.tar.xz"))


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a stored run; gives the folder of its experiment."""
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.partition(".")[0]


@pytest.fixture(scope="module")
def stored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage two of the newest stored run."""
    experiment = unpack(STORED[-1], tmp_path_factory.mktemp("runs"))
    return experiment / "diffusion" / "stored"
