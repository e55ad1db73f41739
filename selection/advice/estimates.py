"""Estimates where a data set of two classes lies in the toy model.

The place consists of `alpha_total`, the volume of the data, and `theta`, the angle of the probes.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from hardset.checks import check_choice, check_integer, check_range
from replica import Status, solve
from selection.advice import AngleSource, Metric
from selection.advice.probes import (
    Fit,
    ProbeErrors,
    cross_validation,
    max_margin_probe,
    part_size,
    probe_overlaps,
    simulated_overlaps,
)
from selection.arrays import Array, Floats, Integers, class_codes, real_rows
from selection.selector import generator
from theory import PerceptronProblem

MOST_ROWS = 10_000
ALPHAS = np.geomspace(1e-2, 1e4, 121)


@dataclass(frozen=True)
class EffectiveDimension:
    """Counts the directions in which features vary.

    The count is (tr C)^2 / tr C^2, where C is the covariance of the features.

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
        """Return the effective dimension over the number of columns.

        It is 1 where the covariance is a multiple of the identity.
        """
        return self.value / self.columns


def check_variance(features: Array) -> None:
    """Raise ValueError if all rows are equal."""
    if np.all(features == features[0]):
        raise ValueError("features are the same in every row; they have no effective dimension")


def effective_dimension(
    features: ArrayLike, *, rows: int = MOST_ROWS, groups: int = 20, seed: int = 0
) -> EffectiveDimension:
    """Estimate the effective dimension of features without bias.

    It is (tr C)^2 / tr C^2, where C is the covariance of the features.

    The sums are over pairs of different examples i != j of the centred rows x:

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
    """Return the angle of independent probes to their target, from their cosine.

    Two probes that meet at cosine c lie at the angle arccos(sqrt(c)).

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
    """Relates a max-margin probe's angle to the teacher to its volume of data.

    The probe is trained on alpha N examples, in the limit N -> infinity.

    Attributes:
        alphas: examples over N, ascending.
        angles: radians, descending.
    """

    alphas: Floats
    angles: Floats

    @classmethod
    @cache
    def of_theory(cls) -> "LearningCurve":
        """Solve the replica equations at 121 volumes from 1e-2 to 1e4."""
        solution = solve(PerceptronProblem(alpha_total=ALPHAS))
        certified = np.asarray(solution.status) == Status.CONVERGED
        return cls(ALPHAS[certified], np.pi * np.asarray(solution.error)[certified])

    def angle(self, alpha: ArrayLike) -> Floats:
        """Interpolate the angle of a probe at a volume of data.

        Beyond the ends of the curve the angle is that of the end.
        """
        logs = np.log(np.clip(alpha, self.alphas[0], self.alphas[-1]))
        curve = PchipInterpolator(np.log(self.alphas), np.log(self.angles))
        return np.asarray(np.exp(curve(logs)))

    def alpha(self, angle: ArrayLike) -> Floats:
        """Interpolate the volume of data that gives a probe its angle.

        Beyond the ends of the curve the volume is that of the end.
        """
        logs = np.log(np.clip(angle, self.angles[-1], self.angles[0]))
        curve = PchipInterpolator(np.log(self.angles[::-1]), np.log(self.alphas[::-1]))
        return np.asarray(np.exp(curve(logs)))

    def trained_on(self, angle: ArrayLike, factor: float) -> Floats:
        """Return the angle of a probe with `factor` times the data of another.

        NaN stays NaN.
        """
        known = np.asarray(angle, dtype=np.float64)
        better = self.angle(self.alpha(np.nan_to_num(known, nan=1.0)) * factor)
        return np.where(np.isnan(known), np.nan, better)


