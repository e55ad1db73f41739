"""Verifies files and whole folders: which are intact, have changed, or are gone.

Three things say what a file was: a seal inside it (see `hardset.seal`), a listing beside or above
it (the manifest of a stage, `checksums.json`), and the table of a synthesised set's images. A file
that none of them covers is counted as without a checksum. If its format is known, it is still
checked whether it was cut short.
"""

import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from hardset.arrays import ObjectsError, load_array
from hardset.cli import one_line
from hardset.datafile import in_use
from hardset.listing import LISTINGS, Listed, file_record, read_listing
from hardset.seal import SealError, check_seal

INTACT, CHANGED, MISSING = "intact", "changed", "missing"
UNREADABLE, UNLISTED, UNCHECKED = "unreadable", "not listed", "without a checksum"
# A set's images lie where its list says, and its table says what they were.
LIST, TABLE = "data.txt", "files-*.parquet"
# A stage's manifest leaves out the stage's own files.
OWN = ("stage.json", LIST, *LISTINGS)
OWN_ENDING = ".log.json"
LARGEST_JSON = 1 << 26
PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"
TAR, TAR_PLACE = b"ustar", 257


@dataclass(frozen=True)
class Finding:
    """A file that is not intact.

    Attributes:
        path: where it lies, or should.
        state: "changed", "missing", "unreadable", or "not listed" by the manifest of its folder.
        reason: a sentence.
    """

    path: Path
    state: str
    reason: str


@dataclass
class Verification:
    """The result of a verification.

    Attributes:
        findings: the files that are not intact.
        counts: files by state; those not listed are also without a checksum.
    """

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (INTACT, CHANGED, MISSING, UNREADABLE, UNLISTED, UNCHECKED), 0
        )
    )

    @property
    def passed(self) -> bool:
        """Whether nothing has changed, is missing or cannot be read."""
        return not any(self.counts[state] for state in (CHANGED, MISSING, UNREADABLE))

    def report(self) -> dict[str, Any]:
        """Give the findings and counts as JSON types."""
        files = [
            {"path": str(one.path), "state": one.state, "reason": one.reason}
            for one in self.findings
        ]
        return {"passed": self.passed, "counts": self.counts, "files": files}

    def text(self) -> str:
        """Make a text with a line for each finding and a last line of counts."""
        lines = [
            f"{one.state}: {one_line(one.path, 4096)}: {one_line(one.reason, 500)}"
            for one in self.findings
        ]
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        return "\n".join([*lines, counts])

    def add(self, path: Path, state: str, reason: str = "") -> None:
        """Count a file, and note it among the findings if it is not intact."""
        self.counts[state] += 1
        if state == UNLISTED:
            self.counts[UNCHECKED] += 1
        if state not in (INTACT, UNCHECKED):
            self.findings.append(Finding(path, state, reason))


def verify(paths: list[Path], advance: Callable[[], object] = lambda: None) -> Verification:
    """Verify files and everything in folders.

    Links to files are followed. Links to folders are followed only where `paths` names them, so
    that loops end.

    Args:
        paths: files and folders; a file is also looked up in the listings above it.
        advance: called after every file.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a path that is neither file nor folder; or the only one is a file without a
            checksum that no listing names.
    """
    found = Verification()
    modes = [path.stat().st_mode for path in paths]
    for path, mode in zip(paths, modes, strict=True):
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise ValueError(f"{path} is neither a file nor a folder")
    for path, mode in zip(paths, modes, strict=True):
        if stat.S_ISDIR(mode):
            _Tree(path, found, advance).check()
            continue
        state, reason = _alone(path)
        if state == UNCHECKED and len(paths) == 1:
            raise ValueError(f"{path} holds no checksum, and no folder above lists it")
        found.add(path, state, reason)
        advance()
    return found


def _alone(path: Path) -> tuple[str, str]:
    """Check one file by a listing of a folder above it, or by its seal."""
    listed = _listed_above(path.absolute())
    return _sealed(path) if listed is None else _compared(listed)


def _listed_above(path: Path) -> Listed | None:
    """Find the record of a file in the nearest listing that names it."""
    for folder in path.parents:
        for name in LISTINGS:
            try:
                entries = read_listing(folder / name) if folder / name != path else []
            except (OSError, ValueError):  # its own verification says so
                continue
            for one in entries:
                if one.path == path:
                    return one
    return None


