"""The page and the table of a run, written once."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hardset.checks import check_integer
from hardset.datafile import write_text_atomic
from hardset.folder import Input, Made, Manifest, Stage
from pretrain_jax.report.charts import document
from pretrain_jax.report.collect import METRICS, RunFolder, collect
from pretrain_jax.report.section_background import (
    in_information,
    in_theory,
    provenance,
    published,
    stages,
)
from pretrain_jax.report.section_results import ablations, headline, results, title
from pretrain_jax.report.statistics import Cell, missing_results, order, result_scores
from pretrain_jax.report.toy_model import Bridge, bridge_of_run
from pretrain_jax.report.v_information import SetInformation, information_of_sets

REPORT = Stage("report", inputs=("*",))
PAGE, RESULTS = "index.html", "results.csv"
COLUMNS = (
    *("dataset", "objective", "head", "mode", "method", "percent", "seed", "status"),
    *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    *("normdel", "storage_ratio", "finetune_steps", "finetune_seconds", "total_seconds"),
    "compile_seconds",
)
SECTIONS = {
    "results": "Results",
    "ablation": "Ablation",
    "published": "Published",
    "information": "V-information",
    "theory": "Toy model",
    "stages": "Stages",
    "provenance": "Provenance",
}
SYNTHESISED = "synthesised/"
NO_PROBE = "No estimate: the stage probe is not there, or not finished."


def write_report(
    run_folder: str | Path,
    out: str | Path,
    *,
    sample: int = 256,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> Manifest:
    """Write what a run found as one page, index.html, and one table, results.csv.

    Args:
        run_folder: what the pipeline wrote; it is only read.
        out: new folder, or that of the same report of the same run, which is kept.
        sample: images of each set on which V-information is evaluated.
        seed: of masks and bootstrap.
        report: called with a line about each part before its work.

    Returns:
        The report's manifest.

    Raises:
        ValueError: no run in `run_folder`, a damaged file or one of another version, another
            report in `out`.
        OSError: `out` cannot be written.
    """
    check_integer("sample", sample, 2, 1 << 20)
    check_integer("seed", seed, 0, 2**32 - 1)
    run = collect(run_folder)
    inputs = {name: Input(sha256) for name, sha256 in run.inputs.items()}
    work = REPORT.open(out, {"sample": sample}, seed, inputs | {"run": Input(None, run.folder)})
    return work.run(lambda work: _written(work.folder, run, sample, seed, report))


def _written(
    folder: Path,
    run: RunFolder,
    sample: int,
    seed: int,
    report: Callable[[str], None] | None,
) -> Made:
    """Estimate, write page and table."""
    say = report if report is not None else lambda line: None
    say("V-information of the sets")
    information = _information(run, sample, seed)
    say("coordinates of the toy model, and its error's curve")
    found = bridge_of_run(run, seed=seed)
    say("page")
    write_text_atomic(folder / RESULTS, results_csv(run))
    write_text_atomic(folder / PAGE, page(run, information, found))
    missing = missing_results(run)
    return Made({"results": len(run.results), "missing": len(missing)})


def page(
    run: RunFolder, information: Mapping[str, SetInformation | str] | str, bridge: Bridge | str
) -> str:
    """The page of a run as HTML that needs no other file.

    Args:
        run: the run.
        information: V-information of each set by name, or the sentence why it, or any, has none.
        bridge: what the theory says, or the sentence why it does not.
    """
    return document(
        title(run),
        SECTIONS,
        [
            headline(run),
            results(run),
            ablations(run),
            published(run),
            in_information(information),
            in_theory(run, bridge),
            stages(run),
            provenance(run),
        ],
    )


def results_csv(run: RunFolder) -> str:
    """A line for each result, and for each that is missing with the reason as its status."""
    text = io.StringIO()
    lines = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    lines.writeheader()
    for line in _lines(run):
        lines.writerow({name: _cell(value) for name, value in line.items()})
    return text.getvalue()


def _lines(run: RunFolder) -> Iterator[dict[str, str | int | float]]:
    for one in sorted(run.results, key=lambda one: one.place):
        yield {
            "dataset": one.dataset,
            "objective": one.objective,
            "head": one.head,
            "mode": one.mode,
            "method": one.method,
            "percent": one.percent,
            "seed": one.seed,
            "status": "finished",
            **{name: one.metrics[name] for name in METRICS},
            **{f"{name}_low": one.intervals[name][0] for name in METRICS},
            **{f"{name}_high": one.intervals[name][1] for name in METRICS},
            "normdel": result_scores(one)["normdel"],
            "storage_ratio": one.storage_ratio,
            "finetune_steps": one.steps,
            "finetune_seconds": one.seconds,
            "total_seconds": run.seconds(one.place),
            "compile_seconds": run.compile_seconds(one.place),
        }
    datasets = {Cell.of_place(one.place).end: one.dataset for one in run.results}
    for lost in missing_results(run):
        *_, last = lost.cell.end.split("/")
        head, _, mode = last.partition("-")
        yield {
            "dataset": datasets.get(lost.cell.end, ""),
            "objective": lost.cell.objective,
            "head": head,
            "mode": mode,
            "method": lost.cell.method,
            "percent": lost.cell.percent,
            "seed": lost.cell.seed,
            "status": lost.reason,
        }


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return str(value)


def _information(run: RunFolder, sample: int, seed: int) -> dict[str, SetInformation | str] | str:
    names = (place.removeprefix(SYNTHESISED) for place in run.of_stage(SYNTHESISED[:-1]))
    sets = {name: run.folder / f"{SYNTHESISED}{name}" for name in sorted(names, key=_order)}
    if "probe" not in run.findings:
        return NO_PROBE
    if not sets:
        return "No estimate: no set was synthesised."
    try:
        return information_of_sets(sets, run.folder / "probe", sample=sample, seed=seed)
    except ValueError as error:  # weights were taken away since
        return f"No estimate: {error}."


def _order(name: str) -> tuple[tuple[bool, float, int, str], str]:
    """Of METHOD-PERCENT, or METHOD-PERCENT/seed-NUMBER where each seed has a set of its own."""
    chosen, _, draw = name.partition("/")
    method, _, percent = chosen.rpartition("-")
    return order(method, float(percent)), draw
