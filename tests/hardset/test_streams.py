"""Commands whose output goes nowhere, or cannot be written, end like any others."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

LIST = f"{shlex.quote(sys.executable)} -m figures list"


def test_closed_streams_are_no_trouble() -> None:
    done = subprocess.run(f"exec {LIST} >&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(f"exec {LIST}x 2>&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_named() -> None:
    done = subprocess.run(f"exec {LIST} > /dev/full", shell=True, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"
