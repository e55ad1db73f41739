"""One process at a time: a second one is told, and a killed one lets go."""

import subprocess
import sys
from pathlib import Path

import pytest

from hardset.folder import alone

HOLD = """
import sys, time
from hardset.folder import alone
with alone(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=rf"another process works in {tmp_path}; wait until"),
            alone(tmp_path),
        ):
            raise AssertionError("both hold it")
        with alone(tmp_path, joined=True):  # hosts that work together hold nothing
            pass
        other.kill()
        other.wait()
    with alone(tmp_path):
        pass


def test_an_error_in_the_block_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone(tmp_path):
        raise RuntimeError
    with alone(tmp_path):
        pass
