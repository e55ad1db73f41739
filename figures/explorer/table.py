"""Tabulates the theory's errors so that a page without a solver can show them.

The table has a line in alpha_total for each policy, angle and kept fraction. A line is a set of
positions, dense where the error falls steeply; between them log(error) is interpolated. Every cell
between two positions was solved at its midpoint, too, and was halved until the interpolant was
right there.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import load_array, npy_bytes
from hardset.cache import Cache
from hardset.datafile import write_bytes_atomic

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# (lines, positions) -> log errors, and the residuals of the solutions.
Solver = Callable[[Integers, Integers], tuple[Floats, Floats]]

POLICIES = ("hard", "random", "easy", "moderate", "hard-signed")
THETAS_DEG = (0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0)
FRACTIONS = (
    *(0.02, 0.023, 0.027, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.14),
    *(0.16, 0.18, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
ALPHAS = (0.2, 100.0)  # of distinct examples: alpha_total over the copies
KEPT_ALPHAS = (0.03, 100.0)  # of random selection, whose error depends on the kept examples alone
POINTS = 6  # of a piece of the interpolant
CELLS = 8  # of a line before any is halved
HALVINGS = 16  # at most; positions are numbered so that each has an integer
LAST = CELLS << HALVINGS
TOLERANCE = 3e-4  # of log(error) at the midpoint of a cell
SAFETY = 3.3  # the bound over the largest miss at a midpoint
RESIDUAL = 1e-8  # of both forms of the equations
CHECKS = 3  # more points of every line, at which the bound is tested
SEED = 7
RECORD = np.dtype([("line", "<i8"), ("position", "<i8"), ("log_error", "<f8"), ("residual", "<f8")])


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of one policy.

    Attributes:
        line: number of the line of each node, ascending: angle times fractions plus fraction.
        position: of each node along its line, 0 to LAST, ascending within a line.
        log_error: of each node.
        residual: the largest of all solutions.
        missed: the largest miss of log(error) at a midpoint that was accepted.
        tested: the largest miss of log(error) at places that are no nodes.
        solved: number of solutions.
    """

    line: Integers
    position: Integers
    log_error: Floats
    residual: float
    missed: float
    tested: float
    solved: int

    def nodes(self, line: int) -> tuple[Integers, Floats]:
        """Return the positions and values of one line."""
        low, high = np.searchsorted(self.line, [line, line + 1])
        return self.position[low:high], self.log_error[low:high]


@dataclasses.dataclass(frozen=True)
class Table:
    """The lines of all policies.

    Attributes:
        lines: by policy.
        bound: of the relative error of whatever the page shows.
    """

    lines: dict[str, Lines]
    bound: float

    def error(
        self, policy: str, alpha_total: float, theta_deg: float, keep_fraction: float
    ) -> float:
        """Interpolate one error.

        Args:
            policy: one of POLICIES.
            alpha_total: distinct examples over N, within ALPHAS.
            theta_deg: one of THETAS_DEG.
            keep_fraction: one of FRACTIONS.
        """
        if policy == "random":
            line, low, high = 0, *KEPT_ALPHAS
            alpha_total *= keep_fraction
        else:
            line = THETAS_DEG.index(theta_deg) * len(FRACTIONS) + FRACTIONS.index(keep_fraction)
            low, high = ALPHAS
        at = LAST * np.log(alpha_total / low) / np.log(high / low)
        return float(np.exp(interpolate(*self.lines[policy].nodes(line), at)[0]))


def interpolate(position: Integers, values: Floats, at: Any) -> Floats:
    """Interpolate by the polynomial through the POINTS nodes around each place.

    Args:
        position: of the nodes, ascending, POINTS or more.
        values: at the nodes.
        at: places, any number of them.
    """
    places = np.atleast_1d(np.asarray(at, np.float64))
    first = np.searchsorted(position, places) - POINTS // 2
    index = np.clip(first, 0, len(position) - POINTS)[:, None] + np.arange(POINTS)
    nodes = position[index].astype(np.float64)
    total = np.zeros(len(places))
    for k in range(POINTS):
        others = [j for j in range(POINTS) if j != k]
        factors = (places[:, None] - nodes[:, others]) / (nodes[:, [k]] - nodes[:, others])
        total += factors.prod(1) * values[index[:, k]]
    return total


