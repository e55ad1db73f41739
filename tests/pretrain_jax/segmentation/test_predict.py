"""The command `predict`: masks, regions, areas and probabilities of any images."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.mask import decode

from hardset.cli import run
from hardset.folder import digest, read_manifest
from hardset.verify import verify
from pretrain_jax.__main__ import main
from pretrain_jax.segmentation import SegmentationSet, finetune, load_segmenter, predict
from pretrain_jax.segmentation.predicting import output_name, read_spacing
from tests.pretrain_jax.segmentation.rectangles import CONFIG

ROOT = Path(__file__).parents[3]
CHILD = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from pretrain_jax.segmentation import TrainedSegmenter, predict

logits, calls = TrainedSegmenter.logits, []

def counted(self, images, **options):
    calls.append(len(images))
    if len(calls) == 7:  # in the second piece of 70 images, which are five batches
        os.kill(os.getpid(), signal.SIGKILL)
    return logits(self, images, **options)

TrainedSegmenter.logits = counted
predict(*sys.argv[1:4])
"""


@pytest.fixture(scope="module")
def model(rectangles: SegmentationSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "run"
    finetune(None, rectangles, out, config=CONFIG, seed=3)
    return out


def drawn(number: int, size: tuple[int, int]) -> np.ndarray:
    """Noise with a bright rectangle, unlike any of those that the model saw."""
    rng = np.random.default_rng([number, 7])
    pixels = rng.integers(0, 90, (*size, 3))
    pixels[size[0] // 4 : size[0] // 2, size[1] // 3 :] += 150
    return pixels.astype(np.uint8)


# pycocotools implements __array__ without the keyword copy of NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_regions_areas_and_probabilities(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file against the model called on pixels that Pillow reads by itself."""
    images, out = tmp_path / "images", tmp_path / "out"
    sizes = {"a.png": (20, 24), "a.tif": (33, 17), "sub/a.png": (9, 41), "sub/b.png": (60, 60)}
    for number, (name, size) in enumerate(sizes.items()):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn(number, size)).save(images / name)
    (images / "broken.png").write_bytes(b"no picture")
    (images / "notes.docx").write_bytes(b"no image")
    command = ["predict", str(images), "--model", str(model), "--out", str(out)]
    assert run(main, [*command, "--probabilities"]) == 2
    error = capsys.readouterr().err
    assert "1 of the 5 images" in error and "1 undecodable" in error and "broken.png" in error
    assert "--skip-at-most" in error
    # What was predicted is kept: the same command with a larger share ends the work.
    command += ["--probabilities", "--skip-at-most", "0.2", "--batch-size", "3"]
    assert run(main, command) == 0
    shown = capsys.readouterr()
    assert "masks of 4 of 5 images" in shown.out and "broken.png" in shown.err
    assert "broken.png" in (out / "skipped.txt").read_text()
    assert "passed over, as neither images nor videos: 1 .docx" in shown.err

    segmenter = load_segmenter(model)
    pixels = {name: np.asarray(Image.open(images / name)) for name in sizes}
    wanted = dict(zip(sizes, segmenter.predict(list(pixels.values())), strict=True))
    for name, mask in wanted.items():
        with Image.open(out / "masks" / f"{name}.png") as found:
            assert found.mode == "L" and np.array_equal(np.asarray(found), mask)
        assert 0 < mask.sum() < mask.size  # both classes: the test says something
    # Regions: pycocotools decodes them to the masks.
    record = json.loads((out / "coco.json").read_text())
    assert record["categories"] == [{"id": 1, "name": "foreground"}]
    names = {one["id"]: one["file_name"] for one in record["images"]}
    assert sorted(names.values()) == sorted(sizes)
    assert len(record["annotations"]) == 4
    for one in record["annotations"]:
        mask = wanted[names[one["image_id"]]] == 1
        assert np.array_equal(decode(one["segmentation"]), mask)
        rows, columns = np.nonzero(mask)
        corner, far = (columns.min(), rows.min()), (columns.max(), rows.max())
        box = [*corner, far[0] - corner[0] + 1, far[1] - corner[1] + 1]
        assert one["bbox"] == box and one["area"] == mask.sum()
    # Areas: counted once more.
    with (out / "areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        mask = wanted[row["image"]]
        own = int((mask == segmenter.classes.index(row["class"])).sum())
        assert int(row["pixels"]) == own
        assert float(row["share"]) == pytest.approx(own / mask.size, rel=1e-5)
    # Probabilities are those of two logits, interpolated: their sigmoid, within half a unit of
    # float16's last place (2**-11 below 1), and they decide as the masks do.
    for (name, mask), logits in zip(
        wanted.items(), segmenter.logits(list(pixels.values())), strict=True
    ):
        found = np.load(out / "probabilities" / f"{name}.npy")
        assert found.shape == (*mask.shape, 2) and found.dtype == np.float16
        size = mask.shape[::-1]
        low, high = (
            np.asarray(Image.fromarray(plane.copy()).resize(size, Image.Resampling.BILINEAR))
            for plane in np.moveaxis(logits, -1, 0)
        )
        sigmoid = 1 / (1 + np.exp(low.astype(np.float64) - high))
        assert np.allclose(found[..., 1], sigmoid, atol=2**-11, rtol=2**-10)
        sure = np.abs(sigmoid - 0.5) > 1e-3
        assert np.array_equal(found.argmax(axis=-1)[sure], mask[sure])
    # An overlay leaves the background as it is.
    with Image.open(out / "overlays" / "a.png.png") as overlay:
        kept = wanted["a.png"] == 0
        assert np.array_equal(np.asarray(overlay)[kept], pixels["a.png"][kept])
        assert not np.array_equal(np.asarray(overlay)[~kept], pixels["a.png"][~kept])
    checked = verify([out])
    assert checked.passed and checked.counts["not listed"] == 0
    assert not (out / "pieces").exists()


def test_grey_images_frames_and_lists(model: Path, tmp_path: Path) -> None:
    """Any source, one size of batch or another: the same masks."""
    import av

    images = tmp_path / "images"
    images.mkdir()
    with av.open(str(images / "film.mkv"), "w") as film:
        stream = film.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(drawn(number, (24, 32)), format="rgb24")
            film.mux(stream.encode(frame.reformat(format="bgr0")))
        film.mux(stream.encode())
    grey = drawn(8, (16, 16))[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    (images / "list.txt").write_text("film.mkv\n../grey.png\n")
    table = "image,row_mm,column_mm,slice_mm\nfilm.mkv,,,\n../grey.png,0.5,0.25,3\n"
    (images / "spacing.csv").write_text(table)
    for size in (1, 4):
        predict(images / "list.txt", model, tmp_path / str(size), batch_size=size, frame_stride=2)
    names = [f"film.mkv#{number:06}" for number in (0, 2, 4)] + ["%2E%2E/grey.png"]
    pixels = [drawn(number, (24, 32)) for number in (0, 2, 4)] + [np.stack([grey] * 3, axis=-1)]
    for name, mask in zip(names, load_segmenter(model).predict(pixels), strict=True):
        for size in ("1", "4"):
            with Image.open(tmp_path / size / "masks" / f"{name}.png") as found:
                assert np.array_equal(np.asarray(found), mask)
    with (tmp_path / "1" / "areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # a pixel has 0.5 x 0.25 mm2
        known = row["image"] == "../grey.png"
        assert row["mm2"] == (f"{int(row['pixels']) / 8:.6g}" if known else "")
    told = [row["image"] for row in rows]
    assert told == [name for name in [*names[:3], "../grey.png"] for _ in range(2)]
    manifests = [read_manifest(tmp_path / size) for size in ("1", "4")]
    assert digest(manifests[0]) == digest(manifests[1])


def test_a_killed_prediction_goes_on(model: Path, tmp_path: Path) -> None:
    """The killed process had four devices, which make the same masks as one."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(140):
        Image.fromarray(drawn(number, (12, 12))).save(images / f"{number:03}.png")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(images), str(model), str(out)],
        cwd=ROOT,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    first = out / "masks" / "000.png.png"
    written = first.stat().st_mtime_ns
    resumed = predict(images, model, out)
    assert first.stat().st_mtime_ns == written  # the piece that was done is not done again
    whole = predict(images, model, tmp_path / "whole")
    assert digest(resumed) == digest(whole) and resumed.outputs == whole.outputs
    for path in (tmp_path / "whole" / "masks").iterdir():
        assert path.read_bytes() == (out / "masks" / path.name).read_bytes()
    # Finished work is not done again, and other work does not replace it.
    assert predict(images, model, out) == resumed
    with pytest.raises(ValueError, match=r"parameters\.probabilities = false, now"):
        predict(images, model, out, probabilities=True)


def test_names_of_outputs_are_different_and_stay_inside() -> None:
    names = [
        ("a.png", -1),
        ("a.jpg", -1),
        ("a.png#1", 2),
        ("a.png", 1),
        ("a.png", 12),
        ("a.png.png/b.png", -1),
        ("a.png.npy/b.png", -1),
        ("/a.png", -1),
        ("../a.png", -1),
        ("../../a.png", -1),
        ("%2E%2E/a.png", -1),
        ("%2F/a.png", -1),
        ("a%2Epng/b.png", -1),
        ("a.png/b.png", -1),
        ("x" * 250 + ".png", -1),
        ("x" * 250 + ".jpg", -1),
        ("ä" * 120 + "/b.png", -1),
    ]
    made = [output_name(*one) for one in names]
    assert made[0] == "a.png" and made[3] == "a.png#000001"
    assert len(set(made)) == len(names)
    files = {f"{one}.png" for one in made}
    folders = {str(parent) for one in made for parent in Path(one).parents}
    assert not files & folders
    for one in made:
        assert not Path(one).is_absolute() and ".." not in Path(one).parts
        assert max(len(part.encode()) for part in Path(one).parts) < 250


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("image,mm\na.png,1\n", "has not the columns image, row_mm, column_mm"),
        ("image,row_mm,column_mm\na.png,1,-2\n", "line 2: 1 x -2 are no distances"),
        ("image,row_mm,column_mm\na.png,1,wide\n", "line 2: 1 x wide are no distances"),
    ],
)
def test_bad_tables_of_spacing(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "spacing.csv").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_spacing(tmp_path / "spacing.csv")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--batch-size", "0"], "--batch-size = 0"),
        (["--skip-at-most", "2"], "--skip-at-most = 2"),
        (["--model", "nothing"], "nothing does not exist"),
        (["--out", "images/out"], "lies inside the image source"),
    ],
)
def test_bad_commands(
    options: list[str],
    complaint: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Image.fromarray(drawn(0, (8, 8))).save("images/a.png")
    given = {"--model": str(model), "--out": "out"} | dict([options])
    told = [text for both in given.items() for text in both]
    assert run(main, ["predict", "images", *told]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not Path("out").exists() and not Path("images/out").exists()
