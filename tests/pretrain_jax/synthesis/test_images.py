"""The index of a source: the same images as training sees, counted and hashed exactly."""

import hashlib
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hardset.folder import Manifest, digest, read_manifest
from pretrain_jax.data import UnreadableImageError, find_images, read_pixels
from pretrain_jax.data.listing import entries, iterate_images, list_line
from pretrain_jax.segmentation import frames_of, read_pretraining, write_image_list
from pretrain_jax.synthesis import Images, Saliency, index_images, propose
from pretrain_jax.synthesis.source import survey
from pretrain_jax.synthesis.tables import Table


def save(path: Path, size: tuple[int, int] = (6, 4), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.as_posix()))
    Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(path, **options)
    return path


def write_video(path: Path, frames: int, *, noisy: bool = False) -> Path:
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for number in range(frames):
            picture = np.full((16, 32, 3), 20 * number % 256, np.uint8)
            picture = rng.integers(0, 256, picture.shape, np.uint8) if noisy else picture
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


LINE_ENDS = ("a\u2028b.png", "a\x85b.png", "a\rb.png", "a\x0cb.png", " a.png", "#1.png")


def test_names_with_odd_characters_survive_a_list(tmp_path: Path) -> None:
    """Python takes all of these for ends of lines somewhere, blanks or comments."""
    for name in LINE_ENDS:
        save(tmp_path / name)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(map(list_line, LINE_ENDS)), encoding="utf-8", newline="\n")
    for files in (find_images(tmp_path).files, find_images(listed).files):
        assert {Path(file).name for file in files} == set(LINE_ENDS)
    assert [Path(one.name).name for one in iterate_images(listed)] == list(LINE_ENDS)
    windows = tmp_path / "windows.txt"
    windows.write_bytes("\ufeff#1.png\r\na\u2028b.png\tclass\tgroup\r\n".encode())
    (only,) = entries(windows)
    assert only == ("a\u2028b.png", "class", "group")


def test_names_that_no_list_holds(tmp_path: Path) -> None:
    save(tmp_path / "line" / "a\nb" / "c.png")
    with pytest.raises(ValueError, match=r"'a\\nb/c.png' .* line break"):
        index_images(tmp_path / "line", tmp_path / "index")
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / os.fsdecode(b"\xe9.png")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"b'\\xe9.png' .* not text in UTF-8.*rename the file"):
        index_images(tmp_path / "latin", tmp_path / "index")
    with pytest.raises(ValueError, match="cannot"):
        list_line("a.png", "patient\t7")


