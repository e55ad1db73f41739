"""Each published layout by its description, and what users have made of it: read, or refused.

A refusal names the first file that does not fit, and what to do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hardset.cli import run
from pretrain_jax.__main__ import main
from pretrain_jax.segmentation import (
    PUBLISHED,
    SegmentationSet,
    read_case,
    read_segmentation,
    split,
)
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.result import baselines
from tests.pretrain_jax.segmentation.test_command import OPTIONS
from tests.pretrain_jax.segmentation.trees import half, image, mask

SIZE = (12, 10)


class Layout(NamedTuple):
    """Where a set has its files, as `source` describes it.

    Attributes:
        source: page or paper.
        images: folders of the images.
        masks: folders of the masks.
        ending: of the images.
        mask_ending: of the masks.
        mask: name of a mask; {} is the image's.
        stems: names of images.
    """

    source: str
    images: tuple[str, ...]
    masks: tuple[str, ...]
    ending: str
    mask_ending: str
    mask: str
    stems: tuple[str, ...]

    def files(self) -> list[tuple[str, str]]:
        """Image and mask of each case."""
        return [
            (
                f"{images}/{stem}.{self.ending}",
                f"{masks}/{self.mask.format(stem)}.{self.mask_ending}",
            )
            for images, masks in zip(self.images, self.masks, strict=True)
            for stem in self.stems
        ]


KAGGLE = "images and masks of equal names, as the archive of PraNet has them (arXiv:2006.11392)"
LAYOUTS = {
    "kvasir-seg": Layout(
        "https://datasets.simula.no/kvasir-seg/: images and masks of the same file name, JPEG",
        *(("images",), ("masks",), "jpg", "jpg", "{}"),
        ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4"),
    ),
    "kvasir-instrument": Layout(
        "https://datasets.simula.no/kvasir-instrument/: images (jpg), masks (png), lists of parts",
        *(("images",), ("masks",), "jpg", "png", "{}"),
        ("ckcu8ty6z00033b5yns4q5kzj", "ckcu8xmnb000e3b5yo2ls5tzs"),
    ),
    "imageclefmed": Layout(
        "https://www.imageclef.org/2023/medical/vqa, MEDVQA-GI: images, masks, gt.json",
        *(("images",), ("masks",), "jpg", "jpg", "{}"),
        ("cl8k2u1qk1eun083203tedidd", "cl8k2u1qm1f4b083225ey3p4k"),
    ),
    "etis": Layout(
        "Silva et al. 2014, doi:10.1007/s11548-013-0926-3: p1.tif is the mask of 1.tif",
        *(("ETIS-LaribPolypDB",), ("Ground Truth",), "tif", "tif", "p{}"),
        ("1", "10"),
    ),
    "polypgen2021": Layout(
        "Ali et al. 2023, doi:10.1038/s41597-023-01981-y, figure 2: data_C1 to data_C6, *_mask.jpg",
        ("data_C1/images_C1", "data_C3/images_C3", "sequenceData/positive/seq1/images_seq1"),
        ("data_C1/masks_C1", "data_C3/masks_C3", "sequenceData/positive/seq1/masks_seq1"),
        *("jpg", "jpg", "{}_mask"),
        ("100H0050", "C3_EndoCV2021_00153"),
    ),
    "cvc-300": Layout(KAGGLE, ("images",), ("masks",), "png", "png", "{}", ("149", "150")),
    "cvc-clinicdb": Layout(
        "Bernal et al. 2015, doi:10.1016/j.compmedimag.2015.02.007: Original, Ground Truth",
        *(("Original",), ("Ground Truth",), "tif", "tif", "{}"),
        ("1", "612"),
    ),
    "cvc-colondb": Layout(
        "Bernal et al. 2012, doi:10.1016/j.patcog.2012.03.002: 1.bmp and p1.bmp side by side",
        *((".",), (".",), "bmp", "bmp", "p{}"),
        ("1", "300"),
    ),
}
# The repackaged forms that circulate, of images and masks of equal names.
COMMON = Layout(KAGGLE, ("images",), ("masks",), "png", "png", "{}", ("1", "2"))
FORMS = {
    **{name: (name, layout) for name, layout in LAYOUTS.items()},
    **{
        f"{name}, repackaged": (name, COMMON)
        for name in ("etis", "cvc-clinicdb", "cvc-colondb", "kvasir-instrument")
    },
    "cvc-clinicdb, PNG": (
        "cvc-clinicdb",
        COMMON._replace(images=("PNG/Original",), masks=("PNG/Ground Truth",)),
    ),
    "kvasir-instrument, twice": (
        "kvasir-instrument",
        COMMON._replace(images=("images/images",), masks=("masks/masks",)),
    ),
    "folder": ("folder", COMMON),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[str, Layout]:
    return FORMS[request.param]


def written(root: Path, layout: Layout) -> Path:
    for seed, (one, other) in enumerate(layout.files()):
        image(root / one, seed, SIZE)
        mask(root / other, SIZE)
    return root


def check(found: SegmentationSet, root: Path, layout: Layout) -> None:
    """Every image has its own mask, whose left half is foreground."""
    pairs = {(case.image, case.mask) for case in found.cases}
    assert pairs == {(root / one, root / other) for one, other in layout.files()}
    for case in found.cases:
        pixels, labels = read_case(found, case)
        assert pixels.shape == (*SIZE, 3)
        assert np.array_equal(labels, half(SIZE))


def test_every_reader_is_described() -> None:
    assert set(LAYOUTS) == set(PUBLISHED)


def test_as_described(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    check(read_segmentation(written(tmp_path, layout), name), tmp_path, layout)


@pytest.mark.parametrize("mask_name", ["{}_mask", "{}_segmentation", "{}", "{} Mask"])
def test_endings_of_names(tmp_path: Path, form: tuple[str, Layout], mask_name: str) -> None:
    name, layout = form
    if layout.images == layout.masks:  # side by side a mask cannot be told from an image
        return
    layout = layout._replace(mask=mask_name)
    check(read_segmentation(written(tmp_path, layout), name), tmp_path, layout)


def test_upper_case_endings(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    layout = layout._replace(ending=layout.ending.upper(), mask_ending=layout.mask_ending.upper())
    check(read_segmentation(written(tmp_path, layout), name), tmp_path, layout)


def test_other_formats_of_masks(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    for ending in ("png", "bmp", "tif", "gif", "webp", "JPG"):
        own = layout._replace(mask_ending=ending)
        root = tmp_path / ending
        check(read_segmentation(written(root, own), name), root, own)


def test_a_folder_deeper_with_what_systems_leave_behind(
    tmp_path: Path, form: tuple[str, Layout]
) -> None:
    """Unpacked on a Mac, looked at under Windows, and packed again with its folder."""
    name, layout = form
    root = written(tmp_path / "Archive (1)", layout)
    for folder in {
        tmp_path,
        root,
        *((root / one).parent for pair in layout.files() for one in pair),
    }:
        for hidden in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png", ".hidden.jpg"):
            (folder / hidden).write_bytes(b"no image")
        image(folder / "__MACOSX" / "images" / "._9.jpg")
        image(folder / ".git" / "images" / "9.jpg")
    check(read_segmentation(tmp_path, name), root, layout)


def test_names_beyond_ascii(tmp_path: Path, form: tuple[str, Layout]) -> None:
    """Of composed letters and of letters with marks, which are the same names."""
    name, layout = form
    if name == "cvc-colondb" and layout is not COMMON:  # its images are called by numbers
        return
    layout = layout._replace(stems=("Große Läsion", "ポリープ 2", "café"))
    root = written(tmp_path, layout)
    found = read_segmentation(root, name)
    assert len(found) == len(layout.files())
    check(found, root, layout)
    for _, other in layout.files():
        apart = normalize("NFD", other)
        (root / other).rename(root / apart)
    assert len(read_segmentation(root, name)) == len(layout.files())


def test_parts_below_the_folders(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    if layout.images == layout.masks:
        return
    for seed, (one, other) in enumerate(layout.files()):
        first, second = Path(one), Path(other)
        # The frames of a sequence belong together.
        place = layout.images.index(first.parent.as_posix()) if len(layout.images) > 1 else seed
        part = "train" if place % 2 else "test"
        image(tmp_path / first.parent / part / first.name, seed)
        mask(tmp_path / second.parent / part / second.name)
    training, test = split(read_segmentation(tmp_path, name))
    for cases, part in ((training.cases, "train"), (test.cases, "test")):
        for case in cases:
            assert case.mask is not None
            assert case.image.parent.name == case.mask.parent.name == part
            assert case.name.endswith(f"{part}/{case.image.stem}")


def test_an_image_without_mask(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    root = written(tmp_path, layout)
    one, _ = layout.files()[0]
    lonely = Path(one).with_stem("7")
    image(root / lonely)
    sentence = rf"1 of \d+ image\(s\) in .* have no mask in .*: {lonely.name}; take them out, or"
    with pytest.raises(ValueError, match=sentence):
        read_segmentation(root, name)


def test_a_mask_without_image(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    root = written(tmp_path, layout)
    _, other = layout.files()[0]
    lonely = Path(other).with_stem(layout.mask.format("7"))
    mask(root / lonely)
    sentence = rf"1 mask\(s\) in .* have no image: {lonely.name}; take them out, or add"
    with pytest.raises(ValueError, match=sentence):
        read_segmentation(root, name)


def test_a_mask_of_another_size(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    root = written(tmp_path, layout)
    _, other = layout.files()[0]
    mask(root / other, (10, 12))
    found = read_segmentation(root, name)
    (case,) = [one for one in found.cases if one.mask == root / other]
    sentence = rf"the image .* is 12 x 10 pixels, its mask .*{Path(other).name} 10 x 12; .*same"
    with pytest.raises(ValueError, match=sentence):
        read_case(found, case)


FRONT = half(SIZE)
BORDER = FRONT.copy()
BORDER[:, 4:6] = IGNORE


def indexed(values: NDArray[np.uint8], colours: list[int]) -> Image.Image:
    picture = Image.fromarray(values, "P")
    picture.putpalette(colours)
    return picture


PLAIN: dict[str, Callable[[], Image.Image]] = {
    "0-1": lambda: Image.fromarray(FRONT),
    "0-255": lambda: Image.fromarray(FRONT * np.uint8(255)),
    "one bit": lambda: Image.fromarray(FRONT.astype(bool)),
    "palette": lambda: indexed(FRONT, [0, 0, 0, 200, 10, 10]),
    "palette of one bit": lambda: indexed(FRONT, [0, 0, 0, 255, 255, 255]),
    "colours": lambda: Image.fromarray(np.repeat(FRONT[..., None] * np.uint8(255), 3, axis=2)),
    "16 bits": lambda: Image.fromarray(FRONT.astype(np.uint16) * np.uint16(65535)),
    "16 bits of 12": lambda: Image.fromarray(FRONT.astype(np.uint16)),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("name", LAYOUTS)
def test_binary_masks_of_every_kind(tmp_path: Path, name: str, kind: str) -> None:
    layout = LAYOUTS[name]
    layout = layout._replace(mask_ending="png")
    root = written(tmp_path, layout)
    for _, other in layout.files():
        PLAIN[kind]().save(root / other)
    check(read_segmentation(root, name), root, layout)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (BORDER, "has the values 0, 1, 255"),
        (np.tile(np.array([0, 128, 255], np.uint8), (12, 4))[:, :10], "has the values 0, 128, 255"),
        (np.tile(np.array([0, 1, 2], np.uint8), (12, 4))[:, :10], "has the values 0, 1, 2"),
    ],
)
@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_of_three_values(
    tmp_path: Path, name: str, values: NDArray[np.uint8], told: str
) -> None:
    """Refused with the file's name; with named classes 255 is left out."""
    layout = LAYOUTS[name]
    layout = layout._replace(mask_ending="png")
    root = written(tmp_path, layout)
    for _, other in layout.files():
        Image.fromarray(values).save(root / other)
    found = read_segmentation(root, name)
    assert found.cases[0].mask is not None
    with pytest.raises(
        ValueError, match=rf"mask .*{found.cases[0].mask.name} {told}.*classes\.txt"
    ):
        read_case(found, found.cases[0])
    (root / "classes.txt").write_text("tissue\npolyp\n" + ("edge\n" if values.max() < 255 else ""))
    found = read_segmentation(root, name)
    if 128 in values:
        with pytest.raises(ValueError, match="has the label 128 at row 0, column 1; the 2 classes"):
            read_case(found, found.cases[0])
    else:
        assert np.array_equal(read_case(found, found.cases[0])[1], values)


