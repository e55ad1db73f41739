"""What is drawn of measured curves: points, bars, band, theory and the advice."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from selection.advice.paths import MEANINGS
from selection.advice.picture import LOOKS, draw_curves, picture

TOLERANCE = 0.01
PROBE = "independent probe (theory)"


def point(policy: str, keep_fraction: float, increase: float, bound: float) -> SimpleNamespace:
    return SimpleNamespace(
        policy=policy, keep_fraction=keep_fraction, increase=increase, bound=bound
    )


CURVE = (
    point("hard", 0.7, -0.002, 0.004),
    point("mixture", 0.7, 0.001, 0.006),
    point("hard", 0.5, 0.003, 0.009),
    point("mixture", 0.5, 0.006, 0.02),
    point("random", 0.7, 0.004, 0.012),
)
FRACTIONS = np.array([0.25, 1.0, 0.5])


def explanation(drawn: bool) -> SimpleNamespace:
    errors = {"hard": np.array([0.2, 0.1, 0.15]), "mixture": np.array([0.3, 0.1, 0.2])}
    return SimpleNamespace(
        drawn=drawn, keep_fraction=FRACTIONS, predicted=errors, label="independent probe"
    )


def lines(axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {one.get_label(): tuple(map(np.asarray, one.get_data())) for one in axes.get_lines()}


def test_points_are_where_they_were_measured() -> None:
    figure = draw_curves(CURVE, tolerance=TOLERANCE, title="Keep", chosen=CURVE[2])
    (axes,) = figure.axes
    found = lines(axes)
    x, y = found["hard selection"]
    # Bars of several policies at one fraction stand side by side, less than 5 % apart.
    np.testing.assert_allclose(x, [1.0, 0.7, 0.5], rtol=0.05)
    np.testing.assert_allclose(y, [0.0, -0.2, 0.3])
    circle = found["advice"]
    assert circle[0] == x[2] and circle[1] == y[2]
    ends = [segment[:, 1].tolist() for bars in axes.collections for segment in bars.get_segments()]
    wanted = [[100 * one.increase, 100 * one.bound] for one in CURVE]
    np.testing.assert_allclose(sorted(ends), sorted(wanted))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[-1] == "tolerance, +1"
    assert PROBE not in names
    assert axes.get_ylabel().startswith("change of the error\n")


@pytest.mark.parametrize("drawn", [True, False])
def test_the_theory_is_drawn_where_it_may_be(drawn: bool) -> None:
    """Its change of the error, from all data on; of the policies that were measured."""
    figure = draw_curves(
        CURVE[:1], tolerance=TOLERANCE, title="Keep", explanation=explanation(drawn)
    )
    dashed = [one for one in figure.axes[0].get_lines() if one.is_dashed()]
    own = [one for one in dashed if len(one.get_xdata())]
    assert len(own) == drawn and (PROBE in lines(figure.axes[0])) == drawn
    if drawn:
        np.testing.assert_allclose(own[0].get_xdata(), [0.25, 0.5, 1.0])
        np.testing.assert_allclose(own[0].get_ydata(), [10.0, 5.0, 0.0])
        assert own[0].get_color() == LOOKS["hard"][0]


@pytest.mark.parametrize(
    "curve",
    [
        (),
        CURVE[:1],
        (point("hard", 0.7, 0.0, 1.0),),
        (point("hard", 0.7, 0.6, 1.0), point("mixture", 0.7, 0.001, 0.9)),
        tuple(point(one, 0.7, 0.01, 0.02) for one in MEANINGS),
        (point("hard", 0.7, 0.0, 0.003), point("hard", 0.04, -0.3, 0.003)),
    ],
)
@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_every_curve_has_a_picture(curve: tuple, file_format: str) -> None:
    """The band stays in sight: at least a twentieth of the height."""
    drawn = {"curve": curve, "tolerance": TOLERANCE, "title": "Keep all 20 rows"}
    data = picture(file_format, "a caption", **drawn)
    assert b"a caption" in data
    assert data == picture(file_format, "a caption", **drawn)
    low, high = draw_curves(**drawn).axes[0].get_ylim()
    assert low < 0 and high > 100 * TOLERANCE
    if all(one.increase >= 0 for one in curve):
        assert high - low < 20 * 100 * TOLERANCE
    if file_format == "png":
        width, height = Image.open(io.BytesIO(data)).size
        assert width >= 1200 and height < width


def test_colours_can_be_told_apart_without_colours() -> None:
    assert set(LOOKS) == set(MEANINGS)
    assert len({marker for _, marker in LOOKS.values()}) == len(LOOKS)
