"""Selects again and again while a model trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from hardset.checks import check_integer, check_range
from selection.arrays import Array, Floats, Integers
from selection.methods.facility import Points, assign, greedy_exact
from selection.methods.gradients import GradMatch, LastLayer, greedy_validation
from selection.pool import Pool
from selection.selector import check_budget, check_seed, generator
from selection.subset import Subset


@dataclass(frozen=True, eq=False)
class ModelFunctions:
    """Shows a model at its present parameters to an online method.

    Examples are row numbers.

    Attributes:
        parameters: any JAX pytree.
        losses: (parameters, rows) -> losses, shape (m,), traceable by JAX in the parameters.
        gradients: (parameters, rows) -> last-layer gradients, shape (m, g).
        features: (parameters, rows) -> input of the last layer, shape (m, d).
        layer: parameters -> the last layer.
        validation: parameters -> input of the last layer for a validation set, shape (v, d).
        targets: classes of the validation set, shape (v,).
        shifted_losses: (parameters, rows, shift) -> losses, shape (m,), with `shift` added to the
            last value projection, flattened.
        shift_size: number of entries of the last value projection.
    """

    parameters: Any
    losses: Callable[[Any, Integers], Any] | None = None
    gradients: Callable[[Any, Integers], Any] | None = None
    features: Callable[[Any, Integers], Any] | None = None
    layer: Callable[[Any], LastLayer] | None = None
    validation: Callable[[Any], Any] | None = None
    targets: Integers | None = None
    shifted_losses: Callable[[Any, Integers, Array], Any] | None = None
    shift_size: int = 0

    def at(self, parameters: Any) -> "ModelFunctions":
        """Return the same functions at other parameters."""
        return replace(self, parameters=parameters)

    def value(self, name: str, *arguments: Any) -> Floats:
        """Evaluate the function `name` at the present parameters, in double precision.

        Raises:
            ValueError: the function was not given, or returned numbers that are not finite.
        """
        function = getattr(self, name)
        if function is None:
            raise ValueError(f"the method needs the model function {name}, which was not given")
        found = np.asarray(function(self.parameters, *arguments), dtype=np.float64)
        if not np.all(np.isfinite(found)):
            raise ValueError(f"the model function {name} returned numbers that are not finite")
        return found


@dataclass(frozen=True, eq=False)
class OnlineState:
    """Holds what an online method remembers.

    Attributes:
        labels: classes of the n examples, or None.
        active: which examples are still candidates, shape (n,).
        step: number of training steps so far.
        due: whether the next training step should be preceded by a selection.
        selections: how many there were.
    """

    active: Array
    labels: Integers | None = None
    step: int = 0
    due: bool = True
    selections: int = 0

    def __len__(self) -> int:
        return len(self.active)


State = TypeVar("State", bound=OnlineState)


class OnlineSelector(ABC, Generic[State]):
    """Selects anew while a model trains.

    After `init`, for every training step: select if the state is due, train, update.

    Attributes:
        name: the method's name.
    """

    name: ClassVar[str]

    @abstractmethod
    def init(self, n: int, labels: Integers | None = None) -> State:
        """Make the state before training.

        Args:
            n: number of training examples.
            labels: their classes.
        """

    @abstractmethod
    def select(
        self, state: State, model: ModelFunctions, seed: int
    ) -> tuple[State, tuple[Subset, ...]]:
        """Choose what to train on: one subset, or several mini-batches to draw from.

        Args:
            state: the last one.
            model: at the present parameters.
            seed: of all random choices; the selection's number is mixed in.
        """

    @abstractmethod
    def update(self, state: State, model: ModelFunctions) -> State:
        """Make the state after a training step, at the new parameters."""


@dataclass(frozen=True)
class _Periodic(OnlineSelector[OnlineState]):
    """Selects every so many steps.

    Args:
        budget: size of the subset.
        every: training steps from one selection to the next.
    """

    budget: int
    every: int = 20

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1, 2**31)

    def init(self, n: int, labels: Integers | None = None) -> OnlineState:
        """Make the state before training."""
        check_budget(self.budget, n)
        return OnlineState(np.ones(n, dtype=bool), labels)

    def update(self, state: OnlineState, model: ModelFunctions) -> OnlineState:
        """Count one step.

        A selection is due after `every` of them.
        """
        step = state.step + 1
        return replace(state, step=step, due=state.due or step % self.every == 0)

    def _done(self, state: OnlineState) -> OnlineState:
        return replace(state, due=False, selections=state.selections + 1)


@dataclass(frozen=True)
class GradMatchOnline(_Periodic):
    """Runs GradMatch on the present last-layer gradients, every so many steps.

    Args:
        budget: size of the subset.
        every: training steps from one selection to the next.
        method: the options of GradMatch.

    Memory: 8 n g bytes for gradients of length g, and that of GradMatch.

    Source: Killamsetty et al., GradMatch, ICML 2021, arXiv:2103.00123.
    """

    method: GradMatch = field(default_factory=GradMatch)

    name: ClassVar[str] = "gradmatch"

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose one weighted subset."""
        check_seed(seed)
        gradients = model.value("gradients", np.arange(len(state)))
        pool = Pool.of(gradients=gradients, labels=state.labels)
        return self._done(state), (self.method.select(pool, self.budget, seed),)


