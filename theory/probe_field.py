"""Defines the law of the probe's field: standard normal, or measured on data."""

import hashlib
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jax.typing import ArrayLike

from hardset.checks import check_range, is_concrete
from hardset.pytree import pytree_dataclass
from theory.labels import LabelKernel
from theory.policies import (
    EasySigned,
    HardSigned,
    Policy,
    Power,
    WindowSigned,
)
from theory.power import power_weight
from theory.weights import LEAST_ANGLE, IntervalWeight, survival

Array = jnp.ndarray

BISECTIONS = 60
FARTHEST = 40.0  # the normal law has no mass beyond it


@pytree_dataclass
class NormalField:
    """A probe field z ~ N(0, 1), as Gaussian inputs give it."""

    name: ClassVar[str] = "normal"

    def record(self) -> dict[str, str]:
        """Return what describes the law in data files."""
        return {"name": self.name}


@pytree_dataclass
class FieldLaw:
    """A probe field that takes the values +-`nodes`, each sign with half its probability.

    Given z, all else stays Gaussian: the teacher's field is u = z cos(theta) + sin(theta) xi with
    xi ~ N(0, 1). The law of measured margins, over their root mean square, is one.

    Attributes:
        nodes: sizes of z, shape (..., m), >= 0; their root mean square is 1 for a probe of unit
            length.
        weights: their probabilities, shape (..., m), >= 0, summing to 1.

    Raises:
        ValueError: weights that are negative or do not sum to 1; shapes that do not fit.
    """

    nodes: ArrayLike
    weights: ArrayLike

    name: ClassVar[str] = "measured"

    def __post_init__(self) -> None:
        shapes = np.shape(self.nodes), np.shape(self.weights)
        if not shapes[0] or shapes[0][-1:] != shapes[1][-1:] or not shapes[0][-1]:
            raise ValueError(
                f"nodes has shape {shapes[0]} and weights {shapes[1]}; their last axes must be of "
                "one length m >= 1"
            )
        check_range("nodes", self.nodes, 0.0, np.inf)
        check_range("weights", self.weights, 0.0, 1.0)
        if is_concrete(self.weights):
            total = np.sum(np.asarray(self.weights, np.float64), axis=-1)
            if np.any(np.abs(total - 1) > 1e-9):
                worst = total.flat[np.argmax(np.abs(total - 1))]
                raise ValueError(f"weights sum to {worst:.9g}; they must sum to 1")

    @classmethod
    def of_margins(cls, margins: ArrayLike, nodes: int = 64) -> "FieldLaw":
        """Return the law of measured margins, in units of their root mean square.

        Args:
            margins: margins of a probe, signed or not, shape (n,), not all zero.
            nodes: most values that the law takes, >= 1: groups of equally many margins share
                their mean where there are more margins.

        Raises:
            ValueError: margins that are not finite, or all zero; fewer than one node.
        """
        sizes = np.sort(np.abs(np.asarray(margins, np.float64).ravel()))
        check_range("margins", sizes, 0.0, np.inf)
        check_range("nodes", nodes, 1, np.inf)
        scale = np.sqrt(np.mean(sizes**2)) if sizes.size else 0.0
        if not scale > 0:
            raise ValueError("margins are all zero: they have no scale")
        groups = np.array_split(sizes / scale, min(int(nodes), sizes.size))
        return cls(
            np.array([group.mean() for group in groups]),
            np.array([group.size for group in groups]) / sizes.size,
        )

    def record(self) -> dict[str, str]:
        """Return what describes the law in data files, with a digest of its numbers."""
        digest = hashlib.sha256()
        for values in (self.nodes, self.weights):
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
        return {"name": self.name, "sha256": digest.hexdigest()}


ProbeField = NormalField | FieldLaw


@pytree_dataclass
class NodeWeight:
    """A selection weight on a probe field of finitely many values.

    The gauge is y = +1.

    Attributes:
        nodes: the values z, of both signs, shape (K,).
        mass: their probabilities, shape (K,).
        level: the weights wt(z) in [0, 1], shape (K,).
    """

    nodes: Array
    mass: Array
    level: Array


