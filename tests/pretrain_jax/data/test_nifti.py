"""NIfTI: slices against nibabel's own arrays, turned here by hand; odd and hostile files."""

import gzip
import itertools
import math
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import nilearn.datasets
import numpy as np
import pytest
from numpy.typing import NDArray

from pretrain_jax.data.nifti import Nifti, opened_nifti, voxel_hash
from pretrain_jax.data.opening import TooLargeError

# Where +x, +y and +z of NIfTI's world lead to; the other end of each axis.
ENDS = ("LR", "PA", "IS")
# Rows and columns of a picture as DICOM's usual planes have them (PS3.3 C.7.6.2.1.1): an axial one
# goes from front to back and from the right to the left of the patient.
LOOKS = {0: ("SI", "AP"), 1: ("SI", "RL"), 2: ("AP", "RL")}
CODES = [
    "".join(ENDS[axis][side] for axis, side in zip(axes, sides, strict=True))
    for axes in itertools.permutations(range(3))
    for sides in itertools.product((0, 1), repeat=3)
]
RNG = np.random.default_rng(11)


def draw(*shape: int, low: int = -300, high: int = 3000) -> NDArray[np.int16]:
    return RNG.integers(low, high, shape).astype(np.int16)


def affine_of(code: str, sizes: tuple[float, float, float]) -> NDArray[np.float64]:
    """An oblique affine whose axes lie nearest to those of the code."""
    matrix = np.zeros((3, 3))
    for column, letter in enumerate(code):
        row = next(at for at, ends in enumerate(ENDS) if letter in ends)
        matrix[row, column] = 1 if ENDS[row].endswith(letter) else -1
    axis = RNG.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = RNG.uniform(0, 0.4)  # Rodrigues
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    found = np.eye(4)
    found[:3, :3] = turn @ matrix @ np.diag(sizes)
    found[:3, 3] = RNG.normal(size=3) * 50
    return found


def seen(values: NDArray[Any], code: str, axis: int) -> list[NDArray[Any]]:
    """The planes of an array whose axes lead to the letters, one index after another."""
    where = {letter: at for at, letter in enumerate(code)}

    def place(ends: str) -> tuple[int, bool]:
        """The axis of the array, and whether it must be read backwards to go along `ends`."""
        return (where[ends[1]], False) if ends[1] in where else (where[ends[0]], True)

    rows, columns, through = (place(ends) for ends in (*LOOKS[axis], ENDS[axis]))
    found = np.empty([values.shape[one] for one, _ in (through, rows, columns)], values.dtype)
    for new in itertools.product(*map(range, found.shape)):
        old = [0, 0, 0]
        for (at, backwards), index in zip((through, rows, columns), new, strict=True):
            old[at] = values.shape[at] - 1 - index if backwards else index
        found[new] = values[tuple(old)]
    return list(found)


def ramped(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)


def robust(values: NDArray[Any]) -> NDArray[Any]:
    ends = np.percentile(values[np.isfinite(values)], [0.5, 99.5], method="inverted_cdf")
    return ramped(values, *ends)


@contextmanager
def opened(path: Path) -> Iterator[Nifti]:
    with opened_nifti(path, path.parent) as found:
        yield found


def shown(path: Path, axis: int = 2, volume: int = 0, **options: Any) -> NDArray[Any]:
    with opened(path) as found:
        slices = list(found.slices(volume, axis, **options))
    assert [one.number for one in slices] == list(range(len(slices)))
    return np.stack([one.pixels for one in slices])


