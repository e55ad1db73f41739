"""Selects by gradients.

GradMatch matches their sum, and GLISTER lowers a validation loss.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax

from hardset.checks import check_integer, check_range
from hardset.progress import steps
from selection.arrays import Array, Floats, Integers, lifted, real_rows, whole_numbers
from selection.given import Given, shares
from selection.methods.facility import gradients_or_features
from selection.pool import TIE, Pool, first_largest
from selection.selector import Conditional, generator
from selection.subset import Subset
from sims.machine import one_blas_thread

MISSED = 0.01  # chance that a stochastic greedy sample misses the best 1/p of the examples


def matching_pursuit(
    gradients: Floats,
    target: Floats,
    budget: int,
    penalty: float = 0.5,
    tolerance: float = 1e-4,
    excluded: Integers | None = None,
) -> tuple[Integers, Floats, float]:
    """Match a sum of gradients by weights >= 0 on at most `budget` examples.

    It is min_w norm(sum_i w_i g_i - b)^2 + lam norm(w)^2, w >= 0.

    It is orthogonal matching pursuit with non-negative weights. The example of largest inner
    product with the residual enters, all weights are fitted again, and those that would turn
    negative leave (the active set of Lawson and Hanson, stopped at the budget; run to the end it
    solves NNLS).

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
    g = len(target)
    with one_blas_thread(max(gradients.size, g * g * max(g, budget))):
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
    """Holds the examples with a positive weight.

    Attributes:
        rows: their numbers.
        own: their gradients G, shape (k, g).
        products: G G^T while k <= g, then G^T G, whichever is smaller.
    """

    rows: list[int]
    own: Floats
    products: Floats

    def entered(self, row: int, gradient: Floats) -> "_Active":
        """Return the active examples with one more."""
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
        """Return the active examples without some."""
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
        """Fit weights by ridge regression.

        It solves argmin_w norm(w G - target)^2 + penalty norm(w)^2.
        """
        k, g = self.own.shape
        if penalty == 0:
            return np.asarray(np.linalg.lstsq(self.own.T, target, rcond=None)[0])
        system = self.products + penalty * np.eye(len(self.products))
        if k <= g:
            return np.asarray(cho_solve(cho_factor(system), self.own @ target))
        return np.asarray(self.own @ cho_solve(cho_factor(system), target))


