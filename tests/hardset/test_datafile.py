"""Data files and the command lines' common frame."""

import resource
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from hardset.cli import check_output_folder, run
from hardset.datafile import (
    SCHEMA_VERSION,
    DataFileError,
    in_use,
    parameters_of,
    read_dataset,
    write_bytes_atomic,
    write_dataset,
    write_text_atomic,
)
from hardset.verify import verify


@pytest.fixture
def dataset():
    return xr.Dataset({"error": ("f", np.array([0.1, 0.2]))}, coords={"f": [0.5, 1.0]})


def test_round_trip(tmp_path, dataset):
    path = tmp_path / "a.nc"
    write_dataset(dataset, path, kind="theory", parameters={"seed": 3, "lo": [0.1]})
    found = read_dataset(path, kind="theory")
    xr.testing.assert_equal(found, dataset)
    assert parameters_of(found) == {"seed": 3, "lo": [0.1]}
    assert found.attrs["schema_version"] == SCHEMA_VERSION
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nc"]


def test_damaged_and_foreign_files(tmp_path, dataset):
    path = tmp_path / "a.nc"
    write_dataset(dataset, path, kind="theory", parameters={})
    with pytest.raises(DataFileError, match=r"holds 'theory', not 'simulation'"):
        read_dataset(path, kind="simulation")
    whole = path.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2], b"plain text"):
        path.write_bytes(part)
        with pytest.raises(DataFileError, match="is damaged or not NetCDF-4"):
            read_dataset(path, kind="theory")
    with pytest.raises(DataFileError, match="does not exist"):
        read_dataset(tmp_path / "b.nc", kind="theory")


HOLD = """
import sys, time, h5py
with h5py.File(sys.argv[1], "a"):
    print("open", flush=True)
    time.sleep(100)
"""


def test_a_file_that_is_being_written_is_in_use_not_damaged(tmp_path, dataset):
    path = tmp_path / "a.nc"
    write_dataset(dataset, path, kind="theory", parameters={})
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(
            DataFileError, match=r"a\.nc is in use: another process has it open for writing$"
        ):
            read_dataset(path, kind="theory")
        found = verify([path])
        assert [(one.state, one.reason) for one in found.findings] == [
            ("unreadable", "it is in use: another process has it open for writing")
        ]
        other.kill()
    with h5py.File(path, "r"):  # readers do not disturb each other
        assert not in_use(path)


def test_a_file_opened_for_writing_and_left_as_it_was_is_intact(tmp_path, dataset):
    path = tmp_path / "a.nc"
    write_dataset(dataset, path, kind="theory", parameters={})
    before = path.read_bytes()
    for mode in ("a", "r+", "r"):
        with h5py.File(path, mode):
            pass
        assert path.read_bytes() == before
    with h5py.File(path, "a") as file:
        file["error"][0] = 0.3
    with pytest.raises(DataFileError, match="has changed since it was written"):
        read_dataset(path, kind="theory")


def test_newer_schema(tmp_path, dataset):
    path = tmp_path / "a.nc"
    stamped = dataset.assign_attrs(kind="theory", schema_version=SCHEMA_VERSION + 1)
    stamped.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DataFileError, match="schema version 3; this version reads up to 2"):
        read_dataset(path, kind="theory")


def test_failed_write_leaves_the_old_file(tmp_path, dataset):
    path = tmp_path / "a.nc"
    write_dataset(dataset, path, kind="theory", parameters={})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_dataset(dataset, path, kind="theory", parameters={"bad": object()})
    with pytest.raises(TypeError):
        write_bytes_atomic(path, "text")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nc"]


def test_text(tmp_path):
    write_text_atomic(tmp_path / "a.txt", "κ = 1\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "κ = 1\n"


def test_exit_codes(capsys):
    def failing(error):
        def main(argv):
            raise error

        return main

    assert run(lambda argv: len(argv), ["a", "b", "c"]) == 3
    assert run(failing(ValueError("f = 2 is outside (0, 1]")), []) == 2
    assert capsys.readouterr().err == "error: f = 2 is outside (0, 1]\n"
    assert run(failing(OSError("no such folder")), []) == 2
    assert capsys.readouterr().err == "error: no such folder\n"
    assert run(failing(KeyboardInterrupt()), []) == 130
    with pytest.raises(RuntimeError):  # a defect keeps its traceback
        run(failing(RuntimeError("defect")), [])


def test_full_disk_is_an_error_and_keeps_the_old_file(tmp_path, dataset):
    path = tmp_path / "a.nc"
    write_dataset(dataset, path, kind="theory", parameters={})
    larger = xr.Dataset({"error": ("f", np.arange(100_000.0))})
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_dataset(larger, path, kind="theory", parameters={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    xr.testing.assert_equal(read_dataset(path, kind="theory"), dataset)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nc"]


def test_output_folder(tmp_path):
    assert check_output_folder(tmp_path / "new" / "folder").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"output folder .* cannot be written"):
        check_output_folder(tmp_path / "file")