def test_masks_that_are_all_black(tmp_path: Path, form: tuple[str, Layout]) -> None:
    name, layout = form
    layout = layout._replace(mask_ending="png", stems=("1", "2", "3"))
    root = written(tmp_path, layout)
    for _, other in layout.files():
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(root / other)
    notes: list[str] = []
    baselines(*split(read_segmentation(root, name)), draws=2000, seed=0, notes=notes)
    assert len(notes) == 2 and all("shows any foreground: look" in note for note in notes)


TROUBLES = {
    "size": ("12 x 10 pixels, its mask", "same"),
    "values": ("has the values 0, 1, 255", "classes.txt"),
    "without": ("have no mask in", "take them out"),
    "alone": ("have no image", "take them out"),
    "damaged": ("cannot be read", ".png"),
    "picture": ("cannot be decoded", "mend it, or take it out"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_command_names_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trouble: str
) -> None:
    """Exit 2, one sentence, and neither a folder nor a file is left."""
    layout = COMMON._replace(stems=tuple("abcdef"))
    data, out = written(tmp_path / "data", layout), tmp_path / "out"
    place = data / "masks" / "d.png"
    if trouble == "size":
        mask(place, (10, 12))
    elif trouble == "values":
        Image.fromarray(BORDER).save(place)
    elif trouble == "without":
        place.unlink()
    elif trouble == "alone":
        (data / "images" / "d.png").unlink()
    elif trouble == "damaged":
        place.write_bytes(place.read_bytes()[:40])
    else:
        picture = data / "images" / "d.png"
        picture.write_bytes(picture.read_bytes()[:40])
    before = sorted(tmp_path.rglob("*"))
    assert run(main, ["finetune", str(data), "demo", *OPTIONS, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "d.png" in error
    assert all(part in error for part in TROUBLES[trouble])
    assert sorted(tmp_path.rglob("*")) == before
