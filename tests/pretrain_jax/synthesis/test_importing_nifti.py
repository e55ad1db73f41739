"""Folders of NIfTI files become slices and lists of the other commands, and name nobody."""

import csv
import gzip
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from hardset.cli import run
from hardset.folder import Manifest
from pretrain_jax.__main__ import main
from pretrain_jax.data import find_images, read_pixels
from pretrain_jax.data.listing import entries
from pretrain_jax.data.nifti import opened_nifti, voxel_hash
from pretrain_jax.synthesis import import_nifti

WHO = "Zanzibar"
RNG = np.random.default_rng(13)


def brain(*shape: int) -> NDArray[np.int16]:
    """A box of noise in the dark: the first slice along each axis is empty."""
    values = np.zeros(shape, np.int16)
    values[1:, 1:, 1:] = RNG.integers(500, 900, values[1:, 1:, 1:].shape)
    return values


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A volume thrice, two time points, a pair, and files of no use."""
    folder = tmp_path / "scans"
    (folder / WHO).mkdir(parents=True)
    first = nibabel.Nifti1Image(brain(10, 12, 8), np.diag([1, 1, 2.5, 1]))
    for field, text in (
        ("descrip", WHO),
        ("aux_file", WHO),
        ("db_name", WHO),
        ("intent_name", WHO),
    ):
        first.header[field] = text.encode()
    first.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, WHO.encode()))
    nibabel.save(first, folder / f"{WHO}.nii.gz")
    nibabel.save(first, folder / WHO / "copy.nii")
    nibabel.save(nibabel.Nifti1Image(brain(10, 12, 8, 2), np.eye(4)), folder / WHO / "two")
    (folder / WHO / "two.nii").rename(folder / WHO / "two")
    nibabel.save(nibabel.Nifti1Pair(brain(9, 9, 9), np.eye(4)), folder / "pair.img")
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5), np.int16), np.eye(4)), folder / "dark.nii")
    (folder / f"{WHO}_cut.nii.gz").write_bytes((folder / f"{WHO}.nii.gz").read_bytes()[:-30])
    (folder / f"{WHO}.json").write_text(WHO)
    return folder


def imported(scans: Path, **options: Any) -> tuple[Manifest, Path]:
    out = scans.parent / "out"
    return import_nifti(scans, out, **options), out


@pytest.mark.parametrize(("axis", "number"), [("axial", 2), ("coronal", 1), ("0", 0)])
def test_slices_and_groups(scans: Path, axis: str, number: int) -> None:
    manifest, out = imported(scans, axis=axis)
    sides = [(10, 12, 8), (10, 12, 8), (10, 12, 8), (9, 9, 9)]
    kept = sum(one[number] - 1 for one in sides)
    assert manifest.counts == {
        "files": 7,
        "images": kept,
        "groups": 3,
        "volumes": 5,
        "empty": 4 + 5,
        "unknown": 0,
        "unoriented": 0,
        "skipped": 4,
    }
    for part in ("another file has the same voxels", "cut or damaged", "no NIfTI", "slices are em"):
        assert sum(part in note for note in manifest.notes) == 1
    listed = list(entries(out / "images.txt"))
    images = find_images(out / "images.txt")
    wanted = []
    for name, volumes in ((f"{WHO}.nii.gz", 1), (f"{WHO}/two", 2), ("pair.hdr", 1)):
        key = voxel_hash(scans / name)
        with opened_nifti(scans / name, scans) as nifti:
            for volume in range(volumes):
                time = f"-t{volume:04d}" if volumes > 1 else ""
                for one in list(nifti.slices(volume, number))[1:]:
                    wanted.append((key, f"{key}{time}-{one.number:05d}.png", one.pixels))
    wanted.sort(key=lambda one: one[:2])
    assert [(one.group, Path(one.name).name) for one in listed] == [one[:2] for one in wanted]
    for path, (*_, pixels) in zip(images.files, wanted, strict=True):
        assert np.array_equal(read_pixels(path, channels=1)[..., 0], pixels)


def test_spacing(scans: Path) -> None:
    _, out = imported(scans, axis="coronal")
    key = voxel_hash(scans / WHO / "copy.nii")
    with (out / "spacing.csv").open(newline="") as file:
        rows = {one["image"]: one for one in csv.DictReader(file)}
    assert set(rows) == {one.name for one in entries(out / "images.txt")}
    row = rows[f"images/{key}/{key}-00003.png"]
    assert (row["row_mm"], row["column_mm"], row["slice_mm"]) == ("2.5", "1.0", "1.0")


def test_empty_slices_are_kept_on_request(scans: Path) -> None:
    manifest, _ = imported(scans, keep_empty=True)
    assert manifest.counts["images"] == 3 * 8 + 9 + 5
    assert (manifest.counts["empty"], manifest.counts["skipped"]) == (0, 3)


def test_same_work_is_done_once(scans: Path) -> None:
    manifest, out = imported(scans)
    data = gzip.decompress((scans / f"{WHO}.nii.gz").read_bytes())
    (scans / f"{WHO}.nii.gz").unlink()
    (scans / "other name").write_bytes(gzip.compress(data, 1))
    assert imported(scans)[0] == manifest  # the voxels are the same
    with pytest.raises(ValueError, match="axis"):
        imported(scans, axis="0")
    with pytest.raises(ValueError, match=r"4 of 7 file\(s\) give no image"):
        imported(scans, skip_at_most=0.5)
    changed = bytearray(data)
    changed[-1] ^= 1
    (scans / "other name").write_bytes(changed)
    with pytest.raises(ValueError, match="source"):
        imported(scans)
    assert len(list(out.rglob("*.png"))) == manifest.counts["images"]


def test_nothing_written_or_printed_identifies(
    scans: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    manifest, out = imported(scans)
    printed = capfd.readouterr()
    texts = [repr(manifest), printed.out, printed.err, caplog.text]
    for path in out.rglob("*"):
        texts.append(path.relative_to(out).as_posix())
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    assert len(texts) > 20
    for one in (WHO, "scans", "copy", "two", "pair", "dark"):
        assert not any(one in text for text in texts)


def test_sources_of_no_use(scans: Path) -> None:
    out = scans.parent / "out"
    with pytest.raises(ValueError, match="the source of scans does not exist"):
        import_nifti("nowhere", out)
    with pytest.raises(ValueError, match="lies inside the image source"):
        import_nifti(scans, scans / "out")
    with pytest.raises(ValueError, match=r"none of the 1 file\(s\) gives an image: .*no NIfTI"):
        import_nifti(scans / f"{WHO}.json", out)
    with pytest.raises(ValueError, match=r"none of the 1 file\(s\) gives .*all its slices are em"):
        import_nifti(scans / "dark.nii", out)
    with pytest.raises(ValueError, match="axis = 'z': choose one of sagittal, coronal, axial"):
        import_nifti(scans, out, axis="z")
    assert not out.exists()


@pytest.mark.parametrize(("command", "package"), [("nifti", "nibabel"), ("dicom", "pydicom")])
def test_missing_packages_are_named(
    command: str,
    package: str,
    scans: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    words = [f"import-{command}", str(scans), "--out", str(scans.parent / "out")]
    words += ["--salt", str(scans.parent / "salt")] if command == "dicom" else []
    assert run(main, words) == 2
    told = capsys.readouterr().err
    assert package in told and "hardset[medical]" in told and told.count("\n") == 1
    assert not (scans.parent / "out").exists() and not (scans.parent / "salt").exists()


def test_command(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["import-nifti", str(scans / "pair.hdr"), "--out", str(scans.parent / "out")]
    assert run(main, [*where, "--window", "0", "0.5"]) == 2
    assert "the width one from 1 to" in capsys.readouterr().err
    assert run(main, [*where, "--axis", "5"]) == 2
    assert "axial" in capsys.readouterr().err
    options = ["--axis", "sagittal", "--window", "700", "500", "--keep-empty"]
    assert run(main, [*where, *options, "--max-megapixels", "1e-6"]) == 2
    assert "9 x 9 pixels" in capsys.readouterr().err
    assert run(main, [*where, *options, "--max-megapixels", "1"]) == 0
    assert "images                9\n" in capsys.readouterr().out
    values = nibabel.load(scans / "pair.hdr").get_fdata()
    wanted = np.rint(np.clip((values - 450) / 499, 0, 1) * 255)
    images = find_images(scans.parent / "out" / "images.txt")
    for number, path in enumerate(images.files):
        assert np.array_equal(read_pixels(path, channels=1)[..., 0], wanted[number, ::-1, ::-1].T)
