"""Writes the report of a run as one page for readers and one table."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hardset.checks import check_integer
from hardset.datafile import write_text_atomic
from hardset.folder import Input, Made, Manifest, Stage
from pretrain_jax.places import (
    FINETUNED,
    LEAKAGE,
    PARTS,
    PROBE,
    RECOMMENDED,
    SCORES,
    SYNTHESISED,
    Places,
    parse_result,
)
from pretrain_jax.report import charts
from pretrain_jax.report.advice import Recommend, RunAdvice, advice_of_run
from pretrain_jax.report.collect import METRICS, RunFolder, collect
from pretrain_jax.report.embedded import Picture, sheet
from pretrain_jax.report.published import SOURCE, beside, printed_miou
from pretrain_jax.report.statistics import (
    ABLATION,
    ablation,
    missing_results,
    number,
    order,
    result_scores,
    rows_of,
    settings_of,
    spread,
    test_sets,
    time_to_equal,
)
from pretrain_jax.report.toy_model import Bridge, bridge_of_run
from pretrain_jax.report.v_information import SetInformation, information_of_sets
from selection import recommend
from selection.advice.picture import picture

REPORT = Stage("report", inputs=("*",), parameters=("sample",))
PAGE, RESULTS = "index.html", "results.csv"
COLUMNS = (
    *("dataset", "objective", "head", "mode", "method", "storage_percent", "seed", "status"),
    *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    *("normdel", "storage_ratio", "finetune_steps", "finetune_seconds", "total_seconds"),
    "compile_seconds",
)
NO_PROBE = "No estimate: the stage probe is not there, or not finished."

# Stages whose pictures are shown, and what the pictures show.
PICTURED = {
    "index": "images, evenly spaced",
    "probe": "the probe",
    "proposals": "boxes on images, evenly spaced; 0 is the first choice",
    "scores": "the hardest and the easiest",
    "selections": "the first and the last picks",
    "synthesised": "images, evenly spaced in the set's order",
}
OVERLAYS = "overlays.png"


def write_report(
    run_folder: str | Path,
    out: str | Path,
    *,
    sample: int = 256,
    seed: int = 0,
    recommend: Recommend = recommend,
    report: Callable[[str], None] | None = None,
) -> Manifest:
    """Write what a run found as one page and one table.

    They are index.html and results.csv.

    Args:
        run_folder: what the pipeline wrote; it is only read.
        out: new folder, or that of the same report of the same run, which is kept.
        sample: images of each set on which V-information is evaluated.
        seed: of masks, bootstrap and folds.
        recommend: tests how much to keep, called as `selection.recommend`.
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
    return work.run(lambda work: _written(work.folder, run, sample, seed, recommend, report))


def _written(
    folder: Path,
    run: RunFolder,
    sample: int,
    seed: int,
    recommend: Recommend,
    report: Callable[[str], None] | None,
) -> Made:
    """Estimate what the report needs, and write page and table."""
    say = report if report is not None else lambda line: None
    say("V-information of the sets")
    information = _information(run, sample, seed)
    say("how much to keep, tested on the labels")
    # The same numbers as those of the ratio, where the pipeline has it.
    stage = run.findings.get(RECOMMENDED)
    folds = seed if stage is None or stage.manifest.seed is None else stage.manifest.seed
    advice = advice_of_run(run, seed=folds, recommend=recommend)
    say("coordinates of the toy model, and its error's curve")
    found = bridge_of_run(run, seed=seed)
    say("page")
    write_text_atomic(folder / RESULTS, results_csv(run))
    write_text_atomic(folder / PAGE, page(run, information, found, advice))
    missing = missing_results(run)
    return Made({"results": len(run.results), "missing": len(missing)})


def page(
    run: RunFolder,
    information: Mapping[str, SetInformation | str] | str,
    bridge: Bridge | str,
    advice: RunAdvice | str,
) -> str:
    """Render the page of a run as HTML that needs no other file.

    Args:
        run: the run.
        information: V-information of each set by name, or the sentence why it, or any, has none.
        bridge: what the theory says, or the sentence why it does not.
        advice: how much to keep, or the sentence why that was not tested.
    """
    kind = "a demonstration of the pipeline" if run.config.get("demo") else "a run of the pipeline"
    comparisons = {setting: rows_of(run, setting) for setting in settings_of(run)}
    known = information.items() if isinstance(information, Mapping) else ()
    names = sorted({name for one in run.results for name in one.baselines})
    template = environment().get_template("page.html")
    return template.render(
        title=f"Pre-training on selected data: {kind}",
        run=run,
        test_sets=test_sets(run),
        baselines={f"{name}: mIoU (%)": name for name in names},
        comparisons=comparisons,
        missing=missing_results(run),
        ablations=[(one, two) for one, rows in comparisons.items() for two in ablation(rows)],
        beside=beside(comparisons, ", not medical" if run.config.get("demo") else ""),
        information=information,
        estimates={k: v.per_value("information") for k, v in known if not isinstance(v, str)},
        bridge=bridge,
        tested=advice,
        curves=None if isinstance(advice, str) else _curves(advice),
        pictures=_pictures(run),
        **_stages(run),
    )


