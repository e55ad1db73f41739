"""Published settings by name, and other names that the commands know before they compute."""

import dataclasses

import numpy as np

__all__ = ["DEFAULT_OUTPUT", "PRESETS", "VERIFICATIONS", "Preset"]

DEFAULT_OUTPUT = "direction.npy"  # of `sims solve`
VERIFICATIONS = ("quick", "full")  # see `sims.verify_plans`


def _fractions(count: int) -> tuple[float, ...]:
    return tuple(float(f) for f in np.logspace(-2, 0, count))


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings of a published experiment, hard selection.

    Attributes:
        dim: N.
        draws: number of draws.
        alpha_total: values of alpha_total.
        keep_fraction: values of f.
        theta_deg: probe angles in degrees.
    """

    dim: int
    draws: int
    alpha_total: tuple[float, ...]
    keep_fraction: tuple[float, ...]
    theta_deg: tuple[float, ...]


PRESETS = {
    # The numbers in the text of OptiDEL, arXiv:2408.07107.
    "published-n200": Preset(200, 50, (5.0, 10.0, 20.0, 50.0, 100.0), _fractions(20), (0.0,)),
    # The numbers in its published code.
    "published-n30": Preset(
        30, 50, (5.0, 10.0, 20.0, 50.0, 100.0), _fractions(12), (0.0, 10.0, 20.0)
    ),
}
