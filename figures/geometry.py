"""Draws the figure `geometry`: teacher, probe, student and kept examples in a plane."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import replica
import sims
import theory
from figures.curves import policy_of
from figures.settings import GeometrySettings, policy_words, symbol
from figures.style import COLUMN, PROBE, STUDENT, TEACHER
from sims.draws import Draw

REACH = 2.6  # half width of the picture in units of the fields' standard deviation
RANKED = ("hard", "moderate", "window", "easy")  # they keep slabs of the probe's field


def compute(
    settings: GeometrySettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Draw random examples in the plane, and find the student by theory and simulation."""
    alpha_total = settings.alpha_total[0]
    keep_fraction = settings.keep_fraction[0]
    theta = np.deg2rad(np.asarray(settings.theta_deg, dtype=float))
    problem = theory.PerceptronProblem.grid(
        alpha_total=alpha_total,
        keep_fraction=keep_fraction,
        theta=theta,
        policy=policy_of(settings),
        redundancy=settings.redundancy[0],
    )
    solution = replica.solve(problem)
    along = np.sqrt(1 - np.asarray(solution.orthogonal) ** 2)
    psi = np.asarray(solution.student_angle)
    simulated = sims.run(
        problem, settings.dim, settings.draws, settings.seed, cache=cache, progress=progress
    )
    fields = np.random.default_rng(settings.seed).standard_normal((settings.examples, 2))
    probe_field = fields[:, 0] * np.cos(theta)[:, None] + fields[:, 1] * np.sin(theta)[:, None]
    kept = _kept(settings, problem, fields, probe_field)
    edge = np.max(np.abs(probe_field), axis=1, where=kept, initial=0.0)
    inner = np.min(np.abs(probe_field), axis=1, where=kept, initial=np.inf)
    overlap, probe_overlap = (
        simulated["overlap_mean"].values,
        simulated["probe_overlap_mean"].values,
    )
    return xr.Dataset(
        {
            "field": (("example", "component"), fields),
            "kept": (("theta_deg", "example"), kept),
            "edge": ("theta_deg", edge),
            "inner_edge": ("theta_deg", inner),
            "student_theory": (
                ("theta_deg", "component"),
                np.stack([along * np.cos(psi), along * np.sin(psi)], axis=-1),
            ),
            "status": ("theta_deg", np.asarray(solution.status)),
            "student_simulation": (
                ("theta_deg", "component"),
                _in_plane(overlap, probe_overlap, theta),
            ),
            "error_theory": ("theta_deg", np.asarray(solution.error)),
        },
        coords={
            "theta_deg": list(settings.theta_deg),
            "alpha_total": alpha_total,
            "keep_fraction": keep_fraction,
        },
    )


def _kept(
    settings: GeometrySettings,
    problem: "theory.PerceptronProblem",
    fields: np.ndarray,
    probe_field: np.ndarray,
) -> np.ndarray:
    """Select examples for each angle as the simulation does.

    The answer has the shape (theta_deg, example).
    """
    from sims.cells import keep_rows, problem_cells, rank_rows  # JAX, which drawing does without

    count, copies = settings.examples, settings.redundancy[0]
    labels = np.where(fields[:, 0] < 0, -1.0, 1.0)
    draw = Draw(settings.seed, 2, 0, fields * labels[:, None], labels)
    kept = np.zeros((len(probe_field), count), bool)
    cells = problem_cells(dataclasses.replace(problem, alpha_total=count * copies / 2), 2)
    for row, cell, field in zip(kept, cells, probe_field, strict=True):
        margins = field * labels
        row[keep_rows(draw, cell, margins, partial(rank_rows, margins, cell.policy))] = True
    return kept


