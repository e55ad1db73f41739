"""Computes the numbers of the page: curves, best fractions and windows, margins, points.

All are pure functions of the state. Grids have fixed sizes, so that no slider compiles anything.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import erf

import replica
import sims
from figures.explorer.state import BINS, DIMS, DRAWS, FARTHEST, POINTS, State
from hardset.checks import check_integer
from hardset.float64 import float64
from replica.optimal.search import Family, least
from theory.densities import teacher_margin_shares
from theory.labels import Clean, Flip, Labels
from theory.policies import Policy, policy_from_name
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem
from theory.students import ERM, MaxMargin
from theory.weights import SelectionWeight

Floats = NDArray[np.float64]

SIMULATED = 7  # fractions that are simulated
COARSE = 4  # every so many fractions make a coarse curve, the last one included


@dataclasses.dataclass(frozen=True)
class Curve:
    """One policy's curve.

    Attributes:
        keep_fraction: `fractions` of the policy; in a coarse curve every fourth of them.
        error: there, NaN where no certified solution exists.
        status: of each solution, a `replica.Status`.
        share: of the kept examples in each bin of `margin_edges`, see `margin_shares`.
    """

    keep_fraction: Floats
    error: Floats
    status: NDArray[np.int64]
    share: Floats


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


def fractions(state: State, policy: str) -> Floats:
    """Return the kept fractions of a policy's curve, shape (POINTS,).

    They go from `lowest` to the largest fraction that the policy can keep.
    """
    return np.geomspace(state.lowest, state.largest(policy), POINTS)


def margin_edges() -> Floats:
    """Return the edges of the bins of margins, BINS + 1, the last one infinite."""
    return np.append(np.linspace(0.0, FARTHEST, BINS + 1)[:-1], np.inf)


def problem(state: State, policy: str, keep_fraction: Floats | float) -> PerceptronProblem:
    """Make the state's problem for one policy, of the shape of `keep_fraction`."""
    return PerceptronProblem(
        alpha_total=state.alpha_total,
        keep_fraction=keep_fraction,
        probe=FixedAngle.degrees(state.theta_deg),
        policy=_policy(state, policy),
        dims=("keep_fraction",),
        **_shared(state),
    )


def _policy(state: State, policy: str) -> Policy:
    return policy_from_name(policy, **state.own(policy))


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
    """Compute one policy's curve and the margins that it keeps."""
    return _curve(state, policy, fractions(state, policy))


def _curve(state: State, policy: str, kept: Floats) -> Curve:
    solution = replica.solve(problem(state, policy, kept))
    status = np.asarray(solution.status)
    return Curve(
        keep_fraction=kept,
        error=np.where(status == replica.Status.CONVERGED, solution.error, np.nan),
        status=status,
        share=margin_shares(state, policy),
    )


def curves(state: State) -> dict[str, Curve]:
    """Compute the curves of all policies, by name, on two threads."""
    return _each(state, lambda name: curve(state, name))


def coarse_curves(state: State) -> dict[str, Curve]:
    """Compute every fourth point of all curves, for a first look."""
    return _each(state, lambda name: _curve(state, name, fractions(state, name)[::COARSE]))


def refined(state: State, coarse: dict[str, Curve]) -> dict[str, Curve]:
    """Compute the points that coarse curves lack, and return the curves of `curves`."""
    missing = np.arange(POINTS) % COARSE != 0

    def fill(name: str) -> Curve:
        rest = _curve(state, name, fractions(state, name)[missing])

        def joined(first: Any, second: Any) -> Any:
            whole = np.empty(POINTS, first.dtype)
            whole[~missing], whole[missing] = first, second
            return whole

        known = coarse[name]
        return dataclasses.replace(
            known,
            keep_fraction=fractions(state, name),
            error=joined(known.error, rest.error),
            status=joined(known.status, rest.status),
        )

    return _each(state, fill)


def _each(state: State, compute: Callable[[str], Curve]) -> dict[str, Curve]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(state.policy, pool.map(compute, state.policy), strict=True))


def marks(state: State, found: dict[str, Curve], go_on: Callable[[], None] = lambda: None) -> Marks:
    """Find the best fraction of each curve, and the best window, on two threads.

    Args:
        state: what is shown.
        found: its curves.
        go_on: called before each search; what it raises ends them.
    """

    def searched(name: str) -> tuple[float, float]:
        go_on()
        return _least(state, name, found[name]) if name else _window(state)

    with ThreadPoolExecutor(2) as pool:
        (lo, error), *best = pool.map(searched, ["", *state.policy])
    fraction, lowest = zip(*best, strict=True)
    return Marks(
        best_fraction=dict(zip(state.policy, fraction, strict=True)),
        least_error=dict(zip(state.policy, lowest, strict=True)),
        window_lo=lo,
        window_error=error,
    )


