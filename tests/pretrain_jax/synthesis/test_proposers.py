"""Proposers: boxes inside the image, of the promised sizes, around what stands out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pretrain_jax.commands.stages import FIELDS
from pretrain_jax.models import sam as sam_models
from pretrain_jax.models.sam import SAM, GeneratorConfig, ImageMasks, MaskGenerator, sam_table
from pretrain_jax.synthesis import Proposer, RandomCrop, Saliency, Sam, proposer_from_name, sam
from pretrain_jax.synthesis.proposers import PROPOSERS, grown, saliency_map
from pretrain_jax.synthesis.sam import load_sam
from pretrain_jax.weights import export_state, write_safetensors
from tests.pretrain_jax.sam.models import SMALL, random_model

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 60, (60, 90, 3)).astype(np.uint8)


def with_square(top: int, left: int, side: int) -> np.ndarray:
    pixels = NOISE.copy()
    pixels[top : top + side, left : left + side] = 220
    return pixels


def overlap(box: np.ndarray, other: tuple[int, int, int, int]) -> float:
    """IoU by counting pixels."""
    first, second = np.zeros((2, 200, 200), bool)
    for canvas, (top, left, height, width) in ((first, box), (second, other)):
        canvas[top : top + height, left : left + width] = True
    return float((first & second).sum() / (first | second).sum())


@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    least=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_grown_boxes(height: int, width: int, least: int, seed: int) -> None:
    """Inside the image, at least as large as before and as asked, and still holding the box."""
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, height, 20), rng.integers(0, width, 20)
    boxes = np.stack([top, left, 1 + rng.integers(height - top), 1 + rng.integers(width - left)], 1)
    found = grown(boxes, least, (height, width))
    assert np.all(found[:, 2:] == np.maximum(boxes[:, 2:], least))
    assert np.all(found[:, :2] >= 0)
    assert np.all(found[:, :2] + found[:, 2:] <= (height, width))
    assert np.all(found[:, :2] <= boxes[:, :2])
    assert np.all(found[:, :2] + found[:, 2:] >= boxes[:, :2] + boxes[:, 2:])


# Those that need no weights, and two with more boxes than an image has room for.
WITHOUT_WEIGHTS = [proposer_from_name(name) for name in PROPOSERS if name != "sam"]


@pytest.mark.parametrize(
    "proposer", [*WITHOUT_WEIGHTS, RandomCrop(crops=50), Saliency(patches=50)], ids=str
)
@pytest.mark.parametrize("size", [(60, 90), (16, 16), (300, 20)])
def test_boxes_obey_the_rules(proposer: Proposer, size: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.resize(NOISE, (*size, 3))
    found = proposer.start(tmp_path)(pixels, np.random.default_rng(3))
    assert found.boxes.shape == (len(found.areas), 4)
    assert np.all(found.boxes[:, :2] >= 0)
    assert np.all(found.boxes[:, :2] + found.boxes[:, 2:] <= size)
    assert found.boxes[:, 2:].min(initial=16) >= 16
    assert len(np.unique(found.boxes, axis=0)) == len(found.boxes)


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_proposer_says_what_determines_its_boxes(name: str) -> None:
    proposer = proposer_from_name(name, least_side=20)
    assert proposer.name == name
    assert proposer.least_side == 20
    assert json.loads(json.dumps(proposer.parameters()))["least_side"] == 20
    fields = {field.name for field in dataclasses.fields(proposer)}  # type: ignore[arg-type]
    assert set(FIELDS.get(name, {}).values()) <= fields


def test_random_crops_follow_their_distribution(tmp_path: Path) -> None:
    """Areas uniform, aspect log-uniform: mean and range of 4000 draws."""
    crop = RandomCrop(crops=4000, scale=(0.1, 0.4), ratio=(0.5, 2.0))
    found = crop.start(tmp_path)(np.zeros((1000, 1000, 3), np.uint8), np.random.default_rng(0))
    share = found.boxes[:, 2] * found.boxes[:, 3] / 1e6
    aspect = np.log(found.boxes[:, 3] / found.boxes[:, 2])
    # Rounding sides to pixels changes areas by under 1 % here.
    assert 0.099 < share.min() < 0.105
    assert 0.395 < share.max() < 0.404
    # Standard errors: .3 / sqrt(12 * 4000) and ln 4 / sqrt(12 * 4000).
    assert abs(share.mean() - 0.25) < 5 * 0.0014
    assert abs(aspect.mean()) < 5 * 0.0064
    assert abs(np.abs(aspect).max() - np.log(2)) < 0.02
    assert np.all(found.confidence == 1)
    assert np.array_equal(found.areas, found.boxes[:, 2] * found.boxes[:, 3])


@pytest.mark.parametrize(("top", "left", "side"), [(10, 15, 20), (0, 60, 30), (38, 40, 17)])
def test_saliency_finds_what_stands_out(tmp_path: Path, top: int, left: int, side: int) -> None:
    found = Saliency().start(tmp_path)(with_square(top, left, side), np.random.default_rng(0))
    best = max(overlap(box, (top, left, side, side)) for box in found.boxes[:3])
    assert best > 0.6
    assert np.all(found.confidence <= 1)
    shares = found.boxes[:, 2] * found.boxes[:, 3] / (60 * 90)
    assert shares.max() <= 0.5


def test_saliency_of_a_plain_image_is_zero(tmp_path: Path) -> None:
    plain = np.full((50, 40, 3), 90, np.uint8)
    assert not saliency_map(plain).any()
    assert len(Saliency().start(tmp_path)(plain, np.random.default_rng(0)).boxes) == 0
    assert saliency_map(NOISE).max() <= 1
    assert saliency_map(np.zeros((1000, 200, 3), np.uint8)).shape == (128, 26)


@pytest.fixture(scope="module")
def model() -> SAM:
    return random_model(SMALL, 0)


@pytest.fixture
def checkpoint(model: SAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of a size that is known here only."""
    monkeypatch.setattr(sam, "SAM_PRESETS", {"small": SMALL})
    path = tmp_path / "sam" / "model.safetensors"
    path.parent.mkdir()
    write_safetensors(path, export_state(model, sam_table(SMALL, "transformers")))
    return path


