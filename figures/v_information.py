"""Draws the figure `v-information`: V-information against keep_fraction by alpha_total."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import theory
from figures.curves import curves_dataset, solve_and_simulate
from figures.panels import (
    COUNTS,
    FRACTION_LABEL,
    LINES_AND_POINTS,
    draw_curves,
    label_curves,
    missing_note,
    new_figure,
)
from figures.settings import CurveSettings, policy_words, probe_words
from figures.style import curve_colors, log_axis

TOP = 0.77  # end of the vertical axis, with room for the name of log 2


def compute(
    settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute I_V by theory and by simulation."""
    ((solution, simulation),) = solve_and_simulate(
        settings, [settings], cache=cache, progress=progress
    )
    from sims.results import mean_and_stderr  # JAX, which drawing does without

    # The mean is over the information of each draw's student, which is not linear in the error.
    error = simulation["error"].values
    solved = np.isfinite(error)
    mean, stderr = mean_and_stderr(theory.v_information(np.where(solved, error, 0.5)), solved)
    dataset = curves_dataset(
        settings,
        {"theory_information": solution.v_information, "theory_status": solution.status},
        {"information_mean": mean, "information_stderr": stderr}
        | {name: simulation[name] for name in ("solved", *COUNTS)},
    )
    return dataset.assign_coords(theta_deg=settings.theta_deg[0]) if settings.theta_deg else dataset


def draw(dataset: xr.Dataset, settings: CurveSettings) -> Figure:
    """Draw the curves, labelled at their right ends, and a dotted line at log 2."""
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


def caption(dataset: xr.Dataset, settings: CurveSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"V-information I_V = log 2 - H_V(Y|X) of the student's field about the label, in nats, "
        f"against the selection ratio; {policy_words(settings)} by "
        f"{probe_words(settings)}. Dotted: log 2, all that there "
        f"is to know about a label. {LINES_AND_POINTS}"
    )
