"""The device itself, and pieces of theory, simulation and neighbours."""

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from pieces.common import (
    SIZES,
    Record,
    Sizes,
    first_line,
    on_processor,
    processor_name,
    timed,
)

KEEP_FRACTION = 0.2
BRACKET = 1e-10
MARGINS = 1e-9  # relative, between two certified solvers
THEORY = 1e-9
LANES = 8
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
REFERENCE = Path(__file__).resolve().parents[2] / "tests/reference/replica_points.json"


def device(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """What is there, and how fast it multiplies and copies."""
    import jax
    import jax.numpy as jnp

    there = jax.devices()[0]
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    yield {
        "kind": there.device_kind if there.platform != "cpu" else processor_name(),
        "platform": there.platform,
        "devices": len(jax.devices()),
        "processors": len(os.sched_getaffinity(0)),
        "versions": versions | {"python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
    }
    if there.platform == "cpu":
        sizes = SIZES["toy"]
    side = sizes.product
    for name, dtype in (("bfloat16", jnp.bfloat16), ("float32", None), ("float64", None)):
        with jax.enable_x64(True):
            kind = dtype or jnp.dtype(name)
            keys = jax.random.split(jax.random.key(0))
            left, right = (jax.random.normal(key, (side, side), kind) for key in keys)
            multiply = jax.jit(jnp.matmul)
            _, seconds = timed(lambda m=multiply, a=left, b=right: m(a, b).block_until_ready())
        yield {"part": f"product, {name}", "tflops": 2 * side**3 / seconds / 1e12, "side": side}
    numbers = jax.random.normal(jax.random.key(0), (sizes.copied,), jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    _, seconds = timed(lambda: copy(numbers).block_until_ready())
    yield {"part": "copy", "gigabytes_per_s": 8 * sizes.copied / seconds / 1e9}


def theory_grid(shape: tuple[int, int, int]) -> Any:
    """Hard selection over alpha_total, fraction and angle."""
    from theory import PerceptronProblem

    return PerceptronProblem.grid(
        alpha_total=np.geomspace(0.5, 500, shape[0]),
        keep_fraction=np.geomspace(0.01, 1, shape[1]),
        theta=np.deg2rad(np.linspace(0, 45, shape[2])),
    )


def vmapped_theory(*columns: np.ndarray) -> Callable[[], Any]:
    """A compiled call for errors and statuses of points (alpha, f, theta) side by side."""
    import jax

    import replica
    from theory import FixedAngle, PerceptronProblem

    def one(alpha: Any, fraction: Any, theta: Any) -> Any:
        solution = replica.solve(PerceptronProblem(alpha, fraction, FixedAngle(theta)))
        return solution.error, solution.status

    with jax.enable_x64(True):
        compiled = jax.jit(jax.vmap(one)).lower(*columns).compile()

    def call() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(compiled(*columns))

    return call


def agree_replica(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """The theory against another solver's points of twelve digits, by two compiled programs."""
    import replica
    from theory import FixedAngle, PerceptronProblem

    points = [p for p in json.loads(REFERENCE.read_text()) if p["policy"] == "hard"]
    alpha, fraction, degrees, expected = (
        np.array([point[key] for point in points], float)
        for key in ("alpha_total", "keep_fraction", "theta_deg", "error")
    )
    theta = np.deg2rad(degrees)
    found = replica.solve(PerceptronProblem(alpha, fraction, FixedAngle(theta)))
    residual = float(max(found.residual_saddle.max(), found.residual_gordon.max()))
    # One lane after the other, and all of them side by side.
    errors, status = vmapped_theory(alpha, fraction, theta)()
    for part, values, failed in (
        ("grid", found.error, int(found.failed)),
        ("vmap", np.asarray(errors), int(np.sum(np.asarray(status) != 0))),
    ):
        difference = float(np.max(np.abs(values / expected - 1)))
        yield {
            "part": part,
            "points": len(points),
            "largest_difference": difference,
            "not_certified": failed,
            "met": difference <= THEORY and failed == 0,
        } | ({"residual": residual} if part == "grid" else {})


def draw_rows(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Label-signed rows (lanes, P, N) that hard selection keeps at theta = 0."""
    from scipy.special import ndtri

    lanes, count, _ = shape
    # The kept margins are the smallest KEEP_FRACTION of a half normal.
    uniform = rng.uniform(0, KEEP_FRACTION, (lanes, count))
    rows = rng.standard_normal(shape)
    rows[:, :, 0] = ndtri(0.5 + uniform / 2)
    return rows


def agree_maxmargin(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """The compiled solver's certificates, and its margins beside LAPACK's."""
    import jax

    from sims import max_margin
    from sims.maxmargin.lanes import solve_native

    for dim, count in sizes.cases[:2]:
        rows = draw_rows(np.random.default_rng(count), (LANES, count, dim))
        with jax.enable_x64(True):
            found = jax.jit(jax.vmap(max_margin))(rows)
        with on_processor():
            expected = solve_native([(matrix, np.arange(count)) for matrix in rows])
        margins = np.array([one.margin for one in expected])
        bracket = float(np.max(found.bracket))
        error = float(np.max(np.abs(np.asarray(found.margin) / margins - 1)))
        yield {
            "part": f"N = {dim}, P = {count}",
            "bracket": bracket,
            "bracket_lapack": max(one.bracket for one in expected),
            "largest_difference": error,
            "met": bracket <= BRACKET and error <= MARGINS,
        }


def qp(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Certified quadratic programs a second by the compiled solver, many in a call."""
    import jax
    import jax.numpy as jnp

    from sims import max_margin

    with jax.enable_x64(True):

        @jax.jit
        def draw(key: Any, like: Any) -> Any:
            first, second = jax.random.split(key)
            uniform = jax.random.uniform(first, like.shape[:2], maxval=KEEP_FRACTION)
            margins = jax.scipy.special.ndtri(0.5 + uniform / 2)
            return jax.random.normal(second, like.shape).at[:, :, 0].set(margins)

        solve = jax.jit(jax.vmap(max_margin))
        for dim, count in sizes.cases:
            for lanes in sizes.lanes:
                case = f"N = {dim}, P = {count}"
                part = {"part": f"{case}, batch {lanes}", "case": case}
                try:
                    like = jax.ShapeDtypeStruct((lanes, count, dim), jnp.float64)
                    rows = draw(jax.random.key(count), jnp.zeros(like.shape))
                    first, seconds = timed(lambda r=rows: jax.block_until_ready(solve(r)), 2)
                    bracket = np.asarray(solve(rows).bracket)
                except jax.errors.JaxRuntimeError as error:
                    # Mostly memory; the other cases may still fit.
                    yield part | {"status": "failed", "why": first_line(error)}
                    continue
                solved = int(np.sum(bracket <= BRACKET))
                yield part | {
                    "rate": lanes / seconds,
                    "unit": "problems/s",
                    "compile_s": first - seconds,
                    "largest_bracket": float(np.max(bracket)),
                    "certified": solved / lanes,
                    "met": solved == lanes,
                }


def processor_rate(task: tuple[int, int, int, int]) -> float:
    """Problems a second of one process, by the code that sweeps call."""
    from sims.machine import one_blas_thread
    from sims.maxmargin.lanes import solve_native

    dim, count, problems, seed = task
    rows = draw_rows(np.random.default_rng(seed), (problems, count, dim))
    batch = [(matrix, np.arange(count)) for matrix in rows]
    with one_blas_thread():
        solve_native(batch[:1])
        start = time.perf_counter()
        solve_native(batch)
        return problems / (time.perf_counter() - start)


def qp_processor(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """The same problems by all processors of this machine, a process each."""
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for dim, count in sizes.cases:
            tasks = [(dim, count, sizes.each, seed) for seed in range(workers)]
            rates = list(pool.map(processor_rate, tasks))
            yield {
                "part": f"N = {dim}, P = {count}",
                "rate": sum(rates),
                "unit": "problems/s",
                "processes": workers,
            }


def theory(sizes: Sizes, shared: Path, processor: bool = False) -> Iterator[Record]:
    """Certified points of the theory a second: a grid as users call it, and lanes under vmap."""
    import replica

    grid = theory_grid(sizes.grid_processor if processor else sizes.grid)
    first, seconds = timed(lambda: replica.solve(grid), 2)
    count = int(np.prod(grid.shape))
    yield {
        "part": "grid",
        "points": count,
        "rate": count / seconds,
        "unit": "points/s",
        "compile_s": first - seconds,
    }
    if processor:
        return
    rng = np.random.default_rng(0)
    columns = (
        np.exp(rng.uniform(np.log(0.5), np.log(500), sizes.points)),
        np.exp(rng.uniform(np.log(0.01), 0.0, sizes.points)),
        rng.uniform(0, np.pi / 4, sizes.points),
    )
    start = time.perf_counter()
    call = vmapped_theory(*columns)
    compiling = time.perf_counter() - start
    _, seconds = timed(call, 2)
    failed = int(np.sum(np.asarray(call()[1]) != 0))
    yield {
        "part": "vmap",
        "points": sizes.points,
        "rate": sizes.points / seconds,
        "unit": "points/s",
        "compile_s": compiling,
        "not_certified": failed,
    }


def knn(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Exact neighbours of every point, checked on some of them."""
    from selection.graph import accelerator_neighbours

    count, dim = sizes.rows
    rows = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
    first, seconds = timed(lambda: accelerator_neighbours(rows, 5, True), 1)
    found, _ = accelerator_neighbours(rows, 5, True)
    sample = np.random.default_rng(1).choice(count, 50, replace=False)
    wide = rows.astype(np.float64)
    recall = 0.0
    for row in sample:
        distances = np.sum((wide - wide[row]) ** 2, axis=1)
        distances[row] = np.inf
        recall += len(set(np.argpartition(distances, 5)[:5]) & set(found[row])) / 5 / len(sample)
    yield {
        "part": f"{count} x {dim}, k = 5",
        "rate": count / seconds,
        "unit": "points/s",
        "search_s": seconds,
        "compile_s": first - seconds,
        "recall": recall,
        "model_tflops": 2 * count**2 * dim / seconds / 1e12,
        "met": recall >= 0.99,
    }
