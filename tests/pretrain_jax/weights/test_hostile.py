"""Files made to harm: nothing of them runs, nothing is written, little memory is taken."""

import os
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain_jax.weights import WeightsError, read_state
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

VALUES = np.arange(6, dtype=np.float32)


class Command:
    """Unpickled by Python it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def body_of(value: object, protocol: int) -> bytes:
    """A pickle without its two bytes of protocol and STOP."""
    return pickle.dumps(value, protocol)[2:-1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_commands_do_not_run(tmp_path: Path, protocol: int, legacy: bool) -> None:
    marker = tmp_path / "marker"
    for value in (
        Command(marker),
        {"model": OrderedDict(weight=Command(marker))},
        {"model": {}, "args": [{"deep": (1, [Command(marker)])}]},
    ):
        body = body_of(value, protocol)
        path = tmp_path / "file.pth"
        path = legacy_file(path, body, {}) if legacy else zip_file(path, body, {})
        with pytest.raises(WeightsError, match=r"'posix\.system'; only tensors and plain data"):
            read_state(path)
    assert not marker.exists()
    # The same file does run under Python's own unpickler: the test would notice.
    pickle.loads(pickle.dumps(Command(marker), protocol))
    assert marker.exists()


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cbuiltins\neval\n(X\x01\x00\x00\x001tR", "'builtins.eval'"),
        (b"(ios\nsystem\n", "INST"),
        (b"\x82\x01", "EXT1"),
        (
            b"ccollections\nOrderedDict\n)R}(" + text("__class__") + b"Nub",
            "something else|no table",
        ),
        (b"ctorch\nFloatStorage\n)R", "can not be called"),
        (text("a") + b")R", "can not be called"),
        (b"ctorch\nload\n)R", "'torch.load'"),
        (b"ctorch.storage\n_load_from_bytes\n(tR", "_load_from_bytes"),
        (b"cmodels_mae\nMaskedAutoencoderViT\n)\x81", "saved again as its state_dict"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\x8b" + (100).to_bytes(4, "little") + b"\x01" * 100, "damaged|LONG4"),
        (b"}(" + b"))\x86" * 1 + b"Nu", "as key"),
        (b"R", "damaged"),
        (b"t", "damaged"),
        (b"h\x05", "damaged"),
        (b"X\xff\xff\xff\xffabc", "damaged"),
        (b"\x8d" + b"\xff" * 7 + b"\x7f" + b"abc", "damaged"),
    ],
)
def test_odd_opcodes(tmp_path: Path, opcodes: bytes, message: str) -> None:
    for path in (
        zip_file(tmp_path / "a.pth", opcodes, {}),
        legacy_file(tmp_path / "b.pth", opcodes, {}),
    ):
        with pytest.raises(WeightsError, match=message):
            read_state(path)


@pytest.mark.parametrize(
    "view",
    [
        View("0", "FloatStorage", 6, 0, (1 << 60,), (0,)),
        View("0", "FloatStorage", 6, 0, (1 << 40, 1 << 40), (0, 0)),
        View("0", "FloatStorage", 6, 0, (7,), (1,)),
        View("0", "FloatStorage", 6, 5, (2,), (1,)),
        View("0", "FloatStorage", 6, 0, (2, 3), (4, 1)),
        View("0", "FloatStorage", 6, -1, (2,), (1,)),
        View("0", "FloatStorage", 6, 3, (2,), (-1,)),
        View("0", "FloatStorage", 6, 0, (-2,), (1,)),
        View("0", "FloatStorage", 6, 0, (2, 3), (1,)),
        View("0", "FloatStorage", 1 << 40, 0, (6,), (1,)),
        View("0", "FloatStorage", -6, 0, (6,), (1,)),
        View("0", "DoubleStorage", 6, 0, (6,), (1,)),
        View("0", "QInt8Storage", 6, 0, (6,), (1,)),
        View("../0", "FloatStorage", 6, 0, (6,), (1,)),
        View("1", "FloatStorage", 6, 0, (6,), (1,)),
    ],
)
def test_views_outside_their_storage(tmp_path: Path, view: View) -> None:
    """Sizes, offsets, strides, types and names that do not fit what the file holds."""
    data = VALUES.tobytes()
    for path in (
        zip_file(tmp_path / "a.pth", table({"w": tensor(view)}), {"0": data}),
        legacy_file(tmp_path / "b.pth", table({"w": tensor(view, legacy=True)}), {"0": (6, data)}),
    ):
        tracemalloc.start()
        with pytest.raises(WeightsError):
            read_state(path)
        assert tracemalloc.get_traced_memory()[1] < 1e7
        tracemalloc.stop()


def test_memo_of_a_huge_index(tmp_path: Path) -> None:
    """Python's unpickler allocates 64 GB for this index; here it is one entry of a table."""
    body = b"}r\xff\xff\xff\xff(" + text("w") + tensor(whole("0", VALUES)) + b"u"
    state = read_state(zip_file(tmp_path / "a.pth", body, {"0": VALUES.tobytes()}))
    np.testing.assert_array_equal(state["w"], VALUES)


def test_paths_in_a_zip_file_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = zip_file(
        folder / "a.pth", table({"w": tensor(whole("0", VALUES))}), {"0": VALUES.tobytes()}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil", "x")
        archive.writestr("/evil", "x")
    np.testing.assert_array_equal(read_state(path)["w"], VALUES)
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*")] == [
        Path("inner"),
        Path("inner/a.pth"),
    ]


def test_compressed_and_ambiguous_zip_files(tmp_path: Path) -> None:
    body, data = table({"w": tensor(whole("0", VALUES))}), {"0": VALUES.tobytes()}
    bomb = zip_file(tmp_path / "a.pth", body, data, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed"):
        read_state(bomb)
    twice = zip_file(tmp_path / "b.pth", body, data)
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("other/data.pkl", b"\x80\x02N.")
    with pytest.raises(WeightsError, match=r"data\.pkl"):
        read_state(twice)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.npz", "a.bin"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\xff" * 64, b"\x00" * 64, b"hello world"])
def test_files_that_are_something_else(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=name):
        read_state(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_never_do_worse(tmp_path: Path, legacy: bool) -> None:
    """Truncated anywhere, or with bytes changed: the table of arrays, or a WeightsError."""
    path, expected = small_file(tmp_path / "a.pth")
    if legacy:
        body = table({"a": tensor(whole("0", expected["a"]), legacy=True)})
        legacy_file(path, body, {"0": (6, VALUES.tobytes())})
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(400):
        bad = bytearray(good)
        if trial % 4 == 0:
            bad = bad[: rng.integers(len(good))]
        for place in rng.integers(len(bad), size=1 + trial % 3) if bad else ():
            bad[place] = rng.integers(256)
        path.write_bytes(bad)
        try:
            state = read_state(path)
        except WeightsError:
            continue
        assert all(isinstance(array, np.ndarray) for array in state.values())
