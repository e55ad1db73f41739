"""DICOM: the files that pydicom ships against its own arrays, and files written here.

What is displayed is computed here once more, from the formulas of DICOM PS3.3.
"""

import math
import stat
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from pretrain_jax.data.dicom import DicomError, is_dicom, read_dicom, read_header
from pretrain_jax.data.opening import TooLargeError
from pretrain_jax.data.privacy import project_salt
from tests.pretrain_jax.data.dicom_files import draw, written

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
SALT = bytes(range(32))
JPEG_LS = "1.2.840.10008.1.2.4.80"
SENTINEL = "Zanzibar"


def shipped() -> list[Path]:
    found = []
    for path in sorted(SHIPPED.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                if is_dicom(file):
                    found.append(path)
    return found


def own_array(path: Path) -> tuple[Any, NDArray[Any] | None]:
    """The file by pydicom alone, frames first; None where it finds no pixels either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        try:
            pixels = dataset.pixel_array
            frames = int(dataset.get("NumberOfFrames") or 1)
        except Exception:  # of many kinds: no pixels, no decoder, cut
            return dataset, None
    return dataset, pixels if frames > 1 else pixels[None]


def windowed(x: NDArray[Any], c: float, w: float) -> NDArray[Any]:
    """PS3.3 C.11.2.1.2.1, with y from 0 to 255."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
    below, above = x <= c - 0.5 - (w - 1) / 2, x > c - 0.5 + (w - 1) / 2
    return np.rint(np.where(below, 0, np.where(above, 255, y)))


def first(value: Any) -> float:
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)


def displayed(dataset: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    """What is to be seen of the arrays, as (frames, H, W, channels)."""
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        tables = []
        for colour in ("Red", "Green", "Blue"):
            _, start, bits = dataset[f"{colour}PaletteColorLookupTableDescriptor"].value
            data = dataset[f"{colour}PaletteColorLookupTableData"].value
            assert (start, bits) == (0, 16)
            tables.append(np.frombuffer(data, "<u2")[pixels] / 65535)
        return np.rint(np.stack(tables, axis=-1) * 255)
    if not kind.startswith("MONOCHROME"):
        return np.rint(pixels / (2.0**dataset.BitsStored - 1) * 255)
    x = pixels * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    if "WindowCenter" in dataset:
        y = windowed(x, first(dataset.WindowCenter), first(dataset.WindowWidth))
    else:
        low, high = np.percentile(x, [0.5, 99.5], method="inverted_cdf")
        y = (
            np.rint(np.clip((x - low) / (high - low), 0, 1) * 255)
            if high > low
            else 255 * (x > low)
        )
    return (255 - y if kind == "MONOCHROME1" else y)[..., None]


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(SHIPPED).as_posix())
def test_shipped_files(path: Path) -> None:
    dataset, pixels = own_array(path)
    if pixels is None:
        with pytest.raises(DicomError, match=r"^it") as refused:
            read_dicom(path, SALT)
        assert "\n" not in str(refused.value)
        return
    found = read_dicom(path, SALT)
    wanted = displayed(dataset, pixels)
    assert len(found.ids) == len(set(found.ids)) == len(wanted)
    assert all(one.dtype == np.uint8 for one in found.pixels)
    # A product in another order may round a value at a half to the other side.
    difference = np.abs(np.stack(found.pixels) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3
    assert bool(found.group) == bool(str(dataset.get("PatientID", "")).strip())


def test_most_shipped_files_have_pixels() -> None:
    """So that the test above compares something."""
    read = [own_array(path) for path in shipped()]
    kinds = {data.PhotometricInterpretation for data, pixels in read if pixels is not None}
    assert sum(pixels is not None for _, pixels in read) >= 60
    assert kinds >= {"MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL_422"}


def test_ybr_is_that_of_the_standard() -> None:
    path = SHIPPED / "SC_ybr_full_422_uncompressed.dcm"
    raw = pydicom.pixels.pixel_array(path, raw=True).astype(float)
    y, b, r = raw[..., 0], raw[..., 1] - 128, raw[..., 2] - 128  # PS3.3 C.7.6.3.1.2, inverted
    red, blue = y + 1.402 * r, y + 1.772 * b
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    wanted = np.clip(np.stack([red, green, blue], axis=-1), 0, 255)
    assert np.abs(read_dicom(path, SALT).pixels[0] - wanted).max() <= 1.0


def test_bits_beside_the_stored_ones_are_dropped(tmp_path: Path) -> None:
    values = draw(1, 8, 9)
    rubbish = np.random.default_rng(4).integers(0, 16, values.shape).astype(np.uint16) << 12
    stored = (values.astype(np.uint16) & 0x0FFF) | rubbish
    elements = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 10, "WindowWidth": 1000}
    path = written(tmp_path / "a", stored.view(np.int16), **elements)
    assert np.array_equal(read_dicom(path, SALT).pixels[0][..., 0], windowed(values[0], 10, 1000))
    path = written(tmp_path / "b", stored.view(np.int16), **{**elements, "HighBit": 15})
    with pytest.raises(DicomError, match="HighBit is not 11"):
        read_dicom(path, SALT)


