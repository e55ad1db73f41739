"""The command `pretrain`: a model from scratch on one data set."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pretrain_jax.commands.options import Command
from pretrain_jax.pipeline.config import Protocol
from pretrain_jax.train.config import preset

PROGRAM = "python -m pretrain_jax pretrain"
USAGE = f"""usage: {PROGRAM} DATA PRESET [options]

DATA is a folder of stage synthesise, or any source of images; PRESET a run of
`python -m pretrain_jax run`, every field of which is an option; --out is the stage's folder.
examples:
  {PROGRAM} out/synthesised/optidel-10 mae_vit_base_reference \\
    --out out/pretrained/mae/optidel-10/seed-0
  {PROGRAM} chosen.txt mae_vit_base_reference --full-images 88282 --out out/chosen
  {PROGRAM} out/synthesised/optidel-10 simclr_vit_base --protocol paper --out out/simclr
"""


@dataclass(frozen=True)
class Options:
    """What is not the run's configuration.

    Attributes:
        protocol: "matched" gives the optimiser steps of the full set, "paper" the epochs.
        full_images: number of images of the full set, for "matched" with --epochs; a folder of
            stage synthesise knows it.
        probe: folder of stage probe, whose mean and standard deviation are taken.
        progress: draw the progress bar even without a terminal.
    """

    protocol: Protocol = "matched"
    full_images: int | None = None
    probe: str | None = None
    progress: bool = False


def main(argv: Sequence[str]) -> int:
    """Pre-train; returns the exit code."""
    found = Command(PROGRAM, USAGE, ("data", "preset"), preset, Options()).parse(argv)
    if found is None:
        return 0
    (data,), config, options = found
    dataclasses.replace(config, data=dataclasses.replace(config.data, path=data)).check()
    from pretrain_jax.pipeline import pretrain

    counts = pretrain(
        data,
        config.out,
        config=config,
        seed=config.seed,
        protocol=options.protocol,
        full_images=options.full_images,
        probe=options.probe,
        progress=options.progress or sys.stderr.isatty(),
    ).counts
    print(
        f"{config.out}: {counts['steps']} steps on {counts['images']} images, loss "
        f"{counts['loss']:.4f}, validation loss {counts['validation_loss']:.4f}"
    )
    return 0
