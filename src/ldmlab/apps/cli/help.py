"""What `--help` prints."""

from __future__ import annotations

from ldmlab.apps.cli.verbs import VERBS, Source, Verb
from ldmlab.apps.config.conf_dir import options

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
    flags = " [-m] [--cfg job]" if verb.source is Source.HYDRA else ""
    return f"""\
{verb.summary}

usage: ldmlab {verb.name}{flags} [key=value ...]

examples:
{_listing(verb.examples)}

{_groups(verb)}{_FOOT}
"""


def _listing(examples: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    return "\n".join(f"  # {meaning}\n  {command}" for command, meaning in examples)


def _groups(verb: Verb) -> str:
    if verb.source is not Source.HYDRA:
        return ""
    lines = [f"  {group}={'|'.join(names)}" for group, names in options().items()]
    return "groups and their options:\n" + "\n".join(lines) + "\n\n"