def test_window_by_option_goes_before_that_of_the_file(tmp_path: Path) -> None:
    values = draw(1, 8, 9)
    own = {"RescaleSlope": 2, "RescaleIntercept": -5, "WindowCenter": 1, "WindowWidth": 90}
    path = written(tmp_path / "a", values, **own, PhotometricInterpretation="MONOCHROME1")
    found = read_dicom(path, SALT, window=(40.0, 400.0))
    wanted = 255 - windowed(values[0] * 2.0 - 5, 40, 400)
    assert np.array_equal(found.pixels[0][..., 0], wanted)


@pytest.mark.parametrize("window", [(0.0, 0.5), (math.nan, 100.0), (0.0, math.inf)])
def test_windows_out_of_range(tmp_path: Path, window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the width one from 1 to"):
        read_dicom(tmp_path / "a", SALT, window=window)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID", "LINEAR"])
def test_functions_of_windows(tmp_path: Path, function: str) -> None:
    values = draw(1, 8, 9)
    path = written(
        tmp_path / "a", values, WindowCenter=-20, WindowWidth=300, VOILUTFunction=function
    )
    x = values[0].astype(float)
    wanted = {  # PS3.3 C.11.2.1.3.1 and C.11.2.1.3.2
        "LINEAR_EXACT": np.clip((x + 20) / 300 + 0.5, 0, 1) * 255,
        "SIGMOID": 255 / (1 + np.exp(-4 * (x + 20) / 300)),
        "LINEAR": windowed(x, -20, 300),
    }[function]
    assert np.array_equal(read_dicom(path, SALT).pixels[0][..., 0], np.rint(wanted))


def test_table_in_place_of_a_window(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    entries = np.random.default_rng(5).integers(0, 4096, 200)
    table.add_new(0x00283002, "US", [200, 50, 12])
    table.add_new(0x00283006, "US", entries.tolist())
    values = draw(1, 8, 9, low=0, high=300).astype(np.uint16)
    path = written(tmp_path / "a", values, VOILUTSequence=[table])
    wanted = entries[np.clip(values[0].astype(int) - 50, 0, 199)] / 4095 * 255
    assert np.array_equal(read_dicom(path, SALT).pixels[0][..., 0], np.rint(wanted))


def test_frames_have_their_own_groups(tmp_path: Path) -> None:
    """Each frame has a slope of its own; the window is shared by all."""

    def item(**elements: Any) -> Any:
        made = pydicom.Dataset()
        for name, value in elements.items():
            setattr(made, name, value)
        return made

    values = draw(3, 8, 9)
    window = item(FrameVOILUTSequence=[item(WindowCenter=[5, 7], WindowWidth=[800, 9])])
    frames = [
        item(PixelValueTransformationSequence=[item(RescaleSlope=k, RescaleIntercept=-k)])
        for k in (1, 2, 3)
    ]
    path = written(
        tmp_path / "a",
        values,
        SharedFunctionalGroupsSequence=[window],
        PerFrameFunctionalGroupsSequence=frames,
    )
    found = read_dicom(path, SALT)
    for k in (1, 2, 3):
        wanted = windowed(values[k - 1] * k - k, 5, 800)
        assert np.array_equal(found.pixels[k - 1][..., 0], wanted)
    assert [one.partition("-")[2] for one in found.ids] == ["00000", "00001", "00002"]


def test_percentiles_are_those_of_all_frames(tmp_path: Path) -> None:
    values = np.concatenate([draw(1, 20, 20, low=0, high=100), draw(1, 20, 20, low=800)])
    found = read_dicom(written(tmp_path / "a", values), SALT)
    low, high = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    wanted = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)
    assert np.array_equal(np.stack(found.pixels)[..., 0], wanted)
    assert found.pixels[0].max() < 40  # by itself the first frame would reach 255


def test_flat_image_is_black(tmp_path: Path) -> None:
    found = read_dicom(written(tmp_path / "a", np.full((1, 4, 5), 7, np.int16)), SALT)
    assert not found.pixels[0].any()


def test_ids_and_groups(tmp_path: Path) -> None:
    values = draw(1, 4, 5)
    one = read_dicom(written(tmp_path / "a", values), SALT)
    again = read_dicom(written(tmp_path / "b", 2 * values, PatientID="patient "), SALT)
    other = read_dicom(
        written(tmp_path / "c", values, PatientID="patient2", SOPInstanceUID="1.2.3.5"), SALT
    )
    salted = read_dicom(tmp_path / "a", SALT[::-1])
    assert (one.ids, one.group) == (again.ids, again.group)
    assert len({*one.ids, *other.ids, *salted.ids, one.group, other.group, salted.group}) == 6
    assert all(set(name) <= set("0123456789abcdef") for name in (*one.ids, one.group))
    assert read_dicom(written(tmp_path / "d", values, PatientID=""), SALT).group == ""
    padded = written(tmp_path / "e", values, PatientID="  patient")
    assert read_dicom(padded, SALT).group == one.group


def test_positions_of_slices(tmp_path: Path) -> None:
    """The normal of rows along y and columns along -z is -x."""
    oblique = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    place = {"ImagePositionPatient": [7.5, 100, 200], "InstanceNumber": 3}
    values = draw(1, 4, 5)
    found = [
        read_dicom(written(tmp_path / "a", values, **elements), SALT)
        for elements in ({**oblique, **place}, place, {"SeriesInstanceUID": "1.2.3.9"})
    ]
    assert [one.planes[0].position for one in found] == [-7.5, 0.0, 0.0]
    assert [one.number for one in found] == [3.0, 3.0, 0.0]
    assert [bool(one.series) for one in found] == [False, False, True]
    assert found[2].series not in (*found[2].ids, found[2].group)


@pytest.mark.parametrize(("text", "burned"), [("YES", True), ("NO", False), (None, False)])
def test_burned_in_annotation(tmp_path: Path, text: str | None, burned: bool) -> None:
    path = written(tmp_path / "a", draw(1, 4, 5), BurnedInAnnotation=text)
    assert read_dicom(path, SALT).burned_in is burned


def padded(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    inside = (values >= low) & (values <= high)
    ends = np.percentile(values[~inside], [0.5, 99.5], method="inverted_cdf")
    wanted = np.rint(np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1) * 255)
    return np.where(inside, 0, wanted)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_padding_is_black_and_does_not_count(tmp_path: Path, unsigned: bool, syntax: str) -> None:
    """Also where the value is written without a sign, or without its type (implicit VR)."""
    values = draw(1, 20, 30)
    values[:, 5:9] = -2000
    path = written(tmp_path / "a", values, PixelPaddingValue=-2000)
    dataset = pydicom.dcmread(path)
    if unsigned:
        dataset.add_new("PixelPaddingValue", "US", 63536)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
    assert np.array_equal(read_dicom(path, SALT).pixels[0][..., 0], padded(values[0], -2000, -2000))
    with_window = read_dicom(path, SALT, window=(-2000.0, 500.0)).pixels[0][..., 0]
    assert not with_window[5:9].any() and with_window[:5].any()


def test_range_of_padding(tmp_path: Path) -> None:
    values = draw(1, 20, 30)
    for ends in ((-900, -500), (-500, -900)):
        own = {"PixelPaddingValue": ends[0], "PixelPaddingRangeLimit": ends[1]}
        path = written(tmp_path / "a", values, **own)
        found = read_dicom(path, SALT).pixels[0][..., 0]
        assert np.array_equal(found, padded(values[0], -900, -500))
    everything = written(tmp_path / "b", values, PixelPaddingValue=-900, PixelPaddingRangeLimit=900)
    assert not read_dicom(everything, SALT).pixels[0].any()


def test_reports_have_no_pixels() -> None:
    with pytest.raises(DicomError, match=r"^it has no pixels, as a report or an index of files$"):
        read_dicom(SHIPPED / "reportsi.dcm", SALT)


def test_texts_in_the_place_of_a_syntax_are_not_repeated(tmp_path: Path) -> None:
    path = written(tmp_path / "a", draw(1, 4, 5))
    data = path.read_bytes()
    own = b"1.2.840.10008.1.2.1\0"
    assert data.count(own) == 1
    path.write_bytes(data.replace(own, SENTINEL.encode().ljust(len(own), b"\n")))
    with pytest.raises(DicomError, match=r"^its transfer syntax is none of the standard's$"):
        read_dicom(path, SALT)


def test_deflated_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of pydicom's, and one that becomes two gigabytes: it is refused before."""
    deflated = SHIPPED / "image_dfl.dcm"
    data = deflated.read_bytes()
    place = 132 + 12 + int.from_bytes(data[140:144], "little")
    inner = zlib.decompress(data[place:], -15)
    assert read_dicom(deflated, SALT).pixels[0].any()
    packer = zlib.compressobj(1, wbits=-15)
    with (tmp_path / "bomb").open("wb") as file:
        file.write(data[:place] + packer.compress(inner))
        file.write(packer.compress((0x00091001).to_bytes(4, "little") + b"OB\0\0\0\0\0\x7f"))
        for _ in range(130):
            file.write(packer.compress(bytes(1 << 24)))
        file.write(packer.flush())
    assert (tmp_path / "bomb").stat().st_size < 1 << 25
    tracemalloc.start()
    try:
        for read in (read_header, read_dicom):
            with pytest.raises(TooLargeError, match="1073741824 bytes when it is inflated"):
                read(tmp_path / "bomb", SALT)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_missing_decoder_is_named(tmp_path: Path) -> None:
    """The pinned packages have no plug-in for JPEG-LS."""
    assert not pydicom.pixels.get_decoder(JPEG_LS).is_available
    with pytest.raises(DicomError, match=r"^its transfer syntax JPEG-LS .*pyjpegls") as refused:
        read_dicom(SHIPPED / "MR_small_jpeg_ls_lossless.dcm", SALT)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"PhotometricInterpretation": "HSV"}, "the HSV PhotometricInterpretation; MONOCHROME1"),
        ({"PhotometricInterpretation": "CMYK"}, "the CMYK Photometric"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "the YBR_PARTIAL_420 Photometric"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "the YBR_PARTIAL_422 Photometric"),
        ({"PhotometricInterpretation": "SECRET"}, "an unknown PhotometricInterpretation; MONO"),
        ({"NumberOfFrames": 4}, "its pixels cannot be decoded"),
        ({"NumberOfFrames": 999_999_999_999}, "more than 100000 frames"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "its WindowWidth is 0"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "its VOILUTFunction"),
        ({"SOPInstanceUID": ""}, "SOPInstanceUID"),
    ],
)
def test_wrong_elements(tmp_path: Path, elements: dict[str, Any], sentence: str) -> None:
    path = written(tmp_path / "a", draw(1, 4, 5), **elements)
    with pytest.raises(DicomError, match=sentence):
        read_dicom(path, SALT)


