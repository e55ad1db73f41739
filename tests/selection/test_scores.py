"""Every score against its formula, written out in loops or taken from another library."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from selection.scoring.features import c_rho, clip, influence, random_projection, reconstruction
from selection.scoring.output import (
    entropy,
    least_confidence,
    margin,
    middle_perplexity,
    reducible_loss,
)
from selection.scoring.recorder import TrainingDynamics
from selection.scoring.training import (
    aum,
    confidence,
    correctness,
    dual,
    dyn_unc,
    el2n,
    ensemble_errors,
    forgetting,
    gradient_norms,
    grand,
    learnability,
    loss,
    memorization,
    random_training_sets,
    tdds,
    train_on_random_subsets,
    variability,
)

SEEDS, EPOCHS, COUNT, CLASSES = 2, 5, 7, 4
LOGITS = 3 * np.random.default_rng(0).standard_normal((SEEDS, EPOCHS, COUNT, CLASSES))
LABELS = np.random.default_rng(1).integers(CLASSES, size=COUNT)
HIDDEN = np.random.default_rng(2).standard_normal((SEEDS, EPOCHS, COUNT, 3))
P = scipy.special.softmax(LOGITS, axis=-1)
ONEHOT = np.eye(CLASSES)[LABELS]
P_Y = np.take_along_axis(P, np.broadcast_to(LABELS[:, None], (*P.shape[:3], 1)), -1)[..., 0]
CORRECT = P.argmax(-1) == LABELS
DYNAMICS = TrainingDynamics.of(LOGITS, LABELS, HIDDEN)


def same(found, wanted) -> None:
    np.testing.assert_allclose(found.values, wanted, rtol=1e-12, atol=1e-13)


def test_scores_of_the_output() -> None:
    same(entropy(LOGITS), scipy.stats.entropy(P, axis=-1).mean((0, 1)))
    ordered = np.sort(P, axis=-1)
    same(margin(LOGITS), (ordered[..., -2] - ordered[..., -1]).mean((0, 1)))
    same(least_confidence(LOGITS[0]), 1 - P[0].max(-1).mean(0))
    same(entropy(LOGITS[0, 0]), scipy.stats.entropy(P[0, 0], axis=-1))


def test_uncertain_examples_are_hard() -> None:
    # The most uncertain ones have the highest scores, with and without class balance.
    logits = np.array([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0], [2.0, 0.0, 0.0]])
    for score in (entropy, margin, least_confidence):
        assert np.argsort(score(logits).values).tolist() == [0, 2, 1]


def test_extreme_logits_stay_finite() -> None:
    logits = np.array([[800.0, -800.0], [0.0, 1e-9]])
    dynamics = TrainingDynamics.of(logits, [1, 0])
    assert loss(dynamics).values[0] == 1600
    np.testing.assert_allclose(entropy(logits).values, [0, np.log(2)])
    np.testing.assert_allclose(el2n(dynamics).values, np.sqrt(2) * np.array([1, 0.5]))


def test_scores_of_the_dynamics() -> None:
    norms = np.linalg.norm(P - ONEHOT, axis=-1)
    same(el2n(DYNAMICS), norms.mean((0, 1)))
    same(el2n(DYNAMICS, first=2, last=3), norms[:, 2:4].mean((0, 1)))
    same(loss(DYNAMICS), -np.log(P_Y).mean((0, 1)))
    same(confidence(DYNAMICS), -P_Y.mean((0, 1)))
    same(variability(DYNAMICS), P_Y.std(axis=1).mean(0))
    same(correctness(DYNAMICS), -CORRECT.sum(axis=1).mean(0))
    same(ensemble_errors(DYNAMICS), (~CORRECT).sum((0, 1)))
    windows = [P_Y[:, t : t + 3].std(axis=1) for t in range(3)]
    same(dyn_unc(DYNAMICS, window=3), np.mean(windows, axis=(0, 1)))
    same(learnability(DYNAMICS, early=1), np.log(P_Y[:, -1] / P_Y[:, 1]).mean(0))
    np.testing.assert_allclose(
        DYNAMICS.trajectories, -np.log(P_Y).transpose(2, 0, 1).reshape(COUNT, -1), rtol=1e-12
    )


def test_dual_by_hand() -> None:
    # One example whose probability of its label 0 is .2, .4, .9: windows (.2, .4) and (.4, .9).
    chances = np.array([0.2, 0.4, 0.9])
    logits = np.log(np.stack([chances, 1 - chances], axis=-1))[:, None, :]
    dynamics = TrainingDynamics.of(logits, [0])
    windows = [0.2 / np.sqrt(2) * (1 - 0.3), 0.5 / np.sqrt(2) * (1 - 0.65)]
    same(dual(dynamics, window=2), [np.mean(windows)])
    same(dual(dynamics, window=2, first=1), windows[1:])
    same(dual(dynamics, window=2, last=1), windows[:1])


def test_dual_is_high_for_hard_and_uncertain_examples() -> None:
    # Of labels that swing alike the less likely one is first; a still one is last.
    swing = np.array([[0.2, 0.3, 0.2], [0.6, 0.7, 0.6], [0.1, 0.1, 0.1]]).T
    logits = np.log(np.stack([swing, 1 - swing], axis=-1))
    assert np.argsort(-dual(TrainingDynamics.of(logits, [0] * 3), window=3).values).tolist() == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize(("window", "first", "last"), [(3, 0, 4), (4, 1, 4), (3, 0, 3)])
def test_tdds_is_its_sum_over_windows(window: int, first: int, last: int) -> None:
    # rel_entr is p log(p / q), written by SciPy; the weights are those of the closed form.
    length, wanted = last - first + 1, np.zeros(COUNT)
    for trajectory in P[:, first : last + 1]:
        for k in range(length - window + 1):
            moves = scipy.special.rel_entr(
                trajectory[k + 1 : k + window], trajectory[k : k + window - 1]
            )
            steps = np.abs(moves).sum(axis=-1)
            norm = np.sqrt((window - 1) * steps.var(axis=0))
            wanted += 0.7 * 0.3 ** (length - window - k) * norm / SEEDS
    same(tdds(DYNAMICS, window=window, decay=0.7, first=first, last=last), wanted)


def test_tdds_of_steady_predictions_is_zero() -> None:
    same(tdds(TrainingDynamics.of(np.repeat(LOGITS[:, :1], 5, axis=1), LABELS), window=4), 0.0)


def test_aum_by_hand() -> None:
    # Two epochs, two examples: margins 2 and 1 of the first, -3 and 1 of the second.
    logits = np.array([[[3.0, 1, 0], [0, 3, 0]], [[0, -1, -4], [0, 0, 1]]])
    same(aum(TrainingDynamics.of(logits, [0, 2])), [-1.5, 1.0])


def test_grand_is_the_norm_of_the_last_layers_gradient() -> None:
    def cross_entropy(last_layer, hidden, label):
        weight, bias = last_layer
        return -jax.nn.log_softmax(hidden @ weight + bias)[label]

    random = np.random.default_rng(3)
    last_layer = (random.standard_normal((3, CLASSES)), random.standard_normal(CLASSES))
    hidden = HIDDEN[0, 0]
    logits = hidden @ last_layer[0] + last_layer[1]
    with jax.enable_x64(True):
        wanted = gradient_norms(cross_entropy, [last_layer], hidden, LABELS, batch=3)
    same(grand(TrainingDynamics.of(logits, LABELS, hidden)), wanted.values)


def test_gradient_norms_average_over_seeds() -> None:
    def loss_of(theta, x, y):
        return 0.5 * (jnp.dot(theta, x) - y) ** 2

    x, y = np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([1.0, -1.0])
    found = gradient_norms(loss_of, [np.zeros(2), np.ones(2)], x, y)
    residuals = np.array([[1.0, 1.0], [2.0, 4.0]])
    np.testing.assert_allclose(
        found.values, residuals.mean(0) * np.linalg.norm(x, axis=1), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("option", "never"), [("max+1", 4.0), ("0", 0.0), ("inf", np.finfo(float).max)]
)
def test_forgetting_by_hand(option: str, never: float) -> None:
    patterns = ["101010", "111111", "000000", "000001", "110011", "100100"]
    correct = np.array([[c == "1" for c in p] for p in patterns]).T
    logits = np.stack([correct, ~correct], axis=-1).astype(float)
    events = forgetting(TrainingDynamics.of(logits, np.zeros(6, int)), never_learned=option).values
    assert events.tolist() == [3, 0, never, 0, 1, 2]


@pytest.mark.parametrize("seeds", range(1, 31))
def test_forgetting_of_many_seeds(seeds: int) -> None:
    # Examples by column: never learned; learned and forgotten once by the first seed alone, never
    # by the others; forgotten twice by every seed.
    first = np.array([[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=bool).T
    later = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=bool).T
    correct = np.stack([first] + [later] * (seeds - 1))
    dynamics = TrainingDynamics.of(np.stack([correct, ~correct], -1).astype(float), [0, 0, 0])
    assert forgetting(dynamics, never_learned="inf").values.tolist() == [
        np.finfo(float).max,
        1.0,
        2.0,
    ]
    # In a seed that never learned it an example counts 2 + 1 events, or none.
    for option, wanted in (
        ("max+1", [3.0, (1 + 3 * (seeds - 1)) / seeds, 2.0]),
        ("0", [0.0, 1 / seeds, 2.0]),
    ):
        same(forgetting(dynamics, never_learned=option), wanted)


def test_memorization_counts() -> None:
    inside = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)
    correct = np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
    same(memorization(inside, correct), [1 - 0.5, 0.5 - 1])
    with pytest.raises(ValueError, match="example 1 is in no training set of the 2 models"):
        memorization(inside[[0, 3]] | [True, False], correct[[0, 3]])


def test_memorization_takes_flags_of_any_kind() -> None:
    inside = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    correct = np.array([[1, 1], [1, 0], [0, 1], [1, 1]])
    for kind in (bool, np.int8, np.uint8, np.float32, float):
        same(memorization(inside.astype(kind), correct.astype(kind).tolist()), [0.5, -0.5])


@pytest.mark.parametrize("wrong", [np.nan, 0.7, 2.0, -1.0])
def test_memorization_refuses_what_is_no_flag(wrong: float) -> None:
    flags = np.eye(2)
    broken = np.array([[1.0, 0.0], [wrong, 1.0]])
    sentence = rf"holds {wrong} at index \(1, 0\); it must be 0 or 1, or False or True"
    with pytest.raises(ValueError, match="inside " + sentence):
        memorization(broken, flags)
    with pytest.raises(ValueError, match="correct " + sentence):
        memorization(flags, broken)
    with pytest.raises(ValueError, match=r"correct of model 0 holds .* at index 3; it must be 0"):
        train_on_random_subsets(lambda rows, model: [1, 0, 1, wrong], 4, models=9)
    with pytest.raises(ValueError, match=r"correct of model 0 has shape \(1,\); it must be \(4,\)"):
        train_on_random_subsets(lambda rows, model: [1], 4, models=9)
    with pytest.raises(ValueError, match="inside has dtype <U1; it must be 0 or 1"):
        memorization(np.array([["a", "b"]]), flags)


def test_memorization_finds_the_examples_that_only_memory_gets_right() -> None:
    def nearest_neighbour(rows, model):
        # Points 0..19 on a line; the label of 10 is wrong, and only its own copy predicts it.
        x = np.arange(20)
        labels = (x >= 5).astype(int)
        labels[10] = 0
        nearest = rows[np.argmin(np.abs(x[:, None] - rows), axis=1)]
        return labels[nearest] == labels

    found = train_on_random_subsets(nearest_neighbour, 20, models=60, seed=1)
    assert np.argmax(found.values) == 10
    assert found.values[10] == 1
    inside = random_training_sets(20, 60, seed=1)
    assert np.all(inside.sum(axis=1) == 14)


def test_equal_logits_are_wrong_whatever_the_class() -> None:
    tied = TrainingDynamics.of(np.zeros((2, 2)), [0, 1])
    assert correctness(tied).values.tolist() == [0, 0]
    assert ensemble_errors(tied).values.tolist() == [1, 1]
    # Logits of few values, so that the largest is often shared; relabelled, nothing changes.
    random = np.random.default_rng(0)
    logits = random.integers(3, size=(2, 6, 200, 4)).astype(float)
    labels, names = random.integers(4, size=200), np.array([2, 3, 1, 0])
    original = TrainingDynamics.of(logits, labels)
    renamed = TrainingDynamics.of(logits[..., np.argsort(names)], names[labels])
    for score in (forgetting, correctness, ensemble_errors, aum, el2n):
        np.testing.assert_allclose(score(original).values, score(renamed).values, rtol=1e-12)
    own = np.take_along_axis(logits, np.broadcast_to(labels[:, None], (2, 6, 200, 1)), -1)
    alone = np.sum(logits >= own, axis=-1) == 1
    np.testing.assert_array_equal(original.correct, alone)


def test_el2n_and_grand_take_epochs_10_to_20_of_a_long_recording() -> None:
    random = np.random.default_rng(0)
    logits, hidden = random.standard_normal((2, 25, 6, 3)), random.standard_normal((2, 25, 6, 2))
    labels = random.integers(3, size=6)
    whole = TrainingDynamics.of(logits, labels, hidden)
    window = TrainingDynamics.of(logits[:, 9:20], labels, hidden[:, 9:20])
    for score in (el2n, grand):
        same(score(whole), score(window).values)
        assert score(whole).provenance == {"seeds": 2, "epochs": 11, "first": 9, "last": 19}
        # Either option alone reaches to the end of the recording on the other side.
        same(score(whole, first=0), score(whole, first=0, last=24).values)
        same(score(whole, last=3), score(whole, first=0, last=3).values)
        short = TrainingDynamics.of(logits[:, :19], labels, hidden[:, :19])
        same(score(short), score(short, first=0, last=18).values)
    same(loss(whole), loss(whole, first=0, last=24).values)


def test_reducible_loss_and_middle_perplexity() -> None:
    same(reducible_loss([3.0, 1.0], [1.0, 2.0]), [2.0, -1.0])
    values = middle_perplexity([5.0, 1.0, 3.0, 2.0, 4.0]).values
    assert np.argsort(-values)[0] == 2
    assert values.tolist() == [-0.5, -0.5, 0, -0.25, -0.25]
    # Equal losses have equal scores.
    assert middle_perplexity([1.0, 1.0, 7.0]).values.tolist() == [-0.25, -0.25, -0.5]


def test_clip_and_c_rho() -> None:
    random = np.random.default_rng(0)
    v, t, v2, t2 = random.standard_normal((4, 5, 3))
    cosines = [2 * a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(v, t, strict=True)]
    same(clip(v, t), cosines)
    same(clip(v, t, normalise=False), 2 * np.diag(v @ t.T))
    same(c_rho(v, t, v2, t2), np.array(cosines) - clip(v2, t2).values)
    with pytest.raises(ValueError, match="texts has norm zero at row 2"):
        clip(v, np.where(np.arange(5)[:, None] == 2, 0.0, t))


def test_reconstruction_counts_masked_tokens_only() -> None:
    random = np.random.default_rng(0)
    patches = random.standard_normal((3, 4, 6))
    masks = np.array([[1, 0, 0, 1], [0, 1, 1, 1]], dtype=bool)
    output = random.standard_normal((2, 3, 4, 6))
    wanted = [
        np.mean([np.mean((output[k, i, masks[k]] - patches[i, masks[k]]) ** 2) for k in range(2)])
        for i in range(3)
    ]
    same(reconstruction(output, patches, masks, normalised=False), wanted)
    output[:, :, ~masks[0] & ~masks[1]] = 1e9
    changed = np.where(masks[:, None, :, None], output, 1e9)
    same(reconstruction(changed, patches, masks, normalised=False), wanted)


def test_reconstruction_in_pixels_undoes_the_normalisation() -> None:
    random = np.random.default_rng(0)
    patches = 5 + 3 * random.standard_normal((3, 4, 6))
    masks = np.ones((1, 3, 4), dtype=bool)
    mean = patches.mean(-1, keepdims=True)
    scale = np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
    output = random.standard_normal((1, 3, 4, 6))
    target = reconstruction(output, patches, masks)
    same(target, np.mean((output[0] - (patches - mean) / scale) ** 2, axis=(1, 2)))
    pixel = reconstruction(output, patches, masks, space="pixel")
    same(pixel, np.mean((output[0] * scale + mean - patches) ** 2, axis=(1, 2)))


def test_influence_is_the_first_order_change_of_the_validation_loss() -> None:
    random = np.random.default_rng(0)
    gradients, validation = random.standard_normal((6, 9)), random.standard_normal((4, 9))
    same(influence(gradients, validation), [np.mean(validation @ g) for g in gradients])
    target = validation.mean(0)
    cosines = [g @ target / np.linalg.norm(g) / np.linalg.norm(target) for g in gradients]
    same(influence(gradients, validation, cosine=True), cosines)


def test_projection_keeps_inner_products() -> None:
    values = np.random.default_rng(0).standard_normal((2, 5000))
    products = np.array(
        [np.prod(random_projection(values, 50, seed=s), axis=0).sum() for s in range(200)]
    )
    error = products.std(ddof=1) / np.sqrt(len(products))
    assert abs(products.mean() - values[0] @ values[1]) < 4 * error
    # The exact variance of one product is (norm^2 norm^2 + (a.b)^2) / dimension.
    a, b = values
    wanted = np.sqrt(((a @ a) * (b @ b) + (a @ b) ** 2) / 50)
    # A sample variance of 200 is within 10% in its root.
    assert abs(products.std(ddof=1) / wanted - 1) < 0.25


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: entropy([1.0, 2.0]), r"logits has shape \(2,\); it must be \(n, C\)"),
        (lambda: entropy([[1.0, np.nan]]), "logits holds nan for example 0, class 1"),
        (lambda: margin([[1.0], [2.0]]), "logits has one class"),
        (lambda: TrainingDynamics.of(LOGITS, LABELS[:-1]), "lengths: labels 6, logits 7"),
        (lambda: TrainingDynamics.of(LOGITS, LABELS + 9), "the classes 0 to 3"),
        (lambda: TrainingDynamics.of(LOGITS, LABELS, HIDDEN[0]), "features has seeds, epochs"),
        (lambda: el2n(DYNAMICS, last=5), r"last = 5 is outside the valid range \[0, 4\]"),
        (lambda: el2n(DYNAMICS, first=3, last=2), "first = 3 is outside"),
        (lambda: dyn_unc(DYNAMICS, window=6), "window = 6 is outside"),
        (lambda: dual(DYNAMICS, window=6), "window = 6 is outside"),
        (lambda: tdds(DYNAMICS, window=2), r"window = 2 is outside the valid range \[3, 5\]"),
        (lambda: tdds(DYNAMICS, window=4, last=2), r"window = 4 is outside"),
        (lambda: tdds(DYNAMICS, window=3, decay=0.0), "decay = 0 is outside"),
        (lambda: tdds(replace(DYNAMICS, changes=None)), "tdds needs the changes between epochs"),
        (lambda: learnability(DYNAMICS, early=4), "is not after early = 4"),
        (lambda: forgetting(DYNAMICS, never_learned="no"), "never_learned = 'no' is not one of"),
        (lambda: grand(TrainingDynamics.of(LOGITS, LABELS)), "grand needs penultimate features"),
        (lambda: reducible_loss([1.0], [1.0, 2.0]), "losses 1, holdout_losses 2"),
        (lambda: influence(np.eye(2), np.eye(3)), "2 columns, validation_gradients 3"),
        (lambda: random_training_sets(2, 3, 0.1), "is none or all of them"),
        (
            lambda: reconstruction(np.zeros((1, 2, 3, 4)), np.zeros((2, 3, 5)), np.ones((1, 3))),
            "they must be",
        ),
        (
            lambda: reconstruction(np.zeros((1, 2, 3, 4)), np.zeros((2, 3, 4)), np.zeros((1, 3))),
            "masks hides no token of example 0",
        ),
    ],
)
def test_bad_input(call, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
