"""A finished pipeline from which any one file is lost, or in which any one has changed."""

import dataclasses
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.folder import digest, read_manifest
from hardset.verify import verify
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline import PipelineConfig, Trials, run_pipeline
from tests.pretrain_jax.pipeline.conftest import TRAIN

pytestmark = pytest.mark.usefixtures("lightly_compiled")

# Of a checkpoint these are enough: one with arrays, one with words, and the listing.
CHECKPOINT = re.compile(r".*/checkpoints/6/(checksums\.json|meta/metadata|weights/d/.*)")
# The run of pre-training is one as the probe's.
ALIKE = re.compile(r"pretrained/.*/run/(?!checkpoints/6/weights).*")
FOLDER = re.compile(r"delete the folder (\S+) and run the command that made it again$")


def digests(out: Path) -> dict[str, str]:
    """Of every finished stage, by its place: what came out, wherever and whenever."""
    return {
        path.parent.relative_to(out).as_posix(): digest(read_manifest(path.parent))
        for path in sorted(out.rglob("manifest.json"))
    }


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    """The smallest pipeline with every kind of stage before fine-tuning; its run is finished."""
    folder = tmp_path_factory.mktemp("losses")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:02d}.png")
    train = dataclasses.replace(TRAIN, epochs=None, steps=6, checkpoint_every=3)
    config = PipelineConfig(
        mae=Trials(train, methods=("optidel-s",), ratios=(0.5,), seeds=(0,)),
        simclr=Trials(dataclasses.replace(train, model=SimCLRConfig()), seeds=()),
        data=str(folder / "images"),
        out=str(folder / "finished"),
    )
    run_pipeline(config)
    return config


@pytest.fixture
def out(config: PipelineConfig, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished pipeline."""
    shutil.copytree(config.out, tmp_path / "out")
    yield tmp_path / "out"
    shutil.rmtree(tmp_path / "out")


def kinds(config: PipelineConfig) -> list[str]:
    """Every file that is no lock and no second of its kind, of checkpoints a few of the newest."""
    top = Path(config.out)
    files = (path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())
    return sorted(
        name
        for name in files
        if not name.endswith(".lock")
        and "tensorboard" not in name
        and not ALIKE.fullmatch(name)
        and ("checkpoints" not in name or CHECKPOINT.fullmatch(name))
    )


def goes_on(config: PipelineConfig, out: Path, known: dict[str, str], what: str) -> None:
    """The pipeline goes on, at the latest without the one folder that its message names."""
    config = dataclasses.replace(config, out=str(out))
    try:
        run_pipeline(config)
    except ValueError as error:
        named = FOLDER.search(str(error))
        assert named, f"{what}: {error}"
        assert Path(named[1]).is_dir() and Path(named[1]) != out, f"{what}: {error}"
        shutil.rmtree(named[1])
        run_pipeline(config)
    assert digests(out) == known, what


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_any_one_file(config: PipelineConfig, tmp_path: Path, damage: str) -> None:
    known, names = digests(Path(config.out)), kinds(config)
    assert {name.split("/")[0] for name in names} == {
        *("config.json", "index", "probe", "proposals", "scores", "selections", "synthesised"),
        "pretrained",
    }
    for name in names:
        out = tmp_path / "out"
        shutil.copytree(config.out, out)
        if damage == "gone":
            (out / name).unlink()
        else:
            flip(out / name)
        goes_on(config, out, known, f"{name} is {damage}")
        shutil.rmtree(out)


def flip(path: Path) -> None:
    """Change one bit, which one depends on the name."""
    content = bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def test_verification_finds_a_changed_bit_in_any_file(config: PipelineConfig, out: Path) -> None:
    """Without the pipeline, by `hardset verify`; a run's log tells it by itself."""
    assert verify([out]).passed
    for name in kinds(config):
        before = (out / name).read_bytes()
        flip(out / name)
        assert not verify([out]).passed, name
        (out / name).write_bytes(before)
    assert verify([out]).passed


def test_another_spelling_and_another_place(
    config: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative, through a link, moved alone, and moved with the images: all is done before."""
    base = tmp_path / "base"
    base.mkdir()
    shutil.copytree(config.out, base / "out")
    shutil.copytree(config.data, base / "images")
    first = dataclasses.replace(config, data=str(base / "images"), out=str(base / "out"))
    known = digests(base / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(base, target_is_directory=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run_pipeline(first).finished == 0
    for data, out in (
        ("../base/images", "../base/out"),
        ("../base/images/", "../link/out"),
        (str(tmp_path / "link/images"), str(tmp_path / "link/out")),
    ):
        again = dataclasses.replace(config, data=data, out=out)
        assert run_pipeline(again).finished == 0
    shutil.move(base / "out", tmp_path / "deeper" / "moved")
    moved = dataclasses.replace(first, out=str(tmp_path / "deeper" / "moved"))
    assert run_pipeline(moved).finished == 0
    shutil.move(base / "images", tmp_path / "images")
    both = dataclasses.replace(moved, data="../images")
    assert run_pipeline(both).finished == 0
    assert digests(Path(both.out)) == known
    # A stage that is lost after that is made again of what lies at the new place.
    shutil.rmtree(Path(both.out) / "synthesised")
    assert run_pipeline(both).finished == 1
    assert digests(Path(both.out)) == known

    other = tmp_path / "others"
    shutil.copytree(tmp_path / "images", other)
    (other / "05.png").unlink()
    with pytest.raises(ValueError, match=r"another configuration: data = .*others' here and"):
        run_pipeline(dataclasses.replace(both, data=str(other)))


def test_a_killed_training_goes_on_under_another_spelling(
    config: PipelineConfig, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stage without its end: a checkpoint of step 3, and no manifest."""
    stage = out / "pretrained/mae/optidel-s-50/seed-0"
    known = digests(out)
    (stage / "manifest.json").unlink()
    shutil.rmtree(stage / "run/checkpoints/6")
    monkeypatch.chdir(out)
    again = dataclasses.replace(config, out=os.path.relpath(out))
    assert run_pipeline(again).finished == 1
    assert digests(out) == known
