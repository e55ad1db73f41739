"""Draws the six figures of the error against keep_fraction.

Each has a panel for each value of a parameter.
"""

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import replica
from figures.curves import (
    angle_of_shift,
    curves_dataset,
    panels_of,
    solve_and_simulate,
    theory_shift,
)
from figures.panels import (
    COUNTS,
    LINES_AND_POINTS,
    draw_curves,
    error_label,
    finish_axes,
    label_curves,
    missing_note,
    new_figure,
    row_legend,
)
from figures.settings import CurveSettings, policy_words, probe_words, symbol
from figures.style import curve_colors

MOST_IN_CORNER = 6  # curves whose names fit the empty corner


@dataclasses.dataclass(frozen=True)
class ErrorCurves:
    """A figure of the error against keep_fraction, with a panel for each parameter value.

    Attributes:
        axis: the parameter.
        subject: begins the caption, before the policy and the probe are named.
        own_limits: whether each panel has error limits of its own instead of those of all.
    """

    axis: str
    subject: str = "Fitting error against the selection ratio"
    own_limits: bool = False

    def compute(
        self, settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
    ) -> xr.Dataset:
        """Compute the theory and the simulation of every panel.

        The theory is on a fine grid of fractions.

        Returns:
            `theory_error` and `theory_status` on (axis, alpha_total, theory_fraction);
            `error_mean`, `error_stderr` and the counts of draws by outcome on (axis, alpha_total,
            keep_fraction); `floor`, the error of a perfect student, where the teacher is shifted.
        """
        # A trained probe has no given angle, so the angle cannot be the axis.
        axis = self.axis if getattr(settings, self.axis) else "policy"
        panels = panels_of(settings, axis)
        found = solve_and_simulate(settings, panels, cache=cache, progress=progress)
        parts = [self.part(settings, solution, simulation) for solution, simulation in found]
        dataset = xr.concat(
            parts, dim=xr.DataArray(list(getattr(settings, axis)), dims=axis, name=axis)
        )
        floor = [angle_of_shift(theory_shift(panel)) / np.pi for panel in panels]
        return dataset.assign(floor=(axis, floor)) if any(floor) else dataset

    def part(
        self, settings: CurveSettings, solution: "replica.ReplicaSolution", simulation: xr.Dataset
    ) -> xr.Dataset:
        """Label the data of one panel."""
        return curves_dataset(
            settings,
            {"theory_error": solution.error, "theory_status": solution.status},
            {name: simulation[name] for name in ("error_mean", "error_stderr", "solved", *COUNTS)},
        )

    def draw(self, dataset: xr.Dataset, settings: CurveSettings) -> Figure:
        """Draw the panels in two columns, with a colour for each alpha_total."""
        figure, panels = new_figure(dataset.sizes[self.axis])
        colors = curve_colors(dataset.sizes["alpha_total"])
        parts = [dataset.sel({self.axis: value}) for value in dataset[self.axis].values]
        for axes, part in zip(panels, parts, strict=True):
            draw_curves(axes, part, colors)
            _draw_floor(axes, part)
            axes.set_title(symbol(self.axis, part[self.axis].item()))
        limits = parts if self.own_limits else None
        finish_axes(figure, panels, dataset, error_label(settings), limits)
        row_legend(figure, dataset, colors)
        missing_note(figure, dataset)
        return figure

    def caption(self, dataset: xr.Dataset, settings: CurveSettings) -> str:
        """Say in words what the picture shows."""
        return self.sentences(settings, _floor_words(dataset))

    def sentences(self, settings: CurveSettings, more: str = "") -> str:
        """Write the caption, with `more` sentences before the last ones."""
        return (
            f"{self.subject}, {policy_words(settings)} by {probe_words(settings)}. "
            f"{more}{LINES_AND_POINTS}"
        )


def _draw_floor(axes: Axes, part: xr.Dataset) -> None:
    """Draw the error of a perfect student where the teacher is shifted."""
    if "floor" in part and part["floor"].item() > 0:
        axes.axhline(part["floor"].item(), color="0.3", linewidth=0.7, linestyle=":", zorder=1)


def _floor_words(dataset: xr.Dataset) -> str:
    """Explain the dotted line in a caption, where there is one."""
    return "Dotted: the error of a perfect student. " if "floor" in dataset else ""


class OnePanel(ErrorCurves):
    """A figure of one panel, whose curves are labelled at their right ends."""

    def draw(self, dataset: xr.Dataset, settings: CurveSettings) -> Figure:
        """Draw the curves, with diamonds where the loss of an in-sample probe begins."""
        figure, (axes,) = new_figure(1)
        colors = curve_colors(dataset.sizes["alpha_total"])
        part = dataset.squeeze(set(dataset.dims) & {self.axis, "policy"})
        draw_curves(axes, part, colors)
        _draw_floor(axes, part)
        if "lossless_fraction" in part:
            axes.scatter(
                part["lossless_fraction"],
                part["lossless_error"],
                marker="D",
                s=16,
                facecolor="white",
                edgecolor=colors,
                linewidth=0.9,
                zorder=2.5,  # above the line, below a point
            )
        finish_axes(figure, [axes], dataset, error_label(settings))
        label_curves(axes, part, colors)
        missing_note(figure, dataset)
        return figure


