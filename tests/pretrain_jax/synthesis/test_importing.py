"""Folders of DICOM files become images and lists of the other commands, and name nobody."""

from pathlib import Path

import numpy as np
import pytest

from hardset.cli import run
from hardset.folder import Manifest
from pretrain_jax.__main__ import main
from pretrain_jax.data import find_images, read_pixels
from pretrain_jax.data.dicom import project_salt, read_dicom
from pretrain_jax.data.listing import entries
from pretrain_jax.synthesis import import_dicom
from tests.pretrain_jax.data.dicom_files import draw, written

pytest.importorskip("pydicom")

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
    for one in (WHO, "8899", "scans", "IM0001"):
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
    with pytest.raises(ValueError, match="nowhere does not exist"):
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
