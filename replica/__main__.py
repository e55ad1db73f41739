"""Computes the exact fitting error of a max-margin student trained on selected data.

Many examples of a high-dimensional teacher are ranked by a probe and selected by a policy; replica
computes the student's error in the limit of infinite dimension, and the best way to select.
"""

from collections.abc import Sequence

from hardset.start import start

COMMANDS = {
    "solve": "replica.commands:solve",
    "optimal": "replica.commands:optimal",
    "optimal-lam": "replica.commands:optimal_lam",
    "frontier": "replica.commands:frontier",
    "lossless": "replica.commands:lossless",
    "separability": "replica.commands:separability",
}


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit code.

    The code is 1 if an answer is missing or uncertified.
    """
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from hardset.cli import dispatch

    return dispatch("replica", COMMANDS, argv, __doc__)


if __name__ == "__main__":
    start(main)
