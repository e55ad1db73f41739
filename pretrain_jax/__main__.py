"""Command line: train a model, look at its reconstructions, or go from images to a report."""

import importlib
from collections.abc import Sequence

from hardset.start import start
from pretrain_jax.train.memory import keep_freed_memory

COMMANDS = {
    "run": "train a preset; the same command again goes on after an interruption",
    "reconstruct": "mask images and show what a trained masked autoencoder makes of them",
    "probe": "the masked autoencoder that hardness is measured with: yours, or trained here",
    "propose": "boxes of patches in every image: salient objects, random crops or SAM's masks",
    "score": "how hard patches or images are for the probe",
    "select": "which patches or images are kept at a share of the storage",
    "synthesise": "images made of the selected patches, hardest first",
    "pretrain": "a model from scratch on one data set, for equal steps or epochs",
    "finetune": "segmentation with a pre-trained model, and its scores on the test images",
    "report": "one page and a table of everything that a pipeline found",
    "pipeline": "all of these from one configuration; the same command again goes on",
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
    module = {"run": "train", "propose": "stages"}.get(argv[0], argv[0])
    command = importlib.import_module(f"pretrain_jax.commands.{module}")
    code: int = command.main(argv[1:])
    return code


if __name__ == "__main__":
    keep_freed_memory()
    start(main)
