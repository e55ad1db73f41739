"""Segment Anything: ours and transformers' SamModel with torch, at equal weights on CPU.

    python benchmarks/sam.py [--preset sam_vit_b] [--points 64] [--repeats 3] [--threads 2]

Both decode the same points on the same embedding in float32, alternating, so that other load
meets both; the medians are compared. The prompt batch comes in four rows: with the same
operations on both sides (that one has the goal); with attention that multiplies its matrices in
the cheaper order; with what all prompts share computed once on top; and as the generator runs it,
where only points whose predicted IoU passes are brought to full resolution. An image is one
encoding and a grid of 32 x 32 points.

For an accelerator there is accelerator.py.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

GOAL = 0.8
GRID = 32 * 32


def seconds(function: Callable[[], Any]) -> float:
    """Seconds of a call that ends when its work is done."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternating(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, all of them once in every round; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            spent = seconds(function)
            print(f"{name}: {spent:.2f} s", file=sys.stderr)
            if repeat:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def random_state(config: Any) -> dict[str, np.ndarray]:
    """Weights in the layout of transformers: normal numbers, norms around one."""
    from flax import nnx

    from pretrain_jax.models.sam import SAM, sam_table

    rng = np.random.default_rng(0)
    model = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
    shapes = {
        ".".join(map(str, path)): variable.shape
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }
    state: dict[str, np.ndarray] = {}
    for entry in sam_table(config, "transformers"):
        shape = shapes[entry.path]
        scale = 0.5 / np.sqrt(shape[0]) if entry.path.endswith("kernel") else 0.1
        value = scale * rng.standard_normal(shape, dtype=np.float32)
        value += entry.path.endswith("scale")
        state |= dict(zip(entry.keys, entry.save(value), strict=True))
    return state


def our_model(config: Any, state: dict[str, np.ndarray]) -> Any:
    """Our model with these weights."""
    from flax import nnx

    from pretrain_jax.models.sam import SAM, sam_table
    from pretrain_jax.weights import load_into

    model = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
    load_into(model, state, sam_table(config, "transformers"))
    return model


def torch_model(config: Any, state: dict[str, np.ndarray]) -> Any:
    """SamModel with these weights."""
    import torch
    import transformers as tf

    side = {"image_size": config.image_size, "patch_size": config.patch_size}
    vision = tf.SamVisionConfig(
        hidden_size=config.width,
        output_channels=config.prompt_width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        window_size=config.window_size,
        global_attn_indexes=list(config.global_blocks),
        num_pos_feats=config.prompt_width // 2,
        **side,
    )
    decoder = tf.SamMaskDecoderConfig(
        hidden_size=config.prompt_width,
        mlp_dim=config.decoder_mlp_width,
        num_attention_heads=config.decoder_heads,
        iou_head_hidden_dim=config.iou_head_width,
    )
    prompt = tf.SamPromptEncoderConfig(hidden_size=config.prompt_width, **side)
    joined = tf.SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    model = tf.SamModel(joined).eval()
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    model.load_state_dict(tensors, strict=False)
    return model


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention that projects queries, keys and values first, always."""
    from pretrain_jax.models.sam.decoder import Attention

    names = ("from_few", "to_few")
    cheaper = {name: getattr(Attention, name) for name in names}
    for name in names:
        setattr(Attention, name, Attention.__call__)
    try:
        yield
    finally:
        for name, method in cheaper.items():
            setattr(Attention, name, method)


def our_calls(
    model: Any, image: np.ndarray, points: np.ndarray, passing: float
) -> tuple[dict[str, Callable[[], Any]], Any]:
    """Compiled: encoding, and the prompt batch in its four variants; and the embedding."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from pretrain_jax.models.sam.candidates import work_off

    graph, state = nnx.split(model)
    labels = np.ones((len(points), 1), np.int32)

    def encode(state: Any, image: Any) -> Any:
        return nnx.merge(graph, state).encode(image)

    def shared(state: Any, embedding: Any, points: Any) -> Any:
        model = nnx.merge(graph, state)
        return model.decode(embedding, model.prompts(points[:, None], labels)[None])

    def apart(state: Any, embedding: Any, points: Any) -> Any:
        model = nnx.merge(graph, state)
        images = jnp.repeat(embedding, len(points), axis=0)
        return model.decode(images, model.prompts(points[:, None, None], labels[:, None]))

    def filtered(state: Any, embedding: Any, points: Any, passes: Any) -> Any:
        model = nnx.merge(graph, state)
        image = embedding[0] + model.prompt.dense(None)
        positions = model.prompt.grid()

        def attend(prompts: Any) -> Any:
            tokens, attended = model.decoder.attend(image, positions, prompts)
            return tokens, attended, model.decoder.iou(tokens, True)

        tokens, attended, iou = jax.vmap(attend)(model.prompts(points[:, None], labels))
        masks = jax.vmap(lambda pair: model.decoder.masks(*pair, True))
        return work_off(masks, passes, (tokens, attended), 16), iou

    passes = np.arange(len(points)) < passing * len(points)
    embedding = jax.jit(encode)(state, image)
    with plain_attention():
        same = jax.jit(apart).lower(state, embedding, points).compile()
    compiled = {
        "encode": (jax.jit(encode).lower(state, image).compile(), (image,)),
        "same operations": (same, (embedding, points)),
        "cheaper order": (
            jax.jit(apart).lower(state, embedding, points).compile(),
            (embedding, points),
        ),
        "shared part once": (
            jax.jit(shared).lower(state, embedding, points).compile(),
            (embedding, points),
        ),
        "filters first": (
            jax.jit(filtered).lower(state, embedding, points, passes).compile(),
            (embedding, points, passes),
        ),
    }

    def call(name: str) -> Callable[[], Any]:
        function, inputs = compiled[name]
        return lambda: jax.block_until_ready(function(state, *inputs))

    return {name: call(name) for name in compiled}, embedding


