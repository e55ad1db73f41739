"""One computation in many forms: devices, scans, parts of a batch, NNX modes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from pretrain_jax import OptimizerOptions
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import Augmentation, SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.step import (
    Step,
    TrainState,
    global_batch,
    make_mesh,
    make_optimizer,
    schedule,
)

pytestmark = pytest.mark.usefixtures("lightly_compiled")

MODEL = MAEConfig(ViTConfig(image_size=8, patch_size=2, width=8, depth=1, heads=2), 8, 1, 2)
OPTIONS = OptimizerOptions(learning_rate=1e-2, clip_norm=1.0, ema_decay=0.9)
STEPS, BATCH = 5, 16
PIXELS = np.random.default_rng(0).integers(0, 256, (STEPS, BATCH, 8, 8, 3)).astype(np.uint8)

CONTRASTIVE = SimCLRConfig(
    dataclasses.replace(MODEL.encoder, pool="mean"),
    projector_hidden=8,
    projector_width=4,
    augmentation=Augmentation(blur_radius=0.2),
)

FORMS: dict[str, dict[str, Any]] = {
    "one device": {},
    "eight devices": {"devices": 8},
    "sharded parameters": {"devices": 8, "fsdp": 4},
    "a scan of steps": {"scan": True},
    "four parts of a batch": {"accumulation": 4},
    "tree mode": {"graph": False},
}
CONTRASTIVE_FORMS: dict[str, dict[str, Any]] = {
    "contrastive": {"model": CONTRASTIVE},
    "contrastive, divided": {"model": CONTRASTIVE, "devices": 8, "accumulation": 4},
}
# Eight forced host devices; little optimisation, because compiling is most of the time.
FLAGS = "--xla_force_host_platform_device_count=8"


def losses(
    *,
    devices: int = 1,
    fsdp: int = 1,
    accumulation: int = 1,
    scan: bool = False,
    graph: bool = True,
    model: MAEConfig | SimCLRConfig = MODEL,
) -> list[float]:
    """Losses of a few steps."""
    with nnx.set_graph_mode(graph):
        return _losses(model, devices, fsdp, accumulation, scan)


def _losses(
    model: MAEConfig | SimCLRConfig, devices: int, fsdp: int, accumulation: int, scan: bool
) -> list[float]:
    step = Step(
        objective=make_objective(model, "float32", (0.5,) * 3, (0.3,) * 3),
        optimizer=make_optimizer(OPTIONS, STEPS, BATCH),
        schedule=schedule(OPTIONS, STEPS, BATCH),
        mesh=make_mesh(devices, fsdp),
        accumulation=accumulation,
        ema_decay=OPTIONS.ema_decay,
    )
    state: TrainState = step.initial_state()
    run = step.compile(scan=scan)
    found: list[float] = []
    if scan:
        state, metrics = run(state, global_batch(PIXELS, step.mesh, axis=1))
        found += np.asarray(metrics.loss).tolist()
    else:
        for pixels in PIXELS:
            state, metrics = run(state, global_batch(pixels, step.mesh))
            found.append(float(metrics.loss))
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, list[float]]:
    """The losses of every form, in one process with eight devices."""
    script = (
        "import json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_equivalence import CONTRASTIVE_FORMS, FORMS, losses\n"
        "forms = FORMS | CONTRASTIVE_FORMS\n"
        "print(json.dumps({name: losses(**form) for name, form in forms.items()}))\n"
    )
    root = Path(__file__).parents[3]
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("form", list(FORMS)[1:])
def test_every_form_has_the_losses_of_the_plain_one(
    form: str, found: dict[str, list[float]]
) -> None:
    """Sums in another order: rounding of float32, grown over five steps."""
    plain = found["one device"]
    assert plain[-1] < plain[0]
    np.testing.assert_allclose(found[form], plain, rtol=1e-5)


def test_contrastive_parts_and_devices_share_their_negatives(
    found: dict[str, list[float]],
) -> None:
    plain, divided = (found[form] for form in CONTRASTIVE_FORMS)
    assert plain[0] != plain[1]
    np.testing.assert_allclose(divided, plain, rtol=1e-5)


def test_a_quick_compilation_draws_the_same_parameters(compiled_once: dict[str, str]) -> None:
    """Bit for bit those of the compiler's own settings."""
    step = Step(
        objective=make_objective(MODEL, "float32", (0.5,) * 3, (0.3,) * 3),
        optimizer=make_optimizer(OPTIONS, STEPS, BATCH),
        schedule=schedule(OPTIONS, STEPS, BATCH),
        mesh=make_mesh(1, 1),
        seed=3,
    )
    jax.config.update("jax_disable_most_optimizations", False)  # the compiler's own
    plain = jax.jit(step.initial)(np.uint32(3))
    jax.config.update("jax_disable_most_optimizations", True)
    for ours, theirs in zip(*map(jax.tree.leaves, (step.initial_state(), plain)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_parameters_are_really_sharded() -> None:
    """On a mesh of one device nothing is; the rule itself is a function of shapes."""
    from jax.sharding import AbstractMesh, AxisType

    from pretrain_jax.train.step import state_sharding

    mesh = AbstractMesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))
    leaves = {
        "wide": jax.ShapeDtypeStruct((3, 8), np.float32),
        "tall": jax.ShapeDtypeStruct((16, 8), np.float32),
        "odd": jax.ShapeDtypeStruct((5,), np.float32),
        "scalar": jax.ShapeDtypeStruct((), np.float32),
    }
    specs = {name: tuple(found.spec) for name, found in state_sharding(leaves, mesh).items()}
    assert specs == {"wide": (None, "fsdp"), "tall": ("fsdp",), "odd": (), "scalar": ()}
