"""Opens images in tar, Parquet and Arrow files as if they were unpacked.

The path of such an image is CONTAINER/MEMBER. A container is one file, or a folder that holds
nothing but files of its kind, beside which no images lie; the folder is one container then. So an
image has the same name whether it is packed or not.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

from hardset.cli import one_line
from hardset.progress import bar
from pretrain_jax.data import members
from pretrain_jax.data.image_rows import read_row, scan_arrow, scan_parquet
from pretrain_jax.data.members import ContainerError, Found, Member, Members
from pretrain_jax.data.names import SUFFIXES, kind_of, parents_of, suffix_of
from pretrain_jax.data.tars import scan_tar

TAR, PARQUET, ARROW = KINDS = (".tar", ".parquet", ".arrow")
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".gz")
# Files of a folder that datasets saved (`Dataset.save_to_disk` and `DatasetDict.save_to_disk`).
STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
LARGEST_STATE = 1 << 26
BUFFER = 1 << 16


class FileState(NamedTuple):
    """Tells whether a file is the one that was read before."""

    size: int
    written: int
    changed: int
    number: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Look at a file.

        Raises:
            ContainerError: it is no regular file.
            OSError: it cannot be looked at.
        """
        if not path.is_file():  # a pipe might never answer
            raise ContainerError(f"{path} is a broken link or no regular file; take it away")
        return cls.of_status(path.stat())

    @classmethod
    def of_status(cls, found: os.stat_result) -> "FileState":
        """Take what is needed of a status."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Container:
    """Represents a tar, Parquet or Arrow file of images, or a folder of such files.

    Args:
        root: its path.

    Attributes:
        root: the same.
        kind: one of `KINDS`.
        shards: its files, in the order of their names.
        members: its images.

    Raises:
        ContainerError: it is damaged, or holds no images; one sentence.
        OSError: it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        found = _shards(root)
        if found is None:
            raise ContainerError(f"{root} is no file of the kinds {', '.join(KINDS)}")
        self.root = root
        self.kind, self.shards, others = found
        self.states = tuple(FileState.of(one) for one in self.shards)
        self._others = others
        self._near = 0
        key = json.dumps(
            [members.VERSION, self.kind, os.path.realpath(root)]
            + [[one.name, *state] for one, state in zip(self.shards, self.states, strict=True)]
        )
        digest = hashlib.sha256(key.encode()).hexdigest()
        known = members.kept(digest)
        self.members: Members = members.keep(digest, self._scan()) if known is None else known

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.members)

    def entries(self) -> Iterator[Member]:
        """Return the images in the order of their names, each with its class.

        Where the container names no classes, that is the first folder of the name.
        """
        for member in self.members:
            if self.members.labelled:
                yield member
            else:
                folder, slash, _ = member.name.partition("/")
                yield member._replace(label=folder if slash else "")

    def passed_over(self) -> dict[str, int]:
        """Count what lies in the container, or beside its files, and is no image."""
        total = self.members.passed_over.copy()
        total.update(self._others)
        return dict(total)

    def find(self, name: str) -> Member | None:
        """Return an image by its name, or None."""
        index = self.members.find(name, self._near)
        if index < 0:
            return None
        self._near = index + 1  # mostly the next one is asked for next
        return self.members[index]

    def is_as_read(self, shard: int) -> bool:
        """Say whether a file is still the one whose images are known."""
        try:
            return FileState.of_status(self.shards[shard].stat()) == self.states[shard]
        except OSError:
            return False

    def open(self, member: Member) -> BinaryIO:
        """Open an image for reading."""
        path = self.shards[member.shard]
        if self.kind == PARQUET:
            return io.BytesIO(read_row(path, member.offset))
        return io.BufferedReader(_Part(path, member.offset, member.size), BUFFER)

    def _scan(self) -> Found:
        found = Found(rows=self.kind != TAR)
        total = sum(one.size for one in self.states)
        with bar(total, f"index of {self.root.name}", "B") as done:
            first = 0
            for number, shard in enumerate(self.shards):
                if self.kind == TAR:
                    scan_tar(shard, number, found, done.update)
                elif self.kind == PARQUET:
                    first += scan_parquet(shard, number, first, found, done.update)
                else:
                    first += scan_arrow(shard, number, first, found, done.update)
        return found


class _Part(io.RawIOBase):
    """Reads a part of a file as if it were a file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = io.FileIO(path)
        self._offset, self._size, self._place = offset, size, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any place can be gone to."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("a place before the file's begin")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read bytes from the place on."""
        wanted = min(len(buffer), max(0, self._size - self._place))
        self._file.seek(self._offset + self._place)
        count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._place += count
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


