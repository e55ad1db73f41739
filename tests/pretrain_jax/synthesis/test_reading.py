"""Pages, their first one only, and --bits: through the commands, and in the stages after them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from hardset.cli import run
from hardset.folder import read_manifest
from pretrain_jax import PRESETS
from pretrain_jax.__main__ import main
from pretrain_jax.data import find_images, read_pixels
from pretrain_jax.data.options import Reading, adopt_reading, reading, set_reading
from pretrain_jax.pipeline import pretrain
from pretrain_jax.synthesis import Images, Saliency, index_images, propose, select, synthesise
from pretrain_jax.synthesis.parts import read_image, whole_images
from tests.pretrain_jax.data.tiff_files import tiff


def stack(path: Path, pages: int, bits: int = 8, seed: int = 0) -> NDArray[np.uint16]:
    """A TIFF file of bright squares on noise, without a word on its bits."""
    rng = np.random.default_rng(seed)
    top = 2**bits - 1
    planes = rng.integers(0, top // 4, (pages, 48, 56))
    for number, plane in enumerate(planes):
        plane[8 : 24 + number, 10:30] = top
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = planes.astype(np.uint8 if bits == 8 else np.uint16)
    tifffile.imwrite(path, kept, photometric="minisblack", metadata=None)
    return planes.astype(np.uint16)


def rows_of(index: Path) -> list[tuple[str, int, int, int, str]]:
    table = Images(index).table
    columns = ("name", "frame", "height", "width", "group")
    return [
        (str(name), int(frame), int(height), int(width), str(group))
        for batch in table.batches(list(columns))
        for name, frame, height, width, group in zip(*(batch[one] for one in columns), strict=True)
    ]


def test_pages_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    planes = stack(data / "a" / "cells.tif", 4)
    frames = [Image.fromarray(one.astype(np.uint8)) for one in planes]
    frames[0].save(data / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(data / "still.png")
    command = ["propose", str(out), "--data", str(data), "--least-side", "8", "--json"]
    assert run(main, command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["counts"]["images"] == 9 and not record["counts"].get("unreadable")
    assert rows_of(out / "index") == [
        *(("a/cells.tif", number, 48, 56, "a/cells.tif") for number in range(4)),
        *(("moving.gif", number, 48, 56, "moving.gif") for number in range(4)),
        ("still.png", -1, 48, 56, ""),
    ]
    # The bytes of a file are divided among its pages; all together are those of the files.
    manifest = read_manifest(out / "index")
    files = (data / "a" / "cells.tif", data / "moving.gif", data / "still.png")
    assert manifest.counts["bytes"] == sum(path.stat().st_size for path in files)
    assert "pages" not in manifest.parameters
    # A finished index is kept, and another choice is refused without a change.
    assert run(main, command) == 0
    capsys.readouterr()
    assert run(main, [*command, "--pages", "first"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "left alone" in error
    assert run(main, ["propose", str(out), "--pages", "first"]) == 2
    assert "say how --data is indexed" in capsys.readouterr().err


def test_the_first_page_is_what_later_stages_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process that knows nothing of the option."""
    data, out = tmp_path / "data", tmp_path / "run"
    planes = stack(data / "cells.tif", 3)
    stack(data / "more.tif", 2, seed=1)
    command = ["propose", str(out), "--data", str(data), "--least-side", "8", "--pages", "first"]
    assert run(main, command) == 0
    told = capsys.readouterr().out
    assert "2 image(s) hold several pictures" in told and "cells.tif holds 3 pages" in told
    assert read_manifest(out / "index").parameters["pages"] == "first"
    assert [row[:2] for row in rows_of(out / "index")] == [("cells.tif", -1), ("more.tif", -1)]
    set_reading(pages="all")
    images = Images(out / "index")
    assert reading().pages == "first"
    (first, _) = whole_images(images, 0, 2)
    found = read_image(images.root, first.name, first.frame, channels=1)
    np.testing.assert_array_equal(found[:, :, 0], planes[0])


