"""The downloads: pictures that hold their caption, and a data file that can be verified."""

from pathlib import Path

import numpy as np
import pytest

from figures.__main__ import main
from figures.explorer import curves
from figures.explorer.files import KIND, LOOKS, written
from figures.explorer.serve import is_loopback
from figures.explorer.state import POLICIES, State
from hardset.cli import run
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


def test_a_downloaded_data_file_is_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(policy=("hard", "window"), lo=0.25, keep_fraction=0.3)
    found = curves.curves(state)
    points = curves.joined(list(curves.simulate(state, 10, 2)))
    shown = curves.dataset(state, found, curves.marks(state, found), points)
    path, out = tmp_path / "my explore.nc", tmp_path / "out"
    path.write_bytes(written(shown, state, "nc"))
    assert (
        run(main, ["explore", "--from-data", str(path), "--format", "png", "--out", str(out)]) == 0
    )
    assert str(out / "explore.png") in capsys.readouterr().out
    # The same bytes as the page's own download, which it draws from what it has in memory.
    assert (out / "explore.png").read_bytes() == written(shown, state, "png")
    # Another figure's command names the one that draws it.
    assert run(main, ["angle", "--from-data", str(path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"hardset figures explore --from-data '{path}' --out FOLDER" in said
    assert run(main, ["explore", "--from-data", str(path)]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-100])
    assert run(main, ["explore", "--from-data", str(path), "--out", str(out)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_every_policy_has_its_own_look() -> None:
    assert set(LOOKS) == set(POLICIES)
    assert len({color for color, _ in LOOKS.values()}) == len(POLICIES)
    assert len({dash for _, dash in LOOKS.values()}) == len(POLICIES)


def test_only_loopback_addresses_are_quiet() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "example.org", "")))
