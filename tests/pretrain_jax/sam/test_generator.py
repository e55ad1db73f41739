"""The automatic mask generator against a second derivation, end to end."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.sam import SAM, GeneratorConfig, ImageMasks, MaskGenerator
from pretrain_jax.models.sam.candidates import Candidates, Frame, Limits, find_candidates
from pretrain_jax.models.sam.geometry import model_input, unit_range
from tests.pretrain_jax.sam.comparison import assert_same, at_quantiles
from tests.pretrain_jax.sam.models import SMALL, random_model
from tests.pretrain_jax.sam.reference import Prompted, generate, greedy
from tests.pretrain_jax.sam.test_regions import flooded

pytestmark = pytest.mark.usefixtures("lightly_compiled")

SIDE = SMALL.image_size
SETTINGS = GeneratorConfig(
    points_per_side=10, points_per_batch=40, crop_points_downscale=2, chunk=7, capacity=256
)


def prompted_by(model: SAM, settings: GeneratorConfig) -> Prompted:
    """The model's answers to single points, without the generator."""
    graph, state = nnx.split(model)

    @jax.jit
    def answer(pixels: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, state)
        output = model(pixels[None], points[None, :, None], jnp.ones((1, len(points), 1), int))
        return output.masks[0], output.iou[0]

    def prompted(part: NDArray, points: NDArray) -> tuple[NDArray, NDArray]:
        pixels = model_input(unit_range(part, 3), SIDE, settings.mean, settings.std)
        # One compiled program for every number of points.
        padded = np.zeros((settings.points_per_side**2, 2), np.float32)
        padded[: len(points)] = points
        masks, iou = answer(pixels, padded)
        return np.asarray(masks)[: len(points)], np.asarray(iou)[: len(points)]

    return prompted


def seen(height: int, width: int) -> tuple[SAM, NDArray]:
    """A model and an image."""
    image = np.random.default_rng(height).random((height, width, 3)).astype(np.float32)
    return random_model(SMALL, 0), image


def test_crops_and_areas() -> None:
    """Two layers of crops, a last batch that is not full, masks too large or too small."""
    model, image = seen(70, 100)
    settings = dataclasses.replace(SETTINGS, crop_layers=1)
    prompted = prompted_by(model, settings)
    settings = at_quantiles(prompted, image, SIDE, settings)
    settings = dataclasses.replace(settings, min_area=0.0002, max_area=0.01)
    theirs = generate(image, prompted, SIDE, settings)
    generator = MaskGenerator(model, settings)
    ours = generator(image)
    assert_same(ours, theirs, settings.mask_threshold, least=20)
    clean_regions(generator, image, ours)
    assert {mask.crop for mask in theirs} > {(0, 0, 100, 70)}
    area = ours.masks.mean(axis=(1, 2))
    assert area.min() >= 0.0002
    assert area.max() <= 0.01
    for mask, (left, top, right, bottom) in zip(ours.masks, ours.boxes, strict=True):
        assert mask[top:bottom, left:right].sum() == mask.sum()


def clean_regions(generator: MaskGenerator, image: NDArray, raw: ImageMasks) -> None:
    """Masks without small regions are what a flood fill and a greedy loop make of the raw ones."""
    generator.config = dataclasses.replace(generator.config, min_region=9)
    clean = generator(image)
    expected = np.stack([flooded(mask, 9) for mask in raw.masks])
    changed = (expected != raw.masks).any(axis=(1, 2))
    assert 0 < changed.sum() < len(changed)
    boxes = []
    for mask in expected:
        rows, columns = np.nonzero(mask)
        boxes.append((columns.min(), rows.min(), columns.max(), rows.max()))
    order = sorted(range(len(boxes)), key=lambda i: (changed[i], -raw.iou[i]))
    kept = sorted(greedy([boxes[i] for i in order], list(range(len(order))), 0.7))
    chosen = sorted((order[i] for i in kept), key=lambda i: -raw.iou[i])
    np.testing.assert_array_equal(clean.masks, expected[chosen])
    np.testing.assert_array_equal(clean.iou, raw.iou[chosen])
    ends = np.array([boxes[i] for i in chosen]) + np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(clean.boxes, ends)


def test_full_capacity_keeps_the_best_and_says_so() -> None:
    model, image = seen(50, 50)
    prompted = prompted_by(model, SETTINGS)
    settings = dataclasses.replace(at_quantiles(prompted, image, SIDE, SETTINGS), capacity=30)
    passed = generate(image, prompted, SIDE, dataclasses.replace(settings, box_nms_threshold=1.0))
    assert len(passed) > 60
    boxes = [mask.box for mask in passed[:30]]
    kept = greedy(boxes, list(range(30)), settings.box_nms_threshold)
    generator = MaskGenerator(model, settings)
    with pytest.warns(UserWarning, match="only the 30 of highest predicted IoU were kept"):
        ours = generator(image)
    assert_same(ours, [passed[index] for index in kept], settings.mask_threshold, least=2)
    # Nothing passes: empty arrays of the right shapes, by the same program.
    nothing = MaskGenerator(model, dataclasses.replace(settings, iou_threshold=1e6))
    nothing._find = generator._find
    empty = nothing(image)
    assert empty.masks.shape == (0, 50, 50)
    assert empty.boxes.shape == (0, 4)


def test_types_do_not_follow_the_global_setting() -> None:
    """The program is the same where double precision is switched on."""
    arrays = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((SIDE, SIDE, 3), np.float32),
            ((2, 8, 2), np.float32),
            ((2, 8), bool),
        )
    ]
    operator, four = (jax.ShapeDtypeStruct(s, np.float32) for s in ((128, SIDE), (4,)))
    frame = Frame(operator, operator, four, four)
    limits = Limits(*[jax.ShapeDtypeStruct((), np.float32)] * 7)
    sizes = {"capacity": 10, "chunk": 4, "mask_chunk": 6}
    types = []
    for double in (False, True):
        with jax.enable_x64(double):
            graph, state = nnx.split(nnx.eval_shape(lambda: SAM(SMALL, rngs=nnx.Rngs(0))))

            def find(state: nnx.State, *rest: Any, graph: Any = graph) -> Candidates:
                return find_candidates(nnx.merge(graph, state), *rest, **sizes)

            types.append(jax.eval_shape(find, state, *arrays, frame, limits))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), types[0]) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), types[1]
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points_per_side": 0}, r"points_per_side = 0 is outside the valid range \[1, 1024\]"),
        ({"stability_threshold": 1.5}, r"stability_threshold = 1.5 is outside"),
        ({"min_area": 0.5, "max_area": 0.1}, "min_area = 0.5 exceeds max_area = 0.1"),
        ({"std": (1.0, 0.0, 1.0)}, "std = 0 at index"),
        ({"mean": (0.5,)}, "mean has 1 values, std has 3"),
    ],
)
def test_bad_settings(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(**fields)


def test_channels_of_model_and_settings() -> None:
    model = nnx.eval_shape(lambda: SAM(SMALL, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="mean has 1 values, the model takes 3 channels"):
        MaskGenerator(model, GeneratorConfig(mean=(0.5,), std=(0.5,)))
