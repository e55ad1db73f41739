"""Finds the images of tar files, and the classes and groups that stand beside them.

The layout is that of WebDataset (https://github.com/webdataset/webdataset): files side by side
whose names are the same up to the first dot after the folder are one sample. The class of a sample
is the text of its .cls, or the entry `label` or `cls` of its .json; its group is that file's entry
`group` or `patient_id`.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

from hardset.cli import one_line
from pretrain_jax.data.members import ContainerError, Found, Member
from pretrain_jax.data.names import SUFFIXES, kind_of, suffix_of

BLOCK = 512
CLASS, RECORD = ".cls", ".json"
LARGEST_CLASS, LARGEST_RECORD = 1 << 10, 1 << 20  # bytes
# What compressed files begin with, and the program that unpacks them.
COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"(\xb5/\xfd": "unzstd",
}
LONGEST_READ = 1 << 24
LABELS, GROUPS = ("label", "cls"), ("group", "patient_id")


def scan_tar(path: Path, shard: int, found: Found, advance: Any) -> None:
    """Find the images of a tar file.

    Args:
        path: of the file.
        shard: its number.
        found: gets them.
        advance: called with the number of bytes that were gone over.

    Raises:
        ContainerError: it is compressed, cut short or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
        for magic, program in COMPRESSED.items():
            if head.startswith(magic):
                raise ContainerError(
                    f"tar file {path} is compressed, so that no image in it can be reached by "
                    f"itself; unpack it with {program}"
                )
        file.seek(0)
        sample = _Sample(path, shard, found)
        short: Any = _Short(file)
        try:
            with tarfile.open(fileobj=short, mode="r:") as archive:
                before = 0
                while (member := archive.next()) is not None:
                    vars(archive)["members"].clear()  # else all of them would be held
                    sample.take(member, file)
                    # tarfile has gone to the place behind the header; it goes on by itself.
                    advance(archive.offset - before)
                    before = archive.offset
                sample.end()
                file.seek(archive.offset)
                end = file.read(BLOCK)
        except (tarfile.TarError, EOFError, OverflowError) as error:
            raise ContainerError(_damaged(path, str(error))) from None
        # tarfile takes a damaged header and the end of the file for the end of the archive.
        if len(end) < BLOCK or end.count(0) != BLOCK:
            why = "it ends too early" if len(end) < BLOCK else f"no header at byte {archive.offset}"
            raise ContainerError(_damaged(path, why))


def _damaged(path: Path, why: str) -> str:
    return (
        f"tar file {path} is cut short or damaged ({one_line(why)}); fetch it again, or write it "
        "anew"
    )


class _Short:
    """Reads a file in small pieces, as a huge header would be held whole."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int) -> bytes:
        """Read bytes.

        Raises:
            ReadError: too many for a header.
        """
        if size > LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return bytes(self._file.read(size))


class _Sample:
    """Holds the images of one sample until all that is said of it is read."""

    def __init__(self, path: Path, shard: int, found: Found) -> None:
        self._path, self._shard, self._found = path, shard, found
        self._key: str | None = None
        self._images: list[tuple[str, int, int]] = []
        self._said: dict[str, str] = {}

    def take(self, member: tarfile.TarInfo, file: Any) -> None:
        """Take a member of the tar file."""
        name, trouble = _cleaned(member)
        if member.isdir() or not name:
            return
        folder, slash, base = name.rpartition("/")
        if any(part.startswith(".") and part != ".." for part in name.split("/")):
            return  # hidden, as in folders
        key = folder + slash + base.partition(".")[0]
        if key != self._key:
            self.end()
            self._key = key
        kind = suffix_of(name)
        if kind in (CLASS, RECORD) and not trouble:
            self._read(kind, member, file)
        elif kind not in SUFFIXES:
            self._found.pass_over(kind_of(name))
        elif trouble:
            self._found.refuse(f"{one_line(member.name)} in {self._path.name} {trouble}")
        else:
            self._images.append((name, member.offset_data, member.size))

    def end(self) -> None:
        """Give the images of the sample away, with what is known of them."""
        label, group = self._said.get("label", ""), self._said.get("group", "")
        if self._said and not self._images:
            self._found.pass_over(CLASS if "cls" in self._said else RECORD)
        for name, offset, size in self._images:
            self._found.labelled |= bool(label)
            self._found.add(Member(name, self._shard, offset, size, label, group))
        self._images, self._said = [], {}

    def _read(self, kind: str, member: tarfile.TarInfo, file: Any) -> None:
        """Read class and group of the sample."""
        if member.size > (LARGEST_CLASS if kind == CLASS else LARGEST_RECORD):
            self._found.pass_over(kind)
            return
        place = file.tell()
        file.seek(member.offset_data)
        content = file.read(member.size)
        file.seek(place)
        try:
            text = content.decode()
            if kind == CLASS:
                self._said |= {"label": " ".join(text.split()), "cls": "yes"}
                return
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise ContainerError(
                f"{member.name} in tar file {self._path} is no text in UTF-8 that holds "
                f"{'a class' if kind == CLASS else 'a JSON object'}; mend it or leave it out"
            )
        label, group = (
            next((record[key] for key in keys if record.get(key) is not None), None)
            for keys in (LABELS, GROUPS)
        )
        self._said = {"label": word(label), "group": word(group)} | {
            key: text for key, text in self._said.items() if text
        }


def word(value: Any) -> str:
    """Return a class or a group as a word, "" for what is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return one_line(value, 200)


def _cleaned(member: tarfile.TarInfo) -> tuple[str, str]:
    """Return a member's clean name, and why it cannot be used."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    name = "/".join(parts)
    if member.name.startswith("/") or ".." in parts:
        return name, "leads out of the archive; write it with names below one folder"
    if member.issym() or member.islnk():
        return name, "is a link, which is not followed; store the file itself"
    if not member.isreg() or member.issparse():
        return name, "is no regular file; store the file itself"
    return name, ""
