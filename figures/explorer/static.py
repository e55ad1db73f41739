"""Writes the page that shows the theory's curves without a server.

One HTML file holds Bokeh's script, a certified table of errors and what draws them.
"""

import base64
import json
import math
from importlib import resources
from typing import Any

import jax
import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, FixedTicker, Range1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment
from numpy.typing import NDArray
from scipy.special import ndtr

from figures.explorer.files import LOOKS
from figures.explorer.state import BINS, FARTHEST
from figures.explorer.table import (
    ALPHAS,
    CELLS,
    FRACTIONS,
    KEPT_ALPHAS,
    LAST,
    POINTS,
    POLICIES,
    RESIDUAL,
    SAFETY,
    THETAS_DEG,
    Table,
)
from hardset.datafile import versions
from hardset.float64 import float64
from theory.policies import policy_from_name

LARGEST_BYTES = 5_000_000
_DIGITS = (
    *(1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 2.8),
    *(3, 3.2, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 8, 9),
)
# Every stop over every number of copies lies within ALPHAS.
STOPS = tuple(
    float(f"{digit * power:.3g}")
    for power in (1, 10, 100)
    for digit in _DIGITS
    if 2 <= digit * power <= ALPHAS[1]
)
COPIES = tuple(range(1, round(STOPS[0] / ALPHAS[0]) + 1))
SHIFTS_DEG = tuple(np.arange(0.0, 60.5, 0.5).tolist())
QUADRATURE = 20  # Gauss's nodes of a bin, narrower than the blur of one degree
FRACTION_TICKS = [0.02, 0.05, 0.1, 0.2, 0.5, 1]
ERROR_TICKS = [digit * 10.0**power for power in range(-4, 0) for digit in (1, 2, 3, 5, 7)]
DASHES = {"solid": "", "dashed": "6", "dotted": "2 4", "dashdot": "2 4 6 4"}


def page(table: Table) -> str:
    """Write the page.

    Args:
        table: of `table.build`, all policies.

    Raises:
        ValueError: the page is larger than LARGEST_BYTES.
    """
    solved = sum(one.solved for one in table.lines.values())
    digit = 10.0 ** (math.floor(math.log10(table.bound)) - 1)
    rounded = float(f"{math.ceil(table.bound / digit) * digit:.1e}")
    data = {
        "policies": POLICIES,
        "stops": {
            "alpha_total": STOPS,
            "theta_deg": THETAS_DEG,
            "redundancy": COPIES,
            "downstream_deg": SHIFTS_DEG,
            "keep_fraction": FRACTIONS,
        },
        "alphas": ALPHAS,
        "kept_alphas": KEPT_ALPHAS,
        "last": LAST,
        "points": POINTS,
        "bins": BINS,
        "lines": {name: _packed_lines(table, name) for name in POLICIES},
        "shares": {name: _packed(shares(name), "<f4") for name in POLICIES},
    }
    inline = Resources(mode="inline", minified=True, components=["bokeh"])
    template = Environment(autoescape=True).from_string(_text("static.html"))
    text = template.render(
        bokeh="\n".join(inline.js_raw),
        script=_text("static.js"),
        data=_script_json(data),
        above=_script_json(json_item(_above(), ID("errors"))),
        below=_script_json(json_item(_below(), ID("margins"))),
        policies=[(name, LOOKS[name][0], _dashes(name)) for name in POLICIES],
        bound=rounded,
        percent=f"{100 * rounded:.2g}",
        safety=f"{SAFETY:g}",
        missed=f"{max(one.missed for one in table.lines.values()):.1e}",
        tested=f"{max(one.tested for one in table.lines.values()):.1e}",
        residual=f"{max(one.residual for one in table.lines.values()):.1e}",
        allowed=f"{RESIDUAL:g}",
        solved=f"{solved:,}",
        angles=len(THETAS_DEG),
        fractions=len(FRACTIONS),
        cells=CELLS,
        degree=POINTS - 1,
        alphas=ALPHAS,
        version=versions()["hardset"],
    )
    size = len(text.encode())
    if size > LARGEST_BYTES:
        raise ValueError(f"the page has {size:,} bytes, at most {LARGEST_BYTES:,} are allowed")
    return text


