"""Picks a mini-batch by forward passes only: SSM."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer, check_range
from selection.arrays import Floats, Integers
from selection.methods.facility import Points, assign, greedy_exact
from selection.online.selector import ModelFunctions, OnlineSelector, OnlineState
from selection.selector import check_seed, generator
from selection.subset import Subset


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