def peer_calls(
    model: Any, image: np.ndarray, points: np.ndarray, embedding: Any
) -> dict[str, Callable[[], Any]]:
    """Encoding and the prompt batch of transformers."""
    import torch

    pixels = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    encoded = torch.from_numpy(np.array(embedding).transpose(0, 3, 1, 2).copy())
    prompts = torch.from_numpy(points)[None, :, None]

    def encode() -> Any:
        with torch.inference_mode():
            return model.get_image_embeddings(pixels)

    def decode() -> Any:
        with torch.inference_mode():
            return model(image_embeddings=encoded, input_points=prompts)

    return {"torch encode": encode, "torch prompts": decode}


def check_equal(ours: dict[str, Callable[[], Any]], theirs: dict[str, Callable[[], Any]]) -> None:
    """All variants give transformers' masks, up to single precision."""
    expected = theirs["torch prompts"]().pred_masks[0].numpy()
    for name in ("same operations", "cheaper order", "shared part once"):
        masks = np.asarray(ours[name]().masks).reshape(expected.shape)
        error = np.linalg.norm(masks - expected) / np.linalg.norm(expected)
        print(f"{name}: masks differ by {error:.1e} of their norm", file=sys.stderr)
        if not error < 1e-3:
            raise SystemExit(f"{name}: masks differ from transformers' by {error:.1e}")


def table(times: dict[str, float], points: int, passing: float) -> str:
    """Markdown: our seconds, transformers', the ratio."""
    rows = [("image encoder", times["encode"], times["torch encode"], "")]
    labels = {
        "same operations": "same operations",
        "cheaper order": "+ cheaper order of products",
        "shared part once": "+ shared part once",
        "filters first": f"+ filters first, {passing:.0%} of the points pass",
    }
    for name, label in labels.items():
        ratio = times["torch prompts"] / times[name]
        verdict = f"{GOAL}: {'met' if ratio >= GOAL else 'missed'}"
        goal = verdict if name == "same operations" else ""
        rows.append((f"{points} points, {label}", times[name], times["torch prompts"], goal))
    batches = GRID / points
    peer = times["torch encode"] + batches * times["torch prompts"]
    for name in ("same operations", "filters first"):
        whole = times["encode"] + batches * times[name]
        rows.append((f"image, 32 x 32 points, {labels[name]}", whole, peer, ""))
    lines = ["| | ours (s) | transformers (s) | ratio | goal |", "|---|---|---|---|---|"]
    lines += [f"| {n} | {a:.2f} | {b:.2f} | {b / a:.2f} | {g} |" for n, a, b, g in rows]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="sam_vit_b", help="model; default %(default)s")
    parser.add_argument("--points", type=int, default=64, help="points a batch; default 64")
    parser.add_argument("--passing", type=float, default=0.1, help="share of points; default 0.1")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds; default 3")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's threads")
    options = parser.parse_args()

    from pretrain_jax.models.sam import SAM_PRESETS

    config = dataclasses.replace(SAM_PRESETS[options.preset], layer_norm="hf")
    rng = np.random.default_rng(1)
    side = config.image_size
    image = rng.standard_normal((1, side, side, config.channels), dtype=np.float32)
    points = rng.uniform(0, side, (options.points, 2)).astype(np.float32)
    state = random_state(config)
    ours, embedding = our_calls(our_model(config, state), image, points, options.passing)
    import torch

    torch.set_num_threads(options.threads)
    theirs = peer_calls(torch_model(config, state), image, points, embedding)
    check_equal(ours, theirs)
    print(table(alternating(ours | theirs, options.repeats), options.points, options.passing))


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main()
