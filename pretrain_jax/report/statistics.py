"""Summarises results over seeds.

It computes means, spreads, paired differences, costs and the two-by-two ablation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy.special import stdtrit

from pretrain_jax.places import ResultPlace, parse_result
from pretrain_jax.report.collect import METRICS, Finding, Result, RunFolder
from pretrain_jax.segmentation.metrics import interval_note, normdel

ALL_DATA, BASELINE = "all", "random"
NONE = "\N{EN DASH}"
SCORES = (*METRICS, "normdel")
# Tables and legends list methods in this order; all data come last.
ORDER = (BASELINE, "meddel", "infomax", "optidel-s", "optidel", "hard-images", "random-patches")
# Methods that differ only in how they select and synthesise, by (select, synthesise).
ABLATION = {
    ("random", "whole images"): "random",
    ("hard", "whole images"): "hard-images",
    ("random", "stitched patches"): "random-patches",
    ("hard", "stitched patches"): "optidel",
}


def number(value: float, digits: int = 2, otherwise: str = NONE) -> str:
    """Print a number with a fixed number of decimals.

    `otherwise` is printed where there is none.
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else otherwise


def spread(value: float, deviation: float, digits: int = 2, *, sign: bool = False) -> str:
    """Print a number with its spread.

    The spread follows a plus-minus sign, where it is known.
    """
    if not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return f"{text} ± {deviation:.{digits}f}" if math.isfinite(deviation) else text


@dataclass(frozen=True)
class Mean:
    """Holds a mean over seeds.

    Attributes:
        value: NaN without any.
        sd: standard deviation with the divisor count - 1; NaN for fewer than two.
        count: number of seeds.
    """

    value: float
    sd: float
    count: int

    def text(self, scale: float = 100.0, digits: int = 2) -> str:
        """Print the mean and the standard deviation.

        They are in percent by default.
        """
        return spread(scale * self.value, scale * self.sd, digits)


@dataclass(frozen=True)
class Difference:
    """Holds the mean difference between two methods at equal seeds.

    Attributes:
        value: NaN without a common seed.
        stderr: standard deviation of the differences over the root of their number; NaN for fewer
            than two.
        pairs: common seeds.
    """

    value: float
    stderr: float
    pairs: int

    @property
    def reach(self) -> float:
        """Return the reach of Student's 95 % interval in standard errors.

        It is that to one side. It is NaN for one pair.
        """
        return float(stdtrit(self.pairs - 1, 0.975)) if self.pairs > 1 else math.nan

    @property
    def is_resolved(self) -> bool:
        """Say whether zero is outside the 95 % interval of Student's t."""
        return abs(self.value) > self.reach * self.stderr

    def text(self, scale: float = 100.0, digits: int = 2) -> str:
        """Print the difference and its standard error.

        They are in points of percent by default.
        """
        return spread(scale * self.value, scale * self.stderr, digits, sign=True)


@dataclass(frozen=True)
class Missing:
    """Describes a result that is not there, and why."""

    cell: ResultPlace
    reason: str


@dataclass(frozen=True, order=True)
class Setting:
    """Says what is held fixed when methods are compared."""

    objective: str
    dataset: str
    head: str
    mode: str

    @property
    def name(self) -> str:
        """Return the setting in words."""
        before = "no pre-training" if self.objective == "none" else self.objective
        return f"{self.dataset}, {before}, {self.head} head, {self.mode}"

    @property
    def anchor(self) -> str:
        """Return the setting as a part of an address within the page."""
        return "-".join(astuple(self)).replace(" ", "-")


@dataclass(frozen=True)
class TestSet:
    """Describes a data set that models were tested on.

    It holds the scores that need no model.

    Attributes:
        dataset: its name.
        classes: names.
        cases: number of test cases.
        groups: of them: videos, sequences or patients.
        baselines: mIoU of the trivial baselines by name.
        miou: of the best model.
    """

    dataset: str
    classes: tuple[str, ...]
    cases: int
    groups: int
    baselines: Mapping[str, float]
    miou: float

    @property
    def note(self) -> str | None:
        """Return the sentence on intervals of too few groups, None where there are enough."""
        return interval_note(self.groups)

    @property
    def baseline(self) -> str:
        """Return the name of the best trivial baseline.

        It is empty without any.
        """
        return max(self.baselines, key=self.baselines.__getitem__, default="")

    @property
    def is_beaten(self) -> bool:
        """Say whether the best baseline is better than every model."""
        return self.miou < self.baselines.get(self.baseline, 0.0)


