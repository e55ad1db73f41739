"""The stages `probe` and `pretrain` by themselves."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from hardset.folder import digest, read_manifest
from pretrain_jax import TrainConfig, load_model
from pretrain_jax.models.mae import MAE
from pretrain_jax.models.mae.params import mae_table
from pretrain_jax.pipeline import PIPELINES, pretrain, probe
from pretrain_jax.pipeline.comparison import compare
from pretrain_jax.pipeline.training import matched_steps
from pretrain_jax.segmentation import FinetuneConfig, read_segmentation
from pretrain_jax.synthesis import RandomCrop, index_images, propose, select, synthesise
from pretrain_jax.weights import export_state, write_safetensors


@pytest.fixture
def index(image_folder: Path, tmp_path: Path) -> Path:
    index_images(image_folder, tmp_path / "index")
    return tmp_path / "index"


def weights(folder: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(load_model(folder).model))]


def test_probe_and_its_halves(
    index: Path, tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    out = tmp_path / "probe"
    manifest = probe(index, out, config=train_config, halves=True, seed=3)
    assert manifest.counts["images"] == 24 and manifest.counts["steps"] == 6
    assert manifest.inputs == {"index": digest(read_manifest(index))}
    lists = [(out / f"{name}.txt").read_text().split() for name in ("full", "half-0", "half-1")]
    assert len(lists[0]) == 24 and len(lists[1]) == len(lists[2]) == 12
    assert sorted(lists[1] + lists[2]) == lists[0]
    assert "of 24 of 24 files is not known" in manifest.notes[-1]
    trained = [load_model(out / name) for name in ("run", "half-0", "half-1")]
    assert {model.config.seed for model in trained} == {3}
    # Another folder on another day: the same digest.
    assert digest(probe(index, tmp_path / "again", config=train_config, halves=True, seed=3)) == (
        digest(manifest)
    )
    with pytest.raises(ValueError, match="seed = 3, now seed = 4"):
        probe(index, out, config=train_config, halves=True, seed=4)


def test_probe_of_the_user(
    index: Path, tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    """A run's folder, one step's folder and a file give the weights that were given."""
    first = probe(index, tmp_path / "first", config=train_config)
    run = tmp_path / "first" / "run"
    given = weights(run)
    model = load_model(run).model
    assert isinstance(model, MAE)
    file = tmp_path / "mae.safetensors"
    write_safetensors(file, export_state(model, mae_table(model.config, "official")))
    for name, source in {"run": run, "step": run / "checkpoints" / "6", "file": file}.items():
        taken = probe(index, tmp_path / name, config=train_config, weights=str(source))
        for ours, theirs in zip(weights(tmp_path / name / "run"), given, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert "steps" not in taken.counts and "not counted" in taken.notes[0]
        assert taken.inputs["weights"] != digest(first)
        assert load_model(tmp_path / name / "run").mean == (0.4, 0.4, 0.4)
    with pytest.raises(ValueError, match="does not tell how its images were normalised"):
        unknown = dataclasses.replace(train_config.data, mean=None, std=None)
        config = dataclasses.replace(train_config, data=unknown)
        probe(index, tmp_path / "x", config=config, weights=str(file))


def test_a_probe_that_cannot_be_made_leaves_its_folder_free(
    index: Path, tmp_path: Path, train_config: TrainConfig
) -> None:
    simclr = PIPELINES["optidel_reference"].simclr.train
    text = tmp_path / "mae.pth"
    text.write_text("no weights")
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("batch_size = 0 is", {"config": dataclasses.replace(train_config, batch_size=0)}),
        ("a probe is a masked autoencoder", {"config": simclr}),
        ("mae.pt do not exist", {"weights": str(tmp_path / "mae.pt")}),
        ("mae.pth", {"weights": str(text)}),
    ]
    for message, changed in wrong:
        with pytest.raises(ValueError, match=message):
            probe(index, tmp_path / "probe", **{"config": train_config, **changed})
    assert not list((tmp_path / "probe").glob("[!.]*"))


def test_a_list_that_was_cut_is_not_trained_on(
    index: Path, tmp_path: Path, train_config: TrainConfig
) -> None:
    select(index, tmp_path / "s", method="random", ratio=0.5)
    made = tmp_path / "set"
    synthesise(tmp_path / "s", made)
    lines = (made / "data.txt").read_text().splitlines()
    assert len(lines) == 12
    (made / "data.txt").write_text("".join(f"{line}\n" for line in lines[:5]))
    with pytest.raises(ValueError, match=r"data\.txt ends where its stage wrote '\S+\.png'"):
        pretrain(made, tmp_path / "m", config=train_config)


def test_the_steps_of_the_full_set_are_read_from_the_set(
    index: Path, tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    """A third of 24 images, one epoch of batches of 4: six steps without a word about the rest."""
    select(index, tmp_path / "s", method="random", ratio=0.34)
    made = tmp_path / "set"
    synthesise(tmp_path / "s", made)
    with pytest.raises(ValueError, match="made from a full set of 24 images; leave full_images"):
        pretrain(made, tmp_path / "m", config=train_config, full_images=30)
    with pytest.raises(ValueError, match=r"is not known here: give full_images, or steps"):
        pretrain(made / "data.txt", tmp_path / "m", config=train_config)
    found = pretrain(made, tmp_path / "m", config=train_config)
    assert (found.counts["images"], found.counts["steps"]) == (8, 6)


def test_a_set_that_was_altered_is_not_trained_on(
    index: Path, tmp_path: Path, train_config: TrainConfig
) -> None:
    propose(index, tmp_path / "p", proposer=RandomCrop(crops=2))
    select(tmp_path / "p", tmp_path / "s", method="random-patches", ratio=0.5)
    made = tmp_path / "set"
    synthesise(tmp_path / "s", made)
    victim = sorted((made / "images").iterdir())[3]
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(victim)
    with pytest.raises(ValueError, match=f"image {victim} of the set .* has changed since"):
        pretrain(made, tmp_path / "m", config=train_config)
    assert not (tmp_path / "m").exists()


def test_bad_masks_are_said_before_training(index: Path, tmp_path: Path) -> None:
    """Sizes that differ, in a training case of the second set."""
    sets = []
    for name, size in (("good", (20, 20)), ("bad", (20, 10))):
        for part, shape in (("images", (20, 20)), ("masks", size)):
            (tmp_path / name / part).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 2, shape, np.uint8) * 255
                Image.fromarray(pixels).save(tmp_path / name / part / f"{number}.png")
        sets.append(read_segmentation(tmp_path / name))
    compare(index, sets[:1], tmp_path / "leakage", config=FinetuneConfig())
    with pytest.raises(ValueError, match=r"is 20 x 20 pixels, its mask .* 20 x 10"):
        compare(index, sets, tmp_path / "again", config=FinetuneConfig())


def test_pretraining_on_images_that_changed_since(
    image_folder: Path,
    tmp_path: Path,
    train_config: TrainConfig,
    compiled_once: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a folder no contents are recorded: another size is refused, a newer file is told."""
    data = tmp_path / "data"
    shutil.copytree(image_folder, data)
    train_config = dataclasses.replace(train_config, epochs=None, steps=6)
    made = pretrain(data, tmp_path / "m", config=train_config)
    finished = (tmp_path / "m" / "manifest.json").stat().st_mtime_ns
    capsys.readouterr()
    assert pretrain(data, tmp_path / "m", config=train_config) == made
    assert capsys.readouterr().err == ""
    os.utime(data / "05.png", ns=(0, finished + 10**9))
    assert pretrain(data, tmp_path / "m", config=train_config) == made
    told = capsys.readouterr().err
    assert f"warning: {data / '05.png'} was written after {tmp_path / 'm'} was finished" in told
    (data / "05.png").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"inputs\.data.*has changed since"):
        pretrain(data, tmp_path / "m", config=train_config)


