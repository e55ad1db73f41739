"""Ctrl-C and SIGTERM reach a command wherever they arrive."""

import os
import signal
import subprocess
import sys
import time

import pytest

# JAX has such a callback; what Python raises in one is dropped.
DROPPED = """
import gc, signal, sys, time
from hardset.start import start

def main(arguments):
    def callback(phase, info):
        gc.callbacks.remove(callback)
        signal.raise_signal(int(arguments[0]))

    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(60)
    return 0

start(main)
"""

# The module that everything needs takes its time.
LOADING = """
import sys, time
from hardset.start import start

class Slow:
    def find_spec(self, name, *rest):
        if name == "hardset.cli":
            print("loading", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
start(lambda arguments: 0)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_in_a_callback_of_the_garbage_collection_is_not_lost(number, code):
    command = [sys.executable, "-c", DROPPED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == code
    assert done.stderr == "interrupted; what was finished and saved is kept\n"


def test_ctrl_c_while_modules_are_loaded_is_a_word():
    with subprocess.Popen(
        [sys.executable, "-c", LOADING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout.readline() == "loading\n"
        time.sleep(0.05)
        os.kill(running.pid, signal.SIGINT)
        assert running.stderr.read() == "interrupted\n"
    assert running.returncode == 130
