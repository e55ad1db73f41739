"""Selections: storage recounted by brute force, every rule against its definition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hardset.folder import Manifest, digest, read_manifest
from pretrain_jax.synthesis import (
    METHODS,
    Images,
    ProbeModel,
    Saliency,
    index_images,
    propose,
    score,
    select,
    toy_model_ratio,
)
from pretrain_jax.synthesis import read_features as features_of
from pretrain_jax.synthesis.picking import Budget, Candidates, kept_picks, parse_rule
from pretrain_jax.synthesis.tables import Table
from replica import solve
from selection import InfoMax, MedDEL, Pool, parse_method
from tests.pretrain_jax.synthesis.conftest import COUNT
from theory import FixedAngle, Hard, PerceptronProblem

Rows = dict[str, NDArray]


def source(method: str, index: Path) -> Path:
    kind = METHODS[method].source
    name = "random-crop" if kind == "patches" else "images"
    return index if kind == "index" else index.parent / "scores" / name


def picked(out: Path) -> Rows:
    table = Table(out, "selection")
    return table.take(np.arange(table.rows))


@pytest.fixture
def sizes(index: Path) -> NDArray[np.int64]:
    return Images(index).pixel_counts()


@pytest.mark.parametrize(
    "method", ["random", "meddel", "infomax", "hard-images", "optidel-s", "random-patches"]
)
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_storage_is_counted_exactly(
    index: Path,
    image_scores: Path,
    crop_scores: Path,
    sizes: NDArray[np.int64],
    tmp_path: Path,
    method: str,
    ratio: float,
) -> None:
    """One image at a time: what is kept, that it fits, and that hardly more would have."""
    made = select(source(method, index), tmp_path / "s", method=method, ratio=ratio, seed=1)
    rows, group = picked(tmp_path / "s"), made.parameters["patches"]
    full = int(sum(sizes))
    kept = sum(int(sizes[rows["image"][k]]) for k in range(0, len(rows["image"]), group))
    assert len(rows["image"]) % group == 0
    assert made.counts["pixels"] == kept
    assert made.counts["pixels_full"] == full
    assert made.counts["images"] == len(rows["image"]) // group
    assert made.counts["storage_ratio"] == kept / full
    assert ratio * full - max(sizes) < kept <= ratio * full
    name = "patch" if group > 1 else "image"
    assert len(np.unique(rows[name])) == len(rows[name])
    assert rows["order"].tolist() == list(range(len(rows["order"])))
    if method not in ("random",):
        assert np.all(np.diff(rows["margin"]) <= 0)  # hardest first


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of images of 2000 to 10800 pixels and of files of other sizes than that."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(4)
    for number, (height, width) in enumerate([(40, 50), (90, 120), (60, 70), (54, 200)] * 6):
        pixels = rng.integers(0, 256, (height, width), np.uint8) // (1 + 40 * (number % 5))
        (folder / "data").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "data" / f"{number:02d}.png")
    index_images(folder / "data", folder / "index")
    return folder / "index"


def test_what_does_not_fit_is_skipped(mixed: Path, tmp_path: Path) -> None:
    """One image of 2000 pixels fits into 5 % of them, whichever comes first."""
    areas = Images(mixed).pixel_counts()
    for ratio in (0.017, 0.05, 0.25, 0.6):
        for seed in range(8):
            out = tmp_path / f"{ratio}-{seed}"
            made = select(mixed, out, method="random", ratio=ratio, seed=seed)
            kept = picked(out)["image"]
            left = int(ratio * sum(areas)) - sum(areas[kept])
            assert left >= 0
            assert min(np.delete(areas, kept)) > left
            assert made.counts["pixels"] == sum(areas[kept])
    with pytest.raises(ValueError, match=r"not one image fits .* a ratio of 0\.01\d* is enough"):
        select(mixed, tmp_path / "none", method="random", ratio=0.01)


def test_storage_in_bytes(mixed: Path, tmp_path: Path) -> None:
    """Both shares hold, and nothing that is left fits into both."""
    areas = Images(mixed).pixel_counts()
    sizes = np.array([p.stat().st_size for p in sorted((mixed.parent / "data").iterdir())])
    for seed in range(8):
        out = tmp_path / f"{seed}"
        made = select(mixed, out, method="random", ratio=0.25, seed=seed, storage="bytes")
        kept = picked(out)["image"]
        left = int(0.25 * sum(areas)) - sum(areas[kept]), int(0.25 * sum(sizes)) - sum(sizes[kept])
        assert min(left) >= 0
        others = np.delete(np.arange(len(areas)), kept)
        assert not np.any((areas[others] <= left[0]) & (sizes[others] <= left[1]))
        assert made.counts["bytes"] == sum(sizes[kept])
        assert made.counts["bytes_full"] == sum(sizes)
        assert made.counts["images_full"] == len(sizes)
    assert select(mixed, tmp_path / "all", method="all", storage="bytes").counts["images"] == 24
    with pytest.raises(ValueError, match=r"of .* bytes .* not one image fits"):
        select(mixed, tmp_path / "none", method="random", ratio=0.001, storage="bytes")
    with pytest.raises(ValueError, match="storage = 'files' is not one of pixels, bytes"):
        select(mixed, tmp_path / "none", method="random", ratio=0.5, storage="files")  # type: ignore[arg-type]


def test_patches_in_another_order_than_hardness() -> None:
    """However they are picked: never more than the budget, and less by two images at most."""
    rng = np.random.default_rng(0)
    pixels = rng.choice([100, 300, 2000, 9000], 400)
    margins = rng.random(400).astype(np.float32)
    candidates = Candidates(np.arange(400), pixels, margins)
    for rule in ("random", "easy", "moderate", "mixture:w=0.5", "hard", "window:lo=0.1"):
        for most in (150, 3000, 50_000, 100_000):
            kept = kept_picks(parse_rule(rule), candidates, Budget(most), 4, 1)
            assert np.all(np.diff(margins[kept.rows]) <= 0)
            used = sum(int(pixels[kept.rows[k]]) for k in range(0, len(kept.rows), 4))
            assert used <= most
            assert used > most - 2 * 9000
            assert used >= 2000 or most < 3000 or rule == "mixture:w=0.5"
            assert len(kept.rows) % 4 == 0 and len(set(kept.rows.tolist())) == len(kept.rows)


@pytest.mark.parametrize("rule", ["meddel:exact=true", "ccs:bins=3", "k-center"])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5])
def test_rules_of_numbers_fill_the_budget(rule: str, ratio: float) -> None:
    """Those that take how many are wanted; an image of seven times the size is among the first."""
    rng = np.random.default_rng(1)
    pixels = rng.choice([1551, 1600, 1984, 10800], 40)
    features = rng.normal(2, 1, (40, 4)).astype(np.float32)
    candidates = Candidates(np.arange(40), pixels, rng.random(40).astype(np.float32), features)
    most = int(ratio * pixels.sum())
    kept = kept_picks(parse_rule(rule), candidates, Budget(most), 1, 1)
    left = most - int(pixels[kept.rows].sum())
    assert len(set(kept.rows.tolist())) == len(kept.rows)
    assert 0 <= left < max(most / 1000, np.delete(pixels, kept.rows).min())


def test_everything(index: Path, tmp_path: Path) -> None:
    made = select(index, tmp_path / "all", method="all")
    assert sorted(picked(tmp_path / "all")["image"].tolist()) == list(range(COUNT))
    assert made.counts["storage_ratio"] == 1
    assert made.notes == []
    for wrong in ({"ratio": 0.5}, {"rule": "hard"}):
        with pytest.raises(ValueError, match="keeps everything"):
            select(index, tmp_path / "other", method="all", **wrong)


def test_optidel_keeps_the_hardest_patches_with_their_boxes(
    crops: Path, crop_scores: Path, tmp_path: Path
) -> None:
    select(crop_scores, tmp_path / "s", method="optidel-s", ratio=0.3)
    rows, proposals = picked(tmp_path / "s"), Table(crops)
    margins = Table(crop_scores).column("margin")
    hardest = np.argsort(-margins, kind="stable")[: len(rows["patch"])]
    expected = proposals.take(hardest)
    for name in ("patch", "image", "top", "left", "height", "width"):
        assert np.array_equal(rows[name], expected[name])
    assert np.array_equal(rows["margin"], margins[hardest])


def ranks(margins: NDArray, chosen: NDArray) -> list[int]:
    """Ranks of chosen rows, the hardest is 0."""
    return np.sort(np.argsort(np.argsort(-margins, kind="stable"))[chosen]).tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("hard", lambda n, k: range(k)),
        ("easy", lambda n, k: range(n - k, n)),
        ("moderate", lambda n, k: range((n - k + 1) // 2, (n - k + 1) // 2 + k)),
        ("window:lo=0.25", lambda n, k: range(round(n / 4), round(n / 4) + k)),
    ],
)
def test_policies_by_rank(crop_scores: Path, tmp_path: Path, rule: str, expected: Any) -> None:
    select(crop_scores, tmp_path / "s", method="optidel-s", ratio=0.3, rule=rule)
    table = Table(crop_scores)
    rows = picked(tmp_path / "s")
    position = {int(patch): row for row, patch in enumerate(table.column("patch"))}
    chosen = np.array([position[int(patch)] for patch in rows["patch"]])
    found = ranks(table.column("margin"), chosen)
    wanted = list(expected(table.rows, len(chosen)))
    assert found == wanted
    assert len(found) >= 8


def test_mixture_and_random(crop_scores: Path, tmp_path: Path) -> None:
    table = Table(crop_scores)
    margins, patches = table.column("margin"), table.column("patch")
    select(crop_scores, tmp_path / "m", method="optidel-s", ratio=0.3, rule="mixture:w=0.5")
    kept = picked(tmp_path / "m")["patch"]
    hardest = patches[np.argsort(-margins)][: len(kept) // 2]
    assert np.isin(hardest, kept).mean() > 0.9  # rounding to whole images
    drawn = []
    for seed in (0, 0, 1):
        out = tmp_path / f"r{len(drawn)}"
        select(crop_scores, out, method="random-patches", ratio=0.3, seed=seed)
        drawn.append(set(picked(out)["patch"].tolist()))
    assert drawn[0] == drawn[1] != drawn[2]


def test_selectors_are_those_of_selection(image_scores: Path, tmp_path: Path) -> None:
    """The same subset as a direct call with the number that fitted."""
    table = Table(image_scores)
    pool = Pool.of(
        ids=table.column("image"), scores=table.column("margin"), features=features_of(image_scores)
    )
    for method, selector in (("infomax", InfoMax()), ("meddel", MedDEL(exact=True))):
        select(image_scores, tmp_path / method, method=method, ratio=0.5, seed=3)
        kept = picked(tmp_path / method)
        direct = selector.select(pool, len(kept["image"]), 3)
        assert len(set(direct.indices.tolist()) & set(kept["image"].tolist())) >= len(direct) - 1
    select(image_scores, tmp_path / "ccs", method="hard-images", ratio=0.5, rule="ccs:bins=4")
    assert len(picked(tmp_path / "ccs")["image"]) >= 5


def test_patches_by_their_features(crops: Path, probe: ProbeModel, tmp_path: Path) -> None:
    """Every rule that compares them; the subset of a direct call with the number that fitted."""
    score(crops, probe, tmp_path / "scores", masks=3, seed=5, batch_size=16, features=True)
    table = Table(tmp_path / "scores")
    pool = Pool.of(
        ids=table.column("patch"),
        scores=table.column("margin"),
        features=features_of(tmp_path / "scores"),
    )
    rules = ("k-center", "herding", "facility-location", "d2", "meddel:exact=true", "infomax")
    for rule in (*rules, "badge"):
        out = tmp_path / rule.partition(":")[0]
        made = select(tmp_path / "scores", out, method="optidel-s", ratio=0.3, rule=rule, seed=3)
        kept = picked(out)["patch"]
        assert len(kept) >= 8 and made.counts["storage_ratio"] <= 0.3
        assert np.all(np.diff(picked(out)["margin"]) <= 0)
        if rule in ("k-center", "meddel:exact=true"):
            direct = parse_method(rule).select(pool, len(kept), 3)
            assert len(set(pool.ids[direct.indices]) & set(kept)) >= len(kept) - 4


def test_random_patches_without_scores(index: Path, crops: Path, tmp_path: Path) -> None:
    made = select(crops, tmp_path / "s", method="random-patches", ratio=0.2)
    assert np.all(np.isnan(picked(tmp_path / "s")["margin"]))
    assert made.parameters["proposer"] == "random-crop"
    with pytest.raises(ValueError, match="ranks by margin; give the folder of a stage score"):
        select(crops, tmp_path / "t", method="random-patches", ratio=0.2, rule="hard")


def test_too_few_patches_are_said(crop_scores: Path, tmp_path: Path) -> None:
    made = select(crop_scores, tmp_path / "s", method="optidel-s", ratio=1.0, patches=9)
    rows = Table(crop_scores).rows
    assert made.counts["patches"] == rows // 9 * 9
    assert made.notes[0].startswith(f"all {rows} candidates are used")
    assert made.counts["storage_ratio"] < 0.9


def test_rerun_and_digest(crop_scores: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"method": "optidel-s", "ratio": 0.3}
    first = select(crop_scores, tmp_path / "a", **arguments)
    assert select(crop_scores, tmp_path / "a", **arguments) == first
    assert digest(select(crop_scores, tmp_path / "b", **arguments)) == digest(first)
    assert isinstance(first, Manifest)
    assert first.inputs["score"] == digest(read_manifest(crop_scores))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "best"}, "method = 'best' is not one of all, random"),
        ({"ratio": 0.0}, r"ratio = 0 is outside the valid range \(0, 1\]"),
        ({"ratio": 1.5}, "ratio = 1.5 is outside"),
        ({"ratio": 1e-5}, "in which not one image of 4 patches fits"),
        ({"patches": 5}, "patches = 5 is not a square number"),
        ({"seed": -1}, "seed = -1 is outside"),
        ({"rule": "best"}, "rule = 'best' is not one of hard, easy"),
        ({"rule": ""}, "rule = '' is not one of hard, easy"),
        ({"rule": "hard-signed"}, "reconstruction errors have no sign"),
        ({"rule": "window"}, "takes the parameter 'lo'"),
        ({"rule": "window:lo=x"}, "'lo=x' is not option=number"),
        ({"rule": "window:lo=0.95", "ratio": 0.5}, "the window leaves"),
        ({"rule": "ccs:bin=3"}, "has no option 'bin'"),
        ({"rule": "k-center"}, "rule = 'k-center': .* needs features.* with score --features"),
        ({"rule": "badge"}, "rule = 'badge': .* needs .* features.* with score --features"),
        ({"rule": "s2l"}, "method 's2l' needs trajectories, which the pool lacks$"),
        ({"method": "optidel"}, "picks patches of saliency or sam; .* holds those of random-crop"),
        ({"method": "hard-images"}, "picks images; .* holds scores of patchs|picks images"),
        ({"method": "random"}, "is of stage score, not index"),
    ],
)
def test_bad_input(
    crop_scores: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    arguments = {"method": "optidel-s", "ratio": 0.3} | changed
    out = tmp_path / "s"
    with pytest.raises(ValueError, match=message):
        select(crop_scores, out, **arguments)
    # Nothing is left that would stop a corrected call.
    select(crop_scores, out, method="optidel-s", ratio=0.3)


def test_features_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "features.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"features\.npy holds no checksum"):
        features_of(tmp_path)


def test_fewer_patches_than_one_image(index: Path, tmp_path: Path) -> None:
    propose(index, tmp_path / "p", proposer=Saliency(patches=1, min_area=0.12))
    count = Table(tmp_path / "p").rows
    with pytest.raises(ValueError, match=f"there are {count} patches, fewer than the 64"):
        select(tmp_path / "p", tmp_path / "s", method="random-patches", ratio=0.5, patches=64)


def test_toy_model_ratio_is_the_best_of_a_grid() -> None:
    """No fraction of a fine grid has a smaller error in the theory."""
    best = toy_model_ratio(4.0, 10.0)
    fractions = np.append(np.linspace(0.05, 1, 39), best)
    problem = PerceptronProblem(4.0, fractions, probe=FixedAngle(np.deg2rad(10.0)), policy=Hard())
    errors = np.asarray(solve(problem).error)
    # optimal_fraction takes the smallest fraction within 1e-6 of the least error.
    assert errors[-1] <= errors.min() * (1 + 2e-6)
    assert best < 1
    for arguments, message in (
        ((0.0, 30.0), "alpha_total = 0 is outside"),
        ((4.0, 91.0), "theta_deg = 91 is outside"),
        ((4.0, 30.0, "ccs"), "no policy of the theory"),
    ):
        with pytest.raises(ValueError, match=message):
            toy_model_ratio(*arguments)
