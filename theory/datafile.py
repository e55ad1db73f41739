"""Data files: labelled arrays with parameters and versions, written atomically."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xarray as xr

__all__ = [
    "SCHEMA_VERSION",
    "DataFileError",
    "atomic_file",
    "parameters_of",
    "read_dataset",
    "write_bytes_atomic",
    "write_dataset",
    "write_text_atomic",
]

SCHEMA_VERSION = 1


class DataFileError(ValueError):
    """A data file is missing, damaged or not what was asked for."""


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found = {}
    for name in ("hardset", "jax", "jaxlib", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """An empty hidden file beside `path` to write to; without an error it takes its place.

    `path` holds either its old content or all of the new one, whatever happens.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one.

    Raises:
        OSError: see `atomic_file`.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: str | Path, text: str) -> None:
    """`write_bytes_atomic` for text in UTF-8."""
    write_bytes_atomic(path, text.encode())


def write_dataset(
    dataset: xr.Dataset, path: str | Path, *, kind: str, parameters: dict[str, Any]
) -> None:
    """Write labelled arrays as NetCDF-4 with what is needed to reproduce them.

    Args:
        dataset: the arrays.
        path: the file, replaced atomically.
        kind: what the file holds, checked by `read_dataset`.
        parameters: JSON-serialisable parameters, seeds included.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    stamped = dataset.assign_attrs(
        kind=kind,
        schema_version=SCHEMA_VERSION,
        parameters=json.dumps(parameters, sort_keys=True),
        versions=json.dumps(versions(), sort_keys=True),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # In memory first: HDF5 itself crashes the process when the disk is full.
    write_bytes_atomic(path, bytes(stamped.to_netcdf(engine="h5netcdf")))


def read_dataset(path: str | Path, *, kind: str) -> xr.Dataset:
    """Read a data file written by `write_dataset`, whole, into memory.

    Args:
        path: the file.
        kind: the kind it must have.

    Raises:
        DataFileError: missing or truncated file, other kind, newer schema; one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"data file {path} does not exist")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as file:
            dataset = file.load()
    except Exception as error:  # h5py raises many types on damaged input
        raise DataFileError(f"data file {path} is damaged or not NetCDF-4: {error}") from None
    found = dataset.attrs.get("kind")
    if found != kind:
        raise DataFileError(f"data file {path} holds {found!r}, not {kind!r}")
    schema = dataset.attrs.get("schema_version", 0)
    if schema > SCHEMA_VERSION:
        raise DataFileError(
            f"data file {path} has schema version {schema}; this version reads up to "
            f"{SCHEMA_VERSION}"
        )
    return dataset


def parameters_of(dataset: xr.Dataset) -> dict[str, Any]:
    """The parameters that `write_dataset` stored."""
    return dict(json.loads(dataset.attrs["parameters"]))
