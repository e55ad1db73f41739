"""The index of a source: the same images as training sees, counted and hashed exactly."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import find_images
from pretrain_jax.stages import Manifest, Table, digest, read_manifest
from pretrain_jax.synthesis import Images, Saliency, index_images, propose
from pretrain_jax.synthesis.source import iterate_images, survey


def save(path: Path, size: tuple[int, int] = (6, 4), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.as_posix()))
    Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(path, **options)
    return path


def write_video(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for number in range(frames):
            picture = np.full((16, 32, 3), 20 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


ODD_NAMES = ("b.png", "a.png", "a/x.png", "a-b/y.png", "ab/c/d.png", "ab.png", "a/B.png", "Z.PNG")


def test_order_is_that_of_training(tmp_path: Path) -> None:
    """`find_images` sorts whole paths; the walk, one folder at a time, must agree."""
    for name in (*ODD_NAMES, ".hidden/e.png", "a/.f.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    write_video(tmp_path / "ab" / "v.mp4", 5)
    for stride in (1, 2):
        theirs = find_images(tmp_path, frame_stride=stride)
        named = [theirs.locate(k) for k in range(len(theirs))]
        ours = [(str(tmp_path / one.name), one.frame) for one in iterate_images(tmp_path, stride)]
        assert ours == named
    listed = tmp_path / "list.txt"
    listed.write_text("# two images\nab.png\tclass\n\na/x.png\n")
    theirs = find_images(listed)
    ours = [str(tmp_path / one.name) for one in iterate_images(listed)]
    assert ours == [theirs.locate(k)[0] for k in range(2)]


def test_counts_are_exact(image_folder: Path, index: Path) -> None:
    files = sorted(image_folder.rglob("*.png"))
    images = Images(index)
    rows = next(images.table.batches())
    assert rows["image"].tolist() == list(range(len(files)))
    for row, path in enumerate(files):
        with Image.open(path) as image:
            assert (rows["width"][row], rows["height"][row]) == image.size
        assert rows["name"][row] == path.relative_to(image_folder).as_posix()
        assert rows["bytes"][row] == path.stat().st_size
        assert rows["sha256"][row] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (rows["frame"][row], rows["group"][row]) == (-1, "")
    counts = images.manifest.counts
    pixels = [np.asarray(Image.open(path)).shape for path in files]
    assert counts["pixels"] == sum(height * width for height, width, _ in pixels)
    assert counts["bytes"] == sum(path.stat().st_size for path in files)
    assert (counts["images"], counts["unreadable"]) == (len(files), 0)
    assert images.pixel_counts().tolist() == [height * width for height, width, _ in pixels]


def test_videos_turned_and_unreadable_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_video(data / "v.mp4", 7)
    turned = Image.Exif()
    turned[274] = 6  # displayed a quarter turn to the right
    save(data / "photo.jpg", (6, 4), exif=turned)
    np.save(data / "array.npy", np.zeros((5, 9), np.uint8))
    (data / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    manifest = index_images(data, tmp_path / "index", shards=3)
    assert isinstance(manifest, Manifest)
    rows = Table(tmp_path / "index").take(np.arange(10))
    sizes = dict(zip(rows["name"], zip(rows["height"], rows["width"], strict=True), strict=True))
    assert sizes == {
        "array.npy": (5, 9),
        "broken.png": (0, 0),
        "photo.jpg": (4, 6),
        "v.mp4": (16, 32),
    }
    video = rows["name"] == "v.mp4"
    assert rows["frame"][video].tolist() == list(range(7))
    assert set(rows["group"][video]) == {"v.mp4"}
    # The frames' shares of the file's bytes add up.
    assert rows["bytes"][video].sum() == (data / "v.mp4").stat().st_size
    assert manifest.counts["unreadable"] == 1
    assert "broken.png" in manifest.notes[0]
    assert manifest.counts["pixels"] == 45 + 24 + 7 * 16 * 32


@pytest.mark.parametrize(
    ("change", "by_index", "by_others"),
    [
        ("size", "inputs.source", "has changed since it was indexed"),
        ("content", "has changed since it was indexed", "has changed since it was indexed"),
        ("gone", "parameters.images = 3, now parameters.images = 2", "is gone"),
    ],
)
def test_images_that_changed_since(
    tmp_path: Path, change: str, by_index: str, by_others: str
) -> None:
    """Told by the index when it is called again, and by the stages that read it."""
    data, out = tmp_path / "data", tmp_path / "index"
    write_video(data / "v.mp4", 3)
    for number in range(2):
        np.save(data / f"{number}.npy", np.full((5, 9), number, np.uint8))
    made = index_images(data, out, frame_stride=3)
    assert index_images(data, out, frame_stride=3) == made
    path = data / "1.npy"
    if change == "gone":
        path.unlink()
    else:
        np.save(path, np.full((5, 10 if change == "size" else 9), 7, np.uint8))
    for stage in (
        Images(out).check_unchanged,
        lambda: propose(out, tmp_path / "p", proposer=Saliency()),
    ):
        with pytest.raises(ValueError, match=rf"image .*1\.npy {by_others} .*start anew"):
            stage()
    assert not (tmp_path / "p").exists()
    with pytest.raises(ValueError, match=by_index):
        index_images(data, out, frame_stride=3)
    assert read_manifest(out) == made


def test_shards_and_processes_give_the_same_table(image_folder: Path, tmp_path: Path) -> None:
    whole = index_images(image_folder, tmp_path / "whole", shards=3)
    out = tmp_path / "parts"
    assert index_images(image_folder, out, shards=3, shard=2) is None
    assert index_images(image_folder, out, shards=3, shard=0) is None
    last = index_images(image_folder, out, shards=3, shard=1)
    assert whole is not None
    assert last is not None
    assert digest(whole) == digest(last)
    assert index_images(image_folder, out, shards=3) == last


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a.png")
    index_images(tmp_path / "data", tmp_path / "index")
    before = survey(tmp_path / "data").digest
    save(tmp_path / "data" / "b.png")
    assert survey(tmp_path / "data").digest != before
    with pytest.raises(ValueError, match="images = 1, now"):
        index_images(tmp_path / "data", tmp_path / "index")


def test_bad_sources(tmp_path: Path) -> None:
    out = tmp_path / "index"
    save(tmp_path / "data" / "a.png")
    for text, message in (
        ("data/a.png\ndata/a.png\n", "names an image more than once"),
        ("data/a.png\ndata/../data/a.png\n", "names an image more than once"),
        ("data/missing.png\n", "missing.png of .* cannot be read"),
        ("data/a.doc\n", "line 1: 'data/a.doc' ends in none of"),
        ("", "is empty"),
    ):
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            index_images(tmp_path / "list.txt", out)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of the 1 images"):
        index_images(tmp_path / "broken", tmp_path / "other")
    with pytest.raises(ValueError, match="does not exist"):
        index_images(tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match="lies inside the image source"):
        index_images(tmp_path / "data", tmp_path / "data" / "run" / "index")
    save(tmp_path / "tab" / "a\tb.png")
    with pytest.raises(ValueError, match="holds a tab"):
        index_images(tmp_path / "tab", out)
