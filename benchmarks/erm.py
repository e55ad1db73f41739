"""Regularised students: ours against other solvers on the same problems, in one run.

    python benchmarks/erm.py [--batch 50] [--lam 0.1] [--cases 200:400,200:4000]

Ours solves a batch in one call. Peers solve one problem after the other, until they have used two
seconds; those that are not installed are left out:
    pip install scikit-learn piqp
Milliseconds a problem are medians of processor time on one thread, so that other work on the
machine changes little; all solvers are called once before. "excess" is how far a solver's objective
stays above the certified one, relative to it: a peer whose excess is above 1e-6 has failed and does
not count as the best. "gradient" is the norm of the gradient over lam N norm(W), which ours brings
below 1e-10 for smooth losses. The libraries' own threads are set to one before they are loaded.
"""

import argparse
import importlib.util
import os
import time
import warnings
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from sims.erm.solver import erm  # noqa: E402

Floats = NDArray[np.float64]
# A peer takes features, labels and lam N, and returns weights.
Peer = Callable[[Floats, Floats, float], Floats]

SECONDS_PER_PEER = 2.0
REPEATS = 5
FAILED = 1e-6
GOAL = 2.0
NOISE = 0.1


def by_logistic_regression(solver: str) -> Peer:
    """Scikit-learn's LogisticRegression with one of its solvers."""

    def solve(x: Floats, y: Floats, ridge: float) -> Floats:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(
            C=1 / ridge, solver=solver, fit_intercept=False, tol=1e-8, max_iter=10_000
        )
        return np.asarray(model.fit(x, y).coef_[0])

    return solve


def by_linear_svc(loss: str) -> Peer:
    """Scikit-learn's LinearSVC, liblinear's coordinate descent on the dual."""

    def solve(x: Floats, y: Floats, ridge: float) -> Floats:
        from sklearn.svm import LinearSVC

        strength = 1 / ridge if loss == "hinge" else 0.5 / ridge
        model = LinearSVC(
            C=strength, loss=loss, dual=True, fit_intercept=False, tol=1e-6, max_iter=20_000
        )
        return np.asarray(model.fit(x, y).coef_[0])

    return solve


def by_ridge(x: Floats, y: Floats, ridge: float) -> Floats:
    """Scikit-learn's Ridge by Cholesky."""
    from sklearn.linear_model import Ridge

    return np.asarray(Ridge(alpha=ridge, fit_intercept=False, solver="cholesky").fit(x, y).coef_)


def by_daqp(x: Floats, y: Floats, ridge: float) -> Floats:
    """DAQP on the primal, with a shortfall for each row."""
    import daqp

    count, dim = x.shape
    # DAQP needs a definite matrix: this much curvature of the shortfalls moves the objective less
    # than a failure does.
    matrix = np.diag(np.r_[np.full(dim, ridge), np.full(count, 1e-8)])
    rows = np.hstack([y[:, None] * x, np.eye(count)])
    low = np.r_[np.full(dim, -1e30), np.zeros(count), np.ones(count)]
    size = dim + 2 * count
    answer = daqp.solve(
        matrix,
        np.r_[np.zeros(dim), np.ones(count)],
        rows,
        np.full(size, 1e30),
        low,
        np.zeros(size, np.int32),
    )
    return np.asarray(answer[0][:dim])


def by_piqp(x: Floats, y: Floats, ridge: float) -> Floats:
    """PIQP on the primal, dense, with a shortfall for each row."""
    import piqp

    count, dim = x.shape
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-10
    matrix = np.diag(np.r_[np.full(dim, ridge), np.zeros(count)])
    rows = np.hstack([y[:, None] * x, np.eye(count)])
    low = np.r_[np.full(dim, -np.inf), np.zeros(count)]
    cost = np.r_[np.zeros(dim), np.ones(count)]
    solver.setup(matrix, cost, None, None, rows, np.ones(count), None, low, None)
    solver.solve()
    return np.asarray(solver.result.x[:dim])


