"""What a figure is: its data, its drawing and its caption, under one name."""

import dataclasses
import hashlib
import importlib
import io
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import xarray as xr
from matplotlib import rc_context

from figures.style import STYLE
from hardset.checks import check_choice, check_integer, check_range
from hardset.datafile import (
    DataFileError,
    check_output_file,
    parameters_of,
    read_dataset,
    write_bytes_atomic,
    write_dataset,
)
from pretrain_jax.report.runs import METHODS, Run
from sims.draws import check_kept

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


OVERLAPS = ("cosine", "pearson")

PUBLISHED_FRACTIONS = tuple(float(f"{f:.6g}") for f in np.logspace(-2, 0, 20))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """What the settings of all figures share."""

    def parameters(self) -> dict[str, Any]:
        """The settings as JSON types; equal parameters give equal data."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def _check_list(name: str, values: tuple[Any, ...]) -> None:
    if not values or len(set(values)) != len(values):
        raise ValueError(f"{name} = {list(values)} must hold distinct values, at least one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationSettings(BaseSettings):
    """Axes and sample sizes of a simulation.

    Attributes:
        alpha_total: total examples / N, one curve each, > 0.
        keep_fraction: fractions f at which draws are simulated, in (0, 1].
        dim: input dimension N of the simulation, >= 2.
        draws: independent draws a point, >= 2 (a standard error needs two).
        seed: seed of the draws, >= 0.
        overlap: "cosine", or "pearson" for the mean-centred overlap of the published notebook.
    """

    alpha_total: tuple[float, ...]
    keep_fraction: tuple[float, ...] = PUBLISHED_FRACTIONS
    dim: int = 200
    draws: int = 50
    seed: int = 0
    overlap: str = "cosine"

    def __post_init__(self) -> None:
        check_range("alpha_total", self.alpha_total, 0.0, math.inf, open_low=True)
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        check_integer("dim", self.dim, 2, math.inf)
        check_integer("draws", self.draws, 2, math.inf)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        check_choice("overlap", self.overlap, OVERLAPS)
        for name in ("alpha_total", "keep_fraction"):
            _check_list(name, getattr(self, name))
        # Said before anything is computed: other figures of the same call may take an hour.
        check_kept(min(self.keep_fraction), min(self.alpha_total), self.dim)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(SimulationSettings):
    """Axes and sample sizes of a simulation with probes at fixed angles.

    Attributes:
        theta_deg: probe angles in degrees, in [0, 90].
    """

    theta_deg: tuple[float, ...]

    def __post_init__(self) -> None:
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")
        _check_list("theta_deg", self.theta_deg)
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveSettings(Settings):
    """Settings of theory lines over f with simulated points on them.

    Attributes:
        theory_points: fractions of a line; fewer leave corners where the error falls off.
        theory_reach: the lines go on beyond the outer points by this factor, up to f = 1.
    """

    theory_points: int = 301
    theory_reach: float = 1.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class InSampleSettings(SimulationSettings):
    """Settings of lines over f for a probe that finds its angle for itself.

    Attributes:
        theory_points: see `CurveSettings`.
        theory_reach: see `CurveSettings`.
    """

    theory_points: int = 301
    theory_reach: float = 1.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedundancySettings(CurveSettings):
    """Settings of one panel for each redundancy.

    Attributes:
        redundancy: copies of every distinct example, whole numbers >= 1.
    """

    redundancy: tuple[float, ...] = (1.0, 3.0, 5.0, 10.0)

    def __post_init__(self) -> None:
        for value in self.redundancy:
            check_integer("redundancy", value, 1, math.inf)
        _check_list("redundancy", self.redundancy)
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DownstreamSettings(CurveSettings):
    """Settings of one panel for each downstream shift.

    Attributes:
        delta: sizes of the shift, >= 0.
    """

    delta: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4)

    def __post_init__(self) -> None:
        check_range("delta", self.delta, 0.0, math.inf)
        _check_list("delta", self.delta)
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicySettings(CurveSettings):
    """Settings of hard selection beside other policies.

    Attributes:
        rivals: names of the other policies, one panel each.
    """

    rivals: tuple[str, ...] = ("random", "easy", "moderate")

    def __post_init__(self) -> None:
        _check_list("rivals", self.rivals)
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometrySettings(Settings):
    """Settings of the picture of the plane.

    Attributes:
        examples: how many are drawn.
    """

    examples: int = 240


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginSettings(Settings):
    """Settings of histograms of margins.

    Attributes:
        bins: above kappa; a quarter as many lie below it, where finite samples put some of theirs.
        density_points: margins of the theory's density.
        reach: no margin is farther above kappa: the fields have unit variance.
        beyond: share of the kept examples that the picture leaves out on the right.
    """

    bins: int = 24
    density_points: int = 193
    reach: float = 6.0
    beyond: float = 2e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleSettings(Settings):
    """Settings of the best weight beside other policies.

    Attributes:
        field_range: probe fields between which the influence is shown.
        field_points: how many of them.
    """

    field_range: tuple[float, float] = (0.01, 3.0)
    field_points: int = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingSettings(Settings):
    """Settings of the error against the number of kept examples.

    Attributes:
        theory_range: kept examples / N between which the lines run.
        theory_points: how many of them.
    """

    theory_range: tuple[float, float] = (0.1, 1000.0)
    theory_points: int = 49


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowSettings(Settings):
    """Settings of windows of ranks.

    Attributes:
        simulated_offset: offsets at which draws are simulated, in units of 1 - f.
        theory_points: offsets of a line.
        map_angles: angles of the map of the best offset.
        map_volumes: volumes of data of that map.
        map_reach: the map goes on beyond the curves' volumes by this factor.
        map_theta_deg: largest angle of the map, unless a curve has a larger one.
    """

    simulated_offset: tuple[float, ...] = (0.0, 0.05, 0.12, 0.25, 0.5, 1.0)
    theory_points: int = 61
    map_angles: int = 10
    map_volumes: int = 15
    map_reach: float = 5.0
    map_theta_deg: float = 45.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.keep_fraction) == 1:
            raise ValueError(
                "keep_fraction = 1 keeps everything: there is one window, and no offset to choose"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapSettings(BaseSettings):
    """Axes of a map without simulation.

    Attributes:
        alpha_total: volumes in ascending order, total examples / N (or kept ones, where the map
            says so), > 0.
        theta_deg: probe angles in degrees, ascending, in [0, 90].
    """

    alpha_total: tuple[float, ...]
    theta_deg: tuple[float, ...]

    def __post_init__(self) -> None:
        check_range("alpha_total", self.alpha_total, 0.0, math.inf, open_low=True)
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")
        for name in ("alpha_total", "theta_deg"):
            self._check_ascending(name)

    def _check_ascending(self, name: str) -> None:
        values = getattr(self, name)
        if not values or list(values) != sorted(set(values)):
            raise ValueError(f"{name} = {list(values)} must hold ascending values, at least one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FractionMapSettings(MapSettings):
    """Settings of the maps of the fraction that suffices.

    Attributes:
        tolerances: losses of error against all data's that suffice, one map each.
    """

    tolerances: tuple[float, ...] = (0.1, 0.01)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseSettings(MapSettings):
    """Settings of the maps of winners.

    Attributes:
        keep_fraction: fractions f, ascending, in (0, 1].
        equal: what the selections have in common, one row of maps each.
    """

    keep_fraction: tuple[float, ...]
    equal: tuple[str, ...] = ("alpha_total", "alpha_kept")

    def __post_init__(self) -> None:
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        self._check_ascending("keep_fraction")
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSettings(BaseSettings):
    """Settings of the published tables.

    Attributes:
        runs: runs of one's own, from `pretrain_jax.report.runs.read_runs`.
    """

    runs: tuple[Run, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """The runs, and a digest of the published numbers beside them."""
        from pretrain_jax.report.published import (
            DATASETS,
            PRINTED,
            PRINTED_ALL_DATA,
            STORAGE_PERCENT,
        )

        tables = {
            str(table): {method: miou.tolist() for method, miou in columns.items()}
            for table, columns in PRINTED.items()
        }
        printed = [tables, PRINTED_ALL_DATA.tolist(), DATASETS, STORAGE_PERCENT, METHODS]
        text = json.dumps(printed, sort_keys=True)
        return super().parameters() | {"published": hashlib.sha256(text.encode()).hexdigest()}


FORMATS = ("png", "pdf", "svg")

S = TypeVar("S", bound=BaseSettings)


@dataclasses.dataclass(frozen=True)
class FigureSpec(Generic[S]):
    """A figure: compute -> data -> draw; drawing and caption read the data alone.

    The module of the figure's name holds `compute`, `draw` and `caption`; it is imported when one
    of them is called.

    Attributes:
        name: name on the command line and of the files.
        summary: one line for the list of figures.
        defaults: the publication's settings, of the figure's own kind.
        several: settings that may hold more than one value.
        overlaps: overlaps that the figure can be drawn with.
        version: of the computation; raised when equal settings come to give other data.
    """

    name: str
    summary: str
    defaults: S
    several: tuple[str, ...]
    overlaps: tuple[str, ...] = OVERLAPS
    version: int = 1

    @property
    def kind(self) -> str:
        """Kind of the figure's data file."""
        return f"figure {self.name}"

    @property
    def _module(self) -> Any:
        return importlib.import_module(f"figures.{self.name.replace('-', '_')}")

    def check(self, settings: S) -> None:
        """Raise ValueError if the figure cannot be drawn with `settings`."""
        for name in ("alpha_total", "keep_fraction", "theta_deg"):
            values = getattr(settings, name, ())
            if len(values) > 1 and name not in self.several:
                raise ValueError(
                    f"{name} = {', '.join(f'{value:g}' for value in values)}: the figure "
                    f"{self.name} takes one value"
                )
        overlap = getattr(settings, "overlap", self.overlaps[0])
        if overlap not in self.overlaps:
            raise ValueError(
                f"overlap = {overlap!r}: the figure {self.name} has only {', '.join(self.overlaps)}"
            )

    def parameters(self, settings: S) -> dict[str, Any]:
        """All that the data depend on, as JSON types."""
        return {"version": self.version, **settings.parameters()}

    def compute(
        self, settings: S, *, cache: Path | None = None, progress: bool = False
    ) -> "xr.Dataset":
        """The data of `settings`.

        Args:
            settings: of the figure's kind.
            cache: folder for finished simulation cells; a rerun computes only what is missing.
            progress: show a progress bar.
        """
        dataset: xr.Dataset = self._module.compute(settings, cache=cache, progress=progress)
        return dataset

    def draw(self, dataset: "xr.Dataset") -> "Figure":
        """The picture of `dataset` in the house style."""
        from matplotlib import rc_context

        from figures.style import STYLE

        with rc_context(STYLE):
            picture: Figure = self._module.draw(dataset)
            return picture

    def caption(self, dataset: "xr.Dataset") -> str:
        """What the picture shows, in words."""
        words: str = self._module.caption(dataset)
        return words