class Squares(MaskGenerator):
    """Masks that need no model: four squares and an L, one of them almost the image."""

    def __call__(self, image: NDArray) -> ImageMasks:
        masks = np.zeros((5, *image.shape[:2]), bool)
        for mask, (top, left, side) in zip(
            masks, ((0, 0, 58), (5, 7, 20), (30, 50, 18), (40, 3, 4)), strict=False
        ):
            mask[top : top + side, left : left + side] = True
        masks[4, 10:40, 30:33] = masks[4, 37:40, 30:60] = True
        boxes = [
            (c.min(), r.min(), c.max() + 1, r.max() + 1)
            for r, c in (np.nonzero(mask) for mask in masks)
        ]
        zeros = np.zeros((5, 4), np.int32)
        iou = np.linspace(0.99, 0.9, 5, dtype=np.float32)
        return ImageMasks(masks, np.array(boxes, np.int32), iou, iou, zeros[:, :2], zeros)


def test_sam_boxes_are_those_of_the_masks(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: the large mask goes, the small one grows, the order is by predicted IoU."""
    monkeypatch.setattr(sam_models, "MaskGenerator", Squares)
    cache = tmp_path / "masks"
    proposer = Sam(weights=checkpoint, generator=GeneratorConfig(max_area=0.5))
    found = proposer.start(cache)(NOISE, np.random.default_rng(0))
    expected = [[5, 7, 20, 20], [30, 50, 18, 18], [34, 0, 16, 16], [10, 30, 30, 30]]
    assert found.boxes.tolist() == expected
    assert found.areas.tolist() == [400, 324, 16, 3 * 30 + 3 * 27]
    assert np.all(np.diff(found.confidence) < 0)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(("layout", "prefix"), [("official", "module."), ("transformers", "")])
def test_sam_weights_are_read(
    model: SAM, checkpoint: Path, tmp_path: Path, layout: str, prefix: str
) -> None:
    """Of either layout every variable arrives, and the layer norms are that layout's."""
    path = tmp_path / "weights.safetensors"
    state = export_state(model, sam_table(SMALL, layout))
    write_safetensors(path, {f"{prefix}{name}": array for name, array in state.items()})
    found = load_sam(path)
    assert found.config.layer_norm == ("official" if layout == "official" else "hf")
    for (ours, a), (theirs, b) in zip(
        nnx.to_flat_state(nnx.state(found)), nnx.to_flat_state(nnx.state(model)), strict=True
    ):
        assert ours == theirs
        assert np.array_equal(a[...], b[...])


def test_sam_says_what_is_missing(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="put sam_vit_b_01ec64"):
        Sam().inputs()
    with pytest.raises(ValueError, match=r"nowhere.pth do not exist; .*put sam_vit_b"):
        Sam(weights=tmp_path / "nowhere.pth").inputs()
    assert len(Sam(weights=checkpoint).inputs()["weights"]) == 64
    other = tmp_path / "other.safetensors"
    write_safetensors(other, {"weight": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="is no checkpoint of Segment Anything"):
        Sam(weights=other).start(tmp_path)


def test_arguments() -> None:
    assert proposer_from_name("saliency", patches=3) == Saliency(patches=3)
    with pytest.raises(ValueError, match="is not one of saliency, random-crop"):
        proposer_from_name("grid")
    for proposer, fields, message in (
        (RandomCrop, {"crops": 0}, "crops = 0 is outside"),
        (RandomCrop, {"scale": (0.5, 0.1)}, "not an ascending pair"),
        (RandomCrop, {"scale": (0.5, 1.1)}, "scale = 1.1 at index"),
        (Saliency, {"max_area": 0.0}, "max_area = 0 is outside"),
        (Saliency, {"min_area": 0.5, "max_area": 0.1}, "exceeds"),
        (Sam, {"least_side": 0}, "least_side = 0 is outside"),
    ):
        with pytest.raises(ValueError, match=message):
            proposer(**fields)  # type: ignore[arg-type]
