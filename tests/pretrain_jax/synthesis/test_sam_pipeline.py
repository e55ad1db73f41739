"""From a published-format checkpoint of Segment Anything to a set stitched from what it finds."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.mask import decode

from hardset.folder import read_manifest
from hardset.listing import file_record
from pretrain_jax.models.sam import GeneratorConfig, MaskGenerator, sam_table
from pretrain_jax.segmentation import write_proposals
from pretrain_jax.synthesis import (
    ProbeModel,
    Sam,
    index_images,
    propose,
    sam,
    score,
    select,
    synthesise,
)
from pretrain_jax.synthesis.tables import Table
from pretrain_jax.weights import export_state
from tests.pretrain_jax.sam.models import SMALL, random_model
from tests.pretrain_jax.weights.torch_files import table, tensor, whole, zip_file

SIDE, COUNT = 48, 3
# Random weights are sure of nothing: the areas alone decide which masks stay, and at this logit
# (found by trial for these weights) they are specks of the images' sizes and below.
GENERATOR = GeneratorConfig(
    points_per_side=3,
    points_per_batch=9,
    iou_threshold=-1e6,
    stability_threshold=0.0,
    mask_threshold=0.1,
    box_nms_threshold=0.95,
    min_area=0.0005,
    max_area=0.5,
    capacity=32,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights as torch.save writes the published models."""
    arrays = export_state(random_model(SMALL, 0), sam_table(SMALL, "official"))
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    views = {name: whole(str(k), array) for k, (name, array) in enumerate(contiguous.items())}
    return zip_file(
        tmp_path_factory.mktemp("checkpoint") / "sam_vit_b_01ec64.pth",
        table({name: tensor(view) for name, view in views.items()}),
        {views[name].key: array.tobytes() for name, array in contiguous.items()},
    )


@pytest.fixture(scope="module")
def run(
    checkpoint: Path,
    probe: ProbeModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The stages from the index to the synthesised set."""
    out = tmp_path_factory.mktemp("sam-run")
    (out / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 90, (SIDE, SIDE, 3))
        top, left = rng.integers(4, 24, 2)
        pixels[top : top + 16, left : left + 18] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(out / f"data/{number}.png")
    index_images(out / "data", out / "index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sam, "SAM_PRESETS", {"small": SMALL})  # of a size that is known here only
        proposer = Sam(weights=checkpoint, generator=GENERATOR, least_side=8)
        propose(out / "index", out / "proposals", proposer=proposer)
    score(out / "proposals", probe, out / "scores", masks=2, batch_size=16)
    select(out / "scores", out / "selection", method="optidel", ratio=0.7)
    synthesise(out / "selection", out / "synthesised")
    return out


def test_proposals_are_boxes_of_masks(run: Path, checkpoint: Path) -> None:
    manifest = read_manifest(run / "proposals", "propose")
    assert manifest.parameters["proposer"] == "sam"
    assert manifest.inputs["weights"] == file_record(checkpoint)["sha256"]
    found = Table(run / "proposals")
    assert set(found.column("image").tolist()) == set(range(COUNT))
    box = found.column("height") * found.column("width")
    area = found.column("area")
    assert np.all(area >= GENERATOR.min_area * SIDE**2)
    assert np.all(area <= box) and np.all(box <= GENERATOR.max_area * SIDE**2)
    assert np.any(area < box)  # masks, not boxes
    # Predicted IoU falls with the rank within each image.
    order = np.lexsort((found.column("rank"), found.column("image")))
    falls = np.diff(found.column("confidence")[order]) <= 0
    assert np.all(falls[np.diff(found.column("image")[order]) == 0])


# pycocotools implements __array__ without the keyword copy of NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_of_proposals_as_coco(
    run: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the stage's cache: nothing is computed again."""
    monkeypatch.setattr(sam, "SAM_PRESETS", {"small": SMALL})
    regions = Sam(weights=checkpoint, generator=GENERATOR, least_side=8).regions(
        run / "proposals" / "masks"
    )
    monkeypatch.setattr(MaskGenerator, "__call__", None)
    written = write_proposals(
        run / "proposals", tmp_path / "coco.json", masks_of=lambda pixels: regions(pixels)[1]
    )
    table = Table(run / "proposals")
    rows = next(table.batches())
    found = json.loads((tmp_path / "coco.json").read_text())["annotations"]
    assert written == len(found) == table.rows
    assert [one["area"] for one in found] == rows["area"].tolist()
    for row, one in enumerate(found):
        mask = decode(one["segmentation"]).astype(bool)
        assert (mask.shape, int(mask.sum())) == ((SIDE, SIDE), one["area"])
        down, across = np.nonzero(mask)
        box = [across.min(), down.min(), np.ptp(across) + 1, np.ptp(down) + 1]
        assert one["bbox"] == box
        sides = [int(rows[side][row]) for side in ("left", "top", "width", "height")]
        assert one["patch_box"] == sides
    with pytest.raises(ValueError, match=r"finds other masks in image 0\.png than the stage had"):
        write_proposals(
            run / "proposals", tmp_path / "no.json", masks_of=lambda pixels: regions(pixels)[1][:1]
        )
    assert not (tmp_path / "no.json").exists()


def test_the_hardest_are_stitched(run: Path) -> None:
    """Two of the three images' pixels: eight patches, those with the largest margins."""
    scores, sources = Table(run / "scores"), Table(run / "synthesised", "sources")
    hardest = np.sort(scores.column("margin"))[::-1]
    np.testing.assert_array_equal(sources.column("margin"), hardest[:8])
    assert set(sources.column("proposer").tolist()) == {"sam"}
    manifest = read_manifest(run / "synthesised", "synthesise")
    assert (manifest.counts["images"], manifest.counts["patches"]) == (2, 8)
    assert manifest.counts["storage_ratio"] == pytest.approx(2 / 3)
    with Image.open(run / "synthesised/images/00000000.png") as picture:
        assert picture.size == (SIDE, SIDE)
