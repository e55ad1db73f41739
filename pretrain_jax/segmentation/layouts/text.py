"""Lists and tables beside the images: text in UTF-8, with or without a byte order mark."""

import csv
import io
from pathlib import Path
from unicodedata import normalize

__all__ = ["read_lines", "read_table"]


def read_lines(path: Path) -> list[str]:
    """The lines of a text that are not blank, without the spaces around them.

    Raises:
        ValueError: the file is not text in UTF-8.
    """
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def read_table(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The names of the columns and the rows of a CSV file; what a row lacks is "".

    Raises:
        ValueError: the file is not text in UTF-8, or no table.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), restval="")
    try:
        return tuple(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV table: line {reader.line_num}: {error}") from None


def _text(path: Path) -> str:
    # Programs for tables write a byte order mark; names are those of `pair_cases`, composed.
    try:
        return normalize("NFC", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; save it in that encoding") from None