def tabulate(count: int, solver: Solver, tolerance: float = TOLERANCE) -> Lines:
    """Choose the nodes of `count` lines, and check the interpolant between them.

    Args:
        count: number of lines.
        solver: gives the values.
        tolerance: of log(error) at the midpoint of each cell.

    Raises:
        ValueError: a line that CELLS cells, halved as often as allowed, do not resolve.
    """
    size = 1 << HALVINGS
    ends = np.arange(0, LAST + 1, size)
    value, residual = solver(np.repeat(np.arange(count), len(ends)), np.tile(ends, count))
    known = [dict(zip(ends.tolist(), part, strict=True)) for part in value.reshape(count, -1)]
    # The cells of each line, by their starts and by their ends.
    starts = [dict.fromkeys(ends[:-1].tolist(), size) for _ in range(count)]
    stops = [{start + size: start for start in ends[:-1].tolist()} for _ in range(count)]
    worst, missed = float(residual.max()), 0.0
    waiting = {(i, start, size) for i in range(count) for start in starts[i]}
    while waiting:
        cells = sorted(waiting)
        lines = np.array([line for line, _, _ in cells])
        middles = np.array([start + size // 2 for _, start, size in cells])
        value, residual = solver(lines, middles)
        worst = max(worst, float(residual.max()))
        wrong = np.empty(len(cells))
        for i in np.unique(lines):
            mine = lines == i
            place = np.array(sorted(known[i]))
            expected = interpolate(place, np.array([known[i][k] for k in place]), middles[mine])
            wrong[mine] = np.abs(expected - value[mine])
        failed = []
        for (i, start, size), middle, one, gap in zip(cells, middles, value, wrong, strict=True):
            half = size // 2
            known[i][int(middle)] = float(one)
            starts[i][start] = starts[i][start + half] = half
            stops[i][start + half], stops[i][start + size] = start, start + half
            if gap <= tolerance:
                missed = max(missed, float(gap))
            elif half < 2:
                raise ValueError(f"line {i} is not resolved at position {middle} of {LAST}")
            else:
                failed.append((i, start, size))
        # A midpoint may be right by chance beside one that is wrong, so the halves next to those of
        # a wrong cell are checked, too.
        waiting = set()
        for i, start, size in failed:
            half = size // 2
            waiting |= {(i, start, half), (i, start + half, half)}
            for first in (stops[i].get(start), start + size):
                if first is not None and starts[i].get(first, 0) >= half:
                    waiting.add((i, first, starts[i][first]))
        # The neighbours of a cell that is checked are no larger than it, so that no polynomial
        # reaches across a steep place from far outside.
        growing = list(waiting)
        while growing:
            i, start, size = growing.pop()
            for first in (stops[i].get(start), start + size):
                if first is not None and starts[i].get(first, 0) > size:
                    cell = (i, first, starts[i][first])
                    if cell not in waiting:
                        waiting.add(cell)
                        growing.append(cell)
    places = [np.array(sorted(one)) for one in known]
    lines = np.repeat(np.arange(count), [len(one) for one in places])
    found = Lines(
        line=lines,
        position=np.concatenate(places),
        log_error=np.concatenate(
            [[known[i][k] for k in one.tolist()] for i, one in enumerate(places)]
        ),
        residual=worst,
        missed=missed,
        tested=0.0,
        solved=len(lines),
    )
    return _tested(found, count, solver)


def _tested(found: Lines, count: int, solver: Solver) -> Lines:
    """Compare with the solver at CHECKS places of every line."""
    rng = np.random.default_rng(SEED)
    lines = np.repeat(np.arange(count), CHECKS)
    places = []
    for i in range(count):
        ends, _ = found.nodes(i)
        cell = rng.integers(len(ends) - 1, size=CHECKS)
        places.append(ends[cell] + (rng.random(CHECKS) * (ends[cell + 1] - ends[cell])).astype(int))
    value, residual = solver(lines, np.concatenate(places))
    gaps = [
        np.abs(interpolate(*found.nodes(i), place) - value[lines == i]).max()
        for i, place in enumerate(places)
    ]
    return dataclasses.replace(
        found,
        residual=max(found.residual, float(residual.max())),
        tested=float(max(gaps)),
        solved=found.solved + len(lines),
    )


def solver_of(policy: str) -> tuple[int, Solver]:
    """Return the number of a policy's lines and the solver of its errors.

    The solver raises ValueError where a solution is not certified.
    """
    import replica
    from theory.policies import policy_from_name
    from theory.problem import FixedAngle, PerceptronProblem

    random = policy == "random"
    low, high = KEPT_ALPHAS if random else ALPHAS

    def solver(line: Integers, position: Integers) -> tuple[Floats, Floats]:
        alpha = low * (high / low) ** (position / LAST)
        angle, kept = np.divmod(line, len(FRACTIONS))
        found = replica.solve(
            PerceptronProblem(
                alpha_total=alpha,
                keep_fraction=1.0 if random else np.array(FRACTIONS)[kept],
                probe=FixedAngle.degrees(0.0 if random else np.array(THETAS_DEG)[angle]),
                policy=policy_from_name(policy),
            )
        )
        status, residual = np.asarray(found.status), np.asarray(found.residual)
        bad = np.flatnonzero((status != replica.Status.CONVERGED) | ~(residual <= RESIDUAL))
        if bad.size:
            first = bad[0]
            raise ValueError(
                f"{bad.size} of {len(line)} solutions of the policy {policy!r} are not certified, "
                f"first that of alpha_total = {alpha[first]:g}: "
                f"{replica.Status(int(status[first])).sentence} Its residual is "
                f"{residual[first]:.1e}, at most {RESIDUAL:g} is allowed"
            )
        return np.log(np.asarray(found.error)), residual

    return (1 if random else len(THETAS_DEG) * len(FRACTIONS)), solver


def build(folder: Path | None = None, policies: Sequence[str] = POLICIES) -> Table:
    """Tabulate the policies, or read what was tabulated before from the same sources.

    Args:
        folder: where tables are kept; None keeps none.
        policies: those of the table.

    Raises:
        ValueError: a solution that is not certified, a line that cells do not resolve, or an
            interpolant that misses the bound at one of the points that test it.
    """
    cache = Cache(folder, ".npy", _read, _write, "free it, or name another") if folder else None
    lines = {}
    for policy in policies:
        key = _key(policy)
        found = cache.load(key) if cache else None
        if found is None:
            found = tabulate(*solver_of(policy))
            if cache:
                cache.store(key, found)
        lines[policy] = found
    return certified(lines)


def certified(lines: dict[str, Lines]) -> Table:
    """Bound the interpolants' error, and check the bound where it was tested.

    Raises:
        ValueError: it does not.
    """
    missed = max(one.missed for one in lines.values())
    # Nodes are written in single precision.
    rounding = max(float(np.abs(one.log_error).max()) for one in lines.values()) * 2.0**-23
    bound = float(np.expm1(SAFETY * missed + rounding))
    for policy, one in lines.items():
        if np.expm1(one.tested) > bound:
            raise ValueError(
                f"the interpolated errors of the policy {policy!r} miss those of the solver by "
                f"{one.tested:.1e}, more than the bound {bound:.1e}: lower TOLERANCE"
            )
    return Table(lines, bound)


def _key(policy: str) -> str:
    """Digest all that a policy's lines are made from: the settings and the solver's sources."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    sources = [*root.glob("replica/**/*.py"), *root.glob("theory/**/*.py"), Path(__file__)]
    for path in sorted(sources):
        digest.update(path.read_bytes())
    digest.update(json.dumps([policy, np.__version__]).encode())
    return digest.hexdigest()


def _write(path: Path, lines: Lines) -> None:
    """Write the nodes, and the numbers about all of them as further records."""
    table = np.zeros(len(lines.line) + 2, RECORD)
    for name in ("line", "position", "log_error"):
        table[name][2:] = getattr(lines, name)
    table[0] = (lines.solved, 0, lines.missed, lines.residual)
    table[1] = (0, 0, lines.tested, 0.0)
    write_bytes_atomic(path, npy_bytes(table))


def _read(path: Path) -> Lines | None:
    table = load_array(path)
    if table.dtype != RECORD or table.ndim != 1 or len(table) < 2 + POINTS:
        return None
    about, tested, nodes = table[0], table[1], table[2:]
    return Lines(
        line=nodes["line"].copy(),
        position=nodes["position"].copy(),
        log_error=nodes["log_error"].copy(),
        residual=float(about["residual"]),
        missed=float(about["log_error"]),
        tested=float(tested["log_error"]),
        solved=int(about["line"]),
    )
