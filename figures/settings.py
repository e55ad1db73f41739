"""What a figure is computed from, and the publication's defaults."""

import dataclasses
import hashlib
import json
import math
from typing import Any

import numpy as np

from figures.runs import METHODS, Run
from hardset.checks import check_choice, check_integer, check_range
from sims.ranges import check_kept

__all__ = [
    "OVERLAPS",
    "PUBLISHED_FRACTIONS",
    "BaseSettings",
    "CurveSettings",
    "DownstreamSettings",
    "FractionMapSettings",
    "GeometrySettings",
    "InSampleSettings",
    "MapSettings",
    "MarginSettings",
    "PhaseSettings",
    "PolicySettings",
    "RedundancySettings",
    "RuleSettings",
    "ScalingSettings",
    "Settings",
    "SimulationSettings",
    "TableSettings",
    "WindowSettings",
]

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
        runs: runs of one's own, from `figures.runs.read_runs`.
    """

    runs: tuple[Run, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """The runs, and a digest of the published numbers beside them."""
        from theory.published import ALL_DATA, DATASETS, STORAGE_PERCENT, TABLES

        tables = {
            str(table): {method: miou.tolist() for method, miou in columns.items()}
            for table, columns in TABLES.items()
        }
        printed = [tables, ALL_DATA.tolist(), DATASETS, STORAGE_PERCENT, METHODS]
        text = json.dumps(printed, sort_keys=True)
        return super().parameters() | {"published": hashlib.sha256(text.encode()).hexdigest()}
