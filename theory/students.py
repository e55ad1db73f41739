"""Defines the students that are trained on the kept examples."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_choice, check_range
from hardset.pytree import STATIC, pytree_dataclass
from theory.policy_names import LOSSES


@pytree_dataclass
class MaxMargin:
    """The student of largest margin.

    It is the smallest W with y W.x >= 1 on every kept example.

    It exists where the kept examples are linearly separable.
    """

    name: ClassVar[str] = "max-margin"

    def parameters(self) -> dict[str, Any]:
        """Return the student's own numbers, by the names that data files use."""
        return {}

    def record(self) -> dict[str, str]:
        """Return the texts that describe the student in data files, beside its numbers."""
        return {"name": self.name}


@pytree_dataclass
class ERM:
    """The minimiser of a loss with a ridge.

    It minimises sum_i loss(y_i W.x_i) + (lam N / 2) W.W over the kept examples.

    The sum is not a mean: for (1/P) sum + (mu/2) W.W over P = alpha N kept examples, lam = alpha
    mu. On features x/sqrt(N) with weights w = sqrt(N) W the penalty is (lam / 2) w.w. For raw x
    without intercept, scikit-learn's LogisticRegression and
    LinearSVC(loss="hinge") have C = 1/(lam N), LinearSVC(loss="squared_hinge") C = 1/(2 lam N)
    and Ridge alpha = lam N.

    Attributes:
        loss: "logistic", "hinge", "squared-hinge" or "square"; the last two with a factor 1/2.
        lam: ridge strength >= 0, scalar or array. At 0 a minimiser exists only where the kept
            examples are not separable, and for "square" where they outnumber N.
    """

    loss: str = dataclasses.field(default="logistic", metadata=STATIC)
    lam: ArrayLike = 1.0

    name: ClassVar[str] = "erm"

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        check_range("lam", self.lam, 0.0, np.inf)

    def fits(self) -> jnp.ndarray:
        """Tell whether lam is in its range, also where it is traced."""
        lam = jnp.asarray(self.lam)
        return (lam >= 0) & jnp.isfinite(lam)

    def parameters(self) -> dict[str, Any]:
        """Return the student's own numbers, by the names that data files use."""
        return {"lam": self.lam}

    def record(self) -> dict[str, str]:
        """Return the texts that describe the student in data files, beside its numbers."""
        return {"name": self.name, "loss": self.loss}


Student = MaxMargin | ERM