@dataclass(frozen=True)
class GlisterOnline(_Periodic):
    """Runs GLISTER at the present last layer, every so many steps.

    Args:
        budget: size of the subset.
        every: training steps from one selection to the next.
        step: eta > 0 of the look-ahead step.
        stochastic: whether each pick looks at a random (n/p) ln 100 of the examples only.

    Memory: 8 n (d + 4 C) + 24 v C bytes, d features, C classes, v validation examples.

    Source: Killamsetty et al., GLISTER, AAAI 2021, arXiv:2012.10630.
    """

    step: float = 0.1
    stochastic: bool = True

    name: ClassVar[str] = "glister"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("step", self.step, 0, np.inf, open_low=True, open_high=True)

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose one subset."""
        check_seed(seed)
        if state.labels is None:
            raise ValueError("GLISTER needs the labels of the training examples: give init them")
        if model.layer is None or model.targets is None:
            raise ValueError("GLISTER needs the model functions layer, validation and targets")
        layer = model.layer(model.parameters)
        features = model.value("features", np.arange(len(state)))
        outside = model.value("validation")
        picks, gains = greedy_validation(
            features,
            layer.errors(features, state.labels),
            outside,
            model.targets,
            layer.logits(outside),
            self.budget,
            self.step,
            generator(seed, state.selections) if self.stochastic else None,
        )
        subset = Subset.of(picks, requested=self.budget, gains=gains, nested=not self.stochastic)
        return self._done(state), (subset,)


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


def zeroth_order_gradients(
    model: ModelFunctions, rows: Integers, directions: Floats, distance: float
) -> Floats:
    """Estimate gradients of every example without derivatives.

    The shape is (m, D).

    They are mean_z z (L_i(theta + eps z) - L_i(theta - eps z))/(2 eps).

    Args:
        model: `shifted_losses` moves the last value projection.
        rows: examples.
        directions: z, shape (directions, D), zero where a coordinate is masked.
        distance: eps > 0.
    """
    total = np.zeros((len(rows), directions.shape[1]))
    for direction in directions:
        ahead = model.value("shifted_losses", rows, distance * direction)
        behind = model.value("shifted_losses", rows, -distance * direction)
        total += np.outer((ahead - behind) / (2 * distance), direction)
    return total / len(directions)


@dataclass(frozen=True)
class SSM(OnlineSelector[OnlineState]):
    """Picks medoids of zeroth-order gradients in a larger batch.

    The distances are those in the gradients' largest coordinates.

    A first estimate over the random batch finds the coordinates of the last value projection with
    the largest mean gradient; a second one, along directions masked to them, gives each example's
    gradient; facility location then picks the mini-batch. Only forward passes are needed.

    Args:
        batch_size: size of the mini-batch.
        random_size: examples in the random batch that it stands for.
        coordinates: number of coordinates that are kept, at most the size of the projection.
        directions: random directions of each estimate; with one, gradients are parallel.
        distance: eps > 0 of the finite difference.

    Memory: 24 r D + 24 r^2 bytes, r examples in the random batch, D coordinates of the projection.

    Source: Nguyen et al., memory-efficient training of LLMs with larger mini-batches,
    arXiv:2407.19580.
    """

    batch_size: int = 64
    random_size: int = 128
    coordinates: int = 2560
    directions: int = 1
    distance: float = 1e-3

    name: ClassVar[str] = "ssm"

    def __post_init__(self) -> None:
        for name in ("batch_size", "coordinates", "directions"):
            check_integer(name, getattr(self, name), 1, 2**31)
        check_integer("random_size", self.random_size, self.batch_size, 2**31)
        check_range("distance", self.distance, 0, np.inf, open_low=True, open_high=True)

    def init(self, n: int, labels: Integers | None = None) -> OnlineState:
        """Begin with a selection due, as before every step."""
        check_integer("random_size", self.random_size, 1, n)
        return OnlineState(np.ones(n, dtype=bool), labels)

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose one mini-batch with weights.

        The weights are cluster sizes, scaled to mean 1.
        """
        check_seed(seed)
        check_integer("shift_size", model.shift_size, 1, 2**62)
        rng = generator(seed, state.selections)
        rows = np.sort(rng.choice(len(state), self.random_size, replace=False))
        shape = (self.directions, model.shift_size)
        first = zeroth_order_gradients(model, rows, rng.standard_normal(shape), self.distance)
        size = np.abs(np.mean(first, axis=0))
        kept = np.sort(np.argsort(-size, kind="stable")[: self.coordinates])
        masked = np.zeros(shape)
        masked[:, kept] = rng.standard_normal((self.directions, len(kept)))
        gradients = zeroth_order_gradients(model, rows, masked, self.distance)[:, kept]
        picks, gains = greedy_exact(Points(gradients), self.batch_size)
        sizes = np.bincount(assign(gradients, picks)[0], minlength=len(picks))
        subset = Subset.of(
            rows[picks],
            requested=self.batch_size,
            weights=sizes * len(picks) / len(rows),
            gains=gains,
            objective=float(np.sum(gains)),
        )
        return replace(state, due=False, selections=state.selections + 1), (subset,)

    def update(self, state: OnlineState, model: ModelFunctions) -> OnlineState:
        """Count one step, after which a selection is due again."""
        return replace(state, step=state.step + 1, due=True)
