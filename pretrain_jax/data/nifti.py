"""Reads NIfTI files slice by slice, turned the way a radiologist looks at them.

nibabel parses headers; the voxels are mapped from disk. Of the header only sizes, type, scaling and
geometry are used: its texts and extensions may name a patient. So may the file's name, so that
sentences of errors hold neither.
"""

import gzip
import hashlib
import io
import math
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import require
from pretrain_jax.data.grey import Counted, counted, ramp, robust_range, to_bytes, window_ends
from pretrain_jax.data.opening import TooLargeError, check_pixels, regular_file
from pretrain_jax.data.privacy import HASH_DIGITS, quiet

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
MOST_VOXELS = 2**32  # of a volume
MOST_UNPACKED = 2**33  # bytes of a compressed file
HEADERS = (348, 540)  # bytes, of NIfTI-1 and NIfTI-2
SPACE = 3  # dimensions
WIDEST = 8  # bytes of a number
PAIRS = {".hdr": ".img", ".hdr.gz": ".img.gz"}
GZIP = b"\x1f\x8b"
DAMAGED = "it is compressed by gzip, and cut or damaged"
MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3}
CHUNK = 1 << 20
SLAB = 1 << 21  # bytes of planes that are copied at once
# A slice is empty where less than this share of it is shown brighter than this.
EMPTY_SHARE, EMPTY_LEVEL = 0.01, 25
Voxels = NDArray[Any]


class NiftiError(ValueError):
    """Says why a file gives no images, in words that identify nobody."""


class NiftiSlice(NamedTuple):
    """Holds a slice of a volume as it is displayed.

    Attributes:
        number: along the axis, from 0 on.
        pixels: (H, W) grey or (H, W, 3) colours, uint8.
        unknown: how many of its voxels are NaN or infinite; they are black.
    """

    number: int
    pixels: NDArray[np.uint8]
    unknown: int

    @property
    def empty(self) -> bool:
        """Whether less than 1 % of its pixels are brighter than 25 of 255."""
        bright = self.pixels.max(axis=2) if self.pixels.ndim == 3 else self.pixels
        return bool((bright > EMPTY_LEVEL).mean() < EMPTY_SHARE)


@dataclass(frozen=True, eq=False)
class Nifti:
    """Represents an open NIfTI file.

    Attributes:
        voxels: stored values (x, y, z, volumes), mapped from disk, with x to the patient's right,
            y to the front and z to the head, as by `nibabel.as_closest_canonical`.
        slope: a value is this times the stored one, plus `intercept`.
        intercept: see `slope`.
        spacing: distances of neighbouring voxels in mm along x, y, z; NaN where unknown.
        several: whether the file has a fourth dimension, of volumes.
        oriented: whether the file says how it lies in the patient. Where it does not, nibabel's
            assumption counts: x to the patient's left, y to the front, z to the head.
    """

    voxels: Voxels
    slope: float
    intercept: float
    spacing: tuple[float, float, float]
    several: bool
    oriented: bool

    @property
    def coloured(self) -> bool:
        """Whether voxels are colours, which have no window."""
        return self.voxels.dtype.names is not None

    def plane_spacing(self, axis: int) -> tuple[float, float, float]:
        """Return the distances in mm of rows, of columns and of slices along an axis."""
        x, y, z = self.spacing
        return ((z, y, x), (z, x, y), (y, x, z))[axis]

    def slices(
        self, volume: int, axis: int, window: tuple[float, float] | None = None
    ) -> Iterator[NiftiSlice]:
        """Show the slices of a volume one after another.

        The patient's right is on the left of axial and coronal slices, as in radiology; the front
        is at the top of axial and on the left of sagittal ones, the head at the top of the
        others. Numbers ascend to the patient's right, front or head.

        Args:
            volume: its number.
            axis: 0 for sagittal slices, 1 coronal, 2 axial.
            window: centre and width of a window of the kind LINEAR of DICOM; by default from the
                percentile 0.5 to 99.5 of the volume's finite voxels.

        Raises:
            TooLargeError: a slice has more pixels than are decoded.
        """
        own = self.voxels[..., volume]
        check_pixels(*(side for at, side in enumerate(own.shape) if at != axis))
        low_high = (0.0, 0.0)
        if not self.coloured:
            low_high = self._range(own) if window is None else window_ends(*window)
        for number, found in enumerate(_planes(own, axis)):
            # Rows descend from the front or the head, columns from the right or the front.
            plane = np.flip(found.T, (0, 1))
            if self.coloured:
                yield NiftiSlice(number, np.stack([plane[one] for one in "RGB"], axis=-1), 0)
                continue
            values = self._values(plane)
            known = np.isfinite(values)
            shown = to_bytes(ramp(np.where(known, values, 0), *low_high))
            shown[~known] = 0
            yield NiftiSlice(number, shown, int(known.size - known.sum()))

    def _values(self, stored: Voxels) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            return stored.astype(np.float64) * self.slope + self.intercept

    def _range(self, own: Voxels) -> tuple[float, float]:
        # Slices along the axis with the longest steps lie in one piece each.
        outer = int(np.argmax(np.abs(own.strides)))

        def blocks() -> Iterator[Counted]:
            for plane in np.moveaxis(own, outer, 0):
                found, often = counted(plane)
                values = self._values(found)
                known = np.isfinite(values)
                yield values[known], often[known]

        return robust_range(blocks) or (0.0, 0.0)


