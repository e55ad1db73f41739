"""Command line: python -m selection COMMAND."""

import argparse
import sys
from collections.abc import Sequence

from hardset.cli import Parser, run
from selection.commands import compare, coverage, experiment, knee, recommend, score, select


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(argv)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m selection",
        description="Which examples of a data set to keep: scores, methods, advice of the theory.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (score, select, recommend, compare, experiment, knee, coverage):
        command.add_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
