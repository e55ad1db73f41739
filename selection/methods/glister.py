"""GLISTER: picks whose gradient step lowers the validation loss of a last layer."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from hardset.checks import check_integer, check_range
from hardset.progress import steps
from selection.arrays import Floats, Integers, real_rows, whole_numbers
from selection.given import Given
from selection.pool import TIE, Pool
from selection.selector import Conditional, generator
from selection.subset import Subset

MISSED = 0.01  # chance that a stochastic greedy sample misses the best 1/p of the examples


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Logits h W^T + b of a model's last layer.

    Attributes:
        weights: W, shape (classes, d).
        bias: b, shape (classes,).
    """

    weights: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Shape (n, classes)."""
        return features @ self.weights.T + self.bias

    def errors(self, features: Floats, targets: Integers) -> Floats:
        """softmax - onehot, shape (n, classes): dLoss/dlogits of the cross entropy."""
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
    """Stochastic greedy picks of largest g_i . grad L_val(theta - eta sum_{j in S} g_j).

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
    """Greedy picks of largest g_i . grad L_val(theta - eta sum_{j in S} g_j) in the last layer.

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
            # Classes by their first example, so that their names have no part in the answer.
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
        """Features with a constant, errors, logits; the same for the validation set."""
        return 40 * n * (d + 1) + 64 * n * classes + 100 * n
