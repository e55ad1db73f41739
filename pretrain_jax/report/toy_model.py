"""Places the data of a run in the toy model, and gives its advice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.places import HALVES, IMAGES, SCORES, images_of_half
from pretrain_jax.report.collect import RunFolder
from pretrain_jax.synthesis.margins import read_features
from pretrain_jax.synthesis.tables import Table
from replica import Status, solve
from selection import (
    Coordinates,
    ToyModelAdvice,
    coordinates_of_overlap,
    margin_overlap,
    toy_model_advice,
)
from theory import FixedAngle, PerceptronProblem, policy_from_name

Floats = NDArray[np.float64]

FEATURES = "features.npy"
WHOLE = f"{SCORES}/{IMAGES}"  # scores of whole images, by the probe of all and by those of halves
BY_HALVES = tuple(f"{SCORES}/{images_of_half(half)}" for half in HALVES)
POLICIES = ("hard", "easy", "moderate", "random")
LOWEST, FRACTIONS = 0.01, 41
REPLICATES = 50
FEWEST = 40  # rows that an effective dimension needs


@dataclass(frozen=True, eq=False)
class Bridge:
    """Holds what the theory says at the estimated coordinates.

    Attributes:
        coordinates: where the data lie in the toy model.
        recommendation: policy and fraction of least error; None where theta is undefined.
        fractions: kept fractions of the curve, shape (n,).
        error: the theory's error under the recommended policy at the estimate; NaN where it has no
            certified answer.
        low: least error over the ends of the intervals of alpha_t and theta.
        high: greatest error over them.
    """

    coordinates: Coordinates
    recommendation: ToyModelAdvice | None
    fractions: Floats
    error: Floats
    low: Floats
    high: Floats

    @property
    def lost(self) -> int:
        """Return the number of points of the curve without a certified answer."""
        return int(np.isnan(self.error).sum())


def bridge(
    features: NDArray,
    one: Floats,
    other: Floats,
    trained_on: int,
    *,
    policies: Sequence[str] = POLICIES,
    seed: int = 0,
) -> Bridge:
    """Estimate coordinates, advice and error curve of a data set.

    They come from features and two probes' margins.

    The correlation c of the two probes' margins stands for the cosine between them, theta =
    arccos(sqrt(c)) for a probe of one half, corrected to all examples by the theory's learning
    curve; alpha_t = examples over the features' effective dimension.

    Args:
        features: of the examples, shape (n, d), n >= 40.
        one: margins by a probe trained on one half of the examples, shape (n,).
        other: margins by a probe trained on the other half, shape (n,).
        trained_on: examples in a half.
        policies: names of those that the theory compares.
        seed: of the bootstrap.

    Raises:
        ValueError: shapes that do not fit, too few examples, margins that are all the same.
    """
    if not len(features) == len(one) == len(other):
        raise ValueError(
            f"features have {len(features)} rows, the margins {len(one)} and {len(other)}; all "
            "need one for each example"
        )
    for name, margins in (("one", one), ("other", other)):
        if not np.ptp(margins) > 0:
            raise ValueError(f"{name} holds the same margin everywhere; it has no correlation")
    overlap = margin_overlap(one - np.mean(one), other - np.mean(other))
    coordinates = coordinates_of_overlap(
        features, overlap, trained_on, held_out=len(one), replicates=REPLICATES, seed=seed
    )
    empty = np.zeros(0)
    if not coordinates.defined:
        return Bridge(coordinates, None, empty, empty, empty, empty)
    advice = toy_model_advice(coordinates, policies=policies, lowest=LOWEST)
    fractions = np.geomspace(LOWEST, 1.0, FRACTIONS)
    alphas = [coordinates.alpha_total, *coordinates.alpha_interval]
    thetas = np.minimum([coordinates.theta, *coordinates.theta_interval], np.pi / 2)
    solution = solve(
        PerceptronProblem(
            alpha_total=np.array(alphas)[:, None, None],
            keep_fraction=fractions,
            probe=FixedAngle(thetas[:, None]),
            policy=policy_from_name(advice.toy_model_policy),
        )
    )
    certified = np.asarray(solution.status) == Status.CONVERGED
    errors = np.where(certified, np.asarray(solution.error), np.nan)
    return Bridge(
        coordinates,
        advice,
        fractions,
        error=errors[0, 0],
        low=np.fmin.reduce(errors, axis=(0, 1)),
        high=np.fmax.reduce(errors, axis=(0, 1)),
    )


def bridge_of_run(run: RunFolder, *, seed: int = 0) -> Bridge | str:
    """Make the `bridge` of a run's whole images.

    Where there is none it says why.
    """
    folders = [run.folder / place for place in (WHOLE, *BY_HALVES)]
    for place in (WHOLE, *BY_HALVES):
        if place not in run.findings:
            return f"No estimate: the stage {place} is not there, or not finished."
    features = folders[0] / FEATURES
    if not features.is_file():
        return f"No estimate: {WHOLE} holds no features of the probe ({FEATURES})."
    matrix = read_features(folders[0])
    if len(matrix) < FEWEST:
        return f"No estimate: {len(matrix)} images are too few, {FEWEST} are needed."
    one, other = (_margins(folder) for folder in folders[1:])
    try:
        return bridge(matrix, one, other, len(one) // 2, seed=seed)
    except ValueError as error:
        return f"No estimate: {error}."


def _margins(folder: Path) -> Floats:
    """Read the margins of whole images, in the order of the images."""
    table = Table(folder)
    order = np.argsort(table.column("image"), kind="stable")
    return np.asarray(table.column("margin")[order], np.float64)
