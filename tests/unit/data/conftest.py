"""Specimens of each data set, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmlab.apps.build import build_data
from ldmlab.apps.compose import compose
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make

SPECIMENS = [(name, form) for name, forms in FORMS.items() for form in forms]


@pytest.fixture(scope="session")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A folder of each form of each data set, with 12 images of 64 pixels."""
    folder = tmp_path_factory.mktemp("specimens")
    for name, form in SPECIMENS:
        make(name, folder / f"{name}_{form}", form, 12, 64)
    return {key: folder / "_".join(key) for key in SPECIMENS}


def opened(name, form, root, *overrides):
    """Training data, validation data and facts of a specimen, as `ldmlab train` opens it."""
    more = OVERRIDES.get((name, form), "").split()
    size = [] if any(o.startswith("data.resized") for o in overrides) else ["data.resized=40"]
    size = size if name == "landscapes" else []
    cfg = compose([
        f"data={name}", f"data.root={root}", "data.image_size=32", *more, *size, *overrides
    ])  # fmt: skip
    return build_data(cfg)
