"""What the command line prints and writes of a simulated grid."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hardset.cli import check_output_folder
from hardset.datafile import parameters_of, read_dataset

__all__ = ["KIND", "grid_points", "points_table", "stored_run"]

KIND = "simulation"
REPORTED = ("error", "overlap", "probe_overlap", "downstream_overlap", "margin", "support_fraction")
COUNTS = ("solved", "not_separable", "failed", "empty")

# Heading, key and format of the table's columns.
COLUMNS = (
    ("alpha_t", "alpha_total", "8g"),
    ("f", "keep_fraction", "9.4g"),
    ("theta", "theta_deg_mean", "7.4g"),
    ("r", "redundancy", "4g"),
    ("error", "error_mean", "10.6f"),
    ("+/-", "error_stderr", "9.6f"),
    ("R", "overlap_mean", "10.6f"),
    ("rho", "probe_overlap_mean", "10.6f"),
    ("kappa", "margin_mean", "10.5g"),
    ("support", "support_fraction_mean", "9.4f"),
    ("solved", "solved", "7d"),
)


def grid_points(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """One flat dictionary a grid point, its parameters first, angles in degrees."""
    coordinates = {
        str(name): dataset[name].broadcast_like(dataset["error_mean"]).values
        for name in dataset.coords
        if name not in ("draw", "delta", "along_teacher", "along_plane", "theta")
    }
    coordinates["downstream_deg"] = _degrees(np.arctan(_full(dataset, "delta")))
    if "theta" in dataset.coords:
        coordinates["theta_deg"] = _degrees(_full(dataset, "theta"))
    names = [f"{name}_{part}" for name in REPORTED for part in ("mean", "stderr")]
    values = {name: dataset[name].values for name in names}
    values |= {f"theta_deg_{part}": _degrees(dataset[f"theta_{part}"]) for part in ("mean", "std")}
    values["bracket_max"] = dataset["bracket_max"].values
    points = []
    for index in np.ndindex(*dataset["error_mean"].shape):
        point: dict[str, Any] = {name: float(v[index]) for name, v in coordinates.items()}
        point |= {name: _finite(float(v[index])) for name, v in values.items()}
        point |= {name: int(dataset[name].values[index]) for name in COUNTS}
        points.append(point)
    return points


def _full(dataset: xr.Dataset, name: str) -> Any:
    return dataset[name].broadcast_like(dataset["error_mean"]).values


def _degrees(radians: Any) -> Any:
    # The way to radians and back leaves its rounding behind 20.
    return np.round(np.rad2deg(np.asarray(radians)), 12)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def points_table(points: list[dict[str, Any]]) -> str:
    """The points as text, one line each; "-" for what has no value."""
    lines = ["".join(f"{head:>{_width(form)}}" for head, _, form in COLUMNS)]
    for point in points:
        cells = [(point[key], form) for _, key, form in COLUMNS]
        line = "".join(f"{'-':>{_width(f)}}" if v is None else f"{v:{f}}" for v, f in cells)
        missing = [f"{point[name]} {name.replace('_', ' ')}" for name in COUNTS[1:] if point[name]]
        lines.append("  ".join([line, *missing]))
    return "\n".join(lines)


def _width(form: str) -> int:
    return int(form.rstrip("dfg").split(".")[0])


def stored_run(path: Path, parameters: dict[str, Any]) -> xr.Dataset | None:
    """The run of `parameters` that `path` holds already, None if there is no such file.

    Raises:
        ValueError: `path` is a folder, or a file that a new one must not replace: of another run,
            damaged, or no data file.
        OSError: its folder cannot be written.
    """
    check_output_folder(path.parent)
    if path.is_dir():
        raise ValueError(f"output file {path} is a folder; give a file's name with --out")
    if not path.exists():
        return None
    dataset = read_dataset(path, kind=KIND)
    found = parameters_of(dataset)
    for name in sorted(found | parameters):
        if found.get(name) != parameters.get(name):
            raise ValueError(
                f"output file {path} was computed with {name} = {found.get(name)}, not "
                f"{parameters.get(name)}; name another one with --out, or delete it"
            )
    print(f"{path} holds this run already", file=sys.stderr)
    return dataset
