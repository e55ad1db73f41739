"""What the command line prints and writes of a simulated grid."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hardset.datafile import parameters_of, read_dataset, write_dataset

__all__ = ["grid_points", "points_table", "save_run", "stored_run"]

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
    columns: dict[str, list[Any]] = {
        name: np.ravel(array).astype(float).tolist() for name, array in coordinates.items()
    }
    for name, array in values.items():
        columns[name] = [_finite(value) for value in np.ravel(array).tolist()]
    columns |= {name: np.ravel(dataset[name].values).astype(int).tolist() for name in COUNTS}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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
    """
    if not path.exists():
        return None
    if not path.is_file():
        what = "folder" if path.is_dir() else "device or a pipe"
        raise ValueError(f"output file {path} is a {what}; give a file's name with --out")
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


def save_run(dataset: xr.Dataset, path: Path, parameters: dict[str, Any]) -> str:
    """Write a run to a file that was not there; returns why that failed, or nothing.

    A file that another process wrote meanwhile is as good if it holds the same run.
    """
    try:
        write_dataset(dataset, path, kind=KIND, parameters=parameters, replace=False)
    except FileExistsError:
        try:
            stored_run(path, parameters)
        except (ValueError, OSError) as error:
            return f"another process wrote {path} meanwhile: {error}"
    except OSError as error:
        return f"{error.filename or path}: {error.strerror or error}"
    return ""
