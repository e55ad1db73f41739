"""Keeps what identifies a patient out of names, messages and logs.

Identifiers become names by a project's salt, and packages that quote values are kept quiet.
"""

import hashlib
import hmac
import logging
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from hardset.datafile import atomic_file
from pretrain_jax.data.opening import regular_file

SALT_BYTES = 32
HASH_DIGITS = 32
_quieted = Lock()


def project_salt(path: str | Path, outputs: str | Path) -> bytes:
    """Read the salt of a project's hashes, or make one where there is none.

    Who has the salt can find out which hash is whose, by trying identifiers. So nobody but its
    owner may read the file, and it does not lie among results, which are handed on.

    Args:
        path: a file of 64 hexadecimal digits; it is made with the mode 600.
        outputs: the folder of results.

    Raises:
        ValueError: it lies in `outputs`, others may read it, or it holds something else.
        OSError: it cannot be read or made.
    """
    target = Path(os.path.realpath(path))
    if target.is_relative_to(os.path.realpath(outputs)):
        raise ValueError(
            f"the salt {path} lies in {outputs}, which holds results; keep it elsewhere"
        )
    if not target.exists():
        try:
            with atomic_file(target, replace=False) as temporary:
                temporary.chmod(0o600)
                temporary.write_text(secrets.token_hex(SALT_BYTES) + "\n", encoding="ascii")
        except FileExistsError:
            pass  # another process was faster
    if target.is_dir():
        raise ValueError(f"the salt {path} is a folder; name a file")
    with regular_file(target) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(2 * SALT_BYTES + 2)
    if mode & 0o077:
        raise ValueError(
            f"the salt {path} has the mode {mode:o}; others may not read it: chmod 600"
        )
    try:
        salt = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt {path} does not hold {2 * SALT_BYTES} hexadecimal digits")
    return salt


def salted_hash(salt: bytes, kind: str, value: str) -> str:
    """Hash an identifier of a kind with the project's salt (HMAC-SHA256, 32 digits)."""
    return hmac.new(salt, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Keep a package from logging and warning.

    It may quote there what a file holds.

    The filters of warnings belong to the process, so that threads take turns.
    """
    own = logging.getLogger(logger)
    with _quieted, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, own.disabled = own.disabled, True
        try:
            yield
        finally:
            own.disabled = before
