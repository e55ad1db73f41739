"""Storage is counted in whole pixels: budgets are exact and never exceeded."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain_jax.synthesis.picking import Budget, fitting, group_pixels, pixel_budget


def test_ratios_are_the_decimals_that_were_written() -> None:
    """In binary 0.29 * 100 is 28.999...; the budget of 29 % of 100 pixels is 29."""
    for percent in range(1, 101):
        assert pixel_budget(percent / 100, 100) == percent
        assert (
            pixel_budget(percent / 100, 2_857_772 * 50_176) == 2_857_772 * 50_176 * percent // 100
        )
    for ratio in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="ratio = "):
            pixel_budget(ratio, 100)


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=40), group=st.integers(1, 6))
def test_images_of_patches(sizes: list[int], group: int) -> None:
    """Each whole group counts as its first patch's image."""
    groups = [sizes[k : k + group] for k in range(0, len(sizes), group)]
    expected = [one[0] for one in groups if len(one) == group]
    assert group_pixels(np.array(sizes), group).tolist() == expected


@given(ratio=st.decimals("0.0001", "1", places=4), pixels=st.integers(1, 10**13))
def test_the_budget_is_the_floor(ratio: float, pixels: int) -> None:
    budget = pixel_budget(float(ratio), pixels)
    assert 0 <= Fraction(str(ratio)) * pixels - budget < 1


@given(
    items=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=50),
    group=st.sampled_from([1, 4]),
    pixels=st.integers(1, 300),
    sizes=st.none() | st.integers(1, 80),
)
def test_items_one_after_another(
    items: list[tuple[int, int]], group: int, pixels: int, sizes: int | None
) -> None:
    """An item begins an image where that fits, joins the one that is begun, or is skipped."""
    images: list[list[int]] = []
    left = [pixels, 10**9 if sizes is None else sizes]
    for place, (area, size) in enumerate(items):
        if images and len(images[-1]) < group:
            images[-1].append(place)
        elif area <= left[0] and size <= left[1]:
            images.append([place])
            left = [left[0] - area, left[1] - size]
    expected = [place for image in images if len(image) == group for place in image]
    areas, bytes_ = np.array(items).T
    found = fitting(areas, bytes_, Budget(pixels, sizes), group)
    assert found.tolist() == expected


def test_millions_of_items_pass_by() -> None:
    """Sums of the first pass and of single looks agree; nothing that was skipped fits."""
    areas = np.random.default_rng(0).integers(1, 10_000, 1_000_000)
    most = int(areas.sum()) // 3
    kept = fitting(areas, None, Budget(most))
    left = most - int(areas[kept].sum())
    assert 0 <= left < np.delete(areas, kept).min()
