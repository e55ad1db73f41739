"""What pictures look like: ticks, labels, room, steps."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from figures import FIGURES
from figures.optimal_fraction import LEVELS
from figures.style import log_axis
from tests.figures.synthetic import curves, described


def tick_labels(low: float, high: float) -> list[str]:
    figure = Figure()
    axes = figure.subplots()
    log_axis(axes, "y", (low, high))
    figure.draw_without_rendering()
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((0.004, 0.8), ["0.01", "0.03", "0.1", "0.3"]),
        ((0.06, 0.8), ["0.1", "0.2", "0.5"]),
        ((0.24, 0.47), ["0.3", "0.4"]),
        ((0.1, 1000), ["0.1", "1", "10", "100", "1000"]),
        ((5e-5, 0.8), ["$10^{-4}$", "$10^{-3}$", "$10^{-2}$", "$10^{-1}$"]),
        ((3e-6, 2e-4), [r"$3{\times}10^{-6}$", "$10^{-5}$", r"$3{\times}10^{-5}$", "$10^{-4}$"]),
        ((1e-20, 1), ["$10^{-20}$", "$10^{-15}$", "$10^{-10}$", "$10^{-5}$", "$10^{0}$"]),
    ],
)
def test_ticks_are_of_one_kind(limits: tuple[float, float], labels: list[str]) -> None:
    assert tick_labels(*limits) == labels


def shares(axes: Axes, low: float, high: float) -> float:
    """How much of a logarithmic axis lies between two values."""
    return float(np.log(high / low) / np.log(np.divide(*axes.get_ylim()[::-1])))


def test_no_panel_of_shifts_is_half_empty() -> None:
    """A shift keeps the error above its floor, where a common axis would have nothing below."""
    deltas = np.array([0.0, 0.1, 0.2, 0.4])
    floor = np.arctan(deltas) / np.pi
    error = np.hypot(np.geomspace(0.45, 0.003, 9), floor[:, None])[:, None]
    dataset = curves(error, downstream_deg=np.rad2deg(np.arctan(deltas)))
    dataset = dataset.assign(floor=("downstream_deg", floor))
    figure = FIGURES["downstream"].draw(described("downstream", dataset))
    for axes, one, lowest in zip(figure.axes, error, floor, strict=True):
        assert shares(axes, one.min(), one.max()) > 0.6
        assert lowest == 0 or axes.get_ylim()[0] < lowest
        assert all(tick.label1.get_visible() for tick in axes.yaxis.get_major_ticks())


@pytest.mark.parametrize("count", [1, 3, 12, 30])
def test_labels_of_curves_stay_beside_their_axes(count: int) -> None:
    """However many curves there are, and however close."""
    error = np.geomspace(0.3, 0.29, count)[:, None] * np.linspace(1.2, 1, 5)
    figure = FIGURES["fitting-error"].draw(
        described("fitting-error", curves(error[None], theta_deg=[0.0]))
    )
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == count
    ordered = sorted(boxes, key=lambda box: box.y0)
    assert ordered[-1].y1 < axes.bbox.y1 + 10 and ordered[0].y0 > axes.bbox.y0 - 10
    middles = [(box.y0 + box.y1) / 2 for box in ordered]
    if count > 1:
        assert np.diff(middles).min() > 0.9 * axes.bbox.height * min(0.06, 1 / (count - 1))


def test_maps_have_the_steps_of_their_colour_bar() -> None:
    alpha, theta = np.geomspace(1, 100, 5), np.linspace(0, 45, 4)
    plane = ("alpha_total", "theta_deg")
    fraction = np.linspace(0.05, 1, 20).reshape(5, 4)
    fine = np.zeros((5, 4), int)
    dataset = xr.Dataset(
        {
            "optimal_fraction": (plane, fraction),
            "optimal_status": (plane, fine),
            "sufficient_fraction": (("tolerance", *plane), fraction[None]),
            "sufficient_status": (("tolerance", *plane), fine[None]),
        },
        coords={"alpha_total": alpha, "theta_deg": theta, "tolerance": [0.1]},
    )
    figure = FIGURES["optimal-fraction"].draw(described("optimal-fraction", dataset))
    figure.draw_without_rendering()
    *maps, bar = figure.axes
    for axes in maps:
        filled = [one for one in axes.collections if isinstance(one, QuadContourSet) and one.filled]
        assert [tuple(one.levels) for one in filled] == [LEVELS]
        # Numbers on the lines would break them.
        assert not axes.texts
    assert [float(label.get_text()) for label in bar.get_yticklabels()] == list(LEVELS)


NOTES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"redundancy": (3.0,)}, "$r$ = 3"),
    ({"theta_deg": (20.0,)}, r"$\theta$ = 20°"),
    ({"policy": ("window",), "lo": 0.1, "keep_fraction": (0.5,)}, "window selection, lo = 0.1"),
    ({"probe": "independent", "alpha_probe": 2.0}, r"independent probe, $\alpha_{probe}$ = 2"),
    ({"downstream_deg": (45.0,)}, r"$\delta$ = 1 (45°)"),
    ({"overlap": "pearson"}, "pearson overlap"),
    ({"alpha_total": (5.0, 6.0), "dim": 150}, ""),  # the legend and the caption have these
]
PANELS = {
    "fitting-error": ("theta_deg", [0.0]),
    "redundancy": ("redundancy", [1.0, 3.0]),
    "policies": ("policy", ["hard", "random"]),
}


@pytest.mark.parametrize(
    ("name", "changes", "note"),
    [(name, *one) for name, (axis, _) in PANELS.items() for one in NOTES if axis not in one[0]]
    + [("fitting-error", *NOTES[2])],
)
def test_the_picture_says_what_is_not_the_default(
    name: str, changes: dict[str, Any], note: str
) -> None:
    """Above the panels or over their legend; what the figure varies is in its panels."""
    spec = FIGURES[name]
    axis, values = PANELS[name]
    error = np.geomspace(0.4, 0.1, 5) * np.ones((len(values), 2, 1))
    dataset = described(name, curves(error, **{axis: values}), **changes)
    figure = spec.draw(dataset)
    title = figure.legends[0].get_title().get_text() if figure.legends else figure.get_suptitle()
    assert title.replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ") == note
    figure.draw_without_rendering()
    caption = spec.caption(dataset)
    for own in ("lo", "alpha_probe"):
        assert own not in changes or f"{own} = {changes[own]:g}" in caption
    for words, setting in (
        ("3 copies", "redundancy"),
        ("45 degrees", "downstream_deg"),
        ("20 degrees", "theta_deg"),
        ("window selection", "policy"),
        ("np.corrcoef", "overlap"),
    ):
        assert (words in caption) == (setting in changes)
