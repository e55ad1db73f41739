"""The stream of batches: order, workers, resuming, unreadable images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import Batch, Crop, ImageSet, Loader, TooManySkippedError, find_images
from pretrain_jax.data.loader import decode_all, measure_statistics

COUNT, BATCH = 12, 5


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    folder = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        pixels = np.full((9, 11, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return find_images(folder)


def loader(images: ImageSet, workers: int = 0, seed: int = 3, **options: object) -> Loader:
    return Loader(images, Crop(4), batch_size=BATCH, seed=seed, workers=workers, **options)  # type: ignore[arg-type]


def take(source: Loader, count: int) -> list[Batch]:
    return [next(source) for _ in range(count)]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        np.array_equal(a.images, b.images) and np.array_equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


def test_every_epoch_is_another_permutation(images: ImageSet) -> None:
    source = loader(images)
    drawn = np.concatenate([batch.indices for batch in take(source, 5)])
    source.close()
    first, second = drawn[:COUNT], drawn[COUNT : 2 * COUNT]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first.tolist() != second.tolist()


def test_images_belong_to_their_indices(images: ImageSet) -> None:
    source = loader(images)
    for batch in take(source, 3):
        np.testing.assert_array_equal(batch.images[:, 2, 2, 0], 20 * batch.indices)
    source.close()


def test_resumes_where_it_was_with_any_number_of_workers(images: ImageSet) -> None:
    """Twice in a row, with and without worker processes."""
    source = loader(images)
    whole = take(source, 8)
    source.close()
    source = loader(images)
    take(source, 2)
    state = source.state()
    source.close()
    for workers, done in ((0, 2), (1, 4), (1, 5), (0, 7)):
        source = loader(images, workers)
        source.restore(state)
        upto = {2: 4, 4: 5, 5: 7, 7: 8}[done]
        assert same(take(source, upto - done), whole[done:upto])
        state = source.state()
        source.close()


def test_hosts_share_the_batches_of_one(images: ImageSet) -> None:
    whole, halves = (Loader(images, Crop(4), batch_size=6, seed=1), [])
    for host in range(2):
        halves.append(Loader(images, Crop(4), batch_size=6, seed=1, host=host, hosts=2))
    for _ in range(3):
        parts = [next(half) for half in halves]
        joined = Batch(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        assert same([joined], [next(whole)])
    with pytest.raises(ValueError, match="not a positive multiple of 4 host"):
        Loader(images, Crop(4), batch_size=6, host=0, hosts=4)


def test_unreadable_images_are_replaced_counted_and_listed(
    tmp_path: Path, images: ImageSet
) -> None:
    for number, file in enumerate(images.files):
        content = Path(file).read_bytes()
        # Image 3 is cut off, image 7 is no image.
        damaged = {3: content[:45], 7: b"junk"}.get(number, content)
        (tmp_path / f"{number:02d}.png").write_bytes(damaged)
    found = find_images(tmp_path)
    source = loader(found, skip_at_most=0.2)
    drawn = np.concatenate([batch.indices for batch in take(source, 6)])
    assert not {3, 7} & set(drawn.tolist())
    assert sorted(Path(name).name for name in source.skipped) == ["03.png", "07.png"]
    state = source.state()
    again = loader(found, skip_at_most=0.2)
    again.restore(state)
    assert again.skipped == source.skipped
    source.close()
    again.close()
    strict = loader(found, skip_at_most=0.1)
    with pytest.raises(TooManySkippedError, match=r"2 of 12 images.*share 0.1.*(03|07)\.png"):
        take(strict, 6)
    strict.close()


def test_stops_when_nothing_can_be_read(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"junk")
    found = find_images(tmp_path)
    source = loader(found, skip_at_most=1.0)
    with pytest.raises(
        TooManySkippedError, match=r"3 of 3 images cannot be read \(3 undecodable\):"
    ):
        next(source)
    source.close()
    for number in range(3, 20):
        (tmp_path / f"{number:02d}.png").write_bytes(b"junk")
    # One sentence: the first few and how many more.
    told = r"^20 of 20 images cannot be read \(20 undecodable\): [^\n]*0\.png [^\n]*; and 10 more$"
    with pytest.raises(TooManySkippedError, match=told):
        decode_all(find_images(tmp_path), Crop(4, kind="centre"))


def test_nan_pixels_stop_with_the_files_name(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.full((6, 6), np.nan))
    source = loader(find_images(tmp_path))
    with pytest.raises(ValueError, match=r"bad.npy holds nan at row 0, column 0"):
        next(source)
    source.close()


def test_statistics() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 4, 4, 3)).astype(np.uint16)
    mean, std = measure_statistics(pixels)
    np.testing.assert_allclose(mean, (pixels / 65535).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(std, (pixels / 65535).std(axis=(0, 1, 2)))
    with pytest.raises(ValueError, match="channel 1 is constant"):
        measure_statistics(pixels * np.array([1, 0, 1], np.uint16))
