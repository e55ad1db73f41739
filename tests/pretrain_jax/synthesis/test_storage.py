"""Storage is counted in whole pixels: budgets are exact and never exceeded."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain_jax.synthesis.storage import group_pixels, pixel_budget


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
