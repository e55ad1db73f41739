"""Defines the policies, which say by the probe field which examples are kept.

Each policy is a class that gives a weight of the probe field.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jax.typing import ArrayLike

from hardset.checks import check_range, is_concrete, real_array
from hardset.float64 import float64
from hardset.pytree import content_hash, pytree_dataclass, same_content
from theory.labels import Clean, LabelKernel, Labels, LabelSteps
from theory.policy_names import POLICIES, check_policy
from theory.power import power_breaks, power_level, power_weight
from theory.weights import (
    FunctionWeight,
    IntervalWeight,
    SelectionWeight,
    abs_normal_quantile,
    call_weight,
    kept_mass,
    observed_margin_quantile,
    signed_margin_quantile,
    survival,
)

Array = jnp.ndarray

_FIELDS = np.linspace(-8.0, 8.0, 801)  # where a user's weight is checked
_JUMP = 0.3  # between two of them: no weight that is smooth at the scale of 0.1 changes so fast


class Policy(ABC):
    """A rule that says which examples are kept, given the probe's field.

    z = J_p.x is the probe field, y the label and abs(z) the unsigned margin.

    Attributes:
        name: the policy's name on the command line and in data files.
    """

    name: ClassVar[str]

    @abstractmethod
    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        """Return the weight wt(z) of a DISTINCT example in the gauge y = +1.

        Args:
            keep_fraction: f in (0, 1], scalar.
            theta: probe-teacher angle in radians, scalar (signed policies' thresholds need it).
            redundancy: copies r >= 1 of every distinct example; an example survives if any copy
                does, w -> 1 - (1 - w)^r.
            labels: how the observed label follows from the teacher's field; None is clean. Signed
                policies' thresholds need it.
        """

    def check(  # noqa: B027
        self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels
    ) -> None:
        """Raise ValueError if the policy cannot keep this fraction.

        `theta` is None where the angle is not known. `labels` are those that the policy sees.
        """

    def fits(self, keep_fraction: Array) -> Array:
        """Tell whether the policy's own parameters are in their range.

        It does for traced values what `check` does for numbers.
        """
        return jnp.isfinite(keep_fraction)

    def parameters(self) -> dict[str, Any]:
        """Return the policy's own numbers, by the names that data files use."""
        return {}

    def record(self) -> dict[str, str]:
        """Return the texts that describe the policy in data files, beside its numbers."""
        return {"name": self.name}


@jax.tree_util.register_pytree_node_class
class Custom(Policy):
    """Keeps an example with a probability given by any function of z or y z.

    The problem's `keep_fraction` must be the weight's `mass`. Numbers that vary belong among the
    `parameters`. Solutions can be differentiated with respect to them, and one compiled program
    serves all their values, while each new lambda is compiled anew.

    Attributes:
        function: maps an array of fields, and the parameters, to weights in [0, 1], same shape,
            in `jax.numpy`.
        variable: "z" if it takes the probe field, "yz" if it takes the signed probe margin.
        breakpoints: fields where it or its slope jumps. Between them it must be smooth at the
            scale of 1; a narrow weight takes some across its width. They are constants; steps
            whose ends may vary are those of `Steps`.
        values: the parameters; a tuple or list is passed one by one, any other pytree (a number,
            a dict) as one argument. Each number is a scalar, or an array of the grid's shape.

    Raises:
        ValueError: a variable that is none.
    """

    name: ClassVar[str] = "custom"

    def __init__(
        self,
        weight: Callable[..., Array],
        variable: str = "z",
        breakpoints: Sequence[float] = (),
        parameters: Any = (),
    ) -> None:
        if not callable(weight):
            raise ValueError(f"weight = {weight!r} is not a function of the field")
        if variable not in ("z", "yz"):
            raise ValueError(
                f"variable = {variable!r} is not one of 'z', 'yz': a rule sees the probe's field, "
                "or its product with the observed label, and never the teacher's field"
            )
        breaks = np.atleast_1d(real_array("breakpoints", breakpoints)).ravel()
        check_range("breakpoints", breaks, -np.inf, np.inf)
        self._static = (weight, variable, tuple(breaks.tolist()))
        given = parameters if isinstance(parameters, tuple | list) else (parameters,)
        self._values = tuple(
            np.asarray(one, np.float64) if isinstance(one, list) else one for one in given
        )
        for leaf in jax.tree.leaves(self._values, is_leaf=lambda one: one is None):
            check_range("parameters", leaf, -np.inf, np.inf)

    @property
    def function(self) -> Callable[..., Array]:
        """The weight function as it was given."""
        return self._static[0]

    @property
    def variable(self) -> str:
        """The variable that the function takes, "z" or "yz"."""
        return self._static[1]

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Fields where the function or its slope jumps."""
        return self._static[2]

    @property
    def values(self) -> tuple[Any, ...]:
        """The parameters, which are further arguments of the function."""
        return self._values

    __eq__ = same_content
    __hash__ = content_hash

    def __repr__(self) -> str:
        return (
            f"Custom({self.function!r}, {self.variable!r}, {self.breakpoints!r}, {self.values!r})"
        )

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the parameters as leaves."""
        return (self._values,), self._static

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, Any, Any], leaves: tuple[Any, ...]) -> "Custom":
        """Rebuild the policy without validation.

        JAX also unflattens with tracers and sentinels.
        """
        policy = object.__new__(cls)
        policy._static, (policy._values,) = static, leaves
        return policy

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        breaks = np.array(self.breakpoints, dtype=np.float64)
        if self.variable == "z":
            breaks = np.concatenate([breaks, -breaks])
        return FunctionWeight(
            function=self.function,
            even=self.variable == "z",
            redundancy=redundancy,
            parameters=self.values,
            breakpoints=jnp.asarray(breaks),
        )

    @float64
    def weight(self, z: ArrayLike) -> Array:
        """Return the weight at the fields z, any shape.

        The policy must be a single one, whose parameters are scalars.
        """
        return call_weight(self.function, jnp.asarray(z, jnp.float64), self.values)

    @float64
    def mass(self, theta: ArrayLike = 0.0, labels: Labels | None = None) -> Array:
        """Return the kept fraction of this weight.

        Args:
            theta: probe-teacher angle in radians, of any shape; it matters to "yz" only.
            labels: the observed labels, which matter to "yz" only; clean by default. The vectors
                of `LabelSteps` must be those of one channel.

        Returns:
            Array of the shape of theta, the parameters and the labels' numbers, broadcast.
        """
        seen = Clean() if labels is None else labels
        angle = jnp.asarray(theta, jnp.float64)

        def mass(policy: Custom, theta: Array, labels: Labels) -> Array:
            one = jnp.ones(())
            return kept_mass(policy.kept_weight(one, theta, one), theta, labels.kernel())

        if isinstance(seen, LabelSteps):
            return self._each(lambda policy, theta: mass(policy, theta, seen), angle)
        return self._each(mass, angle, seen)

    def _each(self, function: Callable[..., Array], *parts: Any) -> Array:
        """Apply a function to every policy of the grid and its parts, pytrees of numbers."""
        leaves, tree = jax.tree.flatten((self, *parts))
        shape = np.broadcast_shapes(*(np.shape(leaf) for leaf in leaves))
        lanes = [jnp.broadcast_to(jnp.asarray(leaf, jnp.float64), shape).ravel() for leaf in leaves]
        found = jax.vmap(
            lambda *lane: function(*jax.tree.unflatten(tree, lane)), axis_size=int(np.prod(shape))
        )(*lanes)
        return found.reshape(shape + found.shape[1:])

    @float64
    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels) -> None:
        angle = 0.0 if self.variable == "z" else theta
        seen = Clean() if self.variable == "z" else labels
        given = (angle, keep_fraction, *jax.tree.leaves((self.values, seen)))
        if angle is None or not all(is_concrete(value) for value in given):
            return
        if isinstance(seen, LabelSteps) and max(map(np.ndim, jax.tree.leaves(seen))) > 1:
            return
        with jax.ensure_compile_time_eval():
            weights = np.asarray(self._each(lambda policy: policy.weight(_FIELDS)))
            mass = self.mass(angle, seen)
        outside = ~((weights >= 0) & (weights <= 1))
        if np.any(outside):
            index = tuple(np.argwhere(outside)[0])
            raise ValueError(
                f"weight = {weights[index]:.6g} at field {_FIELDS[index[-1]]:.3g} is outside "
                "the valid range [0, 1]"
            )
        self._check_jumps(weights)
        if is_concrete(mass):
            _check_mass(
                keep_fraction,
                mass,
                "the custom weight's mass",
                "policy.mass(theta, labels), and name the weight's jumps in `breakpoints`",
            )

    def _check_jumps(self, weights: np.ndarray) -> None:
        """Raise ValueError where the weights at `_FIELDS` jump and no breakpoint is near."""
        breaks = np.array(self.breakpoints)
        near = np.concatenate([breaks, -breaks]) if self.variable == "z" else breaks
        middles = (_FIELDS[1:] + _FIELDS[:-1]) / 2
        known = np.any(np.abs(middles[:, None] - near) <= 2 * (_FIELDS[1] - _FIELDS[0]), axis=1)
        jumps = (np.abs(np.diff(weights)) > _JUMP) & ~known
        if np.any(jumps):
            index = tuple(np.argwhere(jumps)[-1])
            before, after = weights[..., :-1][index], weights[..., 1:][index]
            raise ValueError(
                f"weight goes from {before:.3g} to {after:.3g} at field "
                f"{middles[index[-1]]:.3g}, where breakpoints = {self.breakpoints} has none: "
                "averages are exact only where the weight's jumps are named"
            )

    def parameters(self) -> dict[str, Any]:
        return {f"parameter_{k}": leaf for k, leaf in enumerate(jax.tree.leaves(self.values))}

    def record(self) -> dict[str, str]:
        return {"name": self.name, "variable": self.variable}


