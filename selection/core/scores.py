"""One number an example: how hard or informative it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice
from selection.core.arrays import Floats, real_rows

__all__ = ["Orientation", "Scores"]

Orientation = Literal["hard", "easy"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of n examples, higher = harder or more informative, whatever they were made from.

    Attributes:
        values: shape (n,), finite.
        name: what they measure, e.g. "el2n".
        provenance: what reproduces them: parameters of the formula, seeds, files.
    """

    values: Floats
    name: str = "scores"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = real_rows(self.name, self.values, ndim=(1,)).astype(np.float64)
        object.__setattr__(self, "values", values)

    @classmethod
    def of(
        cls,
        values: ArrayLike,
        *,
        name: str = "scores",
        orientation: Orientation = "hard",
        **provenance: Any,
    ) -> "Scores":
        """Scores from an array-like, negated where a high value means easy.

        Args:
            values: shape (n,), finite.
            name: what they measure.
            orientation: "hard" if high values are hard or informative, "easy" if they are easy.
            **provenance: what reproduces them.

        Raises:
            ValueError: another shape or orientation; NaN or infinity, with its index.
        """
        check_choice("orientation", orientation, get_args(Orientation))
        array = real_rows(name, values, ndim=(1,)).astype(np.float64)
        return cls(array if orientation == "hard" else -array, name, provenance)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Any) -> "Scores":
        """The scores of some rows, in their order."""
        return Scores(self.values[rows], self.name, self.provenance)
