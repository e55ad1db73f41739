"""Command line: python -m selection COMMAND."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hardset.start import start

if TYPE_CHECKING:
    import argparse


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(argv)
    code: int = options.run(options)
    return code


def parser() -> "argparse.ArgumentParser":
    """The parser of all commands."""
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from hardset.cli import Parser
    from selection.commands import compare, coverage, experiment, knee, recommend, score, select

    top = Parser(
        prog="python -m selection",
        description="Which examples of a data set to keep: scores, methods, advice of the theory.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    for command in (score, select, recommend, compare, experiment, knee, coverage):
        command.add_command(commands)
    return top


if __name__ == "__main__":
    start(main)
