"""Robust percentiles in bounded memory are those of NumPy, which holds all values."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from pretrain_jax.data.grey import Counted, counted, robust_range

RNG = np.random.default_rng(5)
MANY = 300_000  # more different values than counts are held
CASES = {
    "integers": RNG.integers(-2000, 3000, 5000).astype(np.int16),
    "floats": RNG.normal(size=MANY),
    "single precision": RNG.normal(size=MANY).astype(np.float32),
    "around a large one": 1e9 + RNG.normal(size=MANY),
    "of all sizes": RNG.normal(size=MANY) * 10.0 ** RNG.integers(-300, 300, MANY),
    "one": np.array([-3.5]),
    "same": np.zeros(9),
    "zeros of both signs": np.array([-0.0, 0.0, -1.0]),
    "extremes": np.array([-1.7e308, 5e-324, 1.7e308]),
    "mostly one": np.concatenate([np.full(MANY, 7.0), RNG.normal(size=MANY // 2)]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("pieces", [1, 7])
def test_percentiles(name: str, pieces: int) -> None:
    values: NDArray[np.generic] = CASES[name]
    passes = []

    def blocks() -> Iterator[Counted]:
        passes.append(1)
        yield from map(counted, np.array_split(values, pieces))

    wanted = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    assert robust_range(blocks) == tuple(map(float, wanted))
    assert len(passes) <= (1 if len(values) < MANY else 4)


def test_nothing_has_no_range() -> None:
    assert robust_range(list) is None
    assert robust_range(lambda: [counted(np.empty(0))]) is None
