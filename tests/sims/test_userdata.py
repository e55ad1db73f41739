"""A user's own arrays and files: labels, reports, certificates, refusals."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from sims.fit import run_fit
from sims.maxmargin.solver import MaxMarginStatus
from sims.separate import run_solve, solve_user_data

# Separable by hand: the margin is held by the first two, w = (0, 1), margin 1.
FEATURES = np.array([[3.0, 1.0], [-3.0, 1.0], [1.0, -2.0], [0.5, 4.0]])
LABELS = np.array([1, 1, -1, 1])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    np.save(tmp_path / "X.npy", FEATURES)
    np.save(tmp_path / "y.npy", LABELS)
    return tmp_path / "X.npy", tmp_path / "y.npy"


@pytest.mark.parametrize("labels", [LABELS, (LABELS + 1) // 2, LABELS > 0, LABELS.astype(float)])
def test_both_codes_of_labels(labels: np.ndarray) -> None:
    solution = solve_user_data(FEATURES, labels)
    assert solution.status is MaxMarginStatus.SOLVED
    assert np.allclose(solution.direction, [0.0, 1.0], rtol=0, atol=1e-14)
    assert np.isclose(solution.margin, 1.0, rtol=1e-13)
    assert solution.support.tolist() == [0, 1]
    assert np.allclose(solution.duals, 0.5, rtol=0, atol=1e-13)


def test_one_class_is_solved_honestly() -> None:
    solution = solve_user_data(FEATURES[[0, 1, 3, 3]], np.zeros(4))
    assert np.allclose(solution.direction, [0.0, -1.0], rtol=0, atol=1e-14)
    around = solve_user_data(np.array([[1.0, 0], [-1, 1], [-1, -1], [2, 0]]), np.ones(4))
    assert around.status is MaxMarginStatus.NOT_SEPARABLE


@pytest.mark.parametrize("scale", [5e-310, 1e300])
def test_any_unit_of_the_features(scale: float) -> None:
    solution = solve_user_data(FEATURES * scale, LABELS)
    assert solution.status is MaxMarginStatus.SOLVED
    # 5e-310 itself has 14 digits.
    assert np.allclose(solution.direction, [0.0, 1.0], rtol=0, atol=1e-12)
    assert np.isclose(solution.margin / scale, 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (FEATURES[0], LABELS, r"features has shape \(2,\)"),
        (FEATURES[:0], LABELS[:0], r"features has shape \(0, 2\)"),
        (FEATURES, LABELS[:3], r"labels has shape \(3,\); it must be \(4,\)"),
        (FEATURES, LABELS[:, None], r"labels has shape \(4, 1\)"),
        (FEATURES, np.array([1, 2, 1, 2]), "labels holds 2"),
        (FEATURES, np.array([-1, 0, 1, 1]), "labels holds -1 and 0 together"),
        (FEATURES, np.array([1, np.nan, 1, 1]), r"labels holds nan at index \(1,\)"),
        (FEATURES * [[1], [1e-300], [1], [1]], LABELS, "features holds row 1 of size 3e-300"),
        (FEATURES * [1, np.inf], LABELS, r"features holds inf at index \(0, 1\)"),
        (FEATURES.astype(str), LABELS, "features has dtype"),
        (FEATURES.astype(complex), LABELS, "features has dtype complex128"),
    ],
)
def test_bad_arrays_are_named(features: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve_user_data(features, labels)


def test_report_and_saved_direction(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "w.npy"
    code, text, _ = run_solve(*files, out, as_json=True)
    report = json.loads(text)
    assert code == 0
    assert report["status"] == "solved"
    assert report["direction"] == str(out)
    assert np.allclose(np.load(out), [0.0, 1.0], rtol=0, atol=1e-14)
    assert np.isclose(report["margin"], 1.0)
    assert report["bracket"] <= 1e-10
    assert report["support_vectors"]["indices"] == [0, 1]
    assert report["farkas_certificate"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "w.npy", "y.npy"]
    code, text, _ = run_solve(*files, out)
    assert code == 0
    assert "support vectors  2" in text


def test_default_output_is_in_the_current_folder(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for _ in range(2):  # a repeated run finds its own file
        run_solve(*files)
    np.save(files[1], -LABELS)
    run_solve(*files)
    first, second = (
        np.load(tmp_path / "here" / name) for name in ("direction.npy", "direction-2.npy")
    )
    assert np.allclose(first, -second, rtol=0, atol=1e-14)
    assert len(list((tmp_path / "here").iterdir())) == 2


def test_nothing_is_overwritten(files: tuple[Path, Path], tmp_path: Path) -> None:
    before = files[0].read_bytes()
    for path in (files[0], tmp_path / "notes.txt"):
        path.touch()
        with pytest.raises(ValueError, match="exists already; name another one"):
            run_solve(*files, path)
    assert files[0].read_bytes() == before
    for path, reason in (
        (tmp_path / "absent" / "w.npy", "No such file"),
        (tmp_path, "it is a folder"),
        (tmp_path / ("w" * 260), "File name too long"),
    ):
        with pytest.raises(OSError, match=f"output file {path} cannot be written: {reason}"):
            run_solve(*files, path)


def test_a_direction_that_cannot_be_saved_is_printed(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Another direction of the same length has the name: only the solve can tell."""
    out = tmp_path / "w.npy"
    np.save(out, np.array([1.0, 0.0]))
    before = out.read_bytes()
    code, text, trouble = run_solve(*files, out, as_json=True)
    assert code == 0
    assert np.allclose(json.loads(text)["direction"], [0.0, 1.0], rtol=0, atol=1e-14)
    assert str(out) in trouble and "holds another direction" in trouble
    assert out.read_bytes() == before


