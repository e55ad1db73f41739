"""Pieces of the masked autoencoder and of Segment Anything."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pieces.common import (
    HALF,
    SINGLE,
    SIZES,
    Record,
    Sizes,
    need,
    on_processor,
    relative,
    timed,
)

MFU, SINGLE_STEPS = 0.4, 1.5
# Quantile of the predicted IoU above which masks stay: a hundred of an image, a few of a toy's.
PASSING, TOY_PASSING = 0.97, 0.8


def toy_mae() -> Any:
    """A masked autoencoder that compiles in seconds."""
    from pretrain_jax.models.mae import MAEConfig
    from pretrain_jax.models.vit import ViTConfig

    return MAEConfig(ViTConfig(image_size=32, patch_size=8, width=64, depth=2, heads=2), 32, 1, 2)


def mae_config(sizes: Sizes) -> Any:
    """The model that is trained."""
    from pretrain_jax.models.mae import MAE_PRESETS

    return MAE_PRESETS[sizes.mae] if sizes.mae else toy_mae()


def mae_gradient(config: Any, dtype: str, weights: Any, pixels: Any, noise: Any) -> Any:
    """Loss and gradient of the model with given weights and hidden patches."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from pretrain_jax.models.mae import MAE

    wide = "float64" if dtype == "float64" else "float32"
    encoder = dataclasses.replace(config.encoder, dtype=dtype, param_dtype=wide)
    typed = dataclasses.replace(config, encoder=encoder)
    graph = nnx.split(nnx.eval_shape(lambda: MAE(typed, rngs=nnx.Rngs(0))), nnx.Param, ...)[0]

    @jax.jit
    def step(params: Any, constants: Any, images: Any) -> Any:
        def loss(params: Any) -> Any:
            return nnx.merge(graph, params, constants)(images, noise).loss

        return jax.value_and_grad(loss)(params)

    def typed_array(leaf: Any) -> Any:
        return jnp.asarray(leaf, wide if np.issubdtype(leaf.dtype, np.floating) else None)

    return jax.tree.map(np.asarray, step(*jax.tree.map(typed_array, (*weights, pixels))))


