"""Finds which examples to keep: theory, simulation, selection, and pre-training on them."""

import sys
from collections.abc import Sequence

from hardset.start import keep_freed_memory, start

COMMANDS = {
    "verify": "hardset.commands:verify",
    "completion": "hardset.commands:completion",
}
TRAINS = "pretrain_jax"
PACKAGES = ("replica", "sims", "figures", "selection", TRAINS)


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from hardset.cli import dispatch

    if list(argv) == ["--version"]:
        from importlib.metadata import version

        print(f"hardset {version('hardset')}")
        return 0
    return dispatch("hardset", COMMANDS, argv, __doc__, PACKAGES)


def console() -> None:
    """Run the console command `hardset`."""
    if sys.argv[1:2] == [TRAINS]:
        # Before anything allocates, as the package's own entry does.
        keep_freed_memory()
    start(main)


if __name__ == "__main__":
    console()
