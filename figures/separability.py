"""Draws the figure `separability`: the volume up to which noisy kept examples are separable."""

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import replica
import sims
import theory
from figures.panels import FRACTION_LABEL, WIDTH
from figures.rules import COLORS, reaching, stacked
from figures.settings import SeparabilitySettings, symbol
from figures.style import log_axis


def rules_of(settings: SeparabilitySettings) -> "dict[str, theory.Policy]":
    """Return the policies that are compared."""
    return {
        "hard": theory.Hard(),
        "window": theory.Window(settings.window_lo),
        "easy": theory.Easy(),
    }


def compute(
    settings: SeparabilitySettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute the thresholds, and the share of simulated draws that are separable."""
    angles, flips = np.asarray(settings.theta_deg), np.asarray(settings.flip)
    fraction, share = settings.keep_fraction[0], np.asarray(settings.volume_share)
    fractions = reaching(*settings.theory_range, settings.theory_points, fraction)
    rules = rules_of(settings)
    lines, problems = [], []
    for name, policy in rules.items():
        # The window ends where it would reach beyond the easiest example.
        reach = 1 - settings.window_lo if name == "window" else 1.0
        grid = theory.PerceptronProblem(
            alpha_total=1.0,
            keep_fraction=np.minimum(fractions, reach),
            probe=theory.FixedAngle.degrees(angles[:, None, None]),
            policy=policy,
            labels=theory.Flip(flips[:, None]),
        )
        found = np.asarray(replica.separability_threshold(grid).alpha_total)
        dims = ("theta_deg", "flip", "theory_keep_fraction")
        found = np.where(fractions <= reach, found, np.nan)
        lines.append(xr.Dataset({"threshold": (dims, found)}))
        point = dataclasses.replace(
            grid,
            keep_fraction=fraction,
            probe=theory.FixedAngle.degrees(angles[-1]),
            labels=theory.Flip(flips[-1]),
        )
        at = found[-1, -1, np.searchsorted(fractions, fraction)]
        problems.append(dataclasses.replace(point, alpha_total=share * at))
    parts = []
    dims_of = (max(2, settings.dim // 4), settings.dim)
    for dim in dims_of:
        results = sims.run_many(
            problems, dim, settings.draws, settings.seed, cache=cache, progress=progress
        )
        names = ("solved", "not_separable", "failed", "empty")
        counts = [
            xr.Dataset({name: ("volume_share", result[name].values) for name in names})
            for result in results
        ]
        parts.append(stacked(counts, "rule", list(rules)))
    return (
        stacked(parts, "dim", dims_of)
        .merge(stacked(lines, "rule", list(rules)))
        .assign_coords(
            theory_keep_fraction=fractions,
            theta_deg=angles,
            flip=flips,
            volume_share=share,
            keep_fraction=fraction,
        )
    )


def draw(dataset: xr.Dataset, settings: SeparabilitySettings) -> Figure:
    """Draw thresholds, a panel for each angle, and the simulated share on the right."""
    count = dataset.sizes["theta_deg"]
    figure = Figure(figsize=(max(WIDTH * (count + 1.2) / 3.2, WIDTH / 1.6), 2.8))
    panels = figure.subplots(1, count + 1, width_ratios=[1] * count + [1.2])
    fractions = dataset["theory_keep_fraction"].values
    kept = dataset["threshold"] * dataset["theory_keep_fraction"]
    finite = kept.values[np.isfinite(kept.values)]
    rules = [str(name) for name in dataset["rule"].values]
    for k, (axes, theta) in enumerate(zip(panels, dataset["theta_deg"].values, strict=False)):
        for flip in dataset["flip"].values:
            for name in rules:
                curve = kept.sel(theta_deg=theta, flip=flip, rule=name)
                axes.plot(fractions, curve, color=COLORS[name])
            # All rules meet where everything is kept.
            axes.annotate(
                symbol("flip", flip),
                (fractions[-1], kept.sel(theta_deg=theta, flip=flip, rule="hard").values[-1]),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                annotation_clip=False,
            )
        log_axis(axes, "x", (fractions[0], fractions[-1]))
        axes.set_ylim(min(2.0, 0.9 * finite.min()), 1.05 * finite.max())
        axes.tick_params(labelleft=k == 0)
        axes.set_title(symbol("theta_deg", theta))
        axes.set_xlabel(FRACTION_LABEL)
    panels[0].set_ylabel(r"threshold $f\,\alpha_t^*$")
    _draw_shares(panels[-1], dataset, rules)
    handles = [Line2D([], [], color=COLORS[name]) for name in rules]
    for dim, face in zip(dataset["dim"].values, ("white", "0.2"), strict=True):
        handles.append(
            Line2D([], [], color="0.2", marker="o", markerfacecolor=face, linestyle="none")
        )
        rules.append(f"$N$ = {dim}")
    rules[1] = f"window, lo = {settings.window_lo:g}"
    figure.legend(handles, rules, loc="outside upper center", ncols=len(handles))
    return figure


def _draw_shares(axes: Axes, dataset: xr.Dataset, rules: list[str]) -> None:
    """Draw the share of separable draws against the volume, in units of the threshold."""
    share = dataset["volume_share"].values
    axes.plot([share[0], 1, 1, share[-1]], [1, 1, 0, 0], color="0.5", zorder=1)
    for dim, face in zip(dataset["dim"].values, ("white", None), strict=True):
        for name in rules:
            part = dataset.sel(dim=dim, rule=name)
            trained = part["solved"] + part["not_separable"]
            mean = (part["solved"] / trained).values
            error = np.sqrt(mean * (1 - mean) / trained.values)
            axes.errorbar(
                share,
                mean,
                yerr=error,
                fmt="o-",
                color=COLORS[name],
                markerfacecolor=face or COLORS[name],
                markeredgecolor=COLORS[name],
                markeredgewidth=0.6,
                linewidth=0.5,
                elinewidth=0.7,
                zorder=3,
            )
    axes.set_xlabel(r"volume $\alpha_t/\alpha_t^*$")
    axes.set_ylabel("share of separable draws")
    axes.set_ylim(-0.05, 1.05)
    axes.set_title(
        f"{symbol('theta_deg', dataset['theta_deg'].values[-1])}, "
        f"{symbol('flip', dataset['flip'].values[-1])}, "
        f"{symbol('keep_fraction', dataset['keep_fraction'].item())}"
    )


def caption(dataset: xr.Dataset, settings: SeparabilitySettings) -> str:
    """Say in words what the picture shows."""
    small, large = dataset["dim"].values
    return (
        "Largest number of kept examples / N that a hyperplane separates when labels are flipped "
        "with probability epsilon, against the selection ratio, by policy; unpruned labels that "
        "are pure noise have 2. Replica theory. Right: share of the draws that are separable, "
        "with its standard error, against the volume of data in units of the threshold, at N = "
        f"{small} (open) and N = {large} (filled); grey: N to infinity."
    )
