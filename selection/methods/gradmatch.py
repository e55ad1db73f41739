"""GradMatch: weights on few gradients whose sum is that of all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from hardset.checks import check_range
from selection.arrays import Array, Floats, Integers, lifted
from selection.given import Given, shares
from selection.methods.facility import gradients_or_features
from selection.pool import Pool, first_largest
from selection.selector import Conditional
from selection.subset import Subset


def matching_pursuit(
    gradients: Floats,
    target: Floats,
    budget: int,
    penalty: float = 0.5,
    tolerance: float = 1e-4,
    excluded: Integers | None = None,
) -> tuple[Integers, Floats, float]:
    """min_w norm(sum_i w_i g_i - b)^2 + lam norm(w)^2, w >= 0, on at most `budget` examples.

    Orthogonal matching pursuit with non-negative weights: the example of largest inner product
    with the residual enters, all weights are fitted again, those that would turn negative leave
    (the active set of Lawson and Hanson, stopped at the budget; run to the end it solves NNLS).

    Args:
        gradients: g, shape (n, g).
        target: b, shape (g,).
        budget: largest number of examples.
        penalty: lam >= 0.
        tolerance: of the residual and of its inner products, relative to norm(b).
        excluded: examples that may not enter.

    Returns:
        Rows in the order in which they entered, their weights, norm(sum w_i g_i - b).
    """
    scale = float(np.linalg.norm(target))
    longest = float(np.sqrt(np.max(np.einsum("ij,ij->i", gradients, gradients))))
    active = _Active([], np.empty((0, len(target))), np.empty((0, 0)))
    weights = np.zeros(0)
    residual = np.asarray(target, dtype=np.float64)
    blocked = np.zeros(len(gradients), dtype=bool)
    blocked[[] if excluded is None else excluded] = True
    least = np.inf
    while len(active.rows) < budget and np.linalg.norm(residual) > tolerance * scale:
        slope = gradients @ residual
        slope[active.rows] = -np.inf
        slope[blocked] = -np.inf
        pick = first_largest(slope)
        if slope[pick] <= 1e-12 * scale * longest:
            break
        trial, fitted = _fit(
            active.entered(pick, gradients[pick]), target, np.append(weights, 0.0), penalty
        )
        difference = target - fitted @ trial.own
        value = float(difference @ difference + penalty * fitted @ fitted)
        if pick not in trial.rows or value >= least:
            blocked[pick] = True  # rounding: it would leave again at once
            continue
        active, weights, residual, least = trial, fitted, difference, value
    return np.array(active.rows, dtype=np.int64), weights, float(np.linalg.norm(residual))


@dataclass(frozen=True, eq=False)
class _Active:
    """Examples with a positive weight.

    Attributes:
        rows: their numbers.
        own: their gradients G, shape (k, g).
        products: G G^T while k <= g, then G^T G, whichever is smaller.
    """

    rows: list[int]
    own: Floats
    products: Floats

    def entered(self, row: int, gradient: Floats) -> "_Active":
        """With one more."""
        k, g = self.own.shape
        own = np.concatenate([self.own, gradient[None]])
        if k < g:
            products = np.empty((k + 1, k + 1))
            products[:k, :k] = self.products
            products[k] = products[:, k] = own @ gradient
        else:
            before = self.own.T @ self.own if k == g else self.products
            products = before + np.outer(gradient, gradient)
        return _Active([*self.rows, row], own, products)

    def without(self, leaving: Array) -> "_Active":
        """Without some."""
        stay = ~leaving
        k, g = self.own.shape
        own = self.own[stay]
        if k <= g:
            products = self.products[np.ix_(stay, stay)]
        elif len(own) > g:
            products = self.products - self.own[leaving].T @ self.own[leaving]
        else:
            products = own @ own.T
        return _Active(
            [row for row, kept in zip(self.rows, stay, strict=True) if kept], own, products
        )

    def ridge(self, target: Floats, penalty: float) -> Floats:
        """argmin_w norm(w G - target)^2 + penalty norm(w)^2."""
        k, g = self.own.shape
        if penalty == 0:
            return np.asarray(np.linalg.lstsq(self.own.T, target, rcond=None)[0])
        system = self.products + penalty * np.eye(len(self.products))
        if k <= g:
            return np.asarray(cho_solve(cho_factor(system), self.own @ target))
        return np.asarray(self.own @ cho_solve(cho_factor(system), target))


def _fit(active: _Active, target: Floats, start: Floats, penalty: float) -> tuple[_Active, Floats]:
    """Non-negative ridge weights, from feasible ones; examples of weight 0 leave."""
    while active.rows:
        wanted = active.ridge(target, penalty)
        falling = wanted <= 0
        if not np.any(falling):
            return active, wanted
        ratio = start[falling] / np.maximum(start[falling] - wanted[falling], 1e-300)
        start = start + float(np.min(ratio)) * (wanted - start)
        leaving = falling & (start <= 1e-14 * np.max(np.abs(start)))
        # The step ends where the first one reaches zero.
        leaving[np.flatnonzero(falling)[np.argmin(ratio)]] = True
        active, start = active.without(leaving), np.maximum(start[~leaving], 0.0)
    return active, np.zeros(0)


@dataclass(frozen=True)
class GradMatch(Conditional):
    """min_w norm(sum_{i in S} w_i g_i - sum_i g_i)^2 + lam norm(w)^2, w >= 0, by OMP.

    Features stand for gradients in a pool without them. The pursuit stops before the budget when
    no example reduces the error any more; nothing is filled up unless `exact`. Given examples have
    weight 1: their gradients are taken from the sum that the picks shall match.

    Args:
        penalty: lam >= 0.
        tolerance: of the residual, relative to the norm of the sum of all gradients.
        per_class: whether labels, where the pool has them, are matched one by one, with budgets
            that together with given examples are in proportion to their sizes.
        exact: whether the examples of largest inner product with what is left fill the budget;
            they have weight 0, as in the optimum, and are counted in the diagnostics.

    Memory: 16 n g + 24 n + 24 p g + 32 min(p, g)^2 bytes, p the budget; time O(n g p) for the
    products and O(p min(p, g)^3) for the weights.

    Source: Killamsetty et al., GradMatch, ICML 2021, arXiv:2103.00123.
    """

    penalty: float = 0.5
    tolerance: float = 1e-4
    per_class: bool = False
    exact: bool = False

    name: ClassVar[str] = "gradmatch"
    optional: ClassVar[frozenset[str]] = frozenset({"gradients", "features", "labels"})

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 0, np.inf, open_high=True)
        check_range("tolerance", self.tolerance, 0, 1)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, gradients, before = lifted(*gradients_or_features(pool, given))
        gradients = np.asarray(gradients, dtype=np.float64)
        outside = before[len(given.rows) :]
        penalty = self.penalty / scale / scale
        if not np.isfinite(penalty):
            raise ValueError(
                "the gradients are so small that their squares vanish beside penalty = "
                f"{self.penalty:g}; scale them up, or give penalty = 0"
            )
        classes = given.class_parts(pool, self.per_class)
        picks, weights, errors, filled = [], [], [], 0
        for part, count in zip(classes, shares(classes, budget), strict=True):
            inside = part.inside
            own = gradients if len(classes) == 1 else gradients[part.rows]
            target = np.sum(own, axis=0)
            if len(given):
                target -= np.sum(own[inside], axis=0) + np.sum(outside[part.outside], axis=0)
            chosen, values, error = matching_pursuit(
                own, target, count, penalty, self.tolerance, inside
            )
            errors.append(scale * error)
            if self.exact and len(chosen) < count:
                slope = own @ (target - values @ own[chosen])
                slope[chosen] = -np.inf
                slope[inside] = -np.inf
                more = np.argsort(-slope, kind="stable")[: count - len(chosen)]
                filled += len(more)
                chosen = np.concatenate([chosen, more])
                values = np.concatenate([values, np.zeros(len(more))])
            picks.append(part.rows[chosen])
            weights.append(values)
        return Subset.of(
            np.concatenate(picks),
            requested=budget,
            weights=np.concatenate(weights),
            objective=float(
                np.sum(np.square(errors)) + self.penalty * sum(float(w @ w) for w in weights)
            ),
            gradient_error=errors,
            filled=filled,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Gradients in double precision, those of the picks, their products."""
        least = min(budget, d)
        return 16 * n * d + 24 * n + 24 * budget * d + 32 * least * least
