"""Images in a second through DINOv2 small: ours and transformers' with torch, and with decoding.

    python benchmarks/embed.py [--rounds 7] [--batch 32] [--threads 2] [--images 192]

Both encode the same pixels in float32 (ViT-S/14, 224 pixels, random weights) on as many processors,
in blocks that take turns, so that other load meets both. The medians of all blocks are compared,
and the quartiles of the ratios of neighbouring blocks are printed. Beside seconds of the clock
there are seconds of the processors, which other load changes less. With decoding, `embed` runs on
JPEG and PNG files of 500 x 375 pixels, and its rate is compared with its own without decoding.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GOAL_TORCH, GOAL_DECODING = 0.9, 0.8
SIDE = 224
SPINNING = 0.5


def our_encoder(folder: Path) -> tuple[Any, Path]:
    """The encoder, which is written as a file of weights, too."""
    from flax import nnx

    from pretrain_jax.features import open_encoder
    from pretrain_jax.models.dinov2 import DINOV2_PRESETS, DINOv2
    from pretrain_jax.models.dinov2.params import dinov2_table
    from pretrain_jax.weights import write_safetensors
    from pretrain_jax.weights.mapping import export_state

    config = DINOV2_PRESETS["dinov2_small"]
    model = DINOv2(config, rngs=nnx.Rngs(0))
    path = folder / "dinov2_small.safetensors"
    write_safetensors(path, export_state(model, dinov2_table(config)))
    return open_encoder(path, image_size=SIDE), path


def ours(encoder: Any, batch: int) -> Callable[[np.ndarray], Any]:
    """Pixels to class tokens, as `embed` computes them."""
    from pretrain_jax.features.forward import Forward

    forward = Forward(encoder, SIDE, "class", batch)
    return lambda pixels: np.asarray(forward(pixels))


def theirs() -> Callable[[np.ndarray], Any]:
    """The same by transformers."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
    )
    model = Dinov2Model(config).eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)

    def encode(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            found = model((images - mean) / std).last_hidden_state[:, 0]
            return np.asarray(found.numpy())

    return encode


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock and of the processors, of a call whose result is on the host."""
    # OpenMP's threads spin for a while after their work, on cores that the other side needs.
    time.sleep(SPINNING)
    start, spent = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - spent


def write_images(folder: Path, count: int) -> None:
    """Photographs' size and detail: half of them JPEG, half PNG."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (40, 30, 3)).astype(np.uint8))
        image = coarse.resize((500, 375), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:04d}.{'jpg' if number % 2 else 'png'}")


def ratio_line(ours: float, other: float, goal: float, more: str = "") -> tuple[bool, str]:
    """Whether a ratio of rates misses its goal, and a line that says so."""
    missed = ours / other < goal
    return missed, f"  ratio {ours / other:.3f}{more}; goal {goal}: {'missed' if missed else 'met'}"


def without_decoding(encoder: Any, batch: int, rounds: int) -> bool:
    """Print how ours compares with torch; say whether it misses the goal."""
    sides = ours(encoder, batch), theirs()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
    for encode in sides:
        encode(pixels)
    taken = np.array([[timed(lambda one=one: one(pixels)) for one in sides] for _ in range(rounds)])
    clock = batch / np.median(taken, axis=0)[:, 0]
    low, high = np.quantile(taken[:, 1] / taken[:, 0], [0.25, 0.75], axis=0)
    spent = np.median(taken, axis=0)[:, 1] / batch
    print(f"without decoding: ours {clock[0]:.2f} images/s, torch {clock[1]:.2f}")
    print(f"  processor seconds an image: ours {spent[0]:.4f}, torch {spent[1]:.4f}, ", end="")
    print(f"ratio {spent[1] / spent[0]:.3f}, quartiles {low[1]:.3f} to {high[1]:.3f}")
    more = f", quartiles {low[0]:.3f} to {high[0]:.3f}"
    missed, line = ratio_line(*clock, GOAL_TORCH, more)
    print(line, flush=True)
    return missed


def with_decoding(folder: Path, weights: Path, batch: int, count: int) -> bool:
    """Print how `embed` compares with its own rate; say whether it misses the goal."""
    from pretrain_jax.features import embed

    write_images(folder / "images", count)
    rates = []
    for number in range(3):
        out = folder / f"features-{number}"
        options: dict[str, Any] = {"image_size": SIDE, "batch_size": batch}
        found = embed(folder / "images", out, weights=weights, **options).rates
        rates.append((found["images_per_second"], found["images_per_second_without_decoding"]))
    whole, bare = np.median(rates, axis=0)
    print(f"with decoding: {whole:.2f} images/s, without {bare:.2f}")
    missed, line = ratio_line(whole, bare, GOAL_DECODING)
    print(line)
    return missed


def main() -> int:
    """Print both comparisons; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=192)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    import torch

    torch.set_num_threads(args.threads)
    print(f"load average {os.getloadavg()[0]:.1f}, {args.threads} processors")
    with tempfile.TemporaryDirectory() as name:
        encoder, weights = our_encoder(Path(name))
        missed = without_decoding(encoder, args.batch, args.rounds)
        missed |= with_decoding(Path(name), weights, args.batch, args.images)
    return int(missed)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    from hardset.start import keep_freed_memory

    keep_freed_memory()  # as the command line does; torch's memory is the same process's
    sys.exit(main())
