"""Fine-tuning: what it writes, what it shares, and that an interruption changes nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from scipy.special import ndtr

from pretrain_jax.data import Crop
from pretrain_jax.models.dpt.config import DPTConfig
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.simclr import SimCLR, SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.segmentation import (
    FINETUNE_PRESETS,
    FinetuneConfig,
    Frame,
    LeakageError,
    SegmentationSet,
    confusion,
    finetune,
    iou,
    load_segmenter,
    normdel,
    origin,
    read_case,
    read_pair,
    split,
)
from pretrain_jax.segmentation.examples import Pair, TrainingExamples, paired_crop
from pretrain_jax.segmentation.heads import ProbeConfig, build, model_config
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.origin import Origin, load_encoder, origin_of
from pretrain_jax.segmentation.program import (
    Program,
    Statistics,
    compiled,
    cross_entropy,
    recipe_of,
    schedule,
)
from pretrain_jax.segmentation.segmenter import labels_at
from pretrain_jax.stages import digest, open_stage, read_manifest
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.restored import TrainedModel
from pretrain_jax.train.step import TrainState
from pretrain_jax.weights import read_state, write_safetensors

ROOT = Path(__file__).parents[3]
ENCODER = ViTConfig(image_size=16, patch_size=4, width=16, depth=1, heads=2)
DEEP = dataclasses.replace(ENCODER, width=8, depth=4)
CONFIG = FinetuneConfig(
    head="linear",
    mode="scratch",
    encoder=ENCODER,
    steps=30,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=3,
    checkpoint_every=8,
    test_share=0.3,
    bootstrap_draws=50,
)
CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from pretrain_jax.segmentation import finetune, read_pair
from pretrain_jax.segmentation import examples
from tests.pretrain_jax.segmentation.test_finetuning import CONFIG

taken = examples.TrainingExamples.batch

def batch(self, step):
    if step == 21:
        os.kill(os.getpid(), signal.SIGKILL)
    return taken(self, step)

examples.TrainingExamples.batch = batch
finetune(None, read_pair(Path(sys.argv[1])), sys.argv[2], config=CONFIG, seed=3)
"""


def write_set(root: Path, cases: int = 10) -> SegmentationSet:
    """Bright rectangles on dark noise, which a patch's mean tells apart."""
    for number in range(cases):
        rng = np.random.default_rng(number)
        truth = np.zeros((20, 24), np.uint8)
        top, left = rng.integers(0, 10, 2)
        truth[top : top + 10, left : left + 12] = 1
        pixels = rng.integers(0, 90, (20, 24, 3)) + 150 * truth[:, :, None]
        for folder, picture in (("images", pixels.astype(np.uint8)), ("masks", truth)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / folder / f"{number}.png")
    return read_pair(root)


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> SegmentationSet:
    return write_set(tmp_path_factory.mktemp("set"))


def losses(folder: Path) -> list[str]:
    return (folder / "losses.csv").read_text().splitlines()[1:]


