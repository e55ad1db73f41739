"""A figure's files: data computed once and reused, pictures drawn from the data file alone."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr
from matplotlib import rc_context

from figures.settings import BaseSettings
from figures.spec import FigureSpec
from figures.style import STYLE
from hardset.datafile import (
    DataFileError,
    parameters_of,
    read_dataset,
    write_bytes_atomic,
    write_dataset,
)

__all__ = ["FORMATS", "check_data", "make_data", "make_pictures", "render"]

# Dates and versions would make equal pictures differ.
_METADATA: dict[str, tuple[str, dict[str, None]]] = {
    "png": ("Description", {"Software": None}),
    "pdf": ("Subject", {"CreationDate": None, "Creator": None, "Producer": None}),
    "svg": ("Description", {"Date": None}),
}
FORMATS = tuple(_METADATA)


def data_path(spec: FigureSpec, folder: Path) -> Path:
    """Where a figure's data lie in `folder`."""
    return folder / f"{spec.name}.nc"


def check_data(spec: FigureSpec, settings: BaseSettings, folder: Path) -> None:
    """Raise if `folder` holds data of the figure that `settings` would not reproduce.

    Raises:
        ValueError: data of other parameters, with the first parameter that differs.
        hardset.datafile.DataFileError: a damaged or foreign file under the data file's name.
    """
    path = data_path(spec, folder)
    if not path.exists():
        return
    dataset = read_dataset(path, kind=spec.kind)
    with _complete(path):
        found = parameters_of(dataset)
    wanted = settings.parameters()
    for name in wanted:
        if found.get(name) != wanted[name]:
            raise ValueError(
                f"data file {path} was computed with {name} = {found.get(name)}, not "
                f"{wanted[name]}; choose another --out, or delete the file"
            )


def make_data(spec: FigureSpec, settings: BaseSettings, folder: Path, *, progress: bool) -> Path:
    """Compute the figure's data file, or keep the one that is there.

    Args:
        spec: the figure.
        settings: its settings.
        folder: output folder; finished simulation cells are kept in its subfolder `cells` and
            shared by all figures.
        progress: show a progress bar.

    Returns:
        The data file's path.

    Raises:
        ValueError: see `check_data`.
    """
    check_data(spec, settings, folder)
    path = data_path(spec, folder)
    if not path.exists():
        dataset = spec.compute(settings, cache=folder / "cells", progress=progress)
        write_dataset(dataset, path, kind=spec.kind, parameters=settings.parameters())
    return path


def make_pictures(
    spec: FigureSpec, data: Path, folder: Path, formats: Iterable[str]
) -> tuple[list[Path], str]:
    """Draw a data file.

    Args:
        spec: the figure.
        data: its data file.
        folder: where the pictures go, as NAME.FORMAT.
        formats: some of FORMATS.

    Returns:
        The pictures' paths, and the caption.

    Raises:
        hardset.datafile.DataFileError: the file is damaged, foreign or lacks something.
    """
    dataset = read_dataset(data, kind=spec.kind)
    with _complete(data):
        words = caption(spec, dataset)
        pictures = {folder / f"{spec.name}.{name}": render(spec, dataset, name) for name in formats}
    for path, picture in pictures.items():
        write_bytes_atomic(path, picture)
    return list(pictures), words


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Turn the want of a variable or attribute into a sentence about the data file."""
    try:
        yield
    except KeyError as error:
        lacking = str(error.args[0]).splitlines()[0]
        raise DataFileError(
            f"data file {path} is incomplete, or of another version of this figure: {lacking}; "
            "compute it again in another --out"
        ) from None


def caption(spec: FigureSpec, dataset: xr.Dataset) -> str:
    """The figure's caption, with the size of the simulation where there is one."""
    found = parameters_of(dataset)
    words = spec.caption(dataset)
    return f"{words} N = {found['dim']}, {found['draws']} draws." if "dim" in found else words


def render(spec: FigureSpec, dataset: xr.Dataset, file_format: str) -> bytes:
    """The picture of a dataset read from its file, as the bytes of a `file_format` file."""
    key, metadata = _METADATA[file_format]
    buffer = io.BytesIO()
    with rc_context(STYLE):
        spec.draw(dataset).savefig(
            buffer, format=file_format, metadata={**metadata, key: caption(spec, dataset)}
        )
    return buffer.getvalue()