def test_not_separable_reports_certificate(files: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(files[1], np.ones(4))
    out = tmp_path / "w.npy"
    code, text, _ = run_solve(*files, out, as_json=True)
    report = json.loads(text)
    assert code == 3
    assert report["status"] == "not_separable"
    assert report["direction"] is None
    assert not out.exists()
    certificate = report["farkas_certificate"]
    weights = np.array(certificate["duals"])
    rows = FEATURES[certificate["indices"]]
    assert np.all(weights > 0)
    assert np.isclose(np.sum(weights), 1.0)
    scale = weights @ np.linalg.norm(rows, axis=1)
    assert np.linalg.norm(weights @ rows) <= 1e-12 * scale
    assert certificate["residual"] <= 1e-12
    assert "vanishes" in run_solve(*files, out)[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"1,2\n3,4\n", "is no .npy file"),
        (b"", "is no .npy file"),
        (np.ones((4, 2), complex), "dtype complex128; it must hold real numbers"),
        (np.array([{"a": 1}], dtype=object), "pickled Python objects"),
        (np.ones((0, 2)), "at least one example"),
        (np.ones((4, 0)), "at least one feature"),
        (np.ones(4), r"has shape \(4,\); it must be \(P, N\)"),
        (np.ones((4, 2, 1)), r"has shape \(4, 2, 1\); it must be \(P, N\)"),
        (np.array([[1.0, 2], [np.nan, 1], [1, 1], [1, 2]]), r"holds nan at index \(1, 0\)"),
        (np.ones((3, 2)), r"labels has shape \(4,\); it must be \(3,\)"),
        (np.zeros((4, 2), "M8[s]"), "it must hold real numbers"),
        (np.zeros((4, 2), [("x", float)]), "it must hold real numbers"),
    ],
)
def test_bad_files_are_named(
    content: bytes | np.ndarray | None, words: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.npy"
    if isinstance(content, np.ndarray):
        np.save(bad, content)
    elif content is not None:
        bad.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        run_solve(bad, files[1], tmp_path / "w.npy")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w.npy").exists()


def test_damaged_and_hostile_files_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    whole = files[0].read_bytes()
    bad = tmp_path / "bad.npy"
    hostile = [
        whole[:20],
        whole[:-9],
        whole[:20] + b"(" * 9 + whole[29:],
        # Shapes that NumPy's own reader takes for sizes, or for 10^30 numbers.
        whole.replace(b"(4, 2), ", b"(True,4)"),
        whole.replace(b"(4, 2), }   ", b"(10**30,4)}"),
        whole.replace(b"(4, 2), }        ", b"(999999999999,2)}"),
    ]
    for content in hostile:
        assert content != whole
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"features file .*bad.npy is (damaged|cut short)"):
            run_solve(bad, files[1])
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ValueError, match=r"features file .*pipe.npy is no file"):
        run_solve(tmp_path / "pipe.npy", files[1])
    with pytest.raises(ValueError, match="is a folder"):
        run_solve(tmp_path, files[1])


