"""Picks mini-batches while a quadratic model of their loss holds: CREST."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from hardset.checks import check_integer, check_range
from selection.arrays import Array, Floats, Integers
from selection.methods.facility import Points, assign, greedy_exact
from selection.online.selector import ModelFunctions, OnlineSelector, OnlineState
from selection.selector import check_seed, generator
from selection.subset import Subset


@dataclass(frozen=True, eq=False)
class QuadraticLoss:
    """Models a weighted mean loss by a quadratic function.

    It is L + g.delta + delta.H.delta/2 with a diagonal H.

    Attributes:
        rows: the examples.
        weights: how much each one counts.
        origin: parameters where delta = 0, flat, shape (D,).
        loss: L.
        slope: g, shape (D,).
        curvature: diagonal of H, shape (D,).
    """

    rows: Integers
    weights: Floats
    origin: Floats
    loss: float
    slope: Floats
    curvature: Floats

    def __call__(self, parameters: Any) -> float:
        """Compute the modelled loss."""
        delta = _flat(parameters) - self.origin
        return float(self.loss + self.slope @ delta + delta @ (self.curvature * delta) / 2)

    def true(self, model: ModelFunctions) -> float:
        """Compute the loss at the model's parameters."""
        return float(np.mean(self.weights * model.value("losses", self.rows)))


@dataclass(frozen=True, eq=False)
class CRESTState(OnlineState):
    """Holds the state of CREST.

    Attributes:
        quadratic: model of the loss of the mini-batches' union; None before the first selection.
        first_curvature: norm of the first curvature.
        interval: training steps from one check to the next.
        low: in how many epochs in a row each example's loss was below the threshold whenever it
            was looked at, shape (n,).
        seen: epoch of the last look, -1 before the first one, shape (n,).
        dropped: number of times that learned examples have been dropped.
    """

    quadratic: QuadraticLoss | None = None
    first_curvature: float = 0.0
    interval: int = 1
    low: Array | None = None
    seen: Array | None = None
    dropped: int = 0


