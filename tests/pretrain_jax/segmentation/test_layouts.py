"""Readers of published layouts on generated trees: what is found, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import find_images
from pretrain_jax.segmentation import (
    PUBLISHED,
    SegmentationSet,
    read_case,
    read_pair,
    read_pretraining,
    read_segmentation,
    split,
    write_image_list,
)
from tests.pretrain_jax.segmentation.trees import half, image, mask

# Images and masks of each layout as they lie in the archive, two cases and more.
TREES = {
    "kvasir-instrument": [
        ("images/ckcu 9ä.01.jpg", "masks/ckcu 9ä.01.png"),
        ("images/b.JPG", "masks/b.png"),
    ],
    "kvasir-seg": [("images/cju0.jpg", "masks/cju0.jpg"), ("images/cju1.jpg", "masks/cju1.jpg")],
    "imageclefmed": [("images/cl8.jpg", "masks/cl8.png"), ("images/clb.jpg", "masks/clb.png")],
    "etis": [
        ("ETIS-LaribPolypDB/1.tif", "Ground Truth/p1.tif"),
        ("ETIS-LaribPolypDB/10.tif", "Ground Truth/p10.tif"),
    ],
    "polypgen2021": [
        ("data_C1/images_C1/100H0001.jpg", "data_C1/masks_C1/100H0001_mask.jpg"),
        ("data_C6/images_C6/7.jpg", "data_C6/masks_C6/7_mask.jpg"),
        (
            "sequenceData/positive/seq2/images_seq2/0.jpg",
            "sequenceData/positive/seq2/masks_seq2/0_mask.jpg",
        ),
        (
            "sequenceData/positive/seq2/images_seq2/1.jpg",
            "sequenceData/positive/seq2/masks_seq2/1_mask.jpg",
        ),
    ],
    "cvc-300": [("images/149.png", "masks/149.png"), ("images/150.png", "masks/150.png")],
    "cvc-clinicdb": [
        ("Original/1.tif", "Ground Truth/1.tif"),
        ("Original/2.tif", "Ground Truth/2.tif"),
    ],
    "cvc-colondb": [("1.bmp", "p1.bmp"), ("2.bmp", "p2.bmp")],
}


def tree(root: Path, layout: str) -> Path:
    for seed, (one, other) in enumerate(TREES[layout]):
        image(root / one, seed)
        mask(root / other)
    return root


def pair_tree(root: Path, *stems: str) -> Path:
    for seed, stem in enumerate(stems):
        image(root / "images" / f"{stem}.png", seed)
        mask(root / "masks" / f"{stem}.png")
    return root


def test_every_published_layout_has_a_tree() -> None:
    assert set(TREES) == set(PUBLISHED)


@pytest.mark.parametrize("layout", TREES)
def test_images_find_their_masks(tmp_path: Path, layout: str) -> None:
    found = read_segmentation(tree(tmp_path, layout), layout)
    pairs = {(str(c.image.relative_to(tmp_path)), str(c.mask)) for c in found.cases}
    assert pairs == {(one, str(tmp_path / other)) for one, other in TREES[layout]}
    for case in found.cases:
        pixels, labels = read_case(found, case)
        assert pixels.shape == (12, 10, 3)
        # JPEG blurs the edge of the mask by less than a pixel.
        assert np.array_equal(labels, half())


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    root = tree(tmp_path, "cvc-300")
    (root / "images" / "._149.png").write_bytes(b"resource fork")
    (root / "images" / "Thumbs.db").write_bytes(b"")
    assert len(read_segmentation(root, "cvc-300")) == 2


def test_the_masks_of_the_original_colondb_are_told_apart(tmp_path: Path) -> None:
    root = tree(tmp_path, "cvc-colondb")
    mask(root / "s1.bmp")
    mask(root / "c1.bmp")
    assert [case.name for case in read_segmentation(root, "cvc-colondb").cases] == ["1", "2"]


def test_groups_of_sequences(tmp_path: Path) -> None:
    found = read_segmentation(tree(tmp_path, "polypgen2021"), "polypgen2021")
    assert [case.group for case in found.cases] == ["", "", "seq2", "seq2"]
    clinic = tree(tmp_path / "clinic", "cvc-clinicdb")
    (clinic / "metadata.csv").write_text("frame_id,sequence_id\n1,4\n2,4\n")
    cases = read_segmentation(clinic, "cvc-clinicdb").cases
    assert {case.group for case in cases} == {"sequence 4"}


def test_a_table_of_sequences_that_fits_no_case_is_refused(tmp_path: Path) -> None:
    clinic = tree(tmp_path, "cvc-clinicdb")
    (clinic / "metadata.csv").write_text("frame_id,sequence_id\n1,4\n002,4\n")
    with pytest.raises(ValueError, match=r"metadata\.csv gives no sequence to 1 of 2 .*: 2; its"):
        read_segmentation(clinic, "cvc-clinicdb")


def test_files_beside_the_folders_of_polypgen(tmp_path: Path) -> None:
    root = tree(tmp_path, "polypgen2021")
    for name in ("data_C1.zip", "sequenceData/positive/seq_readme.txt"):
        (root / name).write_text("no folder")
    assert len(read_segmentation(root, "polypgen2021")) == 4


def test_names_of_composed_and_apart_letters_pair(tmp_path: Path) -> None:
    one, other = "\u00e9", "e\u0301"  # the same letter
    for number, forms in enumerate(((one, other), (other, one), (other, other))):
        image(tmp_path / "images" / f"{forms[0]}{number}.jpg", number)
        mask(tmp_path / "masks" / f"{forms[1]}{number}.png")
    (tmp_path / "cases.csv").write_text(
        "name,group\n" + "".join(f"{other}{number},g{number}\n" for number in range(3)),
        encoding="utf-8",
    )
    cases = read_pair(tmp_path).cases
    found = [(case.name, case.group) for case in cases]
    assert found == [(f"{one}{number}", f"g{number}") for number in range(3)]
    for case in cases:
        assert case.mask is not None and case.mask.is_file() and case.image.is_file()


def test_the_published_split_of_kvasir_instrument(tmp_path: Path) -> None:
    root = tree(tmp_path, "kvasir-instrument")
    (root / "train.txt").write_text("ckcu 9ä.01\n", encoding="utf-8")
    (root / "test.txt").write_text("b.jpg\n")
    training, test = split(read_segmentation(root, "kvasir-instrument"))
    assert [case.name for case in training.cases] == ["ckcu 9ä.01"]
    assert [case.name for case in test.cases] == ["b"]
    (root / "train.txt").write_text("b\n")
    with pytest.raises(ValueError, match="both list b"):
        read_segmentation(root, "kvasir-instrument")
    (root / "train.txt").write_text("c\n")
    with pytest.raises(ValueError, match="unknown c"):
        read_segmentation(root, "kvasir-instrument")


@pytest.mark.parametrize("layout", TREES)
def test_a_missing_mask_is_named(tmp_path: Path, layout: str) -> None:
    root = tree(tmp_path, layout)
    one, other = TREES[layout][-1]
    (root / other).unlink()
    name = Path(one).name
    # Where no mask with the ending _mask is left, masks are looked for under the images' names.
    with pytest.raises(ValueError, match=rf"1 of \d image\(s\) in .* have no mask .*: {name}"):
        read_segmentation(root, layout)


def test_a_mask_without_image_is_named(tmp_path: Path) -> None:
    root = pair_tree(tmp_path, "a", "b")
    (root / "images" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"1 mask\(s\) in .* have no image: b\.png"):
        read_pair(root)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    root = pair_tree(tmp_path, "a")
    image(root / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png"):
        read_pair(root)


@pytest.mark.parametrize("layout", [*TREES, "folder"])
def test_an_empty_folder_says_what_is_missing(tmp_path: Path, layout: str) -> None:
    with pytest.raises(
        ValueError, match=f"{tmp_path} (does not hold|holds neither|is empty)|empty"
    ):
        read_segmentation(tmp_path, layout)


def test_unknown_layouts_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout = 'kvasir' is not one of folder, kvasir-inst"):
        read_segmentation(tmp_path, "kvasir")
    with pytest.raises(ValueError, match="does not exist; unpack"):
        read_segmentation(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not one of ldpolypvideo"):
        read_pretraining(tmp_path, "kvasir-seg")


def test_other_sizes_of_image_and_mask(tmp_path: Path) -> None:
    root = pair_tree(tmp_path, "a")
    mask(root / "masks" / "a.png", (10, 12))
    found = read_pair(root)
    with pytest.raises(ValueError, match=r"case a .* 12 x 10 pixels, its mask .* 10 x 12"):
        read_case(found, found.cases[0])


def labelled(root: Path, values: np.ndarray, names: str = "back\nfront\n") -> SegmentationSet:
    image(root / "images" / "a.png")
    (root / "masks").mkdir()
    Image.fromarray(values).save(root / "masks" / "a.png")
    (root / "classes.txt").write_text(names)
    return read_pair(root)


def test_labels_of_several_classes(tmp_path: Path) -> None:
    values = half() * np.uint8(2)
    values[0, 0] = 255
    found = labelled(tmp_path, values, "back\nmiddle\n\nfront\n")
    assert found.classes == ("back", "middle", "front")
    assert np.array_equal(read_case(found, found.cases[0])[1], values)


def test_a_label_beyond_the_classes_is_named(tmp_path: Path) -> None:
    found = labelled(tmp_path, half() * np.uint8(2))
    with pytest.raises(ValueError, match="label 2 at row 0, column 0; the 2 classes are 0 to 1"):
        read_case(found, found.cases[0])


def test_a_list_of_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"classes\.txt does not name two or more"):
        labelled(tmp_path, half(), "only\n")


def test_groups_and_parts_from_a_table(tmp_path: Path) -> None:
    root = pair_tree(tmp_path, "a", "b", "c")
    (root / "cases.csv").write_text("name,group,part\nb,p1,test\na,p2,train\nc,p2,training\n")
    training, test = split(read_pair(root))
    assert [case.name for case in test.cases] == ["b"]
    assert [case.group for case in training.cases] == ["p2", "p2"]
    for text, complaint in (
        ("name,group,part\nb,p,test\na,p,training\nc,q,training\n", "on both sides: p"),
        ("name,part\nb,test\na,training\n", r"does not name 1 case\(s\): c"),
    ):
        (root / "cases.csv").write_text(text)
        with pytest.raises(ValueError, match=complaint):
            split(read_pair(root))
    for text, complaint in (
        ("name\na\n", "needs the column name, and group or part"),
        ("name,group\nd,p\n", "'d' is no case"),
        ("name,group\na,p\na,q\n", "'a' is listed twice"),
        ("name,part\na,validation\n", "part = 'validation' of 'a'"),
    ):
        (root / "cases.csv").write_text(text)
        with pytest.raises(ValueError, match=complaint):
            read_pair(root)


def test_a_group_is_never_divided(tmp_path: Path) -> None:
    stems = [f"{number:02d}" for number in range(20)]
    root = pair_tree(tmp_path, *stems)
    rows = [f"{stem},patient {int(stem) % 6}" for stem in stems]
    (root / "cases.csv").write_text("\n".join(["name,group", *rows]))
    found = read_pair(root)
    sides = set()
    for seed in range(5):
        training, test = split(found, test_share=0.3, seed=seed)
        assert not set(training.groups) & set(test.groups)
        assert len(training) + len(test) == 20
        # Groups have 3 or 4 cases: 6 are wanted, exceeded by less than a group.
        assert 6 <= len(test) < 6 + 4
        sides.add(tuple(sorted(set(test.groups))))
        assert split(found, test_share=0.3, seed=seed)[1] == test
    assert len(sides) > 1


def test_a_single_group_cannot_be_split(tmp_path: Path) -> None:
    root = pair_tree(tmp_path, "a", "b")
    (root / "cases.csv").write_text("name,group\na,p\nb,p\n")
    with pytest.raises(ValueError, match=r"cannot be split: 2 of 2 case\(s\) in 1 group"):
        split(read_pair(root))


def test_sets_for_pretraining(tmp_path: Path) -> None:
    root = tmp_path / "ld"
    for number, name in enumerate(
        ("TrainValid/Images/1/0001.jpg", "TrainValid/Images/1/0002.jpg", "Test/Images/1/0001.jpg")
    ):
        image(root / name, number)
    (root / "TrainValid" / "Annotations" / "1").mkdir(parents=True)
    (root / "TrainValid" / "Annotations" / "1" / "0001.txt").write_text("0")
    (root / "wild").mkdir()
    (root / "wild" / "7.avi").write_bytes(b"")
    cases = read_pretraining(root, "ldpolypvideo")
    assert [case.group for case in cases] == [
        "Test/Images/1",
        "TrainValid/Images/1",
        "TrainValid/Images/1",
        "7",
    ]
    write_image_list(cases[:3], tmp_path / "frames.txt")
    listed = find_images(tmp_path / "frames.txt")
    assert [Path(file).resolve() for file in listed.files] == [c.image for c in cases[:3]]

    root = tmp_path / "hk"
    for number, name in enumerate(
        (
            "labeled-images/lower-gi-tract/pathological-findings/polyps/a.jpg",
            "unlabeled-images/images/b.jpg",
            "segmented-images/images/a.jpg",
        )
    ):
        image(root / name, number)
    assert [case.name for case in read_pretraining(root, "hyper-kvasir")] == [
        "labeled-images/lower-gi-tract/pathological-findings/polyps/a.jpg",
        "unlabeled-images/images/b.jpg",
    ]
    for layout in ("ldpolypvideo", "hyper-kvasir"):
        with pytest.raises(ValueError, match=r"holds (neither|none)"):
            read_pretraining(tmp_path / "hk" / "segmented-images", layout)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("folder", "cases.csv"),
        ("folder", "classes.txt"),
        ("kvasir-instrument", "train.txt"),
        ("cvc-clinicdb", "metadata.csv"),
    ],
)
def test_lists_are_utf_8(tmp_path: Path, layout: str, name: str) -> None:
    tree(tmp_path, "kvasir-seg" if layout == "folder" else layout)
    (tmp_path / name).write_bytes("name,group\nkäse,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{tmp_path / name} is not text in UTF-8"):
        read_segmentation(tmp_path, layout)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    tree(tmp_path, "kvasir-instrument")
    (tmp_path / "train.txt").write_text("b\n", encoding="utf-8-sig")
    (tmp_path / "test.txt").write_text("ckcu 9ä.01\n", encoding="utf-8-sig")
    found = read_segmentation(tmp_path, "kvasir-instrument")
    assert {case.name: case.part for case in found.cases} == {"b": "training", "ckcu 9ä.01": "test"}


def test_what_is_no_table(tmp_path: Path) -> None:
    tree(tmp_path, "kvasir-seg")
    (tmp_path / "cases.csv").write_text(f'name,group\n"{"x" * 200_000}",a\n')
    with pytest.raises(ValueError, match=r"cases\.csv is no CSV table: line \d+: field larger"):
        read_pair(tmp_path)


def test_a_mask_without_any_class_is_named(tmp_path: Path) -> None:
    """Every pixel is left out; one that is not suffices."""
    root = tree(tmp_path, "imageclefmed")
    (root / "classes.txt").write_text("tissue\npolyp\n")
    labels = np.full((12, 10), 255, np.uint8)
    for name in ("cl8", "clb"):
        Image.fromarray(labels).save(root / f"masks/{name}.png")
        labels[3, 4] = 1
    found = read_pair(root)
    with pytest.raises(ValueError, match=r"case cl8 of .*every pixel of .*cl8\.png is 255"):
        read_case(found, found.cases[0])
    assert np.count_nonzero(read_case(found, found.cases[1])[1] != 255) == 1


def renamed(root: Path, layout: str, mask_name: str) -> Path:
    """The layout's tree with other names of the masks; {} is the image's name."""
    for seed, (one, other) in enumerate(TREES[layout]):
        image(root / one, seed)
        mask((root / other).with_stem(mask_name.format(Path(one).stem)))
    return root


APART = [layout for layout in TREES if layout != "cvc-colondb"]


@pytest.mark.parametrize("layout", APART)
@pytest.mark.parametrize("ending", ["{}_mask", "{}_segmentation", "{}", "{}-Mask"])
def test_names_of_masks_in_every_layout(tmp_path: Path, layout: str, ending: str) -> None:
    found = read_segmentation(renamed(tmp_path, layout, ending), layout)
    assert len(found) == len(TREES[layout])
    for case in found.cases:
        assert case.mask is not None and case.mask.stem == ending.format(case.image.stem)


def test_the_image_of_polypgen_with_an_underscore_more(tmp_path: Path) -> None:
    root = tree(tmp_path, "polypgen2021")
    for stem in ("C3_EndoCV2021_00489_", "C3_EndoCV2021_00490"):
        image(root / f"data_C3/images_C3/{stem}.jpg")
        mask(root / f"data_C3/masks_C3/{stem.rstrip('_')}_mask.jpg")
    found = read_segmentation(root, "polypgen2021")
    pairs = {case.image.stem: case.mask.stem for case in found.cases if case.mask is not None}
    assert pairs["C3_EndoCV2021_00489_"] == "C3_EndoCV2021_00489_mask"
    assert len(found) == 6
    # Beside an image without it, it could be of either.
    image(root / "data_C3/images_C3/C3_EndoCV2021_00489__.jpg")
    with pytest.raises(ValueError, match="the mask C3_EndoCV2021_00489_mask may be of"):
        read_segmentation(root, "polypgen2021")


@pytest.mark.parametrize("layout", [*TREES, "folder"])
def test_an_archive_one_folder_deeper(tmp_path: Path, layout: str) -> None:
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "notes.txt").write_text("")
    tree(tmp_path / "Archive v1", "cvc-300" if layout == "folder" else layout)
    found = read_segmentation(tmp_path, layout)
    assert len(found) >= 2
    if layout not in ("polypgen2021", "cvc-colondb"):
        other = tmp_path / "second"
        tree(other, "cvc-300" if layout == "folder" else layout)
        with pytest.raises(ValueError, match=r"holds several sets \(Archive v1, second\)"):
            read_segmentation(tmp_path, layout)


@pytest.mark.parametrize("layout", ["folder", "kvasir-seg", "cvc-300", "imageclefmed"])
def test_folders_train_and_test_are_a_split(tmp_path: Path, layout: str) -> None:
    for number, part in enumerate(("train", "train", "test")):
        image(tmp_path / "images" / part / f"{number}.png", number)
        mask(tmp_path / "masks" / part / f"{number}_mask.png")
    found = read_segmentation(tmp_path, layout)
    training, test = split(found)
    assert [case.name for case in training.cases] == ["train/0", "train/1"]
    assert [case.name for case in test.cases] == ["test/2"]


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_folder_val_is_trained_on_unless_it_is_the_only_test(tmp_path: Path, name: str) -> None:
    for number, part in enumerate(("train", name)):
        image(tmp_path / "images" / part / f"{number}.png", number)
        mask(tmp_path / "masks" / part / f"{number}.png")
    training, test = split(read_pair(tmp_path))
    assert [case.name for case in training.cases] == ["train/0"]
    assert [case.name for case in test.cases] == [f"{name}/1"]
    image(tmp_path / "images" / "test" / "2.png")
    mask(tmp_path / "masks" / "test" / "2.png")
    training, test = split(read_pair(tmp_path))
    assert sorted(case.name for case in training.cases) == sorted(["train/0", f"{name}/1"])
    assert [case.name for case in test.cases] == ["test/2"]


def test_images_in_other_folders_are_named(tmp_path: Path) -> None:
    image(tmp_path / "images" / "patient 1" / "a.png")
    mask(tmp_path / "masks" / "patient 1" / "a.png")
    with pytest.raises(ValueError, match=r"such as patient 1/a\.png; move all images into"):
        read_pair(tmp_path)
    image(tmp_path / "images" / "b.png")
    with pytest.raises(ValueError, match=r"such as patient 1/a\.png; move all images into"):
        read_pair(tmp_path)


def test_capitals_do_not_matter(tmp_path: Path) -> None:
    for number, ending in enumerate(("PNG", "JPG", "Tif")):
        image(tmp_path / "Images" / f"{number}.{ending}", number)
        mask(tmp_path / "MASKS" / f"{number}_Mask.{ending}")
    assert len(read_pair(tmp_path)) == 3
    clinic = tree(tmp_path / "clinic", "cvc-clinicdb")
    (clinic / "Ground Truth").rename(clinic / "Ground truth")
    assert len(read_segmentation(clinic, "cvc-clinicdb")) == 2


def test_what_a_folder_holds_in_their_place(tmp_path: Path) -> None:
    image(tmp_path / "img" / "a.png")
    mask(tmp_path / "annotations" / "a.png")
    for layout in ("folder", "kvasir-seg", "etis", "polypgen2021"):
        with pytest.raises(ValueError, match="; it holds the folders annotations, img"):
            read_segmentation(tmp_path, layout)


def test_an_image_without_mask_has_a_remedy(tmp_path: Path) -> None:
    root = pair_tree(tmp_path, "a", "b")
    image(root / "images" / "c.png")
    with pytest.raises(ValueError, match=r"1 of 3 .*: c\.png; take them out, or add their masks"):
        read_pair(root)
    mask(root / "masks" / "c_mask.png")
    mask(root / "masks" / "c_segmentation.png")
    with pytest.raises(ValueError, match="the image c has several masks: c_mask, c_segmentation"):
        read_pair(root)


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ValueError, match="images holds no image of this layout: it is empty"):
        read_pair(tmp_path)
    for name in ("a.dcm", "b.dcm", "c.npz"):
        (tmp_path / "images" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"no image .*, but 2 \.dcm, 1 \.npz; make PNG files"):
        read_pair(tmp_path)
