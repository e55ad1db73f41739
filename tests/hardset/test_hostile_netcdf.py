"""Data files that no writer of ours made: refused in one sentence, within little memory."""

import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from hardset.datafile import DataFileError, read_dataset, write_dataset
from hardset.seal import sealed

Change = Callable[[h5py.File], object]
NESTED = "[" * 100_000


def attribute(name: str, value: object) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


def of_x(name: str, value: object) -> Change:
    return lambda file: file["x"].attrs.__setitem__(name, value)


def dataset(**options: object) -> Change:
    return lambda file: file.create_dataset("y", **options)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (4,))
    file.create_virtual_dataset("y", layout)


def dimension_of_another(file: h5py.File) -> None:
    del file["x"].attrs["DIMENSION_LIST"]
    file["x"].attrs["DIMENSION_LIST"] = "none"


HUGE = "declares arrays of .*; at most 1073741824 bytes, or 20 times the file, are read"
CHANGES: dict[str, tuple[Change, str]] = {
    "8 TB that were never written": (dataset(shape=(10**12,), dtype="f8"), HUGE),
    "8 TB in pieces": (dataset(shape=(10**12,), dtype="f8", chunks=True), HUGE),
    "8 TB compressed": (dataset(shape=(10**12,), dtype="f8", compression="gzip"), HUGE),
    "4 TB of two axes": (dataset(shape=(10**6, 10**6), dtype="f4", fillvalue=3.0), HUGE),
    "larger than 2**63": (dataset(shape=(2**31, 2**31, 2**10), dtype="f8", chunks=(8, 8, 8)), HUGE),
    "one value in a piece of 3 GB": (
        dataset(shape=(1,), maxshape=(None,), dtype="u1", chunks=(3 * 2**30,)),
        HUGE,
    ),
    "values of 2 GB": (dataset(shape=(2,), dtype="S2000000000"), HUGE),
    "texts in an attribute": (attribute("names", ["x"] * 3000 + ["y" * 2**19]), HUGE),
    "in another file": (dataset(shape=(4,), dtype="f8", external=[("x", 0, 32)]), "y is elsewhere"),
    "virtual": (virtual, "y is elsewhere"),
    "link to another file": (
        lambda file: file.__setitem__("y", h5py.ExternalLink("/dev/zero", "/x")),
        "y is elsewhere",
    ),
    "link to nothing": (
        lambda file: file.__setitem__("y", h5py.SoftLink("/none")),
        "damaged or not NetCDF-4",
    ),
    "link to itself": (
        lambda file: file.__setitem__("y", h5py.SoftLink("/y")),
        "damaged or not NetCDF-4",
    ),
    "link with escapes": (
        lambda file: file.__setitem__("\x1b[31my\n", h5py.ExternalLink("x", "/x")),
        r"\\x1b\[31my is elsewhere",
    ),
    "kind a number": (attribute("kind", 3), r"holds 'np.int64\(3\)', not 'test'|holds .*3"),
    "kind two words": (attribute("kind", ["test", "test"]), "holds .*, not 'test'"),
    "kind with escapes": (attribute("kind", "\x1b[2J"), r"holds .*x1b\[2J"),
    "kind of 60 KB": (attribute("kind", "x" * 60_000), r"\(600.. characters\)"),
    "schema a word": (attribute("schema_version", "2"), "schema version"),
    "schema real": (attribute("schema_version", 1.5), "schema version"),
    "schema an array": (attribute("schema_version", np.array([2, 2])), "schema version"),
    "schema newer": (attribute("schema_version", 99), "schema version 99"),
    "parameters a number": (attribute("parameters", 3.0), "does not say its parameters"),
    "parameters a list": (attribute("parameters", "[1]"), "does not say its parameters"),
    "parameters no JSON": (attribute("parameters", "{"), "does not say its parameters"),
    "parameters nested": (attribute("parameters", NESTED[:60_000]), "does not say its parameters"),
    "no parameters": (lambda file: file.attrs.__delitem__("parameters"), "does not say its param"),
    "dimensions a word": (dimension_of_another, "damaged or not NetCDF-4"),
    "coordinates numbers": (of_x("coordinates", np.arange(3)), "damaged or not NetCDF-4"),
    "type numbers": (of_x("dtype", np.arange(3)), "damaged or not NetCDF-4"),
    "time since banana": (of_x("units", "days since banana"), "damaged or not NetCDF-4"),
    "scale a word": (of_x("scale_factor", "large"), "damaged or not NetCDF-4"),
}


def written(path: Path) -> None:
    values = xr.Dataset({"x": ("i", np.arange(4.0))}, coords={"i": np.arange(4)})
    write_dataset(values, path, kind="test", parameters={"seed": 0})


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.filterwarnings("ignore")  # xarray's own, about what it cannot decode
def test_hostile_contents(tmp_path: Path, name: str) -> None:
    change, sentence = CHANGES[name]
    path = tmp_path / "a.nc"
    written(path)
    with h5py.File(path, "a") as file:
        change(file)
    path.write_bytes(sealed(path.read_bytes()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataFileError, match=sentence) as caught:
        read_dataset(path, kind="test")
    text = str(caught.value)
    assert str(path) in text
    assert text.isprintable()
    assert len(text) < 500 + len(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_text_that_stands_for_a_million(tmp_path: Path) -> None:
    """Three thousand references to one text of 1 MB: 3 GB, in a file of 1 MB."""
    path = tmp_path / "a.nc"
    written(path)
    with h5py.File(path, "a") as file:
        texts = ["x" * 2**20, *(["y"] * 3000)]
        place = file.create_dataset("y", data=texts, dtype=h5py.string_dtype()).id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16 * len(texts)] = content[place : place + 16] * len(texts)
    path.write_bytes(sealed(bytes(content)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataFileError, match=HUGE):
        read_dataset(path, kind="test")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_texts_are_read(tmp_path: Path) -> None:
    names = xr.Dataset({"x": (("i", "j"), np.array([["a", "bc"], ["", "κ"]], object))})
    path = tmp_path / "a.nc"
    write_dataset(names.assign_attrs(note="κ", list=["a", "b"]), path, kind="t", parameters={})
    found = read_dataset(path, kind="t")
    assert found["x"].values.tolist() == [["a", "bc"], ["", "κ"]]
    assert list(found.attrs["list"]) == ["a", "b"]


CONTENTS = {
    "empty": b"",
    "text": b"x = 1\n",
    "signature only": b"\x89HDF\r\n\x1a\n",
    "signature and zeros": b"\x89HDF\r\n\x1a\n" + bytes(4096),
    "signature and ones": b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096,
    "NetCDF-3": b"CDF\x01" + bytes(100),
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "archive": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_no_data_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(CONTENTS[name])
    with pytest.raises(DataFileError, match="damaged or not NetCDF-4") as caught:
        read_dataset(path, kind="test")
    assert str(caught.value).isprintable()


def test_a_group_that_holds_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    written(path)
    with h5py.File(path, "a") as file:
        file["loop"] = file["/"]
    path.write_bytes(sealed(path.read_bytes()))
    assert read_dataset(path, kind="test")["x"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["calendar", "_FillValue", "note"])
@pytest.mark.filterwarnings("ignore")
def test_attributes_of_another_type_that_change_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.nc"
    written(path)
    with h5py.File(path, "a") as file:
        file["x"].attrs[name] = np.arange(3.5, 6)
    path.write_bytes(sealed(path.read_bytes()))
    assert read_dataset(path, kind="test")["x"].values.tolist() == [0, 1, 2, 3]


def test_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    written(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataFileError):
            read_dataset(path, kind="test")