def is_container(path: Path) -> bool:
    """Say whether a path is that of a container. Its images are not looked at.

    Raises:
        ContainerError: it is nearly one; says what to name instead.
    """
    return _shards(path) is not None


def _shards(path: Path) -> tuple[str, tuple[Path, ...], dict[str, int]] | None:
    """Return kind and files of a container, and what lies beside them, by its ending.

    It is None for what is no container.
    """
    suffix = suffix_of(path.name)
    if path.is_file():
        if kind_of(path.name) in PACKED:
            raise ContainerError(
                f"{path} is a compressed archive, in which no image can be reached by itself; "
                "unpack it, and name the folder or the .tar file"
            )
        return (suffix, (path,), {}) if suffix in KINDS else None
    if not path.is_dir():
        return None
    if (path / SPLITS).is_file():
        splits = _record(path / SPLITS).get("splits")
        named = [one_line(one) for one in splits] if isinstance(splits, list) else []
        raise ContainerError(
            f"{path} holds several data sets, the splits {', '.join(named) or '(none is named)'}; "
            f"name one of them: {path / (named[0] if named else 'SPLIT')}"
        )
    if (path / STATE).is_file() and (path / INFO).is_file():
        return ARROW, _saved(path), {}
    return _folder_of_shards(path)


def _folder_of_shards(path: Path) -> tuple[str, tuple[Path, ...], dict[str, int]] | None:
    """Find the shards of a folder, unless it holds images or folders, too."""
    found: dict[str, list[Path]] = {}
    with os.scandir(path) as held:
        for one in held:
            if one.name.startswith("."):
                continue
            if suffix_of(one.name) in SUFFIXES or Path(one.path).is_dir():
                return None
            found.setdefault(kind_of(one.name), []).append(Path(one.path))
    kind = next((one for one in KINDS if one in found), None)
    if kind is None:
        return None
    others = {name: len(paths) for name, paths in found.items() if name != kind}
    return kind, tuple(sorted(found[kind])), others


def _saved(path: Path) -> tuple[Path, ...]:
    """Return the files of a data set that `save_to_disk` wrote."""
    state = _record(path / STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ContainerError(
            f"{path} chooses rows by an index of its own; call flatten_indices() and save_to_disk "
            "again"
        )
    files = state.get("_data_files")
    names = [one.get("filename") if isinstance(one, dict) else None for one in files or ()]
    plain = [one for one in names if isinstance(one, str) and one and "/" not in one]
    missing = [one for one in plain if not (path / one).is_file()]
    if not names or len(plain) < len(names) or missing:
        what = f"{one_line(missing[0])} is missing" if missing else "it names no files beside it"
        raise ContainerError(f"{path / STATE}: {what}; save the data set again")
    return tuple(path / one for one in plain)


def _record(path: Path) -> dict[str, Any]:
    """Read a JSON object that datasets wrote."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(LARGEST_STATE))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ContainerError(f"{path} is damaged: no JSON object; save the data set again")
    return found


_known: dict[str, Container] = {}
_lock = Lock()


def open_container(path: str | Path) -> Container:
    """Open a container, or return the one that is known and has not changed.

    Raises:
        ContainerError: it is none, is damaged, or holds no images; one sentence.
        OSError: it cannot be read.
    """
    place = str(path)
    with _lock:
        known = _known.get(place)
        now = None if known is None else _shards(Path(place))
        same = known is not None and now is not None and now[1] == known.shards
        if known is not None and same and all(map(known.is_as_read, range(len(known.shards)))):
            return known
        _known[place] = found = Container(Path(place))
        return found


def located(path: str) -> tuple[Container, Member] | None:
    """Find an image in the container that its path goes through.

    None is returned for a path that goes through no container, and for one that leads to no image.

    Raises:
        ContainerError: the container is damaged.
    """
    found = known_image(path)
    if found is not None:
        return found
    for parent in parents_of(path):
        if os.path.exists(parent):  # noqa: PTH110
            if not is_container(Path(parent)):
                return None
            container = open_container(parent)
            member = container.find(path[len(parent) + 1 :])
            return None if member is None else (container, member)
    return None


def known_image(path: str) -> tuple[Container, Member] | None:
    """Find an image in a container that is open and has not changed."""
    for parent in parents_of(path) if _known else ():
        container = _known.get(parent)
        if container is not None:
            member = container.find(path[len(parent) + 1 :])
            if member is not None and container.is_as_read(member.shard):
                return container, member
            return None
    return None
