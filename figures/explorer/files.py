"""Writes what the page shows as a picture or a data file."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.explorer.state import BINS, FARTHEST, State
from figures.figure import read_figure
from figures.style import POINTS, log_axes
from hardset.datafile import (
    DataFileError,
    check_output_file,
    parameters_of,
    write_bytes_atomic,
    write_dataset,
)
from hardset.pictures import rendered

KIND = "figure explore"
FORMATS = ("png", "pdf", "nc")
# Okabe and Ito's colours and three more, dark enough on white, with a dash pattern each.
LOOKS: dict[str, tuple[str, str | tuple[int, ...]]] = {
    "hard": ("#0072B2", "solid"),
    "random": ("#000000", "dashed"),
    "easy": ("#D55E00", "dashdot"),
    "moderate": ("#00795A", "dotted"),
    "hard-signed": ("#A3487E", (8, 2)),
    "easy-signed": ("#7A6A00", (4, 1, 1, 1, 1, 1)),
    "window": ("#5B3FBF", (12, 3)),
    "mixture": ("#8B4513", (2, 2)),
    "window-signed": ("#0E7C91", (8, 2, 2, 2)),
}
EVERYTHING = "#8a8a8a"  # the colour of all examples, kept or not
MARGIN_AXIS = "share of the kept in each bin"


def label(state: State, policy: str) -> str:
    """Name a policy with its own number, if it has one."""
    return " ".join([policy, *(f"{name} = {value:g}" for name, value in state.own(policy).items())])


def caption(state: State) -> str:
    """Say in words what is shown."""
    student = (
        f"a student with the {state.loss} loss, lam = {state.lam:g},"
        if state.has_loss
        else "the max-margin student"
    )
    return (
        f"Error of {student} against the kept fraction f: alpha_t = {state.alpha_total:g}, "
        f"theta = {state.theta_deg:g} degrees, r = {state.redundancy}, shift "
        f"{state.downstream_deg:g} degrees, {state.flip:.3g} of the labels flipped. Policies: "
        f"{', '.join(label(state, name) for name in state.policy)}. Stars: the best fractions. "
        f"Diamond: the best window at f = {state.keep_fraction:g}. Below: the "
        f"shares of what is kept at f = {state.keep_fraction:g} by the margin abs(T.x), in bins of "
        f"{FARTHEST / BINS:g}, the last one open; grey: the shares of all examples."
    )


def written(dataset: xr.Dataset, state: State, file_format: str) -> bytes:
    """Write what is shown as the bytes of a file.

    Args:
        dataset: of `curves.dataset`.
        state: what it was computed from.
        file_format: one of FORMATS; "nc" is a data file with checksum, for `hardset verify`.
    """
    if file_format != "nc":
        return rendered(lambda: draw(dataset, state), file_format, caption(state))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "explore.nc"
        parameters = state.parameters | {
            name: int(dataset.attrs[name]) for name in ("dim", "draws") if name in dataset.attrs
        }
        write_dataset(dataset, path, kind=KIND, parameters=json.loads(json.dumps(parameters)))
        return path.read_bytes()


def redraw(path: Path, folder: Path, formats: Iterable[str]) -> tuple[list[Path], str]:
    """Draw a downloaded data file again, as `explore.FORMAT`.

    Args:
        path: the data file.
        folder: where the pictures go.
        formats: of `figures.figure.FORMATS`.

    Returns:
        The pictures' paths, and the caption.

    Raises:
        hardset.datafile.DataFileError: the file is damaged, foreign or of another version.
        OSError: a picture cannot be written; names it.
    """
    dataset = read_figure(path, KIND)
    pictures = {name: check_output_file(folder / f"explore.{name}") for name in formats}
    try:
        state = State.of_parameters(parameters_of(dataset))
        words = caption(state)
        drawn = {
            target: rendered(lambda: draw(dataset, state), name, words)
            for name, target in pictures.items()
        }
    except KeyError as error:
        lacking = str(error.args[0]).splitlines()[0]
        raise DataFileError(
            f"data file {path} is of another version of the page: it lacks {lacking}; download it "
            "again"
        ) from None
    for target, picture in drawn.items():
        write_bytes_atomic(target, picture)
    return list(drawn), words


def draw(dataset: xr.Dataset, state: State) -> Figure:
    """Draw the curves, and the margins of what is kept below."""
    figure = Figure(figsize=(4.2, 4.9))
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    edges = np.append(dataset["margin_low"].values, FARTHEST)
    shaded: dict[str, Any] = {"color": EVERYTHING, "alpha": 0.3}
    below.stairs(dataset["all_share"], edges, fill=True, **shaded, label="all examples")
    for name in dataset["policy"].values:
        part = dataset.sel(policy=name)
        color, dash = LOOKS[str(name)]
        look: dict[str, Any] = {
            "color": color,
            "linestyle": dash if isinstance(dash, str) else (0, dash),
            "label": label(state, str(name)),
        }
        above.plot(part["keep_fraction"], part["theory_error"], **look)
        above.plot(part["best_fraction"], part["least_error"], "*", color=color, markersize=7)
        if np.all(np.isfinite(part["margin_share"])):
            below.stairs(part["margin_share"], edges, fill=True, color=color, alpha=0.12)
            below.stairs(part["margin_share"], edges, linewidth=1.3, **look)
        if "error_mean" in dataset:
            above.errorbar(
                part["simulated_fraction"],
                part["error_mean"],
                yerr=part["error_stderr"],
                color=color,
                **POINTS,
            )
    above.plot(
        state.keep_fraction,
        dataset["window_error"],
        "D",
        color="white",
        markeredgecolor="black",
        markersize=4.5,
        label=f"best window at f = {state.keep_fraction:g}",
        linestyle="none",
    )
    student = f"{state.loss}, lam = {state.lam:g}" if state.has_loss else state.loss
    above.set_title(
        f"alpha_t = {state.alpha_total:g}, theta = {state.theta_deg:g} deg, "
        f"r = {state.redundancy},\nshift = {state.downstream_deg:g} deg, "
        f"flip = {state.flip:g}, {student}"
    )
    values = dataset["theory_error"].values
    known = values[np.isfinite(values) & (values > 0)]
    low, high = (known.min() / 1.3, known.max() * 1.3) if known.size else (1e-3, 0.6)
    log_axes(above, (state.lowest, 1.1), (low, high))
    above.set(xlabel="kept fraction $f$", ylabel="error")
    above.legend()
    bins = f"$f = {state.keep_fraction:g}$, bins of {FARTHEST / BINS:g}"
    below.set(
        xlabel=f"margin $|T\\cdot x|$ at {bins}",
        ylabel=MARGIN_AXIS,
        ylim=(0, None),
        xlim=(0, FARTHEST),
    )
    below.legend()
    return figure
