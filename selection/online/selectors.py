"""Methods that select again and again while a model trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from hardset.checks import check_integer, check_range
from selection.arrays import Array, Floats, Integers
from selection.methods.glister import LastLayer, greedy_validation
from selection.methods.gradmatch import GradMatch
from selection.pool import Pool
from selection.selector import check_budget, check_seed, generator
from selection.subset import Subset


@dataclass(frozen=True, eq=False)
class ModelFunctions:
    """A model at its present parameters, as an online method sees it; examples are row numbers.

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
        """The same functions at other parameters."""
        return replace(self, parameters=parameters)

    def value(self, name: str, *arguments: Any) -> Floats:
        """The function `name` at the present parameters, as an array in double precision.

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
    """What an online method remembers.

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
    """init, then for every training step: select if the state is due, train, update.

    Attributes:
        name: the method's name.
    """

    name: ClassVar[str]

    @abstractmethod
    def init(self, n: int, labels: Integers | None = None) -> State:
        """The state before training.

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
        """The state after a training step, at the new parameters."""


@dataclass(frozen=True)
class _Periodic(OnlineSelector[OnlineState]):
    """A selection every so many steps.

    Args:
        budget: size of the subset.
        every: training steps from one selection to the next.
    """

    budget: int
    every: int = 20

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1, 2**31)

    def init(self, n: int, labels: Integers | None = None) -> OnlineState:
        """The state before training."""
        check_budget(self.budget, n)
        return OnlineState(np.ones(n, dtype=bool), labels)

    def update(self, state: OnlineState, model: ModelFunctions) -> OnlineState:
        """One step later; due after `every` of them."""
        step = state.step + 1
        return replace(state, step=step, due=state.due or step % self.every == 0)

    def _done(self, state: OnlineState) -> OnlineState:
        return replace(state, due=False, selections=state.selections + 1)


@dataclass(frozen=True)
class GradMatchOnline(_Periodic):
    """GradMatch on the present last-layer gradients, every so many steps.

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
        """One weighted subset."""
        check_seed(seed)
        gradients = model.value("gradients", np.arange(len(state)))
        pool = Pool.of(gradients=gradients, labels=state.labels)
        return self._done(state), (self.method.select(pool, self.budget, seed),)


@dataclass(frozen=True)
class GlisterOnline(_Periodic):
    """GLISTER at the present last layer, every so many steps.

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
        """One subset."""
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
