"""Draws what pictures share: panels, curves, axes, labels, and marks of missing data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.settings import Settings
from figures.style import COLUMN, log_axes, log_axis

WIDTH = 7.0  # inches, both columns of a two-column page
LABEL_HEIGHT = 0.06  # a line of text, in heights of a figure's only panel
FRACTION_LABEL = "selection ratio $f$"
LINES_AND_POINTS = (
    "Lines: replica theory. Points: mean over draws with standard error; the points of a curve "
    "share their draws."
)
COUNTS = ("not_separable", "failed", "empty")  # of draws without a student, by the reason


def error_label(settings: Settings) -> str:
    """Return the axis label of the error against the labels' teacher or a shifted one."""
    return "downstream error $e'$" if any(settings.downstream_deg) else "fitting error $e$"


def new_figure(count: int, *, row_height: float = 1.5) -> tuple[Figure, list[Axes]]:
    """Make a figure of one panel, or of `count` panels in two columns.

    A row is `row_height` inches high.
    """
    rows, columns = (1, 1) if count == 1 else (-(-count // 2), 2)
    height = 2.5 if count == 1 else 0.35 + row_height * rows
    figure = Figure(figsize=(COLUMN, height))
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]


def draw_curves(
    axes: Axes,
    part: xr.Dataset,
    colors: np.ndarray,
    *,
    quantity: str = "error",
    line: str = "-",
    marker: str = "o",
) -> None:
    """Draw theory lines, simulated points, and marks of what is missing.

    The lines are `theory_QUANTITY`, the points `QUANTITY_mean` with `QUANTITY_stderr`.
    A cross at the top edge, with a count, stands for draws without a student at that f. A cross at
    the bottom edge stands for a theory point that did not converge, where the line has a gap.
    """
    filled = line == "-"
    for k, color in enumerate(colors):
        curve = part.isel(alpha_total=k)
        bad = curve["theory_status"].values != 0
        theory = np.where(bad, np.nan, curve[f"theory_{quantity}"].values)
        axes.plot(curve["theory_fraction"], theory, line, color=color, zorder=2)
        axes.errorbar(
            curve["keep_fraction"],
            curve[f"{quantity}_mean"],
            yerr=curve[f"{quantity}_stderr"],
            fmt=marker,
            color=color,
            # A white rim separates a point from the line under it and from its neighbours.
            markerfacecolor=color if filled else "white",
            markeredgecolor="white" if filled else color,
            markeredgewidth=0.3 if filled else 0.6,
            elinewidth=0.7,
            zorder=3,
        )
        at_edge = axes.get_xaxis_transform()
        axes.plot(
            curve["theory_fraction"].values[bad],
            np.full(bad.sum(), 0.03),
            "x",
            color=color,
            transform=at_edge,
        )
        missing = _missing(curve).values
        for f, number in zip(curve["keep_fraction"].values, missing, strict=True):
            if number:
                axes.plot(f, 0.97 - 0.06 * k, "x", color=color, transform=at_edge, clip_on=False)
                axes.annotate(
                    f"{number:d}",
                    (f, 0.97 - 0.06 * k),
                    xycoords=at_edge,
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=5.5,
                    color=color,
                )


def finish_axes(
    figure: Figure,
    panels: Sequence[Axes],
    dataset: xr.Dataset,
    label: str,
    parts: Sequence[xr.Dataset] | None = None,
) -> None:
    """Make axes logarithmic and label the outer ones of the figure.

    Args:
        figure: holds the panels and nothing before them.
        panels: the axes.
        dataset: what all of them show.
        label: label of the vertical axis.
        parts: what each of them shows, for error limits of its own instead of those of all.
    """
    fractions = dataset["theory_fraction"].values
    x = (fractions.min(), fractions.max() * 1.25)
    count = len(figure.axes)
    columns = 1 if count == 1 else 2
    for number, axes in enumerate(panels):
        log_axes(axes, x, error_limits(dataset if parts is None else parts[number]))
        k = figure.axes.index(axes)
        left, bottom = k % columns == 0, k >= count - columns
        axes.tick_params(labelleft=left or parts is not None, labelbottom=bottom)
        if left:
            axes.set_ylabel(label)
        if bottom:
            axes.set_xlabel(FRACTION_LABEL)


def error_limits(dataset: xr.Dataset) -> tuple[float, float]:
    """Return the limits of an error axis, which reaches 0.8 at least.

    It covers the data. Where draws are missing, there is a third more at the top for their crosses.
    """
    theory = dataset["theory_error"].where(dataset["theory_status"] == 0).values.ravel()
    floor = dataset["floor"].values.ravel() if "floor" in dataset else np.empty(0)
    values = np.concatenate([theory, dataset["error_mean"].values.ravel(), floor])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return 1e-3, 0.8
    low, high = float(values.min()) / 1.4, max(0.8, float(values.max()) * 1.2)
    if bool((_missing(dataset) > 0).any()):
        high *= (high / low) ** (1 / 3)
    return low, high


def error_range(dataset: xr.Dataset) -> tuple[float, float]:
    """Return the limits of an error axis that covers the data and little more."""
    values = np.concatenate(
        [dataset[name].values.ravel() for name in ("theory_error", "error_mean")]
    )
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()) / 1.3, float(values.max()) * 1.3) if values.size else (1e-3, 0.5)


