"""Draws the OptiDEL paper's tables beside own runs, in one picture.

They are Tables 1-2 and Figure 6.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from hardset.datafile import (
    check_output_file,
    parameters_of,
    read_dataset,
    write_bytes_atomic,
    write_dataset,
)
from hardset.pictures import rendered
from pretrain_jax.report.published import DATASETS, PRINTED, PRINTED_ALL_DATA, STORAGE_PERCENT
from pretrain_jax.report.runs import ALL, METHODS, Run

NAME = "benchmark-tables"
KIND = f"figure {NAME}"

WIDTH = 7.0  # inches, both columns of a two-column page
SPAN = 8.0  # points of mIoU above and below all data at which the colours end

# Okabe and Ito's colours, told apart with any colour vision.
COLORS = dict(
    zip(METHODS, ("#000000", "#999999", "#0072B2", "#E69F00", "#D55E00", "#009E73"), strict=True)
)
MARKERS = dict(zip(METHODS, "DvsP^o", strict=True))


def write_tables(
    runs: Sequence[Run], folder: Path, formats: Iterable[str]
) -> tuple[list[Path], str]:
    """Write the tables' data file and draw it.

    Args:
        runs: runs of one's own, from `pretrain_jax.report.runs.read_runs`; none are needed.
        folder: where benchmark-tables.nc and benchmark-tables.FORMAT go.
        formats: some of png, pdf and svg.

    Returns:
        The paths, the data file first, and the caption.

    Raises:
        ValueError: a data file of other runs, or a damaged one, has the name.
        OSError: a file cannot be written; names it.
    """
    data = check_output_file(folder / f"{NAME}.nc")
    paths = {name: check_output_file(folder / f"{NAME}.{name}") for name in formats}
    wanted = parameters(runs)
    if data.exists():
        found = parameters_of(read_dataset(data, kind=KIND))
        if found != wanted:
            other = next(name for name in wanted if found.get(name) != wanted[name])
            raise ValueError(
                f"data file {data} was computed with {other} = {found.get(other)}, not "
                f"{wanted[other]}; choose another --out, or delete the file"
            )
    else:
        write_dataset(compute(runs), data, kind=KIND, parameters=wanted)
    dataset = read_dataset(data, kind=KIND)
    words = caption(dataset)
    for name, path in paths.items():
        write_bytes_atomic(path, rendered(lambda: draw(dataset), name, words))
    return [data, *paths.values()], words


def parameters(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the runs as JSON types, and a digest of the published numbers."""
    tables = {
        str(table): {method: miou.tolist() for method, miou in columns.items()}
        for table, columns in PRINTED.items()
    }
    printed = [tables, PRINTED_ALL_DATA.tolist(), DATASETS, STORAGE_PERCENT, METHODS]
    return {
        "version": 1,
        "runs": [dataclasses.asdict(run) for run in runs],
        "published": hashlib.sha256(json.dumps(printed, sort_keys=True).encode()).hexdigest(),
    }


def plain(name: str, longest: int = 24) -> str:
    """Make a user's name fit to be drawn letter by letter.

    It is one line, shortened in its middle, without the meanings that matplotlib gives to dollars,
    and with the code of a letter that the font lacks.
    """
    text = " ".join(name.split())
    text = "".join(one if _drawable(one) else ascii(one)[1:-1] for one in text)
    if len(text) > longest:
        tail = longest // 3
        text = f"{text[: longest - tail - 1]}…{text[-tail:]}"
    return text.replace("$", r"\$")


def _drawable(letter: str) -> bool:
    return letter.isprintable() and _font().get_char_index(ord(letter)) != 0


@cache
def _font() -> FT2Font:
    return get_font(findfont("DejaVu Sans"))


