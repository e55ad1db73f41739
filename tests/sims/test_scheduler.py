"""Sweeps on several devices and on a cluster: the same digits, nothing lost with a worker."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import xarray as xr

import sims
from hardset.cli import run
from sims.__main__ import main
from sims.cells import identity, problem_cells
from sims.cluster import Cluster, split_for
from sims.students import Part, draw_families
from theory.problem import FixedAngle, PerceptronProblem

# 12 to 16 rows of 10 dimensions: one shape to compile, in every process.
DIM, DRAWS = 10, 60
PROBLEM = PerceptronProblem.grid(alpha_total=[3.0, 3.2], keep_fraction=[0.4, 0.45, 0.5], theta=0.3)
ARGUMENTS = "run --alpha-total 3 --keep-fraction 0.4,0.5 --theta-deg 20 --dim 10 --draws 20 --json"

# The command line in a process whose CPU counts as several devices.
ON_DEVICES = """
import sys
import threading
import jax
from sims.__main__ import main
from sims.maxmargin.lanes import SOLVERS

places, solve = set(), SOLVERS["native"]
# The first device waits for the other one, which might find no work left on a busy machine.
both = threading.Barrier(2, timeout=120)

def noted(problems):
    place = str(jax.config.jax_default_device)
    if place not in places:
        places.add(place)
        both.wait()
    return solve(problems)

SOLVERS["native"] = noted
code = main(sys.argv[1:])
print(sorted(places), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def here() -> xr.Dataset:
    """PROBLEM by this process."""
    return sims.run(PROBLEM, DIM, DRAWS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes; a nanny replaces one that dies."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def test_devices_change_no_digit(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    found = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, *ARGUMENTS.split(), "--devices", "2"],
        env=os.environ | flags,
        capture_output=True,
        check=True,
        text=True,
    )
    assert run(main, ARGUMENTS.split()) == 0
    assert json.loads(found.stdout) == json.loads(capsys.readouterr().out)
    assert found.stderr == "['cpu:0', 'cpu:1']\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (f"{ARGUMENTS} --devices 0", ["devices = 0", "[1, "]),
        (f"{ARGUMENTS} --devices 99", ["devices = 99", "JAX sees", "XLA_FLAGS"]),
        ("verify --preset quick --devices 99", ["devices = 99", "JAX sees", "XLA_FLAGS"]),
        (f"{ARGUMENTS} --scheduler nonsense", ["no dask scheduler answers at nonsense"]),
        (f"{ARGUMENTS} --devices 1 --scheduler tcp://localhost:1", ["give one of them"]),
    ],
)
def test_bad_places_are_one_sentence(
    arguments: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize("devices", [0.5, 2.5, True])
def test_devices_are_counted_in_whole_numbers(devices: Any) -> None:
    with pytest.raises(ValueError, match=r"devices = .*(whole number|valid range)"):
        sims.run(PerceptronProblem(5.0, 0.5), 10, 2, devices=devices)


def test_without_dask_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(main, [*ARGUMENTS.split(), "--scheduler", "tcp://localhost:1"]) == 2
    assert "pip install 'hardset[cluster]'" in capsys.readouterr().err


def test_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sims.cluster.CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert run(main, [*ARGUMENTS.split(), "--scheduler", address]) == 2
    sentence = capsys.readouterr().err
    assert f"no dask scheduler answers at {address}" in sentence
    assert sentence.count("\n") == 1


def test_nobody_works(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sims.cluster.CONNECT_SECONDS", 5)
    with distributed.LocalCluster(
        n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
    ) as idle:
        arguments = [*ARGUMENTS.split(), "--scheduler", idle.scheduler_address]
        assert run(main, arguments) == 2
    sentence = capsys.readouterr().err
    assert f"the dask scheduler at {idle.scheduler_address} has no worker" in sentence
    assert sentence.count("\n") == 1


def test_a_killed_worker_loses_nothing(
    cluster: Any, here: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve, killed = Cluster.solve, []

    def kill_one(self: Cluster, *arguments: Any) -> Iterator[Any]:
        for found in solve(self, *arguments):
            if not killed:
                killed.append(next(iter(self._client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)
            yield found

    monkeypatch.setattr(Cluster, "solve", kill_one)
    there = sims.run(PROBLEM, DIM, DRAWS, scheduler=cluster.scheduler_address)
    assert killed
    xr.testing.assert_identical(there, here)


def test_a_sweep_on_a_cluster_resumes(
    cluster: Any, here: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"cache": tmp_path, "scheduler": cluster.scheduler_address}
    solve = Cluster.solve

    def interrupted(self: Cluster, *arguments: Any) -> Iterator[Any]:
        found = solve(self, *arguments)
        yield next(found)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Cluster, "solve", interrupted)
        sims.run(PROBLEM, DIM, DRAWS, **places)
    asked = []

    def counted(self: Cluster, parts: Iterator[Part], *rest: Any) -> Iterator[Any]:
        lacking = list(parts)
        asked.extend((name, part.draws) for part in lacking for name in part.cells)
        return solve(self, iter(lacking), *rest)

    monkeypatch.setattr(Cluster, "solve", counted)
    xr.testing.assert_identical(sims.run(PROBLEM, DIM, DRAWS, **places), here)
    # Six cells of 60 draws, held together in fifties and tens.
    assert 0 < len(asked) < 12
    monkeypatch.setattr(Cluster, "__init__", None)  # nothing is missing: nobody is asked
    xr.testing.assert_identical(sims.run(PROBLEM, DIM, DRAWS, **places), here)


def test_tasks_hold_every_cell_and_draw_once() -> None:
    cells = {identity(cell): cell for cell in problem_cells(PROBLEM, DIM)}
    parts = draw_families(cells, DIM, DRAWS)
    tasks = list(split_for(2, parts, DIM))
    assert len(tasks) >= 8
    pairs = [(name, draw) for task in tasks for name in task.cells for draw in task.draws]
    assert len(pairs) == len(set(pairs)) == len(cells) * DRAWS


def test_digits_do_not_depend_on_the_company() -> None:
    # Policies, angles and sizes in one sweep, or each on its own.
    problems = [
        PerceptronProblem(3.0, np.array([0.4, 1.0]), FixedAngle(0.3)),
        PerceptronProblem(1.6, 1.0, FixedAngle(0.0)),
    ]
    for together, problem in zip(sims.run_many(problems, DIM, 7), problems, strict=True):
        xr.testing.assert_identical(together, sims.run(problem, DIM, 7))
