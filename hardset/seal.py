"""Seals files: a sealed file holds the SHA-256 of itself.

A seal is the text `hardset-sha256:` and 64 hexadecimal digits. The digits are the SHA-256 of the
whole file with these digits written as zeros. A format that has room for a text (JSON, Parquet,
safetensors, archives) holds the seal there; other formats, whose readers do not mind bytes after
their end (NetCDF-4, .npy), end with it. So every reader of the format still reads the file, and
nobody has to know the format to check it.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

MARK = b"hardset-sha256:"
DIGITS = 64
BLANK_SEAL = MARK.decode() + "0" * DIGITS
# A seal lies in the file's last bytes: at the end, or in the metadata that end a Parquet file; or
# in its first ones, which are the metadata of a safetensors file.
TAIL = 1 << 20
HEAD = 1 << 12
CHUNK = 1 << 20
# Programs that read a table and write another keep the metadata, and with it the seal.
REWRITTEN = (
    "; if another program wrote it anew, let that leave the old metadata out (with pyarrow: "
    "table.replace_schema_metadata(None))"
)
CHANGED = 3  # fewer characters than these may differ in what is still taken for a seal
HEXADECIMAL = b"0123456789abcdef"
_SEAL = re.compile(re.escape(MARK) + rb"([0-9a-f]{%d})" % DIGITS)
_RUN = re.compile(rb"[0-9a-f]{%d,%d}" % (DIGITS, DIGITS + len(MARK)))


class SealError(ValueError):
    """A file is not what it was when it was sealed."""


def sealed(data: bytes) -> bytes:
    """Put the seal into a file's bytes, in place of `BLANK_SEAL` or at the end."""
    if BLANK_SEAL.encode() not in data[-TAIL:]:
        data += BLANK_SEAL.encode()
    place = data.rindex(BLANK_SEAL.encode()) + len(MARK)
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[:place] + digest + data[place + DIGITS :]


def sealed_json(record: dict[str, Any], **options: Any) -> bytes:
    """Encode a JSON object in UTF-8 whose last entry, `seal`, is its seal."""
    text = json.dumps(record | {"seal": BLANK_SEAL}, **options)
    return sealed(f"{text}\n".encode())


def seal_file(path: str | Path) -> None:
    """Seal a file on disk in place.

    It is read in pieces. Nobody else may be using it.

    Raises:
        OSError: it cannot be read or written.
    """
    path = Path(path)
    found = _seal_in(path)
    if found is None or found[1] != b"0" * DIGITS:
        with path.open("ab") as file:
            file.write(BLANK_SEAL.encode())
        found = path.stat().st_size - DIGITS, b""
    digest = _digest(path, found[0])
    with path.open("r+b") as file:
        file.seek(found[0])
        file.write(digest)


def is_sealed(path: str | Path) -> bool:
    """Tell whether a file holds a seal, be it right or wrong."""
    return _seal_in(Path(path)) is not None


def check_seal(path: str | Path, *, required: bool = True) -> bool:
    """Check that a file is what it was when it was sealed.

    Args:
        path: the file.
        required: whether a file without a seal is an error too.

    Returns:
        Whether the file holds a seal.

    Raises:
        SealError: its content has changed; or it has no seal and `required`.
        OSError: it cannot be read.
    """
    path = Path(path)
    found = _seal_in(path)
    if found is None:
        if required:
            raise SealError(
                f"{path} holds no checksum: it is damaged, cut short, or was not written by hardset"
            )
        return False
    if _digest(path, found[0]) != found[1]:
        what = f"{path} has changed since it was written: its checksum does not match"
        raise SealError(what + (REWRITTEN if path.suffix == ".parquet" else ""))
    return True


def _seal_in(path: Path) -> tuple[int, bytes] | None:
    """Find the place and the digits of a file's seal.

    The digits are empty if the seal is broken, and the answer is None without a seal.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - TAIL)
        file.seek(start)
        tail = file.read()
        file.seek(0)
        head = file.read(min(HEAD, start))
    for place, part in ((start, tail), (0, head)):
        found = list(_SEAL.finditer(part))
        if found:
            return place + found[-1].start(1), found[-1][1]
    return (size, b"") if _holds_broken_seal(tail) or _holds_broken_seal(head) else None


def _holds_broken_seal(tail: bytes) -> bool:
    """Tell whether bytes hold what was a seal before a few characters changed."""
    # One changed character leaves either the mark or the digits as they were.
    places = [found.start() for found in re.finditer(re.escape(MARK), tail)]
    for run in _RUN.finditer(tail):  # the mark's own last characters may look like digits
        places += [run.start() - len(MARK), run.end() - DIGITS - len(MARK)]
    for place in places:
        mark, digits = tail[max(0, place) : place + len(MARK)], tail[place + len(MARK) :][:DIGITS]
        alike = sum(one == other for one, other in zip(mark, MARK, strict=False))
        known = sum(one in HEXADECIMAL for one in digits)
        if alike > len(MARK) - CHANGED and known > len(digits) - CHANGED:
            return True
    return False


def _digest(path: Path, place: int) -> bytes:
    """Compute the SHA-256 of a file whose digits at `place` count as zeros."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = place
        while left:
            chunk = file.read(min(CHUNK, left))
            digest.update(chunk)
            left -= len(chunk)
        digest.update(b"0" * DIGITS)
        file.seek(DIGITS, 1)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest().encode()