PEERS: dict[str, dict[str, tuple[str, Peer]]] = {
    "logistic": {
        name: ("sklearn", by_logistic_regression(name))
        for name in ("lbfgs", "newton-cholesky", "liblinear")
    },
    "hinge": {
        "liblinear": ("sklearn", by_linear_svc("hinge")),
        "DAQP": ("daqp", by_daqp),
        "PIQP": ("piqp", by_piqp),
    },
    "squared-hinge": {"liblinear": ("sklearn", by_linear_svc("squared_hinge"))},
    "square": {"Ridge": ("sklearn", by_ridge)},
}
# A dense program in N + P variables takes minutes beyond.
DENSE_ROWS = 1000


def objective(loss: str, x: Floats, y: Floats, ridge: float, weights: Floats) -> float:
    """The objective by its definition."""
    t = y * (x @ weights)
    short = np.maximum(1 - t, 0)
    losses = {
        "logistic": np.logaddexp(0, -t),
        "hinge": short,
        "squared-hinge": short**2 / 2,
        "square": (1 - t) ** 2 / 2,
    }[loss]
    return float(np.sum(losses) + ridge / 2 * weights @ weights)


def relative_gradient(loss: str, x: Floats, y: Floats, ridge: float, weights: Floats) -> float:
    """The norm of a smooth loss's gradient over that of the ridge's, by its definition."""
    t = y * (x @ weights)
    slopes = {
        "logistic": -1 / (1 + np.exp(t)),
        "squared-hinge": -np.maximum(1 - t, 0),
        "square": t - 1,
    }[loss]
    pull = (slopes * y) @ x
    return float(np.linalg.norm(pull + ridge * weights) / (ridge * np.linalg.norm(weights)))


def problems(dim: int, count: int, batch: int) -> tuple[Floats, Floats]:
    """Gaussian rows with the labels of a teacher, a tenth of them wrong."""
    draws = np.random.default_rng(0)
    x = draws.standard_normal((batch, count, dim))
    y = np.sign(x[:, :, 0]) * np.where(draws.random((batch, count)) < NOISE, -1.0, 1.0)
    return x, y


def compare(loss: str, dim: int, count: int, batch: int, lam: float) -> None:
    """Time one loss on one batch, and print a line for each solver."""
    x, y = problems(dim, count, batch)
    erm(x, y, loss=loss, lam=lam)
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        found = erm(x, y, loss=loss, lam=lam)
        spent.append((time.process_time() - start) / batch)
    own = float(np.median(spent))
    worst = float(np.max(found.certificate))
    print(f"{loss}, N = {dim}, P = {count}, lam = {lam:g}, batch of {batch}")
    print(f"  {'ours':<16}{1e3 * own:>10.2f} ms   certificate {worst:.1e}", flush=True)
    best = np.inf
    for name, (module, solve) in PEERS[loss].items():
        if importlib.util.find_spec(module) is None:
            print(f"  {name:<16} not installed")
            continue
        if name in ("DAQP", "PIQP") and count > DENSE_ROWS:
            print(f"  {name:<16} left out beyond {DENSE_ROWS} rows")
            continue
        solve(x[0], y[0], lam * dim)
        times: list[float] = []
        excess = gradient = 0.0
        for lane in range(batch):
            start = time.process_time()
            weights = solve(x[lane], y[lane], lam * dim)
            times.append(time.process_time() - start)
            reached = objective(loss, x[lane], y[lane], lam * dim, weights)
            excess = max(excess, reached / float(found.objective[lane]) - 1)
            if loss != "hinge":
                here = relative_gradient(loss, x[lane], y[lane], lam * dim, weights)
                gradient = max(gradient, here)
            if sum(times) > SECONDS_PER_PEER:
                break
        each = float(np.median(times))
        failed = "" if excess <= FAILED else "  failed"
        best = best if failed else min(best, each)
        reached_gradient = "" if loss == "hinge" else f"  gradient {gradient:.1e}"
        print(
            f"  {name:<16}{1e3 * each:>10.2f} ms   excess {excess:.1e}{reached_gradient}{failed}",
            flush=True,
        )
    if np.isfinite(best):
        print(f"  best peer / ours {best / own:.2f}, goal {GOAL:g}", flush=True)


def main() -> None:
    """Compare all losses on all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--lam", type=float, default=0.1)
    parser.add_argument("--cases", default="200:400,200:4000", help="N:P,...")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for case in options.cases.split(","):
        dim, count = map(int, case.split(":"))
        for loss in PEERS:
            compare(loss, dim, count, options.batch, options.lam)


if __name__ == "__main__":
    main()