# Dates and versions would make equal pictures differ.
_METADATA: dict[str, tuple[str, dict[str, None]]] = {
    "png": ("Description", {"Software": None}),
    "pdf": ("Subject", {"CreationDate": None, "Creator": None, "Producer": None}),
    "svg": ("Description", {"Date": None}),
}


def data_path(spec: FigureSpec, folder: Path) -> Path:
    """Where a figure's data lie in `folder`."""
    return folder / f"{spec.name}.nc"


def picture_path(spec: FigureSpec, folder: Path, name: str) -> Path:
    """Where a figure's picture in the format `name` lies in `folder`."""
    return folder / f"{spec.name}.{name}"


def check_data(spec: FigureSpec, settings: BaseSettings, folder: Path) -> bool:
    """Check what lies under the name of a figure's data file, or that it can be written.

    Args:
        spec: the figure.
        settings: what the data must have been computed from.
        folder: output folder.

    Returns:
        Whether the data are there already.

    Raises:
        ValueError: data of other parameters, with the first parameter that differs.
        hardset.datafile.DataFileError: a damaged or foreign file under the data file's name.
        OSError: the file cannot be written.
    """
    path = check_output_file(data_path(spec, folder))
    if not path.exists():
        return False
    dataset = read_dataset(path, kind=spec.kind)
    with _complete(path):
        found = parameters_of(dataset)
    wanted = spec.parameters(settings)
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found or name not in wanted:
            raise ValueError(
                f"data file {path} is of another version of this figure, "
                f"{'with' if name in found else 'without'} the parameter {name}; choose another "
                "--out, or delete the file"
            )
        if found[name] != wanted[name]:
            raise ValueError(
                f"data file {path} was computed with {name} = {found[name]}, not "
                f"{wanted[name]}; choose another --out, or delete the file"
            )
    return True


def check_pictures(spec: FigureSpec, folder: Path, formats: Iterable[str]) -> None:
    """Raise OSError where a figure's picture could not be written."""
    for name in formats:
        check_output_file(picture_path(spec, folder, name))


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
        ValueError: see `check_data`; also where another process wrote such data meanwhile.
        OSError: the data cannot be written; names the file.
    """
    path = data_path(spec, folder)
    if check_data(spec, settings, folder):
        return path
    dataset = spec.compute(settings, cache=folder / "cells", progress=progress)
    try:
        write_dataset(
            dataset, path, kind=spec.kind, parameters=spec.parameters(settings), replace=False
        )
    except FileExistsError:
        # Another process was faster: equal data are as good, others stay.
        try:
            check_data(spec, settings, folder)
        except ValueError as error:
            raise ValueError(
                f"another process wrote {path} while this one computed; the simulated cells are "
                f"kept in {folder / 'cells'}: {error}"
            ) from None
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
        OSError: a picture cannot be written; names it.
    """
    dataset = read_dataset(data, kind=spec.kind)
    with _complete(data):
        words = caption(spec, dataset)
        pictures = {
            picture_path(spec, folder, name): render(spec, dataset, name) for name in formats
        }
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
