"""Reads and writes data files: labelled arrays with parameters and versions.

They are written atomically.
"""

import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardset.arrays import LIMIT_BYTES, LIMIT_RATIO
from hardset.cli import one_line
from hardset.seal import BLANK_SEAL, SealError, check_seal, sealed

if TYPE_CHECKING:
    import xarray as xr  # half a second that `--help` need not pay


SCHEMA_VERSION = 2
PART = ".part"
HALF_WRITTEN = re.compile(r"\.[0-9a-f]{16}\.part")
TEXTS = 64  # of an array that are read at once to learn their length


class DataFileError(ValueError):
    """A data file is missing, damaged or not what was asked for."""


class OtherKindError(DataFileError):
    """A data file holds another kind of data than was asked for.

    Attributes:
        kind: the kind that it holds.
    """

    def __init__(self, words: str, kind: str) -> None:
        super().__init__(words)
        self.kind = kind


def versions() -> dict[str, str]:
    """List the versions of the packages that a result depends on."""
    found = {}
    for name in ("hardset", "jax", "jaxlib", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@contextmanager
def atomic_file(path: str | Path, *, replace: bool = True) -> Iterator[Path]:
    """Give an empty hidden file that replaces `path` when the block ends.

    It lies in the same folder, and is deleted after an error. `path` holds either its old content
    or all of the new one, whatever happens. Where it is a link, what the link points to is written.
    A new file has the mode that the user's umask gives. A replaced one keeps its mode.

    Args:
        path: the file to be written.
        replace: whether a file that is there may be replaced. If not, of two processes that write
            at once the first one has the name, and the other gets an error.

    Raises:
        FileExistsError: there is a file and `replace` is False.
        OSError: the folder is missing or not writable, the disk is full, or `path` is a folder, a
            device or a pipe; names `path`.
    """
    target = Path(os.path.realpath(path))
    try:
        _check_regular(target)
        with _beside(target) as temporary:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if replace:
                with suppress(FileNotFoundError):
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                temporary.replace(target)
            else:
                _publish_new(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        hidden = error.filename is None or Path(error.filename).suffix == PART
        if not hidden or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _check_regular(target: Path) -> None:
    """Raise OSError where something that is no file has the name, such as a device."""
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode  # also finds a name that is too long
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder; give a file's name", target)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device or a pipe; give a file's name", target)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make an empty file in the folder of `target`, and remove it at the end."""
    # Short: the target's own name may be as long as the file system allows.
    temporary = target.with_name(f".{secrets.token_hex(8)}{PART}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Delete what killed processes left half written below a folder.

    Nobody else may be writing there.
    """
    for one in folder.rglob(f".*{PART}"):
        if HALF_WRITTEN.fullmatch(one.name):
            one.unlink(missing_ok=True)


def _publish_new(temporary: Path, target: Path) -> None:
    """Give `temporary` the name `target`, unless something has that name."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # A file system without hard links: an empty file claims the name.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it survives a power failure.

    Nothing happens where the system does not let a folder be synced.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_output_file(path: str | Path) -> Path:
    """Prove that a file of this name can be written, and leave nothing behind.

    Raises:
        OSError: its folder is missing or cannot be written, its name is too long, or it is a
            folder; says so, and names it.
    """
    target = Path(os.path.realpath(path))
    try:
        _check_regular(target)
        with _beside(target) as temporary:
            temporary.write_bytes(b"0" * 4096)
    except OSError as error:
        raise OSError(f"output file {path} cannot be written: {error.strerror or error}") from None
    return Path(path)


def write_bytes_atomic(path: str | Path, data: bytes, *, replace: bool = True) -> None:
    """Write bytes to a file atomically.

    `path` holds either its old content or all of the new one.

    Raises:
        OSError: see `atomic_file`, also for `replace`.
    """
    with atomic_file(path, replace=replace) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write a text in UTF-8 to a file atomically, as `write_bytes_atomic` does."""
    write_bytes_atomic(path, text.encode())


def write_dataset(
    dataset: "xr.Dataset",
    path: str | Path,
    *,
    kind: str,
    parameters: dict[str, Any],
    replace: bool = True,
) -> None:
    """Write labelled arrays as a NetCDF-4 file with a checksum.

    The file also holds what is needed to reproduce the arrays. The checksum follows the end of the
    NetCDF-4 data (see `hardset.seal`), where other readers do not look.

    Args:
        dataset: the arrays.
        path: the file, written atomically.
        kind: what the file holds, checked by `read_dataset`.
        parameters: JSON-serialisable parameters, seeds included.
        replace: whether a file that is there may be replaced, see `atomic_file`.

    Raises:
        FileExistsError: there is a file and `replace` is False.
        OSError: the folder is missing or not writable, or the disk is full.
    """
    stamped = dataset.assign_attrs(
        kind=kind,
        schema_version=SCHEMA_VERSION,
        parameters=json.dumps(parameters, sort_keys=True),
        versions=json.dumps(versions(), sort_keys=True),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # In memory first: HDF5 itself crashes the process when the disk is full.
    data = bytes(stamped.to_netcdf(engine="h5netcdf"))
    write_bytes_atomic(path, sealed(_with_room_for_seal(data)), replace=replace)


def _with_room_for_seal(data: bytes) -> bytes:
    """Move the end that an HDF5 file names behind the place of its seal.

    A program that opens a file for writing, and changes nothing, cuts it at the end that the file
    itself names. Without this the seal would be gone.
    """
    version, place = data[8], 40
    if version != 0 or int.from_bytes(data[place : place + 8], "little") != len(data):
        return data
    end = len(data) + len(BLANK_SEAL)
    return data[:place] + end.to_bytes(8, "little") + data[place + 8 :]


def read_dataset(path: str | Path, *, kind: str) -> "xr.Dataset":
    """Read a whole data file, written by `write_dataset`, into memory.

    Args:
        path: the file.
        kind: the kind it must have.

    Raises:
        DataFileError: missing, truncated, changed or foreign file, other kind, newer schema, or a
            file that another process has open for writing; one sentence.
    """
    import xarray as xr

    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"data file {path} does not exist")
    if in_use(path):
        raise DataFileError(f"data file {path} is in use: another process has it open for writing")
    try:
        intact = check_seal(path, required=False)
        _check_declared(path)
        with xr.open_dataset(path, engine="h5netcdf") as file:
            dataset = file.load()
    except DataFileError:
        raise
    except SealError as error:
        raise DataFileError(f"data file {error}") from None
    except Exception as error:  # h5py raises many types on damaged input
        raise DataFileError(
            f"data file {path} is damaged or not NetCDF-4: {one_line(error)}"
        ) from None
    found = dataset.attrs.get("kind")
    if not isinstance(found, str) or found != kind:
        words = f"data file {path} holds {one_line(repr(found))}, not {kind!r}"
        raise OtherKindError(words, str(found))
    schema = dataset.attrs.get("schema_version", 0)
    if not isinstance(schema, int | np.integer):
        raise DataFileError(f"data file {path} has the schema version {one_line(repr(schema))}")
    if schema > SCHEMA_VERSION:
        raise DataFileError(
            f"data file {path} has schema version {schema}; this version reads up to "
            f"{SCHEMA_VERSION}"
        )
    # Version 0.1 wrote files of schema 1 without a checksum.
    if schema > 1 and not intact:
        raise DataFileError(
            f"data file {path} has lost its checksum: it has changed or is cut short"
        )
    try:
        parameters_of(dataset)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DataFileError(f"data file {path} does not say its parameters") from None
    return dataset


def _check_declared(path: Path) -> None:
    """Raise DataFileError where reading would need far more memory, or other files.

    HDF5 stores nothing for values that were never written, so that a file of 6 KB can declare
    terabytes. Many texts of an array can be one text of the file. A file can also name other files,
    which would be read in its place.
    """
    import h5py

    size = path.stat().st_size
    limit = max(LIMIT_BYTES, LIMIT_RATIO * size)
    needed = 0
    with h5py.File(path, "r") as file:
        _check_attributes(path, file, limit)
        for name in file:
            if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
                raise DataFileError(f"data file {path} is damaged: {one_line(name)} is elsewhere")
            found = file[name]
            _check_attributes(path, found, limit)
            if not isinstance(found, h5py.Dataset):
                continue
            if found.external or found.is_virtual:
                raise DataFileError(f"data file {path} is damaged: {one_line(name)} is elsewhere")
            # A piece is read whole, however few of its values belong to the array.
            values = max(math.prod(found.shape or ()), math.prod(found.chunks or ()))
            needed += values * found.dtype.itemsize
            if needed <= limit and found.dtype.hasobject:
                needed += _text_bytes(found, limit)
    if needed > limit:
        raise _too_large(path, needed)


def _check_attributes(path: Path, found: Any, limit: int) -> None:
    """Raise DataFileError where an attribute's texts could take more than `limit` bytes."""
    import h5py

    size = path.stat().st_size
    for name in found.attrs:
        attribute = h5py.h5a.open(found.id, name.encode("utf-8", "surrogateescape"))
        # Each may be as long as the file.
        if attribute.dtype.hasobject and size * math.prod(attribute.shape) > limit:
            raise _too_large(path, size * math.prod(attribute.shape))


def _text_bytes(found: Any, limit: int) -> int:
    """Count the bytes of an HDF5 array's texts, block by block, up to `limit`."""
    if not found.shape:
        return 0
    total = 0
    rows = max(1, TEXTS // max(1, math.prod(found.shape[1:])))
    for start in range(0, found.shape[0], rows):
        for one in found[start : start + rows].ravel():
            total += len(one) * getattr(one, "itemsize", 1)
        if total > limit:
            break
    return total


def _too_large(path: Path, needed: int) -> DataFileError:
    return DataFileError(
        f"data file {path} has {path.stat().st_size} bytes and declares arrays of {needed}; at "
        f"most {LIMIT_BYTES} bytes, or {LIMIT_RATIO} times the file, are read"
    )


def in_use(path: Path) -> bool:
    """Tell whether another process has an HDF5 file open for writing.

    HDF5 locks such a file.
    """
    try:
        import fcntl
    except ImportError:  # Windows refuses to open such a file
        return False
    # Some network file systems have no locks.
    with suppress(OSError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def parameters_of(dataset: "xr.Dataset") -> dict[str, Any]:
    """Read the parameters that `write_dataset` stored."""
    return dict(json.loads(dataset.attrs["parameters"]))