def test_other_files_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"DICM" + bytes(300))
    with pytest.raises(DicomError, match="no DICOM file"):
        read_dicom(tmp_path / "a", SALT)
    with pytest.raises(ValueError, match="no such file"):
        read_dicom(tmp_path / "missing", SALT)
    with pytest.raises(ValueError, match="the salt has 3 bytes, not 32"):
        read_dicom(tmp_path / "a", b"abc")
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.01")
    with pytest.raises(TooLargeError, match="101 x 100 pixels"):
        read_dicom(written(tmp_path / "b", draw(1, 101, 100)), SALT)


def identifying() -> dict[int, tuple[str, str]]:
    """A sentinel for every text, date and unique identifier that a file may have."""
    values = {
        **dict.fromkeys(("LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE"), SENTINEL),
        "DA": "18991231",
        "DT": "18991231",
        "UI": "1.2.8899",
        "AS": "099Y",
        "TM": "235959",
    }
    found = {}
    for tag, (kind, *_, keyword) in pydicom.datadict.DicomDictionary.items():
        if 0x00080000 < tag < 0x00400000 and kind in values and keyword:
            found[tag] = (kind, values[kind])
    return found


def test_nothing_returned_or_printed_identifies(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not even of values that break the rules, which pydicom quotes in warnings."""
    dataset = pydicom.dcmread(written(tmp_path / "a", draw(2, 4, 5)))
    for tag, (kind, value) in identifying().items():
        dataset.add_new(tag, kind, value)
    assert len(identifying()) > 400
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.SOPInstanceUID = f"{SENTINEL}.1.2.8899"
        dataset.PatientID = SENTINEL * 20
        dataset.save_as(tmp_path / "b", enforce_file_format=True)
    data = (tmp_path / "b").read_bytes()
    caplog.clear()
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        said = [repr(read_dicom(tmp_path / "b", SALT))]
        for end in range(132, len(data), 97):
            (tmp_path / SENTINEL).write_bytes(data[:end])
            with pytest.raises(ValueError, match=r"^it") as refused:
                read_dicom(tmp_path / SENTINEL, SALT)
            said.append(str(refused.value))
            assert refused.value.__suppress_context__ or refused.value.__context__ is None
    printed = capfd.readouterr()
    everything = " ".join(
        [*said, printed.out, printed.err, caplog.text, *(str(one.message) for one in warned)]
    )
    for one in (SENTINEL, "8899", "18991231", "099Y"):
        assert one not in everything


def test_sentences_of_pydicom_are_not_repeated(tmp_path: Path) -> None:
    """A name in the place of a number is quoted by the error of the conversion."""
    place = {"ImagePositionPatient": [111.25, 2, 3], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    path = written(tmp_path / "a", draw(1, 4, 5), **place)
    data = path.read_bytes()
    assert data.count(b"111.25") == 1
    path.write_bytes(data.replace(b"111.25", SENTINEL[:6].encode()))
    with pytest.raises(DicomError, match=r"^it is a damaged DICOM file \(ValueError\)$"):
        read_dicom(path, SALT)


def test_salt_is_made_once_and_kept_private(tmp_path: Path) -> None:
    out = tmp_path / "out"
    salt = project_salt(tmp_path / "salt", out)
    assert len(salt) == 32
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600
    assert project_salt(tmp_path / "salt", out) == salt
    assert project_salt(tmp_path / "other", out) != salt
    (tmp_path / "salt").chmod(0o640)
    with pytest.raises(ValueError, match="mode 640"):
        project_salt(tmp_path / "salt", out)


@pytest.mark.parametrize("text", ["", "12", "x" * 64, "ab" * 33])
def test_salts_of_no_use(tmp_path: Path, text: str) -> None:
    (tmp_path / "salt").write_text(text)
    (tmp_path / "salt").chmod(0o600)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        project_salt(tmp_path / "salt", tmp_path / "out")
    with pytest.raises(ValueError, match=f"the salt {tmp_path} is a folder; name a file"):
        project_salt(tmp_path, tmp_path / "out")


def test_salt_among_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "link").symlink_to(out)
    for place in (out / "salt", tmp_path / "link" / "salt"):
        with pytest.raises(ValueError, match="keep it elsewhere"):
            project_salt(place, out)
    assert not list(out.iterdir())