@jax.tree_util.register_pytree_node_class
class Steps(Policy):
    """Keeps an example with a probability that is a step function of abs(z).

    The problem's `keep_fraction` must be the mass, sum_k levels_k P(edges_k < abs(z) < edges_k+1).

    Attributes:
        edges: ends of the steps, ascending, shape (..., K + 1), >= 0; the last may be infinite.
        levels: weight of each step, shape (..., K), in [0, 1]; 0 below the first and above the
            last edge. The leading axes are those of the problem's grid.

    Raises:
        ValueError: edges that descend or are negative, levels outside [0, 1], or shapes that do
            not fit.
    """

    name: ClassVar[str] = "steps"

    def __init__(self, edges: ArrayLike, levels: ArrayLike) -> None:
        widths = np.shape(edges)[-1:], np.shape(levels)[-1:]
        if not widths[1] or widths[0] != (widths[1][0] + 1,) or not widths[1][0]:
            raise ValueError(
                f"edges has shape {np.shape(edges)} and levels {np.shape(levels)}; their last axes "
                "must be K + 1 and K, K >= 1"
            )
        check_range("levels", levels, 0.0, 1.0)
        if is_concrete(edges):
            ends = np.asarray(edges, np.float64)
            check_range("edges", np.where(np.isposinf(ends), 0.0, ends), 0.0, np.inf)
            if np.any(ends[..., 1:] < ends[..., :-1]):
                raise ValueError(f"edges = {edges} must ascend along their last axis")
        self._edges = _columns(edges)
        self._levels = _columns(levels)

    @property
    def edges(self) -> Array:
        """Ends of the steps, shape (..., K + 1)."""
        return _stacked(self._edges)

    @property
    def levels(self) -> Array:
        """Weight of each step, shape (..., K)."""
        return _stacked(self._levels)

    __eq__ = same_content
    __hash__ = content_hash

    def __repr__(self) -> str:
        return f"Steps({self.edges!r}, {self.levels!r})"

    def tree_flatten(self) -> tuple[tuple[Any, ...], int]:
        """Return every edge and level as a leaf of the grid's shape."""
        return (*self._edges, *self._levels), len(self._levels)

    @classmethod
    def tree_unflatten(cls, steps: int, leaves: tuple[Any, ...]) -> "Steps":
        """Rebuild the policy without validation.

        JAX also unflattens with tracers and sentinels.
        """
        policy = object.__new__(cls)
        policy._edges, policy._levels = tuple(leaves[: steps + 1]), tuple(leaves[steps + 1 :])
        return policy

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        inner, outer = self.edges[..., :-1], self.edges[..., 1:]
        level = survival(self.levels, redundancy)
        return IntervalWeight(
            low=jnp.concatenate([inner, -outer], axis=-1),
            high=jnp.concatenate([outer, -inner], axis=-1),
            level=jnp.concatenate([level, level], axis=-1),
        )

    @float64
    def weight(self, z: ArrayLike) -> Array:
        """Return the weight at the fields z, any shape.

        The policy must be a single one, with edges of shape (K + 1,).
        """
        size = jnp.abs(jnp.asarray(z, jnp.float64))[..., None]
        inside = (size >= self.edges[:-1]) & (size < self.edges[1:])
        return jnp.sum(jnp.where(inside, self.levels, 0.0), axis=-1)

    @float64
    def mass(self) -> Array:
        """Return the kept fraction, shape (...)."""
        tail = erfc(self.edges / np.sqrt(2))
        return jnp.sum(self.levels * (tail[..., :-1] - tail[..., 1:]), axis=-1)

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels) -> None:
        mass = self.mass()
        if is_concrete(mass) and is_concrete(keep_fraction):
            _check_mass(keep_fraction, mass, "the steps' mass", "policy.mass()")

    def fits(self, keep_fraction: Array) -> Array:
        return jnp.abs(self.mass() - keep_fraction) <= 1e-6 * keep_fraction

    def parameters(self) -> dict[str, Any]:
        named = {f"edge_{k}": edge for k, edge in enumerate(self._edges)}
        return named | {f"level_{k}": level for k, level in enumerate(self._levels)}


