"""The downloads: pictures that hold their caption, and a data file that can be verified."""

from pathlib import Path

import numpy as np

from figures.explorer import curves
from figures.explorer.files import KIND, LOOKS, written
from figures.explorer.serve import is_loopback
from figures.explorer.state import POLICIES, State
from hardset.datafile import parameters_of, read_dataset


def test_files_hold_what_is_shown(tmp_path: Path) -> None:
    state = State(policy=("hard", "easy"), keep_fraction=0.25)
    found = curves.curves(state)
    shown = curves.dataset(state, found, curves.marks(state, found), None)
    assert written(shown, state, "png").startswith(b"\x89PNG")
    assert b"best window at f = 0.25" in written(shown, state, "png")
    assert written(shown, state, "pdf").startswith(b"%PDF")
    path = tmp_path / "explore.nc"
    path.write_bytes(written(shown, state, "nc"))
    read = read_dataset(path, kind=KIND)  # checks its checksum
    assert parameters_of(read) == state.parameters
    np.testing.assert_array_equal(read["theory_error"].sel(policy="easy"), found["easy"].error)


def test_every_policy_has_its_own_look() -> None:
    assert set(LOOKS) == set(POLICIES)
    assert len({color for color, _ in LOOKS.values()}) == len(POLICIES)
    assert len({dash for _, dash in LOOKS.values()}) == len(POLICIES)


def test_only_loopback_addresses_are_quiet() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "example.org", "")))
