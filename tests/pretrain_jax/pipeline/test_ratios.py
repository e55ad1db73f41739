"""The ratios of a name, in a folder whose images and scores are there."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hardset.cli import run as run_command
from hardset.folder import Input, Made, Stage, Work, digest, read_manifest
from hardset.seal import seal_file
from pretrain_jax.__main__ import main
from pretrain_jax.pipeline import PipelineConfig, run_pipeline
from pretrain_jax.pipeline.ratios import known_ratios, recommend_ratio
from pretrain_jax.places import Places
from pretrain_jax.report.advice import RunAdvice, advice_of_run
from pretrain_jax.report.collect import collect
from pretrain_jax.report.page import page
from pretrain_jax.synthesis import index_images
from pretrain_jax.synthesis.scoring import SCORE, score_columns
from pretrain_jax.synthesis.tables import write_table
from tests.pretrain_jax.advices import ALL, half

COUNT = 12


def scored(run: Path, labels: list[str], group: str = "") -> Path:
    """A run with an index of a labelled list, and with scores of whole images."""
    images = run.parent / "images"
    images.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for number, label in enumerate(labels):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number:02d}.png")
        lines.append(f"{number:02d}.png\t{label}\t{group if number < 3 else ''}\n")
    (images / "list.txt").write_text("".join(lines))
    places = Places(run)
    index_images(images / "list.txt", places.index)

    def fill(work: Work) -> Made:
        columns = score_columns("image", 1)
        margins = np.linspace(0, 1, len(labels), dtype=np.float32)
        rows = {"image": np.arange(len(labels)), "margin": margins, "margin_0": margins}
        write_table(work.folder, "part", [rows], columns)
        np.save(work.folder / "features.npy", features(len(labels)))
        seal_file(work.folder / "features.npy")
        return Made({"rows": len(labels)})

    parameters = {"kind": "image", "masks": 1, "shards": 1}
    SCORE.open(places.scores("images"), parameters, 0, {"index": Input.of(places.index)}).run(fill)
    return run


def features(count: int) -> np.ndarray:
    return np.arange(2 * count, dtype=np.float32).reshape(count, 2)


class Recorded:
    """Stands in for the test, and keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, []

    def __call__(self, features: np.ndarray, labels: np.ndarray, **options: Any) -> Any:
        self.asked.append((np.array(features), list(labels), options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_test_gets_the_features_and_labels(tmp_path: Path) -> None:
    labels = ["a", "b", "c"] * (COUNT // 3)
    run = scored(tmp_path / "run", labels, "a video")
    test = Recorded(half(warnings=("Take care.",)))
    made = recommend_ratio(run, seed=3, recommend=test)
    ((asked, named, options),) = test.asked
    np.testing.assert_array_equal(asked, features(COUNT))
    assert named == labels
    groups = options.pop("groups")
    assert len(set(groups[:3])) == 1 and len(set(groups.tolist())) == COUNT - 2
    assert options == {"policies": ("hard",), "seed": 3, "explain": False}
    assert made.counts["ratio"] == 0.5 and made.counts["images"] == COUNT
    assert made.counts["tolerance"] == 0.0125
    assert made.notes[0] == f"K{half().sentence()[1:]}." and "keep 50 %" in half().sentence()
    assert "pre-training was not tested" in made.notes[1]
    assert made.notes[2].startswith("The 12 images are of 10 videos, sequences, patients or")
    assert made.notes[3:] == ["Take care."]
    assert recommend_ratio(run, seed=3, recommend=test) == made and len(test.asked) == 1
    assert known_ratios(run) == {"recommended": 0.5}
    # The command takes the number that is there, and asks nothing again.
    words = ["select", str(run), "--method", "hard-images", "--ratio", "recommended"]
    assert run_command(main, words) == 0
    assert (run / "selections/hard-images-50/manifest.json").is_file()


def test_keep_all_is_the_ratio_one(tmp_path: Path) -> None:
    run = scored(tmp_path / "run", ["a", "b"] * (COUNT // 2))
    made = recommend_ratio(run, recommend=Recorded(ALL))
    assert made.counts["ratio"] == 1.0
    assert made.notes[0].startswith("Keep all 500 rows: ")
    assert made.notes[0].endswith("the first step down needs about 700 images.")


def test_the_test_of_few_images_keeps_them_all(tmp_path: Path) -> None:
    """The real one: five folds of twelve images certify nothing, whatever the features."""
    run = scored(tmp_path / "run", ["a", "b"] * (COUNT // 2))
    made = recommend_ratio(run)
    assert made.counts["ratio"] == 1.0 and made.counts["error_all"] == made.counts["error_kept"]
    assert made.notes[0].startswith("Keep all 12 rows: ")


@pytest.mark.parametrize(
    ("labels", "answer", "why"),
    [
        ([""] * COUNT, None, "none of the 12 images of .* has a label, and without labels nothing"),
        (["a", "b"] * (COUNT // 2), ValueError("12 rows are too few"), "12 rows are too few"),
    ],
)
def test_refusals_name_the_reason_and_the_other_ratio(
    tmp_path: Path, labels: list[str], answer: Any, why: str
) -> None:
    run = scored(tmp_path / "run", labels)
    test = Recorded(answer)
    sentence = f"there is no 'recommended' one: {why}.*; give numbers or 'toy-model'"
    with pytest.raises(ValueError, match=sentence):
        recommend_ratio(run, recommend=test)
    assert not (run / "recommended").exists()
    assert len(test.asked) == (answer is not None)
    found = advice_of_run(collect(run), recommend=test)
    assert isinstance(found, str) and found.startswith("No advice: ")


def test_the_page_shows_the_tested_advice(tmp_path: Path) -> None:
    run = scored(tmp_path / "run", ["a", "b"] * (COUNT // 2))
    found = advice_of_run(collect(run), recommend=Recorded(half()))
    assert isinstance(found, RunAdvice)
    text = page(collect(run), "none", "none", found)
    assert "Keep 50 % (250 of 500 rows), the rows of smallest absolute margin" in text
    assert "What was measured on 12 images by cross validation" in text
    assert "<td>50.00</td><td>0.13</td><td>+0.005</td><td>0.0119</td><td>yes</td>" in text
    assert 'alt="Change of the student' in text
    untested = page(collect(run), "none", "none", "No advice: there are no labels.")
    assert "No advice: there are no labels. The number of the toy model below" in untested


def test_a_run_without_the_stages_has_no_advice(tmp_path: Path) -> None:
    """Each missing stage is named, and so are missing features."""
    run = scored(tmp_path / "run", ["a", "b"] * (COUNT // 2))
    (run / "scores/images/features.npy").unlink()
    assert "scores/images holds no features" in str(advice_of_run(collect(run)))
    (run / "scores/images/manifest.json").unlink()
    assert "the stage scores/images is not there" in str(advice_of_run(collect(run)))


def test_a_number_of_the_theory_is_never_called_recommended(tmp_path: Path) -> None:
    """Version 0.2.1 did, in a folder of the same name."""
    run = scored(tmp_path / "run", ["a", "b"] * (COUNT // 2))
    places = ("index", "scores/images")
    inputs = {place: Input(digest(read_manifest(run / place))) for place in places}
    old = Stage("recommend", parameters=("policy",), inputs=places)
    old.open(run / "recommended", {"policy": "hard"}, 0, inputs).run(lambda _: Made({"ratio": 0.1}))
    assert known_ratios(run) == {}
    with pytest.raises(ValueError, match=r"recommended.*polic"):
        recommend_ratio(run, recommend=Recorded(half()))


def test_a_pipeline_without_labels_is_refused_before_anything_is_written(
    config: PipelineConfig,
) -> None:
    trials = dataclasses.replace(config.mae, ratios=("recommended",))
    with pytest.raises(ValueError, match=r"the 24 images of .* has a label.*'toy-model'"):
        run_pipeline(dataclasses.replace(config, mae=trials))
    assert not Path(config.out).exists()
