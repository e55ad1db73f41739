"""COCO run-length encoding against a decoder by brute force, round trips, the record."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardset.folder import Made, digest
from pretrain_jax.segmentation.coco import (
    Annotation,
    coco_record,
    encode_rle,
    write_coco,
    write_proposals,
)
from pretrain_jax.synthesis.tables import write_table
from tests.stages import open_stage

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def characters_to_counts(text: str) -> list[int]:
    """The compressed form read bit by bit, as two's complement numbers of five-bit digits."""
    counts: list[int] = []
    digits: list[str] = []
    for character in text:
        bits = f"{ord(character) - 48:06b}"
        digits.insert(0, bits[1:])
        if bits[0] == "0":
            word = "".join(digits)
            value = int(word, 2) - (1 << len(word) if word[0] == "1" else 0)
            counts.append(value + (counts[-2] if len(counts) >= 3 else 0))
            digits = []
    return counts


def paint(counts: list[int], height: int, width: int) -> np.ndarray:
    """Pixel by pixel down the columns."""
    mask = np.zeros((height, width), bool)
    place = 0
    for number, count in enumerate(counts):
        for _ in range(count):
            mask[place % height, place // height] = number % 2 == 1
            place += 1
    assert place == height * width
    return mask


def decoded(rle: dict) -> np.ndarray:
    return paint(characters_to_counts(rle["counts"]), *rle["size"])


@given(MASKS)
def test_round_trip_and_brute_force(mask: np.ndarray) -> None:
    rle = json.loads(json.dumps(encode_rle(mask)))
    assert rle["size"] == list(mask.shape)
    assert np.array_equal(decoded(rle), mask)
    # Runs alternate: only the first may be empty.
    assert 0 not in characters_to_counts(rle["counts"])[1:]


def test_long_runs_take_several_characters() -> None:
    mask = np.zeros((400, 500), bool)
    mask[17:390, 40:333] = True
    mask[100, 200] = False
    assert np.array_equal(decoded(encode_rle(mask)), mask)


def test_the_published_example() -> None:
    """The two rows whose runs the description of COCO's mask interface gives."""
    for row, runs in (([0, 0, 1, 1, 1, 0, 1], [2, 3, 1, 1]), ([1, 1, 1, 1, 1, 1, 0], [0, 6, 1])):
        mask = np.array(row, bool)[:, None]
        assert characters_to_counts(encode_rle(mask)["counts"]) == runs


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not \(H, W\) and bool"):
        encode_rle(np.zeros((2, 2)))


def test_a_record(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    mask[1, 2] = False
    regions = [Annotation(2, 1, mask, score=0.5), Annotation(1, 1, np.zeros((4, 4), bool))]
    record = coco_record([("a.png", 4, 4), ("b.png", 6, 8)], ["polyp"], regions)
    first, second = record["annotations"]
    assert (first["image_id"], first["category_id"], first["score"]) == (2, 1, 0.5)
    assert (first["area"], first["bbox"]) == (14, [2, 1, 5, 3])
    assert (second["area"], second["bbox"], "score" in second) == (0, [0, 0, 0, 0], False)
    write_coco(tmp_path / "coco.json", record)
    again = json.loads((tmp_path / "coco.json").read_text())
    assert again == record
    assert np.array_equal(decoded(again["annotations"][0]["segmentation"]), mask)
    with pytest.raises(ValueError, match="exists and is not replaced"):
        write_coco(tmp_path / "coco.json", record)
    with pytest.raises(ValueError, match=r"annotation 1 has the shape \(6, 8\), image a\.png"):
        coco_record([("a.png", 4, 4)], ["polyp"], [Annotation(1, 1, mask)])
    with pytest.raises(ValueError, match="is of image 2 and category 1; there are 1 images"):
        coco_record([("a.png", 4, 4)], ["polyp"], [Annotation(2, 1, mask)])


def proposals(root: Path, boxes: list[tuple[int, int, int, int, int]]) -> Path:
    """Finished stages index and propose; boxes are image, top, left, height, width."""
    index = open_stage(root / "index", "index", {}, None, {})
    images = {
        "image": [0, 1],
        "name": ["a.png", "b/v.mp4"],
        "frame": [-1, 7],
        "height": [30, 40],
        "width": [20, 50],
    }
    kinds = {"image": "int64", "name": "string", "frame": "int32", "height": "int32"}
    write_table(index.folder, "part", [images], kinds | {"width": "int32"})
    stage = open_stage(
        root / "saliency",
        "propose",
        {"proposer": "saliency"},
        0,
        {"index": digest(index.finish(Made({})))},
        locations={"index": index.folder},
    )
    names = ("image", "top", "left", "height", "width")
    rows: dict[str, list] = {name: [box[n] for box in boxes] for n, name in enumerate(names)}
    rows |= {
        "area": [box[3] * box[4] - 1 for box in boxes],
        "rank": [0] * len(boxes),
        "confidence": [0.5] * len(boxes),
    }
    write_table(
        stage.folder, "part", [rows], dict.fromkeys(rows, "int64") | {"confidence": "float32"}
    )
    stage.finish(Made({}))
    return stage.folder


def test_boxes_of_proposals(tmp_path: Path) -> None:
    folder = proposals(tmp_path, [(0, 3, 2, 10, 8), (1, 0, 0, 40, 50)])
    assert write_proposals(folder, tmp_path / "coco.json") == 2
    record = json.loads((tmp_path / "coco.json").read_text())
    assert record["categories"] == [{"id": 1, "name": "saliency"}]
    assert [one["file_name"] for one in record["images"]] == ["a.png", "b/v.mp4"]
    assert record["images"][1]["frame"] == 7 and "frame" not in record["images"][0]
    first, second = record["annotations"]
    assert (first["image_id"], first["bbox"], first["area"]) == (0, [2, 3, 8, 10], 80)
    assert first["segmentation"] == [[2, 3, 10, 3, 10, 13, 2, 13]]
    assert (second["image_id"], second["score"]) == (1, 0.5)
    with pytest.raises(ValueError, match="exists and is not replaced"):
        write_proposals(folder, tmp_path / "coco.json")
    with pytest.raises(ValueError, match="run python -m pretrain_jax propose"):
        write_proposals(tmp_path, tmp_path / "other.json")


def test_no_proposals_make_an_empty_list(tmp_path: Path) -> None:
    write_proposals(proposals(tmp_path, []), tmp_path / "coco.json")
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"] == []
