"""The search space of a sweep: for each key the values of Hydra's sweep syntax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

from ldmlab.apps.config.conf_dir import options
from ldmlab.apps.config.overrides import parse
from ldmlab.core.errors import UserError
from ldmlab.core.suggest import did_you_mean

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def read_space(space: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The distribution of each key.

    Args:
        space: For each key or group the text that would stand behind its equals sign in a
            multirun: `a,b`, `choice(a,b)`, `range(1,5)`, `interval(0,1)`, `int(interval(1,9))`,
            each inside `tag(log, ...)` where its logarithm is what is searched evenly.

    Raises:
        UserError: A text names no set of values.
    """
    return {key: _distribution(str(key), str(text)) for key, text in space.items()}


def point(space: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """The overrides of one trial."""
    return [f"{key}={params[key]}" for key in space]


def corner(space: Mapping[str, Any]) -> list[str]:
    """The overrides of one point, to try whether the space fits a configuration.

    Raises:
        UserError: A group has not all the options that are to be tried.
    """
    found = []
    for key, distribution in read_space(space).items():
        choices = getattr(distribution, "choices", None)
        known = options().get(key, choices or ())
        for option in choices or ():
            if option not in known:
                raise UserError(f"{key} has no option '{option}'{did_you_mean(option, known)}")
        low = choices[0] if choices else distribution.low  # type: ignore[attr-defined]
        found.append(f"{key}={low}")
    return found


def _distribution(key: str, text: str) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    override = parse(f"{key}={text}")
    values = override.value()
    if not isinstance(values, ChoiceSweep | RangeSweep | IntervalSweep):
        raise UserError(
            f"sweep.space: {key}: {text} is one value: write choice(a,b), range(1,5) or "
            "interval(0,1)"
        )
    log = "log" in getattr(values, "tags", ())
    whole, real = IntDistribution, FloatDistribution
    try:
        if isinstance(values, IntervalSweep):
            low: Any = values.start
            high: Any = values.end
            kind = whole if isinstance(low, int) and isinstance(high, int) else real
            return kind(low, high, log=log)
        if isinstance(values, RangeSweep) and not log:
            steps: list[Any] = list(values.range())
            step: Any = values.step
            return (whole if isinstance(steps[0], int) else real)(steps[0], steps[-1], step=step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError, TypeError) as error:
        raise UserError(f"sweep.space: {key}: {text} cannot be searched: {error}") from error
