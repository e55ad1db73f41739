"""Each step of the mask generator against a second derivation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from pretrain_jax.models.sam.candidates import (
    Candidates,
    Measures,
    _best,
    measure,
    near_inner_edge,
    nms,
    work_off,
)
from pretrain_jax.models.sam.geometry import (
    bilinear,
    crops_of,
    inner_size,
    mask_operator,
    model_input,
    point_grid,
    unit_range,
)
from tests.pretrain_jax.sam import reference


@pytest.mark.parametrize("per_side", [1, 5, 32])
def test_grid(per_side: int) -> None:
    expected = [
        ((column + 0.5) / per_side, (row + 0.5) / per_side)
        for row in range(per_side)
        for column in range(per_side)
    ]
    np.testing.assert_allclose(point_grid(per_side), expected, rtol=1e-15)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (481, 333), (1080, 1920), (7, 50)])
def test_crops(height: int, width: int) -> None:
    ours = crops_of(height, width, 3, 512 / 1500)
    theirs = reference.crops(height, width, 3, 512 / 1500)
    assert [(crop[:4], crop.layer) for crop in ours] == theirs
    assert len(ours) == 1 + 4 + 16 + 64
    covered = np.zeros((3, height, width), bool)
    for crop in ours[1:]:
        covered[crop.layer - 1, crop.top : crop.bottom, crop.left : crop.right] = True
    assert covered.all()


def test_inner_size() -> None:
    """Published: the longer side becomes `side`, the other is rounded half up."""
    assert inner_size(1080, 1920, 1024) == (576, 1024)
    assert inner_size(1500, 1000, 1024) == (1024, 683)
    assert inner_size(2, 1, 5) == (5, 3)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (150, 61), (64, 64)])
def test_mask_operator(height: int, width: int) -> None:
    """Two interpolations and a cut between them, by SciPy, against one matrix an axis."""
    mask = np.random.default_rng(0).normal(size=(16, 16))
    inner = inner_size(height, width, 64)
    rows, columns = (
        mask_operator(16, 64, part, length)
        for part, length in zip(inner, (height, width), strict=True)
    )
    expected = reference.full_size(mask, 64, height, width)
    np.testing.assert_allclose(rows @ mask @ columns.T, expected, atol=1e-12)


def test_bilinear_of_one_sample() -> None:
    np.testing.assert_array_equal(bilinear(1, 3), np.ones((3, 1)))


@pytest.mark.parametrize("shape", [(90, 120), (31, 20)])
def test_model_input(shape: tuple[int, int]) -> None:
    """Against JAX's antialiased resize, and within a grey level of Pillow's of whole levels."""
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    ours = model_input(unit_range(image, 3), 64, mean, std)
    height, width = inner_size(*shape, 64)
    inside = ours[:height, :width] * np.array(std) + np.array(mean)
    resized = jax.image.resize(image / np.float32(255), (height, width, 3), "bilinear")
    np.testing.assert_allclose(inside, resized, atol=1e-5)
    levels = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    # Pillow rounds after each of the two axes.
    np.testing.assert_allclose(255 * inside, np.asarray(levels), atol=1.01)
    assert not ours[height:].any()
    assert not ours[:, width:].any()


def test_unit_range() -> None:
    deep = np.array([[0, 65535]], np.uint16)
    np.testing.assert_array_equal(unit_range(deep, 3), [[[0, 0, 0], [1, 1, 1]]])
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    np.testing.assert_allclose(unit_range(image, 3), image / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\); \(H, W\), \(H, W, 1\) or"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.full((4, 4), np.nan), "from nan to nan; floats lie"),
        (np.full((4, 4), 200.0), "from 200 to 200; floats lie"),
        (np.zeros((4, 4), int), "type int64"),
    ],
)
def test_bad_images(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unit_range(image, 3)


def test_measures() -> None:
    """Stability, area and box at the image's resolution; the canvas is larger than the image."""
    rng = np.random.default_rng(2)
    height, width, side = 37, 50, 64
    logits = rng.normal(size=(12, 16, 16))
    logits[0] = -5.0  # empty
    logits[1] = 5.0  # everything
    logits[2] = 0.5  # empty at the stricter threshold, all at the others
    logits[3:] -= np.linspace(0, 3, 9)[:, None, None]
    inner = inner_size(height, width, side)
    rows, columns = (
        np.pad(mask_operator(16, side, part, length), ((0, 64 - length), (0, 0)))
        for part, length in zip(inner, (height, width), strict=True)
    )
    with jax.enable_x64(True):
        args = (jnp.array(logits), rows, columns, np.array([height, width]), 0.2, np.array(0.7))
        found = jax.tree.map(np.asarray, jax.jit(measure)(*args))
    for index, mask in enumerate(logits):
        wide = reference.full_size(mask, side, height, width)
        assert found.area[index] == np.sum(wide > 0.2)
        assert found.stability[index] == pytest.approx(reference.stability(wide, 0.2, 0.7))
        assert tuple(found.boxes[index]) == reference.box_of(wide > 0.2)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms(threshold: float) -> None:
    """Against the greedy loop: equal scores, equal boxes, empty boxes, entries left out."""
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 30, (80, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 20, (80, 2))], axis=1)
    boxes[40:50] = boxes[:10]
    scores = rng.integers(0, 40, 80) / 8
    valid = rng.random(80) < 0.8
    order = [i for i in np.lexsort((np.arange(80), -scores)) if valid[i]]
    stayed = reference.greedy([tuple(box) for box in boxes], order, threshold)
    kept = jax.jit(nms)(boxes, jnp.asarray(scores, jnp.float32), valid, threshold)
    np.testing.assert_array_equal(np.flatnonzero(kept), sorted(stayed))


