"""Draws the charts of the page as SVG.

They follow the reader's light or dark scheme.
"""

import base64
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pretrain_jax.report.published import DATASETS, FIGURE_6, TABLES
from pretrain_jax.report.statistics import ALL_DATA, Row
from pretrain_jax.report.toy_model import Bridge
from selection import ToyModelAdvice

WIDTH = 8.0  # inches
PANELS = 4  # of a line of Figure 6
INK = "#010203"  # drawn in it, and replaced by the colour of the page's text

STYLE: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "hardset",
    # A name with a dollar sign is no formula. Texts that are formulas switch this on themselves.
    "text.parse_math": False,
}

# Okabe and Ito's colours, told apart with any colour vision; the marker tells methods apart, too.
LOOKS = {
    "all": (INK, "D"),
    "random": ("#8c8c8c", "v"),
    "meddel": ("#0072B2", "s"),
    "optidel-s": ("#E69F00", "P"),
    "optidel": ("#D55E00", "^"),
    "infomax": ("#009E73", "o"),
    "hard-images": ("#CC79A7", "X"),
    "random-patches": ("#56B4E9", "<"),
}
OTHER = ("#B8A600", "*")
NAMES = {
    "all": "all data",
    "meddel": "MedDEL",
    "optidel": "OptiDEL",
    "optidel-s": "OptiDEL-S",
    "infomax": "InfoMax",
}


@dataclass(frozen=True)
class Chart:
    """Represents a drawn chart.

    Attributes:
        figure: the drawing.
        alt: what it shows, in words.
    """

    figure: Figure
    alt: str

    @property
    def source(self) -> str:
        """Return the chart as an address that an image of the page can have."""
        return data_address(self.svg(), "image/svg+xml")

    def svg(self) -> bytes:
        """Render the chart as an SVG image whose ink is light on dark pages."""
        buffer = io.StringIO()
        with rc_context(STYLE):
            # Without a date the same numbers give the same bytes.
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        text = buffer.getvalue()
        scheme = (
            "<style>svg{color:#1b1b1b}"
            "@media (prefers-color-scheme:dark){svg{color:#e6e6e6}}</style>"
        )
        head, rest = text.split("<defs>", 1)
        return f"{head}{scheme}<defs>{rest}".replace(INK, "currentColor").encode()


def data_address(data: bytes, media: str) -> str:
    """Encode a file of a media type as an address.

    Such a type is "image/png".
    """
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def figure_6(own: Mapping[str, Sequence[Row]], others: Mapping[str, Sequence[Row]]) -> Chart:
    """Draw mIoU against storage of MedDEL and OptiDEL, as the paper prints it.

    Args:
        own: rows of one's own runs by data set of the paper, drawn as hollow points.
        others: rows of one's own runs on other data sets by their panel's title.
    """
    lines = 2 + -(-len(others) // PANELS)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1 * lines))
        panels = np.ravel(figure.subplots(lines, PANELS, sharex=True))
        for axes, dataset in zip(panels[: len(DATASETS)], DATASETS, strict=True):
            for method in FIGURE_6:
                color, marker = _look(method)
                x, y = TABLES[0].curve(dataset, method)
                axes.plot(x, y, f"-{marker}", color=color, label=label(method))
            axes.axhline(y[-1], color=INK, linestyle=":", label=label(ALL_DATA))
            for row in (one for one in own.get(dataset, ()) if one.is_point):
                _hollow(axes, [row], "")
            axes.set_title(dataset)
            _storage_axis(axes, (5, 10, 25, 50, 100))
        for axes, (title, rows) in zip(panels[len(DATASETS) :], others.items(), strict=False):
            shown = [row for row in rows if row.is_point]
            whole = [row for row in shown if row.method == ALL_DATA]
            for method in FIGURE_6:
                _hollow(axes, [row for row in shown if row.method == method] + whole, "-", method)
            for row in whole:
                axes.axhline(100 * row.scores["miou"].value, color=INK, linestyle=":")
            axes.set_title(textwrap.fill(title, 24))
        for axes in panels[len(DATASETS) + len(others) :]:
            axes.remove()
        # Below them the last line may be empty.
        for axes in panels[len(DATASETS) - PANELS : len(DATASETS)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("storage volume (%)", fontsize=9)
        figure.supylabel("mIoU (%)", fontsize=9)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
    words = "".join(f" Beside them {title}: {_in_words(rows)}" for title, rows in others.items())
    return Chart(
        figure,
        "Eight panels, one a data set: mIoU in percent of MedDEL and OptiDEL against 5, 10, 25, 50 "
        f"and 100 percent storage. The numbers are those of Table 1 below.{words}",
    )


def runs_chart(rows: Sequence[Row]) -> Chart:
    """Draw mIoU against storage of one's own runs.

    It shows mean and standard deviation.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4))
        axes = figure.subplots()
        _draw_runs(axes, rows, 0.0, 100.0)
        axes.set_xlabel("storage volume (%)")
        axes.set_ylabel("mIoU (%)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Chart(figure, f"mIoU in percent against storage volume in percent. {_in_words(rows)}")


def bridge_chart(bridge: Bridge | None, rows: Sequence[Row]) -> Chart:
    """Draw the theory's error against the kept fraction.

    The measured error stands beside it.

    Args:
        bridge: what the theory says; without a recommendation there is no curve of it.
        rows: of one's own runs.
    """
    advice = None if bridge is None else bridge.recommendation
    words = f"Measured 1 - mIoU against storage. {_in_words(rows)}"
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4))
        *before, measured = figure.subplots(1, 1 if advice is None else 2, squeeze=False)[0]
        if bridge is not None and advice is not None:
            _draw_theory(before[0], bridge, advice)
            words = (
                "Left: the toy model's error against the fraction kept, least at "
                f"{100 * advice.toy_model_fraction:.3g} percent. Right: {words}"
            )
        _draw_runs(measured, rows, 1.0, -1.0)
        measured.set_xlabel("storage volume (%)")
        measured.set_ylabel("measured error, 1 - mIoU")
        measured.set_title("measured")
        figure.legend(*measured.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return Chart(figure, words)


def information_chart(sets: Mapping[str, tuple[float, float]]) -> Chart:
    """Draw the V-information of each set with its standard error.

    Args:
        sets: value and standard error in nats for each predicted value, by name.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.26 * len(sets)))
        axes = figure.subplots()
        for row, (name, (value, stderr)) in enumerate(sets.items()):
            color, marker = _look(name.partition("/")[0].rpartition("-")[0])
            axes.errorbar(value, row, xerr=stderr, fmt=marker, color=color)
        axes.axvline(0.0, color=INK, linestyle=":", linewidth=0.7)
        axes.set_yticks(range(len(sets)), list(sets))
        axes.set_ylim(len(sets) - 0.5, -0.5)
        axes.set_xlabel("V-information (nats per predicted value)")
    words = "; ".join(f"{name} {value:.4g}" for name, (value, _) in sets.items())
    return Chart(figure, f"V-information of each set in nats per predicted value: {words}.")


