"""Command line: train a model, look at its reconstructions."""

import importlib
import sys
from collections.abc import Sequence

from pretrain_jax.train.memory import keep_freed_memory
from theory.command_line import run

COMMANDS = {
    "run": "train a preset; the same command again goes on after an interruption",
    "reconstruct": "mask images and show what a trained masked autoencoder makes of them",
}
USAGE = "usage: python -m pretrain_jax COMMAND ... (COMMAND --help for its options)"


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        print("\n".join(f"  {name:<14}{about}" for name, about in COMMANDS.items()))
        return 0
    if argv[0] not in COMMANDS:
        raise ValueError(
            f"command {argv[0]!r} is not one of {', '.join(COMMANDS)} "
            "(see python -m pretrain_jax --help)"
        )
    command = importlib.import_module(f"pretrain_jax._command_{argv[0]}")
    code: int = command.main(argv[1:])
    return code


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run(main))
