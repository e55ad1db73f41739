"""The stage embed: what it writes, that it goes on after a kill, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.cli import run
from hardset.folder import digest, read_manifest
from hardset.verify import verify
from pretrain_jax.__main__ import main
from pretrain_jax.features import embed, open_encoder
from pretrain_jax.features.fitting import FITS
from pretrain_jax.synthesis.tables import Table
from tests.pretrain_jax.features.conftest import CONFIG, write_encoder, write_images

pytestmark = pytest.mark.usefixtures("compiled_once")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# Float32 through two blocks: sums in another order differ by some 1e-6 of numbers of order one.
CLOSE = 2e-5


def features_of(folder: Path) -> np.ndarray:
    return np.concatenate([batch["features"] for batch in Table(folder).batches(["features"])])


def ids_of(folder: Path) -> list[str]:
    return [one for batch in Table(folder).batches(["id"]) for one in batch["id"]]


def by_hand(path: Path) -> np.ndarray:
    """Pillow alone: the shorter side becomes 28 x 256/224 = 32, and 28 x 28 are cut out."""
    image = Image.open(path)
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((32 * width // shorter, 32 * height // shorter), Image.Resampling.BICUBIC)
    left, top = (image.width - 28) // 2, (image.height - 28) // 2
    return np.asarray(image.crop((left, top, left + 28, top + 28)))


def test_an_image_is_cut_as_pillow_cuts_it(image_folder: Path) -> None:
    for path in sorted(image_folder.rglob("*.png"))[:4]:
        found = FITS["dinov2"](np.asarray(Image.open(path)), 28)
        # Both round once a pass to whole numbers.
        assert np.abs(found.astype(int) - by_hand(path).astype(int)).max() <= 1
        squashed = np.asarray(Image.open(path).resize((28, 28), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(FITS["dinov3"](np.asarray(Image.open(path)), 28), squashed)


def test_features_are_those_of_the_encoder(
    image_folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.parquet"
    arguments = ["embed", str(image_folder), "--weights", str(weights), "--out", str(out)]
    options = ["--tokens", "both", "--dtype", "float32", "--batch-size", "8"]
    assert run(main, [*arguments, *options, "--image-size", "28"]) == 0
    told = capsys.readouterr().out
    assert "images per second without decoding" in told and "shorter side of images" in told

    names = sorted(str(one.relative_to(image_folder)) for one in image_folder.rglob("*.png"))
    assert ids_of(out) == names
    labels = [one for batch in Table(out).batches(["label"]) for one in batch["label"]]
    assert labels == [name.partition("/")[0] for name in names]
    pixels = np.stack([by_hand(image_folder / name) for name in names])
    images = ((pixels / 255 - MEAN) / STD).astype(np.float32)
    found = open_encoder(weights, image_size=28).features(images)
    expected = np.concatenate([found.token, found.patches.mean(axis=(1, 2))], axis=1)
    # A pixel may differ by one of 255 levels from Pillow's own crop, see the test above.
    np.testing.assert_allclose(features_of(out), expected, atol=0.03)

    manifest = read_manifest(out)
    assert manifest.counts == {"images": len(names), "width": 2 * CONFIG.width, "skipped": 0}
    assert set(manifest.rates) == {"images_per_second", "images_per_second_without_decoding"}
    checked = verify([out])
    assert checked.passed and checked.counts["not listed"] == 0

    # The same command again reads what is there; another one leaves it alone.
    assert run(main, [*arguments, *options, "--image-size", "28"]) == 0
    assert run(main, [*arguments, "--image-size", "28"]) == 2
    assert "was made with parameters.dtype" in capsys.readouterr().err
    assert run(main, [*arguments, "--tokens", "both", "--batch-size", "0"]) == 2
    assert "batch_size = 0" in capsys.readouterr().err


def test_neither_batches_nor_devices_nor_parts_change_a_number(
    image_folder: Path, weights: Path, tmp_path: Path, compiled_once: dict[str, str]
) -> None:
    options = {"weights": weights, "image_size": 28, "dtype": "float32"}
    embed(image_folder, tmp_path / "one", batch_size=8, **options)
    embed(image_folder, tmp_path / "parts", batch_size=5, shards=3, workers=1, **options)
    command = [sys.executable, "-m", "pretrain_jax", "embed", str(image_folder)]
    command += ["--weights", str(weights), "--image-size", "28", "--dtype", "float32"]
    command += ["--batch-size", "6", "--out", str(tmp_path / "four")]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run(command, env={**os.environ, **compiled_once, **flags}, check=True)
    expected = features_of(tmp_path / "one")
    assert np.abs(expected).max() > 0.1
    for name in ("parts", "four"):
        assert ids_of(tmp_path / name) == ids_of(tmp_path / "one")
        np.testing.assert_allclose(features_of(tmp_path / name), expected, atol=CLOSE)
    # Parts are decided by positions in the source.
    rows = [Table(tmp_path / "parts").rows, len(list((tmp_path / "parts").glob("*.parquet")))]
    assert rows == [22, 3]


KILLED = """
import os, signal, sys
from pretrain_jax.features import embed

