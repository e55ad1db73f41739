"""Coordinates of the toy model that real data have: effective dimension, probe angle, volume."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from hardset.checks import check_integer
from replica import Status, solve
from selection.core.arrays import Array, Floats, real_rows
from selection.core.selector import generator
from theory import PerceptronProblem

__all__ = ["EffectiveDimension", "LearningCurve", "angle_of_overlap", "effective_dimension"]

MOST_ROWS = 10_000
ALPHAS = np.geomspace(1e-2, 1e4, 121)


@dataclass(frozen=True)
class EffectiveDimension:
    """Participation ratio (tr C)^2 / tr C^2 of the covariance C of features.

    Attributes:
        value: unbiased in both traces.
        stderr: its standard error, by a jackknife over groups of examples.
        plug_in: the ratio of the sample covariance, biased towards n.
        columns: features that vary.
    """

    value: float
    stderr: float
    plug_in: float
    columns: int

    @property
    def isotropy(self) -> float:
        """Effective dimension over columns: 1 where C is a multiple of the identity."""
        return self.value / self.columns


def check_variance(features: Array) -> None:
    """ValueError if all rows are equal."""
    if np.all(features == features[0]):
        raise ValueError("features are the same in every row; they have no effective dimension")


def effective_dimension(
    features: ArrayLike, *, rows: int = MOST_ROWS, groups: int = 20, seed: int = 0
) -> EffectiveDimension:
    """(tr C)^2 / tr C^2, with sums over pairs of different examples i != j of the centred rows x.

    tr C^2 = mean of (x_i . x_j)^2 and (tr C)^2 = mean of norm(x_i)^2 norm(x_j)^2. Memory: 3 d^2
    numbers and `rows` rows of features in double precision.

    Args:
        features: shape (n, d), n at least 40.
        rows: how many examples are used at most, drawn at random.
        groups: of the jackknife, at least 2.
        seed: of the draw and of the groups.

    Raises:
        ValueError: too few rows, NaN or infinity, features without variance.
    """
    check_integer("rows", rows, 40, 2**31)
    check_integer("groups", groups, 2, 20_000)
    matrix = real_rows("features", features, ndim=(2,))
    if len(matrix) < max(40, 2 * groups):
        raise ValueError(
            f"features has {len(matrix)} rows; an effective dimension needs {max(40, 2 * groups)}"
        )
    chosen = generator(seed).permutation(len(matrix))[:rows]
    x = matrix[chosen].astype(np.float64)
    check_variance(x)
    mean = x.mean(axis=0)
    x -= mean
    x /= np.sqrt(np.mean(x**2))
    squares = np.einsum("ij,ij->i", x, x)
    total = x.T @ x
    whole = np.sum(total**2)

    def ratio(gram: float, own: Floats) -> float:
        numerator = np.sum(own) ** 2 - np.sum(own**2)
        return float(numerator / (gram - np.sum(own**2)))

    left_out = []
    for part in np.array_split(np.arange(len(x)), groups):
        gram = x[part].T @ x[part]
        without = whole - 2 * np.sum(total * gram) + np.sum(gram**2)
        left_out.append(ratio(without, np.delete(squares, part)))
    stderr = np.sqrt((groups - 1) * np.var(left_out))
    return EffectiveDimension(
        value=ratio(whole, squares),
        stderr=float(stderr),
        plug_in=float(np.sum(squares) ** 2 / whole),
        columns=int(np.count_nonzero(np.diag(total))),
    )


def angle_of_overlap(overlap: ArrayLike) -> Floats:
    """Angle arccos(sqrt(c)) to the target of two independent probes that meet at cosine c.

    Args:
        overlap: c = cos(theta_12) <= 1.

    Returns:
        Radians; NaN where c <= 0: the probes share nothing, and the angle is undefined.
    """
    cosine = np.asarray(overlap, dtype=np.float64)
    defined = np.where(cosine > 0, np.minimum(cosine, 1.0), np.nan)
    return np.arccos(np.sqrt(defined))


@dataclass(frozen=True)
class LearningCurve:
    """Angle to the teacher of a max-margin probe trained on alpha N examples, N -> infinity.

    Attributes:
        alphas: examples over N, ascending.
        angles: radians, descending.
    """

    alphas: Floats
    angles: Floats

    @classmethod
    @cache
    def of_theory(cls) -> "LearningCurve":
        """The curve of the replica solution at 121 volumes from 1e-2 to 1e4."""
        solution = solve(PerceptronProblem(alpha_total=ALPHAS))
        certified = np.asarray(solution.status) == Status.CONVERGED
        return cls(ALPHAS[certified], np.pi * np.asarray(solution.error)[certified])

    def angle(self, alpha: ArrayLike) -> Floats:
        """The angle at a volume of data, the ends of the curve beyond them."""
        logs = np.log(np.clip(alpha, self.alphas[0], self.alphas[-1]))
        curve = PchipInterpolator(np.log(self.alphas), np.log(self.angles))
        return np.asarray(np.exp(curve(logs)))

    def alpha(self, angle: ArrayLike) -> Floats:
        """The volume of data that gives a probe its angle, the ends of the curve beyond them."""
        logs = np.log(np.clip(angle, self.angles[-1], self.angles[0]))
        curve = PchipInterpolator(np.log(self.angles[::-1]), np.log(self.alphas[::-1]))
        return np.asarray(np.exp(curve(logs)))

    def trained_on(self, angle: ArrayLike, factor: float) -> Floats:
        """The angle of a probe with `factor` times the data of one at `angle`; NaN stays NaN."""
        known = np.asarray(angle, dtype=np.float64)
        better = self.angle(self.alpha(np.nan_to_num(known, nan=1.0)) * factor)
        return np.where(np.isnan(known), np.nan, better)
