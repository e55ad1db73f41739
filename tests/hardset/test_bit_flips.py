"""A flipped bit in any file that the product writes is refused, mended, or changes nothing."""

from pathlib import Path

import pytest

from tests.hardset.bit_flips import KINDS, flip_bits

SLOW = {"checkpoint": 40, "masks": 60, "records": 60, "log": 60}


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_is_silent(tmp_path: Path, kind: str) -> None:
    count = SLOW.get(kind, 150)
    found = flip_bits(KINDS[kind](tmp_path), count, seed=1)
    assert not found.silent
    assert not found.worse
    assert found.refused + found.equal == count
