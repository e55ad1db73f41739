"""The window of scores that the replica theory calls best at the data's coordinates."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardset.checks import check_range
from selection.core.pool import Pool
from selection.core.selector import Selector
from selection.core.subset import Subset
from selection.methods.ranking import hardest_first

__all__ = ["TheoryWindow"]


@dataclass(frozen=True)
class TheoryWindow(Selector):
    """The window of ranks, hardest = 0, whose error is least in the theory at f = budget / n.

    The window starts at rank lo n, with lo from `replica.optimal_window(alpha_total, f, theta)`;
    `recommend` estimates both arguments from data. Hardest first.

    Args:
        alpha_total: examples over the effective dimension of the features, > 0.
        theta_deg: angle between the probe that gave the scores and the target, 0 to 90 degrees.

    Memory: 24 n + 32 budget bytes.
    """

    alpha_total: float
    theta_deg: float = 0.0

    name: ClassVar[str] = "optimal-window"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_range("alpha_total", self.alpha_total, 0.0, np.inf, open_low=True)
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        from replica import SearchStatus, optimal_window  # seconds that wrong options need not pay

        n = len(pool)
        best = optimal_window(self.alpha_total, budget / n, np.deg2rad(self.theta_deg))
        lo, error, hard, random = (
            float(np.asarray(value))
            for value in (best.lo, best.error, best.hard_error, best.random_error)
        )
        if np.asarray(best.status) != SearchStatus.FOUND:
            raise ValueError(
                f"the theory has no certified window at alpha_total = {self.alpha_total:g}, "
                f"theta_deg = {self.theta_deg:g}, keep_fraction = {budget / n:g}"
            )
        first = min(int(np.floor(lo * n + 0.5)), n - budget)
        return Subset.of(
            hardest_first(pool)[first : first + budget],
            requested=budget,
            lo=lo,
            theory_error=error,
            theory_error_hard=hard,
            theory_error_random=random,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """The negated scores, their order, room to sort."""
        return 24 * n + 32 * budget
