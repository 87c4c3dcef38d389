"""Shape and type checks on the pure layers, for every test, and a bytecode cache for all."""

from __future__ import annotations

import os
import sys
import tempfile

from jaxtyping import install_import_hook

_CHECKED = ("core", "diffusion", "nn", "autoencoding", "conditioning", "models", "data")

if "PYTEST_XDIST_WORKER" in os.environ:
    # The processes of the suite share the cores; a thread each, and what they start likewise.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if sys.dont_write_bytecode:
    # Each process that a test starts would compile torch and lightning anew, which is most of
    # what such a test costs. A folder that goes with this process leaves the checkout clean.
    _cache = tempfile.TemporaryDirectory(prefix="ldmlab-bytecode-", ignore_cleanup_errors=True)
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = _cache.name
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # `python -B` sets none

# Before the first import of a layer. The tower: an int is welcome where a float is asked for.
install_import_hook(
    [f"ldmlab.{layer}" for layer in _CHECKED],
    "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))",
)
