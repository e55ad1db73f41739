"""Builds the page: sliders and choices, curves, margins, buttons and downloads."""

import html
import io
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import panel as pn
import xarray as xr
from bokeh.models import ColumnDataSource, FixedTicker, Range1d, Span, Whisker
from bokeh.plotting import figure

from figures.explorer import access, curves
from figures.explorer.curves import Curve, Marks
from figures.explorer.files import EVERYTHING, FORMATS, LOOKS, MARGIN_AXIS, written
from figures.explorer.newest import Newest
from figures.explorer.state import BINS, DIMS, DRAWS, FARTHEST, POLICIES, STUDENTS, State

ALPHAS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.5, 1000, 67))
RIDGES = tuple(float(f"{x:.3g}") for x in np.geomspace(1e-4, 10, 51))
FRACTIONS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.02, 1, 52))
COPY = """
const said = button.label;
const done = () => { button.label = 'Copied'; setTimeout(() => { button.label = said }, 1500) };
const selected = () => {  // where the browser gives a page no clipboard, as without HTTPS
  const area = document.createElement('textarea');
  area.value = source.value;
  document.body.appendChild(area);
  area.select();
  document.execCommand('copy');
  area.remove();
  done();
};
if (navigator.clipboard) { navigator.clipboard.writeText(source.value).then(done, selected) }
else { selected() }
"""
FRACTION_TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
ERROR_TICKS = [digit * 10.0**power for power in range(-8, 0) for digit in (1, 2, 3, 5, 7)]
# Bokeh puts the boxes of a line beside each other however long it gets.
WRAPPED = """
.bk-input-group.bk-inline { flex-wrap: wrap; gap: 2px 14px }
.bk-input-group.bk-inline > *:not(:first-child) { margin-left: 0 }
"""
READABLE = "textarea.bk-input { color: #222 !important; opacity: 1 !important }"
# Bokeh 3.9 walks along the steps of an area without a point for ever.
NO_MARGINS = ([np.nan], [np.nan])
DRAWN = 1.0  # seconds; a page that is gone draws nothing
QUICK = 0.25  # seconds; where curves take longer, every fourth point is shown first
LONGEST = 300  # letters of a complaint about the address
FIRST = (
    "Solving. A student's program is compiled the first time it is chosen on this machine, about "
    "20 s; later sessions read it in about 3 s."
)


def warm_up() -> None:
    """Compile in the background what the first page needs."""
    Newest[State, dict[str, Curve]](
        lambda state, _: curves.curves(state), lambda state, found: None
    ).ask(State())


class _StaleError(Exception):
    """A newer question waits."""


