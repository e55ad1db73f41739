"""Explains measured advice by the theory of regularised students.

The theory's probe is one student that never saw the data it ranks. Out-of-fold margins are better
than that, because the students of other folds have seen a row: below a quarter of the rows the
theory's error is an upper estimate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from replica import Status, solve
from selection.advice.paths import FRACTIONS
from selection.advice.students import RegularisedStudents
from selection.advice.table_estimates import Estimates, estimate
from selection.arrays import Floats, Integers
from theory import ERM, FixedAngle, Mixture, PerceptronProblem, Probit
from theory.inputs import Spectrum
from theory.probe_field import FieldLaw
from theory.problem import Probe

if TYPE_CHECKING:
    from selection.advice.verdict import Measurement

LABEL = "independent probe"
# Where the theory is compared with what was measured.
JUDGED = {"all data": 1.0, "the hardest half": 0.5, "the hardest quarter": 0.25}
UPPER = 0.25  # below this fraction the theory's error is an upper estimate
# Share of the kept rows that are the hardest, by policy.
HARDEST = {"hard": 1.0, "mixture": 0.5, "random": 0.0}
WARN, DROP = 1.5, 3.0
GRID = (1.0, *FRACTIONS)
SIZE = 256  # of a spectrum, to which the solver pads
# Quantiles of the margins at which their law is cut: where policies stop, and every twentieth.
CUTS = sorted({*GRID, *(f / 2 for f in GRID), *(k / 20 for k in range(1, 20))})


@dataclass(frozen=True, eq=False)
class Explanation:
    """Says what the theory predicts of a table, beside what was measured.

    Attributes:
        estimates: what the theory was told of the table; None where it could not be estimated.
        keep_fraction: 1 and the fractions of the paths, shape (F,).
        predicted: errors on noisy labels by policy, shape (F,); NaN where the theory has none.
        measured: cross-validated errors by policy, shape (F,); NaN where none was measured.
        factor_all: predicted over measured error of all data, or its inverse, >= 1; NaN if unknown.
        factor_hard_half: the same for the hardest half.
        factor_hard_quarter: the same for the hardest quarter.
        drawn: whether the curve agrees well enough to be drawn as a prediction.
        warnings: sentences on what does not agree, or could not be computed.
        label: what the curve is called.
        upper_below: fraction below which the predicted error is an upper estimate.
    """

    estimates: Estimates | None
    keep_fraction: Floats
    predicted: dict[str, Floats]
    measured: dict[str, Floats]
    factor_all: float = np.nan
    factor_hard_half: float = np.nan
    factor_hard_quarter: float = np.nan
    drawn: bool = False
    warnings: tuple[str, ...] = field(default=())
    label: str = LABEL
    upper_below: float = UPPER


def explain(
    students: RegularisedStudents,
    labels: Integers,
    values: Floats,
    *,
    folds: int,
    measured: Sequence["Measurement"],
    error_all: float,
    seed: int = 0,
) -> Explanation:
    """Explain what was measured on a table of two classes.

    What goes wrong here is said in `warnings`, and raises nothing.

    Args:
        students: of two classes, as they were trained for the measurement.
        labels: class positions 0 and 1, shape (n,).
        values: out-of-fold decision values, > 0 for class 1, shape (n,).
        folds: of `values` and of the measurement.
        measured: points of the paths.
        error_all: cross-validated error of students of all data.
        seed: of the estimates' partition of the rows.
    """
    grid = np.array(GRID)
    found = _on_grid(measured, error_all)
    nothing = {policy: np.full(grid.size, np.nan) for policy in HARDEST}
    try:
        estimates = estimate(students, labels, values, folds=folds, seed=seed)
        predicted, failures = predict(estimates, values, folds=folds)
    except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
        sentence = f"the theory has no explanation of these data: {error}"
        return Explanation(None, grid, nothing, found, warnings=(sentence,))
    # Nobody can tell errors apart that are less than half a row.
    least = 0.5 / len(values)
    said, seen = np.maximum(predicted["hard"], least), np.maximum(found["hard"], least)
    factors = {what: _factor(said, seen, fraction) for what, fraction in JUDGED.items()}
    known = [factor for factor in factors.values() if np.isfinite(factor)]
    return Explanation(
        estimates,
        grid,
        predicted,
        found,
        factor_all=factors["all data"],
        factor_hard_half=factors["the hardest half"],
        factor_hard_quarter=factors["the hardest quarter"],
        drawn=bool(known) and max(known) <= DROP,
        warnings=tuple(_warnings(factors, failures)),
    )


def predict(
    estimates: Estimates,
    values: Floats,
    *,
    folds: int,
    keep_fraction: Sequence[float] = GRID,
    probe: Probe | None = None,
) -> tuple[dict[str, Floats], int]:
    """Predict the errors that nested cross validation measures, and count points without one.

    The students have (folds - 1)/folds of the rows, and so have those whose margins rank them.

    Args:
        estimates: of the table.
        values: out-of-fold decision values, whose law is taken for that of the probe's field.
        folds: of the cross validation.
        keep_fraction: fractions of the curve.
        probe: in place of one independent probe at the estimated angle.

    Returns:
        Errors on noisy labels for the policies hard, mixture and random, shape of `keep_fraction`;
        and how many of them are NaN because the solver failed.
    """
    part = 1 - 1 / folds
    if probe is None:
        # The squared tangent falls as one over the rows that the probe was trained on.
        probe = FixedAngle(np.arctan(np.tan(estimates.theta) / np.sqrt(part)))
    # With all rows kept no policy ranks, and the three are one point.
    points = [(f, share if f < 1 else 0.0) for share in HARDEST.values() for f in keep_fraction]
    distinct, places = np.unique(points, axis=0, return_inverse=True)
    fractions, shares = distinct.T
    problem = PerceptronProblem(
        alpha_total=part * estimates.alpha_total,
        keep_fraction=fractions,
        probe=probe,
        policy=Mixture(shares),
        student=ERM(estimates.loss, estimates.lam),
        labels=Probit(estimates.noise_sigma, estimates.flip),
        inputs=spectrum_of(estimates),
        probe_field=_probe_law(values),
    )
    solution = solve(problem)
    good = np.asarray(solution.status) == Status.CONVERGED
    errors = np.where(good, solution.observed_error, np.nan)[places.reshape(len(HARDEST), -1)]
    return dict(zip(HARDEST, errors, strict=True)), int(np.sum(np.isnan(errors)))


def spectrum_of(estimates: Estimates) -> Spectrum:
    """Return the theory's inputs, with the estimated means of t^2, v^2 and t v.

    A direction is cut into an even number of the same eigenvalue, half of which have v = mean +
    spread and half mean - spread: the limit of many dimensions knows sums over directions only. So
    many are taken that most tables share one compiled solver.
    """
    pairs = max(1, SIZE // (2 * estimates.dim))
    teacher = np.sqrt(estimates.teacher / (2 * pairs))
    middle = np.divide(
        estimates.cross / (2 * pairs), teacher, out=np.zeros_like(teacher), where=teacher > 0
    )
    spread = np.sqrt(np.maximum(estimates.direction / (2 * pairs) - middle**2, 0.0))
    direction = np.tile([middle + spread, middle - spread], (pairs, 1)).ravel()
    return Spectrum(
        eigenvalues=np.tile(estimates.eigenvalues, 2 * pairs),
        teacher=np.tile(teacher, 2 * pairs),
        direction=direction / np.linalg.norm(direction),
    )


def _probe_law(values: Floats) -> FieldLaw:
    """Return the law of margins by groups that no policy cuts.

    With half as many groups as of equal size the curve is as accurate.
    """
    sizes = np.sort(np.abs(values))
    sizes /= np.sqrt(np.mean(sizes**2))
    cuts = np.unique(np.round(np.array(CUTS) * sizes.size).astype(int))
    groups = [group for group in np.split(sizes, cuts) if group.size]
    return FieldLaw(
        np.array([group.mean() for group in groups]),
        np.array([group.size for group in groups]) / sizes.size,
    )


def _on_grid(measured: Sequence["Measurement"], error_all: float) -> dict[str, Floats]:
    """Return what was measured at the fractions of the grid, by policy."""
    found = {policy: np.full(len(GRID), np.nan) for policy in HARDEST}
    for errors in found.values():
        errors[0] = error_all
    for one in measured:
        if one.policy in found and one.keep_fraction in GRID:
            found[one.policy][GRID.index(one.keep_fraction)] = one.error
    return found


def _factor(predicted: Floats, measured: Floats, keep_fraction: float) -> float:
    """Return by what factor two errors differ, NaN where either is unknown."""
    place = GRID.index(keep_fraction)
    one, two = predicted[place], measured[place]
    if not (np.isfinite(one) and np.isfinite(two)):
        return np.nan
    return float(max(one / two, two / one))


def _warnings(factors: dict[str, float], failures: int) -> Iterator[str]:
    if failures:
        yield f"the theory's solver failed at {failures} points, which have no prediction"
    for what, factor in factors.items():
        if np.isinf(factor):
            yield f"the theory's error of {what} is 0 and the measured one is not, or conversely"
        elif factor > WARN:
            end = (
                "is no prediction here and is not drawn as one"
                if factor > DROP
                else ("is a rough guide here")
            )
            yield (
                f"the theory's error of {what} differs from the measured one by a factor of "
                f"{factor:.2g}: its curve {end}"
            )
