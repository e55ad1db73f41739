"""A stage's folder is claimed, finished, found again, and never taken from another stage."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hardset import folder as manifest
from hardset.folder import Input, Made, Stage, Work, alone, digest, input_folder, read_manifest
from hardset.seal import sealed, sealed_json
from tests.stages import open_stage

ARGUMENTS: dict[str, Any] = {
    "stage": "score",
    "parameters": {"masks": 5, "scale": (0.1, 0.5)},
    "seed": 3,
    "inputs": {"index": "aa"},
}


def begin(folder: Path, **changed: Any) -> Work:
    return open_stage(folder, **(ARGUMENTS | changed))


def test_claim_finish_and_return(tmp_path: Path) -> None:
    stage = begin(tmp_path / "s", apart=("apart",))
    (stage.folder / "deep").mkdir()
    (stage.folder / "deep" / "rows.bin").write_bytes(b"rows")
    (stage.folder / "apart").mkdir()
    (stage.folder / "apart" / "cache").write_bytes(b"cache")
    (stage.folder / "part.log.json").write_text("{}")
    (stage.folder / ".temporary").write_text("x")
    with pytest.raises(ValueError, match=r"stage score in .* is not finished"):
        read_manifest(stage.folder, "score")
    manifest = stage.finish(Made({"rows": 4}, ["a note"]))
    assert manifest.outputs == {
        "deep/rows.bin": {"bytes": 4, "sha256": hashlib.sha256(b"rows").hexdigest()}
    }
    assert read_manifest(stage.folder, ("index", "score")) == manifest
    again = open_stage(stage.folder, **ARGUMENTS)
    assert again.manifest == manifest


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    stage = begin(tmp_path / "s")
    (stage.folder / "deep").mkdir()
    for place in (stage.folder, stage.folder / "deep"):
        (place / ".0123456789abcdef.part").write_bytes(b"half")
        (place / ".mine.part").write_bytes(b"another's")
    stage.finish(Made({"rows": 4}))
    left = {path.relative_to(stage.folder).as_posix() for path in stage.folder.rglob(".*.part")}
    assert left == {".mine.part", "deep/.mine.part"}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_finished_work_in_a_read_only_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where its input lies by now is not noted there; a full disk is an error all the same."""
    moved = {"locations": {"index": tmp_path / "elsewhere"}}
    made = begin(tmp_path / "s", **(moved | {"locations": {"index": tmp_path / "i"}}))
    made.finish(Made({"images": 2}))
    before = (tmp_path / "s" / "manifest.json").read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(raised, os.strerror(raised))

    monkeypatch.setattr(manifest, "write_record", refuse)
    raised = number
    found = begin(tmp_path / "s", **moved).manifest
    assert found is not None and found.locations == {"index": "../elsewhere"}
    assert (tmp_path / "s" / "manifest.json").read_bytes() == before
    raised = errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        begin(tmp_path / "s", **moved)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("stage", "select", "stage"),
        ("parameters", {"masks": 4, "scale": (0.1, 0.5)}, "parameters.masks"),
        ("parameters", {"scale": (0.1, 0.5)}, "parameters.masks"),
        ("parameters", {"masks": 5, "scale": {"low": 0.1}}, "parameters.scale"),
        ("seed", None, "seed"),
        ("inputs", {"index": "bb"}, "inputs.index"),
        ("inputs", {"index": "aa", "probe": "c"}, "inputs.probe"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_stage_is_refused(
    tmp_path: Path, field: str, value: Any, named: str, finished: bool
) -> None:
    stage = begin(tmp_path / "s")
    if finished:
        stage.finish(Made({}))
    before = {path.name: path.read_bytes() for path in stage.folder.iterdir()}
    told = r" \(it is another one, or has changed since\);" if field == "inputs" else ";"
    with pytest.raises(ValueError, match=rf"made with {named} = .*, now .*{told} it is left alone"):
        open_stage(stage.folder, **(ARGUMENTS | {field: value}))
    assert {path.name: path.read_bytes() for path in stage.folder.iterdir()} == before


def test_what_is_not_declared_is_refused(tmp_path: Path) -> None:
    """A name that ends with * stands for all that begin so."""
    stage = Stage("score", inputs=("index", "set *"), parameters=("masks",))
    stage.open(tmp_path / "s", {"masks": 5}, 0, {"index": Input("aa"), "set 1": Input("bb")})
    with pytest.raises(TypeError, match="stage score declares no input 'probe'"):
        stage.open(tmp_path / "t", {"masks": 5}, 0, {"probe": Input("aa")})
    with pytest.raises(TypeError, match="stage score declares no parameter 'space'"):
        stage.open(tmp_path / "t", {"space": "pixel"}, 0, {})
    assert not (tmp_path / "t").exists()


def test_a_stage_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """A parameter that was not recorded had its value; an input had another name."""
    begin(tmp_path / "s", parameters={"masks": 5}).finish(Made({}))
    stage = Stage(
        "score", inputs=("*",), later={"precision": "float32"}, renamed={"index": "images"}
    )
    inputs = {"images": Input("aa")}
    found = stage.open(tmp_path / "s", {"masks": 5, "precision": "float32"}, 3, inputs)
    assert found.manifest is not None
    with pytest.raises(ValueError, match=r"made with parameters.precision = \"float32\", now"):
        stage.open(tmp_path / "s", {"masks": 5, "precision": "bfloat16"}, 3, inputs)


def test_a_nested_parameter_is_named_with_both_values(tmp_path: Path) -> None:
    """The first one that differs, not the record that holds it."""
    records = [
        {"config": {"model": {"depth": depth, "width": 8}, "steps": steps}}
        for depth, steps in ((4, 10), (6, 20))
    ]
    begin(tmp_path / "s", parameters=records[0])
    named = r"parameters\.config\.model\.depth = 4, now parameters\.config\.model\.depth = 6;"
    with pytest.raises(ValueError, match=named):
        begin(tmp_path / "s", parameters=records[1])


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\)"):
        open_stage(tmp_path, **ARGUMENTS)
    with pytest.raises(ValueError, match="is a file"):
        open_stage(tmp_path / "thesis.tex", **ARGUMENTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_error_before_any_output_gives_the_claim_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too small"), begin(tmp_path / "s"):
        raise ValueError("ratio too small")
    begin(tmp_path / "s", seed=4)
    with pytest.raises(ValueError, match="late"), begin(tmp_path / "t") as stage:
        (stage.folder / "rows").write_text("work")
        raise ValueError("late")
    with pytest.raises(ValueError, match="made with seed"):
        begin(tmp_path / "t", seed=4)


def test_digest_is_of_what_does_not_depend_on_the_computer(tmp_path: Path) -> None:
    first = begin(tmp_path / "a", locations={"index": tmp_path}).finish(
        Made({"rows": 1}, seconds=1.0, rates={"rows_per_second": 2.0})
    )
    assert first.rates == {"rows_per_second": 2.0}
    second = begin(tmp_path / "b" / "c", locations={"index": tmp_path}).finish(Made({"rows": 1}))
    assert first != second
    assert digest(first) == digest(second)
    # By hand: sorted JSON of the fields that count.
    record = dataclasses.asdict(first)
    apart = ("seconds", "compile_seconds", "aside", "versions", "locations", "local", "rates")
    for name in apart:
        del record[name]
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    assert digest(first) == hashlib.sha256(text.encode()).hexdigest()
    for changed in ({"seed": 4}, {"notes": ["x"]}, {"counts": {"rows": 2}}):
        assert digest(dataclasses.replace(first, **changed)) != digest(first)


def test_inputs_are_found_again_and_checked(tmp_path: Path) -> None:
    index = begin(tmp_path / "run" / "index", stage="index", inputs={}).finish(Made({"images": 2}))
    chain = {"inputs": {"index": digest(index)}, "locations": {"index": tmp_path / "run" / "index"}}
    made = begin(tmp_path / "run" / "scores" / "images", **chain).finish(Made({}))
    shutil.move(tmp_path / "run", tmp_path / "moved")
    folder = tmp_path / "moved" / "scores" / "images"
    assert input_folder(folder, made, "index") == tmp_path / "moved" / "index"
    shutil.rmtree(tmp_path / "moved" / "index")
    with pytest.raises(ValueError, match=r"not at .* any more"):
        input_folder(folder, made, "index")
    begin(tmp_path / "moved" / "index", stage="index", inputs={}).finish(Made({"images": 3}))
    with pytest.raises(ValueError, match="another one than the stage read"):
        input_folder(folder, made, "index")


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_table_that_changed_is_no_input(tmp_path: Path, change: str) -> None:
    """Pictures may go: nothing reads them."""
    index = begin(tmp_path / "index", stage="index", inputs={})
    table, picture = index.folder / "part.parquet", index.folder / "contact.png"
    table.write_bytes(b"rows of a table")
    picture.write_bytes(b"pixels")
    chain = {
        "inputs": {"index": digest(index.finish(Made({})))},
        "locations": {"index": index.folder},
    }
    picture.unlink()
    begin(tmp_path / "good", **chain)
    if change == "cut":
        table.write_bytes(b"rows of a tab")
    else:
        table.unlink()
    expected = "has changed since its stage wrote it" if change == "cut" else "is gone"
    with pytest.raises(ValueError, match=rf"part\.parquet {expected}; put it back"):
        begin(tmp_path / "late", **chain)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize("change", ["cut", "other", "gone"])
def test_a_finished_stage_tells_that_its_input_has_changed(tmp_path: Path, change: str) -> None:
    index = begin(tmp_path / "index", stage="index", inputs={})
    table = index.folder / "part.parquet"
    table.write_bytes(b"rows of a table")
    chain = {
        "inputs": {"index": digest(index.finish(Made({})))},
        "locations": {"index": index.folder},
    }
    made = begin(tmp_path / "scores", **chain).finish(Made({"rows": 2}))
    assert open_stage(tmp_path / "scores", **(ARGUMENTS | chain)).manifest == made
    before = (tmp_path / "scores" / "manifest.json").read_bytes()
    if change == "gone":
        table.unlink()
    else:
        table.write_bytes(b"rows of a tab" if change == "cut" else b"ROWS of a table")
    expected = "is gone" if change == "gone" else "has changed since its stage wrote it"
    with pytest.raises(ValueError, match=rf"part\.parquet {expected}; put it back"):
        open_stage(tmp_path / "scores", **(ARGUMENTS | chain))
    assert (tmp_path / "scores" / "manifest.json").read_bytes() == before


def test_the_first_claim_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process claims the folder between this one's look and its claim."""

    def meanwhile(folder: Path) -> Path:
        monkeypatch.undo()
        begin(folder, seed=9)
        return folder

    monkeypatch.setattr(manifest, "check_output_folder", meanwhile)
    with pytest.raises(ValueError, match="made with seed = 9, now seed = 3"):
        begin(tmp_path / "s")
    assert json.loads((tmp_path / "s" / "stage.json").read_text())["seed"] == 9
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["stage.json"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    busy = pytest.raises(ValueError, match="another process works in")
    with alone(tmp_path), busy, alone(tmp_path):
        raise AssertionError
    with alone(tmp_path):
        pass


def test_what_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run python -m pretrain_jax propose$"):
        read_manifest(tmp_path / "none", ("index", "propose"))
    stage = begin(tmp_path / "s")
    stage.finish(Made({}))
    with pytest.raises(ValueError, match="is of stage score, not select"):
        read_manifest(stage.folder, "select")
    path = stage.folder / "manifest.json"
    record = json.loads(path.read_text())
    remedy = rf"put it back, or delete the folder {stage.folder} and run"
    for content, message in (
        (b"{", "holds no checksum"),
        (json.dumps(record).encode().replace(b'"seed": 3', b'"seed": 4'), "has changed"),
        (sealed(b"[" * 100_000), "cannot be read"),
        (sealed(b"[]"), "cannot be read"),
        (sealed_json(record | {"schema_version": 3}), "schema version 3"),
        (sealed_json(record | {"colour": "red"}), "is no manifest"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as refused:
            read_manifest(stage.folder)
        assert "schema" in message or remedy in str(refused.value)
    with pytest.raises(ValueError, match="JSON compliant"):
        begin(tmp_path / "nan").finish(Made({"share": float("nan")}))


def test_a_refused_stage_leaves_no_folder(tmp_path: Path) -> None:
    """Neither its own nor those above it, unless they were there or something was written."""
    with (
        pytest.raises(RuntimeError),
        begin(tmp_path / "runs" / "deep" / "s"),
    ):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), begin(tmp_path / "there"):
        raise RuntimeError
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(RuntimeError), begin(tmp_path / "s") as stage:
        (stage.folder / "rows.bin").write_bytes(b"rows")
        raise RuntimeError
    assert (tmp_path / "s" / "stage.json").is_file()
