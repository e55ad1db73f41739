"""A run's folder belongs to one run, on the same images, in one process at a time."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.folder import alone
from hardset.listing import read_record, write_record
from pretrain_jax import TrainConfig
from pretrain_jax.data.options import adopt_reading, set_reading
from pretrain_jax.train import train
from pretrain_jax.train.folder import claimed, write_statistics
from pretrain_jax.train.setup import read_data

DAY = 86_400 * 10**9


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def own(config: TrainConfig, image_folder: Path, tmp_path: Path) -> TrainConfig:
    """A run that measured its images, which the test may change."""
    shutil.copytree(image_folder, tmp_path / "images")
    data = dataclasses.replace(config.data, path=str(tmp_path / "images"))
    own = dataclasses.replace(config, data=data)
    with claimed(own):
        write_statistics(Path(own.out), read_data(own, Path(own.out)).statistics())
    return own


def begin(config: TrainConfig) -> None:
    """The log is what a run has after its first step."""
    (Path(config.out) / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')


def test_a_second_process_is_refused(own: TrainConfig) -> None:
    """In a folder of a run, and in one that is new when the other process claims it."""
    busy = pytest.raises(ValueError, match=r"^another process works in .*; wait until it ends")
    before = content(Path(own.out))
    with claimed(own), busy:
        train(own)
    assert content(Path(own.out)) == before
    folder = Path(f"{own.out}-new")
    folder.mkdir()
    with alone(folder), busy:
        train(dataclasses.replace(own, out=str(folder)))
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with claimed(dataclasses.replace(own, out=str(folder))):
        assert (folder / "config.json").is_file()


def test_a_run_that_came_first_is_kept(own: TrainConfig) -> None:
    """The folder was new when this process looked, and is another run's when it claims it."""
    begin(own)
    before = content(Path(own.out))
    taken = pytest.raises(ValueError, match="another configuration: seed = 9 here and 0 there")
    with taken, claimed(dataclasses.replace(own, seed=9)):
        raise AssertionError
    assert content(Path(own.out)) == before


def test_images_of_another_size_or_number_are_refused(own: TrainConfig) -> None:
    begin(own)
    image = Path(own.data.path) / "rows" / "00.png"
    before = content(Path(own.out))
    changed = r"images of the run in .* have changed since it began .*choose another --out"
    image.write_bytes(image.read_bytes() + b"more")
    with pytest.raises(ValueError, match=changed):
        train(own)
    image.unlink()
    with pytest.raises(ValueError, match=changed):
        train(own)
    assert content(Path(own.out)) == before


def test_a_newer_image_of_the_same_size_is_told(
    own: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy is newer, too."""
    begin(own)
    image = Path(own.data.path) / "rows" / "00.png"
    measured = Path(own.out, "statistics.json").stat().st_mtime_ns
    first = read_data(own, Path(own.out))
    assert capsys.readouterr().err == ""
    os.utime(image, ns=(0, measured + DAY))
    assert read_data(own, Path(own.out)).mean == first.mean
    assert f"warning: {image} was written after the run in {own.out}" in capsys.readouterr().err
    # What has been measured keeps its time, so that it is told again.
    write_statistics(Path(own.out), first.statistics())
    assert Path(own.out, "statistics.json").stat().st_mtime_ns == measured


def test_other_bits_than_a_run_began_with_are_refused(own: TrainConfig) -> None:
    """The options of reading are no part of the configuration, and yet of the run."""
    folder = Path(own.out)
    before = content(folder)
    assert "reading" not in read_record(folder / "statistics.json")
    set_reading(bits=12)
    fresh = read_data(own, folder)  # no step was made: it measures anew
    assert fresh.statistics()["reading"] == {"bits": 12}
    begin(own)
    with pytest.raises(ValueError, match="with neither --pages nor --bits, and now with --bits 12"):
        read_data(own, folder)
    (folder / "log.jsonl").unlink()
    assert content(folder) == before
    write_statistics(folder, fresh.statistics())
    begin(own)
    assert read_data(own, folder).mean == fresh.mean
    adopt_reading({})
    with pytest.raises(ValueError, match="with --bits 12, and now with neither"):
        read_data(own, folder)


def test_before_its_first_step_a_run_measures_anew(own: TrainConfig) -> None:
    path = Path(own.out) / "statistics.json"
    write_record(path, read_record(path) | {"mean": [0.5] * 3, "std": [0.5] * 3})
    assert read_data(own, Path(own.out)).mean == (0.5, 0.5, 0.5)
    pixels = np.random.default_rng(1).integers(0, 99, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(Path(own.data.path) / "rows" / "99.png")
    assert read_data(own, Path(own.out)).mean != (0.5, 0.5, 0.5)