def _fit(active: _Active, target: Floats, start: Floats, penalty: float) -> tuple[_Active, Floats]:
    """Fit non-negative ridge weights, from feasible ones.

    Examples of weight 0 leave.
    """
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
    """Matches the sum of all gradients by a weighted sum of few.

    It is min_w norm(sum_{i in S} w_i g_i - sum_i g_i)^2 + lam norm(w)^2, w >= 0, by OMP.

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
        """Bound the bytes of gradients, those of the picks, and their products.

        Gradients have double precision.
        """
        least = min(budget, d)
        return 16 * n * d + 24 * n + 24 * budget * d + 32 * least * least


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Computes the logits of a model's last layer.

    They are h W^T + b.

    Attributes:
        weights: W, shape (classes, d).
        bias: b, shape (classes,).
    """

    weights: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Compute the logits, shape (n, classes)."""
        return features @ self.weights.T + self.bias

    def errors(self, features: Floats, targets: Integers) -> Floats:
        """Compute the derivatives of the cross entropy by the logits.

        They are softmax - onehot, shape (n, classes).
        """
        found = np.asarray(softmax(self.logits(features), axis=1))
        found[np.arange(len(targets)), targets] -= 1
        return found


def greedy_validation(
    features: Floats,
    errors: Floats,
    validation: Floats,
    targets: Integers,
    logits: Floats,
    budget: int,
    step: float,
    rng: np.random.Generator | None,
    allowed: Integers | None = None,
) -> tuple[Integers, Floats]:
    """Pick the gradient step that lowers a validation loss most, greedily.

    Picks have the largest g_i . grad L_val(theta - eta sum_{j in S} g_j).

    g_i = (p_i - y_i) (h_i, 1) is the gradient of the last layer. After each pick the validation
    logits move by -eta (h_val . h_i + 1) (p_i - y_i), which is exact for a last layer, and the
    validation gradient is taken anew.

    Args:
        features: h, shape (n, d).
        errors: p - y, shape (n, classes).
        validation: h of the validation set, shape (v, d).
        targets: its classes, shape (v,).
        logits: its logits at theta, shape (v, classes).
        budget: number of picks.
        step: eta, on the mean validation loss.
        rng: draws ceil((n/p) ln 100) candidates a pick; None looks at all.
        allowed: rows that may be picked; default all.
    """
    n = len(features)
    rest = np.arange(n) if allowed is None else allowed.copy()
    inside = np.concatenate([features, np.ones((n, 1))], axis=1)
    outside = np.concatenate([validation, np.ones((len(validation), 1))], axis=1)
    logits = logits.copy()
    left = len(rest)
    sample = left if rng is None else int(np.ceil(left / budget * np.log(1 / MISSED)))
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    with one_blas_thread(outside.size * errors.shape[1]):
        for at in steps(budget, "glister", budget * (outside.size + n)):
            found = np.asarray(softmax(logits, axis=1))
            found[np.arange(len(targets)), targets] -= 1
            gradient = found.T @ outside / len(outside)
            size = min(sample, left)
            if rng is not None and size < left:
                # The first `size` places of a partial Fisher-Yates shuffle.
                for place in range(size):
                    other = place + int(rng.integers(left - place))
                    rest[place], rest[other] = rest[other], rest[place]
            candidates = rest[:size]
            values = np.einsum("ic,ic->i", errors[candidates], inside[candidates] @ gradient.T)
            top = float(np.max(values))
            equal = np.flatnonzero(values >= top - TIE * abs(top))
            best = int(equal[np.argmin(candidates[equal])])
            pick = int(candidates[best])
            picks[at], gains[at] = pick, values[best]
            logits -= step * np.outer(outside @ inside[pick], errors[pick])
            left -= 1
            rest[best] = rest[left]
    return picks, gains


@dataclass(frozen=True)
class Glister(Conditional):
    """Picks greedily what lowers a validation loss most.

    A pick lowers it by a gradient step of the last layer.

    Picks have the largest g_i . grad L_val(theta - eta sum_{j in S} g_j).

    Each gain is that inner product at its time: the first-order fall of the validation loss. Given
    examples, from outside with labels, are in S from the start.

    Args:
        layer: the last layer at theta; by default all zeros, the start of a linear probe.
        validation: features of a validation set, shape (v, d).
        targets: its classes, shape (v,).
        validation_size: without a validation set so many examples of the pool, drawn at random,
            stand in for one; None takes all.
        step: eta > 0.
        stochastic: whether each pick looks at a random (n/p) ln 100 of the examples only.

    Memory: 40 n (d + 1) + 64 n classes + 100 n bytes with the pool as its validation set; time
    O(p v d classes) and O(n d classes ln 100): the method's authors hold out a tenth.

    Source: Killamsetty et al., GLISTER, AAAI 2021, arXiv:2012.10630.
    """

    layer: LastLayer | None = None
    validation: Floats | None = None
    targets: Integers | None = None
    validation_size: int | None = None
    step: float = 0.1
    stochastic: bool = True

    name: ClassVar[str] = "glister"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "labels"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_range("step", self.step, 0, np.inf, open_low=True, open_high=True)
        if (self.validation is None) != (self.targets is None):
            raise ValueError("validation and targets go together: give both or neither")
        if self.validation_size is not None:
            check_integer("validation_size", self.validation_size, 1, 2**31)
            if self.validation is not None:
                raise ValueError("validation and validation_size exclude each other: give one")

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        features = np.asarray(pool.matrix("features"), dtype=np.float64)
        assert pool.labels is not None
        targets = pool.labels
        before = np.asarray(given.values(pool, "features"), dtype=np.float64)
        known = given.values(pool, "labels")
        if self.validation is None or self.targets is None:
            chosen = self._stand_ins(len(features), seed)
            outside, wanted = features[chosen], targets[chosen]
        else:
            outside = real_rows("validation", self.validation, ndim=(2,)).astype(np.float64)
            wanted = whole_numbers("targets", self.targets)
            if outside.shape != (len(wanted), features.shape[1]):
                raise ValueError(
                    f"validation has shape {outside.shape}; it must be "
                    f"{(len(wanted), features.shape[1])}"
                )
        layer = self.layer
        if layer is None:
            # Classes go by their first example, so that their names have no part in the answer.
            everything = np.concatenate([targets, wanted, known])
            names, first, number = np.unique(everything, return_index=True, return_inverse=True)
            place = np.empty(len(names), np.int64)
            place[np.argsort(first)] = np.arange(len(names))
            ends = np.cumsum([len(targets), len(wanted)])
            targets, wanted, known = np.split(place[number], ends)
            layer = LastLayer(np.zeros((len(names), features.shape[1])), np.zeros(len(names)))
        else:
            for name, values in (("labels", targets), ("targets", wanted), ("labels", known)):
                if len(values) and (values.min() < 0 or values.max() >= len(layer.weights)):
                    raise ValueError(
                        f"{name} run from {values.min()} to {values.max()}; the last layer knows "
                        f"classes 0 to {len(layer.weights) - 1}"
                    )
        logits = layer.logits(outside)
        if len(given):
            # sum_j (h_val . h_j + 1) (p_j - y_j), of which the sum over j needs one product.
            errors = layer.errors(before, known)
            logits -= self.step * (outside @ (before.T @ errors) + np.sum(errors, axis=0))
        picks, gains = greedy_validation(
            features,
            layer.errors(features, targets),
            outside,
            wanted,
            logits,
            budget,
            self.step,
            generator(seed) if self.stochastic else None,
            given.rest(len(pool)),
        )
        return Subset.of(picks, requested=budget, gains=gains, nested=not self.stochastic)

    def _stand_ins(self, n: int, seed: int) -> Integers | slice:
        if self.validation_size is None:
            return slice(None)
        if self.validation_size > n:
            raise ValueError(
                f"validation_size = {self.validation_size} is outside [1, {n}], the pool's size"
            )
        return np.sort(generator(seed, 1).choice(n, self.validation_size, replace=False))

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of features with a constant, errors and logits.

        The validation set has the same.
        """
        return 40 * n * (d + 1) + 64 * n * classes + 100 * n
