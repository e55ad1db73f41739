"""Trains every round on another random part of the data: RS2."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from selection.online.selector import ModelFunctions, OnlineState, Periodic
from selection.selector import check_seed, generator
from selection.subset import Subset


@dataclass(frozen=True)
class RS2(Periodic):
    """Draws a new random subset for every round, whatever the model.

    A round is what takes the place of an epoch. Without replacement, rounds draw from what earlier
    ones left: after any number of them, no two examples were seen a different number of times by
    more than one. A round that the last ones left do not fill begins the next pass over the data,
    with other examples. With replacement, each round draws from everything. Within a round no
    example comes twice.

    The picks come in random order, so their mini-batches are random, too. Schedule the
    learning rate over the rounds, not over the epochs that the whole data would take.

    Args:
        budget: size of the subset.
        every: training steps in a round, budget / (size of a mini-batch).
        replacement: whether a round can draw what earlier ones drew.

    Memory: 46 n bytes.

    Source: Okanovic et al., repeated random sampling for minimizing the time-to-accuracy of
    learning, ICLR 2024, arXiv:2305.18424, with and without replacement. What a round does that the
    rest of a pass does not fill is chosen here; the authors' code goes on in the same order.
    """

    replacement: bool = False

    name: ClassVar[str] = "rs2"

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose the subset of one round.

        Nothing of the model is looked at.
        """
        check_seed(seed)
        rng = generator(seed, state.selections)
        n = len(state)
        if self.replacement:
            picks = rng.choice(n, self.budget, replace=False)
            return self._done(state), (Subset.of(picks, requested=self.budget),)
        left = rng.permutation(np.flatnonzero(state.active))
        picks, active = left[: self.budget], state.active.copy()
        active[picks] = False
        missing = self.budget - len(picks)
        if missing:
            again = rng.choice(np.setdiff1d(np.arange(n), picks), missing, replace=False)
            active = np.ones(n, dtype=bool)
            active[again] = False
            picks = rng.permutation(np.concatenate([picks, again]))
        return self._done(replace(state, active=active)), (Subset.of(picks, requested=self.budget),)
