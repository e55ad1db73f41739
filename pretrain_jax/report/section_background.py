"""Sections of the page: V-information of the sets, and the way to the toy model."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from pretrain_jax.places import FINETUNED, LEAKAGE, PARTS
from pretrain_jax.report.charts import (
    bridge_chart,
    cost_chart,
    embedded,
    figure_6,
    information_chart,
    is_drawn,
    label,
    listing,
    number,
    paragraph,
    section,
    spread,
    table,
)
from pretrain_jax.report.collect import RunFolder
from pretrain_jax.report.published import (
    ALL_DATA,
    DATASETS,
    FIGURE_6,
    SOURCE,
    TABLES,
    PublishedTable,
)
from pretrain_jax.report.section_results import drawn, name_of, seeds_of
from pretrain_jax.report.statistics import Row, Setting, rows_of, settings_of
from pretrain_jax.report.toy_model import Bridge
from pretrain_jax.report.v_information import SetInformation
from selection import Coordinates, Recommendation

Own = Mapping[Setting, Sequence[Row]]
NOT_MEDICAL = ", not medical"


def published(run: RunFolder) -> str:
    """The paper's Figure 6 and its two tables, NormDEL of their numbers, own runs beside them."""
    own = {
        setting: rows_of(run, setting)
        for setting in settings_of(run)
        if setting.objective != "none"
    }
    note = NOT_MEDICAL if run.config.get("demo") else ""
    known = {one: rows for one, rows in own.items() if one.dataset in DATASETS}
    # Of several settings of a data set the figure shows the one most like the paper's.
    likeliest = sorted(known, key=_unlike, reverse=True)
    panels = {f"own: {one.dataset}{note}": rows for one, rows in _panels(own).items()}
    body = [
        paragraph(
            f"Printed in {SOURCE}: segmentation with DPT on eight endoscopy data sets after "
            "pre-training on 2,857,772 images. Other data, models and budgets than the runs above: "
            "the numbers stand beside them and cannot be compared one by one. The paper prints no "
            "spread over seeds. NormDEL is computed here from the printed mIoU."
        ),
        drawn(
            figure_6({one.dataset: known[one] for one in likeliest}, panels),
            f"Figure 6 of {SOURCE}, redrawn from the numbers of its Table 1; dotted: all data. "
            "Hollow points: own runs, mean and standard deviation over seeds; on other data sets "
            "than the paper's in panels of their own."
            + (f" They are{note.removeprefix(',')}." if panels and note else ""),
        ),
    ]
    for setting, rows in known.items():
        body.append(_beside(setting, rows))
    for one in TABLES:
        body.append(_table(one, own, note, "miou"))
        body.append(_table(one, own, note, "normdel"))
        other = _other_ratios(one, own)
        if other:
            body.append(_own_table(one, other, own, note))
    return section("published", "Published results", body)


def _panels(own: Own) -> dict[Setting, Sequence[Row]]:
    """For each data set that the paper has not the setting that is most like the paper's."""
    found: dict[str, Setting] = {}
    for setting, rows in own.items():
        shown = [row for row in rows if row.method in FIGURE_6 and is_drawn(row)]
        if setting.dataset in DATASETS or not shown or sum(map(is_drawn, rows)) < 2:
            continue
        before = found.get(setting.dataset)
        if before is None or _unlike(setting) < _unlike(before):
            found[setting.dataset] = setting
    return {setting: own[setting] for setting in found.values()}


def _unlike(setting: Setting) -> tuple[bool, bool, bool]:
    """The paper pre-trains masked autoencoders and fine-tunes all of them with DPT."""
    return setting.objective != "mae", setting.head != "dpt", setting.mode != "full"


