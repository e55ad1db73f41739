"""keep: from a folder to a list of kept images that every command reads."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.cli import run
from hardset.folder import digest, read_manifest
from hardset.verify import verify
from pretrain_jax.__main__ import main
from pretrain_jax.data.listing import Located, iterate_images
from pretrain_jax.features import embed, keep
from pretrain_jax.synthesis.tables import Table
from tests.pretrain_jax.data.test_decode import write_video
from tests.pretrain_jax.features.conftest import write_images

pytestmark = pytest.mark.usefixtures("compiled_once")
OPTIONS = {"image_size": 28, "batch_size": 8, "dtype": "float32"}


def listed(path: Path) -> list[tuple[str, str, str]]:
    """Absolute path, class and group of each image, as all commands read the list."""
    found: list[Located] = list(iterate_images(path))
    return [(str((path.parent / one.name).resolve()), one.label, one.group) for one in found]


def farthest(features: np.ndarray, before: list[int], count: int) -> list[int]:
    """Gonzalez's rule with all distances at once."""
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    picks = list(before)
    while len(picks) < len(before) + count:
        picks.append(int(np.argmax(distances[:, picks].min(axis=1))))
    return picks[len(before) :]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image list with classes and groups."""
    folder = tmp_path_factory.mktemp("grouped")
    names = write_images(folder / "images", 12)
    lines = [f"images/{name}\tc{n % 2}\tpatient-{n // 4}\n" for n, name in enumerate(names)]
    (folder / "all.txt").write_text("".join(lines))
    return folder / "all.txt"


def test_a_list_a_sheet_and_a_table(
    grouped: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept" / "kept.txt"
    arguments = ["keep", str(grouped), "--weights", str(weights), "--image-size", "28"]
    arguments += ["--batch-size", "8", "--dtype", "float32"]
    chosen = ["--method", "k-center:first=central", "--budget", "0.25"]
    assert run(main, [*arguments, *chosen, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "3 of 12 images kept" in told and str(out.with_suffix(".png")) in told

    features = Table(out.parent / "features.parquet").column("features")
    mean = features.mean(axis=0, dtype=np.float64)
    first = int(np.argmin(np.linalg.norm(features - mean, axis=1)))
    rows = [first, *farthest(features, [first], 2)]
    everything = listed(grouped)
    assert listed(out) == [everything[row] for row in rows]
    with out.with_suffix(".csv").open() as file:
        table = list(csv.reader(file))
    kept = [sum(everything[row][2] == f"patient-{n}" for row in rows) for n in range(3)]
    assert table[0] == ["group", "images", "kept", "given"]
    assert table[1:] == [[f"patient-{n}", "4", str(kept[n]), "0"] for n in range(3)]
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.width > 900  # six pictures of 160 pixels in a row
    checked = verify([out.parent])
    assert checked.passed and checked.counts["intact"] >= 4

    # A kept set is never replaced; the features are there for the next one.
    assert run(main, [*arguments, *chosen, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    known = read_manifest(out.parent / "features.parquet")
    next_out = out.with_name("next.txt")
    options = ["--given", str(out), "--method", "k-center", "--budget", "2", "--json"]
    assert run(main, [*arguments, *options, "--out", str(next_out)]) == 0
    assert json.loads(capsys.readouterr().out)["given"] == 3
    assert digest(read_manifest(out.parent / "features.parquet")) == digest(known)
    assert listed(next_out) == [everything[row] for row in farthest(features, rows, 2)]
    changed = bytearray(out.read_bytes())
    changed[-2] ^= 1
    out.write_bytes(bytes(changed))
    assert not verify([out.parent]).passed


def test_given_images_may_lie_elsewhere(grouped: Path, weights: Path, tmp_path: Path) -> None:
    names = write_images(tmp_path / "labelled", 12)
    features = tmp_path / "features"
    embed(grouped, features, weights=weights, **OPTIONS)
    # The pictures of the list again: those of `labelled` are at distance 0 of them.
    (tmp_path / "labelled.txt").write_text(f"labelled/{names[2]}\nlabelled/{names[9]}\n")
    out = tmp_path / "another" / "folder" / "kept.txt"
    chosen = {"method": "k-center", "budget": "3", "given": tmp_path / "labelled.txt"}
    found = keep(grouped, out, weights=weights, features=features, **chosen, **OPTIONS)
    rows = farthest(Table(features).column("features"), [2, 9], 3)
    assert listed(out) == [listed(grouped)[row] for row in rows]
    assert found.given == 2 and found.kept == 3
    assert (tmp_path / "given-features" / "manifest.json").is_file()


def test_at_most_so_many_of_a_group(grouped: Path, weights: Path, tmp_path: Path) -> None:
    names = write_images(tmp_path / "labelled", 12)
    features = tmp_path / "features"
    embed(grouped, features, weights=weights, **OPTIONS)
    # One given image is in the list's third group, though not in the list.
    (tmp_path / "labelled.txt").write_text(f"labelled/{names[2]}\t\tpatient-2\n")
    chosen = {"method": "k-center", "given": tmp_path / "labelled.txt", "features": features}
    out = tmp_path / "kept.txt"
    keep(grouped, out, weights=weights, budget="5", per_group=2, **chosen, **OPTIONS)
    everything = listed(grouped)
    left, expected = {"patient-0": 2, "patient-1": 2, "patient-2": 1}, []
    for row in farthest(Table(features).column("features"), [2], 11):
        if left[everything[row][2]]:
            left[everything[row][2]] -= 1
            expected.append(everything[row])
    assert listed(out) == expected
    assert json.loads(out.read_text().split("\n")[0][2:].split("}")[0] + "}")["per_group"] == 2
    # No two images are opposites: one of each group stays.
    limits = {"per_group": 2, "near": -0.9999, "budget": "2"}
    few = keep(grouped, tmp_path / "c.txt", weights=weights, **chosen, **limits, **OPTIONS)
    assert few.near_duplicates == 12 - 3 and few.groups_kept == 2
    with pytest.raises(ValueError, match="per_group = 2 allows 5 examples of 3 groups, fewer than"):
        keep(
            grouped,
            tmp_path / "b.txt",
            weights=weights,
            budget="6",
            per_group=2,
            **chosen,
            **OPTIONS,
        )


def test_a_limit_without_groups_is_said_to_leave_nothing_out(weights: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "plain", 4)
    chosen = {"weights": weights, "method": "random", "budget": "3", **OPTIONS}
    found = keep(tmp_path / "plain", tmp_path / "kept.txt", per_group=1, **chosen)
    assert found.kept == 3 and found.groups == 0
    assert found.notes[-1].startswith("no image has a group")


def test_frames_of_a_video_become_pictures(weights: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "scan.mp4", 6)
    out = tmp_path / "kept.txt"
    keep(tmp_path / "scan.mp4", out, weights=weights, method="random", budget="2", **OPTIONS)
    ids = [f"scan.mp4#{frame:06d}" for frame in range(6)]
    assert list(Table(tmp_path / "features.parquet").take(np.arange(6), ["id"])["id"]) == ids
    kept = listed(out)
    assert len(kept) == 2 and {group for *_, group in kept} == {"scan"}
    for path, *_ in kept:
        with Image.open(path) as image:
            assert image.size == (32, 32) and Path(path).parent.name == "kept-frames"


def test_frames_that_were_kept_are_given_ones(weights: Path, tmp_path: Path) -> None:
    """A list with pictures of frames names these frames: the others alone are left."""
    write_video(tmp_path / "scan.mp4", 6)
    options = {"weights": weights, "method": "random", **OPTIONS}
    for name, more in (("first", {}), ("second", {"given": tmp_path / "first.txt"})):
        keep(tmp_path / "scan.mp4", tmp_path / f"{name}.txt", budget="3", **options, **more)
    names = [
        {Path(one).name for one, *_ in listed(tmp_path / f"{n}.txt")} for n in ("first", "second")
    ]
    assert names[0] | names[1] == {f"scan.mp4#{frame:06d}.png" for frame in range(6)}


def test_goes_on_after_the_sheet_and_the_table(weights: Path, tmp_path: Path) -> None:
    """The list is lost, as if the process was killed before it; nothing else is written again."""
    write_video(tmp_path / "scan.mp4", 4)
    out = tmp_path / "kept.txt"
    options = {"weights": weights, "method": "random", "budget": "2", **OPTIONS}
    keep(tmp_path / "scan.mp4", out, **options)
    whole = out.read_bytes()
    others = [out.with_suffix(".png"), out.with_suffix(".csv"), *tmp_path.glob("kept-frames/*")]
    times = [one.stat().st_mtime_ns for one in others]
    out.unlink()
    others[0].unlink()
    keep(tmp_path / "scan.mp4", out, **options)
    assert out.read_bytes() == whole and others[0].exists()
    assert [one.stat().st_mtime_ns for one in others[1:]] == times[1:]

    # What differs is somebody else's, and nothing is written beside it.
    out.unlink()
    others[0].unlink()
    others[1].write_text("mine")
    with pytest.raises(ValueError, match=r"kept\.csv exists already"):
        keep(tmp_path / "scan.mp4", out, **options)
    assert others[1].read_text() == "mine" and not others[0].exists() and not out.exists()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"method": "hard"}, "method 'hard' needs scores; keep takes those that need features"),
        ({"method": "k-centre"}, "method"),
        ({"budget": "many"}, "budget = many is neither a count"),
        ({"out": "kept.csv"}, "must end in .txt"),
        ({"out": "images/kept.txt"}, "lies inside the image source"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    changed: dict[str, str], sentence: str, weights: Path, tmp_path: Path
) -> None:
    write_images(tmp_path / "images", 4)
    options = {"method": "k-center", "budget": "2", "out": "kept.txt"} | changed
    out = tmp_path / options.pop("out")
    with pytest.raises(ValueError, match=sentence):
        keep(tmp_path / "images", out, weights=weights, **options, **OPTIONS)
    assert [one.name for one in tmp_path.iterdir()] == ["images"]