def kill(event, arguments):
    # When the second part is about to get its name.
    if event == "os.rename" and str(arguments[1]).endswith("part-00001-of-00003.parquet"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
source, weights, out = sys.argv[1:]
embed(source, out, weights=weights, image_size=28, batch_size=8, shards=3)
"""


def test_a_killed_stage_loses_one_part(
    image_folder: Path, weights: Path, tmp_path: Path, compiled_once: dict[str, str]
) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(image_folder), str(weights), str(out)]
    child = subprocess.run(command, env={**os.environ, **compiled_once}, check=False)
    assert child.returncode == -signal.SIGKILL
    first = out / "part-00000-of-00003.parquet"
    assert sorted(one.name for one in out.glob("part-*.parquet")) == [first.name]
    written = first.stat().st_mtime_ns

    options = {"weights": weights, "image_size": 28, "batch_size": 8, "shards": 3}
    manifest = embed(image_folder, out, **options)
    assert first.stat().st_mtime_ns == written
    other = embed(image_folder, tmp_path / "undisturbed", **options)
    assert digest(manifest) == digest(other)


def test_images_of_no_use_are_counted_and_bounded(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "features"
    names = write_images(images, 8)
    (images / "odd" / "bad.png").write_bytes(b"no picture")
    np.save(images / "odd" / "wrong.npy", np.full((30, 30), np.nan, np.float32))
    Image.new("L", (1001, 1000)).save(images / "odd" / "z.png")
    arguments = ["embed", str(images), "--weights", str(weights), "--image-size", "28"]
    arguments += ["--max-megapixels", "1", "--batch-size", "8", "--out", str(out)]
    assert run(main, arguments) == 2
    told = capsys.readouterr().err
    assert "3 of the 11 images" in told and "more than the share 0 that may be skipped" in told
    assert "odd/bad.png" in told and "odd/wrong.npy" in told and "--skip-at-most 0.2728" in told
    assert str(images) + os.sep not in told.partition("cannot be used")[2]
    parts = [one.stat().st_mtime_ns for one in out.glob("*.parquet")]

    assert run(main, [*arguments, "--skip-at-most", "0.28", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    expected = {"unreadable": 1, "bad_pixels": 1, "too_large": 1, "skipped": 3, "images": 8}
    assert counts == expected | {"width": CONFIG.width}
    assert parts == [one.stat().st_mtime_ns for one in out.glob("*.parquet")]
    assert len((out / "skipped.txt").read_text().splitlines()) == 3
    assert ids_of(out) == names

    for name in names:
        (images / name).write_bytes(b"no picture")
    shutil.rmtree(out)
    assert run(main, [*arguments, "--skip-at-most", "1"]) == 2
    assert "none of the 11 images" in capsys.readouterr().err


def test_numbers_beyond_half_precision_are_refused(image_folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "large.safetensors"
    write_encoder(weights, scale=1e6)
    options = {"weights": weights, "image_size": 28, "batch_size": 8}
    with pytest.raises(ValueError, match=r"which float16 cannot hold: take float32"):
        embed(image_folder, tmp_path / "half", **options)
    embed(image_folder, tmp_path / "single", dtype="float32", **options)
    assert np.abs(features_of(tmp_path / "single")).max() > 65504
    write_encoder(weights, scale=np.nan)
    with pytest.raises(ValueError, match="hold nan, which float16 cannot hold: its weights are"):
        embed(image_folder, tmp_path / "nan", **options)


def test_outputs_do_not_go_among_the_images(image_folder: Path, weights: Path) -> None:
    with pytest.raises(ValueError, match="lies inside the image source"):
        embed(image_folder, image_folder / "features", weights=weights)
    assert not (image_folder / "features").exists()