def _beside(setting: Setting, rows: Sequence[Row]) -> str:
    """Printed numbers and own ones of one data set."""
    found: dict[tuple[str, float], float] = {}
    for one in TABLES:
        values = one.miou[DATASETS.index(setting.dataset)]
        found |= dict(zip(one.columns, values.tolist(), strict=True))
    return table(
        f"mIoU (%) on {setting.dataset}, printed and own ({name_of(setting)})",
        ["method", "storage (%)", "printed", "own", "seeds"],
        [
            [
                label(row.method),
                f"{row.percent:g}",
                number(found.get((row.method, row.percent), math.nan)),
                spread(100 * row.scores["miou"].value, 100 * row.scores["miou"].sd),
                seeds_of(row),
            ]
            for row in rows
        ],
    )


def _table(one: PublishedTable, own: Own, note: str, score: str) -> str:
    """A printed table, below it the own runs at the ratios that it prints."""
    values, digits = (one.miou, 2) if score == "miou" else (one.normdel, 4)
    name = f"{SOURCE}, {one.title}. mIoU (%)" if score == "miou" else f"NormDEL of {one.title}"
    printed = [
        [dataset, *(number(float(value), digits) for value in row)]
        for dataset, row in zip(DATASETS, values, strict=True)
    ]
    below = _own_rows(one.columns, own, note, score)
    if below:
        name += "; below: own runs, mean ± standard deviation over seeds"
    return _shaped(name, one.columns, [*printed, *below])


def _own_table(
    one: PublishedTable, columns: Sequence[tuple[str, float]], own: Own, note: str
) -> str:
    """Own runs at ratios that the paper does not print."""
    name = f"Own runs in the shape of {one.title}, at the ratios that were run. mIoU (%)"
    return _shaped(name, columns, _own_rows(columns, own, note, "miou"))


def _other_ratios(one: PublishedTable, own: Own) -> list[tuple[str, float]]:
    """Columns of a table for the ratios of own runs; none where it prints them all."""
    methods = [name for name in dict.fromkeys(name for name, _ in one.columns) if name != ALL_DATA]
    rows = [row for found in own.values() for row in found if row.results]
    ratios = sorted({row.percent for row in rows if row.method in methods})
    if set(ratios) <= {percent for _, percent in one.columns}:
        return []
    before = [(ALL_DATA, 100.0)] if (ALL_DATA, 100.0) in one.columns else []
    return before + [(name, percent) for percent in ratios for name in methods]


def _own_rows(
    columns: Sequence[tuple[str, float]], own: Own, note: str, score: str
) -> list[list[str]]:
    """A row for each setting that has a number in one of the columns."""
    scale, digits = (100, 2) if score == "miou" else (1, 4)
    found = []
    for setting, rows in own.items():
        known = {(row.method, row.percent): row.scores[score] for row in rows if row.results}
        if not known.keys() & set(columns) - {(ALL_DATA, 100.0)}:
            continue
        cells = [
            spread(scale * known[key].value, scale * known[key].sd, digits)
            if key in known
            else number(math.nan)
            for key in columns
        ]
        found.append([f"own: {name_of(setting)}{note}", *cells])
    return found


def _shaped(
    caption: str, columns: Sequence[tuple[str, float]], rows: Sequence[Sequence[str]]
) -> str:
    storage = list(dict.fromkeys(percent for _, percent in columns))
    return table(
        caption,
        ["data set", *(label(method) for method, _ in columns)],
        rows,
        groups=[
            (f"{percent:g} % storage", sum(held == percent for _, held in columns))
            for percent in storage
        ],
    )


LARGEST_SIDE = 960  # pixels; larger pictures are shown smaller
LARGEST_BYTES = 100_000
QUALITY = 80
# Stages whose pictures are shown, and what these show.
PICTURED = {
    "index": "images, evenly spaced",
    "probe": "the probe",
    "proposals": "boxes on images, evenly spaced; 0 is the first choice",
    "scores": "the hardest and the easiest",
    "selections": "the first and the last picks",
    "synthesised": "images, evenly spaced in the set's order",
}
OVERLAYS = "overlays.png"