def saved(path: Path, values: NDArray[Any], affine: Any = None, **fields: Any) -> Path:
    kind = nibabel.Nifti2Image if fields.pop("second", False) else nibabel.Nifti1Image
    image = kind(values, np.eye(4) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("code", CODES)
def test_all_orientations(code: str, tmp_path: Path) -> None:
    values = draw(3, 4, 5)
    affine = affine_of(code, (0.7, 1.5, 3.0))
    assert "".join(nibabel.aff2axcodes(affine)) == code
    path = saved(tmp_path / "a.nii", values, affine)
    wanted = robust(values)
    for axis in (0, 1, 2):
        assert np.array_equal(shown(path, axis), np.stack(seen(wanted, code, axis)))
    sizes = dict(zip(code, (0.7, 1.5, 3.0), strict=True))
    x, y, z = (next(sizes[one] for one in ends if one in sizes) for ends in ENDS)
    with opened(path) as found:
        assert found.spacing == pytest.approx((x, y, z), rel=1e-6)  # single precision
        assert found.plane_spacing(2) == pytest.approx((y, x, z), rel=1e-6)
        assert found.plane_spacing(1) == pytest.approx((z, x, y), rel=1e-6)
        assert found.plane_spacing(0) == pytest.approx((z, y, x), rel=1e-6)
        assert found.oriented and not found.several


def test_template_of_the_brain(tmp_path: Path) -> None:
    """The template that nilearn brings along, through nibabel's own canonical image."""
    template = nilearn.datasets.load_mni152_template(resolution=4)
    path = tmp_path / "mni.nii.gz"
    nibabel.save(template, path)
    values = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    wanted = robust(values)
    found = shown(path, 2)
    assert found.shape == (values.shape[2], values.shape[1], values.shape[0])
    for number in (5, 17, 30):
        assert np.array_equal(found[number], wanted[::-1, ::-1, number].T)
    coronal = shown(path, 1)
    assert np.array_equal(coronal[20], wanted[::-1, 20, ::-1].T)
    # The eyes are in front: where the head begins, behind and below it there is nothing.
    assert found[8].any() and np.array_equal(shown(path, 0)[22], wanted[22, ::-1, ::-1].T)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", "a.hdr.gz", "A.HDR"])
@pytest.mark.parametrize("second", [False, True])
def test_forms_have_the_same_slices_and_name(name: str, second: bool, tmp_path: Path) -> None:
    values, affine = draw(5, 6, 7), affine_of("LPI", (1.0, 2.0, 3.0))
    plain = saved(tmp_path / "plain.nii", values, affine, second=second)
    single = ".nii" in name
    if single:
        path = saved(tmp_path / name, values, affine, second=second)
    else:
        kind = nibabel.Nifti2Pair if second else nibabel.Nifti1Pair
        nibabel.save(kind(values, affine), tmp_path / "a.img")
        path = tmp_path / "a.hdr"
        if name == "A.HDR":
            path = path.rename(tmp_path / name)
            (tmp_path / "a.img").rename(tmp_path / "A.IMG")
        elif name.endswith(".gz"):
            for one in ("a.hdr", "a.img"):
                data = (tmp_path / one).read_bytes()
                (tmp_path / f"{one}.gz").write_bytes(gzip.compress(data))
                (tmp_path / one).unlink()
            path = tmp_path / name
    assert np.array_equal(shown(path), shown(plain))
    assert voxel_hash(path) == voxel_hash(plain)


@pytest.mark.parametrize("kind", ["u1", "i2", ">i2", "u2", "i4", "f4", ">f4", "f8", "i8", "u4"])
def test_types(kind: str, tmp_path: Path) -> None:
    values = draw(5, 6, 7, low=0, high=250).astype(kind)
    image = nibabel.Nifti1Image(values, np.eye(4), dtype=values.dtype)
    if kind.startswith(">"):
        image = nibabel.Nifti1Image(values, np.eye(4), image.header.as_byteswapped(">"))
    nibabel.save(image, tmp_path / "a.nii")
    wanted = robust(nibabel.load(tmp_path / "a.nii").get_fdata())
    assert np.array_equal(shown(tmp_path / "a.nii"), np.stack(seen(wanted, "RAS", 2)))


@pytest.mark.parametrize(("slope", "inter"), [(2.5, -1024.0), (-1.0, 7.0), (0.0, 5.0)])
def test_scaling_and_window(slope: float, inter: float, tmp_path: Path) -> None:
    """A slope of 0 stands for no scaling, says the standard."""
    values = draw(5, 6, 7)
    path = saved(tmp_path / "a.nii", values)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", slope, inter)
    path.write_bytes(data)
    real = values * slope + inter if slope else values
    assert np.array_equal(nibabel.load(path).get_fdata(), real)
    assert np.array_equal(shown(path), np.stack(seen(robust(real), "RAS", 2)))
    wanted = ramped(real, 40 - 200, 40 + 200 - 1)
    assert np.array_equal(shown(path, window=(40.0, 400.0)), np.stack(seen(wanted, "RAS", 2)))


def test_window_for_masks(tmp_path: Path) -> None:
    """With centre 0.5 and width 1 what is above 0 is white."""
    values = draw(5, 6, 7, low=0, high=2).astype(np.uint8)
    found = shown(saved(tmp_path / "a.nii", values), window=(0.5, 1.0))
    assert np.array_equal(found, 255 * np.stack(seen(values, "RAS", 2)))


def test_unknown_voxels_are_black_and_counted(tmp_path: Path) -> None:
    values = RNG.normal(size=(8, 9, 10)).astype(np.float32)
    values[2:5, 3, 4:6] = np.nan
    values[0, 0, 0], values[1, 0, 0] = np.inf, -np.inf
    path = saved(tmp_path / "a.nii.gz", values)
    wanted = np.nan_to_num(np.where(np.isfinite(values), robust(values), 0))
    assert np.array_equal(shown(path), np.stack(seen(wanted, "RAS", 2)))
    with opened(path) as found:
        assert [one.unknown for one in found.slices(0, 2)] == [2, 0, 0, 0, 3, 3, 0, 0, 0, 0]
    assert not shown(saved(tmp_path / "b.nii", np.full((4, 5, 6), np.nan))).any()


def test_volumes_have_their_own_percentiles(tmp_path: Path) -> None:
    values = draw(5, 6, 7, 3)
    values[..., 1] //= 10
    path = saved(tmp_path / "a.nii.gz", values)
    with opened(path) as found:
        assert found.several and found.voxels.shape == (5, 6, 7, 3)
    for volume in range(3):
        wanted = robust(values[..., volume])
        assert np.array_equal(shown(path, volume=volume), np.stack(seen(wanted, "RAS", 2)))


def test_colours(tmp_path: Path) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    values = RNG.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    path = saved(tmp_path / "a.nii", values.view(kind)[..., 0])
    found = shown(path, 1)
    for channel in range(3):
        wanted = np.stack(seen(values[..., channel], "RAS", 1))
        assert np.array_equal(found[..., channel], wanted)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 7, 1, 1), (5,)])