def test_cut_images_are_unreadable(tmp_path: Path) -> None:
    """Their heads still tell a size."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for name in ("whole.jpg", "cut.jpg", "cut.png"):
        (tmp_path / "data").mkdir(exist_ok=True)
        path = tmp_path / "data" / name
        Image.fromarray(noise).save(path)
        if name != "whole.jpg":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            with Image.open(path) as head:
                assert head.size == (50, 40)
    manifest = index_images(tmp_path / "data", tmp_path / "index")
    assert manifest is not None
    assert (manifest.counts["unreadable"], manifest.counts["pixels"]) == (2, 40 * 50)
    assert [name in manifest.notes[row] for row, name in enumerate(("cut.jpg", "cut.png"))]
    assert Images(tmp_path / "index").pixel_counts().tolist() == [0, 0, 2000]


def test_frames_of_a_cut_video_count_one_by_one(tmp_path: Path) -> None:
    """The index has as readable exactly the frames that `read_pixels` gives."""
    content = write_video(tmp_path / "v.avi", 20, noisy=True).read_bytes()
    lost = []
    for cut in range(3 * len(content) // 4, len(content), len(content) // 17):
        path = tmp_path / str(cut) / "v.avi"
        path.parent.mkdir()
        path.write_bytes(content[:cut])
        manifest = index_images(path.parent, tmp_path / f"index{cut}")
        assert manifest is not None
        rows = next(Table(tmp_path / f"index{cut}").batches(["frame", "height"]))
        for frame, height in zip(rows["frame"].tolist(), rows["height"].tolist(), strict=True):
            try:
                assert read_pixels(str(path), frame).shape[0] == height
            except UnreadableImageError:
                assert height == 0
        lost.append(int((rows["height"] == 0).sum()))
        assert manifest.counts["unreadable"] == lost[-1] < len(rows["height"])
    assert any(lost)


def test_sizes_of_turned_tiff(tmp_path: Path) -> None:
    data = tmp_path / "data"
    save(data / "rgb.tif", (4, 6), tiffinfo={274: 6})
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(data / "deep.tif", tiffinfo={274: 8})
    index_images(data, tmp_path / "index")
    rows = next(Table(tmp_path / "index").batches())
    assert [rows["height"].tolist(), rows["width"].tolist()] == [[6, 6], [4, 4]]


def test_groups_of_a_collection(tmp_path: Path) -> None:
    """Of the layout itself, and of a list that was made of it."""
    root = tmp_path / "ld"
    for number in range(3):
        save(root / "TrainValid" / "Images" / str(number // 2) / f"{number}.png")
    save(root / "Annotated" / "picture.png")
    write_video(root / "wild" / "patient7.mp4", 2)
    write_image_list(read_pretraining(root, "ldpolypvideo"), tmp_path / "list.txt")
    groups = ["TrainValid/Images/0", "TrainValid/Images/0", "TrainValid/Images/1"]
    groups += ["patient7", "patient7"]
    for number, source in enumerate((f"ldpolypvideo:{root}", tmp_path / "list.txt")):
        manifest = index_images(source, tmp_path / f"index{number}")
        assert manifest is not None
        assert manifest.counts["ungrouped"] == 0
        assert not manifest.notes
        rows = next(Table(tmp_path / f"index{number}").batches())
        assert rows["group"].tolist() == groups
        # The leakage check of a fine-tuning sees the same groups.
        assert [frame.group for frame in frames_of(source)] == groups
        Images(tmp_path / f"index{number}").check_unchanged()
    assert manifest.parameters.get("layout") is None
    assert read_manifest(tmp_path / "index0").parameters["layout"] == "ldpolypvideo"
    assert len(find_images(f"ldpolypvideo:{root}")) == 5
    with pytest.raises(ValueError, match="lies inside the image source"):
        index_images(f"ldpolypvideo:{root}", root / "out")
    with pytest.raises(ValueError, match="holds none of labeled-images"):
        index_images(f"hyper-kvasir:{root}", tmp_path / "none")
    with pytest.raises(ValueError, match=r"nowhere does not exist; unpack"):
        index_images(f"hyper-kvasir:{tmp_path}/nowhere", tmp_path / "none")
    with pytest.raises(ValueError, match=r"LAYOUT:FOLDER \(layouts ldpolypvideo, hyper-kvasir\)"):
        index_images(f"kvasir:{root}", tmp_path / "none")


def test_masks_of_a_collection_are_no_images(tmp_path: Path) -> None:
    for name in ("labeled-images/a/b/c/1.jpg", "segmented-images/masks/1.jpg"):
        save(tmp_path / "hk" / name)
    manifest = index_images(f"hyper-kvasir:{tmp_path / 'hk'}", tmp_path / "index")
    assert manifest is not None
    assert (manifest.counts["images"], manifest.counts["ungrouped"]) == (1, 1)
    assert "1 of 1 images are of no known group" in manifest.notes[0]


def test_other_groups_are_another_source(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    listed = tmp_path / "list.txt"
    seen = set()
    for line in ("a.png", "a.png\t\tone", "a.png\t\ttwo", "a.png\tclass\ttwo"):
        listed.write_text(f"{line}\n")
        seen.add(survey(listed).digest)
    assert len(seen) == 3
    listed.write_text("a.png\tclass\tgroup\tmore\n")
    with pytest.raises(ValueError, match="line 1 has 4 columns; there are path, class and group"):
        survey(listed)


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
    assert set(rows["group"][video]) == {"v"}
    # The frames' shares of the file's bytes add up.
    assert rows["bytes"][video].sum() == (data / "v.mp4").stat().st_size
    assert manifest.counts["unreadable"] == 1
    assert "broken.png" in manifest.notes[1]
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
        ("data/a.png\ndata/a.png\n", "names an image more than once: data/a.png"),
        ("data/a.png\ndata/../data/a.png\n", "names an image more than once: data/a.png"),
        ("data/a.tif#000003\n", "line 1: 'data/a.tif#000003' is one picture of a file"),
        ("data/missing.png\n", "missing.png: there is no such file"),
        ("data/a.doc\n", "line 1: 'data/a.doc' ends in none of"),
        ("data/a.png\ndata/a\0b.png\n", "line 2 holds a NUL character"),
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
