"""Patches and training are the same from a folder and from every packed form of it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hardset.folder import read_manifest
from pretrain_jax import TrainConfig
from pretrain_jax.__main__ import main
from pretrain_jax.data.opening import as_file
from pretrain_jax.pipeline import pretrain
from pretrain_jax.synthesis import Images, Patches
from pretrain_jax.synthesis.parts import read_image
from tests.pretrain_jax.data.container_files import images, write_forms, write_tar

pytestmark = pytest.mark.usefixtures("lightly_compiled")

PACKED = ("images.tar", "shards", "images.parquet", "saved")


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forms")
    write_forms(root, images(12))
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_patches_are_those_of_the_folder(
    forms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for form in ("folder", *PACKED):
        run = tmp_path / f"run-{form}"
        assert main(["propose", str(run), "--data", str(forms / form)]) == 0
        index, patches = Images(run / "index"), Patches(run / "proposals" / "saliency")
        index.check_unchanged()
        tables = [
            {name: values.tolist() for name, values in batch.items()}
            for table in (index.table, patches.table)
            for batch in table.batches()
        ]
        pixels = read_image(index.root, "a/2.png")
        found[form] = (tables, read_manifest(run / "index").inputs, pixels.tolist())
    capsys.readouterr()
    for form in PACKED:
        assert found[form] == found["folder"]


def test_training_is_that_of_the_folder(
    forms: Path, tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    """The second training decodes in a process of its own, which finds the index in the cache."""
    losses = {}
    for form, workers in (("folder", 0), ("images.parquet", 1), ("shards", 0), ("saved", 0)):
        data = dataclasses.replace(train_config.data, workers=workers, skip_at_most=0.0)
        config = dataclasses.replace(train_config, data=data, steps=2, epochs=None)
        out = tmp_path / form
        pretrain(forms / form, out, config=config)
        log = (out / "run" / "log.jsonl").read_text().splitlines()
        losses[form] = [json.loads(line).get("loss") for line in log]
    assert len(losses["folder"]) > 1
    assert all(own == losses["folder"] for own in losses.values())


def test_an_image_that_cannot_be_read_is_skipped_by_reason(
    tmp_path: Path, train_config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    files = [*images(24).items(), ("c/bad.png", b"junk"), ("c/empty.png", b"")]
    source = write_tar(tmp_path / "x.tar", files)
    data = dataclasses.replace(train_config.data, skip_at_most=0.2)
    config = dataclasses.replace(train_config, data=data, steps=8, epochs=None)
    manifest = pretrain(source, tmp_path / "out", config=config)
    assert manifest.notes == [
        "2 image(s) left out: 2 undecodable; all are named in run/skipped.txt"
    ]
    assert "run/skipped.txt" in manifest.local
    lines = (tmp_path / "out/run/skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        f"{source}/c/bad.png",
        f"{source}/c/empty.png",
    ]
    assert all(line.split("\t")[1].startswith("unreadable: ") for line in lines)


def test_readers_of_paths_get_a_copy(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", images().items())
    with as_file(f"{path}/b/array.npy") as copy:
        assert np.load(copy).shape == (40, 48)
    assert not copy.exists()