def label_curves(
    axes: Axes, part: xr.Dataset, colors: np.ndarray, *, quantity: str = "error"
) -> None:
    """Write each curve's alpha_total at its right end, without overlaps."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends: list[tuple[float, str, Any]] = []
    for k, color in enumerate(colors):
        curve = part.isel(alpha_total=k)
        solved = curve[f"theory_{quantity}"].values[curve["theory_status"].values == 0]
        if solved.size:
            height = to_axes.transform((1.0, solved[-1]))[1]
            label = f"{curve['alpha_total'].item():g}"
            ends.append((height, label if ends else rf"$\alpha_t$ = {label}", color))
    ends.sort(key=lambda end: end[0])
    gap = min(LABEL_HEIGHT, 1.0 / max(len(ends) - 1, 1))
    places = _apart([height for height, _, _ in ends], gap)
    for place, (_, label, color) in zip(places, ends, strict=True):
        axes.annotate(
            label,
            (1.0, place),
            xycoords="axes fraction",
            va="center",
            color=color,
            annotation_clip=False,
            fontsize=7 * gap / LABEL_HEIGHT,
        )


def _apart(heights: list[float], gap: float) -> list[float]:
    """Move ascending heights apart to `gap`, within 0 and 1 where they fit."""
    places = list(heights)
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    ceiling = 1.0
    for k in reversed(range(len(places))):
        places[k] = min(places[k], ceiling)
        ceiling = places[k] - gap
    return places


def row_legend(figure: Figure, dataset: xr.Dataset, colors: np.ndarray) -> None:
    """Write the curves' alpha_total in a row above the panels."""
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    names = [f"{value:g}" for value in dataset["alpha_total"].values]
    names[0] = rf"$\alpha_t$ = {names[0]}"
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=min(len(names), 5),
        columnspacing=1.0,
        handletextpad=0.4,
    )


def missing_note(figure: Figure, dataset: xr.Dataset) -> None:
    """Explain the crosses of missing draws and failed theory, if there are any."""
    sentences = []
    if bool((_missing(dataset) > 0).any()):
        sentences.append(r"$\times$ n: n draws without a student")
    if bool((dataset["theory_status"] != 0).any()):
        sentences.append(r"$\times$ below: theory not converged")
    if sentences:
        figure.supxlabel("; ".join(sentences), fontsize=6)


def _missing(dataset: xr.Dataset) -> xr.DataArray:
    return sum((dataset[name] for name in COUNTS), start=xr.DataArray(0))


def alpha_axis(axes: Axes, values: tuple[float, float], label: str) -> None:
    """Make the horizontal axis logarithmic over two values.

    It covers a decade where they are equal.
    """
    low, high = values
    log_axis(axes, "x", (low, high) if high > low else (low / 3, high * 3))
    axes.set_xlabel(label)


def cell_edges(centres: np.ndarray, *, logarithmic: bool = True) -> np.ndarray:
    """Return the edges of cells, halfway between ascending centres on their axis."""
    places = np.log(centres) if logarithmic else np.asarray(centres, dtype=np.float64)
    if len(places) == 1:
        edges = places[0] + np.array([-1.0, 1.0])
    else:
        middle = (places[1:] + places[:-1]) / 2
        edges = np.array([2 * places[0] - middle[0], *middle, 2 * places[-1] - middle[-1]])
    return np.exp(edges) if logarithmic else edges


def mark_failed(axes: Axes, x: list[float], y: list[float]) -> None:
    """Draw a cross where the theory has no certified answer."""
    axes.plot(x, y, "x", color="0.2", markersize=3, linestyle="none", zorder=4)
