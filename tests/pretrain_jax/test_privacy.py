"""Nothing that names a patient goes further than the scans, whatever command follows.

Every element of the standard's dictionary (PS3.6, as pydicom has it) that may hold text or bytes
gets a text that occurs nowhere else. The attributes of the basic confidentiality profile (PS3.15,
E.1) are among them, in all of its editions. Folders, files and their errors hold such texts, too.
"""

import io
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pyarrow
import pyarrow.parquet
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hardset.cli import run
from hardset.folder import read_manifest
from pretrain_jax.__main__ import main
from tests.pretrain_jax.data.dicom_files import written

pytestmark = pytest.mark.usefixtures("compiled_once", "lightly_compiled")

WHO = "QZWX00100010KVJQ"  # 16 characters, as the shortest types of text allow
TEXTS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM"}
TEXTS |= {"UC", "UI", "UR", "UT"}
BYTES = {"OB", "OW", "UN", "OB or OW"}
# What pixels are decoded, turned and shown by, which the import needs to be right.
NEEDED = {
    "SpecificCharacterSet",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SpacingBetweenSlices",
    "RedPaletteColorLookupTableData",
}
PIXEL_GROUPS = {0x0028, 0x5200, 0x7FE0}
BESIDE_PIXELS = {0x00281199, 0x00281214, 0x00284000}  # of the profile, but not needed
FOUND = re.compile(rb"QZWX[0-9A-F]{3}", re.IGNORECASE)
OTHERS = tuple("QZWX00".encode(one) for one in ("utf-16-le", "utf-16-be"))
ZSTANDARD = b"\x28\xb5\x2f\xfd"
PATIENTS, SLICES, SIDES = 4, 6, (40, 48)


def sentinel(tag: int) -> str:
    return f"QZWX{tag:08X}KVJQ"


def identifying() -> pydicom.Dataset:
    """An element of every kind, private ones, and sequences of such."""
    found = pydicom.Dataset()
    for tag, (kind, *_, keyword) in pydicom.datadict.DicomDictionary.items():
        group = tag >> 16
        needed = group in PIXEL_GROUPS and tag not in BESIDE_PIXELS
        if group < 8 or needed or keyword in NEEDED or not keyword:
            continue
        if kind in TEXTS:
            found.add_new(tag, "LO" if kind in ("DS", "IS") else kind, sentinel(tag))
        elif kind in BYTES:
            found.add_new(tag, "OB", sentinel(tag).encode())
        elif kind == "SQ":
            inner = pydicom.Dataset()
            inner.PatientName = sentinel(tag)
            inner.add_new(0x00091001, "LO", sentinel(tag))
            found.add_new(tag, kind, [inner])
    for group in (0x0009, 0x0029):
        inner = pydicom.Dataset()
        inner.PatientName = sentinel(group << 16)
        block = found.private_block(group, WHO, create=True)
        block.add_new(1, "LO", sentinel(group << 16))
        block.add_new(2, "SQ", [inner])
    for tag, kind in ((0x50000022, "LO"), (0x60000022, "LO"), (0x60004000, "LT")):  # repeated ones
        found.add_new(tag, kind, sentinel(tag))
    return found