def _planes(own: Voxels, axis: int) -> Iterator[Voxels]:
    """Read a volume plane by plane.

    Several are copied at once in the order of the disk, as planes across it use a few bytes of
    every page.
    """
    planes = np.moveaxis(own, axis, 0)
    several = max(1, SLAB // planes[0].nbytes)
    for start in range(0, len(planes), several):
        yield from np.array(planes[start : start + several], order="K")


def pair_of(path: Path) -> Path | None:
    """Return the file of voxels that belongs to a header, None for other names."""
    lower = path.name.lower()
    for ending, other in PAIRS.items():
        if lower.endswith(ending):
            kept, cut = path.name[: -len(ending)], path.name[-len(ending) :]
            return path.with_name(kept + (other.upper() if cut.isupper() else other))
    return None


def voxel_hash(path: str | Path) -> str:
    """Hash shape, type, scaling, geometry and voxels of a NIfTI file (SHA-256, 32 digits).

    It is the same for a compressed copy, and depends on no text of the header.

    Raises:
        NiftiError: see `opened_nifti`; likewise all other errors.
    """
    found = hashlib.sha256()
    with _voxels(path) as (layout, file, packed):
        text = f"{layout.shape} {layout.dtype.str} {layout.slope!r} {layout.intercept!r}"
        found.update(f"{text} {layout.affine.tolist()} {layout.millimetres}".encode())
        for piece in _pieces(file, packed, layout):
            found.update(piece)
    return found.hexdigest()[:HASH_DIGITS]


@contextmanager
def opened_nifti(path: str | Path, scratch: str | Path) -> Iterator[Nifti]:
    """Open a NIfTI file: .nii, .nii.gz, or the .hdr of a pair.

    Sizes are checked before anything of them is held. A compressed file is unpacked into a
    temporary file without a name, which is gone when the process ends.

    Args:
        path: the file.
        scratch: folder of the temporary file.

    Raises:
        NiftiError: no NIfTI, damaged, cut or of an unknown kind; says which.
        TooLargeError: a volume of more than 2^32 voxels, or more than 2^33 bytes to unpack.
        ValueError: see `regular_file`.
        OSError: it cannot be read, or the temporary file not be written.
    """
    with ExitStack() as held:
        layout, file, packed = held.enter_context(_voxels(path))
        offset = layout.offset
        if packed:
            copy = held.enter_context(tempfile.TemporaryFile(dir=scratch))
            copy.writelines(_pieces(file, packed, layout))
            file, offset = copy, 0
        held_bytes = file.seek(0, io.SEEK_END)
        if not packed and held_bytes < layout.end:
            raise NiftiError(_cut(layout.end, held_bytes))
        yield _turned(np.memmap(file, layout.dtype, "r", offset, layout.shape, "F"), layout)


@contextmanager
def _voxels(path: str | Path) -> Iterator[tuple["_Layout", BinaryIO, bool]]:
    """Read a header, and open the file of its voxels.

    The last value says whether that is compressed.
    """
    require("nibabel", "medical")
    with ExitStack() as held:
        file = held.enter_context(regular_file(path))
        head = _head(file)
        version = _version(head)
        if version is None:
            raise NiftiError(_no_nifti(head))
        size, single = version
        layout = _layout(head[:size], single)
        packed = file.read(len(GZIP)) == GZIP
        if not single:
            other = pair_of(Path(path))
            if other is None:
                raise NiftiError("it is the header of a pair, and its name does not end in .hdr")
            if not other.exists():
                raise NiftiError("it is the header of a pair, whose .img is missing")
            file = held.enter_context(regular_file(other))
            packed = other.suffix.lower() == ".gz"  # voxels may begin as a compressed file does
        file.seek(0)
        yield layout, file, packed


def _head(file: BinaryIO) -> bytes:
    """Read as much as the longest header has, unpacked, and rewind the file."""
    file.seek(0)
    try:
        if file.read(len(GZIP)) == GZIP:
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return unpacked.read(max(HEADERS))
        file.seek(0)
        return file.read(max(HEADERS))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise NiftiError(DAMAGED) from None
    finally:
        file.seek(0)


def _version(head: bytes) -> tuple[int, bool] | None:
    """Return the header's size and whether the voxels follow it.

    It is None for other files.
    """
    for size, at, magics in ((348, 344, (b"n+1\0", b"ni1\0")), (540, 4, (b"n+2\0", b"ni2\0"))):
        magic = head[at : at + 4]
        sizes = [int.from_bytes(head[:4], order) for order in ("little", "big")]
        if len(head) >= size and magic in magics and size in sizes:
            return size, magic == magics[0]
    return None


def _no_nifti(head: bytes) -> str:
    if 348 in [int.from_bytes(head[:4], order) for order in ("little", "big")]:
        return (
            "it is ANALYZE 7.5 or a cut NIfTI file; ANALYZE does not say which side is left, "
            "convert it to NIfTI"
        )
    return "it is no NIfTI file"


class _Layout(NamedTuple):
    """What of a header counts."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: NDArray[np.float64]
    turns: NDArray[np.float64]  # of the axes, as `nibabel.io_orientation` gives them
    millimetres: float  # of a unit of length
    several: bool
    oriented: bool

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def _layout(head: bytes, single: bool) -> _Layout:
    """Read the header by nibabel, and check sizes, type, scaling and geometry."""
    from nibabel import orientations
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    kinds: dict[int, Any] = {
        348: (Nifti1PairHeader, Nifti1Header),
        540: (Nifti2PairHeader, Nifti2Header),
    }
    with quiet("nibabel.global"):
        try:
            header = kinds[len(head)][single].from_fileobj(io.BytesIO(head))
            sides = tuple(int(one) for one in header.get_data_shape())
            dtype = header.get_data_dtype()
            offset = header.get_data_offset()
            slope, intercept = header.get_slope_inter()
            affine = np.asarray(header.get_best_affine(), np.float64)
            oriented = bool(header["sform_code"] or header["qform_code"])
            unit = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
        except Exception as error:  # of many kinds; their sentences quote what the file holds
            raise NiftiError(f"its NIfTI header is damaged ({type(error).__name__})") from None
    while len(sides) > SPACE + 1 and sides[-1] == 1:
        sides = sides[:-1]
    if not 1 <= len(sides) <= SPACE + 1:
        raise NiftiError(
            f"it has {len(sides)} dimensions; up to three are read, and a fourth of volumes"
        )
    x, y, z, volumes = sides + (1,) * (SPACE + 1 - len(sides))
    shape = (x, y, z, volumes)
    if min(shape) < 1:
        raise NiftiError(f"its dimensions are {' x '.join(map(str, sides))}; each must be >= 1")
    if dtype.names is None and (dtype.kind not in "iuf" or dtype.itemsize > WIDEST):
        raise NiftiError(f"its voxels are {dtype}; integers, floats up to 64 bits and RGB are read")
    if math.prod(shape[:SPACE]) > MOST_VOXELS:
        raise TooLargeError(
            f"a volume has {' x '.join(map(str, shape[:SPACE]))} voxels, more than {MOST_VOXELS}"
        )
    if offset < (len(head) if single else 0):
        raise NiftiError(f"its voxels begin at byte {offset}, inside the header")
    if not np.isfinite(affine).all():
        raise NiftiError("its sform or qform, which say how it lies, are not finite")
    turns_of: Any = orientations.io_orientation
    try:
        with np.errstate(all="ignore"):
            turns = turns_of(affine)
    except (np.linalg.LinAlgError, AssertionError):  # of numbers that overflow
        turns = np.full((SPACE, 2), np.nan)
    if np.isnan(turns).any():
        raise NiftiError("its sform or qform, which say how it lies, give an axis no direction")
    scaled = slope is not None and dtype.names is None
    return _Layout(
        shape,
        dtype,
        offset,
        slope if scaled else 1.0,
        intercept if scaled else 0.0,
        affine,
        turns,
        unit,
        len(sides) > SPACE,
        oriented,
    )


def _pieces(file: BinaryIO, packed: bool, layout: _Layout) -> Iterator[bytes]:
    """Read the voxels in pieces, unpacked.

    A compressed file is unpacked up to the last voxel, whatever comes behind it.
    """
    end = layout.end
    if packed and end > MOST_UNPACKED:
        raise TooLargeError(
            f"it has {end} bytes unpacked, more than {MOST_UNPACKED}; unpack it by gunzip first"
        )
    place = 0
    with gzip.GzipFile(fileobj=file) if packed else nullcontext(file) as stream:
        try:
            while place < end and (chunk := stream.read(min(CHUNK, end - place))):
                yield chunk[max(0, layout.offset - place) :]
                place += len(chunk)
            if packed:
                stream.read(1)  # at the end the checksum is compared
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise NiftiError(DAMAGED) from None
    if place < end:
        raise NiftiError(_cut(end, place))


def _cut(size: int, held: int) -> str:
    return f"it is cut: its header says {size} bytes, of which it has {held}"


def _turned(stored: Voxels, layout: _Layout) -> Nifti:
    from nibabel import orientations

    turn: Any = orientations.apply_orientation
    with np.errstate(over="ignore"):
        sizes = np.sqrt((layout.affine[:SPACE, :SPACE] ** 2).sum(axis=0)) * layout.millimetres
    spacing = sizes[np.argsort(layout.turns[:, 0])]
    x, y, z = (float(one) if np.isfinite(one) and one > 0 else math.nan for one in spacing)
    return Nifti(
        turn(stored, layout.turns),
        layout.slope,
        layout.intercept,
        (x, y, z),
        layout.several,
        layout.oriented,
    )
