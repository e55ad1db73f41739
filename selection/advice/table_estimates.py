"""Estimates what the theory of regularised students needs to know of a table.

State evolution says how a student's weights are made: in the eigenbasis of the covariance C^{1/2} W
= k (nu t - beta eta / sqrt(N)), where k_j = c_j/(lam + Lambda c_j), t is the whitened teacher and
eta a Gaussian vector. Lambda and beta can be read off a trained student, whose fields on its own
examples are the minimisers of the Moreau envelopes that the theory averages over. So each trained
student says how much of its weights is noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtri

from selection.advice.folds import fold_numbers
from selection.advice.noise import Interval, SignFit, fit_signs
from selection.advice.spectrum import population_eigenvalues
from selection.advice.students import RegularisedStudents
from selection.arrays import Floats, Integers
from selection.selector import generator

PARTS = 5  # of the rows: two and two train disjoint students, and the last judges them
LEAST_ROWS = 20
MOST_DIM = 4096
RANK = 1e-10  # eigenvalues below this share of the largest are rounding
ALIGNMENTS = (-1.0, 3.0)  # r of t_j^2 ~ c_j^(1 + r)
SURE = float(ndtri(0.95))  # of a 90 % interval


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates where a table lies in the theory of regularised students.

    The inputs are in units in which the mean eigenvalue of their covariance is 1. Intervals are
    of 90 %.

    Attributes:
        examples: rows n.
        dim: number N of directions in which the features vary.
        alpha_total: n/N.
        loss: of the students.
        lam: ridge strength, in the convention of `theory.ERM`.
        eigenvalues: c_j of the covariance of the population, from the largest down, mean 1, (N,).
        teacher: t_j^2 of the whitened teacher in the eigenbasis, sum 1, shape (N,).
        direction: v_j^2 of the probe's own direction, orthogonal to the teacher, sum 1, (N,).
        cross: mean of t_j v_j, sum 0, shape (N,).
        theta: angle of the probes that gave the margins to the teacher, in radians.
        theta_interval: its interval.
        flip: share of labels that are wrong at any distance from the border.
        flip_interval: its interval.
        noise_sigma: standard deviation of the noise on the teacher's field, of unit variance.
        noise_sigma_interval: its interval.
        slope: of the probability that a margin has the right sign; see `selection.advice.noise`.
        overlap: overlap of students trained on disjoint two fifths of the rows.
    """

    examples: int
    dim: int
    alpha_total: float
    loss: str
    lam: float
    eigenvalues: Floats
    teacher: Floats
    direction: Floats
    cross: Floats
    theta: float
    theta_interval: Interval
    flip: float
    flip_interval: Interval
    noise_sigma: float
    noise_sigma_interval: Interval
    slope: float
    overlap: float


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What a trained student says about its own making.

    Attributes:
        shrink: k_j, shape (N,).
        noise: squared norm of its field's random part, beta^2 sum_j k_j^2 / N.
        noise_level: beta^2.
        field: its squared norm W'C W on examples that it has not seen.
    """

    shrink: Floats
    noise: float
    noise_level: float
    field: float

    @property
    def signal(self) -> float:
        """Return the squared norm of its field's part that is no noise."""
        return max(self.field - self.noise, 1e-3 * self.field)


