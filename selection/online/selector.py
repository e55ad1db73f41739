"""Defines what every method that selects during training answers, and what it sees."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from hardset.checks import check_integer
from selection.arrays import Array, Floats, Integers
from selection.methods.gradients import LastLayer
from selection.selector import check_budget
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
        pair_losses: (parameters, rows) -> losses of all pairs, shape (m, m), whose sum over a
            batch is its contrastive loss times its size.
        reference_pair_losses: the same under a reference model; the parameters are not its own.
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
    pair_losses: Callable[[Any, Integers], Any] | None = None
    reference_pair_losses: Callable[[Any, Integers], Any] | None = None

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
class Periodic(OnlineSelector[OnlineState]):
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
