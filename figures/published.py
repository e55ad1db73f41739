"""Holds published numbers that figures draw beside the exact ones.

Kolossov, Montanari and Tandon (arXiv:2309.14563) study logistic students of data that a surrogate's
score selects. The numbers are those that the paper's public code granica-ai/DataSelectionICLR2024
(Apache-2.0) prints, one CSV file a point; their lambda is weighed against all examples, lam =
alpha_total lambda here.
"""

import dataclasses
import math
from typing import Any

import numpy as np

import theory

EDGES = (-0.1, 0.0, 0.1)
PROBABILITIES = {"flips": (0.05, 0.05, 0.95, 0.95), "steps": (0.3, 0.05, 0.95, 0.7)}
FLIP = 0.05  # of the channel "flips"


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """The probe of one of their two settings, with the volume of data.

    Attributes:
        alpha_total: examples / N.
        theta_deg: angle to the teacher.
        scale: norm of the probe's score.
    """

    alpha_total: float
    theta_deg: float
    scale: float


SURROGATES = {
    "perfect": Surrogate(2.29, 0.0, 5.0),
    "imperfect": Surrogate(36.8508583691, 19.0577045101, 2.9094673052),
}

# Labels, surrogate, lambda, exponent of the weight, kept fraction, printed error on noisy labels of
# the theory, and of the simulation of ten data sets at dimension 3000 with its standard error.
KOLOSSOV: tuple[tuple[str, str, float, float, float, float, float, float], ...] = (
    ("flips", "perfect", 0.1, -1.0, 0.05, 0.338995, 0.3392, 0.00088),
    ("flips", "perfect", 0.1, 0.5, 0.4, 0.385471, 0.38353, 0.00052),
    ("flips", "perfect", 0.1, 1.0, 0.9, 0.246108, 0.24358, 0.00069),
    ("flips", "perfect", 0.01, -0.5, 0.2, 0.299507, 0.29894, 0.0012),
    ("flips", "perfect", 0.01, 0.5, 0.6, 0.298761, 0.29584, 0.0008),
    ("flips", "perfect", 0.01, 0.0, 0.3, 0.337957, 0.33675, 0.00058),
    ("flips", "perfect", 0.001, -1.0, 0.5, 0.278793, 0.27699, 0.0016),
    ("flips", "perfect", 0.001, 0.5, 0.2, 0.422229, 0.42103, 0.00038),
    ("flips", "perfect", 0.001, 1.0, 0.8, 0.248442, 0.24573, 0.0012),
    ("steps", "perfect", 0.1, -1.0, 0.3, 0.455873, 0.45555, 0.00098),
    ("steps", "perfect", 0.1, 1.0, 0.6, 0.465940, 0.46431, 0.00073),
    ("steps", "perfect", 0.1, 0.0, 0.5, 0.459227, 0.45888, 0.00051),
    ("steps", "perfect", 0.01, -0.5, 0.1, 0.470075, 0.47063, 0.00074),
    ("steps", "perfect", 0.01, 1.0, 0.2, 0.489406, 0.4881, 0.00041),
    ("steps", "perfect", 0.01, 0.5, 0.9, 0.447575, 0.44652, 0.0007),
    ("steps", "perfect", 0.001, -1.0, 0.3, 0.468486, 0.46782, 0.00089),
    ("steps", "perfect", 0.001, 0.5, 0.4, 0.474353, 0.47339, 0.00046),
    ("flips", "imperfect", 0.1, -1.0, 0.2, 0.161972, math.nan, math.nan),
    ("flips", "imperfect", 0.1, 0.5, 0.4, 0.161969, math.nan, math.nan),
    ("flips", "imperfect", 0.1, 1.0, 0.95, 0.096137, math.nan, math.nan),
    ("flips", "imperfect", 0.1, -0.5, 0.6, 0.118267, math.nan, math.nan),
    ("flips", "imperfect", 0.01, -1.0, 0.5, 0.136130, math.nan, math.nan),
    ("flips", "imperfect", 0.01, 0.5, 0.1, 0.215938, math.nan, math.nan),
    ("flips", "imperfect", 0.01, 1.0, 0.7, 0.088887, math.nan, math.nan),
    ("flips", "imperfect", 0.001, -0.5, 0.3, 0.169767, math.nan, math.nan),
)


def kolossov_problem(
    labels: Any, surrogate: Any, ridge: Any, exponent: Any, keep_fraction: Any
) -> "theory.PerceptronProblem":
    """Make their problems as ours.

    Args:
        labels: "flips" or "steps", array.
        surrogate: "perfect" or "imperfect", array.
        ridge: their lambda.
        exponent: of the weight; positive prefers hard examples.
        keep_fraction: kept fractions. All arguments broadcast against each other.
    """
    labels, surrogate = np.asarray(labels), np.asarray(surrogate)
    labels, surrogate = np.broadcast_arrays(labels, surrogate)
    volume, theta_deg, scale = (
        np.vectorize(lambda name, part=part: getattr(SURROGATES[name], part))(surrogate)
        for part in ("alpha_total", "theta_deg", "scale")
    )
    chances = np.array([PROBABILITIES[str(name)] for name in labels.ravel()])
    return theory.PerceptronProblem(
        alpha_total=volume,
        keep_fraction=keep_fraction,
        probe=theory.FixedAngle.degrees(theta_deg),
        policy=theory.Power(scale, exponent, 10.0),
        student=theory.ERM("logistic", volume * np.asarray(ridge)),
        labels=theory.LabelSteps(
            np.broadcast_to(EDGES, (*labels.shape, 3)), chances.reshape(*labels.shape, 4)
        ),
    )