def test_twelve_bits_by_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    planes = stack(data / "camera.tif", 2, bits=12)
    command = ["propose", str(out), "--data", str(data), "--least-side", "8"]
    assert run(main, command) == 0
    told = capsys.readouterr().out
    assert "2 image(s) hardly use their 16 bits" in told and "--bits 12" in told
    other = tmp_path / "other"
    assert run(main, ["propose", str(other), *command[2:], "--bits", "12"]) == 0
    assert "hardly" not in capsys.readouterr().out
    manifest = read_manifest(other / "index")
    assert manifest.parameters["bits"] == 12 and "dark" not in manifest.counts
    # The stages after it know: the proposals of both indices, and the pixels they are made of.
    adopt_reading({})
    before = propose(out / "index", tmp_path / "p", proposer=Saliency(least_side=8))
    after = propose(other / "index", tmp_path / "q", proposer=Saliency(least_side=8))
    assert before is not None and after is not None
    images = Images(other / "index")
    found = read_image(images.root, "camera.tif", 1, channels=1)[:, :, 0]
    assert np.abs(found - planes[1] * (255 / 4095)).max() <= 0.51
    Images(out / "index")
    assert reading() == Reading()
    # Values beyond it are told, and nothing is left behind.
    stack(data / "deep.tif", 1, bits=16)
    third = tmp_path / "third"
    arguments = [*command[2:], "--bits", "12", "--skip-at-most", "0"]
    assert run(main, ["propose", str(third), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--bits 12 says that values end at 4095" in error
    assert run(main, ["propose", str(third), *command[2:], "--bits", "9"]) == 2
    assert "bits = 9" in capsys.readouterr().err


def test_a_set_is_read_as_its_index_was(tmp_path: Path) -> None:
    """Pages are written as PNG files; what lies elsewhere is listed, and the set knows how."""
    data = tmp_path / "data"
    planes = {name: stack(data / name, 3, 12, seed) for seed, name in enumerate(("a.tif", "b.tif"))}
    made = {}
    for pages in ("first", "all"):
        out = tmp_path / pages
        index_images(data, out / "index", pages=pages, bits=12)
        adopt_reading({})
        select(out / "index", out / "selected", method="all")
        made[pages] = synthesise(out / "selected", out / "set")
    assert made["first"].parameters["pages"] == "first" and made["first"].parameters["bits"] == 12
    listed = (tmp_path / "first" / "set" / "data.txt").read_text().split()
    assert sorted(Path(one).name for one in listed) == ["a.tif", "b.tif"]
    written = find_images(tmp_path / "all" / "set" / "data.txt")
    assert len(written) == 6
    left = [*planes["a.tif"], *planes["b.tif"]]  # in whatever order
    for row in range(len(written)):
        found = read_pixels(*written.locate(row), channels=1)[:, :, 0]
        off = [float(np.abs(found - plane * (255 / 4095)).max()) for plane in left]
        assert min(off) <= 0.51
        del left[off.index(min(off))]
    # Pre-training on the set, in a process that was told nothing.
    adopt_reading({})
    with pytest.raises(ValueError, match=r"full_images = 9, but .* of 2 images"):
        pretrain(tmp_path / "first" / "set", tmp_path / "m", config=PRESETS["demo"], full_images=9)
    assert reading() == Reading(pages="first", bits=12)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_avif_and_jpeg_2000_through_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    """Read where Pillow decodes them; a damaged one is named."""
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    smooth = (np.indices((48, 56)).sum(axis=0) * 2).astype(np.uint8)
    picture = Image.fromarray(smooth).convert(mode)
    endings = ("avif", "jp2", "j2k", "jpx", "jpf", "j2c", "jpc", "AVIF")
    for number, ending in enumerate(endings):
        picture.save(data / f"{number}.{ending}", "AVIF" if ending.lower() == "avif" else None)
    (data / "cut.jp2").write_bytes((data / "1.jp2").read_bytes()[:90])
    (data / "cut.avif").write_bytes((data / "0.avif").read_bytes()[:200])
    assert run(main, ["propose", str(out), "--data", str(data), "--least-side", "8"]) == 0
    told = capsys.readouterr().out
    assert "cut.jp2 cannot be decoded" in told and "cut.avif cannot be decoded" in told
    counts = read_manifest(out / "index").counts
    assert (counts["images"], counts["unreadable"]) == (len(endings) + 2, 2)
    images = Images(out / "index")
    for number, ending in enumerate(endings):
        found = read_image(images.root, f"{number}.{ending}", channels=1)[:, :, 0]
        assert np.abs(found.astype(int) - smooth).mean() < 3, ending


def test_a_stack_of_too_many_pages_is_counted_as_unreadable(tmp_path: Path) -> None:
    data = tmp_path / "data"
    stack(data / "good.tif", 2)
    one = tiff(np.full((40, 40, 1), 7), 8, 1)
    (data / "loop.tif").write_bytes(one[:-4] + one[4:8])  # its directory names itself
    (data / "cut.tif").write_bytes(tiff(np.full((40, 40, 1), 7), 8, 1, pages=3)[:-9])
    manifest = index_images(data, tmp_path / "index")
    assert manifest is not None and manifest.counts["unreadable"] == 1  # the page that is cut
    names = [row[:2] for row in rows_of(tmp_path / "index")]
    assert names[:3] == [("cut.tif", 0), ("cut.tif", 1), ("cut.tif", 2)]
    assert names[3:] == [("good.tif", 0), ("good.tif", 1), ("loop.tif", -1)]


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("HARDSET_PAGES", "none", "HARDSET_PAGES = 'none' is not one of all, first"),
        ("HARDSET_BITS", "twelve", "HARDSET_BITS = 'twelve' is not a number of bits"),
        ("HARDSET_BITS", "8", "HARDSET_BITS = 8"),
        ("HARDSET_MAX_MEGAPIXELS", "-1", "HARDSET_MAX_MEGAPIXELS = -1"),
    ],
)
def test_variables_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValueError, match=sentence):
        reading()


def test_the_size_limit_of_an_index_never_falls() -> None:
    set_reading(max_megapixels=300, pages="first", bits=12)
    adopt_reading({"max_megapixels": 200, "frame_stride": 3})
    assert reading() == Reading(max_megapixels=300)
    adopt_reading({"max_megapixels": 400, "bits": 14})
    assert reading() == Reading(max_megapixels=400, bits=14)
    assert reading().content() == {"bits": 14}
