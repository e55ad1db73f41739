"""Draws the figure `phase-diagram`: maps of the selection of least error.

The selections are compared at equal alpha_total and at equal alpha_kept.
"""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import replica
from figures.curves import shift_of
from figures.panels import FRACTION_LABEL, WIDTH, cell_edges, mark_failed
from figures.settings import PhaseSettings, symbol
from figures.style import log_axis
from replica.optimal.phase import Phase

VOLUMES = {"alpha_total": r"$\alpha_t$", "alpha_kept": r"$\alpha = f\,\alpha_t$"}
COLORS = {
    Phase.TIE: "0.85",
    Phase.RANDOM: "#F0E442",
    Phase.HARD: "#D55E00",
    Phase.EASY: "#56B4E9",
}
GAIN = 0.05  # relative gain of a window over the best of the three, from which it is hatched


def compute(
    settings: PhaseSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Find the selections of least error at equal alpha_total and at equal alpha_kept.

    Both volumes take the same numbers.
    """
    volume = np.asarray(settings.alpha_total)[:, None, None]
    theta = np.deg2rad(settings.theta_deg)[:, None]
    fraction = np.asarray(settings.keep_fraction)
    dims = ("volume", "theta_deg", "keep_fraction")
    parts = []
    for name in settings.equal:
        given: dict[str, Any] = {name: volume}
        found = replica.phase_diagram(fraction, theta, downstream=shift_of(settings), **given)
        named = np.minimum(
            np.minimum(found.hard_error, found.easy_error), np.asarray(found.random_error)
        )
        parts.append(
            xr.Dataset(
                {
                    "phase": (dims, np.asarray(found.phase)),
                    "named_phase": (dims, np.asarray(found.named_phase)),
                    "window_gain": (dims, 1 - np.asarray(found.window_error) / named),
                    "lo": (dims, np.asarray(found.lo)),
                }
            )
        )
    equal = xr.DataArray(list(settings.equal), dims="equal", name="equal")
    return xr.concat(parts, dim=equal).assign_coords(
        volume=list(settings.alpha_total),
        theta_deg=list(settings.theta_deg),
        keep_fraction=list(settings.keep_fraction),
    )


def draw(dataset: xr.Dataset, settings: PhaseSettings) -> Figure:
    """Draw maps, in rows by kind of volume and in columns by angle."""
    rows, columns = dataset.sizes["equal"], dataset.sizes["theta_deg"]
    figure = Figure(figsize=(WIDTH * max(columns, 4) / 4, 0.5 + 1.6 * rows))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for row, name in zip(panels, dataset["equal"].values, strict=True):
        for axes, theta in zip(row, dataset["theta_deg"].values, strict=True):
            _draw_map(axes, dataset.sel(equal=name, theta_deg=theta))
            axes.set_title(symbol("theta_deg", theta))
        row[0].set_ylabel(f"{VOLUMES[str(name)]}")
    for axes in panels[-1]:
        axes.set_xlabel(FRACTION_LABEL)
    names = {
        Phase.HARD: "hard",
        Phase.EASY: "easy",
        Phase.RANDOM: "random",
        Phase.TIE: "tie",
    }
    met = np.unique(dataset["named_phase"].values)
    handles = [
        Patch(facecolor=COLORS[phase], label=name) for phase, name in names.items() if phase in met
    ]
    label = f"a window gains more than {GAIN:.0%}"
    handles.append(Patch(facecolor="white", edgecolor="0.2", hatch="////", label=label))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _draw_map(axes: Axes, part: xr.Dataset) -> None:
    volume, fraction = part["volume"].values, part["keep_fraction"].values
    phase = part["named_phase"].transpose("volume", "keep_fraction").values
    gain = part["window_gain"].transpose("volume", "keep_fraction").values
    phases = sorted(COLORS)
    colors = ListedColormap([COLORS[phase] for phase in phases])
    limits = [phases[0] - 0.5, *(np.add(phases[:-1], phases[1:]) / 2), phases[-1] + 0.5]
    shown = np.ma.masked_less(phase, 0)
    x, y = cell_edges(fraction), cell_edges(volume)
    axes.pcolormesh(x, y, shown, cmap=colors, norm=BoundaryNorm(limits, 4))
    hatched = [
        [(x[j], y[i]), (x[j + 1], y[i]), (x[j + 1], y[i + 1]), (x[j], y[i + 1])]
        for i, j in np.argwhere((phase >= 0) & (gain >= GAIN))
    ]
    axes.add_collection(
        PolyCollection(hatched, facecolor="none", edgecolor="0.2", linewidth=0, hatch="////")
    )
    row, column = np.nonzero(phase < 0)
    mark_failed(axes, fraction[column].tolist(), volume[row].tolist())
    for name, values in (("x", fraction), ("y", volume)):
        # The axes show the computed range, without the outer halves of its cells.
        ends = values if len(values) > 1 else cell_edges(values)
        log_axis(axes, name, (ends[0], ends[-1]))


def caption(dataset: xr.Dataset, settings: PhaseSettings) -> str:
    """Say in words what the picture shows."""
    return (
        "The best of hard, easy and random selection (colour) of a fraction f, and where the best "
        f"window of ranks between hard and easy has at least {GAIN:.0%} less error than all three "
        "(hatched). Above at given data alpha_t: three students trained on equally many of them. "
        "Below at a given training budget alpha, chosen from alpha/f. Replica theory; crosses: "
        "points without a certified answer."
    )
