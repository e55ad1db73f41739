"""Selects the examples of a data set to keep, and says how many."""

from collections.abc import Sequence

from hardset.start import start

COMMANDS = {
    "score": "selection.commands.scores:score",
    "select": "selection.commands.subsets:select",
    "recommend": "selection.commands.advice:recommend",
    "compare": "selection.commands.subsets:compare",
    "experiment": "selection.commands.experiments:experiment",
    "knee": "selection.commands.advice:knee",
    "coverage": "selection.commands.experiments:coverage",
}


def main(argv: Sequence[str]) -> int:
    """Run the command line, and return the exit code."""
    # This is imported here and not above, so that Ctrl-C ends in a sentence from the start.
    from hardset.cli import dispatch

    return dispatch("selection", COMMANDS, argv, __doc__)


if __name__ == "__main__":
    start(main)
