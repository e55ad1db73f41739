"""Distribution of the kept examples' margins: theory's density and atom on simulated histograms."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import replica
from figures.panels import new_figure
from figures.settings import Settings
from figures.spec import FigureSpec
from figures.style import STUDENT, TEACHER
from sims.cells import problem_cells
from sims.draws import draw_rows
from sims.maxmargin import MaxMarginStatus, max_margin
from sims.records import ProbeFrame
from sims.selection import keep_rows, rank_rows
from theory._float64 import float64
from theory.densities import student_margin_density
from theory.policies import Hard
from theory.problem import PerceptronProblem

Floats = NDArray[np.float64]

BINS = 48
DENSITY_POINTS = 193
SPREAD = 3.0  # width of the histogram beyond kappa: the fields have unit variance


def compute(settings: Settings, *, cache: Path | None = None, progress: bool = False) -> xr.Dataset:
    """The figure's data: histograms over all draws, and the theory's density and atom.

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
    settings: Settings, alpha_total: float, keep_fraction: float, theta_deg: float
) -> xr.Dataset:
    problem = PerceptronProblem.grid(
        alpha_total=alpha_total, keep_fraction=keep_fraction, theta=np.deg2rad(theta_deg)
    )
    solution = replica.solve(problem)
    draws = [_student(problem, settings, number) for number in range(settings.draws)]
    draws = [student for student in draws if student.solved]
    simulated_kappa = np.array([draw.margin for draw in draws])
    supported = np.array([np.mean(draw.support) for draw in draws])
    kappa = float(np.asarray(solution.margin))
    low = max(0.0, kappa - 0.25 * SPREAD)
    edges = np.linspace(low, kappa + SPREAD, BINS + 1)
    histograms = [
        np.histogram(draw.margins[~draw.support], edges)[0] / len(draw.margins) for draw in draws
    ]
    density = np.array(histograms) / np.diff(edges)
    grid = np.linspace(kappa, kappa + SPREAD, DENSITY_POINTS)
    return xr.Dataset(
        {
            "edges": ("edge", edges),
            "density": ("bin", density.mean(axis=0)),
            "density_stderr": ("bin", _stderr(density)),
            "atom": supported.mean(),
            "atom_stderr": _stderr(supported),
            "kappa": simulated_kappa.mean(),
            "kappa_stderr": _stderr(simulated_kappa),
            "unsolved": settings.draws - len(draws),
            "theory_margin": ("point", grid),
            "theory_density": ("point", _theory_density(problem, solution, grid)),
            "theory_atom": float(np.asarray(solution.support_fraction)),
            "theory_kappa": kappa,
            "theory_status": int(np.asarray(solution.status)),
        },
    ).assign_coords(alpha_total=alpha_total, keep_fraction=keep_fraction, theta_deg=theta_deg)


class _Student(NamedTuple):
    """One simulated student: kappa, the kept rows' margins, which of them are support vectors."""

    margin: float
    margins: Floats
    support: NDArray[np.bool_]
    solved: bool


def _student(problem: PerceptronProblem, settings: Settings, number: int) -> _Student:
    (cell,) = problem_cells(problem, settings.dim)
    draw = draw_rows(settings.seed, settings.dim, number, cell.distinct)
    fields = draw.rows @ ProbeFrame.fixed(draw, cell.probe[1]).probe
    kept = draw.rows[keep_rows(draw, cell, fields, lambda: rank_rows(fields, cell.policy))]
    found = max_margin(kept)
    return _Student(
        margin=float(found.margin),
        margins=kept @ np.asarray(found.direction),
        support=np.asarray(found.support),
        solved=int(found.status) == MaxMarginStatus.SOLVED,
    )


@float64
def _theory_density(
    problem: PerceptronProblem, solution: replica.ReplicaSolution, grid: Floats
) -> Floats:
    theta = jnp.asarray(problem.probe.theta)  # type: ignore[union-attr]
    weight = Hard().kept_weight(jnp.asarray(problem.keep_fraction), theta, jnp.ones(()))
    density = student_margin_density(
        grid,
        orthogonal=solution.orthogonal,
        student_angle=solution.student_angle,
        theta=theta,
        weight=weight,
    )
    return np.asarray(density)


def _stderr(values: Floats) -> Floats:
    return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`: densities on the left axes, the atoms on the right ones."""
    figure, panels = new_figure(dataset.sizes["panel"])
    for k, axes in enumerate(panels):
        _draw_panel(axes, dataset.isel(panel=k))
        if k % 2 == 0:
            axes.set_ylabel("density")
        if k >= len(panels) - 2:
            axes.set_xlabel("student margin")
    return figure


def _draw_panel(axes: Axes, panel: xr.Dataset) -> None:
    axes.stairs(panel["density"], panel["edges"], fill=True, color="0.8", zorder=1)
    centres = (panel["edges"].values[1:] + panel["edges"].values[:-1]) / 2
    axes.errorbar(
        centres,
        panel["density"],
        yerr=panel["density_stderr"],
        fmt="none",
        ecolor="0.45",
        elinewidth=0.5,
        zorder=2,
    )
    atom = axes.twinx()
    atom.set_ylim(0, 1)
    atom.set_yticks([])
    if panel["theory_status"].item() == 0:
        axes.plot(panel["theory_margin"], panel["theory_density"], color=TEACHER, zorder=3)
        atom.vlines(panel["theory_kappa"].item(), 0, panel["theory_atom"].item(), color=STUDENT)
    atom.errorbar(
        panel["kappa"].item(),
        panel["atom"].item(),
        xerr=panel["kappa_stderr"].item(),
        yerr=panel["atom_stderr"].item(),
        fmt="o",
        color=STUDENT,
    )
    note = f"$P$ = {panel['theory_atom'].item():.3f}\nsim. {panel['atom'].item():.3f}"
    if panel["unsolved"].item():
        note += f"\n{panel['unsolved'].item():d} draws unsolved"
    axes.annotate(
        note,
        (0.97, 0.93),
        xycoords="axes fraction",
        ha="right",
        va="top",
        color=STUDENT,
    )
    axes.set_xlim(panel["edges"].values[0], panel["edges"].values[-1])
    axes.set_ylim(bottom=0)
    axes.set_title(
        rf"$\alpha_t$ = {panel['alpha_total'].item():g}, $f$ = {panel['keep_fraction'].item():g}, "
        rf"$\theta$ = {panel['theta_deg'].item():g}°"
    )


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        "Margins y J.x/abs(J) of the kept examples under the student trained on them, hard "
        "selection. Grey: simulated margins above kappa, density per kept example with standard "
        "error; black: replica theory. Orange: the support vectors, all at kappa; their share P of "
        "the kept examples is the height, theory as a line, simulation as a point."
    )


FIGURE = FigureSpec(
    name="margins",
    summary="margins of the kept examples: theory's density and atom on simulated histograms",
    defaults=Settings(alpha_total=(2, 10), theta_deg=(0, 30), keep_fraction=(0.3,)),
    several=("alpha_total", "keep_fraction", "theta_deg"),
    compute=compute,
    drawing=draw,
    caption=caption,
)