@dataclass(frozen=True)
class Row:
    """Describes a method at a ratio.

    Attributes:
        method: its name.
        percent: nominal storage in percent.
        results: its finished results, by seed.
        missing: what became of the seeds that have no result, by seed.
        scores: mean over seeds of each of SCORES.
        gains: difference to random selection at the same ratio, of each of SCORES.
        pixels: kept pixels over those of all data.
        stored: kept bytes over those of all data.
        steps: of pre-training.
        pretraining: median over seeds of the seconds of pre-training, without compilation.
        finetuning: likewise of fine-tuning.
        total: likewise of everything that one such model needs, the probe included.
        compiling: seconds of compilation in its runs, all seeds together: the first run of a shape
            in a process compiles for all.
    """

    method: str
    percent: float
    results: Mapping[int, Result]
    missing: Mapping[int, str]
    scores: Mapping[str, Mean]
    gains: Mapping[str, Difference]
    pixels: float
    stored: float
    steps: float
    pretraining: float
    finetuning: float
    total: float
    compiling: float

    @property
    def is_point(self) -> bool:
        """Say whether the row is a point of a chart over storage."""
        return math.isfinite(self.scores["miou"].value) and self.pixels > 0


@dataclass(frozen=True)
class Ablation:
    """Crosses selection with synthesis at one ratio.

    Attributes:
        percent: nominal storage in percent.
        cells: mean mIoU by (select, synthesise); methods that were not run are left out.
        select: effect of choosing hard ones, averaged over both ways to synthesise.
        synthesise: effect of stitching patches, averaged over both ways to select.
        interaction: effect of stitching on hard ones less that on random ones.
    """

    percent: float
    cells: Mapping[tuple[str, str], Mean]
    select: Difference
    synthesise: Difference
    interaction: Difference


def order(method: str, percent: float) -> tuple[bool, float, int, str]:
    """Sort by ratio, then as ORDER has the methods.

    All data come last.
    """
    rank = ORDER.index(method) if method in ORDER else len(ORDER)
    return method == ALL_DATA, percent, rank, method


def mean(values: Sequence[float]) -> Mean:
    """Compute mean and standard deviation of the finite values.

    The divisor of the variance is n - 1.
    """
    known = [value for value in values if math.isfinite(value)]
    return Mean(
        float(np.mean(known)) if known else math.nan,
        float(np.std(known, ddof=1)) if len(known) > 1 else math.nan,
        len(known),
    )


def difference(values: Sequence[float]) -> Difference:
    """Compute mean and standard error of differences at equal seeds."""
    found = mean(values)
    stderr = found.sd / math.sqrt(found.count) if found.count > 1 else math.nan
    return Difference(found.value, stderr, found.count)


def test_sets(run: RunFolder) -> list[TestSet]:
    """List the test sets of all results, sorted by name."""
    found = []
    for dataset in sorted({one.dataset for one in run.results}):
        own = [one for one in run.results if one.dataset == dataset]
        best = max(one.metrics["miou"] for one in own)
        first = own[0]
        counts = first.cases, first.groups
        found.append(TestSet(dataset, first.classes, *counts, first.baselines, best))
    return found


def settings_of(run: RunFolder) -> list[Setting]:
    """List the settings that have results, sorted."""
    return sorted({_setting(one) for one in run.results})


def rows_of(run: RunFolder, setting: Setting) -> list[Row]:
    """Make a row for each method and ratio of a setting, all data last.

    Those without results have a row, too.
    """
    own = [one for one in run.results if _setting(one) == setting]
    ends = {parse_result(one.place).end for one in own}
    by_cell: dict[tuple[str, float], dict[int, Result]] = {}
    for one in own:
        by_cell.setdefault((one.method, one.percent), {})[one.seed] = one
    missing: dict[tuple[str, float], dict[int, str]] = {}
    for lost in missing_results(run):
        if lost.cell.objective == setting.objective and lost.cell.end in ends:
            key = (lost.cell.method, lost.cell.percent)
            missing.setdefault(key, {})[lost.cell.seed] = lost.reason
    cells = by_cell.keys() | missing.keys()
    return [
        _row(
            run,
            cell,
            by_cell.get(cell, {}),
            missing.get(cell, {}),
            by_cell.get((BASELINE, cell[1]), {}),
        )
        for cell in sorted(cells, key=lambda cell: order(*cell))
    ]