class InSample(OnePanel):
    """A figure of the error with an in-sample probe.

    It also shows where selection begins to lose.
    """

    def compute(
        self, settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
    ) -> xr.Dataset:
        """Compute the curves of the one panel, without its axis."""
        dataset = super().compute(settings, cache=cache, progress=progress)
        return dataset.isel({self.axis: 0}, drop=True)

    def part(
        self, settings: CurveSettings, solution: "replica.ReplicaSolution", simulation: xr.Dataset
    ) -> xr.Dataset:
        """Label the curves and the points where hard selection begins to lose."""
        dataset = super().part(settings, solution, simulation)
        if settings.policy[0] not in ("hard", "hard-signed"):
            return dataset
        distinct = np.asarray(settings.alpha_total) / settings.redundancy[0]
        angle = np.asarray(solution.theta)[:, -1]
        if settings.downstream_deg[0]:
            angle = np.arccos(np.cos(angle) * np.cos(np.deg2rad(settings.downstream_deg[0])))
        return dataset.assign(
            lossless_fraction=("alpha_total", np.asarray(replica.lossless_fraction(distinct))),
            lossless_error=("alpha_total", angle / np.pi),
        )

    def caption(self, dataset: xr.Dataset, settings: CurveSettings) -> str:
        """Say in words what the picture shows, and what the diamonds are."""
        about = (
            "The probe's support vectors tie and are ranked by their dual variables, largest "
            "first. "
        )
        if "lossless_fraction" in dataset:
            about += (
                "Diamonds: f_sv, the share of support vectors, from which on the student is the "
                "probe and nothing is lost. "
            )
        return self.sentences(settings, about + _floor_words(dataset))


class Downstream(ErrorCurves):
    """A figure of the error against shifted teachers, with the size of each shift."""

    def compute(
        self, settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
    ) -> xr.Dataset:
        """Compute the curves, with `delta` beside the angle of each shift."""
        dataset = super().compute(settings, cache=cache, progress=progress)
        delta = np.tan(np.deg2rad(settings.downstream_deg))
        return dataset.assign_coords(delta=(self.axis, delta))

    def caption(self, dataset: xr.Dataset, settings: CurveSettings) -> str:
        """Say in words what the picture shows, and how the pearson mode differs."""
        if settings.overlap == "pearson":
            shift = (
                "The published notebook's downstream error: delta is added to every component of "
                "the teacher but the probe's own, and the overlap is mean-centred. Centring "
                "removes all of that shift but T' ~ T - delta J_p, which the lines are for. "
                "Dotted: the error of a perfect student, "
                "arctan(delta sin theta/(1 - delta cos theta))/pi. "
            )
        else:
            shift = (
                "The downstream teacher is T' ~ T + delta v, v a unit vector independent of the "
                "teacher and the probe. Dotted: the error of a perfect student, arctan(delta)/pi. "
            )
        return self.sentences(settings, shift)


class Policies(ErrorCurves):
    """A figure that compares one policy with others.

    The first policy is solid and the others are dashed.
    """

    def draw(self, dataset: xr.Dataset, settings: CurveSettings) -> Figure:
        """Draw the panels, with the legend in the empty corner where it fits."""
        first, *rivals = [str(name) for name in dataset["policy"].values]
        figure, (left, corner, *below) = new_figure(len(rivals) + 1)
        panels = [left, *below]
        colors = curve_colors(dataset.sizes["alpha_total"])
        for axes, rival in zip(panels, rivals, strict=True):
            draw_curves(axes, dataset.sel(policy=first), colors)
            draw_curves(axes, dataset.sel(policy=rival), colors, line="--", marker="s")
            _draw_floor(axes, dataset.sel(policy=first))
            axes.set_title(f"{first} and {rival}")
        finish_axes(figure, panels, dataset, error_label(settings))
        handles = [Line2D([], [], color=color) for color in colors]
        names = [symbol("alpha_total", value) for value in dataset["alpha_total"].values]
        if len(names) > MOST_IN_CORNER:
            row_legend(figure, dataset, colors)
            handles, names = [], []
        handles.append(Line2D([], [], color="0.3", marker="o", markeredgecolor="white", mew=0.3))
        handles.append(
            Line2D([], [], color="0.3", marker="s", linestyle="--", markerfacecolor="white")
        )
        corner.axis("off")
        corner.legend(handles, [*names, first, "the other policy"], loc="center", handlelength=2.4)
        missing_note(figure, dataset)
        return figure

    def caption(self, dataset: xr.Dataset, settings: CurveSettings) -> str:
        """Say in words what the picture shows."""
        first, *rivals = (policy_words(panel) for panel in panels_of(settings, self.axis))
        others = " and ".join(filter(None, [", ".join(rivals[:-1]), rivals[-1]]))
        return (
            f"{self.subject}: {first} (solid, filled), and {others} (dashed, open), by "
            f"{probe_words(settings)}. {_floor_words(dataset)}{LINES_AND_POINTS}"
        )


FITTING_ERROR = OnePanel(
    "theta_deg", "Fitting error of the max-margin student against the selection ratio"
)
ANGLE = ErrorCurves("theta_deg")
REDUNDANCY = ErrorCurves(
    "redundancy",
    "Fitting error against the selection ratio when the data hold r copies of every distinct "
    "example at constant total volume",
)
DOWNSTREAM = Downstream(
    "downstream_deg",
    "Downstream error against the selection ratio",
    own_limits=True,  # a shift's floor would leave half of a common axis empty
)
POLICIES = Policies("policy")
IN_SAMPLE = InSample("policy")
