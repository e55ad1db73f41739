"""Images in tar, Parquet and Arrow files are those of the folder that they were packed from."""

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pretrain_jax.data import find_images, read_pixels
from pretrain_jax.data.containers import ContainerError, open_container
from pretrain_jax.data.listing import Tally, entries
from pretrain_jax.data.opening import NoFileError, regular_file, size_and_time
from pretrain_jax.synthesis import index_images
from tests.pretrain_jax.data.container_files import (
    FORMS,
    encoded,
    images,
    table,
    write_forms,
    write_saved,
    write_tar,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forms")
    write_forms(root, images())
    return root


def names(source: Path, tally: Tally | None = None) -> list[str]:
    return [entry.name for entry in entries(source, tally)]


@pytest.mark.parametrize("form", FORMS)
def test_names_classes_and_pixels_are_those_of_the_folder(forms: Path, form: str) -> None:
    wanted, found = find_images(forms / "folder"), find_images(forms / form)
    assert wanted.classes == found.classes == ("a", "b")
    assert np.array_equal(wanted.labels, found.labels)
    for number in range(len(wanted)):
        path, packed = wanted.files[number], found.files[number]
        assert packed.endswith(f"/{os.path.relpath(path, forms / 'folder')}")
        assert size_and_time(packed).size == Path(path).stat().st_size
        with regular_file(packed) as file:
            assert file.read() == Path(path).read_bytes()
        assert np.array_equal(read_pixels(packed), read_pixels(path))
    assert len(found) == len(wanted) == 7
    if form != "list.txt":
        assert list(entries(forms / form)) == list(entries(forms / "folder"))


def test_an_index_is_read_again_until_the_container_changes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.png", encoded(0)), ("b.png", encoded(1))])
    first = read_pixels(f"{path}/a.png")
    assert open_container(path) is open_container(path)
    write_tar(path, [("0.png", b"junk"), ("a.png", encoded(2)), ("b.png", encoded(1))])
    assert not np.array_equal(read_pixels(f"{path}/a.png"), first)
    assert names(path) == ["0.png", "a.png", "b.png"]
    with pytest.raises(NoFileError, match="there is no such file"):
        regular_file(f"{path}/c.png")
    # A damaged index in the cache is made anew.
    for kept in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.arrow"):
        assert kept.parent.stat().st_mode & 0o077 == 0
        kept.write_bytes(kept.read_bytes().replace(b"a.png", b"z.png"))
    shutil.copy2(path, tmp_path / "y.tar")
    assert names(tmp_path / "y.tar") == ["0.png", "a.png", "b.png"]


def test_parts_of_files_are_read_as_files(tmp_path: Path) -> None:
    """Interleaved reads, seeks to both ends, and videos, of which FFmpeg reads any part."""
    content = bytes(range(256)) * 1000
    path = write_tar(tmp_path / "x.tar", [("a.png", b"before"), ("b.png", content)])
    with regular_file(f"{path}/b.png") as file:
        assert file.seek(0, os.SEEK_END) == len(content) and file.read() == b""
        assert file.seek(-3, os.SEEK_END) and file.read(10) == content[-3:]
        file.seek(70_000)
        assert file.read(5) == content[70_000:70_005]
    video = tmp_path / "v.avi"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for number in range(5):
            pixels = np.full((48, 64, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    packed = write_tar(tmp_path / "v.tar", [("v.avi", video.read_bytes())])
    assert [one.frame for one in _located(packed)] == [0, 1, 2, 3, 4]
    assert [one.group for one in _located(packed)] == ["v"] * 5
    for frame in (4, 1):
        wanted = read_pixels(str(video), frame)
        assert np.array_equal(read_pixels(f"{packed}/v.avi", frame), wanted)


def _located(source: Path) -> list[Any]:
    from pretrain_jax.data.listing import iterate_images

    return list(iterate_images(source))


def test_png_of_16_bits_in_a_tar(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (8, 9, 3), np.uint16)
    with av.open(str(tmp_path / "deep.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 9, 8, "rgb48be"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb48be")))
        container.mux(stream.encode())
    content = (tmp_path / "deep.png").read_bytes()
    path = write_tar(tmp_path / "x.tar", [("deep.png", content)])
    assert np.array_equal(read_pixels(f"{path}/deep.png", bits=16), pixels)


def test_samples_of_webdataset(tmp_path: Path) -> None:
    """The class is in .cls or in .json, the group in .json, captions are passed over."""
    files = [
        ("s/0.jpg", encoded(0, "JPEG")),
        ("s/0.cls", b"7\n"),
        ("s/0.json", json.dumps({"group": "video 3", "label": 9}).encode()),
        ("s/0.txt", b"a caption"),
        ("s/1.JSON", json.dumps({"label": 12, "patient_id": 5}).encode()),
        ("s/1.left.png", encoded(1)),
        ("s/1.right.png", encoded(2)),
        ("s/2.png", encoded(3)),
        (".hidden/3.png", b""),
        ("s/._0.jpg", b"what macOS adds"),
    ]
    path = write_tar(tmp_path / "x.tar", files)
    tally = Tally()
    found = [(one.name, one.label, one.group) for one in entries(path, tally)]
    assert found == [
        ("s/0.jpg", "7", "video 3"),
        ("s/1.left.png", "12", "5"),
        ("s/1.right.png", "12", "5"),
        ("s/2.png", "", ""),
    ]
    assert dict(tally.passed_over) == {".txt": 1} and not tally.refused
    assert find_images(path).classes == ("12", "7")


def test_columns_of_datasets(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    files = [(f"{number}.png", encoded(number)) for number in range(3)]
    own = table(files, features, label=[1, 0, -1], patient_id=["p1", "p1", None])
    write_saved(tmp_path / "saved", [own])
    pyarrow.parquet.write_table(own, tmp_path / "x.parquet")
    for source in ("saved", "x.parquet"):
        found = [(one.label, one.group) for one in entries(tmp_path / source)]
        assert found == [("dog", "p1"), ("cat", "p1"), ("", "")]
    words = table(files, label=pyarrow.array(["x", "y", "x"]).dictionary_encode(), group=[1, 2, 1])
    pyarrow.parquet.write_table(words, tmp_path / "words.parquet")
    found = [(one.label, one.group) for one in entries(tmp_path / "words.parquet")]
    assert found == [("x", "1"), ("y", "2"), ("x", "1")]
    plain = pyarrow.table({"photo": [content for _, content in files], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(plain, tmp_path / "plain.parquet")
    assert names(tmp_path / "plain.parquet") == [f"0000000{number}.png" for number in range(3)]


def test_rows_without_a_path_have_their_number_and_an_ending_by_their_bytes(
    tmp_path: Path,
) -> None:
    gif, webp = encoded(3, "GIF"), encoded(4, "WEBP")
    rows = [
        (None, encoded(0)),
        (None, encoded(1, "JPEG")),
        ("x", encoded(2, "TIFF")),
        ("", gif),
        (None, webp),
        (None, None),
        ("far/away.png", None),
        (None, b"no image"),
        ("/abs/a.png", gif),
        ("../up.png", gif),
        ("two\nlines.png", gif),
        ("same.png", encoded(5)),
        ("same.png", encoded(6)),
    ]
    parts = [table(rows[:4]), table(rows[4:])]
    write_saved(tmp_path / "saved", parts)
    (tmp_path / "tables").mkdir()
    for number, part in enumerate(parts):
        pyarrow.parquet.write_table(part, tmp_path / "tables" / f"{number}.parquet")
    for form in ("saved", "tables"):
        tally = Tally()
        assert names(tmp_path / form, tally) == [
            "00000000.png",
            "00000001.jpg",
            "00000003.gif",
            "00000004.webp",
            "00000011/same.png",
            "00000012/same.png",
            "x.tif",
        ]
        told = "\n".join(tally.refused)
        assert len(tally.refused) == 6
        for part in (
            "row 5 (",
            "row 6 (",
            "only the path far/away.png",
            "begins as no known kind of image does (6e 6f",
            "has the path /abs/a.png, which leads out of the file",
            "has the path ../up.png",
            "line break",
        ):
            assert part in told
        assert any("2 rows share their path" in note for note in tally.notes())
        packed = tmp_path / form / "00000012/same.png"
        with regular_file(packed) as file:
            assert file.read() == encoded(6)


def test_an_index_tells_what_was_left_out_and_passed_over(tmp_path: Path) -> None:
    rows = [("a.png", encoded(0)), ("b.png", encoded(1)), ("b.png", encoded(2)), (None, None)]
    (tmp_path / "tables").mkdir()
    pyarrow.parquet.write_table(table(rows), tmp_path / "tables" / "0.parquet")
    (tmp_path / "tables" / "README.md").write_text("what it is")
    with pytest.raises(ValueError, match=r"row 3 \(0\.parquet\) holds no bytes.*--skip-at-most"):
        index_images(tmp_path / "tables", tmp_path / "index")
    manifest = index_images(tmp_path / "tables", tmp_path / "index", skip_at_most=0.3)
    assert manifest is not None
    assert (manifest.counts["images"], manifest.counts["names_refused"]) == (3, 1)
    told = "\n".join(manifest.notes)
    for part in ("1 with a name or record", "1 .md", "2 rows share their path with others"):
        assert part in told
    left = (tmp_path / "index/skipped.txt").read_text()
    assert left == "bad name: row 3 (0.parquet) holds no bytes of an image\n"


def _cut(path: Path, size: int) -> Path:
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def _tar(folder: Path) -> Path:
    return write_tar(folder / "x.tar", images().items())


def _damaged_header(folder: Path) -> Path:
    path = _tar(folder)
    content = bytearray(path.read_bytes())
    second = 512 + -(-len(images()["a/0.jpg"]) // 512) * 512
    content[second + 148] ^= 1  # the checksum
    path.write_bytes(content)
    return path


def _parquet(folder: Path, made: pyarrow.Table) -> Path:
    pyarrow.parquet.write_table(made, folder / "x.parquet")
    return folder / "x.parquet"


def _arrow(folder: Path, **options: Any) -> Path:
    saved = write_saved(folder / "saved", [table(images())])
    (part,) = saved.glob("*.arrow")
    if options:
        with pyarrow.ipc.new_stream(
            part, table(images()).schema, options=pyarrow.ipc.IpcWriteOptions(**options)
        ) as writer:
            writer.write_table(table(images()))
    return saved


def _cut_arrow(folder: Path) -> Path:
    saved = _arrow(folder)
    (part,) = saved.glob("*.arrow")
    _cut(part, part.stat().st_size - 8)
    return saved


def _splits(folder: Path) -> Path:
    (folder / "dict").mkdir()
    (folder / "dict/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return folder / "dict"


def _gone(folder: Path) -> Path:
    saved = _arrow(folder)
    for part in saved.glob("*.arrow"):
        part.unlink()
    return saved


def _indexed(folder: Path) -> Path:
    return write_saved(
        folder / "saved", [table(images())], _indices_data_files=[{"filename": "indices.arrow"}]
    )


def _feather(folder: Path) -> Path:
    with pyarrow.ipc.new_file(folder / "x.arrow", table(images()).schema) as writer:
        writer.write_table(table(images()))
    return folder / "x.arrow"


def _zipped(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(gzip.compress(_tar(folder).read_bytes()))
    return folder / name


def _json(folder: Path) -> Path:
    return write_tar(folder / "x.tar", [("0.png", encoded(0)), ("0.json", b"[1")])


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut in an image": (lambda at: _cut(_tar(at), 3000), r"x\.tar is cut short or damaged \("),
    "cut behind an image": (
        lambda at: _cut(_tar(at), 512 + -(-len(images()["a/0.jpg"]) // 512) * 512),
        r"x\.tar is cut short or damaged \(it ends too early\)",
    ),
    "damaged header": (_damaged_header, r"x\.tar is cut short or damaged \(no header at byte"),
    "no tar": (lambda at: _written(at / "x.tar", b"\1" * 2000), r"x\.tar is cut short or damaged"),
    "empty tar": (lambda at: _written(at / "x.tar", b""), r"x\.tar is cut short or damaged"),
    "compressed": (lambda at: _zipped(at, "y.tar"), r"y\.tar is compressed.*gunzip"),
    "tar.gz": (lambda at: _zipped(at, "y.tar.gz"), r"y\.tar\.gz is a compressed archive.*unpack"),
    "no json": (_json, r"0\.json in tar file .*x\.tar is no text .* JSON object"),
    "no images": (
        lambda at: _parquet(at, pyarrow.table({"a": [1], "b": ["x"]})),
        r"x\.parquet holds no column of images: its columns are a \(int64\), b \(string\); write",
    ),
    "two columns": (
        lambda at: _parquet(at, pyarrow.table({"a": [b"1"], "b": [b"x"]})),
        r"2 columns that may be images",
    ),
    "cut parquet": (
        lambda at: _cut(_parquet(at, table(images())), 2000),
        r"Parquet file .*x\.parquet is damaged or cut short \(",
    ),
    "long class": (
        lambda at: _parquet(at, table({"a.png": encoded(0)}, label=["x" * 5000])),
        r"x\.parquet holds a path, class or group of 5000 bytes, at most 4096 .* shorten it",
    ),
    "cut arrow": (_cut_arrow, r"\.arrow is cut short: the mark of its end is missing"),
    "compressed arrow": (lambda at: _arrow(at, compression="zstd"), r"\.arrow is compressed;"),
    "feather": (_feather, r"x\.arrow is of the kind with an index \(Feather\)"),
    "splits": (_splits, r"splits train, test; name one of them: .*dict/train$"),
    "no shards": (_gone, r"state\.json: data-00000-of-00001\.arrow is missing; save"),
    "indices": (_indexed, r"flatten_indices\(\)"),
    "whole slide": (
        lambda at: _written(at / "x.svs", b"II*\0"),
        r"x\.svs is neither .*QuPath, DeepZoomGenerator of openslide-python, or vips dzsave",
    ),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_containers_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    make, sentence = BAD[case]
    with pytest.raises(ValueError, match=sentence) as caught:
        find_images(make(tmp_path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


def test_members_of_no_use_are_counted(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a.png", "a.png", "/abs.png", "b/../../up.png", "two\nlines.png", "t\tab.png"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"junk"))
        archive.addfile(link)
        device = tarfile.TarInfo("null.png")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
        latin = tarfile.TarInfo("latin\udce9.png")
        archive.addfile(latin)
    tally = Tally()
    assert names(tmp_path / "x.tar", tally) == ["a.png"]
    told = "\n".join(tally.refused)
    assert len(tally.refused) == 8
    for part in (
        "'a.png' is there more than once",
        "/abs.png in x.tar leads out of the archive",
        "b/../../up.png in x.tar leads out",
        r"two\nlines.png",
        r"t\tab.png",
        "link.png in x.tar is a link",
        "null.png in x.tar is no regular file",
        r"latin\xe9.png' is not text in UTF-8",
    ):
        assert part in told
    with pytest.raises(ValueError, match=r"8 name\(s\) in .*x\.tar cannot be used"):
        find_images(tmp_path / "x.tar")
    assert len(find_images(tmp_path / "x.tar", skip_at_most=0.9).refused) == 8


def test_a_small_file_that_stands_for_gigabytes_is_not_unfolded(tmp_path: Path) -> None:
    """4 MiB that are stored once for 2,000 rows: 8 GiB if each row had its own."""
    value = encoded(0) + bytes(1 << 22)
    rows = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 2000, pyarrow.int32()), pyarrow.array([value], pyarrow.binary())
    )
    path = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"image": rows}), path, dictionary_pagesize_limit=1 << 24, store_schema=False
    )
    assert path.stat().st_size < 1 << 20
    assert len(names(path)) == 2000
    with regular_file(f"{path}/00001999.png") as file:
        assert file.read() == value
    assert pyarrow.default_memory_pool().max_memory() < 1 << 28


@pytest.mark.parametrize("form", ["images.tar", "images.parquet", "saved"])
def test_flipped_bytes_give_a_sentence_or_images(forms: Path, tmp_path: Path, form: str) -> None:
    """Never another error, whatever the byte."""
    root = forms / form
    whole = root if root.is_file() else next(root.glob("*.arrow"))
    content = whole.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.integers(0, len(content), 60)
    if form != "images.tar":  # most of what is no image lies at both ends
        places[::2] = len(content) - 1 - rng.integers(0, 1500, 30)
    for number, place in enumerate(places):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        path = tmp_path / f"{number}{whole.suffix}"
        path.write_bytes(damaged)
        try:
            found = [f"{path}/{name}" for name in names(path, Tally())]
            for one in found:
                regular_file(one).close()
        except ContainerError as error:
            assert str(path) in str(error)
        except ValueError as error:
            assert "cannot be used" in str(error) or "is empty" in str(error)
