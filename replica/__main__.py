"""Command line: python -m replica COMMAND."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hardset.start import start

if TYPE_CHECKING:
    import argparse


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code (1 if an answer is missing or uncertified)."""
    options = _parser().parse_args(argv)
    code: int = options.run(options)
    return code


def _parser() -> "argparse.ArgumentParser":
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from hardset.cli import Parser
    from replica import _command_frontier, _command_lossless, _command_optimal, _command_solve

    parser = Parser(
        prog="python -m replica",
        description="Exact fitting error of a max-margin student trained on selected data.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (_command_solve, _command_optimal, _command_frontier, _command_lossless):
        command.add_command(commands)
    return parser


if __name__ == "__main__":
    start(main)