def test_fewer_and_superfluous_dimensions(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = draw(*shape)
    path = saved(tmp_path / "a.nii", values)
    whole = values.reshape((*shape, 1, 1)[:3])
    assert np.array_equal(shown(path), np.stack(seen(robust(whole), "RAS", 2)))


def test_units_of_length(tmp_path: Path) -> None:
    for code, factor in ((1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)):
        path = saved(tmp_path / f"{code}.nii", draw(3, 4, 5), np.diag([1, 2, 3, 1.0]))
        data = bytearray(path.read_bytes())
        data[123] = code
        path.write_bytes(data)
        with opened(path) as found:
            assert found.spacing == pytest.approx((factor, 2 * factor, 3 * factor))


def test_unoriented_files_lie_as_nibabel_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", draw(3, 4, 5))
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)
    path.write_bytes(data)
    image = nibabel.load(path)
    with opened(path) as found:
        assert not found.oriented
    wanted = robust(np.asarray(image.dataobj))
    code = "".join(nibabel.aff2axcodes(image.affine))
    assert code == "LAS"
    assert np.array_equal(shown(path), np.stack(seen(wanted, code, 2)))


def test_empty_slices() -> None:
    """Less than 1 % brighter than 25: of 1000 pixels ten are needed."""
    voxels = np.zeros((40, 25, 4, 1), np.int16)
    voxels[:10, 0, 1] = 26
    voxels[:9, 0, 2] = 255
    voxels[:, :, 3] = 25
    found = Nifti(voxels, 1.0, 0.0, (1.0, 1.0, 1.0), False, True)
    slices = list(found.slices(0, 2, window=(128.0, 256.0)))
    assert [int(one.pixels.max()) for one in slices] == [0, 26, 255, 25]
    assert [one.empty for one in slices] == [True, False, True, True]


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r"^(its?|a) ") as told, opened(path):
        pass
    with pytest.raises(ValueError, match=r"^(its?|a) ") as again:
        voxel_hash(path)
    assert str(again.value) == str(told.value)
    assert "\n" not in str(told.value) and "Mueller" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("at", "data", "sentence"),
    [
        (42, struct.pack("<h", 0), "its dimensions are 0 x 6 x 7"),
        (42, struct.pack("<h", -3), "-3 x 6 x 7"),
        (42, struct.pack("<hhh", 30000, 30000, 30000), "30000 x 30000 x 30000 voxels, more than"),
        (42, struct.pack("<hhh", 1000, 1000, 1000), "2000000352 bytes, of which it has"),
        (40, struct.pack("<hhhhhhh", 5, 1, 1, 1, 1, 3, 1), "it has 5 dimensions"),
        (70, struct.pack("<h", 32), "its voxels are complex64"),
        (70, struct.pack("<h", 1), "its NIfTI header is damaged"),
        (70, struct.pack("<h", 999), "its NIfTI header is damaged"),
        (108, struct.pack("<f", math.nan), "its NIfTI header is damaged"),
        (108, struct.pack("<f", 1e30), "it is cut"),
        (116, struct.pack("<f", math.inf), "its NIfTI header is damaged"),
        (280, struct.pack("<f", math.nan), "are not finite"),
        (280, bytes(48), "give an axis no direction"),
        (344, b"n+9\0", "ANALYZE 7.5 or a cut NIfTI"),
        (0, bytes(8), "it is no NIfTI file"),
    ],
)
def test_headers_of_no_use(at: int, data: bytes, sentence: str, tmp_path: Path) -> None:
    whole = bytearray(saved(tmp_path / "a.nii", draw(5, 6, 7)).read_bytes())
    whole[at : at + len(data)] = data
    for name, content in (
        ("Mueller.nii", bytes(whole)),
        ("Mueller.nii.gz", gzip.compress(bytes(whole))),
    ):
        (tmp_path / name).write_bytes(content)
        told = refused(tmp_path / name)
        assert sentence in told or (name.endswith(".gz") and "bytes unpacked, more" in told)


