"""Splits a CompVis checkpoint into its parts, and loads them strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ldmlab.core.errors import UserError
from ldmlab.interop.common.key_map import Renaming, State

UNET = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
CONDITIONER = "cond_stage_model."
SECTIONS = (UNET, FIRST_STAGE, CONDITIONER)
SCALE_FACTOR = "scale_factor"

_AVERAGES = "model_ema."
_AVERAGE_COUNTERS = (f"{_AVERAGES}decay", f"{_AVERAGES}num_updates")
_LOSS = "loss."
_BUFFERS = frozenset(
    "betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod "
    "log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod "
    "posterior_variance posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2 "
    "scale_factor".split()
)

Shapes = Mapping[str, tuple[int, ...]]


def load_section(
    renaming: Renaming, state: State, section: str, unused: Iterable[str] = ()
) -> None:
    """Load a module from its section of a checkpoint, or from a state dict of its own.

    The U-Net takes its averaged weights where the checkpoint has them, as published sampling
    does. Losses, schedule buffers and the other sections are passed over.

    Args:
        renaming: The module and its published names.
        state: The published tensors.
        section: Prefix of the module's section.
        unused: Published keys that must be there, too, and that our module has no use for.

    Raises:
        UserError: A key is missing or unknown, or a tensor has another shape.
    """
    prefix = section if _has_sections(state) else ""
    check_section(renaming.shapes, state, section, unused)
    averages = [k for k in state if k.startswith(_AVERAGES) and k not in _AVERAGE_COUNTERS]
    if section == UNET and averages:
        names = {key: _average_of(key) for key in renaming.shapes}
        _check({names[k]: s for k, s in renaming.shapes.items()}, state, averages, _AVERAGES)
    else:
        names = {key: prefix + key for key in renaming.shapes}
    renaming.load({key: state[name] for key, name in names.items()})


def check_section(shapes: Shapes, state: State, section: str, unused: Iterable[str] = ()) -> None:
    """Compare a section with what it should hold.

    Raises:
        UserError: A key is missing or unknown, or a tensor has another shape.
    """
    prefix = section if _has_sections(state) else ""
    passed = {prefix + key for key in unused}
    expected = {prefix + key: shape for key, shape in shapes.items()}
    expected |= {key: tuple(state[key].shape) if key in state else () for key in passed}
    elsewhere = tuple(other for other in SECTIONS if prefix and other != section)
    handled = (_LOSS, prefix + _LOSS, _AVERAGES, *elsewhere)
    found = [k for k in state if k not in _BUFFERS and not k.startswith(handled)]
    _check(expected, state, found, section)


def _has_sections(state: State) -> bool:
    return any(key.startswith(SECTIONS) for key in state)


def _average_of(key: str) -> str:
    # The average's buffers are named by the wrapper's parameters without their dots.
    return _AVERAGES + f"diffusion_model.{key}".replace(".", "")


def _check(expected: Shapes, state: State, found: Iterable[str], section: str) -> None:
    missing = [key for key in expected if key not in state]
    unknown = [key for key in found if key not in expected]
    other = [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for keys, what in ((missing, "missing"), (unknown, "unknown"), (other, "of another shape"))
        if keys
    ]
    if faults:
        raise UserError(
            f"the CompVis checkpoint does not fit its configuration in {section.rstrip('.')}: "
            f"tensors {'; '.join(faults)}"
        )
