"""Checkpoints of every format against the arrays that were put into them."""

import argparse
import json
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from pretrain_jax.weights import WeightsError, read_state, write_safetensors
from tests.pretrain_jax.weights.torch_files import (
    View,
    legacy_file,
    small_file,
    table,
    tensor,
    text,
    whole,
    zip_file,
)

STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_types(tmp_path: Path, storage: str, legacy: bool) -> None:
    array = np.array([[0, 1, 2], [3, 4, 250]]).astype(STORAGES[storage])
    body = table({"w": tensor(whole("7", array, storage), legacy=legacy)})
    path = tmp_path / "a.pth"
    if legacy:
        legacy_file(path, body, {"7": (6, array.tobytes())})
    else:
        zip_file(path, body, {"7": array.tobytes()})
    read = read_state(path)["w"]
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("legacy", [False, True])
def test_strided_and_shared_storages(tmp_path: Path, legacy: bool) -> None:
    values = np.arange(24, dtype=np.float32)
    views = {
        "transposed": (View("0", "FloatStorage", 24, 0, (6, 4), (1, 6)), values.reshape(4, 6).T),
        "column": (View("0", "FloatStorage", 24, 2, (4,), (6,)), values.reshape(4, 6)[:, 2]),
        "scalar": (View("0", "FloatStorage", 24, 23, (), ()), values[23]),
        "empty": (View("0", "FloatStorage", 24, 24, (0, 3), (3, 1)), np.zeros((0, 3))),
        "other": (View("1", "FloatStorage", 24, 4, (2, 2), (2, 1)), -values[4:8].reshape(2, 2)),
    }
    body = table({name: tensor(view, legacy=legacy) for name, (view, _) in views.items()})
    data = {"0": values.tobytes(), "1": (-values).tobytes()}
    path = tmp_path / "a.bin"
    if legacy:
        legacy_file(path, body, {key: (24, raw) for key, raw in data.items()})
    else:
        zip_file(path, body, data)
    state = read_state(path)
    for name, (_, expected) in views.items():
        np.testing.assert_array_equal(state[name], expected)
        assert state[name].shape == expected.shape
        assert not state[name].flags.writeable


@pytest.mark.parametrize("entry", ["model", "state_dict"])
def test_training_checkpoints(tmp_path: Path, entry: str) -> None:
    """Weights beside arguments, numbers of NumPy and optimiser; those are not built."""
    values = np.ones(2, np.float32)
    arguments = pickle.dumps(argparse.Namespace(lr=0.1, path=Path("x"), best=np.float64(3)), 2)
    body = table(
        {
            entry: table({"w": tensor(whole("0", values))}),
            "optimizer": table({"state": tensor(whole("1", values))}),
            "args": arguments[2:-1],
            "epoch": b"K\x05",
        }
    )
    # The optimiser's storage is absent: it is not read at all.
    state = read_state(zip_file(tmp_path / "a.pth", body, {"0": values.tobytes()}))
    assert list(state) == ["w"]


def test_what_is_no_table_of_tensors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="the entries epoch, lr are something else"):
        read_state(zip_file(tmp_path / "a.pth", table({"epoch": b"K\x05", "lr": b"N"}), {}))
    with pytest.raises(WeightsError, match="holds a str"):
        read_state(zip_file(tmp_path / "b.pth", text("hello"), {}))
    with pytest.raises(WeightsError, match="no such file"):
        read_state(tmp_path / "missing.pth")


def test_safetensors_against_the_library(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        str(dtype): (100 * rng.normal(size=(3, 2))).astype(dtype)
        for dtype in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")
    }
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 4), np.float32)}
    safetensors_numpy.save_file(arrays, tmp_path / "theirs.safetensors", {"a": "b"})
    write_safetensors(tmp_path / "ours.safetensors", arrays, {"format": "pt"})
    for state in (
        read_state(tmp_path / "theirs.safetensors"),
        safetensors_numpy.load_file(tmp_path / "ours.safetensors"),
    ):
        assert set(state) == set(arrays)
        for name, array in arrays.items():
            assert state[name].dtype == array.dtype
            np.testing.assert_array_equal(state[name], array)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_safetensors_in_bfloat16(tmp_path: Path) -> None:
    array = np.array([1.0, -0.0, np.inf, 3e38], ml_dtypes.bfloat16)
    write_safetensors(tmp_path / "a.safetensors", {"w": array})
    read = read_state(tmp_path / "a.safetensors")["w"]
    assert read.tobytes() == array.tobytes()
    assert read.dtype == array.dtype


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        [],
    ],
)
def test_damaged_safetensors(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(WeightsError, match=r"damaged file: |'w' has the type F8_E4M3"):
        read_state(path)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.eye(2))
    np.testing.assert_array_equal(read_state(tmp_path / "a.npz")["w"], np.eye(2))
    np.savez(tmp_path / "b.npz", w=np.array([object()]), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"b\.npz: w has dtype object: it holds pickled"):
        read_state(tmp_path / "b.npz")


def test_small_file(tmp_path: Path) -> None:
    path, expected = small_file(tmp_path / "a.pth")
    state = read_state(str(path))
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array)