def compute(runs: Sequence[Run]) -> xr.Dataset:
    """Put the published mIoU and the runs' mean and spread on common axes."""
    names = [*DATASETS, *_new(run.dataset for run in runs)]
    storage = sorted({*STORAGE_PERCENT, 100.0, *(run.storage_percent for run in runs)})
    axes: dict[str, list[Any]] = {
        "data": names,
        "selection": list(METHODS),
        "storage_percent": storage,
    }
    dims = tuple(axes)
    shape = tuple(len(values) for values in axes.values())
    variables: dict[str, Any] = {}
    for table, columns in PRINTED.items():
        published = np.full(shape, np.nan)
        for method, miou in columns.items():
            at = [storage.index(percent) for percent in STORAGE_PERCENT]
            published[: len(DATASETS), METHODS.index(method), at] = miou
        if table == 1:
            published[: len(DATASETS), METHODS.index(ALL), storage.index(100.0)] = PRINTED_ALL_DATA
        variables[f"table_{table}"] = (dims, published)
    cells: dict[tuple[int, int, int], list[float]] = {}
    for run in runs:
        cell = (
            names.index(run.dataset),
            METHODS.index(run.method),
            storage.index(run.storage_percent),
        )
        cells.setdefault(cell, []).append(run.miou)
    mean, spread, count = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, int)
    for cell, values in cells.items():
        mean[cell], count[cell] = np.mean(values), len(values)
        spread[cell] = np.std(values, ddof=1) if len(values) > 1 else np.nan
    variables |= {
        "run_mean": (dims, mean),
        "run_spread": (dims, spread),
        "run_count": (dims, count),
    }
    return xr.Dataset(variables, coords=axes)


def _new(names: Iterable[str]) -> list[str]:
    """List the names that the paper does not have.

    Each stands once, in order.
    """
    return [name for name in dict.fromkeys(names) if name not in DATASETS]


def draw(dataset: xr.Dataset) -> Figure:
    """Draw Figure 6 above, and the two tables below."""
    names = [str(name) for name in dataset["data"].values]
    rows = -(-len(names) // 4)
    has_runs = bool((dataset["run_count"] > 0).any())
    line = 0.27 if has_runs else 0.16  # inches, a row of a table
    heights = [1.25 * rows + (0.5 if has_runs else 0.35), 2 * (line * len(names) + 0.5)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3))
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    curves, tables = parts
    panels = np.ravel(curves.subplots(rows, 4, squeeze=False))
    for axes, name in zip(panels, names, strict=False):
        _draw_panel(axes, dataset.sel(data=name))
        axes.set_title(plain(name))
    for axes in panels[len(names) :]:
        axes.axis("off")
    for axes in panels[len(names) - 4 : len(names)]:
        axes.set_xlabel("storage volume (%)")
    for axes in panels[::4]:
        axes.set_ylabel("mIoU (%)")
    shown = [m for m in METHODS if bool(np.isfinite(dataset["run_mean"].sel(selection=m)).any())]
    curves.legend(*_legend(shown), loc="outside upper center", ncols=5)
    both = tables.subplots(2, 1)
    for table, axes in zip(PRINTED, both, strict=True):
        image = _draw_table(axes, dataset, table)
    tables.colorbar(
        image, ax=list(both), label="mIoU above all data", extend="both", shrink=0.6, aspect=30
    )
    return figure


def _draw_panel(axes: Axes, panel: xr.Dataset) -> None:
    all_data = panel["table_1"].sel(selection=ALL, storage_percent=100.0).item()
    if np.isfinite(all_data):
        axes.axhline(all_data, color=COLORS[ALL], linestyle=":", linewidth=0.7, zorder=1)
    for method in ("MedDEL", "OptiDEL"):
        curve = panel["table_1"].sel(selection=method).dropna("storage_percent")
        x = np.append(curve["storage_percent"], 100.0)
        if curve.size:
            axes.plot(x, np.append(curve, all_data), "-", color=COLORS[method], zorder=2)
            axes.plot(
                x[:-1],
                curve,
                MARKERS[method],
                color=COLORS[method],
                markerfacecolor="white",
                zorder=3,
            )
    for k, method in enumerate(METHODS):
        runs = panel.sel(selection=method).dropna("storage_percent", subset=["run_mean"])
        axes.errorbar(
            # Side by side: methods share their storage volumes.
            runs["storage_percent"] * (1.0 if method == ALL else 1.07 ** (k - 3)),
            runs["run_mean"],
            yerr=runs["run_spread"],
            fmt=MARKERS[method],
            color=COLORS[method],
            markeredgecolor="white",
            markeredgewidth=0.3,
            markersize=3.6,
            elinewidth=0.7,
            zorder=4,
        )
    axes.set_xscale("log")
    ticks = [*STORAGE_PERCENT, 100.0]
    lowest = float(panel["storage_percent"].min())
    if lowest < 4:  # a run of one's own
        ticks.insert(0, lowest)
    axes.set_xlim(0.8 * ticks[0], 125)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.margins(y=0.12)