class Page:
    """The page of one visitor.

    Attributes:
        view: what the server shows.
    """

    def __init__(self) -> None:
        self._document = pn.state.curdoc
        self._setting = False  # while the widgets take a state, they do not make one
        self._shown: tuple[State, dict[str, Curve], Marks] | None = None
        self._points: dict[str, xr.Dataset] | None = None
        self._size = (0, 0)
        self._solved: State | None = None  # of the thread
        self._seconds = 0.0  # that the last curves took, of the thread
        self._kinds: set[tuple[str, bool]] = set()  # that have answered
        self._plots = _Plots()
        self._make_widgets()
        self.view = self._layout()
        self._newest = Newest[tuple[State, int, int], bool](self._compute, self._answered)
        if self._document is not None and self._document.session_context is not None:
            self._document.on_session_destroyed(lambda context: self._newest.close())
            access.add_names(self._document)
        state = State()
        if pn.state.location is not None:
            try:
                state = State.of_query(pn.state.location.search)
            except ValueError as error:
                # Escaped, and no Markdown: the address may come from anybody.
                words = html.escape(f"{error}"[:LONGEST])
                self._trouble.object = f"<p>{words}. The page shows its default instead.</p>"
                self._trouble.visible = True
        self._take(state)

    def _make_widgets(self) -> None:
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        slide = {"stylesheets": [access.SLIDER], **wide}
        slider = pn.widgets.FloatSlider
        self._inputs: dict[str, Any] = {
            "alpha_total": pn.widgets.DiscreteSlider(
                label="alpha_t: examples over N", options=list(ALPHAS), value=5.04, **slide
            ),
            "theta_deg": slider(
                label="theta: angle of the probe, degrees", start=0, end=90, step=0.5, **slide
            ),
            "redundancy": pn.widgets.IntSlider(
                label="redundancy: copies of each example", start=1, end=20, **slide
            ),
            "downstream_deg": slider(
                label="shift of the downstream task, degrees", start=0, end=60, step=0.5, **slide
            ),
            "flip": slider(
                label="noise: share of flipped labels",
                start=0,
                end=0.5,
                step=0.005,
                format="0[.]000",
                **slide,
            ),
            "loss": pn.widgets.Select(label="student", options=list(STUDENTS), **wide),
            "lam": pn.widgets.DiscreteSlider(
                label="lam: ridge of the loss", options=list(RIDGES), value=0.1, **slide
            ),
            "policy": pn.widgets.CheckBoxGroup(
                label="policies",
                options=list(POLICIES),
                inline=True,
                css_classes=["policies"],
                stylesheets=[WRAPPED],
                **wide,
            ),
            "lo": slider(
                label="lo: rank where windows begin", start=0, end=0.95, step=0.01, **slide
            ),
            "w": slider(
                label="w: share of the hardest in a mixture", start=0, end=1, step=0.01, **slide
            ),
            "keep_fraction": pn.widgets.DiscreteSlider(
                label="f: kept fraction of window and margins", options=list(FRACTIONS), **slide
            ),
        }
        for one in self._inputs.values():
            one.param.watch(self._moved, "value")
        self._lowest = State().lowest
        self._query = pn.widgets.TextInput(label="query", visible=False)
        self._query.jscallback(value="history.replaceState(null, '', '?' + cb_obj.value)")
        self._status = pn.pane.Markdown("", css_classes=["said"], **wide)
        self._trouble = pn.pane.Alert(
            "",
            alert_type="warning",
            visible=False,
            css_classes=["trouble"],
            stylesheets=[access.ALERT],
            **wide,
        )
        self._table = pn.pane.Markdown("", **wide)
        self._dim, self._draws = (
            pn.widgets.IntInput(
                label=label,
                value=value,
                start=start,
                end=end,
                width=110,
                stylesheets=[access.NUMBER],
            )
            for label, value, (start, end) in (("N", 60, DIMS), ("draws", 10, DRAWS))
        )
        self._simulate = pn.widgets.Button(label="Simulate", color="primary", width=110)
        self._simulate.on_click(lambda event: self._ask_simulation())
        self._bar = pn.indicators.Progress(
            label="simulation", value=0, max=curves.SIMULATED, visible=False, **wide
        )
        self._texts = {
            name: pn.widgets.TextAreaInput(
                label=name, disabled=True, rows=5, stylesheets=[READABLE], **wide
            )
            for name in ("command line", "Python lines")
        }
        self._copies = []
        for name, text in self._texts.items():
            button = pn.widgets.Button(label=f"Copy {name}", width=150)
            button.js_on_click(args={"source": text, "button": button}, code=COPY)
            self._copies.append(button)
        self._downloads = [
            pn.widgets.FileDownload(
                callback=lambda file_format=file_format: self._file(file_format),
                filename=f"explore.{file_format}",
                label=f"Download {'data' if file_format == 'nc' else file_format.upper()}",
                width=150,
            )
            for file_format in FORMATS
        ]

    def _layout(self) -> Any:
        """Place the pictures beside the controls, or above them where the screen is narrow."""
        inputs = dict(self._inputs)
        policies = [inputs.pop(name) for name in ("policy", "lo", "w")]
        head = pn.Column(
            pn.pane.Markdown("# Which examples to keep", margin=(0, 10)),
            self._trouble,
            self._status,
            self._query,
            styles={"flex": "1 1 100%", "min-width": "0"},
        )
        pictures = pn.Column(
            self._plots.above,
            self._plots.below,
            styles={"flex": "3 1 400px", "min-width": "0"},
        )
        controls = pn.Column(
            *inputs.values(),
            pn.pane.Markdown("policies", margin=(0, 10)),
            *policies,
            styles={"flex": "1 1 260px", "min-width": "0"},
        )
        more = pn.Column(
            self._table,
            pn.FlexBox(self._dim, self._draws, self._simulate, align_items="end"),
            self._bar,
            pn.FlexBox(*self._copies, *self._downloads, align_items="center"),
            pn.Accordion(
                *[(name, text) for name, text in self._texts.items()],
                sizing_mode="stretch_width",
                margin=(5, 15, 5, 5),
            ),
            styles={"flex": "1 1 100%", "min-width": "0"},
        )
        return pn.FlexBox(
            head,
            pictures,
            controls,
            more,
            flex_wrap="wrap",
            sizing_mode="stretch_width",
            max_width=1400,
        )

    def _take(self, state: State) -> None:
        """Move the widgets to a state, and ask for its numbers."""
        self._setting = True
        self._lowest = state.lowest
        for name, one in self._inputs.items():
            value = getattr(state, name)
            if isinstance(one, pn.widgets.DiscreteSlider):
                one.options = sorted({*one.options, value})
            elif hasattr(one, "end"):
                one.end = max(one.end, value)
            one.value = list(value) if isinstance(value, tuple) else value
        self._setting = False
        self._moved()

    def _state(self) -> State:
        # The browser's steps carry rounding errors.
        given: dict[str, Any] = {
            name: float(f"{one.value:.12g}") if isinstance(one.value, float) else one.value
            for name, one in self._inputs.items()
        }
        given["policy"] = tuple(name for name in POLICIES if name in given["policy"])
        return State(lowest=self._lowest, **given)

    def _moved(self, *events: Any) -> None:
        if self._setting:
            return
        try:
            state = self._state()
        except ValueError as error:
            self._say(f"{error}.")
            return
        self._inputs["lam"].disabled = not state.has_loss
        for own in ("lo", "w"):
            self._inputs[own].visible = any(own in state.own(name) for name in state.policy)
        self._say("Solving." if _kind(state) in self._kinds else FIRST)
        for button in self._downloads:
            button.disabled = True
        if events:
            self._trouble.visible = False
        # At once, so that a reload in mid-solve asks for the same.
        self._query.value = state.query()
        self._newest.ask((state, 0, 0))

    def _ask_simulation(self) -> None:
        try:
            state = self._state()
        except ValueError as error:
            self._say(f"{error}.")
            return
        self._bar.value, self._bar.visible = 0, True
        self._say("Simulating.")
        self._newest.ask((state, self._dim.value, self._draws.value))

    def _compute(self, question: tuple[State, int, int], stale: Callable[[], bool]) -> bool:
        """Solve or simulate, on the thread; what is known is shown at once."""
        state, dim, draws = question
        if self._solved != state:
            self._solve(state, stale)
        if draws and not stale():
            self._draw_points(state, dim, draws, stale)
        return True

    def _draw_points(self, state: State, dim: int, draws: int, stale: Callable[[], bool]) -> None:
        parts = []
        for part in curves.simulate(state, dim, draws):
            if stale():
                return
            parts.append(part)
            self._later(partial(self._bar.param.update, value=len(parts)))
        points = curves.joined(parts)
        self._later(lambda: self._show_points(state, points, dim, draws))

    def _solve(self, state: State, stale: Callable[[], bool]) -> None:
        start = time.monotonic()
        if self._seconds > QUICK:
            coarse = curves.coarse_curves(state)
            self._later(lambda: self._show(state, coarse))
            if stale():
                return
            found = curves.refined(state, coarse)
        else:
            found = curves.curves(state)
        self._seconds = time.monotonic() - start
        drawn = threading.Event()
        # Shown even if the slider has moved on meanwhile: so the curves follow while it is drawn.
        self._later(lambda: self._show(state, found))
        self._later(drawn.set)
        drawn.wait(DRAWN)  # the search would keep the processor from the thread that draws

        def go_on() -> None:
            if stale():
                raise _StaleError

        with suppress(_StaleError):
            best = curves.marks(state, found, go_on)
            self._solved = state
            self._later(lambda: self._show_marks(state, found, best))

    def _answered(self, question: tuple[State, int, int], found: bool | Exception) -> None:
        """Say why there is no answer, where there is none."""
        if isinstance(found, Exception):
            self._later(lambda: self._say(f"{found}."))
            self._later(lambda: self._bar.param.update(visible=False))

    def _later(self, change: Callable[[], None]) -> None:
        """Change the page on the server's own thread, unless it is gone."""
        if self._document is not None and self._document.session_context is not None:
            self._document.add_next_tick_callback(change)

    def _say(self, sentence: str) -> None:
        self._status.object = html.escape(sentence)

    def _show(self, state: State, found: dict[str, Curve]) -> None:
        self._points, self._size, self._bar.visible = None, (0, 0), False
        self._kinds.add(_kind(state))
        self._plots.show(state, found)
        self._write(state)

    def _show_marks(self, state: State, found: dict[str, Curve], best: Marks) -> None:
        self._shown = (state, found, best)
        for button in self._downloads:
            button.disabled = False
        self._plots.show_marks(state, best)
        self._table.object = _table(state, found, best)
        empty = [name for name, one in found.items() if np.any(np.isnan(one.share))]
        sentences = curves.ends(found) or ["Solved."]
        if empty:
            sentences.append(
                f"{' and '.join(empty)} from rank {state.lo:g} on cannot keep "
                f"f = {state.keep_fraction:g}: the margins are left out."
            )
        self._say(" ".join(sentences))

    def _show_points(
        self, state: State, points: dict[str, xr.Dataset], dim: int, draws: int
    ) -> None:
        self._points, self._size = points, (dim, draws)
        self._plots.show_points(points)
        self._bar.visible = False
        self._write(state)
        solved = sum(int(one["solved"].sum()) for one in points.values())
        asked = draws * curves.SIMULATED * len(points)
        self._say(f"Simulated: N = {dim}, {draws} draws; {solved} of {asked} students found.")

    def _write(self, state: State) -> None:
        self._texts["command line"].value = state.command()
        self._texts["Python lines"].value = state.python(*self._size)

    def _file(self, file_format: str) -> io.BytesIO:
        """Write what is shown, as a file's bytes."""
        if self._shown is None:
            raise ValueError("nothing is solved yet")
        state, found, best = self._shown
        made = curves.dataset(state, found, best, self._points)
        return io.BytesIO(written(made, state, file_format))