def missing_results(run: RunFolder) -> list[Missing]:
    """List every result that is missing, sorted by place.

    It was planned or begun, and is not there.
    """
    there = {one.place for one in run.results}
    begun = [place for place in run.unfinished if place.startswith("finetuned/")]
    found = []
    for place in sorted({*run.planned, *begun} - there):
        cell = parse_result(place)
        before = run.unfinished.get(cell.pretrained)
        reason = run.unfinished.get(place) or (f"pre-training {before}" if before else "missing")
        found.append(Missing(cell, reason))
    return found


def ablation(rows: Sequence[Row]) -> list[Ablation]:
    """Make the two-by-two table of each ratio.

    All four methods must have results there.
    """
    found = []
    for percent in sorted({row.percent for row in rows}):
        cells = {row.method: row for row in rows if row.percent == percent and row.results}
        if not set(ABLATION.values()) <= cells.keys():
            continue
        values = {
            key: {seed: one.metrics["miou"] for seed, one in cells[method].results.items()}
            for key, method in ABLATION.items()
        }
        seeds = sorted(set.intersection(*(set(one) for one in values.values())))
        (rw, hw, rs, hs) = ([one[seed] for seed in seeds] for one in values.values())
        signs = {
            "select": (-0.5, 0.5, -0.5, 0.5),
            "synthesise": (-0.5, -0.5, 0.5, 0.5),
            "interaction": (1.0, -1.0, -1.0, 1.0),
        }
        effects = {
            name: difference(
                [
                    sum(s * x for s, x in zip(sign, four, strict=True))
                    for four in zip(rw, hw, rs, hs, strict=True)
                ]
            )
            for name, sign in signs.items()
        }
        means = {key: cells[method].scores["miou"] for key, method in ABLATION.items()}
        found.append(Ablation(percent=percent, cells=means, **effects))
    return found


def time_to_equal(rows: Sequence[Row]) -> dict[str, float]:
    """Find the least time in which each method equals all data.

    It is the least of the total seconds at which it reaches the mIoU of all data.

    Mean mIoU over seeds is compared. The time is NaN where no ratio reaches it. Methods without any
    result are left out. The answer is empty without a run on all data.
    """
    target = next((row.scores["miou"].value for row in rows if row.method == ALL_DATA), math.nan)
    if not math.isfinite(target):
        return {}
    found: dict[str, float] = {}
    for row in (one for one in rows if one.results):
        reached = row.scores["miou"].value >= target
        seconds = row.total if reached else math.nan
        found[row.method] = float(np.fmin(found.get(row.method, math.nan), seconds))
    return found


def _setting(one: Result) -> Setting:
    return Setting(one.objective, one.dataset, one.head, one.mode)


def result_scores(one: Result) -> dict[str, float]:
    """Add NormDEL to the metrics.

    It is that at the storage that was kept. It is NaN without pre-training.
    """
    miou, ratio = one.metrics["miou"], one.storage_ratio
    known = math.isfinite(miou) and ratio > 0
    return {**one.metrics, "normdel": normdel(miou, ratio) if known else math.nan}


def _row(
    run: RunFolder,
    cell: tuple[str, float],
    results: Mapping[int, Result],
    missing: Mapping[int, str],
    rivals: Mapping[int, Result],
) -> Row:
    seeds = sorted(results)
    scores = {seed: result_scores(results[seed]) for seed in seeds}
    common = [seed for seed in seeds if seed in rivals] if cell[0] != BASELINE else []
    gains = {
        name: difference(
            [scores[seed][name] - result_scores(rivals[seed])[name] for seed in common]
        )
        for name in SCORES
    }
    before = {seed: run.ancestry(results[seed].place) for seed in seeds}

    def of_stage(name: str) -> list[Finding]:
        return [one for found in before.values() for one in found if one.manifest.stage == name]

    pretrained = of_stage("pretrain")
    return Row(
        method=cell[0],
        percent=cell[1],
        results=dict(results),
        missing=dict(missing),
        scores={name: mean([scores[seed][name] for seed in seeds]) for name in SCORES},
        gains=gains,
        pixels=mean([one.storage_ratio for one in results.values()]).value,
        stored=mean([_stored(one) for one in of_stage("synthesise")]).value,
        steps=mean([float(one.manifest.counts.get("steps", math.nan)) for one in pretrained]).value,
        pretraining=_median([one.manifest.seconds for one in pretrained]),
        finetuning=_median([one.seconds for one in results.values()]),
        total=_median([run.seconds(one.place) for one in results.values()]),
        compiling=math.fsum(
            one.manifest.compile_seconds
            for one in (*pretrained, *(run.findings[two.place] for two in results.values()))
        ),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _stored(found: Finding) -> float:
    counts = found.manifest.counts
    full = counts.get("bytes_full", 0)
    return counts["bytes"] / full if full else math.nan
