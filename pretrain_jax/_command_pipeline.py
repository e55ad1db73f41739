"""The command `pipeline`: from images to the report."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain_jax._options import parse_options
from pretrain_jax.pipeline import (
    PIPELINES,
    PipelineConfig,
    PipelineResult,
    measured_rates,
    pipeline_preset,
    run_pipeline,
)
from pretrain_jax.pipeline.cost import REFERENCE_IMAGES, cost_table
from pretrain_jax.synthesis.source import survey

PROGRAM = "python -m pretrain_jax pipeline"
FAILURE = 1
USAGE = f"""usage: {PROGRAM} PRESET [options]

presets:
{{presets}}

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
        progress: draw progress bars even without a terminal.
    """

    estimate: bool = False
    rates: str | None = None
    progress: bool = False


def main(argv: Sequence[str]) -> int:
    """Run a pipeline; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE.format(presets="\n".join(f"  {name}" for name in PIPELINES)))
        return 0
    name = argv[0]
    if name.startswith("-"):
        raise ValueError(f"the preset must come first: {PROGRAM} PRESET (see --help)")
    found = parse_options(
        pipeline_preset(name),
        Options(),
        argv[1:],
        program=f"{PROGRAM} {name}",
        description=f"Run the pipeline {name}; its values are the defaults.",
    )
    if found is None:
        return 0
    config, options = found
    # An estimate for the reference numbers of images needs no data.
    unknown = options.estimate and not config.data
    (dataclasses.replace(config, data=".") if unknown else config).check()
    print(_cost(config, options.rates), flush=True)
    if options.estimate:
        return 0
    result = run_pipeline(
        config,
        progress=options.progress or sys.stderr.isatty(),
        say=lambda line: print(line, flush=True),
    )
    print(_summary(result))
    return FAILURE if result.failed else 0


def _cost(config: PipelineConfig, rates: str | None) -> str:
    if rates is not None and not Path(rates).is_dir():
        raise ValueError(f"--rates {rates} is no folder of a pipeline")
    known = config.data and not config.data_is_shipped
    own = (survey(Path(config.data)).images,) if known else ()
    measured = measured_rates(rates or config.out)
    return cost_table(config, (*own, *REFERENCE_IMAGES), measured) + "\n"


def _summary(result: PipelineResult) -> str:
    lines = ["", f"{result.folder}: {result.finished} stage(s) done"]
    lines += [f"  {stage:<24}{seconds:>10.1f} s" for stage, seconds in result.seconds.items()]
    lines.append(f"  {'total':<24}{sum(result.seconds.values()):>10.1f} s")
    lines += [f"  failed: {name}: {why}" for name, why in result.failed.items()]
    if result.report is not None:
        lines.append(f"  report: {result.report}")
    return "\n".join(lines)
