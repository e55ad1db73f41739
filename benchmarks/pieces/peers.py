"""The peers of accelerator.py: transformers' models in torch on the same device.

bfloat16 by autocast for training, whose weights stay float32 as ours do, and in the weights for
inference; compiled by torch. On a processor they run uncompiled: that takes longer than the rest.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretrain_step import RATE, pixels_of, torch_model
from sam import random_state
from sam import torch_model as torch_sam

from pieces.common import Record, Sizes, SkippedError, need
from pieces.models import sam_config, sam_image, same_masks


def place(full: bool) -> torch.device:
    """The accelerator that JAX has, as torch calls it."""
    if not full:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SkippedError(f"torch {torch.__version__} sees no accelerator here")
    return torch.device("cuda")


def finish(device: torch.device) -> None:
    """Wait until all that was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def mean_seconds(device: torch.device, function: Callable[[], Any], repeats: int) -> float:
    """Seconds of a call, many queued one after the other."""
    finish(device)
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    finish(device)
    return (time.perf_counter() - start) / repeats


def mae_steps(config: Any, batch: int, steps: int, full: bool) -> Iterator[Record]:
    """Whole training steps: loss, gradient, AdamW."""
    device = place(full)
    torch.set_float32_matmul_precision("high")
    model, groups = torch_model(config)
    model.to(device)
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
    pixels = torch.from_numpy(pixels_of(config, batch, 1)[0]).to(device)

    def step(forward: Callable[..., Any]) -> torch.Tensor:
        images = pixels.permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, torch.bfloat16):
            loss = forward((images - 0.5) / 0.25).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    # Uncompiled first: its numbers are there should the compiler need more than is left.
    kinds = {"uncompiled": model}
    if full:
        kinds["single steps"] = torch.compile(model, dynamic=False)
    else:
        kinds = {"single steps": model}
    for part, forward in kinds.items():
        first = mean_seconds(device, partial(step, forward), 1)
        mean_seconds(device, partial(step, forward), 2)
        seconds = mean_seconds(device, partial(step, forward), steps)
        yield {
            "part": part,
            "batch": batch,
            "rate": batch / seconds,
            "unit": "images/s",
            "step_s": seconds,
            "compile_s": first - seconds,
            "loss": float(step(forward)),
            "compiled": full and part != "uncompiled",
        }


def sam_masks(sizes: Sizes, shared: Path) -> Iterator[Record]:
    """Encoder, and transformers' mask generation with the thresholds that ours had."""
    full = bool(sizes.sam)
    device = place(full)
    torch.set_float32_matmul_precision("high")
    config = sam_config(sizes)
    model = torch_sam(config, random_state(config)).to(device, torch.bfloat16)
    for part, count in (("encoder", 1), ("encoder, batch", sizes.encoded)):
        pixels = torch.randn(
            (count, 3, config.image_size, config.image_size), device=device, dtype=torch.bfloat16
        )
        kinds = {"uncompiled": model.vision_encoder}
        if full:
            kinds["compiled"] = torch.compile(model.vision_encoder, dynamic=False)
        rates: Record = {}
        for kind, encoder in kinds.items():
            with torch.inference_mode():
                first = mean_seconds(device, partial(encoder, pixels), 1)
                seconds = mean_seconds(device, partial(encoder, pixels), 5)
            rates |= {f"rate_{kind}": count / seconds, f"first_{kind}_s": first}
        best = max(value for key, value in rates.items() if key.startswith("rate"))
        yield {"part": part, "batch": count, "rate": best, "unit": "images/s"} | rates
    yield from generated(model, device, config, sizes, shared)


def decoded(model: Any, device: torch.device, config: Any, settings: Any) -> Record:
    """Seconds an image of the model alone: what is left of a generator without its filters."""
    side, per_side = config.image_size, settings["points_per_side"]
    centres = (torch.arange(per_side, device=device) + 0.5) * side / per_side
    points = torch.cartesian_prod(centres, centres)[None, :, None]
    pixels = torch.randn((1, 3, side, side), device=device, dtype=torch.bfloat16)

    def image() -> None:
        with torch.inference_mode():
            embedding = model.get_image_embeddings(pixels)
            for batch in points.split(settings["points_per_batch"], dim=1):
                model(image_embeddings=embedding, input_points=batch)

    mean_seconds(device, image, 1)
    seconds = mean_seconds(device, image, 2)
    return {
        "part": "generator, model alone",
        "rate": 1 / seconds,
        "unit": "images/s",
        "image_s": seconds,
    }


def generated(
    model: Any, device: torch.device, config: Any, sizes: Sizes, shared: Path
) -> Iterator[Record]:
    """Seconds an image of the pipeline, and how many masks are ours as well."""
    if not (shared / "sam.json").exists():
        raise SkippedError("the piece sam left no masks to compare with: run both")
    settings = json.loads((shared / "sam.json").read_text())
    yield decoded(model, device, config, settings)
    need("torchvision")
    from PIL import Image
    from transformers import MaskGenerationPipeline, SamImageProcessor

    stored = np.load(shared / "sam.npz")
    shape = tuple(stored["shape"])
    ours = np.unpackbits(stored["masks"], count=int(np.prod(shape))).reshape(shape).astype(bool)
    side = config.image_size
    processor = SamImageProcessor(
        size={"longest_edge": side},
        pad_size={"height": side, "width": side},
        mask_size={"longest_edge": config.mask_size},
        mask_pad_size={"height": config.mask_size, "width": config.mask_size},
    )
    pipeline = MaskGenerationPipeline(model=model, image_processor=processor, device=device)
    images = [Image.fromarray(sam_image(side, seed)) for seed in range(sizes.images + 1)]
    generate = partial(
        pipeline,
        points_per_batch=settings["points_per_batch"],
        points_per_crop=settings["points_per_side"],
        pred_iou_thresh=settings["iou_threshold"],
        stability_score_thresh=settings["stability_threshold"],
        stability_score_offset=settings["stability_offset"],
        mask_threshold=settings["mask_threshold"],
        crops_nms_thresh=settings["box_nms_threshold"],
    )
    generate(images[-1])
    finish(device)
    start = time.perf_counter()
    found = [generate(image)["masks"] for image in images[:-1]]
    finish(device)
    seconds = (time.perf_counter() - start) / sizes.images
    theirs = np.array([np.asarray(mask, bool) for mask in found[0]]).reshape(-1, side, side)
    yield {
        "part": "generator",
        "rate": 1 / seconds,
        "unit": "images/s",
        "image_s": seconds,
        "masks": sum(map(len, found)) / len(found),
        "same_masks_as_ours": same_masks(ours, theirs),
    }