def test_matched_steps_are_those_of_the_full_set(train_config: TrainConfig) -> None:
    """ceil(epochs x images / batch), the batch being 4."""
    epochs = dataclasses.replace(train_config, epochs=2.5)
    assert [matched_steps(epochs, n) for n in (8, 24, 25)] == [5, 15, 16]
    assert matched_steps(dataclasses.replace(train_config, steps=7, epochs=None), 10**6) == 7


def test_protocols(
    image_folder: Path, tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    """Half of the images: the steps of all of them, or as many epochs."""
    half = tmp_path / "half.txt"
    half.write_text("".join(f"{image_folder}/{number:02d}.png\n" for number in range(12)))
    full = str(image_folder)
    matched = pretrain(
        half, tmp_path / "m", config=train_config, full_images=24, validation=full, seed=1
    )
    paper = pretrain(
        half, tmp_path / "p", config=train_config, protocol="paper", validation=full, seed=1
    )
    assert (matched.counts["steps"], paper.counts["steps"]) == (6, 3)
    assert matched.counts["images"] == paper.counts["images"] == 12
    assert matched.parameters["objective"] == "mae" and matched.seed == 1
    steps = dataclasses.replace(train_config, steps=3, epochs=None)
    with pytest.raises(ValueError, match="protocol = paper gives every run the same epochs"):
        pretrain(half, tmp_path / "q", config=steps, protocol="paper")
    with pytest.raises(ValueError, match="full_images = 8 is outside the valid range"):
        pretrain(half, tmp_path / "q", config=train_config, full_images=8)
    assert not (tmp_path / "q").exists()


def test_weights_that_do_not_fit_leave_the_folder_to_others(
    image_folder: Path, tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    """The corrected command is taken: nothing was begun with the wrong file."""
    train_config = dataclasses.replace(train_config, epochs=None, steps=3)
    pretrain(image_folder, tmp_path / "first", config=train_config)
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    out = tmp_path / "second"
    bad = dataclasses.replace(train_config, init=str(tmp_path / "bad.safetensors"))
    with pytest.raises(ValueError, match=r"init = .*bad\.safetensors"):
        pretrain(image_folder, out, config=bad)
    assert not out.exists()
    good = dataclasses.replace(train_config, init=str(tmp_path / "first"))
    assert pretrain(image_folder, out, config=good).counts["steps"] == 3
