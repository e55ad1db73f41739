"""Section of the page: the paper's Figure 6 and two tables, with the run's own sets beside them."""

import math
from collections.abc import Mapping, Sequence

from pretrain_jax.report.charts import figure_6, is_drawn, label
from pretrain_jax.report.collect import RunFolder
from pretrain_jax.report.markup import number, paragraph, section, spread, table
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

__all__ = ["published"]

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