def _in_plane(overlap: np.ndarray, probe_overlap: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return the student's components along the teacher and orthogonal to it.

    The latter points towards the probe.
    """
    sine = np.sin(theta)
    across = np.where(
        sine > 0, (probe_overlap - overlap * np.cos(theta)) / np.where(sine > 0, sine, 1.0), 0.0
    )
    return np.stack([overlap, across], axis=-1)


def draw(dataset: xr.Dataset, settings: GeometrySettings) -> Figure:
    """Draw the data of `compute`, one panel for each probe angle.

    The teacher points up.
    """
    count = dataset.sizes["theta_deg"]
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(COLUMN, 0.6 + rows * COLUMN / columns))
    for k in range(count):
        axes = figure.add_subplot(rows, columns, k + 1)
        _draw_panel(axes, dataset.isel(theta_deg=k), settings)
    entries = {
        "teacher $T$": Line2D([], [], color=TEACHER, linewidth=1.6),
        "$y = +1$": Line2D([], [], color="0.15", linestyle="", marker="o", markersize=3),
        "probe $J_p$": Line2D([], [], color=PROBE, linewidth=1.6),
        "$y = -1$": Line2D([], [], color="0.15", linestyle="", marker="^", markersize=3),
        "student $J$, theory": Line2D([], [], color=STUDENT, linewidth=1.6),
        "student $J$, simulation": Line2D(
            [], [], color=STUDENT, linestyle="", marker="o", markersize=4
        ),
    }
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, panel: xr.Dataset, settings: GeometrySettings) -> None:
    theta = np.deg2rad(panel["theta_deg"].item())
    field, kept = panel["field"].values, panel["kept"].values
    positive = field[:, 0] > 0
    # The teacher points up: the first component is vertical, the second horizontal.
    along, across = _turned(np.cos(theta), np.sin(theta)), _turned(-np.sin(theta), np.cos(theta))
    for low, high in _slabs(panel, settings):
        ends = ((high, 1), (high, -1), (low, -1), (low, 1))
        slab = np.array([end * along + 3 * REACH * side * across for end, side in ends])
        axes.fill(*slab.T, color=PROBE, alpha=0.12, linewidth=0, zorder=0)
    for sign, marker in ((positive, "o"), (~positive, "^")):
        for choice, color in ((sign & ~kept, "0.7"), (sign & kept, "0.15")):
            axes.plot(
                field[choice, 1], field[choice, 0], marker, color=color, markersize=1.7, mew=0
            )
    scale = 0.8 * REACH  # a unit vector's length on the picture
    # An arrow is wider where the probe would hide it.
    _arrow(axes, scale * _turned(1.0, 0.0), TEACHER, 1.6 if theta > 0.03 else 3.2)
    _arrow(axes, scale * along, PROBE)
    if panel["status"].item() == 0:
        _arrow(axes, scale * _turned(*panel["student_theory"].values), STUDENT)
    turn = np.linspace(0, 2 * np.pi, 181)
    axes.plot(scale * np.sin(turn), scale * np.cos(turn), ":", color="0.5", linewidth=0.6, zorder=1)
    simulated = scale * _turned(*panel["student_simulation"].values)
    axes.plot(
        *simulated, "o", color=STUDENT, markeredgecolor="white", mew=0.5, markersize=4, zorder=6
    )
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{symbol('theta_deg', panel['theta_deg'].item())}, "
        f"$e$ = {panel['error_theory'].item():.3f}"
    )


def _slabs(panel: xr.Dataset, settings: GeometrySettings) -> list[tuple[float, float]]:
    """Return the intervals of the probe field in which the policy keeps everything."""
    edge, (policy,) = panel["edge"].item(), settings.policy
    if policy == "hard":
        return [(-edge, edge)]
    inner = panel["inner_edge"].item()
    return [(inner, edge), (-edge, -inner)] if policy in RANKED else []


def _turned(up: float, right: float) -> np.ndarray:
    return np.array([right, up])


def _arrow(axes: Axes, tip: np.ndarray, color: str, width: float = 1.6) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (tip[0], tip[1]), xytext=(0, 0), arrowprops=style, zorder=5)


def caption(dataset: xr.Dataset, settings: GeometrySettings) -> str:
    """Say in words what the picture shows."""
    place = {"hard": ", inside the shaded slab around the probe's boundary"}.get(
        settings.policy[0], ", inside the shaded slabs" if settings.policy[0] in RANKED else ""
    )
    return (
        f"The plane of the teacher T and the probe J_p at alpha_total = "
        f"{dataset['alpha_total'].item():g}, f = {dataset['keep_fraction'].item():g}. Dark: the "
        f"examples that {policy_words(settings)} keeps{place}. "
        f"Dotted: the unit circle. The student's arrow is its in-plane part by replica theory, "
        f"the orange point the mean over simulated draws. In the titles, the fitting error e by "
        f"theory."
    )