def agree_mae(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Loss and gradient in float32 and bfloat16 against float64 on the processor."""
    import jax
    from flax import nnx

    from pretrain_jax.models.mae import MAE

    config = mae_config(sizes)
    if sizes.mae:
        # The full width at a quarter of the depth: the processor has to take the step too.
        encoder = dataclasses.replace(config.encoder, depth=3)
        config = dataclasses.replace(config, encoder=encoder, decoder_depth=2)
    rng = np.random.default_rng(0)
    height, width = config.encoder.size
    pixels = rng.standard_normal((2, height, width, config.encoder.channels))
    noise = rng.uniform(size=(2, config.encoder.patches)).astype(np.float32)

    @jax.jit
    def initial() -> Any:
        return nnx.split(MAE(config, rngs=nnx.Rngs(0)), nnx.Param, ...)[1:]

    with on_processor():
        weights = jax.tree.map(np.asarray, initial())
        with jax.enable_x64(True):
            loss, gradient = mae_gradient(config, "float64", weights, pixels, noise)
    for dtype, most in (("float32", SINGLE), ("bfloat16", HALF)):
        # Without this, float32 products are of TensorFloat-32 on some accelerators.
        with jax.default_matmul_precision("highest"):
            found = mae_gradient(config, dtype, weights, pixels, noise)
        errors = relative(found[0], loss), relative(found[1], gradient)
        yield {
            "part": dtype,
            "loss_error": errors[0],
            "gradient_error": errors[1],
            "most": most,
            "met": max(errors) <= most,
        }


def toy_sam() -> Any:
    """A Segment Anything model that compiles in seconds."""
    from pretrain_jax.models.sam import SAMConfig

    return SAMConfig(
        image_size=64,
        patch_size=8,
        width=32,
        depth=2,
        heads=2,
        mlp_ratio=2.0,
        window_size=5,
        global_blocks=(1,),
        prompt_width=32,
        decoder_heads=2,
        decoder_mlp_width=32,
        iou_head_width=16,
        layer_norm="hf",
    )


def sam_config(sizes: Sizes, dtype: str = "float32") -> Any:
    """The model that is measured."""
    from pretrain_jax.models.sam import SAM_PRESETS

    config = (
        dataclasses.replace(SAM_PRESETS[sizes.sam], layer_norm="hf") if sizes.sam else toy_sam()
    )
    return dataclasses.replace(config, dtype=dtype)


def sam_image(side: int, seed: int) -> np.ndarray:
    """A smooth random image (side, side, 3), uint8."""
    from scipy.ndimage import zoom

    coarse = np.random.default_rng(seed).uniform(0, 255, (16, 16, 3))
    return np.clip(zoom(coarse, (side / 16, side / 16, 1), order=1), 0, 255).astype(np.uint8)


def sam_answers(config: Any, state: Any, image: np.ndarray, points: np.ndarray) -> Any:
    """Logits and predicted IoU of single points, through the model alone."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from sam import our_model

    from pretrain_jax.models.sam import GeneratorConfig
    from pretrain_jax.models.sam.geometry import model_input, unit_range

    graph, held = nnx.split(our_model(config, state))
    settings = GeneratorConfig()
    pixels = model_input(unit_range(image, 3), config.image_size, settings.mean, settings.std)

    @jax.jit
    def answer(held: Any, pixels: Any, points: Any) -> Any:
        labels = jnp.ones((1, len(points), 1), jnp.int32)
        return nnx.merge(graph, held)(pixels[None], points[None, :, None], labels)

    # A float of the model's own type, or it would compute in this one's.
    inputs = (jnp.asarray(value, config.param_dtype) for value in (pixels, points))
    output = answer(held, *inputs)
    return np.asarray(output.masks, np.float64), np.asarray(output.iou, np.float64)


def sam_settings(masks: np.ndarray, iou: np.ndarray, sizes: Sizes) -> Any:
    """Thresholds that some of a random model's masks pass, none of them suppressed."""
    from pretrain_jax.models.sam import GeneratorConfig

    toy = {} if sizes.sam else {"points_per_side": 6, "points_per_batch": 12, "capacity": 128}
    return GeneratorConfig(
        iou_threshold=float(np.quantile(iou, PASSING if sizes.sam else TOY_PASSING)),
        mask_threshold=float(np.quantile(masks, 0.6)),
        stability_offset=float(0.02 * masks.std()),
        stability_threshold=0.3,
        box_nms_threshold=1.0,
        **toy,
    )


def same_masks(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of masks of either side that the other has too, at an IoU of 0.9 or more."""
    if not len(ours) or not len(theirs):
        return float(len(ours) == len(theirs))
    a, b = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (ours, theirs))
    common = a @ b.T
    iou = common / np.maximum(a.sum(1)[:, None] + b.sum(1) - common, 1)
    hits = np.sum(iou.max(axis=1) >= 0.9) + np.sum(iou.max(axis=0) >= 0.9)
    return float(hits / (len(ours) + len(theirs)))


def agree_sam(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Logits of single points and the generator's masks against float64 on the processor."""
    import jax
    from sam import our_model, random_state

    from pretrain_jax.models.sam import MaskGenerator

    config = sam_config(sizes)
    if sizes.sam:
        # The full width on a smaller image, for the processor's sake.
        config = dataclasses.replace(config, image_size=256, depth=3, global_blocks=(2,))
    state = random_state(config)
    image = sam_image(config.image_size, 0)
    points = np.random.default_rng(1).uniform(0, config.image_size, (16, 2)).astype(np.float32)
    wide = dataclasses.replace(config, dtype="float64", param_dtype="float64")
    with on_processor(), jax.enable_x64(True):
        expected = sam_answers(wide, state, image, points)
        settings = sam_settings(*expected, SIZES["toy"])
        settings = dataclasses.replace(settings, capacity=256)
        wanted = MaskGenerator(our_model(wide, state), settings)(image)
    for dtype, most in (("float32", SINGLE), ("bfloat16", HALF)):
        typed = dataclasses.replace(config, dtype=dtype)
        with jax.default_matmul_precision("highest"):
            found = sam_answers(typed, state, image, points)
        error = max(relative(a, b) for a, b in zip(found, expected, strict=True))
        yield {"part": dtype, "logit_error": error, "most": most, "met": error <= most}
    with jax.default_matmul_precision("highest"):
        masks = MaskGenerator(our_model(config, state), settings)(image).masks
    same = same_masks(masks, wanted.masks)
    yield {
        "part": "generator, float32",
        "masks": len(masks),
        "masks_expected": len(wanted.masks),
        "same_masks": same,
        "met": same >= 0.99 and len(wanted.masks) > 0,
    }


def mae(name: str, sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Whole training steps in bfloat16: one by one, and a scan of them."""
    import jax
    from pretrain_step import our_step, pixels_of

    from pretrain_jax.train.flops import mae_training_flops, peak_flops

    config, batch = mae_config(sizes), sizes.batches[name]
    peak, flops = peak_flops(jax.devices()[0]), mae_training_flops(config)
    start = time.perf_counter()
    step, state = our_step(config, batch, "bfloat16")
    jax.block_until_ready(state)
    initial = time.perf_counter() - start

    def record(part: str, compiling: float, seconds: float, loss: float) -> Record:
        rate = batch / seconds
        found = {
            "part": part,
            "batch": batch,
            "rate": rate,
            "unit": "images/s",
            "step_s": seconds,
            "compile_s": compiling,
            "initial_s": initial,
            "loss": loss,
            "model_tflops": rate * flops / 1e12,
        }
        return found | ({"mfu": rate * flops / peak} if peak else {"mfu": "peak unknown"})

    pixels = jax.device_put(pixels_of(config, batch, 1)[0])
    single = step.compile()
    start = time.perf_counter()
    state, metrics = single(state, pixels)
    loss = float(metrics.loss)
    first = time.perf_counter() - start
    for warm in (True, False):
        start = time.perf_counter()
        for _ in range(2 if warm else sizes.steps):
            state, metrics = single(state, pixels)
        loss = float(metrics.loss)
    one = (time.perf_counter() - start) / sizes.steps
    goal = {} if name == "16" or not peak else {"met": batch / one * flops / peak >= MFU}
    yield record("single steps", first - one, one, loss) | goal
    count = sizes.scanned[name]
    many = jax.device_put(np.broadcast_to(pixels, (count, *pixels.shape)))
    scanned = step.compile(scan=True)
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        state, metrics = scanned(state, many)
        loss = float(metrics.loss[-1])
        spent.append((time.perf_counter() - start) / count)
    best = min(spent[1:])
    goal = {"met": one / best <= SINGLE_STEPS} if name == "16" and sizes.mae else {}
    found = record("scan", spent[0] * count - best * count, best, loss)
    yield found | {"steps": count, "single_over_scan": one / best} | goal


def sam(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Encoder and automatic mask generator in bfloat16; leaves its masks to the peer."""
    import jax
    from flax import nnx
    from sam import our_model, random_state

    from pretrain_jax.models.sam import MaskGenerator

    config = sam_config(sizes, "bfloat16")
    state = random_state(config)
    model = our_model(config, state)
    graph, held = nnx.split(model)
    encode = jax.jit(lambda held, images: nnx.merge(graph, held).encode(images))
    rng = np.random.default_rng(1)
    side = config.image_size
    for part, count in (("encoder", 1), ("encoder, batch", sizes.encoded)):
        pixels = jax.device_put(rng.standard_normal((count, side, side, 3), dtype=np.float32))
        first, seconds = timed(lambda p=pixels: encode(held, p).block_until_ready())
        yield {
            "part": part,
            "batch": count,
            "rate": count / seconds,
            "unit": "images/s",
            "compile_s": first - seconds,
        }
    points = rng.uniform(0, side, (64, 2)).astype(np.float32)
    settings = sam_settings(*sam_answers(config, state, sam_image(side, 0), points), sizes)
    generate = MaskGenerator(model, settings)
    images = [sam_image(side, seed) for seed in range(sizes.images + 1)]
    start = time.perf_counter()
    generate(images[-1])
    first = time.perf_counter() - start
    start = time.perf_counter()
    found = [generate(image).masks for image in images[:-1]]
    seconds = (time.perf_counter() - start) / sizes.images
    # A plain file beside the others: the peer runs in a process that has torch.
    thresholds = {
        key: value for key, value in vars(settings).items() if isinstance(value, int | float)
    }
    np.savez(shared / "sam.npz", masks=np.packbits(found[0]), shape=found[0].shape)
    (shared / "sam.json").write_text(json.dumps(thresholds))
    yield {
        "part": "generator",
        "rate": 1 / seconds,
        "unit": "images/s",
        "image_s": seconds,
        "compile_s": first - seconds,
        "points": settings.points_per_side**2,
        "masks": sum(map(len, found)) / len(found),
    }


def torch_mae(name: str, sizes: Sizes, shared: Path) -> Iterator[Record]:
    """The peer of `mae`."""
    need("torch")
    need("transformers")
    from pieces.peers import mae_steps

    yield from mae_steps(mae_config(sizes), sizes.batches[name], sizes.steps, bool(sizes.mae))


def torch_sam(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """The peer of `sam`, and how many of its masks are the same."""
    need("torch")
    need("transformers")
    from pieces.peers import sam_masks

    yield from sam_masks(sizes, shared)
