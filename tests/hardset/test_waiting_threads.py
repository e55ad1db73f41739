"""Threads of a command sleep while they wait."""

import os
import subprocess
import sys

import pytest

# libgomp, which faiss brings, tells its settings when it is loaded and OMP_DISPLAY_ENV asks.
LOADS = """
from hardset.start import start

def main(arguments):
    import faiss
    return 0

start(main)
"""


@pytest.mark.parametrize(("said", "policy"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_openmp_waits_passively_unless_the_user_says_otherwise(said, policy):
    environment = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["OMP_DISPLAY_ENV"] = "true"
    if said is not None:
        environment["OMP_WAIT_POLICY"] = said
    command = [sys.executable, "-c", LOADS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
