"""Computes the numbers of the page: curves, best fractions and windows, margins, points.

All are pure functions of the state. Grids have fixed sizes, so that no slider compiles anything.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import replica
import sims
from figures.explorer.state import DENSITY_POINTS, DIMS, DRAWS, FARTHEST, POINTS, State
from hardset.checks import check_integer
from hardset.float64 import float64
from replica.optimal.search import Family, least
from theory.densities import teacher_margin_density
from theory.labels import Clean, Flip
from theory.policies import Policy, policy_from_name
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem
from theory.students import ERM, MaxMargin
from theory.weights import IntervalWeight

Floats = NDArray[np.float64]

SIMULATED = 7  # fractions that are simulated


@dataclasses.dataclass(frozen=True)
class Curve:
    """One policy's curve.

    Attributes:
        error: at `fractions`, NaN where no certified solution exists.
        status: of each solution, a `replica.Status`.
        density: of the kept examples' margins to the teacher, at `margins`.
    """

    error: Floats
    status: NDArray[np.int64]
    density: Floats


@dataclasses.dataclass(frozen=True)
class Marks:
    """The best choices, which are marked on the curves; NaN where they are not known.

    Attributes:
        best_fraction: where each policy's error is least.
        least_error: the error there.
        window_lo: the rank of abs(z) where the best window at the state's fraction begins, 0 for
            hard selection.
        window_error: the error with it.
    """

    best_fraction: dict[str, float]
    least_error: dict[str, float]
    window_lo: float
    window_error: float


def fractions(state: State) -> Floats:
    """Return the kept fractions of the curves, from `lowest` to 1, shape (POINTS,)."""
    return np.geomspace(state.lowest, 1.0, POINTS)


def margins() -> Floats:
    """Return the margins at which densities are shown, shape (DENSITY_POINTS,)."""
    return np.linspace(0.0, FARTHEST, DENSITY_POINTS)


def problem(state: State, policy: str, keep_fraction: Floats | float) -> PerceptronProblem:
    """Make the state's problem for one policy, of the shape of `keep_fraction`."""
    return PerceptronProblem(
        alpha_total=state.alpha_total,
        keep_fraction=keep_fraction,
        probe=FixedAngle.degrees(state.theta_deg),
        policy=policy_from_name(policy),
        dims=("keep_fraction",),
        **_shared(state),
    )


def _shared(state: State) -> dict[str, Any]:
    # A student with a loss has one program whether there is noise or not.
    noisy = state.has_loss or state.flip > 0
    return {
        "redundancy": state.redundancy,
        "downstream": DownstreamShift.degrees(state.downstream_deg),
        "student": ERM(state.loss, state.lam) if state.has_loss else MaxMargin(),
        "labels": Flip(state.flip) if noisy else Clean(),
    }


def curve(state: State, policy: str) -> Curve:
    """Compute one policy's curve and the density of its margins."""
    solution = replica.solve(problem(state, policy, fractions(state)))
    status = np.asarray(solution.status)
    return Curve(
        error=np.where(status == replica.Status.CONVERGED, solution.error, np.nan),
        status=status,
        density=margin_density(state, policy, margins()),
    )


