"""Seals: read by independent readers, found broken at every bit."""

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from hardset.datafile import DataFileError, read_dataset, write_dataset
from hardset.seal import (
    BLANK_SEAL,
    SealError,
    check_seal,
    is_sealed,
    seal_file,
    sealed,
    sealed_json,
)


def test_digits_are_the_sha256_of_the_file_with_zeros() -> None:
    data = sealed(b"some bytes")
    digits = data[-64:].decode()
    assert digits == hashlib.sha256(b"some bytes" + BLANK_SEAL.encode()).hexdigest()


def test_every_flipped_bit_of_a_json_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = sealed_json({"parameters": {"seed": 3}}, indent=1)
    assert json.loads(data)["parameters"] == {"seed": 3}
    path.write_bytes(data)
    assert check_seal(path)
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(SealError, match=r"a\.json has changed since it was written"):
            check_seal(path, required=False)


def test_a_seal_that_is_cut_anywhere_is_found_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    data = sealed(b"some bytes")
    for size in range(len(data) - 79 + 16, len(data)):
        path.write_bytes(data[:size])
        assert is_sealed(path)
        with pytest.raises(SealError, match="has changed"):
            check_seal(path, required=False)


@pytest.mark.parametrize(
    "data",
    [b"", b"f" * 5000, b"hardset-sha256", b"hardset-sha256: see the docs", b"0" * 64 + b" words"],
)
def test_what_only_resembles_a_seal_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert not is_sealed(path)
    assert not check_seal(path, required=False)
    with pytest.raises(SealError, match="holds no checksum"):
        check_seal(path)


def test_a_sealed_npy_is_read_by_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5.0))
    seal_file(path)
    assert check_seal(path)
    np.testing.assert_array_equal(np.load(path), np.arange(5.0))
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), np.arange(5.0))
    assert path.read_bytes() == sealed(path.read_bytes()[: -len(BLANK_SEAL)])


def test_a_data_file_is_read_by_h5py_and_found_changed_at_random_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    values = np.random.default_rng(0).normal(size=500)
    write_dataset(xr.Dataset({"x": ("i", values)}), path, kind="test", parameters={"seed": 0})
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"][:], values)
    data = path.read_bytes()
    for place in np.random.default_rng(1).integers(8 * len(data), size=300):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << int(place) % 8
        path.write_bytes(changed)
        with pytest.raises(DataFileError, match="checksum"):
            read_dataset(path, kind="test")
