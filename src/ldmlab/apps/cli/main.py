"""The command line: `ldmlab <verb> [key=value ...]`."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from ldmlab.core.errors import UserError
from ldmlab.core.threads import settle_threads

_PACKAGE = Path(__file__).parents[2]
_as_python_has_it = warnings.formatwarning


def main(argv: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Raises:
        SystemExit: With 1 after an internal failure, 2 after a mistake of the user, 130 after
            an interrupt, or with the verb's own code. Success returns.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    warnings.formatwarning = _format_warning
    settle_threads(os.environ)
    try:
        code = _dispatch(arguments)
    except UserError as error:
        if "traceback=true" in arguments:
            traceback.print_exc()
        _say(" ".join(str(error).split()))
        code = 2
    except KeyboardInterrupt:
        _say("interrupted")
        code = 130
    except Exception as error:
        traceback.print_exc()
        _say(f"internal failure ({type(error).__name__}); the traceback above shows where")
        code = 1
    if code:
        raise SystemExit(code)


def _dispatch(arguments: list[str]) -> int:
    # Imports wait here: help and the refusal of a verb must not pay for Hydra or torch.
    from ldmlab.apps.cli.help import manual, overview
    from ldmlab.apps.cli.verbs import VERBS

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"ldmlab {version('ldmlab')}")
        return 0
    name, *rest = arguments
    if name not in VERBS:
        import difflib

        close = difflib.get_close_matches(name, VERBS, 1)
        hint = f"did you mean {close[0]}?" if close else f"verbs: {', '.join(VERBS)}"
        raise UserError(f"there is no verb '{name}'; {hint}")
    verb = VERBS[name]
    if "-h" in rest or "--help" in rest:
        print(manual(verb), end="")
        return 0
    from ldmlab.apps.cli.hydra_main import run

    return run(verb, rest)


def _say(message: str) -> None:
    print(f"ldmlab: error: {message}", file=sys.stderr)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Our own warnings speak to the user, in one line; those of others name their source."""
    if issubclass(category, UserWarning) and Path(filename).is_relative_to(_PACKAGE):
        return f"ldmlab: warning: {message}\n"
    return _as_python_has_it(message, category, filename, lineno, line)


if __name__ == "__main__":
    main()
