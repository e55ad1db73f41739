"""Sections of the page: what the data are, the runs' results, the published ones beside them."""

import math
from collections.abc import Sequence

from pretrain_jax.report.charts import (
    Chart,
    embedded,
    is_drawn,
    label,
    number,
    paragraph,
    runs_chart,
    section,
    spread,
    table,
)
from pretrain_jax.report.collect import METRICS, RunFolder
from pretrain_jax.report.statistics import (
    ABLATION,
    SCORES,
    Row,
    Setting,
    ablation,
    missing_results,
    reach,
    resolved,
    rows_of,
    settings_of,
    time_to_equal,
)

NAMES = {
    "miou": "mIoU (%)",
    "dice": "Dice (%)",
    "boundary_f": "boundary F (%)",
    "normdel": "NormDEL",
}
PLUMBING = (
    "These runs show that the plumbing works. They are no medical result: the images are those "
    "that software packages ship (slices of a brain template, a fundus, stained tissue, cells), "
    "the models are tiny and trained for minutes."
)
PIXELS = (
    "Storage is counted in pixels; hard and stitched images compress worse, so that their files "
    "take a larger share of the bytes."
)
BYTES = "Storage is counted in bytes: no set exceeds its share of the pixels, or of the bytes."
NO_RESULTS = "No model was fine-tuned to the end; there are no results to show."


def title(run: RunFolder) -> str:
    """Title of the page."""
    kind = "a demonstration of the pipeline" if run.config.get("demo") else "a run of the pipeline"
    return f"Pre-training on selected data: {kind}"


def headline(run: RunFolder) -> str:
    """What the data are, what they show, and what needs no model."""
    body = []
    if run.config.get("demo"):
        body.append(paragraph(PLUMBING, "warning"))
    index = run.findings.get("index")
    if index is not None:
        counts = index.manifest.counts
        body.append(
            paragraph(
                f"Full pre-training set: {counts['images']:,.0f} images, "
                f"{counts['pixels'] / 1e6:,.2f} million pixels, {counts['bytes'] / 1e6:,.2f} MB."
            )
        )
    baselines: dict[str, list[str]] = {}
    names = sorted({name for one in run.results for name in one.baselines})
    for one in run.results:
        baselines.setdefault(
            one.dataset,
            [
                one.dataset,
                ", ".join(one.classes),
                str(one.cases),
                *(number(100 * one.baselines.get(name, math.nan)) for name in names),
            ],
        )
    if baselines:
        body.append(
            table(
                "Test sets, and what predictions without any model reach there",
                ["data set", "classes", "test cases", *(f"{name}: mIoU (%)" for name in names)],
                [baselines[name] for name in sorted(baselines)],
            )
        )
    body += [_below(name, run) for name in sorted(baselines)]
    return section("data", title(run), [one for one in body if one], level=1)


def results(run: RunFolder) -> str:
    """All runs by setting, means and spreads over seeds; the ones that are missing, too."""
    body = [
        paragraph(
            "Means ± standard deviations over seeds (divisor n - 1). "
            f"{BYTES if run.config.get('storage') == 'bytes' else PIXELS} "
            "NormDEL = sigmoid(mIoU exp(-R)), R the share of pixels that was kept, is not defined "
            "without pre-training. Differences to random "
            "selection are taken between runs of equal seed and ratio, ± their standard error. "
            "Seeds are those of pre-training and fine-tuning. Where the folders of a method's sets "
            "end in seed-NUMBER, each seed drew its own; every other set is the same for all "
            "seeds, and its spread holds no chance in the selection itself."
        )
    ]
    for setting in settings_of(run):
        body.append(_setting(setting, rows_of(run, setting)))
    if not run.results:
        body.append(paragraph(NO_RESULTS, "warning"))
    lost = missing_results(run)
    if lost:
        body.append(
            table(
                f"Missing: {len(lost)} of {len(lost) + len(run.results)} results",
                ["method", "storage (%)", "seed", "objective", "evaluation", "what became of it"],
                [
                    [
                        label(one.cell.method),
                        f"{one.cell.percent:g}",
                        str(one.cell.seed),
                        one.cell.objective,
                        one.cell.end,
                        one.reason,
                    ]
                    for one in lost
                ],
                text=True,
            )
        )
    return section("results", "Results", body)


def ablations(run: RunFolder) -> str:
    """Selection crossed with synthesis, where all four methods were run."""
    body = []
    for setting in settings_of(run):
        for found in ablation(rows_of(run, setting)):
            ways = list(dict.fromkeys(made for _, made in ABLATION))
            body.append(
                table(
                    f"mIoU (%) at {found.percent:g} % storage: {name_of(setting)}",
                    ["select", *ways],
                    [
                        [
                            chosen,
                            *(
                                spread(100 * cell.value, 100 * cell.sd)
                                for cell in (found.cells[chosen, made] for made in ways)
                            ),
                        ]
                        for chosen in dict.fromkeys(chosen for chosen, _ in ABLATION)
                    ],
                )
            )
            body.append(
                table(
                    f"Effects in points of mIoU at {found.percent:g} % storage, ± standard error "
                    f"over common seeds: {name_of(setting)}",
                    ["effect", "points", "seeds"],
                    [
                        [what, spread(100 * one.value, 100 * one.stderr, sign=True), str(one.pairs)]
                        for what, one in (
                            ("hard instead of random", found.select),
                            ("stitched patches instead of whole images", found.synthesise),
                            ("interaction", found.interaction),
                        )
                    ],
                )
            )
    if not body:
        methods = ", ".join(ABLATION.values())
        body.append(paragraph(f"Not run: it needs the methods {methods} at one ratio."))
    return section("ablation", "Selection and synthesis apart", body)


