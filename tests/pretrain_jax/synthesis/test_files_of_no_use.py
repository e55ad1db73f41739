"""An index says of every file what it is: read, of no use, passed over, or read in part."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.folder import Manifest, read_manifest
from pretrain_jax.data import find_images
from pretrain_jax.data.listing import Tally, entries
from pretrain_jax.synthesis import Images, Saliency, index_images, propose
from tests.pretrain_jax.data.tiff_files import tiff


def save(path: Path, size: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Four good images, six files of no use, two that cannot be decoded."""
    data = tmp_path / "data"
    for number in range(4):
        save(data / f"good{number}.png", seed=number)
    (data / "link.png").symlink_to("nowhere")
    save(data / "two\nlines.png")
    (data / os.fsdecode(b"latin\xe9.png")).write_bytes((data / "good0.png").read_bytes())
    holes = np.full((40, 48), 0.5, np.float32)
    holes[2, 3] = np.nan
    np.save(data / "nan.npy", holes)
    np.save(data / "above.npy", np.full((40, 48), 7.5, np.float32))
    save(data / "one.png", (1, 1))
    (data / "junk.png").write_bytes(b"junk")
    (data / "empty.jpg").write_bytes(b"")
    return data


NAMED = (
    ("link.png", "it is a broken link"),
    (r"two\nlines.png", "line break"),
    (r"latin\xe9.png", "not text in UTF-8"),
    ("nan.npy", "holds nan at row 2, column 3"),
    ("above.npy", "from 7.5 to 7.5"),
    ("one.png", "is 1 x 1 pixels"),
)


