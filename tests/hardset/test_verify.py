"""`hardset verify`: each kind of damage in a file and in a tree, and the exit codes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from hardset.__main__ import PACKAGES, main
from hardset.arrays import npy_bytes, npz_bytes
from hardset.cli import run
from hardset.datafile import write_dataset
from hardset.listing import write_listing
from hardset.seal import sealed, sealed_json
from hardset.verify import verify

COUNTS = ("intact", "changed", "missing", "unreadable", "not listed", "without a checksum")


def record(path: Path) -> dict[str, object]:
    """bytes and sha256, not by hardset."""
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def make_stage(folder: Path, *, seal: bool) -> Path:
    """A stage's folder: two outputs that a manifest lists, and the stage's own files."""
    (folder / "inner").mkdir(parents=True)
    pq.write_table(pa.table({"x": [1, 2]}), folder / "part.parquet")
    (folder / "inner" / "picture.png").write_bytes(b"picture")
    outputs, local = (
        {name: record(folder / name)} for name in ("part.parquet", "inner/picture.png")
    )
    manifest = {"stage": "test", "outputs": outputs, "local": local}
    text = sealed_json(manifest) if seal else json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "stage.json").write_text("{}")
    (folder / ".lock").write_text("")
    (folder / "part.log.json").write_text("{}")
    return folder


def make_tree(top: Path) -> Path:
    make_stage(top / "stage", seal=True)
    make_stage(top / "old", seal=False)
    (top / "a.npy").write_bytes(npy_bytes(np.arange(3)))
    (top / "a.npz").write_bytes(npz_bytes({"x": np.arange(3)}))
    (top / "a.json").write_bytes(sealed_json({"x": 1}))
    write_dataset(xr.Dataset({"x": ("i", [1.0])}), top / "a.nc", kind="test", parameters={})
    (top / "notes.txt").write_text("mine")
    np.save(top / "mine.npy", np.arange(3))
    steps = top / "checkpoints" / "3"
    (steps / "weights").mkdir(parents=True)
    (steps / "weights" / "d").write_bytes(b"weights")
    write_listing(steps)
    return top


def counts(top: Path) -> dict[str, int]:
    return {name: count for name, count in verify([top]).counts.items() if count}


# Two stages of two outputs, a sealed manifest, four sealed files, a checkpoint's file and listing.
INTACT = {"intact": 11, "without a checksum": 9}


def test_an_intact_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(tmp_path)
    assert counts(tmp_path) == INTACT
    assert run(main, ["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "11 intact, 0 changed, 0 missing, 0 unreadable, 0 not listed, 9 without a checksum\n"
    )
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.move(tmp_path, moved)
    assert counts(moved) == INTACT


FILES = [
    "a.npy",
    "a.npz",
    "a.json",
    "a.nc",
    "stage/manifest.json",
    "stage/part.parquet",
    "stage/inner/picture.png",
    "old/part.parquet",
    "checkpoints/3/weights/d",
    "checkpoints/3/checksums.json",
]


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_found_in_the_tree_and_alone(tmp_path: Path, name: str) -> None:
    path = make_tree(tmp_path) / name
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(8 * len(content), size=40):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << int(place) % 8
        path.write_bytes(changed)
        alone = verify([path])
        assert [(one.path, one.state) for one in alone.findings] == [(path, "changed")]
        assert not alone.passed
    found = verify([tmp_path])
    assert ("changed", path) in [(one.state, one.path) for one in found.findings]
    assert run(main, ["verify", str(tmp_path)]) == 1
    assert run(main, ["verify", str(path)]) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_in_half_has_changed(tmp_path: Path, name: str) -> None:
    path = make_tree(tmp_path) / name
    content = path.read_bytes()
    for size in (len(content) // 2, len(content) - 1, len(content) - 79, 0):
        if path.suffix in (".npy", ".npz") and size == len(content) - 79:
            continue  # all of the arrays without their seal, as other programs write them
        path.write_bytes(content[:size])
        assert "changed" in counts(tmp_path), size


@pytest.mark.parametrize("name", ["stage/part.parquet", "old/inner/picture.png"])
def test_a_listed_file_that_is_gone_is_missing(tmp_path: Path, name: str) -> None:
    path = make_tree(tmp_path) / name
    path.unlink()
    assert counts(tmp_path) == {**INTACT, "intact": 10, "missing": 1}
    path.symlink_to("nowhere")
    assert counts(tmp_path) == {**INTACT, "intact": 10, "missing": 1}
    path.unlink()
    path.mkdir()
    assert counts(tmp_path) == {**INTACT, "intact": 10, "changed": 1}


def test_a_listed_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    inner = tmp_path / "tree" / "stage" / "inner"
    shutil.move(inner, tmp_path / "elsewhere")
    inner.symlink_to(tmp_path / "elsewhere")
    assert counts(tmp_path / "tree") == INTACT
    (tmp_path / "elsewhere" / "picture.png").write_bytes(b"Picture")
    assert counts(tmp_path / "tree") == {**INTACT, "intact": 10, "changed": 1}


def test_what_a_manifest_does_not_list_is_told(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "stage" / "inner" / "foreign.png").write_bytes(b"mine")
    found = verify([tmp_path])
    assert found.passed
    assert found.text().splitlines()[0] == (
        f"not listed: {tmp_path / 'stage' / 'inner' / 'foreign.png'}: the manifest of its folder "
        "does not name it"
    )
    assert found.counts["not listed"] == 1
    assert found.counts["without a checksum"] == INTACT["without a checksum"] + 1


def test_loops_pipes_and_links_to_nothing(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "stage" / "up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "nothing").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.npy")
    found = verify([tmp_path])
    assert {one.path.name: one.state for one in found.findings} == {
        "self": "unreadable",
        "nothing": "missing",
        "pipe.npy": "unreadable",
    }
    assert found.counts["intact"] == INTACT["intact"]
    assert verify([tmp_path / "loop"]).counts == found.counts  # named, it is followed


def test_pipes_in_the_place_of_what_says_what_files_were(tmp_path: Path) -> None:
    names = ("manifest.json", "checksums.json", "data.txt", "files-00000.parquet")
    for name in names:
        os.mkfifo(tmp_path / name)
    (tmp_path / "a.json").write_text("{}")
    found = verify([tmp_path])
    assert {one.path.name: one.state for one in found.findings} == dict.fromkeys(
        names, "unreadable"
    )
    assert verify([tmp_path, tmp_path / "a.json"]).counts["without a checksum"] == 2
    (tmp_path / "data.txt").unlink()
    (tmp_path / "data.txt").write_text("a.png\n")
    assert verify([tmp_path]).counts["unreadable"] == 3


@pytest.mark.parametrize("ending", ["json", "nc", "npy", "npz", "parquet"])
@pytest.mark.parametrize("content", [b"", b"\1" * 100])
def test_what_is_of_another_kind_than_its_ending_has_changed(
    tmp_path: Path, ending: str, content: bytes
) -> None:
    (tmp_path / f"a.{ending}").write_bytes(content)
    assert [one.state for one in verify([tmp_path]).findings] == ["changed"]


ABOUT = {"bytes": 1, "sha256": "0" * 64}
MANIFESTS = {
    "absolute": json.dumps({"outputs": {"/dev/zero": ABOUT}}),
    "above": json.dumps({"outputs": {"../../etc/passwd": ABOUT}}),
    "above, inside": json.dumps({"outputs": {"a/../../b": ABOUT}}),
    "zero byte": json.dumps({"outputs": {"a\0b": ABOUT}}),
    "half a pair": json.dumps({"local": {"\ud800": ABOUT}}),
    "escapes": json.dumps({"outputs": {"/\x1b[2J": ABOUT}}),
    "new line": json.dumps({"outputs": {"/a\nerror: b": ABOUT}}),
    "entry a number": json.dumps({"outputs": {"a": 3}}),
    "entry a list": json.dumps({"outputs": {"a": [1, "0"]}}),
    "no size": json.dumps({"outputs": {"a": {"sha256": "0"}}}),
    "no digest": json.dumps({"outputs": {"a": {"bytes": 1}}}),
    "size a text": json.dumps({"outputs": {"a": {"bytes": "1", "sha256": "0"}}}),
    "size real": json.dumps({"outputs": {"a": {"bytes": 1.0, "sha256": "0"}}}),
    "size NaN": '{"outputs": {"a": {"bytes": NaN, "sha256": "0"}}}',
    "digest a number": json.dumps({"outputs": {"a": {"bytes": 1, "sha256": 3}}}),
    "a list": "[1]",
    "a number": "1",
    "a text": '"outputs"',
    "null": "null",
    "empty": "",
    "zeros": "\0" * 100,
    "nested lists": "[" * 100_000,
    "nested tables": '{"outputs":' * 100_000,
    "cut": '{"outputs": {"a": {"byt',
    "two": "{}{}",
    "quotes": "{'outputs': {}}",
    "number of 5,000 digits": '{"a": ' + "9" * 5000 + "}",
    "number of 5,000 digits as size": (
        '{"outputs": {"a": {"sha256": "0", "bytes": ' + "9" * 5000 + "}}}"
    ),
    "escape codes": "\x1b[31m" * 10_000,
    "another seal": '{"seal": "none"}',
    "a seal of zeros": json.dumps({"outputs": {}, "seal": "hardset-sha256:" + "0" * 64}),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_reads_nothing_outside(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "manifest.json", tmp_path / "checksums.json"):
        path.write_bytes(MANIFESTS[name].encode("utf-8", "surrogatepass"))
        found = verify([tmp_path])
        assert [(one.state, one.path) for one in found.findings] == [("changed", path)]
        assert all(len(line) < 1000 and line.isprintable() for line in found.text().splitlines())
        assert [one.state for one in verify([path]).findings] == ["changed"]
        path.unlink()


def test_listed_names_that_no_file_can_have(tmp_path: Path) -> None:
    names = {"x" * 300: "unreadable", "": "changed", "a/" * 5000: "unreadable", "b": "missing"}
    outputs = dict.fromkeys(names, ABOUT)
    (tmp_path / "manifest.json").write_bytes(sealed_json({"outputs": outputs}))
    found = {one.path: one.state for one in verify([tmp_path]).findings}
    assert found == {tmp_path / name: state for name, state in names.items()}


def test_the_images_of_a_set_are_checked_where_its_list_says(tmp_path: Path) -> None:
    folder, other = tmp_path / "set", tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    other.mkdir()
    places = [folder / "images" / "0.png", other / "a.png"]
    for place in places:
        place.write_bytes(place.name.encode())
    rows = [{"name": place.name, **record(place)} for place in places]
    pq.write_table(pa.Table.from_pylist(rows), folder / "files-00000-of-00001.parquet")
    (folder / "data.txt").write_text("images/0.png\n../photos/a.png\n")
    (folder / "manifest.json").write_bytes(
        sealed_json({"outputs": {"files-00000-of-00001.parquet": record(next(folder.glob("f*")))}})
    )
    assert counts(folder) == {"intact": 4, "without a checksum": 1}
    places[1].write_bytes(b"A.png")
    assert counts(folder) == {"intact": 3, "changed": 1, "without a checksum": 1}
    places[0].unlink()
    assert counts(folder) == {"intact": 2, "changed": 1, "missing": 1, "without a checksum": 1}
    (folder / "data.txt").write_text("images/0.png\n")
    assert verify([folder]).findings[0].reason == (
        "it does not fit its table: one has more entries than the other"
    )


def test_seals_inside_archives_are_not_the_archives_own(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    for kind in ("zip", "tar", "gztar"):
        shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "tree")
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:
        archive.write(tmp_path / "tree" / "a.json", "a.json")
    found = counts(tmp_path)
    assert found == {**INTACT, "without a checksum": INTACT["without a checksum"] + 4}


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(tmp_path)
    (tmp_path / "a.npy").write_bytes(b"x")
    assert run(main, ["verify", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {**dict.fromkeys(COUNTS, 0), **INTACT, "intact": 10, "changed": 1}
    assert found["passed"] is False
    assert [(one["path"], one["state"]) for one in found["files"]] == [
        (str(tmp_path / "a.npy"), "changed")
    ]


def test_bad_paths_and_a_lone_file_without_a_checksum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for names, sentence in {
        ("none",): f"{tmp_path / 'none'}: No such file or directory",
        ("a.npy", "none"): f"{tmp_path / 'none'}: No such file or directory",
        ("pipe",): f"{tmp_path / 'pipe'} is neither a file nor a folder",
        ("notes.txt",): f"{tmp_path / 'notes.txt'} holds no checksum, and no folder above lists it",
    }.items():
        assert run(main, ["verify", *(str(tmp_path / name) for name in names)]) == 2
        assert capsys.readouterr() == ("", f"error: {sentence}\n")
    assert run(main, ["verify", str(tmp_path / "notes.txt"), str(tmp_path / "a.npy")]) == 0
    assert run(main, ["verify"]) == 2


def test_names_that_a_terminal_must_not_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"\x1b[31m.npy", b"a\nb.npy", b"\xff.npy"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(sealed(b"1")[:-1])
    assert run(main, ["verify", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


def test_the_command_reaches_every_package_without_loading_it() -> None:
    code = (
        "import sys; from hardset.cli import run; from hardset.__main__ import main\n"
        "try:\n    run(main, ['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'jax', 'numpy', 'xarray', 'scipy', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in PACKAGES)


@pytest.mark.parametrize(
    ("called", "prog"),
    [
        ("/usr/bin/hardset", "hardset replica"),
        ("/site/hardset/__main__.py", "python -m hardset replica"),
        ("/usr/bin/pytest", "python -m replica"),
    ],
)
def test_messages_name_the_command_that_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], called: str, prog: str
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert run(main, ["replica", "nonsense"]) == 2
    assert f"(see {prog} --help)" in capsys.readouterr().err
    assert run(main, ["pretrain_jax", "nonsense"]) == 2
    assert f"(see {prog.replace('replica', 'pretrain_jax')} --help)" in capsys.readouterr().err


def test_the_console_command_is_declared_and_runs() -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert declared["project"]["scripts"] == {"hardset": "hardset.__main__:console"}
    done = subprocess.run(
        [sys.executable, "-m", "hardset", "verify"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: PATHS is missing (see python -m hardset verify --help)\n"


def test_a_data_file_of_version_0_1_has_no_checksum_and_is_not_damaged(tmp_path: Path) -> None:
    # Version 0.1 wrote these attributes and schema 1; from schema 2 on a seal must be there.
    stamped = xr.Dataset({"x": ("i", [1.0])}).assign_attrs(kind="simulation", parameters="{}")
    for schema in (1, 2):
        path = tmp_path / f"{schema}.nc"
        stamped.assign_attrs(schema_version=schema).to_netcdf(path, engine="h5netcdf")
    found = verify([tmp_path])
    assert found.counts["without a checksum"] == 1
    assert found.counts["changed"] == 1


def test_an_empty_path_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main, ["verify", ""]) == 2
    assert "an empty path; name a file or a folder" in capsys.readouterr().err
