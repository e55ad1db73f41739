"""Folders of DICOM files become images and lists of the other commands, and name nobody."""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from hardset.cli import run
from hardset.folder import Manifest
from pretrain_jax.__main__ import main
from pretrain_jax.data import find_images, read_pixels
from pretrain_jax.data.dicom import read_dicom
from pretrain_jax.data.listing import entries
from pretrain_jax.data.privacy import project_salt, salted_hash
from pretrain_jax.synthesis import import_dicom
from tests.pretrain_jax.data.dicom_files import draw, written

WHO = "Zanzibar"
YES = {"BurnedInAnnotation": "YES"}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two patients and one unknown; names that tell nothing but who it is."""
    folder = tmp_path / "scans"
    (folder / WHO).mkdir(parents=True)
    written(folder / WHO / "IM0001", draw(1, 8, 9), PatientID=WHO, PatientName=WHO)
    written(folder / "b.dcm", draw(3, 8, 9), PatientID=WHO, SOPInstanceUID="1.2.8899.1")
    written(folder / "c.png", draw(1, 4, 4), PatientID="", SOPInstanceUID="1.2.8899.2", **YES)
    colours = draw(1, 5, 6, 3, low=0, high=256).astype(np.uint8)
    written(folder / "d", colours, PatientID=f"{WHO}2", SOPInstanceUID="1.2.8899.3")
    written(folder / f"{WHO}.dcm", draw(1, 8, 9), PatientID=WHO)  # the UID of the first
    written(folder / "e", draw(1, 8, 9), SOPInstanceUID="1.2.8899.4", NumberOfFrames=9)
    (folder / f"{WHO}.txt").write_text(WHO)
    (folder / ".hidden").write_text(WHO)
    return folder


def imported(scans: Path, **options: bool) -> tuple[Manifest, Path]:
    out = scans.parent / "out"
    return import_dicom(scans, out, salt=scans.parent / "salt", **options), out


def test_images_and_groups(scans: Path) -> None:
    manifest, out = imported(scans)
    assert manifest.counts == {
        "files": 7,
        "images": 6,
        "patients": 2,
        "series": 4,  # none has a SeriesInstanceUID: each file is one
        "ungrouped": 1,
        "burned_in": 1,
        "skipped": 3,
    }
    salt = project_salt(scans.parent / "salt", out)
    wanted = {
        f"{name}.png": (found.group, pixels)
        for path in (scans / WHO / "IM0001", *(scans / one for one in ("b.dcm", "c.png", "d")))
        for found in [read_dicom(path, salt)]
        for name, pixels in zip(found.ids, found.pixels, strict=True)
    }
    listed = list(entries(out / "images.txt"))
    assert {Path(one.name).name: one.group for one in listed} == {
        name: group for name, (group, _) in wanted.items()
    }
    images = find_images(out / "images.txt")
    for path in images.files:
        own = wanted[Path(path).name][1]
        assert np.array_equal(read_pixels(path, channels=own.shape[2]), own)


def test_slices_come_in_the_order_of_their_positions(tmp_path: Path) -> None:
    """Files of two series are mixed, and their names tell nothing."""
    axial = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    heights = np.random.default_rng(6).permutation(20) - 8.5
    (tmp_path / "scans").mkdir()
    for number, z in enumerate(heights):
        series = f"1.2.8899.{number % 2}"
        written(
            tmp_path / "scans" / f"{number:02d}",
            np.full((1, 4, 4), 4 * z, np.int16),
            **axial,
            ImagePositionPatient=[1, 2, z],
            SeriesInstanceUID=series,
            SOPInstanceUID=f"{series}.{number}",
            WindowCenter=0,
            WindowWidth=101,
        )
    _, out = imported(tmp_path / "scans")
    images = find_images(out / "images.txt")
    folders = [Path(path).parent.name for path in images.files]
    assert len(set(folders[:10])) == len(set(folders[10:])) == 1 and folders[0] != folders[10]
    shown = [int(read_pixels(path, channels=1)[0, 0, 0]) for path in images.files]
    assert shown[:10] == sorted(shown[:10]) and shown[10:] == sorted(shown[10:])
    assert len(set(shown)) == 20


def shown(out: Path) -> list[NDArray[np.uint8]]:
    """The pictures of the list, in its order."""
    return [read_pixels(path, channels=1)[..., 0] for path in find_images(out / "images.txt").files]


def spacings(out: Path) -> dict[str, tuple[str, ...]]:
    with (out / "spacing.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "row_mm", "column_mm", "slice_mm"]
    return {name: tuple(values) for name, *values in rows}


def test_percentiles_are_those_of_the_series(tmp_path: Path) -> None:
    """Of its padding and of its images with a window nothing counts; padding is black."""
    values = draw(6, 20, 30, low=-500, high=2000)
    values[:, :5] = -2000
    values[3:5] *= 2  # of another series; those with a window of their own do not count there
    (tmp_path / "scans").mkdir()
    for number, one in enumerate(values):
        written(
            tmp_path / "scans" / f"{number}",
            one[None],
            SOPInstanceUID=f"1.2.{number}",
            SeriesInstanceUID="1.2.88" if number < 3 else "1.2.99",
            PixelPaddingValue=-2000 if number < 3 else -4000,
            InstanceNumber=number,
            RescaleSlope=1 + number,
            RescaleIntercept=-7,
            PhotometricInterpretation="MONOCHROME1" if number == 1 else "MONOCHROME2",
            **({"WindowCenter": 0, "WindowWidth": 101} if number == 5 else {}),
        )
    _, out = imported(tmp_path / "scans")
    salt = project_salt(tmp_path / "salt", out)
    real = [one * (1.0 + number) - 7 for number, one in enumerate(values)]
    wanted = {}
    for numbers in ((0, 1, 2), (3, 4)):
        inner = np.concatenate([real[number][5:].ravel() for number in numbers])
        low, high = np.percentile(inner, [0.5, 99.5], method="inverted_cdf")
        for number in numbers:
            grey = np.rint(np.clip((real[number] - low) / (high - low), 0, 1) * 255)
            grey = 255 - grey if number == 1 else grey
            grey[:5] = 0
            wanted[number] = grey
    wanted[5] = np.rint(np.clip((real[5] + 50.5) / 100, 0, 1) * 255)
    names = [Path(one).stem for one in find_images(out / "images.txt").files]
    by_name = dict(zip(names, shown(out), strict=True))
    for number, grey in wanted.items():
        name = salted_hash(salt, "image", f"1.2.{number}")
        assert np.abs(by_name[name].astype(int) - grey).max() <= (1 if number == 5 else 0)


def test_localisers_and_series_are_kept_apart(tmp_path: Path) -> None:
    """Three planes in one series, the files of all in any order, two series of one patient."""
    planes = {
        "axial": ([1, 0, 0, 0, 1, 0], 2),
        "sagittal": ([0, 1, 0, 0, 0, -1], 0),
        "oblique": ([1, 0.004, 0, 0, 0, -1], 1),
    }
    made = []
    for series, (name, (along, axis)), place in itertools.product(
        ("1.2.88", "1.2.99"), planes.items(), (30.0, -12.5, 4.0)
    ):
        position = [0.0, 0.0, 0.0]
        position[axis] = place
        made.append((series, name, along, position))
    (tmp_path / "scans").mkdir()
    for number in np.random.default_rng(8).permutation(len(made)):
        series, name, along, position = made[number]
        if name == "oblique" and position[1] == 4.0:
            along = [1, 0.002, 0, 0, 0, -1]  # parallel but for rounding
        written(
            tmp_path / "scans" / f"{(7 * number) % len(made):02d}",
            np.full((1, 4, 5), 10 * list(planes).index(name) + number // 9, np.int16),
            SOPInstanceUID=f"1.2.{number}",
            SeriesInstanceUID=series,
            ImageOrientationPatient=along,
            ImagePositionPatient=position,
            PixelSpacing=[0.5, 0.75],
            WindowCenter=128,
            WindowWidth=256,
        )
    _, out = imported(tmp_path / "scans")
    salt = project_salt(tmp_path / "salt", out)
    wanted: dict[str, list[list[str]]] = {}
    for number, (series, name, _, position) in enumerate(made):
        # Normals: of sagittal slices -x, of the oblique ones nearly y.
        sign = -1 if name == "sagittal" else 1
        key = sign * sum(position)
        wanted.setdefault(f"{series} {name}", []).append(
            (key, salted_hash(salt, "image", f"1.2.{number}"))
        )
    names = [Path(one).stem for one in find_images(out / "images.txt").files]
    stacks = [names[at : at + 3] for at in range(0, 18, 3)]
    assert sorted(stacks) == sorted([name for _, name in sorted(one)] for one in wanted.values())
    folders = [Path(one).parent.name for one in find_images(out / "images.txt").files]
    assert len(set(folders)) == 2 and folders == sorted(folders)
    steps = {values[2] for values in spacings(out).values()}
    assert {values[:2] for values in spacings(out).values()} == {("0.5", "0.75")}
    assert all(16.5 <= float(one) <= 26 for one in steps)


def test_frames_lie_where_their_groups_say(tmp_path: Path) -> None:
    """An enhanced file, whose frames are mixed, with spacing shared by all."""

    def item(**elements: Any) -> pydicom.Dataset:
        made = pydicom.Dataset()
        for name, value in elements.items():
            setattr(made, name, value)
        return made

    heights = [4.0, -6.0, 1.5, -1.0]
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[1, 2, z])]) for z in heights]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[0.4, 0.3], SliceThickness=9)],
    )
    values = np.stack([np.full((4, 5), 10 * z + 100, np.int16) for z in heights])
    (tmp_path / "scans").mkdir()
    written(
        tmp_path / "scans" / "a",
        values,
        SeriesInstanceUID="1.2.88",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        WindowCenter=128,
        WindowWidth=256,
    )
    _, out = imported(tmp_path / "scans")
    assert [int(one[0, 0]) for one in shown(out)] == [40, 90, 115, 140]
    numbers = [Path(one).stem[-5:] for one in find_images(out / "images.txt").files]
    assert numbers == ["00001", "00003", "00002", "00000"]
    # Steps of 5, 2.5 and 2.5 mm.
    assert set(spacings(out).values()) == {("0.4", "0.3", "2.5")}


def test_a_whole_copy_goes_before_a_cut_one(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    values = draw(1, 20, 30)
    whole = written(tmp_path / "scans" / "b", values, SeriesInstanceUID="1.2.88").read_bytes()
    (tmp_path / "scans" / "a").write_bytes(whole[:-40])
    (tmp_path / "scans" / "c").write_bytes(whole)
    manifest, out = imported(tmp_path / "scans")
    assert (manifest.counts["images"], manifest.counts["skipped"]) == (1, 2)
    low, high = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    wanted = np.rint(np.clip((values[0] - low) / (high - low), 0, 1) * 255)
    assert np.array_equal(shown(out)[0], wanted)


def test_share_of_files_that_may_give_no_image(scans: Path) -> None:
    out, salt = scans.parent / "out", scans.parent / "salt"
    with pytest.raises(ValueError, match=r"of 7 file\(s\) give no image, more than --skip-at-m"):
        import_dicom(scans, out, salt=salt, skip_at_most=0.4)
    assert import_dicom(scans, out, salt=salt, skip_at_most=0.43).counts["skipped"] == 3
    with pytest.raises(ValueError, match=r"3 of 7 file\(s\) give no image"):
        import_dicom(scans, out, salt=salt, skip_at_most=0.4)  # of finished work, too
    with pytest.raises(ValueError, match="skip_at_most"):
        import_dicom(scans, out, salt=salt, skip_at_most=1.5)


def test_goes_on_where_it_was_stopped(scans: Path, tmp_path: Path) -> None:
    """Nothing of a finished series is made anew after a stop, and the result is the same."""
    (tmp_path / "salt").write_text("9" * 64)  # with it the file that fails comes last
    (tmp_path / "salt").chmod(0o600)
    whole = import_dicom(scans, tmp_path / "whole", salt=tmp_path / "salt")
    out = tmp_path / "stopped"
    with pytest.raises(ValueError, match="3 of 7"):
        import_dicom(scans, out, salt=tmp_path / "salt", skip_at_most=0.4)
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    found = import_dicom(scans, out, salt=tmp_path / "salt")
    assert found.outputs == whole.outputs and found.counts == whole.counts
    assert len(made) == 6 and all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert not (out / ".units").exists()


def test_what_failed_is_tried_anew_with_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(3):
        written(tmp_path / "scans" / f"{number}", draw(1, 20, 30), SOPInstanceUID=f"1.2.{number}")
    where = (tmp_path / "scans", tmp_path / "out")
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "1e-4")
    with pytest.raises(ValueError, match=r"2 of 3 file\(s\) give no image.*20 x 30 pixels"):
        import_dicom(*where, salt=tmp_path / "salt", skip_at_most=0.5)
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "1")
    assert import_dicom(*where, salt=tmp_path / "salt").counts["images"] == 3


def test_nothing_written_or_printed_identifies(
    scans: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest, out = imported(scans)
    printed = capfd.readouterr()
    texts = [repr(manifest), printed.out, printed.err]
    for path in out.rglob("*"):
        texts.append(path.relative_to(out).as_posix())
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    assert len(texts) > 10
    # Digits between dots, for hashes may hold any digits by chance.
    for one in (WHO, ".8899.", "scans", "IM0001"):
        assert not any(one in text for text in texts)


def test_reasons_are_counted(scans: Path) -> None:
    manifest, _ = imported(scans, refuse_burned_in=True)
    assert (manifest.counts["images"], manifest.counts["burned_in"]) == (5, 1)
    assert manifest.counts["skipped"] == len(manifest.notes) == 4
    for part in ("no DICOM file", "same SOPInstanceUID", "cannot be decoded", "BurnedIn"):
        assert any(part in note for note in manifest.notes)


def test_same_work_is_done_once(scans: Path) -> None:
    manifest, out = imported(scans)
    assert imported(scans)[0].outputs == manifest.outputs
    with pytest.raises(ValueError, match="refuse_burned_in"):
        imported(scans, refuse_burned_in=True)
    with pytest.raises(ValueError, match="salt"):
        import_dicom(scans, out, salt=scans.parent / "other")


def test_sources_of_no_use(scans: Path) -> None:
    out, salt = scans.parent / "out", scans.parent / "salt"
    with pytest.raises(ValueError, match="the source of scans does not exist"):
        import_dicom("nowhere", out, salt=salt)
    with pytest.raises(ValueError, match="lies inside the image source"):
        import_dicom(scans, scans / "out", salt=salt)
    with pytest.raises(ValueError, match="keep it elsewhere"):
        import_dicom(scans, out, salt=out / "salt")
    with pytest.raises(ValueError, match=r"none of the 1 file\(s\) gives an image: .*no DICOM"):
        import_dicom(scans / f"{WHO}.txt", out, salt=salt)
    assert not out.exists()


def test_command(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--out", str(scans.parent / "out"), "--salt", str(scans.parent / "salt")]
    assert run(main, ["import-dicom", str(scans), *where, "--window", "0", "0.5"]) == 2
    assert "the width one from 1 to" in capsys.readouterr().err
    assert run(main, ["import-dicom", str(scans), *where, "--window", "0", "500"]) == 0
    assert "1 file(s) say that their pixels" in capsys.readouterr().out
    window = (0.0, 500.0)
    salt = project_salt(scans.parent / "salt", scans.parent / "out")
    found = read_dicom(scans / "b.dcm", salt, window=window)
    path = scans.parent / "out" / "images" / f"{found.ids[2]}.png"
    assert np.array_equal(read_pixels(str(path), channels=1), found.pixels[2])
