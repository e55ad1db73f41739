"""MAE optimiser steps: ours and transformers' ViTMAE with torch, at equal configuration.

    python benchmarks/pretrain_step.py [--cases tiny base] [--steps 5] [--threads 2]

On CPU both take whole steps (loss, gradient, AdamW) in float32 on the same pixels, alternating, so
that other load meets both; the median of each is compared. "scan" is a scan of steps in one program
against single steps. For an accelerator there is accelerator.py.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

GOAL_TORCH, STRETCH_TORCH = 0.8, 1.2
RATE = 1e-4
SPINNING = 0.5


def cases() -> dict[str, tuple[Any, int]]:
    """Name -> (model, batch)."""
    from pretrain_jax.models.mae import MAE_PRESETS, MAEConfig
    from pretrain_jax.models.vit import ViTConfig

    # 192 wide and 12 deep, on 64-pixel images with patches of 8.
    tiny = MAEConfig(ViTConfig(image_size=64, patch_size=8, width=192, heads=3), 96, 2, 3)
    return {"tiny": (tiny, 64), "base": (MAE_PRESETS["mae_vit_base"], 8)}


def our_step(config: Any, batch: int, dtype: str = "float32") -> tuple[Any, Any]:
    """The step object and its initial state."""
    import optax

    from pretrain_jax import OptimizerOptions
    from pretrain_jax.train.objectives import make_objective
    from pretrain_jax.train.step import Step, make_mesh, make_optimizer

    options = OptimizerOptions(learning_rate=RATE, warmup_share=0.0)
    step = Step(
        objective=make_objective(config, dtype, (0.5,) * 3, (0.25,) * 3),
        optimizer=make_optimizer(options, 10**6, batch),
        schedule=optax.constant_schedule(RATE),
        mesh=make_mesh(1),
    )
    return step, step.initial_state()


def pixels_of(config: Any, batch: int, steps: int) -> np.ndarray:
    """Random pixels (steps, batch, size, size, 3)."""
    size = config.encoder.size[0]
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (steps, batch, size, size, 3), dtype=np.uint8)


def torch_model(config: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Transformers' ViTMAE of a configuration, and its parameters with their weight decay."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    encoder = config.encoder
    model = ViTMAEForPreTraining(
        ViTMAEConfig(
            image_size=encoder.size[0],
            patch_size=encoder.patch_size,
            hidden_size=encoder.width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.heads,
            intermediate_size=encoder.hidden_width,
            decoder_hidden_size=config.decoder_width,
            decoder_num_hidden_layers=config.decoder_depth,
            decoder_num_attention_heads=config.decoder_heads,
            decoder_intermediate_size=round(encoder.mlp_ratio * config.decoder_width),
            layer_norm_eps=encoder.layer_norm_eps,
            mask_ratio=config.mask_ratio,
            norm_pix_loss=config.norm_pixel_loss,
        )
    )
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    others = [p for p in model.parameters() if p.ndim <= 1 and p.requires_grad]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return model, groups


def torch_step(config: Any) -> Callable[[np.ndarray], float]:
    """A step of transformers' ViTMAE with torch's AdamW; takes pixels, returns the loss."""
    import torch

    model, groups = torch_model(config)
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)

    def step(pixels: np.ndarray) -> float:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        loss = model((images - 0.5) / 0.25).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def timed(function: Callable[[], Any]) -> float:
    """Seconds of a call whose result is a Python number."""
    # OpenMP's threads spin for a while after their work, on cores that the other side needs.
    time.sleep(SPINNING)
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def on_cpu(name: str, config: Any, batch: int, steps: int) -> list[str]:
    """A row of the table for a case."""
    step, state = our_step(config, batch)
    pixels = pixels_of(config, batch, steps)
    single, scanned = step.compile(), step.compile(scan=True)

    def ours(number: int) -> float:
        nonlocal state
        state, metrics = single(state, pixels[number])
        return float(metrics.loss)

    def scan() -> float:
        nonlocal state
        state, metrics = scanned(state, pixels)
        return float(metrics.loss[-1])

    peer = torch_step(config)
    ours(0), peer(pixels[0])  # compilation, first allocations
    mine, theirs = [], []
    for number in range(steps):
        mine.append(timed(lambda n=number: ours(n)))
        theirs.append(timed(lambda n=number: peer(pixels[n])))
    scan()
    in_scan = timed(scan) / steps
    one, other = float(np.median(mine)), float(np.median(theirs))
    verdict = "stretch" if other / one >= STRETCH_TORCH else "met"
    verdict = verdict if other / one >= GOAL_TORCH else "missed"
    return [
        name,
        str(batch),
        f"{one * 1e3:.0f}",
        f"{other * 1e3:.0f}",
        f"{other / one:.2f}",
        f"{GOAL_TORCH}: {verdict}",
        f"{in_scan * 1e3:.0f}",
        f"{one / in_scan:.2f}",
    ]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=("tiny", "base"), default=["tiny", "base"])
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    print(f"load average {os.getloadavg()[0]:.1f}, {options.threads} threads for torch\n")
    print(
        "| case | batch | ours, ms | torch, ms | torch / ours | goal | scan, ms a step |"
        " step / scan |\n|---|---|---|---|---|---|---|---|"
    )
    for name in options.cases:
        config, batch = cases()[name]
        print(f"| {' | '.join(on_cpu(name, config, batch, options.steps))} |", flush=True)
    return 0


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    from hardset.start import keep_freed_memory

    keep_freed_memory()  # as the command line does; torch's memory is the same process's
    sys.exit(main())
