"""The command `probe`: the masked autoencoder that margins are measured with."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pretrain_jax.commands.options import Command
from pretrain_jax.train.config import preset

PROGRAM = "python -m pretrain_jax probe"
USAGE = f"""usage: {PROGRAM} INDEX PRESET [options]

INDEX is a folder of stage index, PRESET a run of `python -m pretrain_jax run`, every field of
which is an option; --out is the stage's folder.
examples:
  {PROGRAM} out/index mae_vit_tiny_cpu --steps 500 --out out/probe
  {PROGRAM} out/index mae_vit_base_reference --checkpoint mae_pretrain_vit_base.pth --out out/probe
"""


@dataclass(frozen=True)
class Options:
    """What is not the run's configuration.

    Attributes:
        checkpoint: a run's folder or a checkpoint file; without it a probe is trained.
        halves: train two more on disjoint halves of the images.
        progress: draw the progress bar even without a terminal.
    """

    checkpoint: str | None = None
    halves: bool = False
    progress: bool = False


def main(argv: Sequence[str]) -> int:
    """Make a probe; returns the exit code."""
    found = Command(PROGRAM, USAGE, ("index", "preset"), preset, Options()).parse(argv)
    if found is None:
        return 0
    (index,), config, options = found
    dataclasses.replace(config, data=dataclasses.replace(config.data, path=index)).check()
    from pretrain_jax.pipeline import probe

    manifest = probe(
        index,
        config.out,
        config=config,
        checkpoint=options.checkpoint,
        halves=options.halves,
        seed=config.seed,
        progress=options.progress or sys.stderr.isatty(),
    )
    print(f"{config.out}: probe of {manifest.counts['images']} images")
    if "steps" in manifest.counts:
        print(f"  {manifest.counts['steps']} steps, loss {manifest.counts['loss']:.4f}")
    print("".join(f"  {note}\n" for note in manifest.notes), end="")
    return 0