def test_all_of_no_use_in_one_message(odd_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    with pytest.raises(ValueError, match="6 of the 12 files of ") as caught:
        index_images(odd_folder, out)
    told = str(caught.value)
    for name, reason in NAMED:
        assert name in told and reason in told
    assert "--skip-at-most" in told and "junk.png" not in told
    # Mended, the same folder of results is taken.
    for path in list(odd_folder.iterdir()):
        if not path.name.startswith(("good", "junk", "empty")):
            path.unlink()
    manifest = index_images(odd_folder, out)
    assert manifest is not None and manifest.counts["unreadable"] == 2


def test_a_share_may_be_skipped(odd_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    with pytest.raises(ValueError, match=r"8 of the 12 files .*, more than the share 0\.6"):
        index_images(odd_folder, out, skip_at_most=0.6)
    manifest = index_images(odd_folder, out, skip_at_most=0.7)
    assert manifest is not None
    counts = manifest.counts
    assert (counts["images"], counts["unreadable"], counts["names_refused"]) == (10, 6, 2)
    lines = (out / "skipped.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8
    for name in ("link.png", "nan.npy", "above.npy", "one.png", "junk.png", "empty.jpg"):
        assert sum(name in line for line in lines) == 1
    assert any("5 more images" in note for note in manifest.notes)
    # By reason and count, the most frequent first.
    assert manifest.notes[0] == (
        "8 image(s) left out: 2 undecodable, 2 with pixels that are no numbers in range, 2 with a "
        "name or record that cannot be used, 1 missing or no file, 1 one pixel wide or high; all "
        "are named in skipped.txt"
    )
    # The stage after it says so too, and goes on.
    patches = propose(out, tmp_path / "patches", proposer=Saliency())
    assert patches is not None and patches.counts["unreadable"] == 6
    assert any("6 image(s) of no use to the index" in note for note in patches.notes)
    Images(out).check_unchanged()


def test_training_leaves_out_names_of_no_use_by_share(odd_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"2 name\(s\) in .*line break.*"):
        find_images(odd_folder, skip_at_most=0.1)
    found = find_images(odd_folder, skip_at_most=0.2)
    assert len(found) == 10
    assert len(found.left_out) == 1 and "2 name(s) cannot be used" in found.left_out[0]


def test_the_command_counts_every_unreadable_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pretrain_jax.__main__ import main

    for number in range(3):
        save(tmp_path / "data" / f"good{number}.png", seed=number)
    for number in range(8):
        (tmp_path / "data" / f"bad{number}.png").write_bytes(b"junk")
    assert main(["propose", str(tmp_path / "run"), "--data", str(tmp_path / "data")]) == 0
    told = capsys.readouterr().out
    assert told.count("unreadable            8") == 2
    named = (tmp_path / "run" / "index" / "skipped.txt").read_text()
    assert all(f"bad{number}.png" in named for number in range(8))
    record = read_manifest(tmp_path / "run" / "index")
    assert "skipped.txt" in record.outputs and "5 more images" in told


def test_small_images_are_named_or_left_without_patches(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "data" / f"good{number}.png", seed=number)
    for number in range(2):
        save(tmp_path / "data" / f"small{number}.png", (9, 40))
    index_images(tmp_path / "data", tmp_path / "index")
    with pytest.raises(ValueError, match=r"small0\.png is 9 x 40 .*small1\.png is 9 x 40"):
        propose(tmp_path / "index", tmp_path / "p", proposer=Saliency())
    manifest = propose(tmp_path / "index", tmp_path / "p", proposer=Saliency(), skip_at_most=0.2)
    assert manifest is not None and manifest.counts["too_small"] == 2
    assert manifest.counts["unreadable"] == 0
    assert len((tmp_path / "p" / "skipped.txt").read_text().splitlines()) == 2


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    """Neither as an image nor as a video."""
    save(tmp_path / "data" / "good.png")
    os.mkfifo(tmp_path / "data" / "pipe.png")
    os.mkfifo(tmp_path / "data" / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as one:
        before = Path.cwd()
        os.chdir(tmp_path / "data")  # the path of a socket is short
        one.bind("socket.tif")
        os.chdir(before)
    (tmp_path / "data" / "null.jpg").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="4 of the 5 files") as caught:
        index_images(tmp_path / "data", tmp_path / "index")
    assert str(caught.value).count("a pipe, a socket or a device") == 4
    found = index_images(tmp_path / "data", tmp_path / "index", skip_at_most=0.9)
    assert isinstance(found, Manifest) and found.counts["unreadable"] == 4


def test_pictures_and_ranges_are_noted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    save(data / "plain.png")
    frames = [Image.new("RGB", (40, 48), (80 * number, 0, 9)) for number in range(3)]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(data / name, save_all=True, append_images=frames[1:])
    grey = np.random.default_rng(0).integers(0, 4096, (40, 48, 1))
    (data / "stack.tif").write_bytes(tiff(grey * 16, 16, 1, pages=5))
    (data / "camera.tif").write_bytes(tiff(grey, 16, 1))
    every = index_images(data, tmp_path / "all")
    assert every is not None
    assert "pictures" not in every.counts and every.counts["images"] == 2 + 3 * 3 + 5
    manifest = index_images(data, tmp_path / "index", pages="first")
    assert manifest is not None
    assert (manifest.counts["pictures"], manifest.counts["dark"]) == (4, 1)
    (pictures,) = [note for note in manifest.notes if "several pictures" in note]
    assert pictures.startswith("4 image(s) hold several pictures") and "1 more" in pictures
    (dark,) = [note for note in manifest.notes if "nearly black" in note]
    assert "camera.tif" in dark and "--bits 12" in dark


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    save(data / "a.png")
    for name in ("b.dcm", "c.dcm", "sub/d.nii.gz", "e.svs", "f.npz", "IM0001", "notes.txt"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(b"")
    manifest = index_images(data, tmp_path / "index")
    assert manifest is not None and manifest.counts["passed_over"] == 7
    (note,) = [one for one in manifest.notes if one.startswith("passed over")]
    for part in ("2 .dcm", "1 .nii.gz", "1 .svs", "1 .npz", "1 without an ending", "1 .txt"):
        assert part in note
    assert find_images(data).left_out == (note,)
    (data / "a.png").unlink()
    with pytest.raises(
        ValueError, match=r"is empty: .*it holds 2 \.dcm, .*import-dicom to use \.dcm"
    ):
        find_images(data)


def test_folders_that_are_links_are_followed_once(tmp_path: Path) -> None:
    data, far = tmp_path / "data", tmp_path / "far"
    save(data / "own" / "a.png")
    save(data / ".store" / "b.png")
    save(far / "x" / "c.png")
    (data / "far").symlink_to(far)
    (data / "store").symlink_to(".store")
    (data / "again").symlink_to("own")  # found by itself
    (far / "x" / "up").symlink_to(far)
    (far / "back").symlink_to(data)
    (data / "self").symlink_to("self")
    deep = tmp_path / "deep"
    for level in range(30):  # 2**30 ways down
        (deep / f"{level}").mkdir(parents=True)
        for side in "lr":
            (deep / f"{level}" / side).symlink_to(deep / f"{level + 1}")
    save(deep / "30" / "d.png")
    (data / "way").symlink_to(deep / "0")
    names = [entry.name for entry in entries(data)]
    way = "way/" + "l/" * 30
    assert names == ["far/x/c.png", "own/a.png", "store/b.png", f"{way}d.png"]
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "link").symlink_to(data)
    assert len(list(entries(empty))) == 4
    tally = Tally()
    assert list(entries(data, tally)) and not tally.refused
    # Results in a folder that a link leads to would be images of the source the next time.
    with pytest.raises(ValueError, match="lies inside the image source"):
        index_images(data, far / "x" / "run")
    assert not (far / "x" / "run").exists()


def test_the_limit_in_megapixels_is_kept_by_later_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "")
    data = tmp_path / "data"
    save(data / "small.png")
    Image.new("L", (500, 400), 7).save(data / "large.png")
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.1")
    manifest = index_images(data, tmp_path / "low")
    assert manifest is not None and manifest.counts["unreadable"] == 1
    assert manifest.counts["too_large"] == 1
    assert "1 with more megapixels than are decoded" in manifest.notes[0]
    assert "0.2 megapixels" in manifest.notes[1] and "--max-megapixels" in manifest.notes[1]
    manifest = index_images(data, tmp_path / "high", max_megapixels=0.2)
    assert manifest is not None and manifest.counts["unreadable"] == 0
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.1")
    allowed = propose(tmp_path / "high", tmp_path / "patches", proposer=Saliency())
    assert allowed is not None and allowed.counts["unreadable"] == 0
    assert manifest.parameters["max_megapixels"] == 0.2
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "many")
    with pytest.raises(ValueError, match="HARDSET_MAX_MEGAPIXELS = 'many' is not a number"):
        index_images(data, tmp_path / "none")