def stages(run: RunFolder) -> str:
    """Rank correlations, leakage check, notes, cost and pictures of the stages."""
    body = [*_margins(run), *_leakage(run), *_costs(run)]
    notes = dict.fromkeys(
        f"{one.place.split('/')[0]}: {note}"
        for one in run.findings.values()
        for note in one.manifest.notes
    )
    if notes:
        body += [paragraph("Notes that the stages left:"), listing(notes)]
    return section("stages", "Stages", [*body, *_pictures(run)])


def provenance(run: RunFolder) -> str:
    """Versions, configuration, and every stage's seed and digest."""
    versions: dict[tuple[str, str], int] = {}
    for one in run.findings.values():
        for pair in one.manifest.versions.items():
            versions[pair] = versions.get(pair, 0) + 1
    body = [
        table(
            "Versions of packages",
            ["package", "version", "stages"],
            [[name, version, str(count)] for (name, version), count in sorted(versions.items())],
        ),
        table(
            "Finished stages; the digest is sha256 of a stage's manifest without times and places",
            ["stage", "seed", "seconds", "digest"],
            [
                [
                    place,
                    "" if one.manifest.seed is None else str(one.manifest.seed),
                    number(one.manifest.seconds, 1),
                    one.digest[:16],
                ]
                for place, one in run.findings.items()
            ],
        ),
    ]
    if run.unfinished:
        body.append(
            table(
                "Stages that were begun and not finished",
                ["stage", "what became of it"],
                [[place, reason] for place, reason in run.unfinished.items()],
                text=True,
            )
        )
    if run.config:
        text = escape(json.dumps(run.config, indent=1, sort_keys=True))
        body.append(f"<details><summary>Configuration</summary><pre>{text}</pre></details>")
    return section("provenance", "Provenance", body)


def _margins(run: RunFolder) -> Iterator[str]:
    rows = [
        [
            place,
            number(one.manifest.counts.get("rank_correlation_mean", math.nan), 3),
            number(one.manifest.counts.get("rank_correlation_min", math.nan), 3),
        ]
        for place, one in run.of_stage("scores").items()
    ]
    if rows:
        yield table(
            "Rank correlation (Spearman) of margins between masks: how far one mask ranks as "
            "another does",
            ["scores", "mean over pairs", "least"],
            rows,
        )


def _leakage(run: RunFolder) -> Iterator[str]:
    check = run.findings.get(LEAKAGE)
    counts = [one.manifest.counts for one in run.of_stage(FINETUNED).values()]
    checked = [one["leaks"] for one in counts if "leaks" in one]
    if check is None and not checked:
        yield paragraph("Leakage check: none was recorded.", "warning")
    if check is not None:
        numbers = check.manifest.counts
        yield paragraph(
            f"Leakage check: {numbers['images']:.0f} images for pre-training were compared with "
            f"{numbers['test_cases']:.0f} test cases (equal pixels, similar pictures and, where "
            "both are known, the same group), and none was in both: a run stops where it finds one."
        )
    if checked:
        yield paragraph(
            f"{len(checked)} of {len(counts)} fine-tunings recorded the check, with "
            f"{sum(checked):.0f} test cases among the images for pre-training."
        )


def _costs(run: RunFolder) -> Iterator[str]:
    counts = {part: len(run.of_stage(part)) for part in PARTS}
    there = {part: run.of_stage(part).values() for part, count in counts.items() if count}
    seconds = {
        part: math.fsum(one.manifest.seconds for one in found) for part, found in there.items()
    }
    compiling = {
        part: math.fsum(one.manifest.compile_seconds for one in found)
        for part, found in there.items()
    }
    yield drawn(
        cost_chart(seconds),
        "Time of each kind of stage, all runs together, without compilation.",
    )
    yield table(
        "Cost of the stages",
        ["stage", "finished", "time, all together (s)", "compilation (s)"],
        [
            [part, str(counts[part]), number(spent, 1), number(compiling[part], 1)]
            for part, spent in seconds.items()
        ],
    )


