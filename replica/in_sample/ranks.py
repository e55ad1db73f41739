"""What a policy keeps when an in-sample probe ranks: steps in the rank of the cavity margin.

Every example that the probe was trained on has a positive margin, so that signed and unsigned
rankings are the same; and dual variables, largest first, then margins, are the cavity margin h1 in
ascending order.
"""

import jax.numpy as jnp

from hardset.pytree import pytree_dataclass
from replica.in_sample.gordon import RankedData
from replica.in_sample.probe import TrainedProbe
from theory.policies import (
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    Policy,
    Random,
    Window,
)
from theory.weights import survival

Array = jnp.ndarray

END = 1e-13  # ranks closer to 0 or 1 are rounding errors of 1 - f


@pytree_dataclass
class KeptRanks:
    """Kept share of the distinct examples, by rank.

    Attributes:
        lower: ranks where the share changes, ascending, shape (2,).
        upper: 1 - `lower`, with its own digits.
        levels: share below, between and above them, shape (3,).
    """

    lower: Array
    upper: Array
    levels: Array

    def mass(self) -> Array:
        """Kept share of all distinct examples."""
        low, high = self.lower
        return self.levels[0] * low + self.levels[1] * (high - low) + self.levels[2] * self.upper[1]

    def of(self, probe: TrainedProbe) -> RankedData:
        """The data of `probe`, with these ranks kept.

        A change of the share at rank 0 or 1 concerns nobody: its edge moves to the other one's.
        """
        inside = (self.lower > END) & (self.upper > END)
        rank = jnp.where(inside, self.lower, 0.5)
        edges = (
            probe.quantile(rank[0], jnp.where(inside[0], self.upper[0], 0.5)),
            probe.quantile(rank[1], jnp.where(inside[1], self.upper[1], 0.5)),
        )
        first = jnp.where(self.lower[0] > END, self.levels[0], self.levels[1])
        last = jnp.where(self.upper[1] > END, self.levels[2], self.levels[1])
        # Where neither is inside, the share does not change at all.
        low = jnp.where(inside[0], edges[0], jnp.where(inside[1], edges[1], 0.0))
        high = jnp.where(inside[1], edges[1], low)
        return RankedData(
            probe=probe,
            edges=jnp.stack([low, high]),
            levels=jnp.stack([first, self.levels[1], last]),
        )


def kept_ranks(policy: Policy, keep_fraction: Array, redundancy: Array) -> KeptRanks:
    """The ranks that a policy keeps.

    Args:
        policy: any named policy.
        keep_fraction: f in (0, 1], scalar.
        redundancy: copies r >= 1 of every distinct example.

    Raises:
        ValueError: a policy whose weight is a function of the probe's field.
    """
    f, none, whole = keep_fraction, jnp.zeros(()), jnp.ones(())
    if isinstance(policy, Random):
        share = survival(f, redundancy)
        return _steps(none, whole, none, whole, (share, share, share))
    if isinstance(policy, Mixture):
        w = jnp.asarray(policy.w)
        outside = (1 - w) * f / jnp.maximum(1 - w * f, 1e-150)
        share = survival(jnp.minimum(outside, 1.0), redundancy)
        share = jnp.where(w * f < 1 - END, share, 1.0)
        return _steps(w * f, 1 - w * f, w * f, 1 - w * f, (whole, share, share))
    if isinstance(policy, Hard | HardSigned):
        return _steps(f, 1 - f, f, 1 - f, (whole, whole, none))
    if isinstance(policy, Easy | EasySigned):
        return _steps(1 - f, f, 1 - f, f, (none, whole, whole))
    if isinstance(policy, Moderate | Window):
        lo = (1 - f) / 2 if isinstance(policy, Moderate) else jnp.asarray(policy.lo)
        return _steps(lo, 1 - lo, lo + f, 1 - lo - f, (none, whole, none))
    raise ValueError(
        f"policy = {policy.name!r} is a function of the probe's field, whose values an in-sample "
        "probe moves; with probe = InSample() use a policy by rank: hard, easy, moderate, random, "
        "hard-signed, easy-signed, window or mixture"
    )


def _steps(
    low: Array, above_low: Array, high: Array, above_high: Array, levels: tuple[Array, ...]
) -> KeptRanks:
    return KeptRanks(
        lower=jnp.stack([low, high]),
        upper=jnp.stack([above_low, above_high]),
        levels=jnp.stack(levels),
    )
