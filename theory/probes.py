"""How the probe that ranks the examples came about."""

from typing import ClassVar

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range, within_right_angle
from theory._pytree import pytree_dataclass

__all__ = ["FixedAngle", "InSample", "Independent", "Probe"]


@pytree_dataclass
class FixedAngle:
    """A probe at a given angle from the teacher, independent of the data.

    Attributes:
        theta: probe-teacher angle in radians, in [0, pi/2], scalar or array; a right angle in
            single precision is set to pi/2.
    """

    theta: ArrayLike = 0.0

    name: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "theta", within_right_angle("theta", self.theta))

    @classmethod
    def degrees(cls, theta_deg: ArrayLike) -> "FixedAngle":
        """The probe at `theta_deg` degrees, in [0, 90]."""
        check_range("theta_deg", theta_deg, 0.0, 90.0, unit="degrees")
        return cls(theta=np.deg2rad(theta_deg))


@pytree_dataclass
class Independent:
    """A max-margin perceptron trained on alpha_probe * N OTHER examples of the same teacher.

    Attributes:
        alpha_probe: examples the probe saw, over N, > 0, scalar or array.
    """

    alpha_probe: ArrayLike

    name: ClassVar[str] = "independent"

    def __post_init__(self) -> None:
        check_range("alpha_probe", self.alpha_probe, 0.0, np.inf, open_low=True)


@pytree_dataclass
class InSample:
    """The max-margin perceptron trained on the very data that is then pruned.

    Its margins are all positive, so that signed and unsigned policies are the same. Its support
    vectors tie at the margin; ties are broken by the dual variable, largest first. Its angle to the
    teacher is not a parameter: keeping the hardest f >= `replica.lossless_fraction(alpha_total)`
    keeps all its support vectors, and trains the probe once more.
    """

    name: ClassVar[str] = "in-sample"


Probe = FixedAngle | Independent | InSample