def _pictures(run: RunFolder) -> Iterator[str]:
    for part in PICTURED:
        for place in run.of_stage(part):
            for path in sorted((run.folder / place).glob("*.png")):
                yield _picture(path, f"{place}: {PICTURED[part]}")
    shown: set[str] = set()
    for one in sorted(run.results, key=lambda one: (one.seed, one.place)):
        path = run.folder / one.place / OVERLAYS
        if path.is_file() and one.method not in shown:
            shown.add(one.method)
            yield _picture(path, f"{one.place}: predictions on test cases")


def _picture(path: Path, what: str) -> str:
    """A picture of a stage, at most LARGEST_SIDE wide and high; large files become JPEG."""
    from PIL import Image

    data, media = path.read_bytes(), "image/png"
    with Image.open(path, formats=["PNG"]) as image:
        if len(data) > LARGEST_BYTES or max(image.size) > LARGEST_SIDE:
            shown = image.convert("RGB")
            shown.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
            buffer = io.BytesIO()
            shown.save(buffer, format="JPEG", quality=QUALITY)
            data, media = buffer.getvalue(), "image/jpeg"
    return embedded(data, media, f"Contact sheet, {what}", what)


HEURISTIC = (
    "Outside the toy model (normal features, a linear teacher without label noise, a max-margin "
    "student) all of this is a heuristic: the fraction it names is a place to look, not a result. "
    "Margins here are reconstruction errors of whole images, and each of the two probes saw the "
    "half of the images that it was trained on."
)
UNDEFINED = (
    "theta is undefined: the margins of two probes that were trained on disjoint halves are not "
    "positively correlated, so there is no angle, no curve and no recommended fraction."
)


def in_information(found: Mapping[str, SetInformation | str] | str) -> str:
    """V-information of each selected set."""
    if isinstance(found, str):
        return section("information", "V-information of the sets", [paragraph(found)])
    values = {
        name: (
            float(one.estimate.information) / one.size,
            float(one.estimate.information_stderr) / one.size,
        )
        for name, one in found.items()
        if not isinstance(one, str)
    }
    rows = [_information(name, one) for name, one in found.items()]
    chart = "V-information of each set, ± standard error."
    body = [
        paragraph(
            "What a probe explains of hidden patches by the visible ones, V = Gaussians of unit "
            "variance in the space of the probe's training target: H(Y|X) is half the masked "
            "squared error, H(Y|empty) half the squared error around the constant image that suits "
            "the set best, each image left out of its own constant; both plus log(2 pi)/2 = 0.9189 "
            "for each predicted value (arXiv:2002.10689). ± standard errors over images (videos "
            "where frames come from one), evenly spaced in the set. Held out: each hidden patch is "
            "predicted by that of two probes of disjoint halves that was not trained on the image "
            "it comes from; of a stitched image the visible patches may be known to it. The number "
            "of a set that is not held out is too large by what the probe knows by heart, and "
            "cannot be compared with the others. Below zero a probe predicts worse than the "
            "constant."
        ),
        *([drawn(information_chart(values), chart)] if values else []),
        table(
            "In nats for each predicted value; the last column for a whole image",
            [
                *("set", "images", "H(Y|empty)", "H(Y|X)", "V-information", "an image (nats)"),
                "probe",
            ],
            rows,
        ),
    ]
    return section("information", "V-information of the sets", body)


