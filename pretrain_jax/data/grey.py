"""Shows grey values of any range in 8 bits.

They are seen through a window, or between robust percentiles.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARES = (0.005, 0.995)  # of the values, where no window is given
WIDEST_WINDOW = 1e9
MOST_COUNTS = 1 << 16
BITS = 64
Values = NDArray[Any]
Counted = tuple[Values, NDArray[np.int64]]  # different values, and how often each occurs


def check_window(window: tuple[float, float] | None) -> None:
    """Check centre and width of a window of the kind LINEAR.

    Raises:
        ValueError: a width below 1 or above 1e9, or no finite number.
    """
    if window is not None and not (
        all(map(math.isfinite, window)) and 1 <= window[1] <= WIDEST_WINDOW
    ):
        raise ValueError(
            f"window = {window}: the centre must be a number, the width one from 1 to "
            f"{WIDEST_WINDOW:g}"
        )


def window_ends(centre: float, width: float) -> tuple[float, float]:
    """Return the values that a window of the kind LINEAR shows black and white.

    The formula is that of DICOM PS3.3, C.11.2.1.2.1.
    """
    return centre - width / 2, centre + width / 2 - 1


def ramp(values: Values, low: float, high: float) -> Values:
    """Map values from 0 at `low` to 1 at `high`.

    It is a step where they are equal.
    """
    if high == low:
        return np.where(values > low, 1.0, 0.0)
    return (values - low) / (high - low)


def to_bytes(shares: Values) -> NDArray[np.uint8]:
    """Round shares of white to 0 ... 255.

    What is beyond 0 and 1 is cut off.
    """
    return np.rint(np.clip(shares, 0.0, 1.0) * 255).astype(np.uint8)


def counted(values: Values) -> Counted:
    """Count how often each value occurs."""
    found, often = np.unique(values, return_counts=True)
    return found, often.astype(np.int64)


def robust_range(blocks: Callable[[], Iterable[Counted]]) -> tuple[float, float] | None:
    """Return the least values that 0.5% and 99.5% of all values do not exceed.

    They are exact, and are those of `np.percentile` with the method `inverted_cdf`. At most 65,536
    counts are held: where there are more different values, neighbours are counted together, and
    the values are read again for the neighbours that matter. Integers of 16 bits are read once,
    floating point mostly twice, and four times at worst.

    Args:
        blocks: gives all values, in pieces and each time anew; finite.

    Returns:
        None where there is no value.
    """
    whole = _Bucket(0, BITS)
    _fill(blocks, [whole])
    total = int(whole.counts.sum())
    if not total:
        return None
    found: dict[float, float] = {}
    wanted = {share: (whole, share * total) for share in SHARES}
    while wanted:
        narrower: dict[tuple[int, int], _Bucket] = {}
        for share, (bucket, rank) in list(wanted.items()):
            sums = np.cumsum(bucket.counts)
            place = int(np.searchsorted(sums, rank))
            key = int(bucket.keys[place])
            if not bucket.dropped:
                found[share] = _value(key)
                del wanted[share]
                continue
            below = float(sums[place - 1]) if place else 0.0
            own = narrower.setdefault((key, bucket.dropped), _Bucket(key, bucket.dropped))
            wanted[share] = (own, rank - below)
        if narrower:
            _fill(blocks, list(narrower.values()))
    low, high = (found[share] for share in SHARES)
    return low, high


@dataclass
class _Bucket:
    """Counts the keys whose bits above `shift` are `prefix`, without the last `dropped` bits."""

    prefix: int
    shift: int
    dropped: int = 0
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
        if self.shift < BITS:
            inside = keys >> np.uint64(self.shift) == np.uint64(self.prefix)
            keys, counts = keys[inside], counts[inside]
        self._merge(
            np.concatenate([self.keys, keys >> np.uint64(self.dropped)]),
            np.concatenate([self.counts, counts]),
        )
        while len(self.keys) > MOST_COUNTS:
            more = max(1, (len(self.keys) // MOST_COUNTS).bit_length() - 1)
            self.dropped += more
            self._merge(self.keys >> np.uint64(more), self.counts)

    def _merge(self, keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        self.keys = keys[first]
        self.counts = np.add.reduceat(counts[order], first) if len(first) else counts


def _fill(blocks: Callable[[], Iterable[Counted]], buckets: list[_Bucket]) -> None:
    for values, counts in blocks():
        keys = _keys(values)
        for bucket in buckets:
            bucket.add(keys, counts)


def _keys(values: Values) -> NDArray[np.uint64]:
    """Map numbers to whole numbers in the same order.

    They are the bits of float64, with those of negative numbers turned.
    """
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)  # with the sum -0 becomes 0
    top = np.uint64(1 << (BITS - 1))
    return np.where(bits & top, ~bits, bits | top)


def _value(key: int) -> float:
    top = 1 << (BITS - 1)
    bits = key ^ top if key & top else ~key & ((1 << BITS) - 1)
    return float(np.uint64(bits).view(np.float64))