def test_cut_and_damaged_files(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii", draw(20, 20, 20)).read_bytes()
    packed = gzip.compress(whole)
    wrong = bytearray(packed)
    wrong[-6] ^= 1  # of the checksum
    cases = {
        "Mueller1": (whole[:-1], "it is cut: its header says 16352 bytes, of which it has 16351"),
        "Mueller_b": (whole[:340], "cut NIfTI"),
        "Mueller_c": (b"", "no NIfTI"),
        "Mueller_d": (packed[:-9], "compressed by gzip, and cut or damaged"),
        "Mueller_e": (packed[:40], "compressed by gzip, and cut or damaged"),
        "Mueller_f": (bytes(wrong), "compressed by gzip, and cut or damaged"),
        "Mueller_g": (b"\x1f\x8b" + bytes(50), "compressed by gzip, and cut or damaged"),
    }
    for name, (data, sentence) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert sentence in refused(tmp_path / name)
    nibabel.save(nibabel.Nifti1Pair(draw(3, 4, 5), np.eye(4)), tmp_path / "Mueller.img")
    (tmp_path / "Mueller.img").unlink()
    assert "whose .img is missing" in refused(tmp_path / "Mueller.hdr")


def test_bombs_take_neither_memory_nor_disk(tmp_path: Path) -> None:
    """Half a gigabyte of zeros in some megabytes, of which the header asks for 420 bytes."""
    head = saved(tmp_path / "a.nii", draw(5, 6, 7)).read_bytes()
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(64):
            file.write(bytes(1 << 23))
    assert (tmp_path / "bomb").stat().st_size < 1 << 23
    tracemalloc.start()
    try:
        assert np.array_equal(shown(tmp_path / "bomb"), shown(tmp_path / "a.nii"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.01")
    path = saved(tmp_path / "a.nii", draw(101, 100, 2))
    with pytest.raises(TooLargeError, match="101 x 100 pixels"):
        shown(path, 2)
    assert shown(path, 1).shape == (100, 2, 101)


def test_memory_is_that_of_slices(tmp_path: Path) -> None:
    """16 MB of voxels, of which a slice of a float64 has 0.5 MB."""
    path = saved(tmp_path / "a.nii.gz", draw(256, 256, 128))
    tracemalloc.start()
    try:
        with opened(path) as found:
            for one in found.slices(0, 2):
                assert one.pixels.shape == (256, 256)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