def in_theory(run: RunFolder, found: Bridge | str) -> str:
    """Estimated coordinates, the theory's curve at them, and the measured one beside it."""
    body = [paragraph(HEURISTIC, "warning")]
    bridge = None if isinstance(found, str) else found
    if isinstance(found, str):
        body.append(paragraph(found))
    else:
        body.append(_coordinates(found.coordinates))
        body += [paragraph(f"Note: {sentence}.") for sentence in found.coordinates.warnings]
        if found.recommendation is None:
            body.append(paragraph(UNDEFINED, "warning"))
        else:
            body += _advice(found.recommendation)
            lost = int(np.isnan(found.error).sum())
            if lost:
                body.append(
                    paragraph(
                        f"{lost} of {len(found.error)} points of the curve have no certified "
                        "answer and are left out."
                    )
                )
    for setting in settings_of(run):
        rows = rows_of(run, setting)
        if setting.objective != "mae" or not any(is_drawn(row) for row in rows):
            continue
        measured = f"measured 1 - mIoU, mean and standard deviation over seeds ({name_of(setting)})"
        caption = f"{measured[0].upper()}{measured[1:]}."
        if bridge is not None and bridge.recommendation is not None:
            caption = (
                "Left: error of the toy model against the fraction kept; band: over the intervals "
                "of alpha_t and theta; dotted: the recommended fraction. Right, on an axis of its "
                f"own: {measured}. The two errors are different quantities; only the shapes can be "
                "compared."
            )
        body.append(drawn(bridge_chart(bridge, rows), caption))
    return section("theory", "The toy model at the estimated coordinates", body)


def _information(name: str, one: SetInformation | str) -> list[str]:
    """A row of the table; of a set without an estimate the reason stands in the last column."""
    if isinstance(one, str):
        return [name, *[number(math.nan)] * 5, f"no estimate: {one}"]
    found = one.estimate
    return [
        name,
        str(one.images),
        *(
            spread(float(value) / one.size, float(stderr) / one.size, 4)
            for value, stderr in (
                (found.empty_entropy, found.empty_entropy_stderr),
                (found.conditional_entropy, found.conditional_entropy_stderr),
                (found.information, found.information_stderr),
            )
        ),
        number(float(found.information), 1),
        f"not held out: {one.seen}" if one.seen else "held out",
    ]


def _coordinates(found: Coordinates) -> str:
    dimension = found.dimension
    return table(
        f"Coordinates of the data in the toy model, intervals at level {found.level:g}",
        ["quantity", "value", "interval or ± standard error"],
        [
            ["images", str(found.examples), ""],
            [
                "effective dimension of the probe's features",
                number(dimension.value, 2),
                f"± {number(dimension.stderr, 2)}",
            ],
            [
                "alpha_t = images / dimension",
                number(found.alpha_total),
                _ends(found.alpha_interval),
            ],
            ["correlation of the two probes' margins", number(found.overlap, 3), ""],
            ["theta of a probe of one half (degrees)", _degrees(found.theta_part), ""],
            [
                "theta of a probe of all images (degrees)",
                _degrees(found.theta),
                _ends([math.degrees(end) for end in found.theta_interval], 1),
            ],
        ],
    )


def _advice(found: Recommendation) -> list[str]:
    policies = table(
        "What the theory says of each policy there",
        ["policy", "best fraction (%)", "its error", "fraction that suffices (%)"],
        [
            [
                one.policy,
                number(100 * one.keep_fraction),
                f"{one.error:.3g}",
                number(100 * one.sufficient_fraction),
            ]
            for one in found.policies
        ],
    )
    sentence = (
        f"Recommended: keep {100 * found.keep_fraction:.3g} % by {found.policy} selection; error "
        f"{found.error:.4g} against {found.full_error:.4g} of all data. From "
        f"{100 * found.band[0]:.3g} % to {100 * found.band[1]:.3g} % the error is within "
        f"{100 * found.tolerance:.3g} % of it; over the interval of theta the best fraction goes "
        f"from {100 * found.fraction_interval[0]:.3g} % to "
        f"{100 * found.fraction_interval[1]:.3g} %. It holds for the toy model; "
        f"{found.verdict.sentence()}."
    )
    if found.full_error - found.error < found.tolerance * found.error:
        sentence += (
            " That is as good as no gain in error: what the theory promises there is the same "
            "error from less data."
        )
    return [paragraph(sentence), policies]


def _degrees(angle: float) -> str:
    return number(math.degrees(angle), 1) if math.isfinite(angle) else "undefined"


def _ends(ends: tuple[float, float] | list[float], digits: int = 2) -> str:
    return " to ".join(number(end, digits) for end in ends)
