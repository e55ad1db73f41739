"""Hostile files of weights end in one short sentence, in seconds, and in little memory."""

import io
import json
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hardset.seal import check_seal
from pretrain_jax.weights import WeightsError, read_state, write_safetensors
from tests.pretrain_jax.weights.torch_files import (
    View,
    integer,
    legacy_file,
    table,
    tensor,
    text,
    whole,
    zip_file,
)

VALUES = np.arange(6, dtype=np.float32)
DATA = VALUES.tobytes()
W = tensor(whole("0", VALUES))
PRIME = 2**61 - 1  # integers that differ by multiples of it have one hash


def refused(path: Path, sentence: str, *, seconds: float = 5.0, memory: float = 3e7) -> None:
    """Check that a file is refused as it should be; the bounds leave room for a busy machine."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(WeightsError, match=sentence) as caught:
            read_state(path)
        assert tracemalloc.get_traced_memory()[1] < memory + 4 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < seconds
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 1200


def nested(depth: int) -> bytes:
    """A tuple that holds one tuple twice, and so on: its hash takes 2^depth steps."""
    return b")" + b"".join(b"q%ch%c\x86" % (k, k) for k in range(depth))


def view(**changes: object) -> View:
    known = {"key": "0", "storage": "FloatStorage", "count": 6, "offset": 0}
    return View(**{**known, "shape": (6,), "strides": (1,), **changes})  # type: ignore[arg-type]


def call(shape: bytes, strides: bytes = b")") -> bytes:
    """A tensor of any shape at all."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage + integer(6) + b"tQ" + integer(0) + shape + strides)
        + b"tR"
    )