def test_the_other_byte_order_is_read(files: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(files[0], FEATURES.astype(">f4"))
    np.save(files[1], LABELS.astype(">i2"))
    run_solve(*files, tmp_path / "w.npy")
    assert np.allclose(np.load(tmp_path / "w.npy"), [0.0, 1.0], rtol=0, atol=1e-14)


def test_a_loss_is_minimised_with_weights_and_intercept(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Square loss: the normal equations of weighted ridge regression, solved by NumPy."""
    sizes = np.array([1.0, 2.0, 0.0, 0.5])
    np.save(tmp_path / "s.npy", sizes)
    out = tmp_path / "w.npy"
    code, text, trouble = run_fit(*files, "square", 0.3, True, tmp_path / "s.npy", out, True)
    report = json.loads(text)
    design = np.hstack([FEATURES, np.ones((4, 1))])
    matrix = design.T @ (sizes[:, None] * design) + np.diag([0.6, 0.6, 0.0])
    *weights, offset = np.linalg.solve(matrix, design.T @ (sizes * LABELS))
    assert (code, trouble, report["status"], report["weights"]) == (0, "", "solved", str(out))
    assert np.allclose(np.load(out), weights, rtol=1e-9)
    assert np.isclose(report["intercept"], offset, rtol=1e-9)
    assert report["certificate"] <= 1e-10
    margins = LABELS * (design @ [*weights, offset])
    assert np.isclose(report["training_loss"], sizes @ (1 - margins) ** 2 / 2 / 3.5, rtol=1e-9)
    assert np.isclose(report["training_error"], sizes @ (margins < 0) / 3.5)
    assert np.isclose(report["weight_norm2"], np.dot(weights, weights), rtol=1e-9)
    code, text, _ = run_fit(*files, "square", 0.3, True, tmp_path / "s.npy", out)
    assert code == 0
    assert "training error" in text


def test_one_class_with_an_intercept_has_no_logistic_minimiser(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    np.save(files[1], np.zeros(4))
    out = tmp_path / "w.npy"
    code, text, _ = run_fit(*files, "logistic", 0.3, True, None, out, True)
    report = json.loads(text)
    assert code == 3
    assert report["status"] == "no_minimiser"
    assert report["weights"] is None and report["objective"] is None
    assert not out.exists()
    assert "no minimiser" in run_fit(*files, "logistic", 0.3, True, None, out)[1]


@pytest.mark.parametrize(
    ("sizes", "loss", "lam", "words"),
    [
        (np.ones(3), "hinge", 1.0, r"sample_weight has shape \(3,\); it must be \(4,\)"),
        (np.array([1.0, -2, 1, 1]), "hinge", 1.0, "sample_weight holds -2 at index 1"),
        (np.zeros(4), "hinge", 1.0, "sample_weight is zero everywhere"),
        (np.array([1.0, np.nan, 1, 1]), "hinge", 1.0, r"sample_weight holds nan at index \(1,\)"),
        (np.ones((4, 1)), "hinge", 1.0, r"sample_weight file .* must be \(P,\)"),
        (np.ones(4), "hinge", 0.0, "lam = 0"),
        (np.ones(4), "hinge", np.inf, "lam = inf"),
        (np.ones(4), "absolute", 1.0, "absolute"),
    ],
)
def test_bad_losses_and_weights_are_named(
    sizes: np.ndarray,
    loss: str,
    lam: float,
    words: str,
    files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "s.npy", sizes)
    with pytest.raises(ValueError, match=words) as caught:
        run_fit(*files, loss, lam, False, tmp_path / "s.npy", tmp_path / "w.npy")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w.npy").exists()
