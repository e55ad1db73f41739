"""Starts a command: from its first import on, Ctrl-C is a sentence and no traceback."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

INTERRUPTED = 130


def start(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command line by `hardset.cli.run`, and end the process with its exit code.

    Args:
        main: takes the arguments, returns the exit code; what it needs it imports itself.
    """
    try:
        from hardset.cli import run

        code = run(main)
    except KeyboardInterrupt:  # while modules are loaded, or a second one while the first is told
        sys.stderr.write("interrupted\n")
        code = INTERRUPTED
    sys.exit(code)
