"""The shipped set: its parts share no voxel, nothing leaks, the trivial baselines are known."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pretrain_jax.segmentation import (
    SegmentationSet,
    Shipped,
    check_leakage,
    frames_of,
    read_case,
    read_segmentation,
    split,
    write_shipped_segmentation,
)
from pretrain_jax.segmentation import shipped as module
from pretrain_jax.segmentation.result import baselines


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return write_shipped_segmentation(tmp_path_factory.mktemp("shipped"), side=48)


@pytest.fixture(scope="module")
def parts(written: Shipped) -> tuple[SegmentationSet, SegmentationSet]:
    return split(read_segmentation(written.segmentation))


def test_the_parts(parts: tuple[SegmentationSet, SegmentationSet]) -> None:
    training, test = parts
    assert training.classes == ("background", "grey matter", "white matter")
    heights = [np.array([int(case.name[-3:]) for case in part.cases]) for part in parts]
    assert heights[1].min() == 30 and heights[1].max() == 68
    apart = np.abs(heights[0][:, None] - heights[1]).min()
    assert apart > module.GAP
    assert len(set(test.groups)) == 5
    for case in (training.cases[-9], test.cases[-1]):
        pixels, labels = read_case(training, case)
        assert pixels.shape == (48, 48, 3)
        assert set(np.unique(labels)) == {0, 1, 2}


def test_no_image_for_pretraining_shows_a_voxel_of_the_test_block(
    written: Shipped,
    parts: tuple[SegmentationSet, SegmentationSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With white noise in block and gap every image for pre-training stays as it was."""
    volume = module._read_volume()
    low, high = module.TEST_BLOCK
    spoiled = volume.intensity.copy()
    block = spoiled[low - module.GAP : high + module.GAP]
    block[:] = np.random.default_rng(0).integers(0, 256, block.shape)
    names = set()
    pairs = zip(
        module._pretraining(volume, 32),
        module._pretraining(volume._replace(intensity=spoiled), 32),
        strict=True,
    )
    for (name, pixels), (same, others) in pairs:
        assert name == same and np.array_equal(pixels, others)
        names.add(name.split("/")[0])
    assert names >= {"mni152-axial", "mni152-coronal", "mni152-sagittal", "retina", "ihc", "cell"}


def test_the_check_finds_no_leak(
    written: Shipped, parts: tuple[SegmentationSet, SegmentationSet]
) -> None:
    assert check_leakage(frames_of(written.pretraining), parts[1]) > 350


def test_the_trivial_baselines(parts: tuple[SegmentationSet, SegmentationSet]) -> None:
    """Template and tissue maps come from the same images: two thresholds nearly solve the task."""
    found = baselines(*parts, draws=2000, seed=0)
    assert 0.85 < found["threshold"].miou.value < 0.95
    # The background's share of the pixels over three classes.
    shares = [np.mean(read_case(parts[1], case)[1] == 0) for case in parts[1].cases]
    assert found["background"].miou.value == pytest.approx(np.mean(shares) / 3)
    assert found["background"].boundary_f.value == 0.0


def test_writing_again_changes_nothing(written: Shipped) -> None:
    root = written.segmentation.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert write_shipped_segmentation(root, side=48) == written
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} == before
    with pytest.raises(ValueError, match=r"side = 8 .*\[16, 197\]"):
        write_shipped_segmentation(Path("anywhere"), side=8)


def test_images_of_stardist(tmp_path: Path) -> None:
    """Files as the package has them; it need not be installed."""
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(tissue).save(tmp_path / "histo.jpg")
    nuclei = rng.integers(200, 900, (40, 50)).astype(np.uint16)
    nuclei[0, 0] = 60000
    tifffile.imwrite(tmp_path / "img2d.tif", nuclei)
    found = dict(module._stardist_images(tmp_path))
    assert found["histology"].shape == (20, 30, 3)
    assert found["nuclei"].shape == (40, 50) and found["nuclei"].dtype == np.uint8
    assert found["nuclei"].std() > 50
