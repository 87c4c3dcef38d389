"""The text that `--help` prints for each verb."""

from __future__ import annotations

from ldmlab.apps.cli.verbs import VERBS, Verb
from ldmlab.apps.config.conf_dir import EXCHANGEABLE, options, own_keys

_WIDEST = 44
# Verbs of no experiment.
_ALONE = ("verify", "convert")

_FOOT = """\
Exit codes: 0 success, 1 internal failure, 2 a mistake of yours, told in one line
(traceback=true shows its traceback), 130 interrupted."""


def overview() -> str:
    """The text of `ldmlab --help`."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values())
    return f"""\
Train your own autoencoder and your own latent diffusion model.

usage: ldmlab <verb> [key=value ...]

{verbs}

`ldmlab <verb> --help` shows examples.

examples:
{_listing([verb.examples[0] for verb in VERBS.values()])}

{_FOOT}
"""


def manual(verb: Verb) -> str:
    """The text of `ldmlab <verb> --help`."""
    return f"""\
{verb.summary}

usage: ldmlab {verb.name} [-m] [--cfg job] [--config-dir <folder>] [key=value ...]

examples:
{_listing(verb.examples)}

{_keys(verb)}{_groups(verb)}{_FOOT}
"""


def _keys(verb: Verb) -> str:
    """The verb's own keys with their defaults, each explained by its line in conf/."""
    rows = [(f"{key}={value}", comment) for key, value, comment in own_keys(verb.config)]
    width = max((len(key) for key, _ in rows if len(key) <= _WIDEST), default=0)
    lines = [f"  {key:<{width}}  {comment}".rstrip() for key, comment in rows]
    return "its keys:\n" + "\n".join(lines) + "\n\n" if rows else ""


def _listing(examples: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    return "\n".join(f"  # {meaning}\n  {command}" for command, meaning in examples)


def _groups(verb: Verb) -> str:
    """The groups that it may exchange."""
    groups = options()
    names = EXCHANGEABLE if verb.keeps_model else [] if verb.name in _ALONE else groups
    lines = [f"  {group}={'|'.join(groups[group])}" for group in names]
    return "groups and their options:\n" + "\n".join(lines) + "\n\n" if lines else ""
