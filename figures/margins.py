"""Draws the figure `margins`: the theory's density and atom on simulated histograms."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import replica
import sims
import theory
from figures.curves import policy_of
from figures.panels import new_figure
from figures.settings import MarginSettings, policy_words, symbol
from figures.style import STUDENT, TEACHER

Floats = NDArray[np.float64]

AXES = ("alpha_total", "keep_fraction", "theta_deg")


def compute(
    settings: MarginSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute histograms over all draws, and the theory's density and atom.

    The simulation is short and is not cached.
    """
    parts = [
        _point(settings, alpha_total, keep_fraction, theta_deg)
        for alpha_total in settings.alpha_total
        for keep_fraction in settings.keep_fraction
        for theta_deg in settings.theta_deg
    ]
    return xr.concat(parts, dim="panel")


def _point(
    settings: MarginSettings, alpha_total: float, keep_fraction: float, theta_deg: float
) -> xr.Dataset:
    theta = np.deg2rad(theta_deg)
    problem = theory.PerceptronProblem.grid(
        alpha_total=alpha_total,
        keep_fraction=keep_fraction,
        theta=theta,
        policy=policy_of(settings),
        redundancy=settings.redundancy[0],
    )
    solution = replica.solve(problem)
    students = [
        student
        for student in sims.margins(problem, settings.dim, settings.draws, settings.seed)
        if student.status == sims.MaxMarginStatus.SOLVED
    ]
    simulated_kappa = np.array([student.margin for student in students])
    supported = np.array([np.mean(student.support) for student in students])
    kappa = float(np.asarray(solution.margin))
    grid, density_theory = _theory_density(settings, solution, keep_fraction, theta)
    bins = settings.bins
    width = (grid[-1] - kappa) / bins
    edges = kappa + width * np.arange(-bins // 4, bins + 1)
    histograms = np.array(
        [
            np.histogram(student.margins[~student.support], edges)[0] / len(student.margins)
            for student in students
        ]
    ).reshape(-1, len(edges) - 1)
    mean, stderr = _mean_and_stderr(histograms / width)
    atom, atom_stderr = _mean_and_stderr(supported)
    kappa_mean, kappa_stderr = _mean_and_stderr(simulated_kappa)
    return xr.Dataset(
        {
            "edges": ("edge", edges),
            "density": ("bin", mean),
            "density_stderr": ("bin", stderr),
            "atom": atom,
            "atom_stderr": atom_stderr,
            "margin_mean": kappa_mean,
            "margin_stderr": kappa_stderr,
            "unsolved": settings.draws - len(students),
            "theory_density_at": ("point", grid),
            "theory_density": ("point", density_theory),
            "theory_atom": float(np.asarray(solution.support_fraction)),
            "theory_margin": kappa,
            "theory_status": int(np.asarray(solution.status)),
        },
    ).assign_coords(alpha_total=alpha_total, keep_fraction=keep_fraction, theta_deg=theta_deg)


def _theory_density(
    settings: MarginSettings,
    solution: "replica.ReplicaSolution",
    keep_fraction: float,
    theta: float,
) -> tuple[Floats, Floats]:
    """Compute the density of margins above the smallest one.

    It ends where almost no margins are left.
    """
    import jax.numpy as jnp  # which drawing does without

    from hardset.float64 import float64

    @float64
    def kept_weight() -> Any:
        given = (keep_fraction, theta, settings.redundancy[0])
        fraction, angle, redundancy = (jnp.asarray(one) for one in given)
        return policy_of(settings).kept_weight(fraction, angle, redundancy)

    student: dict[str, Any] = {
        "orthogonal": solution.orthogonal,
        "student_angle": solution.student_angle,
        "theta": theta,
        "weight": kept_weight(),
    }
    kappa = float(np.asarray(solution.margin))
    farthest = kappa + settings.reach
    coarse = np.linspace(kappa, farthest, settings.density_points)
    below = np.asarray(theory.support_mass(coarse, **student))
    # kappa itself is left out: where all kept examples are support vectors the grid would be empty.
    end = np.min(coarse[1:], where=below[1:] >= 1 - settings.beyond, initial=farthest)
    grid = np.linspace(kappa, end, settings.density_points)
    return grid, np.asarray(theory.student_margin_density(grid, **student))


def _mean_and_stderr(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard error over the first axis.

    They are NaN where too few draws were solved.
    """
    count = len(values)
    mean = values.mean(axis=0) if count else np.full(values.shape[1:], np.nan)
    spread = values.std(axis=0, ddof=1) if count > 1 else np.full(values.shape[1:], np.nan)
    return mean, spread / np.sqrt(max(count, 1))


def draw(dataset: xr.Dataset, settings: MarginSettings) -> Figure:
    """Draw the densities on the left axes, the atoms on the right ones."""
    figure, panels = new_figure(dataset.sizes["panel"], row_height=1.8)
    shown = _differing(dataset) or list(AXES)
    lines = 3 if bool((dataset["unsolved"] > 0).any()) else 2
    for k, axes in enumerate(panels):
        panel = dataset.isel(panel=k)
        right = axes.twinx()
        _draw_panel(axes, right, panel)
        title = ", ".join(symbol(name, panel[name].item()) for name in shown)
        axes.set_title(title, pad=4 + 8 * lines)
        outer = k % 2 == 1 or k == len(panels) - 1
        right.tick_params(axis="y", colors=STUDENT, labelright=outer)
        if k % 2 == 0:
            axes.set_ylabel(r"density above $\kappa$")
        if outer:
            right.set_ylabel(r"share at $\kappa$", color=STUDENT)
        if k >= len(panels) - 2:
            axes.set_xlabel(r"margin $y\,J\cdot x/|J|$")
    return figure


def _draw_panel(axes: Axes, right: Axes, panel: xr.Dataset) -> None:
    edges = panel["edges"].values
    axes.stairs(panel["density"], edges, fill=True, color="0.82", zorder=1)
    axes.errorbar(
        (edges[1:] + edges[:-1]) / 2,
        panel["density"],
        yerr=panel["density_stderr"],
        fmt="none",
        ecolor="0.5",
        elinewidth=0.6,
        zorder=2,
    )
    if panel["theory_status"].item() == 0:
        axes.plot(panel["theory_density_at"], panel["theory_density"], color=TEACHER, zorder=3)
        right.vlines(
            panel["theory_margin"].item(),
            0,
            panel["theory_atom"].item(),
            color=STUDENT,
            linewidth=1.6,
        )
        atom = f"{panel['theory_atom'].item():.3f}"
    else:
        atom = "not converged"
    right.errorbar(
        panel["margin_mean"].item(),
        panel["atom"].item(),
        xerr=panel["margin_stderr"].item(),
        yerr=panel["atom_stderr"].item(),
        fmt="o",
        color=STUDENT,
        markeredgecolor="white",
        markeredgewidth=0.3,
        elinewidth=0.7,
    )
    note = f"theory {atom}"
    note += f"\nsim. {_with_stderr(panel['atom'].item(), panel['atom_stderr'].item())}"
    if panel["unsolved"].item():
        note += f"\n{panel['unsolved'].item():d} draws unsolved"
    # The text stands above the panel: inside, it would cover the data of some panel.
    axes.annotate(
        note,
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=6,
        color=STUDENT,
    )
    axes.set_xlim(edges[0], edges[-1])
    error = np.nan_to_num(panel["density_stderr"].values)
    heights = np.append(panel["density"].values + error, panel["theory_density"].values)
    axes.set_ylim(0, 1.05 * max(np.max(heights, where=np.isfinite(heights), initial=0.0), 1e-3))
    right.set_ylim(0, 1.05)
    right.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    right.spines["right"].set(visible=True, color=STUDENT)


def _differing(dataset: xr.Dataset) -> list[str]:
    """List the parameters that are not the same in all panels."""
    return [name for name in AXES if np.unique(dataset[name].values).size > 1]


def _with_stderr(value: float, stderr: float) -> str:
    """Write a value to three decimals, with its standard error in units of the last."""
    return f"{value:.3f}({round(stderr * 1e3):d})" if np.isfinite(stderr) else f"{value:.3f}"


def caption(dataset: xr.Dataset, settings: MarginSettings) -> str:
    """Say in words what the picture shows."""
    differing = _differing(dataset)
    same = "".join(
        f", {name} = {dataset[name].values.flat[0]:g}" for name in AXES if name not in differing
    )
    return (
        f"Margins y J.x/abs(J) of the kept examples under the student trained on them, "
        f"{policy_words(settings)}{same}. Left axes: margins above kappa, density per kept "
        "example; grey: simulation with standard error, black: replica theory. Right axes, "
        "orange: the share of the kept examples that sit exactly at kappa, the support vectors; "
        "line: theory, point: simulation, at the mean of its kappas. Every draw has a kappa of its "
        "own, hence grey below the theory's."
    )
