"""Charts: what is drawn are the numbers, axes have names and units, ink follows the page."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from pretrain_jax.report.charts import (
    INK,
    LOOKS,
    bridge_chart,
    cost_chart,
    figure_6,
    information_chart,
    runs_chart,
)
from pretrain_jax.report.collect import collect
from pretrain_jax.report.page import page
from pretrain_jax.report.statistics import Row, rows_of, settings_of
from tests.pretrain_jax.records import edit_output


@pytest.fixture
def rows(run_folder: Path) -> list[Row]:
    run = collect(run_folder)
    (setting,) = settings_of(run)
    return rows_of(run, setting)


def drawn(figure: Figure, panel: int, color: str) -> list[tuple[float, float]]:
    """Points of the first line in a colour."""
    line = next(one for one in figure.axes[panel].lines if one.get_color() == color)
    return list(zip(*line.get_data(), strict=True))


def test_runs(rows: list[Row]) -> None:
    """OptiDEL: .72 at 10 % and .70 at 25 %, moved aside by less than a tenth of their storage."""
    figure = runs_chart(rows).figure
    (low, high) = drawn(figure, 0, LOOKS["optidel"][0])
    assert [low[1], high[1]] == pytest.approx([72.0, 70.0])
    assert [low[0], high[0]] == pytest.approx([10.0, 25.0], rel=0.1)
    container = next(c for c in figure.axes[0].containers if c.get_label() == "OptiDEL")
    bars = [np.diff(bar[:, 1]) for bar in container.lines[2][0].get_segments()]
    # Twice the standard deviation of .70, .71, .75 and of .69, .70, .71, in percent.
    assert np.ravel(bars) == pytest.approx([2 * 2.6458, 2.0], rel=1e-4)
    assert "all data" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_measured_error(rows: list[Row]) -> None:
    (low, high) = drawn(bridge_chart(None, rows).figure, 0, LOOKS["optidel"][0])
    assert [low[1], high[1]] == pytest.approx([0.28, 0.30])


def test_costs_and_information() -> None:
    bars = cost_chart({"probe": 3.0, "pretrained": 5.0}).figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [3.0, 5.0]
    chart = information_chart({"optidel-10": (0.25, 0.02), "all-100": (0.5, 0.01)})
    assert "optidel-10 0.25; all-100 0.5" in chart.alt
    points = [container.lines[0].get_xydata()[0] for container in chart.figure.axes[0].containers]
    np.testing.assert_array_equal(points, [[0.25, 0], [0.5, 1]])


def test_every_axis_has_a_name(rows: list[Row]) -> None:
    charts = [
        runs_chart(rows),
        bridge_chart(None, rows),
        cost_chart({"probe": 3.0}),
        information_chart({"all-100": (0.5, 0.01)}),
    ]
    for chart in charts:
        for axes in chart.figure.axes:
            assert axes.get_xlabel()
            names = [label.get_text() for label in axes.get_yticklabels()]
            assert axes.get_ylabel() or any(name.isalpha() or "-" in name for name in names)
        assert len(chart.alt) > 20
    figure = figure_6({}, {}).figure
    assert figure.get_supxlabel() == "storage volume (%)"
    assert figure.get_supylabel() == "mIoU (%)"


def test_figure_6_with_own_runs(run_folder: Path) -> None:
    """ETIS is the fourth panel; own runs on it are hollow points, and a table beside the print."""
    for path in run_folder.glob("finetuned/*/*/*/*/result.json"):
        edit_output(path, dataset="ETIS")
    run = collect(run_folder)
    (setting,) = settings_of(run)
    axes = figure_6({"ETIS": rows_of(run, setting)}, {}).figure.axes[3]
    assert axes.get_title() == "ETIS"
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert sorted(float(line.get_ydata()[0]) for line in hollow) == pytest.approx(
        [62.0, 63.5, 65.0, 66.0, 67.0, 70.0, 71.0, 72.0]
    )
    text = " ".join(page(run, "none", "none", "none").split())
    row = "<td>10</td><td>57.87</td><td>72.00 ± 2.65</td><td>3</td>"
    assert f'<th scope="row">OptiDEL</th>{row}' in text


def test_other_data_sets_have_panels_and_rows_of_their_own(rows: list[Row]) -> None:
    """MedDEL and OptiDEL of the fixture, all data at the end, as in the paper's panels."""
    chart = figure_6({}, {"own: slices, not medical": rows})
    panels = chart.figure.axes
    assert len(panels) == 9 and panels[8].get_title() == "own: slices, not medical"
    for method, points in {
        "optidel": [(10, 72), (25, 70), (100, 71)],
        "meddel": [(10, 63.5), (100, 71)],
    }.items():
        own = np.array(drawn(chart.figure, 8, LOOKS[method][0]))
        assert own.ravel() == pytest.approx(np.ravel(points))
    (dotted,) = [one for one in panels[8].lines if one.get_linestyle() == ":"]
    assert dotted.get_ydata()[0] == pytest.approx(71)
    assert "own: slices, not medical: " in chart.alt


def test_ink_is_the_colour_of_the_page(rows: list[Row]) -> None:
    svg = runs_chart(rows).svg()
    assert INK.encode() not in svg
    assert b"currentColor" in svg
    assert b"prefers-color-scheme:dark" in svg
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert runs_chart(rows).svg() == svg


def test_a_name_is_no_formula(rows: list[Row]) -> None:
    """A dollar sign in the name of a data set or a folder: what is no mathematics is drawn too."""
    name = r"$\frac{ & <b> -->"
    charts = [
        cost_chart({name: 3.0}),
        information_chart({f"{name}-10": (0.25, 0.02)}),
        figure_6({}, {f"own: {name}": rows}),
        runs_chart([dataclasses.replace(row, method=name) for row in rows]),
    ]
    for chart in charts:
        tree = ElementTree.fromstring(chart.svg())
        assert not [one for one in tree.iter() if one.tag.rpartition("}")[2] in ("script", "b")]
