"""Command line of the simulations: python -m sims run | solve | verify."""

import sys
from collections.abc import Sequence

from hardset.cli import run


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    # Imported in `run`'s care, so that Ctrl-C is a sentence from the start.
    from sims.command_line import main as command

    return command(argv)


if __name__ == "__main__":
    sys.exit(run(main))
