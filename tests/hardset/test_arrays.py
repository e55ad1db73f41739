"""Array files: NumPy reads what is written, hostile files end in one sentence and little memory."""

import io
import os
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hardset.arrays import (
    ArrayFileError,
    array_names,
    load_array,
    load_arrays,
    npy_bytes,
    npz_bytes,
)
from hardset.seal import check_seal

ARRAYS = {
    "double": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "text": np.array(["a", "κ"]),
    "records": np.array([(1, 2.5)], [("k", "i4"), ("x", "f8")]),
    "empty": np.zeros((0, 4)),
    "no width": np.zeros(3, "V0"),
    "scalar": np.float32(2.0),
    "mask": np.array([True, False]),
}


def npy(header: str, data: bytes = b"", *, version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy file with any header."""
    text = header.encode("utf-8" if version[0] == 3 else "latin") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def header(shape: str = "(4,)", descr: str = "'<f8'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


@pytest.mark.parametrize("name", ARRAYS)
def test_what_numpy_writes_is_read_in_the_native_order(tmp_path: Path, name: str) -> None:
    array = np.asarray(ARRAYS[name])
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "b.npy").write_bytes(npy_bytes(array))
    assert check_seal(tmp_path / "b.npy")
    for path in (tmp_path / "a.npy", tmp_path / "b.npy"):
        for mmap in (False, True):
            found = load_array(path, mmap=mmap)
            np.testing.assert_array_equal(found, array)
            assert found.shape == array.shape
            assert found.dtype == array.dtype.newbyteorder("=")
            assert found.dtype.isnative
        assert isinstance(load_array(path, mmap=True), np.memmap) == bool(
            array.nbytes and array.dtype.isnative
        )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_sealed_archive_is_read_by_numpy(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes(ARRAYS, compressed=compressed))
    assert check_seal(path)
    with np.load(path) as file:
        assert list(file) == array_names(path) == list(ARRAYS)
        for name, found in load_arrays(path).items():
            np.testing.assert_array_equal(found, file[name])
            np.testing.assert_array_equal(load_array(path, key=name), file[name])


def test_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    assert load_array(tmp_path / "a.npz").tolist() == [0, 1, 2]
    np.savez(tmp_path / "b.npz", **{f"x{k}": np.arange(3) for k in range(50)})
    with pytest.raises(ArrayFileError, match=r"needs a key; it holds x0, .*, x9 and 40 more$"):
        load_array(tmp_path / "b.npz")
    with pytest.raises(ArrayFileError, match=r"holds no y; it holds x0"):
        load_array(tmp_path / "b.npz", key="y")
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(ArrayFileError, match=r"an \.npy file, which holds one array and no x"):
        load_array(tmp_path / "a.npy", key="x")


HOSTILE_NPY = {
    "empty": (b"", "does not begin as one"),
    "text": (b"1 2 3\n", "does not begin as one"),
    "pickle": (b"\x80\x04K\x01.", "does not begin as one"),
    "archive": (b"PK\x03\x04", r"give it the ending \.npz"),
    "magic only": (b"\x93NUMPY", "unknown version"),
    "version 9": (npy(header(), version=(9, 0)), "unknown version"),
    "no header": (b"\x93NUMPY\x01\x00", "header"),
    "half a header": (npy(header())[:30], "header"),
    "header of 4 GB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "its header has 4294967295 bytes"),
    "header of 60 KB": (npy(header() + " " * 60_000), "its header has 6"),
    "nested header": (npy("(" * 9000), "header cannot be read"),
    "nested signs": (npy("-" * 9000 + "1"), "header cannot be read"),
    "list": (npy("[1, 2]"), "other entries than"),
    "call": (npy("__import__('os').abort()"), "header cannot be read"),
    "more keys": (npy(header()[:-1] + ", 'x': 1}"), "other entries than"),
    "unhashable": (npy("{[]: 1}"), "header cannot be read"),
    "dtype word": (npy(header(descr="'banana'")), "header cannot be read"),
    "dtype number": (npy(header(descr="3")), "header cannot be read"),
    "dtype of 2 EB": (npy(header(descr="'<V2000000000000000000'")), "header cannot be read"),
    "dtype of rows": (npy(header(descr="[('a', '<f8', (99999, 99999))]")), "header|cut short"),
    "objects": (npy(header(descr="'|O'"), b"\x80\x04N."), "dtype object: it holds pickled"),
    "objects inside": (npy(header(descr="[('a', '|O')]"), b"."), "pickled Python objects"),
    "True in the shape": (npy(header("(True, 4)"), bytes(32)), r"shape = \(True, 4\)"),
    "10**30 rows": (npy(header(f"({10**30}, 4)"), bytes(32)), "shape = "),
    "2**62 rows": (npy(header(f"({2**62}, 4)"), bytes(32)), "larger than any memory"),
    "product that wraps to 0": (npy(header(f"({2**32}, {2**32})")), "larger than any memory"),
    "no rows of 2**62": (npy(header(f"(0, {2**62})")), "larger than any memory"),
    "negative": (npy(header("(-1, 4)"), bytes(32)), r"shape = \(-1, 4\)"),
    "real": (npy(header("(4.0,)"), bytes(32)), "shape = "),
    "list as shape": (npy(header("[4]"), bytes(32)), "shape = "),
    "number as shape": (npy(header("4"), bytes(32)), "shape = 4"),
    "100 axes": (npy(header(str((1,) * 100)), bytes(8)), "shape = "),
    "order": (npy(header(fortran="1"), bytes(32)), "fortran_order = 1"),
    "1 TB": (npy(header("(137438953472,)"), bytes(32)), "cut short"),
    "cut": (npy(header(), bytes(31)), "cut short"),
    "longer": (npy(header(), bytes(33)), "1 bytes follow"),
    "as long as a seal": (npy(header(), bytes(32 + 79)), "holds no checksum"),
}


@pytest.mark.parametrize("name", HOSTILE_NPY)
@pytest.mark.parametrize("mmap", [False, True])
def test_hostile_npy(tmp_path: Path, name: str, mmap: bool) -> None:
    content, sentence = HOSTILE_NPY[name]
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ArrayFileError, match=sentence) as caught:
        load_array(path, mmap=mmap)
    check_sentence(str(caught.value), path)


def check_sentence(text: str, path: Path) -> None:
    """One line that names the file, no longer than can be read."""
    assert text.startswith(str(path))
    assert text.isprintable()
    assert len(text) < 500 + len(str(path))


def archive(entries: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def patched(content: bytes, place: int, new: bytes, *, central: bool = True) -> bytes:
    """An archive with other bytes at `place` of its first central entry."""
    begin = content.index(b"PK\x01\x02") if central else 0
    return content[: begin + place] + new + content[begin + place + len(new) :]


GOOD = archive({"x.npy": npy(header(), bytes(32))})
TWICE = archive({"x.npy": npy(header(), bytes(32)), "y.npy": npy(header(), bytes(32))}).replace(
    b"y.npy", b"x.npy"
)
HOSTILE_NPZ = {
    "empty": (b"", "no .npz archive"),
    "npy": (npy(header(), bytes(32)), "no .npz archive"),
    "half": (GOOD[: len(GOOD) // 2], "no .npz archive"),
    "without a beginning": (GOOD[60:], "is damaged"),
    "encrypted": (patched(GOOD, 8, b"\x01\x00"), "encrypted; save it again without"),
    "bzip2": (archive({"x.npy": b""}, zipfile.ZIP_BZIP2), "does not write"),
    "lzma": (archive({"x.npy": b""}, zipfile.ZIP_LZMA), "does not write"),
    "method 99": (patched(GOOD, 10, b"\x63\x00"), "does not write"),
    "no array": (archive({"x.txt": b"1"}), "holds x.txt, which is no array"),
    "text as array": (archive({"x.npy": b"1"}), "does not begin as one"),
    "escapes": (archive({"\x1b[31mx\n.txt": b"1"}), r"holds \\x1b\[31mx \.txt"),
    "long name": (archive({"x" * 60_000: b"1"}), r"\(60000 characters\)"),
    "two of a name": (TWICE, "holds x.npy twice"),
    "nothing inside": (archive({}), "needs a key; it holds no array"),
    "objects": (archive({"x.npy": npy(header(descr="'|O'"), b".")}), "pickled Python objects"),
    "True in the shape": (archive({"x.npy": npy(header("(True, 4)"), bytes(32))}), r"\(True, 4\)"),
    "10**30 rows": (archive({"x.npy": npy(header(f"({10**30}, 4)"))}), "shape = "),
    "cut inside": (archive({"x.npy": npy(header(), bytes(31))}), "31 are there"),
    "longer inside": (archive({"x.npy": npy(header(), bytes(33))}), "33 are there"),
    "1 TB promised": (archive({"x.npy": npy(header("(137438953472,)"), bytes(9))}), "9 are there"),
    "3.2 GB promised": (patched(GOOD, 24, b"\x00\x00\x00\xc0"), "save it uncompressed"),
    "changed content": (GOOD.replace(bytes(32), bytes(31) + b"\x01"), "is damaged: Bad CRC"),
    "other name inside": (GOOD.replace(b"x.npy", b"y.npy", 1), "is damaged"),
    "place outside": (patched(GOOD, 42, b"\xff\xff\xff\x7f"), "is damaged"),
    "nested header": (archive({"x.npy": npy("(" * 9000)}), "header cannot be read"),
    "version 9": (archive({"x.npy": npy(header(), version=(9, 0))}), "unknown version"),
    "seal of another": (
        npz_bytes({"x": np.arange(3)}).replace(b"hardset-sha256:", b"another-digest:"),
        "holds no checksum",
    ),
    "changed and sealed": (
        npz_bytes({"x": np.arange(3)}).replace(b"x.npy", b"y.npy"),
        "its checksum does not match",
    ),
    "seal changed": (
        npz_bytes({"x": np.arange(3)}).replace(b"hardset-sha256:", b"hardset-sha256."),
        "its checksum does not match",
    ),
    "garbage deflated": (
        patched(patched(GOOD, 10, b"\x08\x00"), 8, b"\x08\x00", central=False),
        "is damaged",
    ),
    "negative rows": (archive({"x.npy": npy(header("(-4,)"), bytes(32))}), r"shape = \(-4,\)"),
    "dtype word": (archive({"x.npy": npy(header(descr="'banana'"))}), "header cannot be read"),
    "header of 60 KB": (archive({"x.npy": npy(header() + " " * 60_000)}), "its header has 6"),
    "comment that is cut": (npz_bytes({"x": np.arange(3)})[:-20], "its checksum does not match"),
    "many entries": (archive({f"{k}.txt": b"" for k in range(3000)}), "which is no array"),
}


@pytest.mark.parametrize("name", HOSTILE_NPZ)
def test_hostile_npz(tmp_path: Path, name: str) -> None:
    content, sentence = HOSTILE_NPZ[name]
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ArrayFileError, match=sentence) as caught:
        load_array(path)
    check_sentence(str(caught.value), path)


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("x.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(npy(header(f"({1 << 24},)", "'|u1'")))
        for _ in range(16):
            entry.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (load_array, load_arrays):
        with pytest.raises(ArrayFileError, match=r"promises 16777.*; at most 1048576 bytes, or 20"):
            read(path, limit_bytes=1 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096
    assert load_array(path, limit_bytes=1 << 25).sum() == 0  # an honest one of zeros


def test_what_is_no_file_neither_blocks_nor_raises_an_unknown_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "link.npz").symlink_to("nowhere")
    for name, sentence in {
        "pipe.npy": "is no file",
        "pipe.npz": "is no file",
        "folder.npy": "is a folder",
        "link.npz": "does not exist",
        "none.npy": "does not exist",
        "x" * 300 + ".npy": "File name too long",
    }.items():
        with pytest.raises(ArrayFileError, match=sentence):
            load_array(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_flipped_bit_of_a_sealed_file_changes_an_array_in_silence(
    tmp_path: Path, suffix: str
) -> None:
    array = np.random.default_rng(0).normal(size=40)
    path = tmp_path / f"a{suffix}"
    data = npy_bytes(array) if suffix == ".npy" else npz_bytes({"x": array}, compressed=True)
    refused = 0
    places = np.random.default_rng(1).integers(8 * len(data), size=1000)
    for place in places:
        changed = bytearray(data)
        changed[place // 8] ^= 1 << int(place) % 8
        path.write_bytes(changed)
        try:
            np.testing.assert_array_equal(load_array(path), array)
        except ArrayFileError as error:
            refused += 1
            check_sentence(str(error), path)
    assert refused > 0.98 * len(places)