def node_weight(
    law: FieldLaw,
    policy: Policy,
    keep_fraction: Array,
    theta: Array,
    redundancy: Array,
    labels: LabelKernel,
) -> NodeWeight:
    """Return a policy's weight on a measured law; see `Policy.kept_weight` for the arguments.

    Policies of ranks keep a share of the node at which they stop; `Power` is taken at the nodes.
    Functions of z of a user's own have no place here.
    """
    sizes, chances = (jnp.asarray(part, jnp.float64) for part in (law.nodes, law.weights))
    both = jnp.concatenate([sizes, -sizes])
    mass = jnp.concatenate([chances, chances]) / 2
    if isinstance(policy, HardSigned | EasySigned | WindowSigned):
        start: ArrayLike = 0.0
        if isinstance(policy, EasySigned):
            start = 1 - keep_fraction
        elif isinstance(policy, WindowSigned):
            start = jnp.asarray(policy.lo)
        spread = jnp.maximum(jnp.sin(theta), LEAST_ANGLE)
        seen = 2 * mass * labels.probability(both * jnp.cos(theta), spread)
        low, high = _ranges(both, seen)
        return NodeWeight(both, mass, _share(low, high, start, start + keep_fraction))
    if isinstance(policy, Power):
        level = _power_levels(policy, sizes, chances, keep_fraction)
        level = survival(level, redundancy)
        return NodeWeight(both, mass, jnp.concatenate([level, level]))
    weight = policy.kept_weight(keep_fraction, theta, redundancy, labels)
    assert isinstance(weight, IntervalWeight)
    # A policy of ranks keeps the same ranks of every law: those of a normal field.
    low, high = _ranges(sizes, chances)
    low, high = jnp.concatenate([low, -high]), jnp.concatenate([high, -low])
    ends = [
        erf(jnp.clip(end, -FARTHEST, FARTHEST) / np.sqrt(2)) for end in (weight.low, weight.high)
    ]
    shares = jax.vmap(lambda a, b: _share(low, high, a, b))(*ends)
    return NodeWeight(both, mass, jnp.sum(weight.level[:, None] * shares, axis=0))


def _ranges(values: Array, chances: Array) -> tuple[Array, Array]:
    """Return the range of quantiles that each value fills."""
    order = jnp.argsort(values)
    above = jnp.cumsum(chances[order])
    high = jnp.zeros_like(above).at[order].set(above)
    return high - chances, high


def _share(low: Array, high: Array, start: ArrayLike, stop: ArrayLike) -> Array:
    """Return the share of each range that lies between two ends."""
    width = high - low
    common = jnp.minimum(high, stop) - jnp.maximum(low, start)
    filled = jnp.clip(common, 0.0, jnp.maximum(width, 0.0))
    return jnp.where(width > 0, filled / jnp.where(width > 0, width, 1.0), 0.0)


def _power_levels(policy: Power, sizes: Array, chances: Array, keep_fraction: Array) -> Array:
    """Return the weights min(c s(z)^k, 1) with the constant c that keeps the fraction."""
    own = [jnp.asarray(part, jnp.float64) for part in (policy.scale, policy.exponent, policy.clip)]

    def kept(level: Array) -> Array:
        return jnp.sum(chances * power_weight(sizes, level, *own))

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = jax.lax.stop_gradient(kept(middle) > keep_fraction)
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    # s lies between sigma(1 - sigma) at 0 and at the clip.
    reach = jnp.abs(own[1]) * (own[2] + 2.0)
    bounds = jnp.log(keep_fraction) - reach, reach
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, BISECTIONS, halve, bounds))
    level = (low + high) / 2
    # One Newton step from the solution carries the derivatives.
    value, rate = jax.jvp(kept, (level,), (jnp.ones(()),))
    rate = jax.lax.stop_gradient(rate)
    step = jnp.where(rate > 0, (value - keep_fraction) / jnp.where(rate > 0, rate, 1.0), 0.0)
    return power_weight(sizes, level - step, *own)
