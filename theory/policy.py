"""What every selection policy answers."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike

from theory.weights import SelectionWeight

__all__ = ["Policy"]

Array = jnp.ndarray


class Policy(ABC):
    """A selection rule; z = J_p.x is the probe field, y the label, abs(z) the unsigned margin.

    Attributes:
        name: the policy's name on the command line and in data files.
    """

    name: ClassVar[str]

    @abstractmethod
    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        """Weight wt(z) of a DISTINCT example in the gauge y = +1.

        Args:
            keep_fraction: f in (0, 1], scalar.
            theta: probe-teacher angle in radians, scalar (signed policies' thresholds need it).
            redundancy: copies r >= 1 of every distinct example; an example survives if any copy
                does, w -> 1 - (1 - w)^r.
        """

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None) -> None:  # noqa: B027
        """Raise ValueError if the policy cannot keep `keep_fraction`; theta is None if unknown."""

    def fits(self, keep_fraction: Array) -> Array:
        """Whether the policy's own parameters are in their range; `check` for traced values."""
        return jnp.isfinite(keep_fraction)

    def parameters(self) -> dict[str, Any]:
        """The policy's own numbers, by the names that data files use."""
        return {}

    def record(self) -> dict[str, str]:
        """What names the policy beside its numbers, in data files."""
        return {"name": self.name}