SIMULATED_DIM = 64
SIMULATED_ALPHA = 20.0  # the spread at more data a dimension is smaller, and rows cost time
ISOTROPY = 0.8  # effective dimension over columns below which probes lean the same way
# A nearly hard margin leaves up to .5 % of separable examples on the wrong side.
SEPARABLE = 0.01
RARE = 0.05  # share of a class


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Says where a data set lies in the toy model.

    Angles are in radians.

    Attributes:
        examples: n.
        dimension: effective dimension of the features.
        alpha_total: n over the effective dimension.
        alpha_interval: interval of `alpha_total`.
        overlap: cosine c of two probes that were trained on disjoint parts.
        trained_on: examples in each part.
        theta_part: angle arccos(sqrt(c)) of such a probe to the target; NaN where c <= 0.
        theta: angle of a probe trained on all n, by the overlap or by the error.
        theta_interval: interval of `theta`.
        level: coverage that the intervals aim at.
        theta_from: "overlap" or "error", what `theta` comes from.
        theta_of_overlap: `theta_part` continued to all n by the learning curve of max-margin
            probes; NaN where c <= 0.
        theta_of_error: pi times the error of cross-validated probes, continued likewise; NaN where
            there was no cross validation.
        warnings: sentences on assumptions that the data do not meet.
        errors: of cross-validated probes; None where none were measured.
    """

    examples: int
    dimension: EffectiveDimension
    alpha_total: float
    alpha_interval: tuple[float, float]
    overlap: float
    trained_on: int
    theta_part: float
    theta: float
    theta_interval: tuple[float, float]
    level: float
    theta_from: str = "overlap"
    theta_of_overlap: float = np.nan
    theta_of_error: float = np.nan
    warnings: tuple[str, ...] = ()
    errors: ProbeErrors | None = None

    @property
    def defined(self) -> bool:
        """Say whether the angle is defined.

        It is not where the two probes do not agree at all.
        """
        return bool(np.isfinite(self.theta))


def estimate_coordinates(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    splits: int = 4,
    holdout: float = 0.2,
    metric: Metric = "covariance",
    angle: AngleSource = "auto",
    fit: Fit = max_margin_probe,
    replicates: int = 100,
    level: float = 0.9,
    seed: int = 0,
) -> Coordinates:
    """Estimate coordinates in the toy model from features and two classes.

    Probes are trained on disjoint parts of the examples.

    Two probes at angle theta to the target meet at cos^2 theta if they miss it in independent
    directions. On anisotropic features they lean the same way, towards the directions of large
    variance, and theta comes out too small. There the error tells the angle: without label noise a
    probe errs on a share theta/pi of normal examples, whatever their covariance.

    Args:
        features: shape (n, d).
        labels: two different whole numbers or strings, shape (n,).
        splits: random splits whose overlaps are averaged.
        holdout: share of the examples on which "covariance" compares the probes.
        metric: "covariance" for any features; "isotropic" compares the weights, which is sharper
            where the covariance is a multiple of the identity.
        angle: what theta comes from: "overlap"; "error", of tenfold cross validation; or "auto",
            the error where the effective dimension is below .8 of the columns and a probe
            separates the classes.
        fit: trains a probe, (features, signs) -> weights; default nearly max-margin.
        replicates: draws of the parametric bootstrap.
        level: coverage that the intervals aim at.
        seed: of splits and bootstrap.

    Raises:
        ValueError: arrays that do not fit, other than two classes, too few examples, an argument
            outside its range.
    """
    check_choice("angle", angle, get_args(AngleSource))
    matrix = real_rows("features", features, ndim=(2,))
    classes, words = class_codes("labels", labels)
    if len(classes) != len(matrix):
        raise ValueError(
            f"the arrays have different lengths: features {len(matrix)}, labels {len(classes)}"
        )
    names = np.unique(classes)
    if len(names) != 2:
        found = "one class" if len(names) == 1 else f"{len(names)} classes"
        raise ValueError(
            f"labels has {found}; the theory is of two, choose a pair, or one against the others"
        )
    signs = np.where(classes == names[1], 1.0, -1.0)
    check_variance(matrix)
    centred = matrix - np.mean(matrix, axis=0, dtype=np.float64)
    size = part_size(len(matrix), holdout, metric)
    overlaps = probe_overlaps(
        centred, signs, splits=splits, holdout=holdout, metric=metric, fit=fit, seed=seed
    )
    found_at = coordinates_of_overlap(
        matrix,
        float(np.mean(overlaps)),
        size,
        held_out=len(matrix) - 2 * size if metric == "covariance" else None,
        splits=splits,
        errors=cross_validation(centred, signs, fit=fit, seed=seed),
        angle=angle,
        fit=fit,
        replicates=replicates,
        level=level,
        seed=seed,
    )
    return replace(
        found_at, warnings=(*found_at.warnings, *_of_classes(signs, names, words, found_at.errors))
    )


def coordinates_of_overlap(
    features: ArrayLike,
    overlap: float,
    trained_on: int,
    *,
    held_out: int | None = None,
    splits: int = 1,
    errors: ProbeErrors | None = None,
    angle: AngleSource = "auto",
    fit: Fit = max_margin_probe,
    replicates: int = 100,
    level: float = 0.9,
    seed: int = 0,
) -> Coordinates:
    """Estimate coordinates from the overlap and the error of probes trained elsewhere.

    By the overlap, the interval of theta is a parametric bootstrap: two probes are trained on data
    of the toy model at the same theta, in at most 64 dimensions, and the spread of their overlap is
    scaled by the root of the dimensions' ratio. By the error it is Jeffreys', with fewer tests for
    the training examples that folds share. That of alpha_total is the jackknife's, taken as normal.

    Args:
        features: shape (n, d).
        overlap: `weight_overlap` or `margin_overlap` of the two, in [-1, 1].
        trained_on: examples that each of them saw, disjoint from the other's.
        held_out: examples on which margins were compared; None where weights were.
        splits: how many such pairs the overlap is the mean of.
        errors: of cross validation; without them theta comes from the overlap.
        angle: what theta comes from, as in `estimate_coordinates`.
        fit: how the bootstrap trains its probes.
        replicates: draws of the bootstrap, at least 10.
        level: coverage that the intervals aim at.
        seed: of the bootstrap.

    Raises:
        ValueError: an argument outside its range; "error" without errors; see
            `effective_dimension`.
    """
    check_choice("angle", angle, get_args(AngleSource))
    if angle == "error" and errors is None:
        raise ValueError("angle = 'error' needs errors, those of cross_validation")
    check_range("overlap", overlap, -1.0, 1.0)
    check_integer("replicates", replicates, 10, 10**6)
    check_range("level", level, 0.0, 1.0, open_low=True, open_high=True)
    check_integer("trained_on", trained_on, 1, 2**62)
    count = len(np.asanyarray(features))
    dimension = effective_dimension(features, seed=seed)
    curve = LearningCurve.of_theory()
    part = float(angle_of_overlap(overlap))
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    separable = errors is not None and errors.training <= SEPARABLE
    by_error = errors is not None and (
        angle == "error" or (angle == "auto" and dimension.isotropy < ISOTROPY and separable)
    )
    undefined = (np.nan, np.nan)
    of_overlap = float(curve.trained_on(part, count / trained_on))
    of_error, angles_of_error = (
        (np.nan, undefined) if errors is None else _by_error(errors, count, level, curve)
    )
    if angle == "overlap":
        of_error = np.nan
    theta, interval = (of_error, angles_of_error) if by_error else (of_overlap, undefined)
    if not np.isfinite(part):  # probes without agreement have no angle, however they err
        theta, interval = np.nan, undefined
    elif not by_error:
        alpha_part = float(curve.alpha(part))
        dim = int(min(SIMULATED_DIM, max(2, round(dimension.value))))
        drawn = simulated_overlaps(
            min(alpha_part, SIMULATED_ALPHA),
            0.0 if held_out is None else held_out / dimension.value,
            dim,
            replicates,
            splits=splits,
            metric="isotropic" if held_out is None else "covariance",
            fit=fit,
            seed=seed,
        )
        spread = (drawn - drawn.mean()) * np.sqrt(dim / dimension.value)
        angles = np.nan_to_num(angle_of_overlap(np.minimum(overlap + spread, 1.0)), nan=np.pi / 2)
        # A further draw lies between these quantiles with the probability `level`.
        low, high = np.quantile(
            curve.trained_on(angles, count / trained_on), ends, method="weibull"
        )
        interval = (float(low), float(high))
    normal = np.random.default_rng(seed).standard_normal(10_000)
    dims = np.quantile(dimension.value + dimension.stderr * normal, ends)
    return Coordinates(
        examples=count,
        dimension=dimension,
        alpha_total=count / dimension.value,
        alpha_interval=(float(count / dims[1]), float(count / dims[0])),
        overlap=float(overlap),
        trained_on=int(trained_on),
        theta_part=part,
        theta=theta,
        theta_interval=interval,
        level=level,
        theta_from="error" if by_error else "overlap",
        theta_of_overlap=of_overlap,
        theta_of_error=of_error,
        warnings=_warnings(dimension, errors, by_error, theta, angles_of_error),
        errors=errors,
    )


def error_interval(errors: ProbeErrors, count: int, level: float) -> tuple[float, float]:
    """Bound the error of cross-validated probes.

    The interval begins at 0 where no probe erred.

    Folds share training examples, so that the error spreads more than independent tests would: its
    variance is (1/K + test/training) K times theirs (Nadeau and Bengio, Machine Learning 52, 2003).
    The interval is Jeffreys' for as many independent tests.

    Args:
        errors: of K folds.
        count: number of examples.
        level: coverage that the interval aims at.
    """
    from scipy.stats import beta  # half a second that other commands need not pay

    tests = count / (1 + errors.folds / (errors.folds - 1))
    wrong = errors.held_out * tests
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = (float(one) for one in beta.ppf(ends, wrong + 0.5, tests - wrong + 0.5))
    return (low if wrong else 0.0, high if wrong < tests else 1.0)


def _by_error(
    errors: ProbeErrors, count: int, level: float, curve: LearningCurve
) -> tuple[float, tuple[float, float]]:
    """Compute the angle of a probe, and its interval, from its error.

    A probe that errs on a share E has the angle pi E.
    """
    limits = error_interval(errors, count, level)
    angles = np.pi * np.array([errors.held_out, *limits])
    factor = errors.folds / (errors.folds - 1)
    middle, low, high = curve.trained_on(np.minimum(angles, np.pi / 2), factor)
    return float(middle), (float(min(low, middle)), float(max(high, middle)))


def _of_classes(
    signs: Floats, names: Integers, words: Array | None, errors: ProbeErrors | None
) -> list[str]:
    """Warn of classes of very different sizes."""
    rare = float(min(np.mean(signs > 0), np.mean(signs < 0)))
    if rare >= RARE:
        return []
    one = names[int(np.sum(signs > 0) < np.sum(signs < 0))]
    found = [
        f"class {one if words is None else words[one]} has {100 * rare:.2g} % of the examples: the "
        "theory's classes are equally large, and its error says little of a rare one"
    ]
    if errors is not None and errors.held_out >= rare:
        found.append(
            f"probes err on {errors.held_out:.3g} of the examples, no less than the {rare:.3g} of "
            "always answering the larger class"
        )
    return found


def _warnings(
    dimension: EffectiveDimension,
    errors: ProbeErrors | None,
    by_error: bool,
    theta: float,
    angles_of_error: tuple[float, float],
) -> tuple[str, ...]:
    found = []
    if dimension.isotropy < ISOTROPY:
        found.append(
            f"the features are far from isotropic: their effective dimension is "
            f"{dimension.isotropy:.2g} of their columns, and alpha_total is a heuristic"
            + ("" if by_error else "; theta may be too small, and its interval need not cover it")
        )
    if errors is not None and errors.training > SEPARABLE:
        found.append(
            "no probe through the mean separates the classes "
            f"({100 * errors.training:.2g} % of the training "
            "examples are on the wrong side): labels are noisy, or the classes not "
            "linear or of unlike sizes, and the theory has none of these"
        )
    if not by_error and theta < angles_of_error[0]:
        found.append(
            f"probes err more than their overlap explains: the error's angle is "
            f"{np.rad2deg(angles_of_error[0]):.3g} degrees or more"
        )
    return tuple(found)