@dataclass(frozen=True)
class CREST(OnlineSelector[CRESTState]):
    """Picks mini-batches by facility location, as long as a loss model holds.

    Each mini-batch is picked from a random subset.

    The union's loss is modelled by F(delta) = L + g.delta + delta.H.delta/2, H the diagonal of the
    Hessian by Hutchinson's estimate; a new selection is due when abs(F - L(w + delta)) >
    tau L(w + delta). Checks come every norm(H_0)/norm(H_t) steps, at least every step.

    Args:
        batch_size: picks in each random subset.
        batches: number of random subsets; the authors' code takes 5 times those needed.
        random_size: examples in each; default 1% of the active ones, at least `batch_size`.
        tau: largest relative error of the quadratic model.
        probes: random vectors of Hutchinson's estimate.
        smoothing: weight of the old curvature in the new one, [0, 1).
        drop_below: examples with a loss below it are learned; None keeps all, the authors take .1.
        watched: epochs of n/batch_size steps in a row in which a loss must be seen below.
        drop_every: epochs from one dropping of learned examples to the next; they do not come back.

    Memory: 24 r g + 16 r^2 + 20 n + 32 D bytes, r examples in a random subset, gradients of length
    g, D parameters; and what the model functions take.

    Source: Yang, Kang and Mirzasoleiman, CREST, ICML 2023, arXiv:2306.01244.
    """

    batch_size: int = 128
    batches: int = 5
    random_size: int | None = None
    tau: float = 0.1
    probes: int = 1
    smoothing: float = 0.9
    drop_below: float | None = None
    watched: int = 5
    drop_every: int = 20

    name: ClassVar[str] = "crest"

    def __post_init__(self) -> None:
        for name in ("batch_size", "batches", "probes", "watched", "drop_every"):
            check_integer(name, getattr(self, name), 1, 2**31)
        check_range("tau", self.tau, 0, np.inf, open_low=True, open_high=True)
        check_range("smoothing", self.smoothing, 0, 1, open_high=True)
        if self.random_size is not None:
            check_integer("random_size", self.random_size, self.batch_size, 2**31)

    def init(self, n: int, labels: Integers | None = None) -> CRESTState:
        """Begin with all examples active and a selection due."""
        check_integer("batch_size", self.batch_size, 1, n)
        return CRESTState(
            np.ones(n, dtype=bool),
            labels,
            low=np.zeros(n, dtype=np.int64),
            seen=np.full(n, -1, dtype=np.int64),
        )

    def select(
        self, state: CRESTState, model: ModelFunctions, seed: int
    ) -> tuple[CRESTState, tuple[Subset, ...]]:
        """Choose mini-batches with weights of mean 1, and model their loss."""
        check_seed(seed)
        rng = generator(seed, state.selections)
        epoch = state.step * self.batch_size // len(state.active)
        active, dropped = self._without_learned(state, epoch)
        assert state.low is not None
        assert state.seen is not None
        low, seen = state.low.copy(), state.seen.copy()
        candidates = np.flatnonzero(active)
        size = self.random_size or max(self.batch_size, len(candidates) // 100)
        size = min(size, len(candidates))
        found = []
        for _ in range(self.batches):
            rows = np.sort(rng.choice(candidates, size, replace=False))
            gradients = model.value("gradients", rows)
            if self.drop_below is not None:
                below = model.value("losses", rows) < self.drop_below
                first = seen[rows] < epoch
                low[rows] = np.where(below, low[rows] + first, 0)
                seen[rows] = epoch
            picks, gains = greedy_exact(Points(gradients), min(self.batch_size, size))
            sizes = np.bincount(assign(gradients, picks)[0], minlength=len(picks))
            found.append(
                Subset.of(
                    rows[picks],
                    requested=self.batch_size,
                    weights=sizes * len(picks) / size,
                    gains=gains,
                    objective=float(np.sum(gains)),
                    nested=False,
                )
            )
        union = np.concatenate([one.indices for one in found])
        weights = np.concatenate([one.weights for one in found])
        quadratic = quadratic_loss(model, union, weights, self.probes, rng)
        if state.quadratic is not None:
            old = self.smoothing * state.quadratic.curvature
            quadratic = replace(
                quadratic, curvature=old + (1 - self.smoothing) * quadratic.curvature
            )
        size_now = float(np.linalg.norm(quadratic.curvature))
        first = state.first_curvature if state.selections else size_now
        ratio = first / size_now if size_now > 0 else 1.0
        changed = replace(
            state,
            active=active,
            low=low,
            seen=seen,
            dropped=dropped,
            due=False,
            selections=state.selections + 1,
            quadratic=quadratic,
            first_curvature=first,
            interval=max(1, round(min(ratio, 1e6))),
        )
        return changed, tuple(found)

    def update(self, state: CRESTState, model: ModelFunctions) -> CRESTState:
        """Count one step, and check whether a selection is due.

        It is due when the quadratic model is off by more than tau.
        """
        step = state.step + 1
        if state.due or state.quadratic is None or step % state.interval:
            return replace(state, step=step)
        true = state.quadratic.true(model)
        error = abs(state.quadratic(model.parameters) - true)
        return replace(state, step=step, due=error > self.tau * abs(true))

    def _without_learned(self, state: CRESTState, epoch: int) -> tuple[Array, int]:
        """Return the active examples.

        Where it is time to drop the learned ones, these are left out.
        """
        times = epoch // self.drop_every
        if self.drop_below is None or times <= state.dropped:
            return state.active, state.dropped
        assert state.low is not None
        active = state.active & (state.low < self.watched)
        # Enough must be left for one mini-batch.
        return (active if np.sum(active) >= self.batch_size else state.active), times


def _flat(parameters: Any) -> Floats:
    return np.asarray(ravel_pytree(parameters)[0], dtype=np.float64)


def quadratic_loss(
    model: ModelFunctions, rows: Integers, weights: Floats, probes: int, rng: np.random.Generator
) -> QuadraticLoss:
    """Expand the loss at the present parameters.

    The diagonal of H is E[z * (H z)], where z are random signs.
    """
    if model.losses is None:
        raise ValueError("CREST needs the model function losses, which was not given")
    losses = model.losses
    flat, restore = ravel_pytree(model.parameters)

    def mean_loss(vector: Any) -> Any:
        return jnp.mean(jnp.asarray(weights, vector.dtype) * losses(restore(vector), rows))

    gradient = jax.grad(mean_loss)
    diagonal = np.zeros(len(flat))
    for _ in range(probes):
        signs = jnp.asarray(rng.choice([-1.0, 1.0], len(flat)), flat.dtype)
        diagonal += np.asarray(signs * jax.jvp(gradient, (flat,), (signs,))[1], np.float64)
    return QuadraticLoss(
        rows,
        weights,
        np.asarray(flat, dtype=np.float64),
        float(mean_loss(flat)),
        np.asarray(gradient(flat), dtype=np.float64),
        diagonal / probes,
    )