class _Plots:
    """Two plots with a line for each policy, filled when it is shown."""

    def __init__(self) -> None:
        wide: dict[str, Any] = {
            "sizing_mode": "stretch_width",
            "toolbar_location": None,
            "min_border_right": 15,  # half of the axis' last label
        }
        self._above = figure(
            height=380,
            x_axis_type="log",
            y_axis_type="log",
            x_range=Range1d(0.018, 1.1),
            y_range=Range1d(0.01, 0.6),
            x_axis_label="kept fraction f",
            y_axis_label="error",
            css_classes=["errors"],
            **wide,
        )
        self._below = figure(
            height=240,
            x_range=Range1d(0, FARTHEST),
            x_axis_label="margin |T·x|",
            y_axis_label=MARGIN_AXIS,
            css_classes=["margins"],
            **wide,
        )
        # Bokeh's own ticks of a logarithmic axis have two labels here.
        for axis, ticks in ((self._above.xaxis, FRACTION_TICKS), (self._above.yaxis, ERROR_TICKS)):
            axis.ticker = FixedTicker(ticks=ticks)
            axis.major_label_overrides = {tick: f"{tick:g}" for tick in ticks}
        self._below.y_range.start = 0
        ends, everything = _steps(curves.all_shares())
        self._below.varea_step(
            ends,
            0,
            everything,
            step_mode="after",
            color=EVERYTHING,
            alpha=0.3,
            legend_label="all examples",
        )
        self._lines: dict[str, Any] = {}
        for name in POLICIES:
            color, dash = LOOKS[name]
            pattern = dash if isinstance(dash, str) else list(dash)
            line: dict[str, Any] = {"color": color, "line_dash": pattern, "line_width": 2}
            curve, best, points = (
                ColumnDataSource(_columns(), name=f"{kind} {name}")
                for kind in ("curve", "best", "points")
            )
            margins = ColumnDataSource(_columns(*NO_MARGINS), name=f"margins {name}")
            drawn = [
                self._above.line("x", "y", source=curve, legend_label=name, **line),
                self._below.varea_step(
                    "x", 0, "y", source=margins, step_mode="after", color=color, alpha=0.07
                ),
                self._below.step("x", "y", source=margins, mode="after", legend_label=name, **line),
            ]
            self._above.scatter(
                "x", "y", source=best, marker="star", size=15, color=color, line_color="white"
            )
            self._above.scatter("x", "y", source=points, size=7, color=color, line_color="white")
            bars = Whisker(base="x", lower="low", upper="high", source=points, line_color=color)
            bars.lower_head.line_color = bars.upper_head.line_color = color
            self._above.add_layout(bars)
            self._lines[name] = (curve, best, margins, points, drawn)
        self._window = ColumnDataSource(_columns(), name="window")
        self._above.scatter(
            "x",
            "y",
            source=self._window,
            marker="diamond",
            size=13,
            color="white",
            line_color="black",
            line_width=2,
            legend_label="best window at f",
        )
        self._fraction = Span(location=1, dimension="height", line_color="#767676", line_width=1)
        self._above.add_layout(self._fraction)
        for plot, corner in ((self._above, "bottom_left"), (self._below, "top_right")):
            plot.legend.location = corner
            plot.legend.background_fill_alpha = 0.7
            plot.legend.label_text_font_size = "11px"
            plot.legend.spacing = 0
            self._list(plot, ())
        self._below.legend.ncols = 2
        self.above = pn.pane.Bokeh(self._above, sizing_mode="stretch_width")
        self.below = pn.pane.Bokeh(self._below, sizing_mode="stretch_width")

    def show(self, state: State, found: dict[str, Curve]) -> None:
        """Draw the curves, and take away window and points, which are of another state."""
        for name, (curve, best, margins, points, drawn) in self._lines.items():
            one = found.get(name)
            _put(curve, *((one.keep_fraction, one.error) if one else ()))
            kept = one is not None and np.all(np.isfinite(one.share))
            _put(margins, *(_steps(one.share) if one and kept else NO_MARGINS))
            _put(best)
            _put(points)
            for glyph in drawn:
                glyph.visible = one is not None
        for plot in (self._above, self._below):
            self._list(plot, found)
        values = np.concatenate([one.error for one in found.values()])
        known = values[np.isfinite(values) & (values > 0)]
        if known.size:
            limits = {"start": known.min() / 1.3, "end": min(1.05, known.max() * 1.3)}
            self._above.y_range.update(**limits)
        self._above.x_range.start = 0.9 * state.lowest
        self._below.xaxis.axis_label = (
            f"margin |T·x| at f = {state.keep_fraction:g}, bins of {FARTHEST / BINS:g}"
        )
        _put(self._window)
        self._fraction.location = state.keep_fraction

    def _list(self, plot: Any, policies: Collection[str]) -> None:
        """Let a plot's legend name some policies, beside what is no policy."""
        for item in plot.legend[0].items:
            item.visible = item.label.value in policies or item.label.value not in self._lines

    def show_marks(self, state: State, best: Marks) -> None:
        """Mark each curve's best fraction, and the best window's error at its fraction."""
        for name in state.policy:
            at, error = best.best_fraction[name], best.least_error[name]
            _put(self._lines[name][1], [at], [error])
        _put(self._window, [state.keep_fraction], [best.window_error])

    def show_points(self, points: dict[str, xr.Dataset]) -> None:
        """Draw the means of a simulation with their standard errors."""
        for name, one in points.items():
            x, y, bar = (
                np.ravel(one[key].values) for key in ("keep_fraction", "error_mean", "error_stderr")
            )
            _put(self._lines[name][3], x, y, y - bar, y + bar)


