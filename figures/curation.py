"""Draws the figure `curation`: two published theories of curated data, with exact curves.

Above: keep-hard and keep-easy selection of a generator's labels (Dohmatob, Pezeshki and Askari-
Hemmat, arXiv:2511.03492). Below: smooth weights of a surrogate's score (Kolossov, Montanari and
Tandon, arXiv:2309.14563).
"""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import replica
import theory
from figures.panels import FRACTION_LABEL, WIDTH, cell_edges, error_range, missing_note
from figures.published import FLIP, KOLOSSOV, SURROGATES, kolossov_problem
from figures.rules import ALL, COLORS, best_ridge, draw_line, simulate, stacked, with_ridge
from figures.settings import CurationSettings, symbol
from figures.style import POINTS, curve_colors, log_axis

RULES = (ALL, "hard", "easy")
FACES = ["0.85", COLORS["hard"], COLORS["easy"]]  # of the maps, in the order of RULES
EXPONENTS = {"perfect": (-1.0, 0.5, 1.0), "imperfect": (-1.0, -0.5, 0.5, 1.0)}
RIDGE = 0.1  # the published ridge of the curves below
SURROGATE_COLORS = {"perfect": "#0072B2", "imperfect": "#D55E00"}


def compute(
    settings: CurationSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute the maps, the curves with simulated points, and the published points' errors."""
    curated = _curated(settings, cache=cache, progress=progress)
    weighted = _weighted(settings, cache=cache, progress=progress)
    return curated.merge(weighted).merge(_published())


def curation_problem(
    settings: CurationSettings, rule: str, generator_deg: np.ndarray, pruner_deg: np.ndarray
) -> "theory.PerceptronProblem":
    """Make the problems of a rule at angles of generator and pruner to the truth.

    The generator is the teacher and the pruner the probe. Their deviations from the truth are
    independent, so that the cosine of their angle is the product of the cosines.

    Args:
        settings: give the volumes of data, on the first axis, and the kept fraction.
        rule: one of RULES.
        generator_deg: angles between generator and truth, in (0, 90).
        pruner_deg: angles between pruner and truth that broadcast against them.
    """
    generator, pruner = np.deg2rad(generator_deg), np.deg2rad(pruner_deg)
    theta = np.arccos(np.cos(generator) * np.cos(pruner))
    # The truth's component off the teacher, along the plane of teacher and probe.
    along_plane = np.cos(pruner) * np.sin(generator) / np.sin(theta)
    volumes = np.asarray(settings.alpha_total).reshape(-1, *(1 for _ in theta.shape))
    return theory.PerceptronProblem(
        alpha_total=volumes,
        keep_fraction=1.0 if rule == ALL else settings.keep_fraction[0],
        probe=theory.FixedAngle(theta),
        policy=theory.Easy() if rule == "easy" else theory.Hard(),
        downstream=theory.DownstreamShift(np.tan(generator), along_plane=along_plane),
        labels=theory.Flip(settings.flip[0]),
    )


def _curated(settings: CurationSettings, *, cache: Path | None, progress: bool) -> xr.Dataset:
    """Compute maps over both angles, and curves over the generator's at one pruner."""
    (loss,) = settings.loss
    count = settings.map_angles
    angles = (np.arange(count) + 0.5) * 90 / count
    simulated, pruner = np.asarray(settings.generator_deg), np.array([settings.pruner_deg])
    line = np.union1d(angles, simulated)
    maps, lines, problems = [], [], []
    for rule in RULES:
        # All data know no pruner.
        pruners = angles[-1:] if rule == ALL else angles
        problem = curation_problem(settings, rule, angles[:, None], pruners)
        found = best_ridge(problem, loss, settings)
        dims = ("alpha_total", "map_generator_deg", "map_pruner_deg")
        shape = (len(settings.alpha_total), count, count)
        maps.append(
            xr.Dataset(
                {
                    "map_error": (dims, np.broadcast_to(found.error, shape)),
                    "map_status": (dims, np.broadcast_to(found.status, shape)),
                }
            )
        )
        best = best_ridge(curation_problem(settings, rule, line, pruner), loss, settings)
        lines.append(best.lines(("alpha_total", "theory_generator_deg")))
        problem = curation_problem(settings, rule, simulated, pruner)
        lam = best.lam[:, np.searchsorted(line, simulated)]
        problems.append(with_ridge(problem, loss, lam))
    points = simulate(
        settings, problems, ("alpha_total", "generator_deg"), cache=cache, progress=progress
    )
    parts = [
        one.merge(line).merge(point) for one, line, point in zip(maps, lines, points, strict=True)
    ]
    return stacked(parts, "rule", RULES).assign_coords(
        alpha_total=list(settings.alpha_total),
        map_generator_deg=angles,
        map_pruner_deg=angles,
        theory_generator_deg=line,
        generator_deg=simulated,
        keep_fraction=settings.keep_fraction[0],
        pruner_deg=settings.pruner_deg,
    )


def _weighted(settings: CurationSettings, *, cache: Path | None, progress: bool) -> xr.Dataset:
    """Compute the error on noisy labels against the fraction, for both published surrogates."""
    curves = [(name, exponent) for name, some in EXPONENTS.items() for exponent in some]
    surrogate, exponent = (np.array(column)[:, None] for column in zip(*curves, strict=True))
    simulated = np.asarray(settings.weighted_fraction)
    line = np.union1d(np.geomspace(0.03, 1, settings.theory_points), simulated)
    known = ("flips", surrogate, RIDGE, exponent)
    found = replica.solve(kolossov_problem(*known, line))
    (points,) = simulate(
        settings,
        [kolossov_problem(*known, simulated)],
        ("curve", "weighted_fraction"),
        cache=cache,
        progress=progress,
    )
    lines = ("curve", "theory_weighted_fraction")
    return xr.Dataset(
        {
            "weighted_theory_error": (lines, np.asarray(found.observed_error)),
            "weighted_theory_status": (lines, np.asarray(found.status)),
            # A student that errs on a share e of clean labels errs on this one of flipped ones.
            "weighted_error_mean": FLIP + (1 - 2 * FLIP) * points["error_mean"],
            "weighted_error_stderr": (1 - 2 * FLIP) * points["error_stderr"],
        },
        coords={
            "surrogate": ("curve", [name for name, _ in curves]),
            "exponent": ("curve", [exponent for _, exponent in curves]),
            "weighted_fraction": simulated,
            "theory_weighted_fraction": line,
        },
    )


def _published() -> xr.Dataset:
    """Compute the exact errors at the published points."""
    labels, surrogate, ridge, exponent, fraction, printed, mean, stderr = (
        np.array(column) for column in zip(*KOLOSSOV, strict=True)
    )
    found = replica.solve(kolossov_problem(labels, surrogate, ridge, exponent, fraction))
    columns = {
        "published_labels": labels,
        "published_surrogate": surrogate,
        "published_ridge": ridge,
        "published_exponent": exponent,
        "published_fraction": fraction,
        "published_error": printed,
        "published_error_mean": mean,
        "published_error_stderr": stderr,
        "exact_error": np.asarray(found.observed_error),
        "exact_status": np.asarray(found.status),
    }
    return xr.Dataset({name: ("published", column) for name, column in columns.items()})


def draw(dataset: xr.Dataset, settings: CurationSettings) -> Figure:
    """Draw maps with a cut above, and curves with published points below."""
    volumes = dataset["alpha_total"].values
    figure = Figure(figsize=(WIDTH, 4.7))
    columns = max(len(volumes) + 1, 3)
    panels = figure.subplots(2, columns, squeeze=False)
    for k, (axes, volume) in enumerate(zip(panels[0], volumes, strict=False)):
        _draw_map(axes, dataset.sel(alpha_total=volume))
        axes.set_title(symbol("alpha_total", volume))
        if k == 0:
            axes.set_ylabel("generator to truth (degrees)")
    _draw_cut(panels[0, len(volumes)], dataset.sel(alpha_total=volumes[-1]), settings)
    for axes, surrogate in zip(panels[1], SURROGATES, strict=False):
        _draw_weighted(axes, dataset, surrogate)
    panels[1, 0].set_ylabel("error on noisy labels")
    _draw_deviations(panels[1, len(SURROGATES)], dataset)
    for axes in [*panels[0, len(volumes) + 1 :], *panels[1, len(SURROGATES) + 1 :]]:
        axes.axis("off")
    handles = [
        Patch(facecolor=face, label=f"least error: {rule}")
        for face, rule in zip(FACES, RULES, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    missing_note(figure, dataset)
    return figure


def _draw_map(axes: Axes, part: xr.Dataset) -> None:
    """Draw which of all data, hard and easy selection has the least error."""
    error = part["map_error"].transpose("rule", "map_generator_deg", "map_pruner_deg")
    known = np.isfinite(error.values).all(axis=0)
    best = np.where(known, np.argmin(error.fillna(np.inf).values, axis=0), -1)
    x = cell_edges(part["map_pruner_deg"].values, logarithmic=False)
    y = cell_edges(part["map_generator_deg"].values, logarithmic=False)
    axes.pcolormesh(
        x, y, np.ma.masked_less(best, 0), cmap=ListedColormap(FACES), vmin=-0.5, vmax=2.5
    )
    axes.set(xlim=(0, 90), ylim=(0, 90), xticks=(0, 30, 60, 90), yticks=(0, 30, 60, 90))
    axes.set_xlabel("pruner to truth (degrees)")


def _draw_cut(axes: Axes, part: xr.Dataset, settings: CurationSettings) -> None:
    """Draw the error against the generator's angle at one pruner, with simulated points."""
    for rule in RULES:
        draw_line(axes, part.sel(rule=rule), "generator_deg", COLORS[rule])
    axes.set_title(
        f"pruner at {settings.pruner_deg:g}°, {symbol('alpha_total', part['alpha_total'].item())}"
    )
    log_axis(axes, "y", error_range(part))
    axes.set(xlim=(0, 90), xticks=(0, 30, 60, 90))
    axes.set_xlabel("generator to truth (degrees)")
    axes.set_ylabel("error against the truth")
    handles = [Line2D([], [], color=COLORS[rule], marker="o") for rule in RULES]
    axes.legend(handles, RULES, loc="lower right")


def _draw_weighted(axes: Axes, dataset: xr.Dataset, surrogate: str) -> None:
    """Draw the exact curves of one surrogate, with simulated and published points."""
    exponents = EXPONENTS[surrogate]
    colors = curve_colors(len(exponents))
    at = {
        name: dataset[f"published_{name}"].values
        for name in ("surrogate", "labels", "ridge", "exponent", "fraction", "error")
    }
    shown = (at["surrogate"] == surrogate) & (at["labels"] == "flips") & (at["ridge"] == RIDGE)
    for exponent, color in zip(exponents, colors, strict=True):
        chosen = (dataset["surrogate"] == surrogate) & (dataset["exponent"] == exponent)
        curve = dataset.isel(curve=int(np.flatnonzero(chosen)[0]))
        known = curve["weighted_theory_status"].values == 0
        axes.plot(
            curve["theory_weighted_fraction"],
            np.where(known, curve["weighted_theory_error"], np.nan),
            color=color,
            zorder=2,
        )
        axes.errorbar(
            curve["weighted_fraction"],
            curve["weighted_error_mean"],
            yerr=curve["weighted_error_stderr"],
            color=color,
            **POINTS,
        )
        one = shown & (at["exponent"] == exponent)
        axes.plot(
            at["fraction"][one],
            at["error"][one],
            "D",
            color=color,
            markersize=4,
            markerfacecolor="none",
            markeredgewidth=0.8,
            zorder=4,
        )
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(FRACTION_LABEL)
    volume = symbol("alpha_total", round(SURROGATES[surrogate].alpha_total, 2))
    axes.set_title(f"{surrogate} surrogate, {volume}")
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    handles.append(
        Line2D([], [], color="0.2", marker="D", markerfacecolor="none", linestyle="none")
    )
    axes.legend(handles, [*(f"$k$ = {k:g}" for k in exponents), "published"], loc="upper right")


def _draw_deviations(axes: Axes, dataset: xr.Dataset) -> None:
    """Draw how far the published points lie from the exact errors, in thousandths."""
    exact = dataset["exact_error"].values
    fraction = dataset["published_fraction"].values
    surrogate = dataset["published_surrogate"].values
    axes.axhline(0, color="0.5", zorder=1)
    for name, color in SURROGATE_COLORS.items():
        one = surrogate == name
        axes.plot(
            fraction[one],
            1e3 * (dataset["published_error"].values - exact)[one],
            "D",
            color=color,
            markersize=3.5,
            markerfacecolor="none",
            markeredgewidth=0.8,
            label=f"theory, {name}",
            zorder=4,
        )
    axes.errorbar(
        fraction,
        1e3 * (dataset["published_error_mean"].values - exact),
        yerr=1e3 * dataset["published_error_stderr"].values,
        color="0.45",
        label="simulation",
        **POINTS,
    )
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(FRACTION_LABEL)
    axes.set_ylabel(r"published $-$ exact ($10^{-3}$)")
    axes.set_title("all published points")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.45 * (high - low), high)  # the legend's place
    axes.legend(loc="lower left")


def caption(dataset: xr.Dataset, settings: CurationSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"Above, keep-hard and keep-easy selection of f = {settings.keep_fraction[0]:g} of a "
        "generator's examples by a pruner, judged against the truth, from which generator and "
        f"pruner deviate independently; {settings.loss[0]} loss at its ridge of least error: hard "
        "selection wins where generator and pruner are good and data abound, easy selection where "
        "the generator is poor (Dohmatob et al., arXiv:2511.03492). Below, error on labels of "
        f"which {FLIP:.0%} are flipped against the fraction kept with a probability that is a "
        "power k of a logistic surrogate's variance, logistic loss (Kolossov et al., "
        "arXiv:2309.14563): exact curves, simulations and published values (diamonds); right, "
        "published theory and simulation minus the exact error at 25 published points, step "
        "labels among them. Lines: replica theory. Points: mean over draws with standard error."
    )