class _Tree:
    """A walk through a folder that reads listings before the files that they name."""

    def __init__(self, top: Path, found: Verification, advance: Callable[[], object]) -> None:
        self.top = top
        self.found = found
        self.advance = advance
        self.listed: dict[Path, Listed] = {}
        self.seen: set[Path] = set()

    def check(self) -> None:
        """Check every file, and then the listed files that were not met."""
        waiting = [(self.top, False)]
        while waiting:
            folder, within = waiting.pop()
            files, folders = self._inside(folder)
            within = self._read_listings(folder, files) or within
            for path in files:
                self._check(path, within=within)
                self.advance()
            waiting += [(one, within) for one in reversed(folders)]
        for path, listed in self.listed.items():
            if path not in self.seen:
                self.found.add(path, *_compared(listed))
                self.advance()

    def _inside(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """List the files and folders in a folder, without links to folders."""
        files, folders = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(folder / entry.name)
                    elif not (entry.is_symlink() and (folder / entry.name).is_dir()):
                        files.append(folder / entry.name)
        except OSError as error:
            self.found.add(folder, UNREADABLE, error.strerror or str(error))
        return files, folders

    def _read_listings(self, folder: Path, files: list[Path]) -> bool:
        """Note the files that a folder's listings name; return whether there are any."""
        before = len(self.listed)
        for name in LISTINGS:
            if folder / name in files:
                try:
                    entries = read_listing(folder / name)
                except (OSError, ValueError):  # `_check` says so
                    continue
                self.listed |= {one.path: one for one in entries}
        if folder / LIST in files:
            try:
                self.listed |= {one.path: one for one in _set_images(folder)}
            except Exception as error:  # pyarrow raises many types on damaged input
                self.found.add(folder / LIST, CHANGED, f"it does not fit its table: {error}")
        return len(self.listed) > before

    def _check(self, path: Path, *, within: bool) -> None:
        self.seen.add(path)
        if path in self.listed:
            self.found.add(path, *_compared(self.listed[path]))
            return
        state, reason = _sealed(path)
        own = path.name in OWN or path.name.startswith(".") or path.name.endswith(OWN_ENDING)
        if state == UNCHECKED and within and not own:
            state, reason = UNLISTED, "the manifest of its folder does not name it"
        self.found.add(path, state, reason)


def _set_images(folder: Path) -> Iterator[Listed]:
    """List a synthesised set's images by its list of places and its table of checksums."""
    tables = sorted(folder.glob(TABLE))
    # To open a pipe would wait for ever.
    if not tables or not all(path.is_file() for path in (folder / LIST, *tables)):
        return
    try:
        from pyarrow import parquet
    except ImportError:
        return
    columns = ["name", "bytes", "sha256"]
    if any(not set(columns) <= set(parquet.read_schema(table).names) for table in tables):
        return
    rows = (
        row
        for table in tables
        for batch in parquet.ParquetFile(table).iter_batches(columns=columns)
        for row in batch.to_pylist()
    )
    with (folder / LIST).open(encoding="utf-8", newline="\n") as lines:
        for line, row in zip_longest(lines, rows):
            if line is None or row is None:
                raise ValueError("one has more entries than the other")
            name = line.removesuffix("\n")
            if Path(name).name != Path(row["name"]).name:
                raise ValueError(f"it names {name!r}, and the table {row['name']!r}")
            yield Listed(folder / name, row["bytes"], row["sha256"])


def _compared(listed: Listed) -> tuple[str, str]:
    """Compare a listed file with its record; return its state, and why."""
    try:
        found = listed.path.stat()
        if not stat.S_ISREG(found.st_mode):
            return CHANGED, "it is no file any more"
        if found.st_size != listed.size:
            return CHANGED, f"it has {found.st_size} bytes and had {listed.size}"
        if file_record(listed.path)["sha256"] != listed.sha256:
            return CHANGED, "its checksum does not match"
    except FileNotFoundError:
        return MISSING, "it is listed and not there"
    except OSError as error:
        return UNREADABLE, error.strerror or str(error)
    return INTACT, ""


def _sealed(path: Path) -> tuple[str, str]:
    """Check the seal of a file that no listing names; return its state, and why."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return UNREADABLE, "it is a device or a pipe"
        if path.name in LISTINGS:
            read_listing(path)
        if _is_container(path):
            return UNCHECKED, ""
        if path.suffix.lower() == ".nc" and in_use(path):
            return UNREADABLE, "it is in use: another process has it open for writing"
        if check_seal(path, required=False):
            return INTACT, ""
        _check_whole(path)
    except FileNotFoundError:
        return MISSING, "it is a link to nothing"
    except OSError as error:
        return UNREADABLE, error.strerror or str(error)
    except (SealError, ValueError) as error:
        sentence = str(error).removeprefix(f"{path} ")
        return CHANGED, sentence.removeprefix("has changed since it was written: ")
    return UNCHECKED, ""


def _is_container(path: Path) -> bool:
    """Tell whether a file is an archive of others, whose seals are not its own."""
    with path.open("rb") as file:
        head = file.read(TAR_PLACE + len(TAR))
    return head[TAR_PLACE:] == TAR or (head.startswith(ZIP) and path.suffix.lower() != ".npz")


def _check_whole(path: Path) -> None:
    """Raise ValueError where a file was evidently cut or has lost its seal."""
    suffix = path.suffix.lower()
    size = path.stat().st_size
    if suffix == ".npy":
        with suppress(ObjectsError):  # of another program, and not damaged
            load_array(path, mmap=True)
    elif suffix == ".npz" and not zipfile.is_zipfile(path):
        raise ValueError("it is no archive, or is cut short")
    elif suffix == ".json" and size <= LARGEST_JSON:
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON: {error}") from None
    elif suffix == ".parquet":
        with path.open("rb") as file:
            begins = file.read(len(PARQUET)) == PARQUET
            file.seek(max(0, size - len(PARQUET)))
            if not begins:
                raise ValueError("it does not begin as a Parquet file does")
            if file.read() != PARQUET:
                raise ValueError("it is cut short")
    elif suffix == ".nc":
        _check_data_file(path)


def _check_data_file(path: Path) -> None:
    """Raise ValueError where a data file of hardset has no seal any more."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            ours = {"kind", "parameters"} <= file.attrs.keys()
            # An array of one number, as xarray writes it.
            schema = np.ravel(file.attrs.get("schema_version", 0))
            unsealed = ours and int(schema[0]) > 1
    except Exception as error:  # h5py raises many types on damaged input
        raise ValueError(f"it is damaged or not NetCDF-4: {one_line(error)}") from None
    if unsealed:
        raise ValueError("its checksum is gone")