def test_nms_chain() -> None:
    """Each box suppresses the next: as many steps as boxes."""
    boxes = np.array([[step, 0, step + 10, 10] for step in range(0, 60, 2)])
    scores = -np.arange(30, dtype=np.float32)
    kept = jax.jit(nms)(boxes, scores, np.ones(30, bool), 0.5)
    # IoU of neighbours is 8/12, of next neighbours 6/14.
    np.testing.assert_array_equal(np.flatnonzero(kept), np.arange(0, 30, 2))


def test_crop_edges() -> None:
    rng = np.random.default_rng(4)
    crop, image = np.array([100, 50, 400, 300]), np.array([0, 0, 400, 500])
    corner = rng.integers(0, 250, (300, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 80, (300, 2))], axis=1)
    ours = near_inner_edge(jnp.asarray(boxes), crop, image)
    placed = boxes + np.tile(crop[:2], 2)
    theirs = [reference.cut_by_crop(tuple(box), tuple(crop), 400, 500) for box in placed]
    np.testing.assert_array_equal(ours, theirs)
    assert 0 < sum(theirs) < 300


@pytest.mark.parametrize("chosen", [0, 1, 5, 12])
def test_only_chosen_rows_are_worked_off(chosen: int) -> None:
    mask = np.zeros(12, bool)
    mask[np.random.default_rng(chosen).permutation(12)[:chosen]] = True
    rows = np.arange(12.0)
    out = jax.jit(lambda m, r: work_off(lambda x: (x + 1, 2 * x), m, r, 4))(mask, rows)
    # What fills the last chunk is worked off, too; a caller looks at chosen rows only.
    np.testing.assert_array_equal(out[0][mask], rows[mask] + 1)
    np.testing.assert_array_equal(out[1][mask], 2 * rows[mask])


@pytest.mark.parametrize("capacity", [4, 9, 40])
def test_best_across_batches(capacity: int) -> None:
    """The K best of all batches, whatever the order in which they come."""
    rng = np.random.default_rng(5)
    scores = rng.permutation(30).astype(np.float32)
    passes = rng.random(30) < 0.7

    def slots(iou: np.ndarray, kept: np.ndarray, point: np.ndarray, passed: int) -> Candidates:
        measures = Measures(iou, point, np.repeat(point[:, None], 4, axis=1))
        logits = np.tile(point[:, None, None], (1, 2, 2)).astype(np.float32)
        return Candidates(kept, iou, point, measures, logits, np.int32(passed))

    empty = np.full(capacity, -np.inf, np.float32)
    best = slots(empty, np.zeros(capacity, bool), np.zeros(capacity, np.int32), 0)
    step = jax.jit(_best)
    for start in range(0, 30, 6):
        part = np.arange(start, start + 6, dtype=np.int32)
        iou = np.where(passes[part], scores[part], -np.inf).astype(np.float32)
        best = step(best, slots(iou, passes[part], part, start))
    wanted = sorted(np.flatnonzero(passes), key=lambda i: -scores[i])[:capacity]
    held = np.asarray(best.point)[np.asarray(best.kept)]
    assert sorted(held) == sorted(wanted)
    for slot in np.flatnonzero(best.kept):
        point = int(best.point[slot])
        assert best.iou[slot] == scores[point]
        assert np.all(best.logits[slot] == point)
        assert np.all(best.measures.boxes[slot] == point)