def estimate(
    students: RegularisedStudents,
    labels: Integers,
    values: Floats,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Estimates:
    """Estimate the theory's numbers from a table and the answers of students trained on it.

    Args:
        students: of two classes, on columns of mean 0 and mean square 1.
        labels: class positions 0 and 1, shape (n,).
        values: out-of-fold decision values, > 0 for class 1, shape (n,).
        folds: number of folds of `values`, >= 2.
        seed: of the partition of the rows.

    Raises:
        ValueError: fewer than 20 rows, another number of classes, more than 4096 directions, values
            that are all zero.
    """
    features, loss, lam = students.design, students.name, students.lam
    n, columns = features.shape
    if n < LEAST_ROWS or students.classes != 2:
        raise ValueError(
            f"the theory needs {LEAST_ROWS} rows or more of two classes; the table has {n} rows of "
            f"{students.classes} classes"
        )
    basis = _Basis.of(features)
    sides = np.where(labels == 1, 1.0, -1.0)
    everything = np.arange(n)
    rng = generator(seed)
    number = fold_numbers(labels, PARTS, rng)
    parts = [np.flatnonzero(number == part) for part in range(PARTS)]
    out = parts
    if folds != PARTS:
        number = fold_numbers(labels, folds, rng)
        out = [np.flatnonzero(number == fold) for fold in range(min(folds, PARTS))]
    pairs = list(combinations(range(PARTS), 2))
    train = [np.setdiff1d(everything, part) for part in out]
    train += [np.sort(np.concatenate([parts[a], parts[b]])) for a, b in pairs]
    answers = students.answers(train, [everything] * len(train))
    said = [np.asarray(answer.values, np.float64) for answer in answers]
    ridge = lam * columns / np.sum(basis.eigenvalues)  # for directions of mean square 1
    anatomies = [
        _anatomy(basis.eigenvalues, rows, sides, field, loss, ridge)
        for rows, field in zip(train, said, strict=True)
    ]
    probes, halves = anatomies[: len(out)], anatomies[len(out) :]
    teacher = _teacher(
        basis.eigenvalues, probes, [basis.weights(field) for field in said[: len(out)]]
    )
    overlaps = _disjoint_overlaps(parts, pairs, said[len(out) :])
    overlap = float(np.mean(overlaps))
    theta = _angle(overlap, halves, probes, teacher)
    direction, cross = _direction(probes, teacher)
    shrink = np.mean([probe.shrink for probe in probes], axis=0)
    count = np.sum(shrink**2) ** 2 / np.sum(shrink**4)
    # A hinge's Lambda is known by the few rows near the margin 1, which add as much again.
    spread = (0.8 if loss == "hinge" else 0.4) / count + 0.5 / n
    theta_interval = _theta_interval(theta, overlaps, float(spread))
    scale = np.sqrt(np.mean(values**2))
    if not scale > 0:
        raise ValueError("the decision values are all zero: they have no scale")
    sizes, right = np.abs(values) / scale, values * sides > 0
    free = fit_signs(sizes, right)
    # Signs that are right as often as these are cannot come from a probe at a larger angle.
    largest = float(np.arctan(1 / free.slope_interval[0]))
    if theta > largest:
        lowest = float(np.arctan(1 / free.slope_interval[1]))
        theta, theta_interval = largest, (min(theta_interval[0], lowest), theta_interval[1])
    # At the lower end: a bound at the angle itself holds where the angle is too large and not where
    # it is too small, so that there would be too few flips on average.
    steepest = float(1 / np.tan(max(theta_interval[0], 1e-3)))
    signs = free if free.slope <= steepest else fit_signs(sizes, right, steepest=steepest)
    noise_sigma, noise_interval = _noise(theta, theta_interval, signs.slope, free)
    return Estimates(
        examples=n,
        dim=basis.dim,
        alpha_total=n / basis.dim,
        loss=loss,
        lam=ridge,
        eigenvalues=basis.eigenvalues,
        teacher=teacher,
        direction=direction,
        cross=cross,
        theta=theta,
        theta_interval=theta_interval,
        flip=signs.flip,
        flip_interval=signs.flip_interval,
        noise_sigma=noise_sigma,
        noise_sigma_interval=noise_interval,
        slope=signs.slope,
        overlap=overlap,
    )


@dataclass(frozen=True, eq=False)
class _Basis:
    """Eigenvectors of the sample with the eigenvalues of the population.

    Attributes:
        scores: the rows in the eigenbasis, in units of the mean eigenvalue's root, (n, rank).
        squares: mean squares of the scores, shape (rank,).
        eigenvalues: of the population, mean 1, shape (dim,).
    """

    scores: Floats
    squares: Floats
    eigenvalues: Floats

    @classmethod
    def of(cls, features: Floats) -> "_Basis":
        n, columns = features.shape
        if columns <= n:
            found, vectors = np.linalg.eigh(features.T @ features / n)
            scores = features @ vectors[:, ::-1]
        else:
            found, rows = np.linalg.eigh(features @ features.T / n)
            scores = rows[:, ::-1] * np.sqrt(np.maximum(found[::-1], 0.0) * n)
        found = found[::-1]
        rank = min(int(np.sum(found > RANK * found[0])), n - 1)
        # Columns beyond the rows are directions too, of which the sample shows a part.
        dim = rank if columns < n else columns
        if dim > MOST_DIM:
            raise ValueError(f"the theory takes at most {MOST_DIM} directions; there are {dim}")
        eigenvalues = population_eigenvalues(found[:rank], n - 1, dim)
        unit = np.sqrt(eigenvalues.mean())
        return cls(
            scores=scores[:, :rank] / unit,
            squares=found[:rank] / unit**2,
            eigenvalues=eigenvalues / unit**2,
        )

    @property
    def dim(self) -> int:
        return self.eigenvalues.size

    def weights(self, values: Floats) -> Floats:
        """Return a linear student's weights from its values on all rows, shape (rank,)."""
        return (values - values.mean()) @ self.scores / (len(values) * self.squares)


def _anatomy(
    c: Floats, rows: Integers, sides: Floats, values: Floats, loss: str, lam: float
) -> Anatomy:
    """Read a student's making off its values.

    Args:
        c: eigenvalues, shape (N,).
        rows: on which it was trained.
        sides: labels -1 and 1, shape (n,).
        values: of all rows, shape (n,).
        loss: of the student.
        lam: ridge strength.
    """
    seen = np.zeros(len(values), bool)
    seen[rows] = True
    margins = values * sides
    if loss == "hinge":
        level, shrink = _hinge(margins[~seen], len(rows), c, lam)
    else:
        force, bend = _derivatives(loss, margins[seen])
        shrink = _curvature(bend, c, lam)
        level = float(np.sum(force**2)) / c.size
    return Anatomy(
        shrink=shrink,
        noise=level * float(np.sum(shrink**2)) / c.size,
        noise_level=level,
        field=float(np.var(values[~seen])),
    )


def _derivatives(loss: str, fitted: Floats) -> tuple[Floats, Floats]:
    """Return M' and the loss's second derivative at fitted margins P, where M' is loss'(P)."""
    if loss == "logistic":
        chance = expit(-fitted)
        return -chance, chance * (1 - chance)
    if loss == "squared-hinge":
        return -np.maximum(1 - fitted, 0.0), (fitted < 1).astype(np.float64)
    if loss == "square":
        return fitted - 1, np.ones_like(fitted)
    raise ValueError(f"loss = {loss!r} has no theory here")


def _curvature(bend: Floats, c: Floats, lam: float) -> Floats:
    """Return k, the fixed point of Lambda = sum_i b_i/(1 + gamma b_i) / N."""

    def lacking(log: float) -> float:
        curvature = np.exp(log)
        step = np.mean(c / (lam + curvature * c))
        return float(np.log(np.sum(bend / (1 + step * bend)) / c.size) - log)

    high = np.log(np.sum(bend) / c.size)
    low = high
    while lacking(low) < 0:
        low -= 2.0
    curvature = np.exp(brentq(lacking, low, high) if low < high else high)
    return c / (lam + curvature * c)


def _hinge(fresh: Floats, examples: int, c: Floats, lam: float) -> tuple[float, Floats]:
    """Return beta^2 and k of a hinge student from its margins on fresh examples.

    Its fitted margins tie at 1, in a number that is about N and says nothing. M' is -min((1 - t)+,
    gamma)/gamma, and M'' is 1/gamma where it changes.
    """
    alpha = examples / c.size

    def step_at(log: float) -> float:
        return float(np.mean(c / (lam + np.exp(log) * c)))

    def lacking(log: float) -> float:
        step = step_at(log)
        return alpha * float(np.mean((fresh > 1 - step) & (fresh < 1))) - np.exp(log) * step

    # The share of margins within gamma of 1 falls with Lambda, and Lambda gamma rises.
    low, high = np.log(1e-6 * lam / c.max()), np.log(1e6 * max(alpha, lam))
    log = brentq(lacking, low, high) if lacking(low) > 0 > lacking(high) else low
    step = step_at(log)
    force = np.clip((1 - fresh) / step, 0.0, 1.0)
    return alpha * float(np.mean(force**2)), c / (lam + np.exp(log) * c)


def _teacher(c: Floats, probes: Sequence[Anatomy], weights: Sequence[Floats]) -> Floats:
    """Estimate t_j^2 from the probes' weights in the eigenbasis of the sample.

    A power of the eigenvalues is fitted first, to the lengths of the signal in two metrics. It is
    the prior of each direction, whose own weight is then an observation of it with known noise.
    """
    k, level, signal = (
        np.mean([getattr(probe, name) for probe in probes], axis=0)
        for name in ("shrink", "noise_level", "signal")
    )
    spread = level / c.size
    squares = np.mean(np.square(weights), axis=0)
    plain = max(float(np.sum(squares) - np.sum(k**2 / c * spread)), 1e-300)

    def power(r: float) -> Floats:
        logs = (1 + r) * np.log(c)
        part = np.exp(logs - logs.max())
        return part / part.sum()

    def lacking(r: float) -> float:
        part = power(r)
        return float(np.log(np.sum(k**2 * part) / np.sum(k**2 / c * part)) - np.log(signal / plain))

    low, high = ALIGNMENTS
    if np.ptp(c) < 1e-9 or lacking(low) >= 0:
        r = low
    else:
        r = high if lacking(high) <= 0 else brentq(lacking, low, high)
    prior = power(r)
    prior *= signal / np.sum(k**2 * prior)  # nu^2 t_j^2
    # Directions that the sample does not have keep their prior.
    share = np.where(np.arange(c.size) < squares.size, prior / (prior + spread), 0.0)
    observed = c / k**2 * np.pad(squares, (0, c.size - squares.size))
    found = share**2 * observed + (1 - share) * prior
    return found / found.sum()


def _disjoint_overlaps(
    parts: Sequence[Integers], pairs: Sequence[tuple[int, int]], said: Sequence[Floats]
) -> Floats:
    """Return the overlaps of pairs of students on the part that neither has seen.

    They are means over the three pairs of students that leave the same part, shape (PARTS,).
    """
    overlaps: list[list[float]] = [[] for _ in range(PARTS)]
    for one, two in combinations(range(len(pairs)), 2):
        left = set(range(PARTS)) - {*pairs[one], *pairs[two]}
        if len(left) == 1:
            (judge,) = left
            a, b = (said[k][parts[judge]] - said[k][parts[judge]].mean() for k in (one, two))
            scale = np.sqrt((a @ a) * (b @ b))
            overlaps[judge].append(float(a @ b / scale) if scale > 0 else 0.0)
    return np.mean(overlaps, axis=1)


def _cosine(anatomies: Sequence[Anatomy], teacher: Floats, overlap: float) -> float:
    """Return the overlap with the teacher of students of a given mutual overlap.

    A ridge turns the part of the weights that is no noise away from the teacher, which the mutual
    overlap does not show.
    """
    k = np.mean([one.shrink for one in anatomies], axis=0)
    turned = np.sum(k * teacher) / np.sqrt(np.sum(k**2 * teacher))
    return float(np.sqrt(np.clip(overlap, 1e-4, 1.0)) * turned)


def _own_overlap(anatomies: Sequence[Anatomy]) -> float:
    """Return the mutual overlap of students of disjoint rows by their anatomies."""
    signal, field = (np.mean([getattr(a, name) for a in anatomies]) for name in ("signal", "field"))
    return float(signal / field)


def _angle(
    overlap: float, halves: Sequence[Anatomy], probes: Sequence[Anatomy], teacher: Floats
) -> float:
    """Carry the measured angle of students of two parts to that of the probes.

    Both angles are known from the students' anatomies too, and their ratio is used.
    """
    tangents = [
        np.tan(np.arccos(np.clip(cosine, 0.0, 1 - 1e-12)))
        for cosine in (
            _cosine(halves, teacher, overlap),
            _cosine(probes, teacher, _own_overlap(probes)),
            _cosine(halves, teacher, _own_overlap(halves)),
        )
    ]
    return float(np.arctan(tangents[0] * tangents[1] / tangents[2]))


def _theta_interval(theta: float, overlaps: Floats, spread: float) -> Interval:
    """Return an interval for the angle of the very probes that were trained.

    The random weights of a student of the parts S are the mean over S of independent Gaussian
    vectors g_f. The estimated and the true squared tangent are functions of their products, and to
    first order the logarithm of the tangents' ratio has the variance 0.4 sec(theta)^4 / count,
    where `count` is the number of directions that the vectors have. To this the rows add theirs:
    0.5 sec(theta)^4 / n of the students' fields, and of the overlaps by how much they differ from
    part to part. `spread` holds the terms with sec(theta)^4.
    """
    overlap = max(float(np.mean(overlaps)), 1e-2)
    by_rows = np.var(overlaps, ddof=1) / PARTS / (2 * overlap * max(1 - overlap, 1e-6)) ** 2
    steep = 1 / np.cos(min(theta, 1.5)) ** 4
    factor = np.exp(min(SURE * np.sqrt(steep * spread + by_rows), 20.0))
    return float(np.arctan(np.tan(theta) / factor)), float(np.arctan(np.tan(theta) * factor))


def _direction(probes: Sequence[Anatomy], teacher: Floats) -> tuple[Floats, Floats]:
    """Return the means of v_j^2 and t_j v_j: noise, and what the ridge turns."""
    k = np.mean([probe.shrink for probe in probes], axis=0)
    field, noise = (np.mean([getattr(p, name) for p in probes]) for name in ("field", "noise"))
    signal = max(field - noise, 1e-3 * field)
    along = np.sqrt(signal / field / np.sum(k**2 * teacher)) * k  # of each t_j
    cosine = min(float(np.sum(along * teacher)), 1 - 1e-12)
    turned = along - cosine
    random = k**2 / np.sum(k**2) * (1 - signal / field)
    square = turned**2 * teacher + random
    length = np.sum(square)
    return square / length, turned * teacher / np.sqrt(length)


def _noise(
    theta: float, theta_interval: Interval, slope: float, free: SignFit
) -> tuple[float, Interval]:
    """Return sigma with its interval from sigma^2 = cos^2/slope^2 - sin^2.

    The distances of both numbers' ends add in squares (Zou and Donner 2008).
    """

    def square(angle: float, steep: float) -> float:
        return float(np.cos(angle) ** 2 / steep**2 - np.sin(angle) ** 2)

    middle = square(theta, free.slope)
    narrow, wide = theta_interval
    flat, steep = free.slope_interval
    up = np.hypot(square(theta, flat) - middle, square(narrow, free.slope) - middle)
    down = np.hypot(square(theta, steep) - middle, square(wide, free.slope) - middle)
    ends = [float(np.sqrt(max(end, 0.0))) for end in (middle - down, middle + up)]
    return float(np.sqrt(max(square(theta, slope), 0.0))), (ends[0], ends[1])
