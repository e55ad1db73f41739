"""Defines the commands on whole runs.

They are `pipeline`, `report`, and that of the paper's tables.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from hardset.checks import check_integer
from hardset.cli import Json, Option, Preset, Progress, check_output_folder, wanted
from pretrain_jax.data.options import Pages, set_reading
from pretrain_jax.pipeline.config import PIPELINES, SAM_PATCHES, PipelineConfig

if TYPE_CHECKING:
    from pretrain_jax.pipeline import PipelineResult

FAILURE = 1


def pipeline(
    config: Annotated[PipelineConfig, Preset(PIPELINES)],
    *,
    estimate: bool = False,
    rates: Path | None = None,
    sam_patches: int = SAM_PATCHES,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    progress: Progress = False,
) -> int:
    """Run all stages of one configuration.

    The same command again goes on where it stopped.

    The cost is printed first. The exit code is 1 where a run failed and the others went on.

    Args:
        config: the pipeline.
        estimate: print the cost and stop.
        rates: folder of another pipeline whose measured rates the cost is computed from.
        sam_patches: masks of an image that are assumed to pass SAM's filters, for the cost.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.

    Examples:
        python -m pretrain_jax pipeline optidel-demo --out out/optidel-demo
        python -m pretrain_jax pipeline optidel_reference --data images/ \\
          --downstream Kvasir-SEG/ --out runs/optidel
        python -m pretrain_jax pipeline optidel_reference --estimate
    """
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    # An estimate for the reference numbers of images needs no data.
    unknown = estimate and not config.data
    (dataclasses.replace(config, data=".") if unknown else config).check()
    if rates is not None and not rates.is_dir():
        raise ValueError(f"--rates {rates} is no folder of a pipeline")
    from pretrain_jax.pipeline.runner import check_pipeline, run_pipeline

    if not estimate:
        check_pipeline(config)  # nothing is printed where nothing can be run
    print(_cost(config, rates, sam_patches), flush=True)
    if estimate:
        return 0
    result = run_pipeline(
        config,
        progress=wanted(progress),
        say=lambda line: print(line, flush=True),
    )
    print(_summary(result))
    return FAILURE if result.failed else 0


def _cost(config: PipelineConfig, rates: Path | None, sam_patches: int) -> str:
    from pretrain_jax.pipeline import measured_rates
    from pretrain_jax.pipeline.cost import REFERENCE_IMAGES, cost_table
    from pretrain_jax.synthesis.source import survey

    known = config.data and not config.data_is_shipped
    own = (survey(Path(config.data)).images,) if known else ()
    measured = measured_rates(rates or config.out)
    return cost_table(config, (*own, *REFERENCE_IMAGES), measured, sam_patches=sam_patches) + "\n"


def _summary(result: "PipelineResult") -> str:
    lines = ["", f"{result.folder}: {result.finished} stage(s) done"]
    lines += [f"  {stage:<24}{seconds:>10.1f} s" for stage, seconds in result.seconds.items()]
    lines.append(f"  {'total':<24}{sum(result.seconds.values()):>10.1f} s")
    lines += [f"  failed: {name}: {why}" for name, why in result.failed.items()]
    if result.report is not None:
        lines.append(f"  report: {result.report}")
    return "\n".join(lines)


def report(run: Path, *, out: Path | None = None, sample: int = 256, seed: int = 0) -> int:
    """Write one page and one table of everything that a pipeline found.

    The page, index.html, needs no other file; results.csv has a line for each fine-tuned model. A
    report of the same run is kept as it is; of a run that went on since, name another --out.

    Args:
        run: folder that the command pipeline wrote.
        out: folder of the report, default RUN/report.
        sample: images of each set on which V-information is evaluated.
        seed: of masks and bootstrap.

    Examples:
        python -m pretrain_jax report runs/optidel
        python -m pretrain_jax report runs/optidel --out report-2 --sample 64
    """
    check_integer("--sample", sample, 2, 1 << 20)
    check_integer("--seed", seed, 0, 2**32 - 1)
    from pretrain_jax.report.page import PAGE, write_report

    folder = run / "report" if out is None else out
    manifest = write_report(
        run, folder, sample=sample, seed=seed, report=lambda line: print(line, file=sys.stderr)
    )
    missing = manifest.counts["missing"]
    print(f"{folder / PAGE}: {manifest.counts['results']} results, {missing} missing")
    return 0


def benchmark_tables(
    *,
    out: Annotated[Path, Option(metavar="FOLDER")],
    runs: Annotated[Path | None, Option(metavar="FILE")] = None,
    formats: Annotated[tuple[Literal["png", "pdf", "svg"], ...], Option("format")] = ("png", "pdf"),
    as_json: Json = False,
) -> int:
    """Draw the OptiDEL paper's Tables 1-2 and Figure 6 beside own runs.

    The numbers go to benchmark-tables.nc, which is kept as it is if it holds the same runs and is
    never overwritten by others.

    Args:
        out: folder of the data file and the pictures.
        runs: CSV or JSON of own runs: dataset, method, storage_percent, seed and miou of each.
        formats: of the pictures.

    Examples:
        python -m pretrain_jax benchmark-tables --out out/tables
        python -m pretrain_jax benchmark-tables --runs runs.csv --format svg --out out/own
    """
    from pretrain_jax.report.runs import read_runs

    own = () if runs is None else read_runs(runs)
    folder = check_output_folder(out)
    from pretrain_jax.report.benchmark_tables import write_tables

    (data, *pictures), caption = write_tables(own, folder, formats)
    if as_json:
        report = {"data": str(data), "pictures": [str(p) for p in pictures], "caption": caption}
        print(json.dumps(report, indent=1))
    else:
        lines = [f"data      {data}", *(f"picture   {path}" for path in pictures)]
        print("\n".join([*lines, f"caption   {caption}"]))
    return 0