@float64
def shares(policy: str) -> NDArray[np.float64]:
    """Return the shares of the kept examples by their margin abs(T.x), in BINS bins.

    The last bin is open. Shape (angles, fractions, BINS), over THETAS_DEG and FRACTIONS.
    """
    theta, kept = np.meshgrid(np.deg2rad(THETAS_DEG), FRACTIONS, indexing="ij")
    weigh: Any = policy_from_name(policy).kept_weight
    weight: Any = jax.vmap(jax.vmap(lambda f, angle: weigh(f, angle, 1.0)))(kept, theta)
    nodes, sizes = np.polynomial.legendre.leggauss(QUADRATURE)
    width = FARTHEST / BINS
    margin = width * (np.arange(BINS)[:, None] + (nodes + 1) / 2)
    mass = np.exp(-(margin**2) / 2) / np.sqrt(2 * np.pi) * width / 2 * sizes
    found = np.zeros((*theta.shape, BINS))
    edges = np.linspace(0.0, FARTHEST, BINS + 1)
    for i, angle in enumerate(np.deg2rad(THETAS_DEG)):
        for part in range(weight.low.shape[-1]):
            low, high, level = (
                np.asarray(end)[i, :, part, None, None]
                for end in (weight.low, weight.high, weight.level)
            )
            if angle == 0:  # the margin is the field itself
                inside = ndtr(np.clip(edges[1:], low[..., 0], high[..., 0])) - ndtr(
                    np.clip(edges[:-1], low[..., 0], high[..., 0])
                )
                found[i] += level[..., 0] * inside
            else:
                mean, spread = margin * np.cos(angle), np.sin(angle)
                inside = ndtr((high - mean) / spread) - ndtr((low - mean) / spread)
                found[i] += (level * inside * mass).sum(-1)
    found *= 2 / kept[..., None]
    found[..., -1] = np.maximum(1 - found[..., :-1].sum(-1), 0.0)
    return found


def _above() -> Any:
    plot = figure(
        height=400,
        x_axis_type="log",
        y_axis_type="log",
        x_range=Range1d(start=0.018, end=1.1),
        y_range=Range1d(start=0.01, end=0.6),
        x_axis_label="kept fraction f",
        y_axis_label="error",
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        min_border_right=15,
    )
    for axis, ticks in ((plot.xaxis, FRACTION_TICKS), (plot.yaxis, ERROR_TICKS)):
        axis.ticker = FixedTicker(ticks=ticks)
        axis.major_label_overrides = {tick: f"{tick:g}" for tick in ticks}
    plot.y_range.name = "errors shown"
    for name in POLICIES:
        color, dash = LOOKS[name]
        curve, best = (
            ColumnDataSource({"x": [], "y": []}, name=f"{kind} {name}")
            for kind in ("curve", "best")
        )
        line_dash = dash if isinstance(dash, str) else list(dash)
        plot.line("x", "y", source=curve, color=color, line_dash=line_dash, line_width=2)
        star: dict[str, Any] = {"marker": "star", "size": 15, "color": color}
        plot.scatter("x", "y", source=best, line_color="white", **star)
    fraction = Span(location=1, dimension="height", line_color="#767676", name="fraction shown")
    plot.add_layout(fraction)
    _readable(plot)
    return plot


def _below() -> Any:
    plot = figure(
        height=240,
        x_range=Range1d(start=0, end=FARTHEST),
        y_range=Range1d(start=0, end=0.1, name="shares shown"),
        x_axis_label="margin |T·x|",
        y_axis_label="share of the kept in each bin",
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        min_border_right=15,
    )
    ends = np.linspace(0.0, FARTHEST, BINS + 1)
    for name in POLICIES:
        color, dash = LOOKS[name]
        source = ColumnDataSource({"x": ends, "y": np.zeros(BINS + 1)}, name=f"margins {name}")
        plot.step(
            "x",
            "y",
            source=source,
            mode="after",
            color=color,
            line_dash=dash if isinstance(dash, str) else list(dash),
            line_width=2,
        )
    _readable(plot)
    return plot


def _readable(plot: Any) -> None:
    for axis in plot.axis:
        axis.axis_label_text_color = axis.major_label_text_color = "#222222"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"


def _packed_lines(table: Table, name: str) -> dict[str, str]:
    """Pack the ends of a policy's lines among its nodes, their positions and values."""
    lines = table.lines[name]
    ends = np.searchsorted(lines.line, np.arange(lines.line[-1] + 2))
    return {
        "ends": _packed(ends, "<u4"),
        "position": _packed(lines.position, "<u4"),
        "log_error": _packed(lines.log_error, "<f4"),
    }


def _packed(array: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def _dashes(name: str) -> str:
    dash = LOOKS[name][1]
    return DASHES[dash] if isinstance(dash, str) else " ".join(str(one) for one in dash)


def _text(name: str) -> str:
    return (resources.files("figures.explorer") / name).read_text("utf-8")


def _script_json(value: Any) -> str:
    """Write JSON that may stand inside a script element."""
    return json.dumps(value).replace("<", "\\u003c")