def _kind(state: State) -> tuple[str, bool]:
    """Return what decides which programs a state needs."""
    return state.loss, state.flip > 0


def _put(source: ColumnDataSource, *columns: Any) -> None:
    """Give a source its columns, unless both are empty: each change is a message."""
    if len(source.data["x"]) or columns:
        source.data = _columns(*columns)


def _steps(share: curves.Floats) -> tuple[curves.Floats, curves.Floats]:
    """Return the corners of a histogram, each where a bin begins, and its end."""
    return np.append(curves.margin_edges()[:-1], FARTHEST), np.append(share, share[-1])


def _columns(x: Any = (), y: Any = (), low: Any = None, high: Any = None) -> dict[str, Any]:
    return {
        "x": np.asarray(x),
        "y": np.asarray(y),
        "low": np.asarray(y if low is None else low),
        "high": np.asarray(y if high is None else high),
    }


def _table(state: State, found: dict[str, Curve], best: Marks) -> str:
    """Write the best fractions and the best window in words."""
    lines = ["| policy | best f | error there | error at f = 1 |", "|---|---|---|---|"]
    for name, one in found.items():
        last = float(one.error[-1]) if one.keep_fraction[-1] == 1 else np.nan
        cells = (best.best_fraction[name], best.least_error[name], last)
        shown = (f"{value:.4g}" if np.isfinite(value) else "none" for value in cells)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    if np.isfinite(best.window_error):
        lo = best.window_lo
        kind = "the hardest" if lo == 0 else f"those from rank {lo:.3g} of abs(z) on"
        lines += [
            "",
            f"Best window at f = {state.keep_fraction:g}: {kind}, error {best.window_error:.4g}.",
        ]
    return "\n".join(lines)
