"""Command line of the simulations: python -m sims run | solve | verify."""

from collections.abc import Sequence

from hardset.start import start


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from sims.command_line import main as command

    return command(argv)


if __name__ == "__main__":
    start(main)
