"""The parts of fine-tuning: schedule, steps on one and several devices, losses, batches."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from scipy.special import ndtr

from pretrain_jax.data import Crop
from pretrain_jax.segmentation import FinetuneConfig, SegmentationSet, read_pair
from pretrain_jax.segmentation.dataset import Crops, Pair, TrainingExamples, paired_crop
from pretrain_jax.segmentation.heads import Segmenter, build, model_of
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.objective import (
    SegmentationObjective,
    cross_entropy,
    make_step,
    schedule,
)
from pretrain_jax.segmentation.segmenter import labels_at
from pretrain_jax.train.objectives import computed_in
from pretrain_jax.train.setup import make_plan
from pretrain_jax.train.step import Step, TrainState, global_batch, make_mesh
from tests.pretrain_jax.segmentation.rectangles import CONFIG, DEEP, ENCODER

pytestmark = pytest.mark.usefixtures("lightly_compiled")

# A deep encoder with everything small.
DPT = dataclasses.replace(
    CONFIG, head="dpt", encoder=DEEP, mode="frozen", widths=(4, 4, 4, 4), fusion_width=4
)
FLAGS = "--xla_force_host_platform_device_count=4"


def step_of(config: FinetuneConfig, *, seed: int = 0) -> Step:
    plan = make_plan(
        config,
        make_mesh(config.devices, config.fsdp),
        config.batch_size,
        config.steps,
        accumulation=config.accumulation,
    )
    model = model_of(config, computed_in(config.encoder, plan.dtype), 2)
    return make_step(config, SegmentationObjective(model, config.trained_blocks), plan, seed)


def test_the_schedule() -> None:
    rates = [float(schedule(1e-2, 30, 1.0, 3)(step)) for step in range(30)]
    expected = [1e-2 * (1 - k / 30) * min(1, (k + 1) / 3) for k in range(30)]
    # Single precision.
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def batch(step: Step, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    return global_batch(Crops(images, (images[..., 0] // 128).astype(np.uint8)), step.mesh)


def model_in(step: Step, state: TrainState) -> Any:
    return nnx.merge(step.graph(), state.params, state.constants, copy=True)


def encoder_values(step: Step, state: TrainState) -> list[np.ndarray]:
    return [
        np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model_in(step, state).model.encoder))
    ]


def test_a_frozen_encoder_stays_and_the_head_moves() -> None:
    """The head is a DPT, whose batch norm follows the batches, too."""
    step = step_of(DPT)
    run, state = step.compile(), step.initial_state()
    before = encoder_values(step, state)
    start = [np.array(leaf) for leaf in jax.tree.leaves(state.params)]
    for _ in range(3):
        state, _ = run(state, batch(step))
    for old, new in zip(before, encoder_values(step, state), strict=True):
        assert np.array_equal(old, new)
    moved = [np.any(a != b) for a, b in zip(start, jax.tree.leaves(state.params), strict=True)]
    assert all(moved)
    norm = model_in(step, state).model.head.norm
    assert np.any(np.array(norm.mean[...]) != 0) and np.any(np.array(norm.var[...]) != 1)


def test_the_last_blocks_move_and_the_others_stay() -> None:
    """Two of four blocks and the last norm are trained; what lies below keeps every bit."""
    fields = {"mode": "last", "blocks": 2, "accumulation": 2, "ema_decay": 0.5}
    step = step_of(dataclasses.replace(DPT, **fields))
    run, state = step.compile(), step.initial_state()
    average = jax.tree.map(np.array, state.params)
    before = nnx.to_flat_state(nnx.state(model_in(step, state)))
    before = {path: np.array(leaf[...]) for path, leaf in before}
    for _ in range(3):
        state, _ = run(state, batch(step))
        new = jax.tree.map(np.array, state.params)
        average = jax.tree.map(lambda one, other: 0.5 * one + 0.5 * other, average, new)
    for mean, kept in zip(*map(jax.tree.leaves, (average, state.ema)), strict=True):
        np.testing.assert_allclose(kept, mean, atol=1e-6)  # single precision
    moved = set()
    for path, leaf in nnx.to_flat_state(nnx.state(model_in(step, state))):
        if not np.array_equal(before[path], np.array(leaf[...])):
            moved.add(path[1:4] if path[1:3] == ("encoder", "blocks") else path[1:3])
    moving = {part for part in moved if part[0] == "encoder"}
    # DPT reads the tokens of blocks before the last norm, which therefore has no gradient.
    assert moving == {("encoder", "blocks", 2), ("encoder", "blocks", 3)}
    assert ("head", "norm") in moved and ("fusion", 0) in moved


def test_parts_of_a_batch_have_its_loss_and_gradient() -> None:
    """The mean is over the known pixels of the whole batch, which parts share unequally."""
    found = []
    for parts in (1, 2, 4):
        step = step_of(dataclasses.replace(CONFIG, accumulation=parts))
        state, crops = step.initial_state(), batch(step)
        labels = np.array(crops.labels)
        labels[1, :, 3:] = IGNORE
        labels[2] = IGNORE
        crops = global_batch(Crops(np.array(crops.images), labels), step.mesh)
        state, metrics = step.compile()(state, crops)
        found.append([float(metrics.loss), float(metrics.grad_norm)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)


def test_full_training_moves_the_encoder() -> None:
    step = step_of(CONFIG)
    state = step.initial_state()
    before = encoder_values(step, state)
    state, _ = step.compile()(state, batch(step))
    after = encoder_values(step, state)
    same = [np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    # Only the table of fixed positions stays.
    assert sum(same) == 1


def test_programs_are_shared() -> None:
    """Another seed, other weights of a training on a mesh, other statistics: one compiled step."""
    mesh = jax.sharding.NamedSharding(jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec())

    def trained_twice(seed: int) -> tuple[Any, int]:
        step = step_of(CONFIG, seed=seed)
        encoder = Segmenter(model_of(CONFIG, ENCODER, 2), rngs=nnx.Rngs(seed + 10)).model.encoder
        nnx.update(encoder, jax.device_put(nnx.state(encoder), mesh))

        def change(model: Segmenter) -> None:
            model.std[...] = jnp.full(3, 0.1 * seed + 0.1)
            nnx.update(model.model.encoder, nnx.state(encoder))

        state = step.changed(step.initial_state(), change)
        wanted = jax.tree.leaves(nnx.state(encoder))
        got = encoder_values(step, state)
        assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))
        run: Any = step.compile()
        for _ in range(2):
            state, _ = run(state, batch(step))
        return run.func, run.func._cache_size()

    assert len({trained_twice(seed) for seed in (0, 1, 2)}) == 1


def losses(**fields: Any) -> list[float]:
    """Losses of a few steps of a DPT in another form."""
    step = step_of(dataclasses.replace(DPT, mode="scratch", **fields), seed=3)
    run, state, found = step.compile(), step.initial_state(), []
    for number in range(5):
        state, metrics = run(state, batch(step, number))
        found.append(float(metrics.loss))
    return found


def test_several_devices_have_the_losses_of_one() -> None:
    """Batch norm, dropout and the mean over known pixels are those of the whole batch."""
    script = (
        "import json\n"
        "from tests.pretrain_jax.segmentation.test_objective import losses\n"
        "forms = [{}, {'devices': 4}, {'devices': 4, 'fsdp': 2}]\n"
        "print(json.dumps([losses(**form) for form in forms]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS},
        capture_output=True,
        text=True,
        check=True,
    )
    plain, divided, sharded = json.loads(done.stdout)
    assert len(set(plain)) == 5
    # Sums in another order: rounding of float32, grown over five steps.
    np.testing.assert_allclose(divided, plain, rtol=1e-4)
    np.testing.assert_allclose(sharded, plain, rtol=1e-4)


def test_bfloat16_comes_near_float32() -> None:
    """Of eight bits of mantissa two digits are left; parameters stay float32."""
    half = losses(precision="bfloat16")
    assert half != losses()
    np.testing.assert_allclose(half, losses(), rtol=0.05)
    state = step_of(dataclasses.replace(DPT, precision="bfloat16")).shapes()
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_probes_of_the_patch_tokens(head: str) -> None:
    config = dataclasses.replace(CONFIG, head=head, hidden_width=6)
    model: Any = build(model_of(config, ENCODER, 3), nnx.Rngs(0))
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

    whole, begun, later = examples(0), examples(0), examples(0)
    stream = [next(whole) for _ in range(6)]
    for _ in range(4):
        next(begun)
    later.restore(begun.state())
    for first, second in zip(stream[4:], [next(later), next(later)], strict=True):
        assert np.array_equal(first.images, second.images)
        assert np.array_equal(first.labels, second.labels)
    assert not np.array_equal(stream[0].images, examples(1).batch(0).images)
    for one in (whole, begun, later):
        one.close()


def test_hosts_make_the_rows_of_one_batch(rectangles: SegmentationSet) -> None:
    def rows(host: int, hosts: int) -> np.ndarray:
        examples = TrainingExamples(
            rectangles, Crop(16), batch_size=4, channels=3, seed=0, host=host, hosts=hosts
        )
        return examples.batch(5).images

    assert np.array_equal(np.concatenate([rows(0, 2), rows(1, 2)]), rows(0, 1))


def test_an_epoch_shows_every_case_once(tmp_path: Path) -> None:
    """Images of one grey level each: a crop tells which one it is of."""
    for number in range(8):
        for folder, level in (("images", 30 * number), ("masks", 1)):
            (tmp_path / folder).mkdir(exist_ok=True)
            flat = np.full((8, 8), level, np.uint8)
            Image.fromarray(flat).save(tmp_path / folder / f"{number}.png")
    examples = TrainingExamples(read_pair(tmp_path), Crop(8), batch_size=4, channels=1, seed=0)
    found = [examples.batch(step) for step in range(4)]
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