def _check_mass(keep_fraction: ArrayLike, mass: ArrayLike, name: str, advice: str) -> None:
    kept, masses = np.broadcast_arrays(keep_fraction, mass)
    wrong = np.abs(kept - masses) > 1e-6 * masses
    if np.any(wrong):
        raise ValueError(
            f"keep_fraction = {kept[wrong][0]:.9g} is not {name}, {masses[wrong][0]:.9g}: pass "
            f"keep_fraction={advice}"
        )


def _columns(values: ArrayLike) -> tuple[Any, ...]:
    array = np.asarray(values, np.float64) if is_concrete(values) else jnp.asarray(values)
    return tuple(array[..., k] for k in range(array.shape[-1]))


def _stacked(columns: tuple[Any, ...]) -> Array:
    xp = np if all(is_concrete(column) for column in columns) else jnp
    return xp.stack(xp.broadcast_arrays(*columns), axis=-1)


@pytree_dataclass
class Hard(Policy):
    """Keeps the smallest unsigned margins: abs(z) < g, g = Hinv((1 - f)/2)."""

    name: ClassVar[str] = "hard"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        edge = abs_normal_quantile(keep_fraction, 1 - keep_fraction)
        return _intervals([(-edge, edge, 1.0)])


@pytree_dataclass
class Easy(Policy):
    """Keeps the largest unsigned margins: abs(z) > g, g = Hinv(f/2)."""

    name: ClassVar[str] = "easy"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        edge = abs_normal_quantile(1 - keep_fraction, keep_fraction)
        return _intervals([(-jnp.inf, -edge, 1.0), (edge, jnp.inf, 1.0)])


