"""The stage `leakage`: groups, one pass for all sets, and what a killed process loses."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pretrain_jax.pipeline import comparison
from pretrain_jax.pipeline.comparison import compare
from pretrain_jax.segmentation import (
    FinetuneConfig,
    LeakageError,
    SegmentationSet,
    leakage,
    read_segmentation,
)
from pretrain_jax.synthesis import index_images, tables

CONFIG = FinetuneConfig()


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def segmentation(root: Path, groups: str, first: int = 100) -> SegmentationSet:
    """A set of as many cases as letters; the last one is the test case."""
    rows = []
    for number, group in enumerate(groups):
        picture(root / "images" / f"{number}.png", first + number)
        mask = np.zeros((12, 16), np.uint8)
        mask[3:9, 2:9] = 255
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        part = "test" if number == len(groups) - 1 else "training"
        rows.append(f"{number},{group.strip()},{part}\n")
    (root / "cases.csv").write_text("name,group,part\n" + "".join(rows))
    return read_segmentation(root)


def test_the_group_of_a_video_leaks(tmp_path: Path) -> None:
    """A video called as the test case's group is, in some folder."""
    path = tmp_path / "data" / "any" / "b.mp4"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for packet in stream.encode(
            av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")
        ):
            container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    index_images(tmp_path / "data", tmp_path / "index")
    out = tmp_path / "leakage"
    with pytest.raises(LeakageError, match=r"any/b\.mp4#0 ~ 1 \(group\)"):
        compare(tmp_path / "index", [segmentation(tmp_path / "leak", "ab")], out, config=CONFIG)
    # The folder is free for another set.
    found = compare(tmp_path / "index", [segmentation(tmp_path / "ok", "bc")], out, config=CONFIG)
    assert (found.counts["images"], found.counts["test_cases"]) == (1, 1)
    assert not any("not known" in note for note in found.notes)


def test_images_are_read_once_for_all_sets_and_shards_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        picture(tmp_path / "data" / f"{number}.png", number)
    index_images(tmp_path / "data", tmp_path / "index")
    sets = [segmentation(tmp_path / "one", "ab "), segmentation(tmp_path / "two", "cd", 200)]
    read: list[str] = []
    real = leakage._pixels

    def pixels(path: str, frame: int) -> np.ndarray:
        if path.endswith("data/5.png") and "data/5.png" not in read:
            read.append("data/5.png")
            raise KeyboardInterrupt
        read.append("/".join(Path(path).parts[-2:]))
        return real(path, frame)

    monkeypatch.setattr(leakage, "_pixels", pixels)
    monkeypatch.setattr(tables, "ROWS_OF_SHARD", 3)  # rows 0-1, 2-3, 4-6
    out = tmp_path / "leakage"
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "index", sets, out, config=CONFIG)
    assert [name for name in read if name.startswith("data")] == [
        f"data/{number}.png" for number in range(6)
    ]
    read[:] = ["data/5.png"]
    found = compare(tmp_path / "index", sets, out, config=CONFIG)
    again = [name for name in read[1:] if name.startswith("data")]
    assert again == ["data/4.png", "data/5.png", "data/6.png"]
    assert (found.counts["images"], found.counts["test_cases"]) == (7, 2)
    assert (found.counts["burned_text"], len(found.notes)) == (0, 2)
    assert "of 7 image(s) for pre-training (all images) none seems to show" in found.notes[0]
    assert "of 7 of 7 images and of 1 of 2 test cases is not known" in found.notes[1]
    assert sorted(path.name for path in out.glob("[!.]*")) == ["manifest.json", "stage.json"]


def test_leaks_of_every_set_and_writing_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        picture(tmp_path / "data" / f"{number}.png", number)
    index_images(tmp_path / "data", tmp_path / "index")
    looked_at: list[str] = []

    def shows_text(frame: leakage.Frame) -> bool:
        looked_at.append(frame.name)
        return frame.name == "4.png"

    monkeypatch.setattr(comparison, "shows_text", shows_text)
    monkeypatch.setattr(comparison, "MOST", 3)
    out = tmp_path / "leakage"
    sets = [segmentation(tmp_path / "one", "ab"), segmentation(tmp_path / "two", "ab", 2)]
    with pytest.raises(LeakageError, match=r"1 test case\(s\) of two .* 3\.png ~ 1 \(pixels\)"):
        compare(tmp_path / "index", sets, out, config=CONFIG)
    found = compare(tmp_path / "index", sets[:1], out, config=CONFIG)
    assert looked_at == 2 * ["0.png", "2.png", "4.png"]
    assert found.counts["burned_text"] == 1
    assert found.notes[0].startswith(
        "of 3 image(s) for pre-training (one in 2 images) 1 seem to show burned-in writing, such "
        "as 4.png"
    )
