"""The composition that a verb's arguments request: on conf/, or on a run's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ldmlab.apps.cli.verbs import Verb
from ldmlab.apps.config.compose import Request, request
from ldmlab.apps.config.conf_dir import conf_dir, own_keys
from ldmlab.apps.config.overrides import key_of, parse, text_of
from ldmlab.apps.config.run_base import check_changeable, load_config
from ldmlab.apps.runs.find import find_run
from ldmlab.core.errors import UserError


def request_of(verb: Verb, arguments: Sequence[str]) -> Request:
    """Prepare the composition of a verb.

    Args:
        verb: The verb.
        arguments: Its overrides as typed.

    Raises:
        UserError: An argument is refused, or the run or file to compose on cannot be read.
    """
    extra: dict[str, Any] = {}
    if verb.name == "sweep":
        arguments, extra = _space(arguments)
    named = None if verb.base is None else text_of(verb.base, arguments)
    if named is None:
        if verb.base == "run":
            return _without_run(verb, arguments)
        return request(arguments, verb.config, extra=extra)
    file = find_run(named).config if verb.base == "run" else Path(named)
    base = load_config(file, _trusted(arguments))
    if verb.keeps_model:
        check_changeable(arguments, [key for key, _, _ in own_keys(verb.name)], base)
    if verb.base == "run":
        return request(arguments, verb.config, base, extra)
    # The verb's own keys, where the file is not of this verb already.
    own = yaml.safe_load((conf_dir() / f"{verb.config}.yaml").read_text("utf-8"))
    more = {key: value for key, value in own.items() if key not in (*base, "defaults")}
    return request(arguments, base=base, extra=more | extra)


def _without_run(verb: Verb, arguments: Sequence[str]) -> Request:
    """The composition of a verb on a data set's configuration, or on none that matters.

    Raises:
        UserError: The verb needs a run, or a data set that was not named.
    """
    typed = {key_of(argument) for argument in arguments}
    if not typed & set(verb.alone):
        others = "".join(f", or {key}=" for key in verb.alone)
        raise UserError(
            f"run is mandatory: ldmlab {verb.name} run=<run folder or checkpoint>{others}"
        )
    named = bool(typed & {"data", "experiment"})
    if "train_judge" in typed and not named and text_of("train_judge", arguments) != "false":
        raise UserError("train_judge=true needs the images to learn: data=<name>, or run=R")
    split = text_of("reference", arguments) in ("train", "validation")
    if split and not named:
        raise UserError("a reference of train or validation is a data set's: add data=<name>")
    # The quickstart's data are no reference for anyone's images, and its judge is none.
    extra: dict[str, Any] = {} if named else {"networks": {"judge": None}}
    if not named and "reference" not in typed:
        extra["reference"] = None
    return request(arguments, verb.config, extra=extra, beside="config")


def _trusted(arguments: Sequence[str]) -> list[str]:
    given = [argument for argument in arguments if key_of(argument) == "trust"]
    value: Any = parse(given[-1]).value() if given else []
    return [str(name) for name in (value if isinstance(value, list) else [value])]


def _space(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The overrides of a search: those with several values are what is tried."""
    several = {argument for argument in arguments if parse(argument).is_sweep_override()}
    if not several:
        return list(arguments), {}
    space = {key_of(a): a.partition("=")[2] for a in arguments if a in several}
    return [a for a in arguments if a not in several], {"sweep": {"space": space}}