def test_a_run_and_its_record(rectangles: SegmentationSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = finetune(None, rectangles, out, config=CONFIG, seed=3)
    assert read_manifest(out, "finetune") == manifest
    files = {"result.json", "overlays.png", "losses.csv", "model.safetensors"}
    assert set(manifest.outputs) == files
    assert {path.name for path in out.iterdir()} == files | {"stage.json", "manifest.json"}
    assert "not compared" in manifest.notes[0]
    record = json.loads((out / "result.json").read_text())
    assert (record["objective"], record["method"], record["ratio"]) == ("none", "scratch", 0.0)
    assert (record["head"], record["mode"], record["steps"], record["seed"]) == (
        "linear",
        "scratch",
        30,
        3,
    )
    assert record["miou"]["low"] <= record["miou"]["value"] <= record["miou"]["high"]
    assert manifest.counts["miou"] == record["miou"]["value"]
    assert set(record["per_class"]) == {"background", "foreground"}
    assert len(record["cases"]) == manifest.counts["test_cases"] == 3
    assert record["normdel"] is None  # there is no share of the data
    assert set(record["baselines"]) == {"threshold", "background"}
    # The classes differ by 150 grey levels and more: a threshold finds nearly every pixel.
    assert record["baselines"]["threshold"]["miou"]["value"] > 0.95
    steps = [float(line.split(",")[1]) for line in losses(out)]
    assert len(steps) == 30 and np.mean(steps[-5:]) < 0.6 * np.mean(steps[:3])
    # Far above what predicting background gives.
    assert record["miou"]["value"] > record["baselines"]["background"]["miou"]["value"] + 0.15
    with Image.open(out / "overlays.png") as picture:
        assert picture.width > 300
    # Once more: nothing is done again.
    before = (out / "result.json").stat().st_mtime_ns
    assert finetune(None, rectangles, out, config=CONFIG, seed=3) == manifest
    assert (out / "result.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="seed = 3, now seed = 4"):
        finetune(None, rectangles, out, config=CONFIG, seed=4)
    # The weights that were kept give the scores again, from images of any size.
    segmenter = load_segmenter(out)
    test = split(rectangles, test_share=CONFIG.test_share, seed=CONFIG.split_seed)[1]
    pairs = [read_case(test, case) for case in test.cases]
    masks = segmenter.predict([pixels for pixels, _ in pairs], batch_size=2)
    total = sum(confusion(m, truth, classes=2) for m, (_, truth) in zip(masks, pairs, strict=True))
    assert iou(total).mean() == pytest.approx(record["miou"]["value"], abs=1e-12)
    assert segmenter.classes == ("background", "foreground")
    other = segmenter.predict([np.zeros((7, 50, 3), np.uint8)], batch_size=2)
    assert other[0].shape == (7, 50) and other[0].dtype == np.uint8
    with pytest.raises(
        ValueError, match=r"images\[0\] has shape \(7, 50\).*takes \(height, width, 3"
    ):
        segmenter.predict([np.zeros((7, 50), np.uint8)])


def test_weights_that_do_not_fit(rectangles: SegmentationSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finetune(None, rectangles, out, config=CONFIG, seed=3)
    path = out / "model.safetensors"
    arrays = dict(read_state(path))
    name = next(name for name in arrays if name.startswith("params/layers"))
    write_safetensors(path, arrays | {name: arrays[name][:1]})
    with pytest.raises(ValueError, match=f"does not fit the manifest .*{name} has the shape"):
        load_segmenter(out)
    path.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors does not exist"):
        load_segmenter(out)
    with pytest.raises(ValueError, match="finetune"):
        load_segmenter(tmp_path)


def test_a_killed_run_has_the_result_of_an_undisturbed_one(
    rectangles: SegmentationSet, tmp_path: Path
) -> None:
    """SIGKILL while batch 21 is made: the newest checkpoint is that of step 16."""
    undisturbed = finetune(None, rectangles, tmp_path / "whole", config=CONFIG, seed=3)
    out = tmp_path / "killed"
    folder = rectangles.cases[0].image.parents[1]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(out)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert "16" in [path.name for path in (out / "checkpoints").iterdir()]
    assert not (out / "manifest.json").exists()
    resumed = finetune(None, rectangles, out, config=CONFIG, seed=3)
    assert losses(out) == losses(tmp_path / "whole")
    assert digest(resumed) == digest(undisturbed)


def trained_model(kind: str) -> TrainedModel:
    """What a run of pre-training leaves, with random weights."""
    if kind == "mae":
        mae = MAEConfig(ENCODER, decoder_width=8, decoder_depth=1, decoder_heads=2)
        model: nnx.Module = MAE(mae, rngs=nnx.Rngs(5))
        config = TrainConfig(model=mae)
    else:
        simclr = SimCLRConfig(dataclasses.replace(ENCODER, pool="mean"), 8, 4)
        model = SimCLR(simclr, rngs=nnx.Rngs(5))
        config = TrainConfig(model=simclr)
    return TrainedModel(model, config, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), step=7)


@pytest.mark.parametrize("kind", ["mae", "simclr"])
def test_a_pretrained_encoder_and_where_it_comes_from(
    kind: str, rectangles: SegmentationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    model = trained_model(kind)

    def load(folder: Path) -> TrainedModel:
        loaded.append(folder)
        return dataclasses.replace(model, model=nnx.clone(model.model))

    monkeypatch.setattr(origin, "load_model", load)
    # A bare run says little, the folder of a stage what the data were.
    bare = tmp_path / "bare"
    bare.mkdir()
    found = load_encoder(bare, None)
    assert found.encoder.config.pool is None and found.mean == (0.4, 0.4, 0.4)
    assert origin_of(bare, found) == (Origin(kind, "", None, None, None), found.sha256)
    stage = open_stage(
        tmp_path / "stage",
        "pretrain",
        {"objective": kind, "method": "optidel", "ratio": 0.05},
        2,
        {},
    )
    (tmp_path / "stage" / "run").mkdir()
    manifest = stage.finish({"storage_ratio": 0.049})
    config = dataclasses.replace(CONFIG, mode="full")
    finetune(tmp_path / "stage", rectangles, tmp_path / "out", config=config, compared=12)
    assert loaded[-1] == tmp_path / "stage" / "run"
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (record["objective"], record["method"], record["ratio"]) == (kind, "optidel", 0.05)
    assert (record["storage_ratio"], record["pretraining_seed"]) == (0.049, 2)
    assert record["normdel"] == pytest.approx(normdel(record["miou"]["value"], 0.049))
    written = read_manifest(tmp_path / "out")
    assert written.inputs["pretrained"] == digest(manifest)
    assert written.counts["leaks"] == 0 and written.notes[0].startswith("12 image(s)")
    larger = load_encoder(bare, 32)
    assert larger.encoder.config.size == (32, 32) and larger.sha256 != found.sha256


def test_another_seed_is_another_run(rectangles: SegmentationSet, tmp_path: Path) -> None:
    for seed in (0, 1):
        finetune(None, rectangles, tmp_path / str(seed), config=CONFIG, seed=seed)
    assert losses(tmp_path / "0")[0] != losses(tmp_path / "1")[0]


def test_test_cases_among_the_images_for_pretraining(
    rectangles: SegmentationSet, tmp_path: Path
) -> None:
    frames = [Frame(case.name, str(case.image)) for case in rectangles.cases]
    with pytest.raises(LeakageError, match=r"3 test case\(s\)"):
        finetune(None, rectangles, tmp_path / "a", config=CONFIG, pretraining=frames)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("fields", "run", "complaint"),
    [
        ({"mode": "full"}, None, "mode = 'full', and a pre-trained run is missing"),
        ({}, "somewhere", "mode = 'scratch', and a pre-trained run is given"),
        ({"head": "unet"}, None, "head = 'unet' is not one of"),
        ({"steps": 0}, None, r"steps = 0 .*\[1, "),
        ({"learning_rate": 0.0}, None, "learning_rate = 0"),
        ({"crop_scale": (1.0, 0.5)}, None, "not an ascending range"),
        ({"image_size": 18}, None, "image_size = 18 is not divisible by patch_size = 4"),
        (
            {"head": "dpt"},
            None,
            "needs an encoder of 4 blocks, this one has 1",
        ),
    ],
)
def test_bad_options(
    rectangles: SegmentationSet, tmp_path: Path, fields: dict, run: str | None, complaint: str
) -> None:
    config = dataclasses.replace(CONFIG, **fields)
    with pytest.raises(ValueError, match=complaint):
        finetune(run, rectangles, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


def test_the_reference_preset() -> None:
    config = FINETUNE_PRESETS["reference"]
    assert (config.steps, config.learning_rate, config.weight_decay) == (20_000, 6e-5, 0.01)
    model = model_config(
        ViTConfig(),
        2,
        "dpt",
        widths=config.widths,
        fusion_width=256,
        head_doublings=config.head_doublings,
        hidden_width=1,
    )
    assert isinstance(model, DPTConfig) and model.hooks == (2, 5, 8, 11)
    assert model.head_doublings == 1


# What the runs above have compiled, and a deep one with everything small.
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
