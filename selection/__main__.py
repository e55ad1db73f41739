"""Command line: python -m selection COMMAND."""

import argparse
import sys
from collections.abc import Sequence

from hardset.cli import Parser, run
from selection.commands import compare, coverage, experiment, knee, recommend, score, select


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(argv)
    code: int = options.run(options)
    return code


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = Parser(
        prog="python -m selection",
        description="Which examples of a data set to keep: scores, methods, advice of the theory.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    for command in (score, select, recommend, compare, experiment, knee, coverage):
        command.add_command(commands)
    return top


if __name__ == "__main__":
    sys.exit(run(main))
