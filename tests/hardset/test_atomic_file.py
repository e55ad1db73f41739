"""Atomic writes: modes, links, long names, full disks, devices, two writers of one name."""

import errno
import os
import resource
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardset.datafile import atomic_file, check_output_file, write_bytes_atomic

LONGEST_NAME = 255  # bytes, of nearly every file system


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 KB: what a full disk does to a write."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGXFSZ, ignored)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o027, 0o002])
def test_a_new_file_has_the_mode_of_the_umask(
    tmp_path: Path, umask: Callable[[int], int], mask: int, replace: bool
) -> None:
    umask(mask)
    write_bytes_atomic(tmp_path / "a", b"1", replace=replace)
    (tmp_path / "plain").write_bytes(b"1")
    assert mode(tmp_path / "a") == mode(tmp_path / "plain") == 0o666 & ~mask


def test_a_replaced_file_keeps_its_mode(tmp_path: Path, umask: Callable[[int], int]) -> None:
    umask(0o077)
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o640)
    write_bytes_atomic(tmp_path / "a", b"new")
    assert mode(tmp_path / "a") == 0o640


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_what_a_link_points_to_is_written(tmp_path: Path, there: bool, replace: bool) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    if there:
        target.write_bytes(b"old")
    (tmp_path / "second").symlink_to("folder/target")
    link = tmp_path / "first"
    link.symlink_to(tmp_path / "second")
    if there and not replace:
        with pytest.raises(FileExistsError):
            write_bytes_atomic(link, b"new", replace=False)
        assert target.read_bytes() == b"old"
    else:
        check_output_file(link)
        write_bytes_atomic(link, b"new", replace=replace)
        assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert [one.name for one in target.parent.iterdir()] == ["target"]


@pytest.mark.parametrize("write", [check_output_file, lambda path: write_bytes_atomic(path, b"")])
def test_what_cannot_be_written_is_named_as_the_user_did(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "out").symlink_to("gone/file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, sentence in {
        "loop": "symbolic links",
        "out": "No such file",
        "gone/file": "No such file",
        "pipe": "a device or a pipe",
        "folder": "it is a folder",
        "x" * (LONGEST_NAME + 1): "too long",
    }.items():
        with pytest.raises(OSError, match=sentence) as caught:
            write(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert {one.name for one in tmp_path.iterdir()} == {"loop", "out", "pipe", "folder"}


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(OSError, match="a device or a pipe"):
        write_bytes_atomic("/dev/null", b"")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("length", [*range(241, LONGEST_NAME + 1)])
def test_names_as_long_as_the_file_system_allows(
    tmp_path: Path, length: int, replace: bool
) -> None:
    path = tmp_path / ("é" * 100 + "x" * (length - 203) + ".nc")
    assert len(os.fsencode(path.name)) == length
    check_output_file(path)
    write_bytes_atomic(path, b"1", replace=replace)
    assert path.read_bytes() == b"1"


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_a_full_disk_is_named_by_the_target(tmp_path: Path, there: bool, replace: bool) -> None:
    path = tmp_path / "result.nc"
    if there:
        path.write_bytes(b"old")
    with pytest.raises(OSError, match="too large") as caught:
        write_bytes_atomic(path, bytes(200_000), replace=replace)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"] * there


def test_the_file_and_then_its_folder_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, set[str]]] = []
    sync = os.fsync

    def record(handle: int) -> None:
        names = {one.name for one in tmp_path.iterdir() if not one.name.startswith(".")}
        synced.append((os.fstat(handle).st_ino, names))
        sync(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_bytes_atomic(tmp_path / "a", b"1")
    assert synced == [
        ((tmp_path / "a").stat().st_ino, set()),
        (tmp_path.stat().st_ino, {"a"}),
    ]


def test_of_two_writers_one_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a"
    found: list[bytes | None] = []
    ready = threading.Barrier(8)

    def write(content: bytes) -> None:
        ready.wait()
        try:
            write_bytes_atomic(path, content, replace=False)
            found.append(content)
        except FileExistsError:
            found.append(None)

    threads = [threading.Thread(target=write, args=(b"%d" % k,)) for k in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    winners = [one for one in found if one is not None]
    assert winners == [path.read_bytes()]
    assert len(found) == 8
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_an_error_in_the_block_leaves_nothing_and_keeps_its_own_name(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError) as caught,
        atomic_file(tmp_path / "a") as temporary,
    ):
        temporary.write_bytes(b"1")
        (tmp_path / "input").read_bytes()
    assert caught.value.filename == str(tmp_path / "input")
    assert list(tmp_path.iterdir()) == []
