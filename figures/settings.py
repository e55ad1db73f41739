"""What a figure is computed from, and the publication's defaults."""

import dataclasses
import math
from typing import Any

import numpy as np

from hardset.checks import check_choice, check_integer, check_range

__all__ = ["OVERLAPS", "PUBLISHED_FRACTIONS", "BaseSettings", "Settings"]

OVERLAPS = ("cosine", "pearson")

PUBLISHED_FRACTIONS = tuple(float(f"{f:.6g}") for f in np.logspace(-2, 0, 20))


@dataclasses.dataclass(frozen=True)
class BaseSettings:
    """What the settings of all figures share."""

    def parameters(self) -> dict[str, Any]:
        """The settings as JSON types; equal parameters give equal data."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    """Axes and sample sizes of a figure.

    Attributes:
        alpha_total: total examples / N, one curve each, > 0.
        keep_fraction: fractions f at which draws are simulated, in (0, 1].
        theta_deg: probe angles in degrees, in [0, 90].
        dim: input dimension N of the simulation, >= 2.
        draws: independent draws a point, >= 2 (a standard error needs two).
        seed: seed of the draws, >= 0.
        overlap: "cosine", or "pearson" for the mean-centred overlap of the published notebook.
    """

    alpha_total: tuple[float, ...]
    theta_deg: tuple[float, ...]
    keep_fraction: tuple[float, ...] = PUBLISHED_FRACTIONS
    dim: int = 200
    draws: int = 50
    seed: int = 0
    overlap: str = "cosine"

    def __post_init__(self) -> None:
        check_range("alpha_total", self.alpha_total, 0.0, math.inf, open_low=True)
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")
        check_integer("dim", self.dim, 2, math.inf)
        check_integer("draws", self.draws, 2, math.inf)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        check_choice("overlap", self.overlap, OVERLAPS)
        for name in ("alpha_total", "keep_fraction", "theta_deg"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} = {list(values)} must hold distinct values, at least one")
        # Said before anything is computed: other figures of the same call may take an hour.
        fraction, alpha = min(self.keep_fraction), min(self.alpha_total)
        if fraction * alpha * self.dim < 1 - 1e-9:
            raise ValueError(
                f"keep_fraction * alpha_total * dim = {fraction:g} * {alpha:g} * {self.dim} = "
                f"{fraction * alpha * self.dim:.3g} is below 1: a simulation must keep at least "
                f"one example"
            )
