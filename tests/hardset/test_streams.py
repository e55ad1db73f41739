"""Commands whose output goes nowhere, or cannot be written, end like any others."""

import shlex
import subprocess
import sys
from pathlib import Path

LIST = f"{shlex.quote(sys.executable)} -m figures list"


def test_closed_streams_are_no_trouble() -> None:
    done = subprocess.run(f"exec {LIST} >&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(f"exec {LIST}x 2>&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


def test_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk.
    line = f"ulimit -f 0; exec {LIST} > {shlex.quote(str(tmp_path / 'list.txt'))}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: File too large\n"
