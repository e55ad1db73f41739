"""Defines the kept examples of a noisy problem, the student's fields, and their averages."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from hardset.pytree import pytree_dataclass
from theory.labels import LabelKernel
from theory.probe_field import NodeWeight
from theory.weights import FunctionWeight, IntervalWeight, SelectionWeight

Array = jnp.ndarray
T = TypeVar("T")


@pytree_dataclass
class Kept:
    """The kept examples of one problem.

    The gauge is that in which every observed label is +1.

    Attributes:
        alpha_total: distinct examples over N, scalar.
        weight: probability that one copy is kept, by the probe field z.
        theta: probe-teacher angle in radians, scalar.
        labels: the channel from the teacher's field to the observed label.
        copies: copies r >= 1 of each distinct example, each kept by a chance of its own.
    """

    alpha_total: Array
    weight: SelectionWeight | NodeWeight
    theta: Array
    labels: LabelKernel
    copies: Array

    def of_normal(self) -> SelectionWeight:
        """Return the weight on a normal probe field.

        A measured field has a weight on nodes instead.
        """
        assert not isinstance(self.weight, NodeWeight)
        return self.weight


@pytree_dataclass
class Fields:
    """A student's field W.x, and the prox step gamma.

    W.x = along u + across s + apart xi. u is the teacher's field, s the one orthogonal to it in
    the plane of teacher and probe, and xi ~ N(0, 1) independent of both.
    """

    along: Array
    across: Array
    apart: Array
    prox_step: Array


@pytree_dataclass
class Averages:
    """alpha_total times averages over the kept examples of the Moreau envelope's derivatives.

    Attributes:
        pull: of (u, s) M', shape (2,).
        square: of M'^2, scalar.
        curvature: of M'', scalar.
    """

    pull: Array
    square: Array
    curvature: Array


@pytree_dataclass
class Totals:
    """alpha_total times averages over the kept examples, those that count copies included.

    Attributes:
        averages: of the Moreau envelope's derivatives.
        distinct: distinct kept examples over N.
        kept: kept examples over N, copies counted.
        loss: of the loss at the student's fields after training.
        wrong: of those on the wrong side.
        active: of those whose field without them is below 1.
    """

    averages: Averages
    distinct: Array
    kept: Array
    loss: Array
    wrong: Array
    active: Array

    @classmethod
    def zero(cls) -> "Totals":
        """Return a sum of nothing."""
        zero = jnp.zeros(())
        return cls(Averages(jnp.zeros(2), zero, zero), zero, zero, zero, zero, zero)


@pytree_dataclass
class CopiesWeight:
    """The probability that exactly k of r copies survive, by the probe field.

    Attributes:
        weight: probability that one copy is kept.
        count: k, scalar.
        copies: r, scalar.
    """

    weight: FunctionWeight
    count: Array
    copies: Array

    def __call__(self, z: Array) -> Array:
        """Return the probability at the fields z, any shape."""
        base = self.weight
        single = dataclasses.replace(base, even=False, redundancy=jnp.ones(()))
        chance = binomial(self.count, self.copies, single(z))
        if base.even:
            chance = (chance + binomial(self.count, self.copies, single(-z))) / 2
        return chance

    def breaks(self) -> Array:
        """Return the fields where the weight or its slope jumps, shape (K,)."""
        return self.weight.breaks()

    def reach(self) -> tuple[Array, Array]:
        """Return the whole line, since nothing is known of a user's function."""
        return self.weight.reach()


def binomial(count: Array, copies: Array, chance: Array) -> Array:
    """Return the probability of k successes in r trials, differentiable at chances 0 and 1."""
    ways = jnp.exp(gammaln(copies + 1) - gammaln(count + 1) - gammaln(copies - count + 1))
    lost = copies - count
    rest = jnp.where(lost > 0, jnp.maximum(1 - chance, 0.0) ** jnp.where(lost > 0, lost, 1.0), 1.0)
    return ways * chance**count * rest


def surviving(
    weight: SelectionWeight | NodeWeight, count: Array, copies: Array
) -> SelectionWeight | NodeWeight:
    """Return the probability that exactly `count` of `copies` copies are kept, as a weight."""
    if isinstance(weight, NodeWeight):
        return dataclasses.replace(weight, level=binomial(count, copies, weight.level))
    if not isinstance(weight, IntervalWeight):
        return CopiesWeight(weight, count, copies)  # type: ignore[return-value]
    # Overlapping intervals add up, so the line is cut at all ends first.
    ends = jnp.sort(jnp.concatenate([weight.low, weight.high]))
    middle = (jnp.clip(ends[:-1], -50.0, 50.0) + jnp.clip(ends[1:], -50.0, 50.0)) / 2
    inside = (middle[:, None] > weight.low) & (middle[:, None] < weight.high)
    level = jnp.sum(jnp.where(inside, weight.level, 0.0), axis=-1)
    return IntervalWeight(low=ends[:-1], high=ends[1:], level=binomial(count, copies, level))


def over_copies(kept: Kept, one: Callable[[Kept, Array], T], total: T) -> T:
    """Sum `one(kept, k)` over the numbers k = 1 .. r of surviving copies.

    Args:
        kept: the kept examples with their copies.
        one: maps examples of which each has k copies, and k, to a tree of arrays.
        total: a tree of zeros of that shape.
    """

    def add(k: Array, sums: T) -> T:
        count = k.astype(jnp.float64) + 1
        part = dataclasses.replace(kept, weight=surviving(kept.weight, count, kept.copies))
        return jax.tree.map(jnp.add, sums, one(part, count))

    return jax.lax.fori_loop(0, jnp.round(kept.copies).astype(int), add, total)
