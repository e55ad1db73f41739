"""Computes the data files of figures and draws them."""

from collections.abc import Sequence

from hardset.start import start

MOVED = "benchmark-tables"


def __getattr__(name: str) -> dict[str, str]:
    """Return COMMANDS, which are known once NumPy is imported."""
    if name != "COMMANDS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from figures.commands import COMMANDS

    return COMMANDS


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    # Imported here and not above, so that Ctrl-C is a sentence from the start.
    from figures.commands import COMMANDS, check_options
    from hardset.cli import dispatch

    if argv and argv[0] == MOVED:
        raise ValueError(f"{MOVED} is a command of pretrain_jax: python -m pretrain_jax {MOVED}")
    check_options(argv)
    return dispatch("figures", COMMANDS, ["list"] if list(argv) == ["--list"] else argv, __doc__)


if __name__ == "__main__":
    start(main)
