"""The command `pipeline`: from images to the report."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pretrain_jax.commands.options import Command
from pretrain_jax.pipeline.config import PIPELINES, SAM_PATCHES, PipelineConfig, pipeline_preset

if TYPE_CHECKING:
    from pretrain_jax.pipeline import PipelineResult

PROGRAM = "python -m pretrain_jax pipeline"
FAILURE = 1
NAMES = "\n".join(f"  {name}" for name in PIPELINES)
USAGE = f"""usage: {PROGRAM} PRESET [options]

presets:
{NAMES}

Every field of a preset is an option; {PROGRAM} PRESET --help lists them.
examples:
  {PROGRAM} optidel-demo --out out/optidel-demo
  {PROGRAM} optidel_reference --data images/ --downstream Kvasir-SEG/ --out runs/optidel
  {PROGRAM} optidel_reference --estimate
The cost is printed first. The same command again goes on where the pipeline was interrupted.
"""


@dataclass(frozen=True)
class Options:
    """What is not the pipeline's configuration.

    Attributes:
        estimate: print the cost and stop.
        rates: folder of another pipeline whose measured rates the cost is computed from.
        sam_patches: masks of an image that are assumed to pass SAM's filters, for the cost.
        progress: draw progress bars even without a terminal.
    """

    estimate: bool = False
    rates: str | None = None
    sam_patches: int = SAM_PATCHES
    progress: bool = False


def main(argv: Sequence[str]) -> int:
    """Run a pipeline; returns the exit code."""
    found = Command(PROGRAM, USAGE, ("preset",), pipeline_preset, Options()).parse(argv)
    if found is None:
        return 0
    _, config, options = found
    # An estimate for the reference numbers of images needs no data.
    unknown = options.estimate and not config.data
    (dataclasses.replace(config, data=".") if unknown else config).check()
    from pretrain_jax.pipeline.runner import check_pipeline, run_pipeline

    if not options.estimate:
        check_pipeline(config)  # nothing is printed where nothing can be run
    print(_cost(config, options), flush=True)
    if options.estimate:
        return 0
    result = run_pipeline(
        config,
        progress=options.progress or sys.stderr.isatty(),
        say=lambda line: print(line, flush=True),
    )
    print(_summary(result))
    return FAILURE if result.failed else 0


def _cost(config: PipelineConfig, options: Options) -> str:
    from pretrain_jax.pipeline import measured_rates
    from pretrain_jax.pipeline.cost import REFERENCE_IMAGES, cost_table
    from pretrain_jax.synthesis.source import survey

    rates = options.rates
    if rates is not None and not Path(rates).is_dir():
        raise ValueError(f"--rates {rates} is no folder of a pipeline")
    known = config.data and not config.data_is_shipped
    own = (survey(Path(config.data)).images,) if known else ()
    measured = measured_rates(rates or config.out)
    images = (*own, *REFERENCE_IMAGES)
    return cost_table(config, images, measured, sam_patches=options.sam_patches) + "\n"


def _summary(result: "PipelineResult") -> str:
    lines = ["", f"{result.folder}: {result.finished} stage(s) done"]
    lines += [f"  {stage:<24}{seconds:>10.1f} s" for stage, seconds in result.seconds.items()]
    lines.append(f"  {'total':<24}{sum(result.seconds.values()):>10.1f} s")
    lines += [f"  failed: {name}: {why}" for name, why in result.failed.items()]
    if result.report is not None:
        lines.append(f"  report: {result.report}")
    return "\n".join(lines)
