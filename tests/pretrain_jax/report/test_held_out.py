"""Which half each part of a set comes from, against the names in the tables."""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from hardset.folder import MANIFEST
from pretrain_jax import TrainConfig, TrainedModel
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.report import v_information
from pretrain_jax.report.collect import RunFolder
from pretrain_jax.report.page import page
from pretrain_jax.report.v_information import SetInformation, half_of_cells, information_of_sets
from pretrain_jax.synthesis import RandomCrop, index_images, propose, select, synthesise
from pretrain_jax.synthesis.tables import Table


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, a set of stitched crops of them and a set of whole ones."""
    out = tmp_path_factory.mktemp("sets")
    (out / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(out / f"data/{number}.png")
    index_images(out / "data", out / "index")
    propose(out / "index", out / "crops", proposer=RandomCrop(crops=2, least_side=4))
    for name, method, source in (
        ("stitched", "random-patches", "crops"),
        ("whole", "random", "index"),
    ):
        select(out / source, out / f"selection-{name}", method=method, ratio=0.4, seed=3)
        synthesise(out / f"selection-{name}", out / name)
    return out


def write_lists(sets: Path, first: list[int], second: list[int]) -> list[Path]:
    found = []
    for name, numbers in (("half-0", first), ("half-1", second)):
        found.append(sets / f"{name}.txt")
        found[-1].write_text("".join(f"data/{number}.png\n" for number in numbers))
    return found


def test_halves_of_the_cells(sets: Path) -> None:
    """Even numbers in one half, odd ones in the other."""
    lists = write_lists(sets, list(range(0, 12, 2)), list(range(1, 12, 2)))
    names = Table(sets / "index").column("name")
    odd = np.array([int(Path(str(name)).stem) % 2 for name in names])
    sources = Table(sets / "stitched", "sources")
    order = np.lexsort((sources.column("place"), sources.column("synthetic")))
    expected = odd[sources.column("image")[order]].reshape(-1, 4)
    rows = np.arange(len(expected))
    assert len(set(expected.sum(axis=1))) > 1  # images of both halves
    np.testing.assert_array_equal(half_of_cells(sets / "stitched", lists)(rows), expected)
    listed = (sets / "whole/data.txt").read_text().split()
    last = len(listed) - 1
    found = half_of_cells(sets / "whole", lists)(np.array([last, 0]))
    assert found.tolist() == [[int(Path(listed[row]).stem) % 2] for row in (last, 0)]


@pytest.mark.parametrize(("first", "second"), [(range(12), range(1)), (range(1), range(2, 3))])
def test_images_that_are_not_in_one_half(sets: Path, first: range, second: range) -> None:
    lists = write_lists(sets, list(first), list(second))
    rows = np.arange(len((sets / "stitched/data.txt").read_text().split()))
    with pytest.raises(ValueError, match="not in exactly one half"):
        half_of_cells(sets / "stitched", lists)(rows)


def test_a_set_of_one_image_has_a_note(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other sets keep their numbers."""
    first, second = ([line] for line in (sets / "whole/data.txt").read_text().split()[:2])
    for name, lines in (("one", first), ("two", [*first, *second])):
        (sets / name).mkdir()
        (sets / name / "data.txt").write_text("\n".join(f"../whole/{line}" for line in lines))
        (sets / name / MANIFEST).write_bytes((sets / "whole" / MANIFEST).read_bytes())
    (sets / "probe").mkdir()
    encoder = ViTConfig(image_size=8, patch_size=4, width=8, depth=1, heads=2)
    model = MAE(MAEConfig(encoder, 8, 1, 2), rngs=nnx.Rngs(0))
    trained = TrainedModel(model, TrainConfig(model=model.config), (0.5,) * 3, (0.2,) * 3, 1)
    monkeypatch.setattr(v_information, "load_model", lambda _: trained)
    places = {name: sets / name for name in ("one", "two")}
    found = information_of_sets(places, sets / "probe", sample=4, seed=0)
    one, two = found["one"], found["two"]
    assert isinstance(one, str) and one.endswith("holds 1 image; a standard error needs two")
    assert isinstance(two, SetInformation) and two.images == 2
    run = RunFolder(sets, {}, {}, {}, (), ())
    chart = "V-information of each set in nats"
    text = page(run, found, "none", "none")
    assert f"no estimate: {one}" in text and "two" in text and chart in text
    assert chart not in page(run, {"one": one}, "none", "none")
