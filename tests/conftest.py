"""Shape and type checks on the pure layers, for every test."""

from __future__ import annotations

from jaxtyping import install_import_hook

_CHECKED = ("core", "diffusion", "nn", "autoencoding", "conditioning", "models", "data")

# Before the first import of a layer. The tower: an int is welcome where a float is asked for.
install_import_hook(
    [f"ldmlab.{layer}" for layer in _CHECKED],
    "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))",
)
