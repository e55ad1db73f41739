"""The command `run`: train a preset, every field of which is an option."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pretrain_jax.commands.options import Command
from pretrain_jax.train.config import PRESETS, preset

if TYPE_CHECKING:
    from pretrain_jax.train import TrainResult

PROGRAM = "python -m pretrain_jax run"
NAMES = "\n".join(f"  {name}" for name in PRESETS)
USAGE = f"""usage: {PROGRAM} PRESET [options]

presets:
{NAMES}

Every field of a preset is an option; {PROGRAM} PRESET --help lists them.
examples:
  {PROGRAM} demo --out runs/demo
  {PROGRAM} mae_vit_tiny_cpu --data.path images/ --steps 500 --out runs/tiny
  {PROGRAM} mae_vit_base_reference --data.path images/ --data.workers 8 --progress
The same command again goes on where the run was interrupted.
"""


@dataclass(frozen=True)
class Options:
    """What is not the run's configuration.

    Attributes:
        progress: draw the progress bar even without a terminal.
        json: print the result as JSON.
    """

    progress: bool = False
    json: bool = False


def main(argv: Sequence[str]) -> int:
    """Train; returns the exit code."""
    found = Command(PROGRAM, USAGE, ("preset",), preset, Options()).parse(argv)
    if found is None:
        return 0
    _, config, options = found
    config.check()  # before seconds of imports
    from pretrain_jax.train import train

    result = train(config, progress=options.progress or sys.stderr.isatty())
    print(json.dumps(_record(result), indent=1) if options.json else _report(result))
    return 0


def _record(result: "TrainResult") -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "loss": result.losses[-1] if result.losses else None,
        "validation": [{"step": step, "loss": loss} for step, loss in result.validation],
        "probes": result.probes,
        "skipped": result.skipped,
        "picture": None if result.picture is None else str(result.picture),
    }


def _report(result: "TrainResult") -> str:
    if not result.validation:
        return f"{result.folder}: all {result.steps} steps were done before"
    lines = [f"{result.folder}: {result.steps} steps done"]
    lines += [
        f"  validation loss at step {step:>7}  {loss:.4f}" for step, loss in result.validation
    ]
    lines += [
        f"  {name.replace('_', ' ')} accuracy  {value:.4f}" for name, value in result.probes.items()
    ]
    if result.picture is not None:
        lines.append(f"  reconstructions  {result.picture}")
    if result.skipped:
        lines.append(f"  {len(result.skipped)} unreadable image(s) skipped, see skipped.txt")
    return "\n".join(lines)
