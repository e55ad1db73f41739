"""Simulates students of a finite dimension, separates your own data, and checks the theory.

The same problems as replica's are drawn at random and solved, each student with a certificate.
"""

from collections.abc import Sequence

from hardset.start import start

COMMANDS = {
    "run": "sims.commands:run",
    "solve": "sims.commands:solve",
    "verify": "sims.commands:verify",
}


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from hardset.cli import dispatch

    return dispatch("sims", COMMANDS, argv, __doc__)


if __name__ == "__main__":
    start(main)