@pytree_dataclass
class Moderate(Policy):
    """Keeps the middle f of the abs(z) ranking: quantiles (1-f)/2 to (1+f)/2."""

    name: ClassVar[str] = "moderate"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        return _ranked_window((1 - keep_fraction) / 2, keep_fraction)


@pytree_dataclass
class Window(Policy):
    """Keeps the quantiles lo to lo + f of the abs(z) ranking.

    The very hardest examples, below lo, are skipped.

    Attributes:
        lo: quantile of abs(z) where the window starts, 0 <= lo <= 1 - f; lo = 0 is `Hard`,
            (1-f)/2 `Moderate`, 1-f `Easy`.
    """

    lo: ArrayLike = 0.0

    name: ClassVar[str] = "window"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        return _ranked_window(jnp.asarray(self.lo), keep_fraction)

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels) -> None:
        _check_window(self.lo, keep_fraction)

    def fits(self, keep_fraction: Array) -> Array:
        lo = jnp.asarray(self.lo)
        return (lo >= 0) & (lo + keep_fraction <= 1 + 1e-12)

    def parameters(self) -> dict[str, Any]:
        return {"lo": self.lo}


@pytree_dataclass
class Mixture(Policy):
    """Keeps the w f hardest, and the rest of the budget uniformly from the others.

    The weight is 1 below the abs(z) quantile w f and (1 - w) f/(1 - w f) above.

    Attributes:
        w: share of the budget spent on the hardest examples, in [0, 1].
    """

    w: ArrayLike = 0.5

    name: ClassVar[str] = "mixture"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        w = jnp.asarray(self.w)
        edge = abs_normal_quantile(w * keep_fraction, 1 - w * keep_fraction)
        outside = (1 - w) * keep_fraction / jnp.maximum(1 - w * keep_fraction, 1e-150)
        outside = survival(_at_most_one(outside), redundancy)
        return _intervals([(-jnp.inf, jnp.inf, outside), (-edge, edge, 1 - outside)])

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels) -> None:
        check_range("w", self.w, 0.0, 1.0)

    def fits(self, keep_fraction: Array) -> Array:
        w = jnp.asarray(self.w)
        return (w >= 0) & (w <= 1)

    def parameters(self) -> dict[str, Any]:
        return {"w": self.w}


