"""Leaves out well-learned examples at random, without a bias of the gradient: InfoBatch."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer, check_range
from selection.arrays import Floats, Integers
from selection.online.selector import ModelFunctions, OnlineSelector, OnlineState
from selection.selector import check_seed, generator
from selection.subset import Subset


@dataclass(frozen=True, eq=False)
class InfoBatchState(OnlineState):
    """Holds the state of InfoBatch.

    Attributes:
        losses: the last known loss of each example, shape (n,); NaN before it is trained on.
        kept: rows of the present epoch, shape (k,).
        left: training steps to the end of the epoch.
    """

    losses: Floats = field(default_factory=lambda: np.empty(0))
    kept: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    left: int = 0


@dataclass(frozen=True)
class InfoBatch(OnlineSelector[InfoBatchState]):
    """Prunes examples with a loss below the mean, each with probability r, in every epoch.

    The prune probability is P_t(z) = r where H_t(z) < mean(H_t), else 0. H_t(z) is the loss of z
    when it was last trained on: what is pruned keeps its score. What is not pruned has the weight
    1 / (1 - P_t(z)), so at any fixed parameters the weighted sum of the gradients of an epoch has
    the expected value of the sum over all examples. The first epoch and the last ones train on
    everything.

    An epoch is the tuple of mini-batches that `select` returns: train once on each, in order.
    Divide the weighted sum of a mini-batch's gradients by `batch_size`, not by the sum of its
    weights, which would bring the bias back. An epoch that prunes has fewer steps: count steps
    where the learning rate follows a schedule.

    The model function `losses` is called for the rows of the epoch that has ended. It may look up
    what the training steps returned, as the authors do; a new forward pass costs more.

    Args:
        batch_size: size of the mini-batches; the last one of an epoch can be smaller.
        epochs: length of the training.
        rate: r, from 0 to below 1.
        until: share of the epochs, from the first one on, in which examples are pruned; delta in
            the paper.

    Memory: 40 n bytes.

    Source: Qin et al., InfoBatch, ICLR 2024, arXiv:2303.04947: soft pruning below the mean,
    expectation rescaling, annealing. The authors' code prunes an exact share instead.
    """

    batch_size: int
    epochs: int
    rate: float = 0.5
    until: float = 0.875

    name: ClassVar[str] = "infobatch"

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1, 2**31)
        check_range("rate", self.rate, 0, 1, open_high=True)
        check_range("until", self.until, 0, 1)

    def init(self, n: int, labels: Integers | None = None) -> InfoBatchState:
        """Begin with no loss known and a selection due."""
        check_integer("batch_size", self.batch_size, 1, n)
        return InfoBatchState(np.ones(n, dtype=bool), labels, losses=np.full(n, np.nan))

    def select(
        self, state: InfoBatchState, model: ModelFunctions, seed: int
    ) -> tuple[InfoBatchState, tuple[Subset, ...]]:
        """Choose the mini-batches of one epoch, with weights 1 and 1 / (1 - rate).

        Raises:
            ValueError: the losses of an epoch are missing, not finite or of another shape.
        """
        check_seed(seed)
        rng = generator(seed, state.selections)
        n, losses = len(state), state.losses
        weights, kept = np.ones(n), np.ones(n, dtype=bool)
        # An epoch is one selection; a product like 0.28 * 25 is not a whole number to the last bit.
        if 0 < state.selections < self.until * self.epochs - 1e-9:
            found = model.value("losses", state.kept)
            if found.shape != state.kept.shape:
                raise ValueError(
                    f"the model function losses returned the shape {found.shape}, which is not "
                    f"{state.kept.shape}: one loss for each row"
                )
            losses = losses.copy()
            losses[state.kept] = found
            # The mean of equal losses can be rounded to above all of them.
            below = losses < min(np.mean(losses), np.max(losses))
            weights[below] = 1 / (1 - self.rate)
            kept[below] = rng.random(np.count_nonzero(below)) >= self.rate
        rows = rng.permutation(np.flatnonzero(kept))
        batches = tuple(
            Subset.of(part, requested=self.batch_size, weights=weights[part])
            for part in np.split(rows, range(self.batch_size, len(rows), self.batch_size))
        )
        changed = replace(
            state,
            due=False,
            selections=state.selections + 1,
            losses=losses,
            kept=rows,
            left=len(batches),
        )
        return changed, batches

    def update(self, state: InfoBatchState, model: ModelFunctions) -> InfoBatchState:
        """Count one step.

        A selection is due after the last mini-batch of the epoch.
        """
        left = state.left - 1
        return replace(state, step=state.step + 1, left=left, due=left <= 0)
