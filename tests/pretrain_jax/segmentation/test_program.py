"""The parts of fine-tuning: schedule, steps, losses, crops, batches."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from scipy.special import ndtr

from pretrain_jax.data import Crop
from pretrain_jax.models.dpt.modeling import DPTConfig
from pretrain_jax.segmentation import (
    SegmentationSet,
    read_pair,
)
from pretrain_jax.segmentation.dataset import Pair, TrainingExamples, paired_crop
from pretrain_jax.segmentation.heads import ProbeConfig, build, model_config
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.program import (
    Program,
    Statistics,
    compiled,
    cross_entropy,
    recipe_of,
    schedule,
)
from pretrain_jax.segmentation.segmenter import labels_at
from pretrain_jax.train.step import TrainState
from tests.pretrain_jax.segmentation.rectangles import CONFIG, DEEP, ENCODER

# The run of the pictures, and a deep one with everything small.
LINEAR = recipe_of(CONFIG, ENCODER, 2)
DPT = dataclasses.replace(
    LINEAR,
    model=DPTConfig.on(DEEP, classes=2, widths=(4, 4, 4, 4), fusion_width=4),
    frozen=True,
)


def test_the_schedule() -> None:
    rates = [float(schedule(LINEAR)(step)) for step in range(30)]
    expected = [1e-2 * (1 - k / 30) * min(1, (k + 1) / 3) for k in range(30)]
    # Single precision.
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    return images, (images[..., 0] // 128).astype(np.uint8)


STATISTICS = Statistics(jnp.full(3, 0.5), jnp.full(3, 0.25))


def encoder_values(program: Program, state: TrainState) -> list[np.ndarray]:
    model = nnx.merge(program.graph, state.params, state.constants, copy=True)
    return [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model.encoder))]


def test_a_frozen_encoder_stays_and_the_head_moves() -> None:
    """The head is a DPT, whose batch norm follows the batches, too."""
    program = compiled(DPT)
    state = program.initial(jnp.uint32(0))
    before = encoder_values(program, state)
    start = [np.array(leaf) for leaf in jax.tree.leaves(state.params)]
    for _ in range(3):
        state, _ = program.step(state, *batch(), STATISTICS, jnp.uint32(0))
    for old, new in zip(before, encoder_values(program, state), strict=True):
        assert np.array_equal(old, new)
    moved = [np.any(a != b) for a, b in zip(start, jax.tree.leaves(state.params), strict=True)]
    assert all(moved)
    norm = nnx.merge(program.graph, state.params, state.constants).head.norm
    assert np.any(np.array(norm.mean[...]) != 0) and np.any(np.array(norm.var[...]) != 1)


def test_full_training_moves_the_encoder() -> None:
    program = compiled(LINEAR)
    state = program.initial(jnp.uint32(0))
    before = encoder_values(program, state)
    state, _ = program.step(state, *batch(), STATISTICS, jnp.uint32(0))
    after = encoder_values(program, state)
    same = [np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    # Only the table of fixed positions stays.
    assert sum(same) == 1


def test_programs_are_shared() -> None:
    """Another seed, other weights of a training on a mesh, other statistics: one compiled step."""
    program = compiled(LINEAR)
    assert compiled(recipe_of(CONFIG, ENCODER, 2)) is program
    mesh = jax.sharding.NamedSharding(jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec())
    sizes = set()
    program.step(program.initial(jnp.uint32(0)), *batch(), STATISTICS, jnp.uint32(0))
    sizes.add((program.step._cache_size(), program.initial._cache_size()))
    for seed in (0, 1, 2):
        state = program.initial(jnp.uint32(seed))
        trained = build(ProbeConfig(ENCODER, 2), nnx.Rngs(seed + 10))
        nnx.update(trained, jax.device_put(nnx.state(trained), mesh))
        state = program.with_encoder(state, trained.encoder)
        got = encoder_values(program, state)
        wanted = jax.tree.leaves(nnx.state(trained.encoder))
        assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))
        other = Statistics(jnp.full(3, 0.1 * seed), jnp.full(3, 0.2))
        for _ in range(2):
            state, _ = program.step(state, *batch(), other, jnp.uint32(seed))
        sizes.add((program.step._cache_size(), program.initial._cache_size()))
    assert len(sizes) == 1


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_probes_of_the_patch_tokens(head: str) -> None:
    model = build(
        model_config(ENCODER, 3, head, widths=(), fusion_width=1, head_doublings=1, hidden_width=6),
        nnx.Rngs(0),
    )
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    tokens = np.asarray(model.encoder(images), np.float64)[:, 1:]
    for number, layer in enumerate(model.layers):
        if number:
            tokens = tokens * ndtr(tokens)
        tokens = tokens @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    logits = model(images)
    assert logits.shape == (2, 4, 4, 3)
    # Single precision.
    np.testing.assert_allclose(logits.reshape(2, 16, 3), tokens, atol=1e-5)


def test_the_loss_is_the_mean_over_known_pixels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (2, 3, 4)).astype(np.uint8)
    labels[0, 0] = IGNORE
    total, count = 0.0, 0
    for place in np.ndindex(labels.shape):
        if labels[place] != IGNORE:
            values = logits[place].astype(np.float64)
            total += np.log(np.exp(values).sum()) - values[labels[place]]
            count += 1
    assert float(cross_entropy(jnp.asarray(logits), jnp.asarray(labels))) == pytest.approx(
        total / count, rel=1e-6
    )
    assert float(cross_entropy(jnp.asarray(logits), jnp.full((2, 3, 4), IGNORE))) == 0.0


def test_image_and_mask_are_cropped_together() -> None:
    """The image shows its own labels, so that every crop can be checked."""
    labels = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 2, (5, 6)), 16, 0), 16, 1)
    labels = labels.astype(np.uint8)
    pair = Pair(np.repeat(labels[:, :, None] * np.uint8(255), 3, 2), labels)
    flipped = set()
    for seed in range(20):
        crop = paired_crop(pair, Crop(32, scale=(0.3, 1.0)), np.random.default_rng(seed))
        shown = crop.pixels[:, :, 0] >= 128
        # Bicubic and nearest differ in pixels at edges only.
        assert np.mean(shown == crop.labels) > 0.9
        flipped.add(crop.labels.tobytes())
    assert len(flipped) == 20


def test_batches_depend_on_seed_and_step_alone(rectangles: SegmentationSet) -> None:
    def examples(seed: int) -> TrainingExamples:
        return TrainingExamples(rectangles, Crop(16), batch_size=4, channels=3, seed=seed)

    stream = list(examples(0).batches(0, 6))
    later = list(examples(0).batches(4, 6))
    for first, second in zip(stream[4:], later, strict=True):
        assert np.array_equal(first.images, second.images)
        assert np.array_equal(first.labels, second.labels)
    assert not np.array_equal(stream[0].images, examples(1).batch(0).images)


def test_an_epoch_shows_every_case_once(tmp_path: Path) -> None:
    """Images of one grey level each: a crop tells which one it is of."""
    for number in range(8):
        for folder, level in (("images", 30 * number), ("masks", 1)):
            (tmp_path / folder).mkdir(exist_ok=True)
            flat = np.full((8, 8), level, np.uint8)
            Image.fromarray(flat).save(tmp_path / folder / f"{number}.png")
    found = TrainingExamples(
        read_pair(tmp_path), Crop(8), batch_size=4, channels=1, seed=0
    ).batches(0, 4)
    levels = np.concatenate([crops.images[:, 0, 0, 0] for crops in found])
    assert sorted(levels[:8]) == sorted(levels[8:]) == [30 * number for number in range(8)]
    assert levels[:8].tolist() != levels[8:].tolist()


def test_labels_at_another_resolution() -> None:
    logits = np.zeros((4, 4, 2), np.float32)
    logits[:, 2:, 1] = 1
    logits[:, :2, 0] = 1
    expected = np.repeat([[0, 1]], 16, 0).repeat(8, 1)
    assert np.array_equal(labels_at(logits, (16, 16)), expected)
    assert np.array_equal(labels_at(logits, (4, 4)), expected[:4, 6:10])