@pytree_dataclass
class Random(Policy):
    """Keeps a random fraction f of the examples, whatever z."""

    name: ClassVar[str] = "random"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        return _intervals([(-jnp.inf, jnp.inf, survival(keep_fraction, redundancy))])


@pytree_dataclass
class HardSigned(Policy):
    """Keeps the smallest SIGNED probe margins y z.

    What the probe gets wrong comes first.
    """

    name: ClassVar[str] = "hard-signed"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        edge = _signed_edge(keep_fraction, 1 - keep_fraction, theta, labels)
        return _intervals([(-jnp.inf, edge, 1.0)])


@pytree_dataclass
class EasySigned(Policy):
    """Keeps the largest SIGNED probe margins y z.

    What the probe gets right with most confidence comes first.
    """

    name: ClassVar[str] = "easy-signed"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        edge = _signed_edge(1 - keep_fraction, keep_fraction, theta, labels)
        return _intervals([(edge, jnp.inf, 1.0)])


@pytree_dataclass
class WindowSigned(Policy):
    """Keeps the quantiles lo to lo + f of the SIGNED probe margin y z.

    Under label noise the lowest are mostly flipped labels, and are skipped.

    Attributes:
        lo: quantile of y z where the window starts, 0 <= lo <= 1 - f; lo = 0 is `HardSigned`,
            1 - f `EasySigned`.
    """

    lo: ArrayLike = 0.0

    name: ClassVar[str] = "window-signed"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        lo = jnp.asarray(self.lo)
        inner = _signed_edge(lo, 1 - lo, theta, labels)
        inner = jnp.where(lo > 0, inner, -jnp.inf)
        outside = jnp.maximum(1 - lo - keep_fraction, 0.0)
        outer = _signed_edge(_at_most_one(lo + keep_fraction), outside, theta, labels)
        return _intervals([(inner, outer, 1.0)])

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels) -> None:
        _check_window(self.lo, keep_fraction)

    def fits(self, keep_fraction: Array) -> Array:
        lo = jnp.asarray(self.lo)
        return (lo >= 0) & (lo + keep_fraction <= 1 + 1e-12)

    def parameters(self) -> dict[str, Any]:
        return {"lo": self.lo}


