"""V-information against selection ratio for a perfect probe, one curve for each alpha_total."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import replica
import sims
from figures.curves import Panel, theory_fractions
from figures.figure import CurveSettings
from figures.panels import (
    COUNTS,
    FRACTION_LABEL,
    LINES_AND_POINTS,
    draw_curves,
    label_curves,
    missing_note,
    new_figure,
)
from figures.style import curve_colors, log_axis
from sims.results import mean_and_stderr
from theory.field_information import v_information

TOP = 0.77  # of the vertical axis: room for the name of log 2


def compute(
    settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: I_V of hard selection at one probe angle, theory and simulation."""
    panel = Panel(settings.theta_deg[0], theta_deg=settings.theta_deg[0])
    shift = panel.shift(settings.overlap)
    fractions = theory_fractions(settings)
    solution = replica.solve(panel.problem(settings.alpha_total, fractions, shift))
    simulated = sims.run(
        panel.problem(settings.alpha_total, settings.keep_fraction, shift),
        settings.dim,
        settings.draws,
        settings.seed,
        cache=cache,
        progress=progress,
    )
    # The information of each draw's student, then the mean: it is not linear in the error.
    error = simulated["error"].values
    solved = np.isfinite(error)
    information = v_information(np.where(solved, error, 0.5))
    mean, stderr = mean_and_stderr(information, solved)
    line, grid = ("alpha_total", "theory_fraction"), ("alpha_total", "keep_fraction")
    return xr.Dataset(
        {
            "theory_information": (line, np.asarray(solution.v_information)),
            "theory_status": (line, np.asarray(solution.status)),
            "information_mean": (grid, mean),
            "information_stderr": (grid, stderr),
            "solved": (grid, simulated["solved"].values),
            **{name: (grid, simulated[name].values) for name in COUNTS},
        },
        coords={
            "alpha_total": list(settings.alpha_total),
            "keep_fraction": list(settings.keep_fraction),
            "theory_fraction": fractions,
            "theta_deg": panel.theta_deg,
        },
    )


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`, curves labelled at their right ends, log 2 dotted."""
    figure, (axes,) = new_figure(1)
    colors = curve_colors(dataset.sizes["alpha_total"])
    axes.axhline(np.log(2), color="0.5", linestyle=":", linewidth=0.8, zorder=1)
    draw_curves(axes, dataset, colors, quantity="information")
    fractions = dataset["theory_fraction"].values
    log_axis(axes, "x", (fractions.min(), fractions.max() * 1.25))
    axes.set_ylim(-0.02, TOP)  # markers at zero stay whole
    axes.set_xlabel(FRACTION_LABEL)
    axes.set_ylabel("V-information $I_V$ (nats)")
    axes.annotate(
        r"$\log\,2$",
        (0.02, np.log(2)),
        xycoords=axes.get_yaxis_transform(),
        va="bottom",
        color="0.4",
    )
    label_curves(axes, dataset, colors, quantity="information")
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        f"V-information I_V = log 2 - H_V(Y|X) of the student's field about the label, in nats, "
        f"against the selection ratio; hard selection by a probe at "
        f"{dataset['theta_deg'].item():g} degrees from the teacher. Dotted: log 2, all that there "
        f"is to know about a label. {LINES_AND_POINTS}"
    )