def ends(found: dict[str, Curve]) -> list[str]:
    """Say which curves end before their last fraction, and why; nothing if none does."""
    names: dict[replica.Status, list[str]] = {}
    for name, one in found.items():
        for status in np.unique(one.status[one.status != replica.Status.CONVERGED]):
            names.setdefault(replica.Status(int(status)), []).append(name)
    return [
        f"A line ends ({', '.join(those)}) where no certified student exists: with too many noisy "
        "labels no hyperplane separates what is kept. A student with a loss always exists."
        if status == replica.Status.NOT_SEPARABLE
        else f"A line has gaps ({', '.join(those)}) where the solver gives no certified answer. "
        f"{status.sentence}"
        for status, those in names.items()
    ]


def _least(state: State, policy: str, found: Curve) -> tuple[float, float]:
    """Find the fraction of least error, for which the curve serves as the scan."""
    family = Family.of(problem(state, policy, state.lowest))
    best, lowest, _ = least(
        lambda lane, f: family.errors(lane, keep_fraction=f),
        found.keep_fraction[None],
        found.error[None],
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
def margin_shares(state: State, policy: str) -> Floats:
    """Return the shares of the kept examples whose margin lies in each bin.

    The margin of an example is abs(T.x), its distance from the true boundary. Noise moves the
    shares of signed policies alone.

    Args:
        state: gives the fraction, the angle, the copies and the noise.
        policy: one of its policies.

    Returns:
        Shape (BINS,), they sum to 1; NaN where the policy cannot keep the state's fraction.
    """
    if state.keep_fraction > state.largest(policy) * (1 + 1e-12):
        return np.full(BINS, np.nan)
    theta, labels = np.deg2rad(state.theta_deg), Flip(state.flip)
    weight = _weight(
        _policy(state, policy), state.keep_fraction, theta, float(state.redundancy), labels
    )
    found = teacher_margin_shares(margin_edges(), theta=theta, weight=weight, labels=labels)
    return np.asarray(found)


@jax.jit
def _weight(
    policy: Policy, keep_fraction: Any, theta: Any, redundancy: Any, labels: Labels
) -> SelectionWeight:
    return policy.kept_weight(keep_fraction, theta, redundancy, labels.kernel())


def all_shares() -> Floats:
    """Return the shares of all examples whose margin lies in each bin, shape (BINS,)."""
    return np.diff(erf(margin_edges() / np.sqrt(2)))


def simulated_fractions(state: State, policy: str, dim: int) -> Floats:
    """Return the fractions that are simulated; each keeps one distinct example at least."""
    largest = state.largest(policy)
    lowest = max(state.lowest, 4.0 * state.redundancy / (state.alpha_total * dim))
    return np.geomspace(min(lowest, 0.5 * largest), largest, SIMULATED)


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
    kept = {name: simulated_fractions(state, name, dim) for name in state.policy}
    for k in range(SIMULATED):
        problems = [problem(state, name, kept[name][k : k + 1]) for name in state.policy]
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
    """Label what is shown: arrays over policies, points of curves and bins of margins.

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
            "theory_error": (("policy", "point"), stacked(lambda one: one.error)),
            "theory_status": (("policy", "point"), stacked(lambda one: one.status)),
            "best_fraction": ("policy", [best.best_fraction[name] for name in names]),
            "least_error": ("policy", [best.least_error[name] for name in names]),
            "margin_share": (("policy", "bin"), stacked(lambda one: one.share)),
            "all_share": ("bin", all_shares()),
            "window_lo": best.window_lo,
            "window_error": best.window_error,
        },
        coords={
            "policy": names,
            "keep_fraction": (("policy", "point"), stacked(lambda one: one.keep_fraction)),
            "margin_low": ("bin", margin_edges()[:-1]),
            "margin_high": ("bin", margin_edges()[1:]),
        },
    )
    if points is None:
        return made
    sizes = points[names[0]].attrs

    def simulated(key: str) -> tuple[tuple[str, str], np.ndarray]:
        rows = [np.ravel(points[policy][key].values) for policy in names]
        return ("policy", "simulated_point"), np.array(rows)

    return (
        made.assign({key: simulated(key) for key in ("error_mean", "error_stderr", "solved")})
        .assign_coords(simulated_fraction=simulated("keep_fraction"))
        .assign_attrs(dim=sizes["dim"], draws=sizes["draws"])
    )