def _curves(tested: RunAdvice) -> Picture:
    """Draw what was measured for an advice."""
    found = tested.advice
    chosen = [one for one in found.curve if one.keep_fraction == found.keep_fraction]
    data = picture(
        "png",
        found.sentence(),
        curve=found.curve,
        tolerance=found.tolerance,
        title=f"Keep {100 * tested.ratio:.3g} % of the images" if chosen else "Keep all images",
        chosen=chosen[0] if chosen else None,
        explanation=found.explanation,
    )
    caption = "Change of the student's error against the fraction kept, with bars up to the bound."
    return Picture(charts.data_address(data, "image/png"), caption, caption)


def environment() -> Environment:
    """Make what the templates know.

    They escape every text, for names come from anywhere.
    """
    found = Environment(
        loader=PackageLoader("pretrain_jax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "label": charts.label, "degrees": math.degrees}
    found.globals |= {
        "ABLATION": ABLATION,
        "METRICS": METRICS,
        "SOURCE": SOURCE,
        "charts": charts,
        "interval": _interval,
        "nan": math.nan,
        "printed_miou": printed_miou,
        "spread": spread,
        "time_to_equal": time_to_equal,
    }
    return found


def _interval(ends: Iterable[float], digits: int = 2) -> str:
    return " to ".join(number(end, digits) for end in ends)


def _stages(run: RunFolder) -> dict[str, Any]:
    """Collect what the stages counted and cost.

    What they were made with is there too.
    """
    there = {part: run.of_stage(part).values() for part in PARTS}
    costs = [
        (
            part,
            len(found),
            math.fsum(one.manifest.seconds for one in found),
            math.fsum(one.manifest.compile_seconds for one in found),
        )
        for part, found in there.items()
        if found
    ]
    finetuned = [one.manifest.counts for one in there[FINETUNED]]
    check = run.findings.get(LEAKAGE)
    versions = (pair for one in run.findings.values() for pair in one.manifest.versions.items())
    return {
        "scores": run.of_stage(SCORES),
        "leakage": None if check is None else check.manifest.counts,
        "finetuned": finetuned,
        "checked": [counts["leaks"] for counts in finetuned if "leaks" in counts],
        "costs": costs,
        "seconds": {part: seconds for part, _, seconds, _ in costs},
        "notes": dict.fromkeys(
            f"{one.place.split('/')[0]}: {note}"
            for one in run.findings.values()
            for note in one.manifest.notes
        ),
        "versions": sorted(Counter(versions).items()),
        "configuration": json.dumps(run.config, indent=1, sort_keys=True),
    }


def _pictures(run: RunFolder) -> Iterator[Picture]:
    """Find the stages' contact sheets and predictions.

    Predictions are those of the first model of each method.
    """
    for part, what in PICTURED.items():
        for place in run.of_stage(part):
            for path in sorted((run.folder / place).glob("*.png")):
                yield sheet(path, f"{place}: {what}")
    shown: set[str] = set()
    for one in sorted(run.results, key=lambda one: (one.seed, one.place)):
        path = run.folder / one.place / OVERLAYS
        if path.is_file() and one.method not in shown:
            shown.add(one.method)
            yield sheet(path, f"{one.place}: predictions on test cases")


def results_csv(run: RunFolder) -> str:
    """Write a line for each result.

    A missing result has a line with the reason.
    """
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
            "storage_percent": one.percent,
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
    datasets = {parse_result(one.place).end: one.dataset for one in run.results}
    for lost in missing_results(run):
        *_, last = lost.cell.end.split("/")
        head, _, mode = last.partition("-")
        yield {
            "dataset": datasets.get(lost.cell.end, ""),
            "objective": lost.cell.objective,
            "head": head,
            "mode": mode,
            "method": lost.cell.method,
            "storage_percent": lost.cell.percent,
            "seed": lost.cell.seed,
            "status": lost.reason,
        }


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return str(value)


def _information(run: RunFolder, sample: int, seed: int) -> dict[str, SetInformation | str] | str:
    if PROBE not in run.findings:
        return NO_PROBE
    places = Places(run.folder)
    names = (place.removeprefix(f"{SYNTHESISED}/") for place in run.of_stage(SYNTHESISED))
    sets = {name: places.synthesised(name) for name in sorted(names, key=_order)}
    if not sets:
        return "No estimate: no set was synthesised."
    try:
        return information_of_sets(sets, places.probe, sample=sample, seed=seed)
    except ValueError as error:  # weights were taken away since
        return f"No estimate: {error}."


def _order(name: str) -> tuple[tuple[bool, float, int, str], str]:
    """Sort the names of sets.

    They are METHOD-PERCENT, or METHOD-PERCENT/seed-NUMBER where each seed has its own set.
    """
    chosen, _, draw = name.partition("/")
    method, _, percent = chosen.rpartition("-")
    return order(method, float(percent)), draw