def name_of(setting: Setting) -> str:
    """A setting in words."""
    before = "no pre-training" if setting.objective == "none" else f"{setting.objective}"
    return f"{setting.dataset}, {before}, {setting.head} head, {setting.mode}"


def drawn(chart: Chart, caption: str) -> str:
    """A chart within the page."""
    return embedded(chart.svg(), "image/svg+xml", chart.alt, caption)


def _setting(setting: Setting, rows: Sequence[Row]) -> str:
    heads = ["method", "storage (%)", "pixels kept (%)", "bytes kept (%)", "seeds"]
    quality = table(
        f"Quality: {name_of(setting)}",
        [*heads, *(NAMES[name] for name in SCORES)],
        [
            [
                label(row.method),
                f"{row.percent:g}",
                number(100 * row.pixels),
                number(100 * row.stored),
                seeds_of(row),
                *(spread(100 * row.scores[m].value, 100 * row.scores[m].sd) for m in METRICS),
                spread(row.scores["normdel"].value, row.scores["normdel"].sd, 4),
            ]
            for row in rows
        ],
    )
    gains = [row for row in rows if row.gains["miou"].pairs]
    other = table(
        "Differences to random selection at equal storage and seed, ± standard error: "
        f"{name_of(setting)}",
        [
            *("method", "storage (%)", "pairs", "mIoU (points)", "Dice (points)"),
            *("boundary F (points)", "NormDEL"),
        ],
        [
            [
                label(row.method),
                f"{row.percent:g}",
                str(row.gains["miou"].pairs),
                *(
                    spread(100 * row.gains[m].value, 100 * row.gains[m].stderr, sign=True)
                    for m in METRICS
                ),
                spread(row.gains["normdel"].value, row.gains["normdel"].stderr, 4, sign=True),
            ]
            for row in gains
        ],
    )
    equal = time_to_equal(rows)
    cost = table(
        "Cost of one model, medians over seeds, without compilation; total is everything that was "
        "run for it, with probe, proposals, margins, selection and synthesis where its selection "
        "reads them; compilation is that of its pre-training and fine-tuning, all seeds together, "
        f"which the first run of a shape pays for all: {name_of(setting)}",
        [
            *("method", "storage (%)", "pre-training steps", "pre-training (s)"),
            *("fine-tuning (s)", "total (s)", "compilation (s)"),
        ],
        [
            [
                label(row.method),
                f"{row.percent:g}",
                number(row.steps, 0),
                number(row.pretraining, 1),
                number(row.finetuning, 1),
                number(row.total, 1),
                number(row.compiling, 1),
            ]
            for row in rows
        ],
    )
    times = table(
        "Time to equal accuracy: least total, without compilation, among a method's ratios whose "
        f"mean mIoU is at least that of all data: {name_of(setting)}",
        ["method", "total (s)"],
        [
            [label(method), f"{seconds:.1f}" if math.isfinite(seconds) else "not reached"]
            for method, seconds in equal.items()
        ],
    )
    body = [quality, *([other, _told_apart(gains)] if gains else []), cost]
    body += [times] if equal else []
    # One point is no curve.
    if sum(is_drawn(row) for row in rows) > 1:
        caption = (
            "Mean and standard deviation over seeds; points of equal storage are set apart "
            f"sideways. {_without_model(rows)}"
        )
        body.insert(0, drawn(runs_chart(rows), caption))
    anchor = "-".join((setting.objective, setting.dataset, setting.head, setting.mode))
    return section(f"results-{anchor}".replace(" ", "-"), name_of(setting), body, level=3)


def _told_apart(gains: Sequence[Row]) -> str:
    """How many differences to random selection are more than chance."""
    found = [
        f"{label(row.method)} at {row.percent:g} %" for row in gains if resolved(row.gains["miou"])
    ]
    names = f" ({', '.join(found)})" if found else ""
    pairs = sorted({row.gains["miou"].pairs for row in gains} - {1})
    reaches = " and ".join(f"{reach(n):.1f} standard errors of {n} pairs" for n in pairs)
    told = f"it reaches {reaches} to either side" if reaches else "one pair has none"
    return paragraph(
        f"{len(found)} of these {len(gains)} differences in mIoU{names} have a 95 % interval "
        f"(Student's t over seeds, each taken alone) that leaves out zero; {told}."
    )


def _without_model(rows: Sequence[Row]) -> str:
    """What trivial baselines reach on the same test cases."""
    reached = next(one.baselines for row in rows for one in row.results.values())
    listed = ", ".join(f"{name} {number(100 * miou)} %" for name, miou in sorted(reached.items()))
    return f"mIoU without any model: {listed}." if reached else ""


def _below(dataset: str, run: RunFolder) -> str:
    """A warning where no model is better than what needs none."""
    own = [one for one in run.results if one.dataset == dataset]
    model = max(one.metrics["miou"] for one in own)
    name, trivial = max(own[0].baselines.items(), key=lambda pair: pair[1], default=("", 0.0))
    if not model < trivial:
        return ""
    return paragraph(
        f"No model of this run is as good on {dataset} as the baseline {name}: the best reaches a "
        f"mIoU of {number(100 * model)} % against {number(100 * trivial)} %. Differences between "
        "methods say nothing about which one to use there.",
        "warning",
    )


def seeds_of(row: Row) -> str:
    """How many seeds have a result, of how many."""
    planned = len(row.results) + len(row.missing)
    return f"{len(row.results)} of {planned}" if row.missing else str(len(row.results))