def persistent(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"tQ"


FLOAT = b"ctorch\nFloatStorage\n"
COLLIDING = b"".join(integer(k * PRIME) + b"N" for k in range(1, 30_000))
BODIES: dict[str, tuple[bytes, str]] = {
    "colliding keys": (b"}(" + COLLIDING + b"u", "a very large integer as key"),
    "colliding reals": (b"}(" + b"G" + struct.pack(">d", 1.0) + b"Nu", "no table of tensors"),
    "nested key": (b"}(" + nested(60) + b"Nu", "a tuple as key"),
    "list as key": (b"}(]Nu", "a list as key"),
    "nested values": (table({"model": nested(60)}), "the entries model are something else"),
    "key of 12 MB": (table({"x" * 12_000_000: b"N"}), r"xxx \.\.\. \(12000000 characters\)"),
    "30 keys of 1 MB": (
        b"}(" + b"".join(text(f"{k}" + "x" * 1_000_000) + b"N" for k in range(30)) + b"u",
        "and 25 more are something else",
    ),
    "escapes": (table({"\x1b]0;title\x07\x1b[2J": b"N"}), r"\\x1b\]0;title\\x07\\x1b\[2J"),
    "new lines": (table({"a\nerror: b\r": b"N"}), "the entries a error: b are"),
    "one half of a pair": (b"}(X\x03\x00\x00\x00\xed\xa0\x80Nu", r"\\ud800"),
    "no UTF-8": (b"}(X\x02\x00\x00\x00\xff\xfeNu", "damaged pickle"),
    "name of 1 MB": (b"c" + b"x" * 1_000_000 + b"\nload\n)R", "it names 'xxx"),
    "name with escapes": (b"cos\nsystem\x1b[31m\n)R", r"os\.system.*x1b"),
    "integer of 200 bits": (integer(2**200), "201 bits"),
    "integer of 8 MB": (b"\x8b" + struct.pack("<i", 8_000_000) + b"\x01" * 8_000_000, "LONG4"),
    "decimal of 1 MB": (b"L" + b"9" * 1_000_000 + b"L\n", "damaged pickle"),
    "deep list": (b"]" * 50_000 + b"a" * 49_999, "holds a list"),
    "list in itself": (b"]q\x00h\x00a", "holds a list"),
    "table in itself": (b"}q\x00(" + text("model") + b"h\x00u", "the entries model are"),
    "key twice": (b"}(" + text("w") + W + text("w") + W + b"u", "the key w twice"),
    "number and text": (b"}(" + integer(1) + W + text("1") + W + b"u", "two tensors have one name"),
    "storage of two types": (
        table({"a": W, "b": tensor(view(storage="IntStorage"))}),
        "described twice, differently",
    ),
    "storage of two sizes": (table({"a": W, "b": tensor(view(count=5, shape=(5,)))}), "twice"),
    "steps of 2^100": (table({"w": tensor(view(shape=(2, 3), strides=(2**100, 1)))}), "exceeds"),
    "shape of 2^100": (table({"w": tensor(view(shape=(2**100,), strides=(0,)))}), "exceeds"),
    "offset of 2^100": (table({"w": tensor(view(offset=2**100))}), "exceeds"),
    "shape of 10,000 axes": (
        table({"w": tensor(view(shape=(2**120,) * 10_000, strides=(0,) * 10_000))}),
        "no tuple of at most 32",
    ),
    "text as shape": (table({"w": call(text("6" * 10_000))}), "no tuple of at most 32"),
    "table as shape": (table({"w": call(b"}")}), "no tuple of at most 32"),
    "nested shape": (table({"w": call(nested(60), b"))\x86")}), "no non-negative integers"),
    "True as shape": (table({"w": call(b"\x88\x85", b"K\x01\x85")}), "no non-negative integers"),
    "True as count": (
        persistent(text("storage"), FLOAT, text("0"), text("cpu"), b"\x88"),
        "has True values",
    ),
    "nested storage": (b"(" + nested(60) + b"tQ", "described in an unknown form"),
    "storage name of 1 MB": (
        persistent(text("storage"), FLOAT, text("0" * 1_000_000), text("cpu"), integer(6)),
        "a storage is called '000",
    ),
    "storage name with escapes": (
        persistent(text("storage"), FLOAT, text("\x1b[2J"), text("cpu"), integer(6)),
        r"x1b\[2J",
    ),
    "larger than the file": (
        table({"w": tensor(view(count=2**40, shape=(2**40,)))}),
        "has 24 bytes, 1099511627776 values",
    ),
    "storage that is not there": (
        table({"w": tensor(view(key="7"))}),
        "not in the zip file|list of storages",
    ),
    "call without arguments": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "damaged pickle"),
    "call of a call": (b"ccollections\nOrderedDict\n)R)R", "can not be called"),
    "nothing": (b"", "damaged"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles(tmp_path: Path, name: str, legacy: bool) -> None:
    body, sentence = BODIES[name]
    path = tmp_path / "a.pth"
    if legacy:
        legacy_file(path, body, {"0": (6, DATA)})
        sentence += "|list of storages|not what is promised"
    else:
        zip_file(path, body, {"0": DATA})
    refused(path, sentence)


def test_a_pickle_of_millions_of_steps(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "a.pth", b"N" * 2_000_001, {})
    with pytest.raises(WeightsError, match="more than 2000000 opcodes"):
        read_state(path)


def test_steps_along_an_axis_of_one_are_never_taken(tmp_path: Path) -> None:
    """torch writes any number there; the value of the sixth is 5."""
    body = table({"w": tensor(view(offset=5, shape=(1, 1), strides=(2**100, 7)))})
    state = read_state(zip_file(tmp_path / "a.pth", body, {"0": DATA}))
    np.testing.assert_array_equal(state["w"], [[5.0]])


LISTS: dict[str, tuple[bytes, str]] = {
    "nested tuple": (b"]" + nested(60) + b"a", "the list of storages does not fit"),
    "nested lists": (b"]" * 60 + b"a" * 59, "the list of storages does not fit"),
    "a tuple": (text("0") + b"\x85", "the list of storages does not fit"),
    "one twice": (b"](" + text("0") * 2 + b"e", "the list of storages does not fit"),
    "another": (b"](" + text("1") + b"e", "the list of storages does not fit"),
    "a very long name": (b"](" + text("0" * 1_000_000) + b"e", "the list of storages does not"),
    "a number": (b"](K\x00e", "the list of storages does not fit"),
    "a table": (b"}", "the list of storages does not fit"),
    "a command": (b"cos\nsystem\n(" + text("true") + b"tR", r"'os\.system'"),
}


@pytest.mark.parametrize("name", LISTS)
def test_hostile_lists_of_storages(tmp_path: Path, name: str) -> None:
    listed, sentence = LISTS[name]
    path = legacy_file(tmp_path / "a.pth", table({"w": W}), {"0": (6, DATA)})
    content = path.read_bytes()
    begin = content.rindex(b"\x80\x02]")
    end = content.index(b".", begin) + 1
    path.write_bytes(content[:begin] + b"\x80\x02" + listed + b"." + content[end:])
    assert path.stat().st_size < 1024 or "long" in name
    refused(path, sentence)


HEADS = {
    "empty": b"",
    "zeros": bytes(100),
    "magic of another": b"\x80\x02\x8a\x01\x05.",
    "nested magic": b"\x80\x02" + nested(60) + b".",
    "magic without an end": b"\x80\x02" + b"N" * 1000,
    "no pickle": b"hello world",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("name", HEADS)
def test_hostile_beginnings(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(HEADS[name])
    refused(path, "damaged pickle|no file of torch")


def patched(content: bytes, place: int, new: bytes) -> bytes:
    """A zip file with other bytes in its first central entry."""
    begin = content.index(b"PK\x01\x02") + place
    return content[:begin] + new + content[begin + len(new) :]


ZIPS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "encrypted": (lambda zip: patched(zip, 8, b"\x01\x00"), "encrypted; save it again without"),
    "member of 4 GB": (lambda zip: patched(zip, 24, b"\xff\xff\xff\xf0"), "overlap"),
    "method 99": (lambda zip: patched(zip, 10, b"\x63\x00"), "compressed, which torch.save never"),
    "version 99": (lambda zip: patched(zip, 6, b"\xff\x00"), "damaged zip file"),
    "place outside": (lambda zip: patched(zip, 42, b"\xff\xff\xff\x7f"), "damaged zip file"),
    "other checksum": (lambda zip: patched(zip, 16, b"\x00\x00\x00\x00"), "Bad CRC-32"),
    "half": (lambda zip: zip[: len(zip) // 2], "damaged zip file"),
    "without a directory": (lambda zip: zip[: zip.index(b"PK\x01\x02")], "damaged zip file"),
    "directory at 4 GB": (
        lambda zip: zip[:-6] + b"\xff\xff\xff\x7f" + zip[-2:],
        "damaged zip file",
    ),
    "two members of a name": (lambda zip: zip.replace(b"data/0", b"data/1"), "two members of one"),
    "member is called otherwise": (lambda zip: zip.replace(b"data/0", b"data/9"), "not in the zip"),
    "no pickle": (lambda zip: zip.replace(b"data.pkl", b"data.pki"), r"no data\.pkl"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zip_files(tmp_path: Path, name: str) -> None:
    change, sentence = ZIPS[name]
    path = zip_file(tmp_path / "a.pth", table({"w": W}), {"0": DATA, "1": DATA})
    path.write_bytes(change(path.read_bytes()))
    refused(path, sentence)


def safetensors(header: object, data: bytes = DATA, size: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if size is None else size) + raw + data


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [6], "data_offsets": [0, 24], **changes}


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "header of 2^63": (safetensors({}, size=2**63), "header's length is wrong"),
    "header of 2^64 - 1": (safetensors({}, size=2**64 - 1), "header's length is wrong"),
    "header of 0": (safetensors({}, size=0), "header's length is wrong"),
    "header one byte too long": (safetensors({}, b"", size=3), "header's length is wrong"),
    "header of 17 MB": (safetensors(b" " * (17 << 20)), "header's length is wrong"),
    "seven bytes": (b"\0" * 7, "header's length is wrong"),
    "no JSON": (safetensors(b"{w: 1}"), "the header is no JSON"),
    "cut JSON": (safetensors(b'{"w": '), "the header is no JSON"),
    "no UTF-8": (safetensors(b'{"\xff\xfe": 1}'), "the header is no JSON"),
    "nested JSON": (safetensors(b"[" * 100_000), "the header is no JSON|nested"),
    "nested tables": (safetensors(b'{"a":' * 100_000), "the header is no JSON|nested"),
    "number of 5,000 digits": (safetensors(b'{"a": ' + b"9" * 5000 + b"}"), "is no JSON"),
    "a list": (safetensors([entry()]), "the header is no table"),
    "a number": (safetensors(b"12"), "the header is no table"),
    "names twice": (
        safetensors(b'{"w": ' + json.dumps(entry()).encode() + b', "w": {}}'),
        "a name stands in it twice",
    ),
    "two arrays of one name": (
        safetensors(b'{"w": %s, "w": %s}' % ((json.dumps(entry()).encode(),) * 2)),
        "a name stands in it twice",
    ),
    "gaps": (safetensors({"w": entry(shape=[2], data_offsets=[16, 24])}), "invalid offset"),
    "fields twice": (safetensors(b'{"w": {"dtype": "F32", "dtype": "F64"}}'), "stands in it twice"),
    "nothing": (safetensors({}, b""), "holds no arrays"),
    "only metadata": (safetensors({"__metadata__": {"a": "b"}}, b""), "holds no arrays"),
    "overlap": (
        safetensors({"a": entry(), "b": entry(shape=[5], data_offsets=[4, 24])}),
        "invalid offset for tensor `b`",
    ),
    "same place": (safetensors({"a": entry(), "b": entry()}), "invalid offset for tensor"),
    "backwards": (safetensors({"w": entry(data_offsets=[24, 0])}), "invalid offset"),
    "beyond the file": (
        safetensors({"w": entry(shape=[7], data_offsets=[0, 28])}),
        "not fully covered",
    ),
    "negative": (safetensors({"w": entry(data_offsets=[-4, 20])}), "expected usize"),
    "True as place": (safetensors({"w": entry(data_offsets=[True, 25])}), "expected usize"),
    "real places": (safetensors({"w": entry(data_offsets=[0.0, 24.0])}), "expected usize"),
    "places of 10^4000": (
        safetensors({"w": entry(data_offsets=[0, 10**4000])}),
        "number out of range",
    ),
    "True as shape": (safetensors({"w": entry(shape=[True, 6])}), "expected usize"),
    "10^30 as shape": (safetensors({"w": entry(shape=[10**30])}), "expected usize"),
    "40 axes": (safetensors({"w": entry(shape=[1] * 40)}), "invalid shape"),
    "100,000 axes of 10^18": (safetensors({"w": entry(shape=[10**18] * 100_000)}), "overflow"),
    "NaN as shape": (safetensors(b'{"w": {"dtype": "F32", "shape": [NaN]}}'), "expected value"),
    "type of another": (safetensors({"w": entry(dtype="F8_E4M3")}), "the type F8_E4M3; read are"),
    "NaN as type": (safetensors({"w": entry(dtype=float("nan"))}), "expected value"),
    "type of 1 MB": (safetensors({"w": entry(dtype="x" * 1_000_000)}), "characters"),
    "escapes": (safetensors({"\x1b[2J\n": entry(dtype="\x1b[31m")}), r"x1b\[2J' has the type"),
    "name of 1 MB": (safetensors({"x" * 1_000_000: 3}), "expected struct"),
    "entry a text": (safetensors({"w": "F32"}), "expected struct"),
    "seal of another": (
        safetensors({"__metadata__": {"seal": "hardset-sha256:" + "0" * 64}, "w": entry()}),
        "its checksum does not match",
    ),
    "seal that is none": (
        safetensors({"__metadata__": {"seal": "mine"}, "w": entry()}),
        "holds no checksum",
    ),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_hostile_safetensors(tmp_path: Path, name: str) -> None:
    content, sentence = SAFETENSORS[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(path, sentence)


def test_a_large_file_of_ours_is_sealed_at_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    array = np.random.default_rng(0).normal(size=400_000)
    write_safetensors(path, {"w": array}, {"format": "pt"})
    assert path.stat().st_size > 3e6
    assert check_seal(path)
    content = bytearray(path.read_bytes())
    np.testing.assert_array_equal(read_state(path)["w"], array)
    for place in (3, 40, 120, 5000, 1_600_000, len(content) - 1):
        content[place] ^= 4
        path.write_bytes(content)
        refused(path, "changed|damaged")
        content[place] ^= 4


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 31,)}
    )
    zeros = bytes(1 << 24)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("w.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header.getvalue())
        stream.write(zeros)
    content = path.read_bytes()
    # The directory promises what the header does; the rest would follow as quickly.
    size = struct.pack("<I", (1 << 31) + len(header.getvalue()))
    path.write_bytes(patched(content, 24, size))
    refused(path, "promises 21474.*; at most 1073741824 bytes, or 20 times the file, are unpacked")