def _legend(shown: Sequence[str]) -> tuple[list[Line2D], list[str]]:
    """Name the published curves, then the methods of one's own runs."""
    handles = [
        Line2D([], [], color=COLORS[m], marker=MARKERS[m], markerfacecolor="white")
        for m in ("MedDEL", "OptiDEL")
    ]
    handles.append(Line2D([], [], color=COLORS[ALL], linestyle=":", linewidth=0.7))
    names = ["MedDEL", "OptiDEL", ALL]
    for method in shown:
        handles.append(
            Line2D([], [], color=COLORS[method], marker=MARKERS[method], linestyle="", mew=0)
        )
        names.append(f"{method}, own")
    return handles, names


def _draw_table(axes: Axes, dataset: xr.Dataset, table: int) -> Any:
    """Draw one table with a column for each method and storage.

    Storage is a share of the full set's.
    """
    methods = list(PRINTED[table])
    columns = [(percent, method) for percent in STORAGE_PERCENT for method in methods]
    if table == 1:
        columns.insert(0, (100.0, ALL))

    def values(variable: str) -> np.ndarray:
        picked = [
            dataset[variable].sel(selection=method, storage_percent=percent).values
            for percent, method in columns
        ]
        return np.stack(picked, axis=1)

    published, own, spread = values(f"table_{table}"), values("run_mean"), values("run_spread")
    all_data = dataset["table_1"].sel(selection=ALL, storage_percent=100.0).values[:, None]
    own_all = dataset["run_mean"].sel(selection=ALL, storage_percent=100.0).values[:, None]
    # The rows that the paper does not have are coloured by the runs.
    gain = np.where(np.isfinite(published), published - all_data, own - own_all)
    image = axes.imshow(
        np.ma.masked_invalid(gain),
        cmap=colormaps["RdBu"],
        norm=Normalize(-SPAN, SPAN),
        aspect="auto",
    )
    for row, column in np.ndindex(gain.shape):
        text = _cell(*(float(part[row, column]) for part in (published, own, spread)))
        dark = np.isfinite(gain[row, column]) and abs(gain[row, column]) > 0.65 * SPAN
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=5.5,
            linespacing=0.95,
            color="white" if dark else "black",
        )
    axes.set_xticks(range(len(columns)), [method for _, method in columns])
    axes.set_yticks(range(len(gain)), [plain(str(name)) for name in dataset["data"].values])
    axes.tick_params(
        length=0, labelsize=6, top=True, bottom=False, labeltop=True, labelbottom=False
    )
    axes.spines[:].set_visible(False)
    first = len(columns) - len(methods) * len(STORAGE_PERCENT)
    for k, percent in enumerate(STORAGE_PERCENT):
        left = first + k * len(methods) - 0.5
        if left > 0:
            axes.axvline(left, color="white", linewidth=2)
        axes.annotate(
            f"{percent:g}% storage volume",
            (left + len(methods) / 2, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
        )
    axes.annotate(
        f"Table {table}",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(-4, 5),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        fontweight="bold",
    )
    return image


def _cell(published: float, own: float, spread: float) -> str:
    """Write the printed number, and under it the runs' mean.

    The standard deviation follows the mean.
    """
    lines = [f"{published:.2f}"] if np.isfinite(published) else []
    if np.isfinite(own):
        lines.append(f"{own:.1f}±{spread:.1f}" if np.isfinite(spread) else f"{own:.1f}")
    return "\n".join(lines)


def caption(dataset: xr.Dataset) -> str:
    """Say in words what the picture shows."""
    count = dataset["run_count"].values
    if count.any():
        least, most = count[count > 0].min(), count.max()
        seeds = f"{least}" if least == most else f"{least} to {most}"
        own = (
            f"Filled points, and second lines of the cells: our own runs, mean and standard "
            f"deviation over seeds ({seeds} a cell)."
        )
    else:
        own = "No runs of our own: none were given."
    return (
        "Segmentation (mIoU in percent) after pre-training on a part of the data, as printed in "
        "Tables 1 and 2 of the OptiDEL paper (arXiv:2408.07107). Above: its Figure 6, drawn "
        "through Table 1's numbers up to all data at 100 percent (the paper prints no others). "
        f"Colours: difference to all data of the same row. {own}"
    )
