"""Margins: recomputed by hand, the same whatever the batches and shards; rank correlations."""

import copy
import dataclasses
import importlib
import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from hardset.folder import Made, digest, read_manifest
from pretrain_jax import TrainedModel
from pretrain_jax.models.mae import MAE
from pretrain_jax.synthesis import (
    Images,
    ProbeModel,
    RandomCrop,
    index_images,
    load_probe,
    margins,
    propose,
    score,
)
from pretrain_jax.synthesis import read_features as features_of
from pretrain_jax.synthesis.tables import Table
from tests.pretrain_jax.synthesis.conftest import COUNT
from tests.stages import open_stage

# The package's function of the same name hides the module.
scoring = importlib.import_module("pretrain_jax.synthesis.scoring")

# Float32 sums in another order and batch: a few units of 1e-7, with room.
TIGHT = {"rtol": 2e-5}


def resized(path: Path, box: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """A part of a file at the model's 16 x 16 pixels, by Pillow."""
    with Image.open(path) as image:
        if box is not None:
            top, left, height, width = box
            image = image.crop((left, top, left + width, top + height))
        return np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))


@nnx.jit
def forward(model: MAE, images: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
    output = model(images, noise)
    return output.prediction, output.mask, model.encode(images)


def normalised(probe: ProbeModel, pixels: NDArray) -> NDArray[np.float32]:
    mean, std = np.array(probe.trained.mean), np.array(probe.trained.std)
    return ((pixels / 255 - mean) / std).astype(np.float32)


def by_hand(
    probe: ProbeModel, pixels: NDArray, patch: int, seed: int, mask: int, space: str
) -> float:
    """Masked mean squared error of one patch and mask, patches and target in NumPy."""
    image = normalised(probe, pixels)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), mask), patch % 2**31)
    noise = np.asarray(jax.random.uniform(key, (16,), jnp.float32))
    prediction, shown, _ = forward(probe.trained.model, image[None], noise[None])
    hidden = np.argsort(np.argsort(noise)) >= 4
    assert np.array_equal(np.asarray(shown[0]) > 0, hidden)
    cut = image.reshape(4, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(16, 48).astype(float)
    predicted = np.asarray(prediction[0], np.float64)
    centre, spread = cut.mean(1, keepdims=True), np.sqrt(cut.var(1, keepdims=True, ddof=1) + 1e-6)
    if space == "target":
        return float(np.mean((predicted - (cut - centre) / spread)[hidden] ** 2))
    error = (predicted * spread + centre - cut) * np.tile(np.array(probe.trained.std), 16)
    return float(np.mean(error[hidden] ** 2))


@pytest.mark.parametrize("space", ["target", "pixel"])
def test_margins_by_hand(
    image_folder: Path,
    crops: Path,
    crop_scores: Path,
    probe: ProbeModel,
    space: str,
    tmp_path: Path,
) -> None:
    assert probe.trained.config.model.norm_pixel_loss
    folder = crop_scores
    if space == "pixel":
        folder = tmp_path / "pixel"
        score(crops, probe, folder, masks=3, seed=5, batch_size=16, space="pixel")
    proposals, table = Table(crops), Table(folder)
    assert table.columns == ("patch", "margin", "margin_0", "margin_1", "margin_2")
    assert np.array_equal(table.column("patch"), proposals.column("patch"))
    rows = np.array([0, 17, 61, 100, proposals.rows - 1])
    chosen, found = proposals.take(rows), table.take(rows)
    names = sorted(path for path in image_folder.rglob("*.png"))
    for k in range(len(rows)):
        box = tuple(int(chosen[key][k]) for key in ("top", "left", "height", "width"))
        pixels = resized(names[chosen["image"][k]], box)
        each = [
            by_hand(probe, pixels, int(chosen["patch"][k]), 5, mask, space) for mask in range(3)
        ]
        np.testing.assert_allclose([found[f"margin_{m}"][k] for m in range(3)], each, **TIGHT)
        np.testing.assert_allclose(found["margin"][k], np.mean(each), **TIGHT)


def test_images_and_features(
    image_folder: Path, index: Path, image_scores: Path, probe: ProbeModel
) -> None:
    table = Table(image_scores)
    assert table.column("image").tolist() == list(range(COUNT))
    features = features_of(image_scores)
    assert isinstance(features, np.memmap)
    assert features.shape == (COUNT, 8)
    names = sorted(image_folder.rglob("*.png"))
    for row in (0, 7, COUNT - 1):
        image = normalised(probe, resized(names[row]))[None]
        tokens = forward(probe.trained.model, image, np.zeros((1, 16), np.float32))[2]
        # Near-zero entries: absolute, of features of order one.
        np.testing.assert_allclose(features[row], tokens[0, 1:].mean(0), rtol=1e-4, atol=1e-5)


def test_features_of_patches(
    image_folder: Path,
    index: Path,
    crops: Path,
    crop_scores: Path,
    probe: ProbeModel,
    tmp_path: Path,
) -> None:
    """The mean token of the encoder, in the table's order, whatever the shards."""
    out = tmp_path / "scores"
    for shard in (1, 0):
        made = score(
            crops, probe, out, masks=3, seed=5, batch_size=16, features=True, shards=2, shard=shard
        )
    assert made is not None and made.parameters["features"] is True
    features, table = features_of(out), Table(crops)
    assert isinstance(features, np.memmap) and features.shape == (table.rows, 8)
    np.testing.assert_allclose(
        Table(out).column("margin"), Table(crop_scores).column("margin"), **TIGHT
    )
    rows = table.take(np.array([0, 11, table.rows - 1]))
    names = sorted(image_folder.rglob("*.png"))
    for k, row in enumerate((0, 11, table.rows - 1)):
        box = tuple(int(rows[key][k]) for key in ("top", "left", "height", "width"))
        image = normalised(probe, resized(names[rows["image"][k]], box))[None]
        tokens = forward(probe.trained.model, image, np.zeros((1, 16), np.float32))[2]
        np.testing.assert_allclose(features[row], tokens[0, 1:].mean(0), rtol=1e-4, atol=1e-5)
    assert "features" not in read_manifest(crop_scores).parameters


def test_rank_correlations_are_spearman(crop_scores: Path) -> None:
    table, counts = Table(crop_scores), read_manifest(crop_scores).counts
    columns = [table.column(f"margin_{k}") for k in range(3)]
    each = [spearmanr(a, b).statistic for a, b in itertools.combinations(columns, 2)]
    assert counts["rank_correlation_mean"] == pytest.approx(np.mean(each), abs=1e-12)
    assert counts["rank_correlation_min"] == pytest.approx(np.min(each), abs=1e-12)
    assert counts["margin_mean"] == pytest.approx(table.column("margin").mean(), rel=1e-6)


def test_the_company_of_a_patch_does_not_matter(
    index: Path,
    crops: Path,
    crop_scores: Path,
    image_scores: Path,
    probe: ProbeModel,
    tmp_path: Path,
) -> None:
    for shard in (2, 0, 1):
        made = score(
            crops, probe, tmp_path / "p", masks=3, seed=5, batch_size=16, shards=3, shard=shard
        )
    assert made is not None
    whole = Table(crop_scores).column("margin_1")
    np.testing.assert_allclose(Table(tmp_path / "p").column("margin_1"), whole, **TIGHT)
    score(index, probe, tmp_path / "i", masks=3, seed=5, batch_size=16, shards=3)
    np.testing.assert_allclose(
        Table(tmp_path / "i").column("margin"), Table(image_scores).column("margin"), **TIGHT
    )
    np.testing.assert_allclose(
        features_of(tmp_path / "i"), features_of(image_scores), rtol=1e-4, atol=1e-5
    )
    assert {path.name for path in (tmp_path / "i").glob(".*")} <= {".lock"}


def test_a_patch_keeps_its_margin_when_images_are_added(
    image_folder: Path, crop_scores: Path, probe: ProbeModel, tmp_path: Path
) -> None:
    """Boxes are drawn and masks are keyed by names, not by what else there is."""
    for path in sorted(image_folder.rglob("*.png"))[5:9]:
        few = tmp_path / "few" / path.relative_to(image_folder)
        few.parent.mkdir(parents=True, exist_ok=True)
        few.symlink_to(path)
    index_images(tmp_path / "few", tmp_path / "i")
    propose(tmp_path / "i", tmp_path / "p", proposer=RandomCrop(crops=7, least_side=8))
    score(tmp_path / "p", probe, tmp_path / "s", masks=3, seed=5, batch_size=16)
    among_all = {
        int(patch): margin
        for batch in Table(crop_scores).batches(["patch", "margin"])
        for patch, margin in zip(batch["patch"], batch["margin"], strict=True)
    }
    table = Table(tmp_path / "s")
    assert table.rows > 20
    expected = [among_all[int(patch)] for patch in table.column("patch")]
    np.testing.assert_allclose(table.column("margin"), expected, **TIGHT)


def test_seeds_change_the_masks(
    crops: Path, crop_scores: Path, probe: ProbeModel, tmp_path: Path
) -> None:
    score(crops, probe, tmp_path / "s", masks=3, seed=6, batch_size=16)
    first, second = (Table(one).column("margin_0") for one in (crop_scores, tmp_path / "s"))
    assert not np.allclose(first, second, rtol=1e-3)


def test_the_stage_probe_is_known_by_its_manifest(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder and its run's are the same probe; other runs in it are told apart."""
    monkeypatch.setattr(margins, "load_model", lambda _: trained)
    stage = tmp_path / "probe"
    for name in ("run", "half-0"):
        (stage / name).mkdir(parents=True)
    bare = load_probe(stage / "run")
    other = copy.deepcopy(trained)
    other.model.decoder_norm.bias[...] += 1e-3  # type: ignore[union-attr]
    monkeypatch.setattr(margins, "load_model", lambda _: other)
    assert load_probe(stage / "run").digest != bare.digest
    made = open_stage(tmp_path / "made", "probe", {}, 0, {})
    own = digest(made.finish(Made({})))
    (tmp_path / "made" / "manifest.json").rename(stage / "manifest.json")
    found = [load_probe(one) for one in (stage, stage / "run", stage / "half-0")]
    assert [one.digest for one in found] == [own] * 3
    assert [one.name for one in found] == ["run", "run", "half-0"]
    assert {one.folder for one in found} == {stage}
    monkeypatch.setattr(
        margins, "load_model", lambda _: dataclasses.replace(trained, model=nnx.Module())
    )
    with pytest.raises(ValueError, match="without a decoder"):
        load_probe(stage)


def test_unreadable_images_are_left_out(
    image_folder: Path, probe: ProbeModel, tmp_path: Path
) -> None:
    """One that the index leaves out, and one that could be read when it was indexed."""
    data = tmp_path / "data"
    data.mkdir()
    for number, path in enumerate(sorted(image_folder.rglob("*.png"))[:5]):
        Image.open(path).save(data / f"{number}.jpg", quality=100)
    content = (data / "4.jpg").read_bytes()
    (data / "4.jpg").write_bytes(content[:-100])  # the head is whole, the pixels are not
    index_images(data, tmp_path / "index")
    damaged, before = data / "1.jpg", (data / "1.jpg").stat()
    damaged.write_bytes(b"?" * before.st_size)  # of the same size and time, which is not seen
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Images(tmp_path / "index").manifest.counts["unreadable"] == 1
    made = score(tmp_path / "index", probe, tmp_path / "scores", masks=3, batch_size=16)
    assert made is not None
    assert Table(tmp_path / "scores").column("image").tolist() == [0, 2, 3]
    assert features_of(tmp_path / "scores").shape == (3, 8)
    assert (made.counts["rows"], made.counts["unreadable"]) == (3, 1)
    assert "1.jpg" in (tmp_path / "scores" / "skipped.txt").read_text()


def test_bad_input(
    index: Path, crops: Path, crop_scores: Path, probe: ProbeModel, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    with pytest.raises(ValueError, match=r"probe .*none does not exist; train one with"):
        score(crops, tmp_path / "none", out)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        score(crops, index, out)
    with pytest.raises(ValueError, match="is of stage score, not propose or index"):
        score(crop_scores, probe, out)
    for name, value in (("masks", 0), ("batch_size", 0), ("workers", 0), ("seed", -1)):
        with pytest.raises(ValueError, match=f"{name} = {value} is outside"):
            score(crops, probe, out, **{name: value})
    with pytest.raises(ValueError, match="space = 'latent' is not one of target, pixel"):
        score(crops, probe, out, space="latent")  # type: ignore[arg-type]
    assert not out.exists()
    with pytest.raises(ValueError, match=r"made with parameters.masks = 3, now"):
        score(crops, probe, crop_scores, masks=2, seed=5, batch_size=16)
    with pytest.raises(ValueError, match=r"scores of whole images have features, .* --features"):
        features_of(crop_scores)


def test_a_diverged_probe_is_refused(
    crops: Path, probe: ProbeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scorer(pixels: NDArray, ids: NDArray) -> tuple[NDArray, None]:
        errors = np.ones((len(ids), 2))
        errors[5, 1] = np.nan
        return errors, None

    monkeypatch.setattr(scoring, "make_scorer", lambda *_, **__: scorer)
    patch = Table(crops).column("patch")[5]
    with pytest.raises(ValueError, match=rf"error for patch {patch} is \[ 1. nan\]; its weights"):
        score(crops, probe, tmp_path / "s", masks=2)
    assert not list((tmp_path / "s").glob("*"))