@pytree_dataclass
class Power(Policy):
    """Keeps an example with a probability that is a power of a logistic score's variance.

    w(z) = min(c s(scale z)^exponent, 1), s(x) = sigma(x) (1 - sigma(x)) at x clipped to +-clip, c
    such that the kept fraction is f (Kolossov, Montanari and Tandon, arXiv:2309.14563).

    Attributes:
        scale: norm of the probe's score, > 0.
        exponent: positive prefers hard examples, negative easy ones, 0 none.
        clip: largest score that counts, > 0.
    """

    scale: ArrayLike = 1.0
    exponent: ArrayLike = 1.0
    clip: ArrayLike = 10.0

    name: ClassVar[str] = "power"

    def kept_weight(
        self,
        keep_fraction: Array,
        theta: Array,
        redundancy: Array,
        labels: LabelKernel | None = None,
    ) -> SelectionWeight:
        own = [jnp.asarray(part, jnp.float64) for part in (self.scale, self.exponent, self.clip)]
        level = power_level(keep_fraction, *own)
        return FunctionWeight(
            function=power_weight,
            even=False,  # it is even in z as it stands
            redundancy=redundancy,
            parameters=(level, *own),
            breakpoints=power_breaks(level, *own),
        )

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None, labels: Labels) -> None:
        check_range("scale", self.scale, 0.0, 1e3, open_low=True)
        check_range("exponent", self.exponent, -20.0, 20.0)
        check_range("clip", self.clip, 0.0, 1e2, open_low=True)

    def fits(self, keep_fraction: Array) -> Array:
        scale, clip = jnp.asarray(self.scale), jnp.asarray(self.clip)
        return (scale > 0) & (clip > 0) & jnp.isfinite(scale * clip * self.exponent)

    def parameters(self) -> dict[str, Any]:
        return {"scale": self.scale, "exponent": self.exponent, "clip": self.clip}


def policy_from_name(name: str, **parameters: ArrayLike) -> Policy:
    """Return the policy called `name`, one of `theory.POLICY_NAMES`.

    Args:
        name: e.g. "hard".
        **parameters: `lo` for "window" and "window-signed", `w` for "mixture", `scale`,
            `exponent` and `clip` for "power"; nothing for the others.

    Raises:
        ValueError: unknown name, or a parameter that the policy lacks or does not take.
    """
    check_policy(name, parameters)
    policy: Policy = resolve_name(POLICIES[name][0])(**parameters)
    return policy


def _signed_edge(lower: Array, upper: Array, theta: Array, labels: LabelKernel | None) -> Array:
    if labels is None:
        return signed_margin_quantile(lower, upper, theta)
    return observed_margin_quantile(lower, upper, theta, labels)


def _check_window(lo: ArrayLike, keep_fraction: ArrayLike) -> None:
    check_range("lo", lo, 0.0, 1.0)
    if is_concrete(lo) and is_concrete(keep_fraction):
        # Decimal fractions such as .7 + .3 exceed 1 by rounding only.
        end = np.maximum(np.add(lo, keep_fraction) - 1e-12, 0.0)
        check_range("lo + keep_fraction", end, 0.0, 1.0)


def _intervals(rows: list[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> IntervalWeight:
    low, high, level = (
        jnp.stack([jnp.asarray(value, jnp.float64) for value in column])
        for column in zip(*rows, strict=True)
    )
    return IntervalWeight(low=low, high=high, level=level)


def _ranked_window(lo: Array, keep_fraction: Array) -> IntervalWeight:
    inner = abs_normal_quantile(lo, 1 - lo)
    outside = jnp.maximum(1 - lo - keep_fraction, 0.0)
    outer = abs_normal_quantile(_at_most_one(lo + keep_fraction), outside)
    return _intervals([(-outer, -inner, 1.0), (inner, outer, 1.0)])


def _at_most_one(value: Array) -> Array:
    """Return min(value, 1) with the derivative of `value` at 1.

    At 1 `jnp.minimum` would halve the derivative, and rounding decides on which side a value is.
    """
    return jnp.where(value > 1, 1.0, value)