def write_scans(folder: Path) -> None:
    """Slices of some patients in folders of their names, damaged files and others."""
    rng = np.random.default_rng(2)
    everything = identifying()
    assert len(everything) > 3000
    for number in range(PATIENTS * SLICES):
        patient = f"QZWX0010002{number // SLICES}KVJQ"
        place = folder / patient / f"{patient}.{number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 4000, (5, 6)).astype(np.int16)
        pixels = np.kron(values, np.ones((8, 8), np.int16))[None, : SIDES[0], : SIDES[1]]
        dataset = pydicom.dcmread(written(place, pixels))
        dataset.update(everything)
        dataset.PatientID = patient
        dataset.SOPInstanceUID = f"{patient}.{number}"
        dataset.SeriesInstanceUID = f"{patient}.0"
        dataset.InstanceNumber = number
        dataset.preamble = (WHO * 8).encode()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.SourceApplicationEntityTitle = WHO
        dataset.file_meta.PrivateInformationCreatorUID = WHO
        dataset.file_meta.PrivateInformation = WHO.encode()
        dataset.save_as(place, enforce_file_format=True)
    data = place.read_bytes()
    (place.parent / f"{WHO}.cut").write_bytes(data[: len(data) // 2])
    (place.parent / f"{WHO}.pixels").write_bytes(data[:-9])
    (place.parent / f"{WHO}.head").write_bytes(data[:400])
    (place.parent / f"{WHO}.txt").write_text(WHO)


def write_volume(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = nibabel.Nifti1Image(rng.integers(0, 900, (*SIDES, 6)).astype(np.int16), np.eye(4))
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = WHO.encode()[: image.header[name].dtype.itemsize]
    for code in (2, 6, 44):  # DICOM, comment, and one of others
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, WHO.encode()))
    nibabel.save(image, path)
    assert WHO.encode() in path.read_bytes()


def texts_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, and those that are packed in it."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".png" and data != b"damaged":
        with Image.open(path) as image:
            image.load()
            yield repr(image.info).encode()
    elif path.suffix in (".parquet", ".npz"):
        if path.suffix == ".parquet":
            yield repr(pyarrow.parquet.read_table(path).to_pydict()).encode()
            yield repr(pyarrow.parquet.read_schema(path).metadata).encode()
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for one in archive.infolist():
                    yield archive.read(one) + one.filename.encode()
    for start in re.finditer(re.escape(ZSTANDARD), data):  # of checkpoints
        try:
            packed = pyarrow.BufferReader(data[start.start() :])
            yield pyarrow.CompressedInputStream(packed, "zstd").read()
        except OSError:
            pass  # by chance


def leaks(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        blobs = [name.encode(), *(texts_of(path) if path.is_file() else ())]
        if any(tells(one) for one in blobs):
            found.append(name)
    return found


def tells(data: bytes) -> bool:
    return bool(FOUND.search(data)) or any(one in data for one in OTHERS)


def test_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Else the tests below would say nothing."""
    (tmp_path / WHO).write_text("")
    (tmp_path / "a").write_text(WHO.lower())
    (tmp_path / "b").write_bytes(WHO.encode("utf-16-be"))
    np.savez_compressed(tmp_path / "c.npz", np.array([WHO.encode()]))
    pyarrow.parquet.write_table(
        pyarrow.table({"a": [WHO]}), tmp_path / "d.parquet", compression="zstd"
    )
    made = PngInfo()
    made.add_text("a", WHO, zip=True)
    Image.new("L", (3, 3)).save(tmp_path / "e.png", pnginfo=made)
    (tmp_path / "f").write_bytes(b"123" + pyarrow.compress(WHO.encode() * 99, "zstd", asbytes=True))
    (tmp_path / "g").write_text("QZWX")
    assert leaks(tmp_path) == [WHO, "a", "b", "c.npz", "d.parquet", "e.png", "f"]


TINY = """--mae.train.model.encoder.image-size 8 --mae.train.model.encoder.patch-size 2
--mae.train.model.encoder.width 8 --mae.train.model.encoder.depth 1 --mae.train.model.encoder.heads
2 --mae.train.model.decoder-width 8 --mae.train.model.decoder-depth 1
--mae.train.model.decoder-heads 2 --mae.train.data.workers 0 --mae.train.data.validation-images 8
--mae.train.data.mean 0.4 0.4 0.4 --mae.train.data.std 0.3 0.3 0.3 --mae.train.batch-size 4
--mae.train.epochs 1 --mae.train.log-every 1 --mae.train.checkpoint-every 2
--mae.train.validate-every 0 --mae.methods optidel-s --mae.ratios 0.5 --mae.seeds 0
--evaluations linear-frozen --finetune.steps 4 --finetune.batch-size 4
--finetune.warmup-steps 1 --finetune.checkpoint-every 2 --finetune.bootstrap-draws 2000"""


def test_scans_through_all_commands(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts in the place of dates and numbers
        write_scans(tmp_path / "scans")
    out, salt = tmp_path / "out", tmp_path / "salt"
    images, listed, whole = out / "images", out / "images" / "images.txt", out / "whole"
    capfd.readouterr()
    caplog.clear()

    def done(*words: object, code: int = 0) -> str:
        ended = run(main, [str(word) for word in words])
        shown = capfd.readouterr()
        assert ended == code, (words, shown.err)
        text = shown.out + shown.err + caplog.text
        assert not tells(text.encode()), words
        return text

    source = next(tmp_path.glob("scans/*"))
    common = ("--out", images, "--salt", salt)
    done("import-dicom", source.parent / f"{WHO}.dcm", *common, code=2)
    done("import-dicom", next(source.parent.rglob("*.cut")), *common, code=2)
    done("import-dicom", source.parent, *common, "--skip-at-most", 0.05, code=2)
    done("import-dicom", source.parent, *common)
    counts = read_manifest(images).counts
    assert (counts["images"], counts["patients"]) == (PATIENTS * SLICES, PATIENTS)
    assert salt.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(tmp_path / "scans")
    for number in range(3):
        (tmp_path / "volumes" / WHO).mkdir(parents=True, exist_ok=True)
        write_volume(tmp_path / "volumes" / WHO / f"QZWX0010002{number}KVJQ.nii", number)
    (tmp_path / "volumes" / f"{WHO}.nii.gz").write_bytes(b"\x1f\x8b" + WHO.encode())
    done("import-nifti", tmp_path / "volumes" / f"{WHO}.nii.gz", "--out", out / "slices", code=2)
    done("import-nifti", tmp_path / "volumes", "--out", out / "slices")
    assert read_manifest(out / "slices").counts["images"] == 18
    shutil.rmtree(tmp_path / "volumes")
    write_masks(out / "slices", tmp_path / "pairs")
    done("pipeline", "optidel_reference", *TINY.split(), "--data", listed, "--out", whole,
         "--downstream", f"folder:{tmp_path / 'pairs'}")  # fmt: skip
    # The single stages once more, which find what the pipeline made.
    done("propose", whole, "--proposer", "saliency", "--most", 3, "--least-side", 8)
    done("score", whole, "--of", "images", "--masks", 5)
    done("select", whole, "--method", "random", "--ratio", 0.5)
    done("synthesise", whole, "random-50")
    done("report", whole, "--out", out / "report")
    trained = whole / "pretrained/mae/optidel-s-50/seed-0"
    pictures = sorted((images / "images").rglob("*.png"))[:2]
    done("reconstruct", trained / "run", *pictures, "--out", out / "seen.png")
    weights = ("--weights", trained, "--batch-size", 8, "--workers", 1)
    done("embed", listed, *weights, "--out", out / "features.parquet")
    done("keep", listed, *weights, "--method", "k-center", "--budget", 5, "--out", out / "kept.txt",
         "--features", out / "features.parquet")  # fmt: skip
    done("export", trained, "--out", out / "exported")
    options = TINY[: TINY.index("--mae.methods")].replace("--mae.train.", "--").split()
    done("run", "mae_vit_base_reference", *options, "--data.path", listed, "--out", out / "run")
    (model,) = (path.parent for path in whole.glob("finetuned/**/linear-frozen/manifest.json"))
    done("predict", listed, "--model", model, "--out", out / "masks", "--probabilities")
    # Errors name images, and those are hashes.
    shutil.copytree(images, tmp_path / "damaged")
    next((tmp_path / "damaged").rglob("*.png")).write_bytes(b"damaged")
    text = done("propose", tmp_path / "again", "--data", tmp_path / "damaged" / "images.txt",
                "--skip-at-most", 0, code=2)  # fmt: skip
    assert "cannot be decoded" in text
    assert not leaks(out) and not leaks(tmp_path / "damaged")


def write_masks(slices: Path, folder: Path) -> None:
    """The imported pictures, with masks and groups, as a user might lay them out."""
    groups = []
    for number, line in enumerate((slices / "images.txt").read_text().splitlines()):
        name, _, group = line.split("\t")
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(slices / name, folder / "images")
        mask = np.zeros(SIDES[::-1], np.uint8)
        mask[number : number + 9, 3:30] = 1
        Image.fromarray(mask).save(folder / "masks" / Path(name).name)
        groups.append(f"{Path(name).stem},{group}\n")
    (folder / "cases.csv").write_text("name,group\n" + "".join(groups))