def curves(state: State) -> dict[str, Curve]:
    """Compute the curves of all policies, by name, on two threads."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda name: curve(state, name), state.policy)
        return dict(zip(state.policy, found, strict=True))


def marks(state: State, found: dict[str, Curve]) -> Marks:
    """Find the best fraction of each curve, and the best window, on two threads."""
    with ThreadPoolExecutor(2) as pool:
        best_window = pool.submit(_window, state)
        best = list(pool.map(lambda name: _least(state, name, found[name].error), state.policy))
        lo, error = best_window.result()
    fraction, lowest = zip(*best, strict=True)
    return Marks(
        best_fraction=dict(zip(state.policy, fraction, strict=True)),
        least_error=dict(zip(state.policy, lowest, strict=True)),
        window_lo=lo,
        window_error=error,
    )


def _least(state: State, policy: str, error: Floats) -> tuple[float, float]:
    """Find the fraction of least error, for which the curve serves as the scan."""
    family = Family.of(problem(state, policy, state.lowest))
    best, lowest, _ = least(
        lambda lane, f: family.errors(lane, keep_fraction=f), fractions(state)[None], error[None]
    )
    return (float(best[0]), float(lowest[0])) if np.isfinite(lowest[0]) else (np.nan, np.nan)


def _window(state: State) -> tuple[float, float]:
    found = replica.optimal_window(
        state.alpha_total, state.keep_fraction, np.deg2rad(state.theta_deg), **_shared(state)
    )
    if np.asarray(found.status) == replica.SearchStatus.FAILED:
        return np.nan, np.nan
    return np.asarray(found.lo).item(), np.asarray(found.error).item()


@float64
def margin_density(state: State, policy: str, margin: Floats) -> Floats:
    """Return the density of the kept examples' margins to the teacher.

    The margin of an example is abs(T.x), its distance from the true boundary. Noise moves it by
    what signed policies keep alone.

    Args:
        state: gives the fraction, the angle, the copies and the noise.
        policy: one of its policies.
        margin: margins >= 0, any shape.
    """
    theta = np.deg2rad(state.theta_deg)
    weight = _seen_weight(
        policy_from_name(policy), state.keep_fraction, theta, float(state.redundancy), state.flip
    )
    # At 0, where the density jumps, the limit from above.
    above = np.maximum(margin, 1e-9)
    return np.asarray(teacher_margin_density(above, theta=theta, weight=weight))


@jax.jit
def _seen_weight(
    policy: Policy, keep_fraction: Any, theta: Any, redundancy: Any, flip: Any
) -> IntervalWeight:
    """Average the weight of an example of true label +1 over its observed label."""
    weight = policy.kept_weight(keep_fraction, theta, redundancy, Flip(flip).kernel())
    assert isinstance(weight, IntervalWeight), "policies without parameters keep intervals"
    # Policies see y z with the observed label y; a flipped one mirrors the field.
    return IntervalWeight(
        low=jnp.concatenate([weight.low, -weight.high]),
        high=jnp.concatenate([weight.high, -weight.low]),
        level=jnp.concatenate([(1 - flip) * weight.level, flip * weight.level]),
    )


def simulated_fractions(state: State, dim: int) -> Floats:
    """Return the fractions that are simulated; each keeps one distinct example at least."""
    lowest = max(state.lowest, 4.0 * state.redundancy / (state.alpha_total * dim))
    return np.geomspace(min(lowest, 0.5), 1.0, SIMULATED)


def simulate(state: State, dim: int, draws: int) -> Iterator[dict[str, xr.Dataset]]:
    """Simulate the state's policies, fraction by fraction.

    Args:
        state: what is shown.
        dim: N, 10 to 400.
        draws: 2 to 200.

    Yields:
        The dataset of one fraction for each policy, `SIMULATED` times; they are those of `sims.run`
        over all of `simulated_fractions`.

    Raises:
        ValueError: a size outside its range, or so few data that nothing would be kept.
    """
    check_integer("dim", dim, *DIMS)
    check_integer("draws", draws, *DRAWS)
    for fraction in simulated_fractions(state, dim):
        problems = [problem(state, name, np.asarray([fraction])) for name in state.policy]
        yield dict(zip(state.policy, sims.run_many(problems, dim, draws), strict=True))


def joined(parts: Sequence[dict[str, xr.Dataset]]) -> dict[str, xr.Dataset]:
    """Join what `simulate` yields along the fractions, for each policy."""
    how: Any = {"data_vars": "minimal", "coords": "minimal", "compat": "override"}
    return {
        name: xr.concat(
            [part[name] for part in parts], "keep_fraction", **how, combine_attrs="override"
        )
        for name in parts[0]
    }


def dataset(
    state: State, found: dict[str, Curve], best: Marks, points: dict[str, xr.Dataset] | None
) -> xr.Dataset:
    """Label what is shown as arrays over (policy, keep_fraction).

    Args:
        state: what is shown.
        found: its curves.
        best: its best choices.
        points: the simulation of each policy, if there is one.
    """
    names = list(state.policy)

    def stacked(get: Callable[[Curve], Any]) -> np.ndarray:
        return np.array([get(found[name]) for name in names])

    made = xr.Dataset(
        {
            "theory_error": (("policy", "keep_fraction"), stacked(lambda one: one.error)),
            "theory_status": (("policy", "keep_fraction"), stacked(lambda one: one.status)),
            "best_fraction": ("policy", [best.best_fraction[name] for name in names]),
            "least_error": ("policy", [best.least_error[name] for name in names]),
            "margin_density": (("policy", "margin"), stacked(lambda one: one.density)),
            "window_lo": best.window_lo,
            "window_error": best.window_error,
        },
        coords={"policy": names, "keep_fraction": fractions(state), "margin": margins()},
    )
    if points is None:
        return made
    first = points[names[0]]
    for name in ("error_mean", "error_stderr", "solved"):
        made[name] = (
            ("policy", "simulated_fraction"),
            np.array([np.ravel(points[policy][name].values) for policy in names]),
        )
    return made.assign_coords(
        simulated_fraction=np.ravel(first["keep_fraction"].values)
    ).assign_attrs(dim=first.attrs["dim"], draws=first.attrs["draws"])
