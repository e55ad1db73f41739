"""Pools, scores and subsets: what is valid, and the sentence for what is not."""

import jax.numpy as jnp
import numpy as np
import pandas
import pytest

from selection import Pool, Scores, Subset


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"scores": [1.0, np.nan]}, r"scores holds nan at index 1"),
        ({"features": [[1.0, 2.0], [np.inf, 0.0]]}, r"features holds inf at index \(1, 0\)"),
        (
            {"features": [1.0, 2.0]},
            r"features has shape \(2,\); it must be \(n, d\) or \(n, A, d\)",
        ),
        ({"features": np.zeros((0, 3))}, r"features has shape \(0, 3\)"),
        ({"features": [["a", "b"]]}, r"features has dtype <U1; it must hold real numbers"),
        ({"scores": [1, 2], "features": np.eye(3)}, r"different lengths: scores 2, features 3"),
        ({"labels": [0.5, 1.0]}, r"labels holds 0.5 at index 0, not a whole number"),
        ({"labels": ["a", "b", None]}, r"labels holds None at index 2; labels must be all whole"),
        ({"groups": np.array(["a", 1], dtype=object)}, r"groups holds 1 at index 1; labels must"),
        ({"labels": np.array([1, None], dtype=object)}, r"labels holds None at index 1; labels"),
        ({"labels": [["a", "b"]]}, r"labels has shape \(1, 2\); it must be \(n,\)"),
        ({"labels": [[0, 1]]}, r"labels has shape \(1, 2\); it must be \(n,\)"),
        (
            {"features": np.ma.masked_equal([[1.0], [2.0]], 2)},
            r"features is masked at index \(1,",
        ),
        ({"labels": np.ma.masked_equal([3, 4], 4)}, r"labels is masked at index 1; every value"),
        ({"scores": np.ma.masked_equal([3, 4.0], 3)}, r"scores is masked at index 0; every value"),
        ({"ids": ["a", "b", "a"]}, r"ids holds a more than once"),
        ({"ids": [4, 4]}, r"ids holds 4 more than once"),
        ({}, r"a pool needs at least one of scores"),
    ],
)
def test_bad_pools(arrays: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Pool.of(**arrays)


def test_single_precision_and_mapped_arrays_are_not_copied(tmp_path) -> None:
    array = np.random.default_rng(0).random((10, 3), dtype=np.float32)
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(Pool.of(features=mapped).features, np.memmap)
    assert Pool.of(features=array).features is array


def test_half_precision_becomes_single() -> None:
    for dtype in (jnp.float16, jnp.bfloat16):
        pool = Pool.of(features=jnp.array([[1.5, 2.0]], dtype), scores=jnp.array([3]))
        assert pool.features.dtype == np.float32
        assert pool.features.tolist() == [[1.5, 2.0]]
        assert pool.scores.values.dtype == np.float64


def test_take_keeps_rows_together() -> None:
    pool = Pool.of(
        scores=[1.0, 2.0, 3.0], features=np.eye(3), labels=[5, 6, 7], ids=["b", "c", "a"]
    )
    part = pool.take(np.array([2, 0]))
    assert part.ids.tolist() == ["a", "b"]
    assert part.scores.values.tolist() == [3, 1]
    assert part.labels.tolist() == [7, 5]
    np.testing.assert_array_equal(part.features, np.eye(3)[[2, 0]])


@pytest.mark.parametrize(
    "names",
    [
        np.array(["pear", "apple", "pear", "fig"]),
        np.array([b"pear", b"apple", b"pear", b"fig"]),
        np.array(["pear", "apple", "pear", "fig"], dtype=object),
        pandas.Series(["pear", "apple", "pear", "fig"]),
        # The order of the categories does not count.
        pandas.Categorical(["pear", "apple", "pear", "fig"], categories=["pear", "fig", "apple"]),
    ],
)
def test_names_of_classes_become_their_positions(names) -> None:
    pool = Pool.of(labels=names, groups=names)
    assert pool.labels.tolist() == pool.groups.tolist() == [2, 0, 2, 1]
    assert pool.labels.dtype == np.int64


def test_whole_numbers_stay_as_they_are() -> None:
    for labels in ([7, 3, 7], [7.0, 3.0, 7.0], np.array([7, 3, 7], dtype=object)):
        assert Pool.of(labels=labels).labels.tolist() == [7, 3, 7]


def test_orientation_of_scores() -> None:
    assert Scores.of([1, 2], orientation="easy", name="aum").values.tolist() == [-1, -2]
    assert Scores.of([1, 2], seeds=3).provenance == {"seeds": 3}
    with pytest.raises(ValueError, match="orientation = 'up' is not one of hard, easy"):
        Scores.of([1, 2], orientation="up")
    with pytest.raises(ValueError, match="el2n holds inf at index 0"):
        Scores.of([np.inf], name="el2n")


def test_prefix_of_a_subset() -> None:
    subset = Subset.of([4, 2, 9], gains=[3, 2, 1], requested=3, nested=True)
    assert subset.prefix(2).indices.tolist() == [4, 2]
    assert subset.prefix(2).gains.tolist() == [3, 2]
    with pytest.raises(ValueError, match=r"budget = 4 is outside the valid range \[1, 3\]"):
        subset.prefix(4)
    with pytest.raises(ValueError, match="not nested"):
        Subset.of([4, 2, 9], requested=3).prefix(2)
