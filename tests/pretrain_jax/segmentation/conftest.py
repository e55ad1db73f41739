"""The pictures that several files fine-tune on."""

import pytest

from pretrain_jax.segmentation import SegmentationSet
from tests.pretrain_jax.segmentation.rectangles import write_set


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> SegmentationSet:
    return write_set(tmp_path_factory.mktemp("set"))