def cost_chart(seconds: Mapping[str, float]) -> Chart:
    """Draw the seconds of each kind of stage."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.26 * len(seconds)))
        axes = figure.subplots()
        axes.barh(list(seconds), list(seconds.values()), color="#0072B2", height=0.6)
        axes.invert_yaxis()
        axes.set_xlabel("time, all runs together (s)")
    words = "; ".join(f"{name} {value:.3g}" for name, value in seconds.items())
    return Chart(figure, f"Seconds of each stage, all runs together: {words}.")


def _hollow(axes: Axes, rows: Sequence[Row], line: str, method: str | None = None) -> None:
    """Draw own runs of a method with standard deviations, if there are any."""
    own = sorted(rows, key=lambda row: row.pixels)
    if not own or (method is not None and all(row.method != method for row in own)):
        return
    color, marker = _look(own[0].method if method is None else method)
    axes.errorbar(
        [100 * row.pixels for row in own],
        [100 * row.scores["miou"].value for row in own],
        yerr=[100 * row.scores["miou"].sd for row in own],
        fmt=f"{line}{marker}",
        color=color,
        mfc="none",
    )


def _draw_theory(axes: Axes, bridge: Bridge, advice: ToyModelAdvice) -> None:
    percent, color = 100 * bridge.fractions, LOOKS["infomax"][0]
    axes.fill_between(percent, bridge.low, bridge.high, color=color, alpha=0.25, linewidth=0)
    axes.plot(percent, bridge.error, color=color)
    axes.axvline(100 * advice.toy_model_fraction, color=INK, linestyle=":")
    axes.set_title(f"toy model, {advice.toy_model_policy} selection")
    least = float(np.nanmin(bridge.low))
    if np.nanmax(bridge.high) > 3 * least:
        axes.set_yscale("log")
        decades = 10.0 ** np.arange(math.floor(math.log10(least)), 1)
        axes.yaxis.set_major_locator(FixedLocator(np.outer(decades, (1, 2, 5)).ravel().tolist()))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("kept fraction (%)")
    axes.set_ylabel(r"fitting error $\arccos(R)/\pi$", parse_math=True)
    _storage_axis(axes, (1, 2, 5, 10, 20, 50, 100))


def _draw_runs(axes: Axes, rows: Sequence[Row], offset: float, scale: float) -> None:
    """Draw mIoU with standard deviations, a line for each method.

    What is drawn is offset + scale * mIoU.
    """
    shown = [row for row in rows if row.is_point]
    methods = list(dict.fromkeys(row.method for row in shown))
    for place, method in enumerate(methods):
        own = [row for row in shown if row.method == method]
        color, marker = _look(method)
        # Side by side: methods share their storage volumes.
        shift = 1.0 if method == ALL_DATA else 1.025 ** (place - len(methods) / 2)
        values = [row.scores["miou"] for row in own]
        axes.errorbar(
            [100 * row.pixels * shift for row in own],
            [offset + scale * one.value for one in values],
            yerr=[abs(scale) * one.sd for one in values],
            fmt=f"-{marker}",
            color=color,
            elinewidth=0.8,
            label=label(method),
        )
    if shown:
        _storage_axis(axes, sorted({float(f"{100 * row.pixels:.2g}") for row in shown}))


def _storage_axis(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_xscale("log")
    apart = [tick for k, tick in enumerate(ticks) if k == 0 or tick > 1.15 * ticks[k - 1]]
    axes.xaxis.set_major_locator(FixedLocator(apart))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def label(method: str) -> str:
    """Call a method by its name in print."""
    return NAMES.get(method, method)


def _look(method: str) -> tuple[str, str]:
    return LOOKS.get(method, OTHER)


def _in_words(rows: Sequence[Row]) -> str:
    return (
        "; ".join(
            f"{label(row.method)} at {row.percent:g} percent: mIoU "
            f"{100 * row.scores['miou'].value:.2f} percent"
            for row in rows
            if math.isfinite(row.scores["miou"].value)
        )
        + "."
    )
