"""Takes an optimiser step on a mesh of devices.

AdamW and its schedule are in one compiled program.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pretrain_jax.train.config import OptimizerOptions
from pretrain_jax.train.objectives import Objective

Array = jax.Array
# The batch that `base_learning_rate` is told for.
REFERENCE_BATCH = 256
# Axes of the mesh.
DATA, FSDP = "data", "fsdp"
# Programs kept for runs that differ in nothing but the seed.
PROGRAMS = 16


def peak_learning_rate(options: OptimizerOptions, batch_size: int) -> float:
    """Return the peak learning rate.

    It is `base_learning_rate` x batch / 256 where that is given.

    Source: arXiv:1706.02677 (linear scaling), arXiv:2111.06377 (its form).
    """
    if options.learning_rate is not None:
        return options.learning_rate
    assert options.base_learning_rate is not None
    return options.base_learning_rate * batch_size / REFERENCE_BATCH


def schedule(options: OptimizerOptions, steps: int, batch_size: int) -> optax.Schedule:
    """Return the learning rate by step.

    Step k of the warmup has the rate peak (k + 1) / warmup, so that the first step already moves.
    Half a cosine follows.

    Args:
        options: peak, warmup share, final share.
        steps: optimiser steps of the whole run.
        batch_size: images of a step, for the linear scaling rule.
    """
    peak = peak_learning_rate(options, batch_size)
    warmup = round(options.warmup_share * steps)
    cosine = optax.cosine_decay_schedule(peak, max(1, steps - warmup), options.final_share)
    if not warmup:
        return cosine
    # The first step already moves: step k of the warmup has the rate peak (k + 1) / warmup.
    rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, cosine], [warmup])


def decay_mask(params: Any) -> Any:
    """Return True for the parameters that weight decay applies to.

    It applies to matrices, not to biases, norms and single tokens.
    """
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    options: OptimizerOptions, steps: int, batch_size: int
) -> optax.GradientTransformation:
    """Make the optimiser, with clipping, Adam, decoupled decay and a schedule.

    A step is p <- p - lr (m / (sqrt(v) + eps) + decay p).

    Source: arXiv:1711.05101.
    """
    rates = schedule(options, steps, batch_size)
    rule = adamw(rates, options.betas, options.weight_decay, eps=options.eps)
    if options.clip_norm is None:
        return rule
    return optax.chain(optax.clip_by_global_norm(options.clip_norm), rule)


def adamw(
    rates: optax.Schedule, betas: tuple[float, float], weight_decay: float, *, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Make Adam with decoupled decay of matrices alone."""
    return optax.adamw(
        rates, b1=betas[0], b2=betas[1], eps=eps, weight_decay=weight_decay, mask=decay_mask
    )


def make_mesh(devices: int | None = None, fsdp: int = 1) -> Mesh:
    """Return a mesh with the axes (data, fsdp) over the first `devices` devices.

    Args:
        devices: how many; None takes all, of all hosts.
        fsdp: devices over which parameters are sharded; divides `devices`.

    Raises:
        ValueError: more devices than there are, or `fsdp` does not divide them.
    """
    available = jax.devices()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise ValueError(f"devices = {count} is outside the valid range [1, {len(available)}]")
    if jax.process_count() > 1 and count != len(available):
        raise ValueError(f"devices = {count}: several hosts use all {len(available)} devices")
    if count % fsdp:
        raise ValueError(f"fsdp = {fsdp} does not divide the {count} device(s)")
    grid = np.array(available[:count]).reshape(count // fsdp, fsdp)
    # Axes are of the type Auto. Otherwise reshapes of sharded axes would have to name a sharding.
    return Mesh(grid, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def check_batch(batch_size: int, accumulation: int, mesh: Mesh) -> None:
    """Check that a batch divides equally among the devices.

    Every device gets the same number of rows of every part of it.

    Raises:
        ValueError: names batch, parts and devices.
    """
    devices, parts = mesh.size, "" if accumulation == 1 else f" in {accumulation} parts"
    if batch_size % (devices * accumulation):
        raise ValueError(
            f"batch_size = {batch_size}{parts} cannot be divided over {devices} devices: it must "
            f"be a multiple of {devices * accumulation}"
        )


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Return the sharding of rows over all devices.

    Rows are the dimension `axis`.
    """
    return _sharding(mesh, *[None] * axis, (DATA, FSDP))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that puts a copy on each device."""
    return _sharding(mesh)


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Return a sharding for each array.

    It divides the longest dimension that fsdp divides, else a copy is on each device.
    """
    shards = mesh.shape[FSDP]

    def one(leaf: Any) -> NamedSharding:
        fitting = [n if n % shards == 0 else 0 for n in leaf.shape]
        if shards == 1 or not fitting or max(fitting) == 0:
            return replicated(mesh)
        longest = int(np.argmax(fitting))
        return _sharding(mesh, *[None] * longest, FSDP)

    return jax.tree.map(one, state)


def global_batch(rows: Any, mesh: Mesh, axis: int = 0) -> Any:
    """Join all hosts' rows in arrays.

    Each host gives its own. The dimension `axis` is the rows.
    """
    place = partial(jax.make_array_from_process_local_data, batch_sharding(mesh, axis))
    return jax.tree.map(place, rows)


def _sharding(mesh: Mesh, *axes: Any) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]


class TrainState(NamedTuple):
    """Holds all that changes from step to step.

    Attributes:
        step: number of steps taken, int32.
        params: the parameters.
        constants: what the model holds besides: fixed positions, statistics of batch norm.
        optimizer: the optimiser's state.
        ema: moving average of the parameters, or None.
    """

    step: Array
    params: Any
    constants: Any
    optimizer: Any
    ema: Any


class Metrics(NamedTuple):
    """Holds numbers of a step.

    Each is (), or (steps,) after a scan.

    Attributes:
        loss: mean over the batch, before the update.
        learning_rate: of this step.
        grad_norm: global norm of the gradient before clipping.
        param_norm: global norm of the parameters after the update.
        update_norm: global norm of what was added to them.
    """

    loss: Any
    learning_rate: Any
    grad_norm: Any
    param_norm: Any
    update_norm: Any


@dataclass(frozen=True)
class Step:
    """Initialises and updates a model on a mesh.

    Step k draws its masks with fold_in(key(seed), k) and row numbers, so that they depend neither
    on devices, nor on parts of a batch, nor on when the run was interrupted. The seed is an
    argument of the compiled programs: steps that are equal but for it share them.

    Attributes:
        objective: model and loss.
        optimizer: the gradient transformation.
        schedule: learning rate by step.
        mesh: see `make_mesh`.
        seed: of the parameters and the masks.
        accumulation: parts of a batch computed one after the other.
        ema_decay: None keeps no average.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: Callable[[Array], Any]
    mesh: Mesh
    seed: int = 0
    accumulation: int = 1
    ema_decay: float | None = None

    def graph(self) -> Any:
        """Return the model without its arrays."""
        return abstract_model(self.objective)[0]

    def abstract_state(self) -> TrainState:
        """Return the shapes, types and shardings of the state.

        Nothing is computed.
        """
        shapes = self.shapes()
        return jax.tree.map(
            lambda leaf, where: leaf.update(sharding=where),
            shapes,
            state_sharding(shapes, self.mesh),
        )

    def initial_state(self) -> TrainState:
        """Return the state before the first step, made where it will live."""
        state: TrainState = _initialisation(self.program())(self._seed())
        return state

    def compile(self, *, scan: bool = False) -> Callable[[TrainState, Any], Any]:
        """Return the compiled step.

        It maps (state, batch) to (state, `Metrics`), and `state` is consumed.

        Args:
            scan: batches have a leading dimension of steps, which one device program takes.
        """
        return partial(_update(self.program(), scan), self._seed())

    def program(self) -> "Step":
        """Return what steps that share compiled programs have in common."""
        return dataclasses.replace(self, seed=0)

    def _seed(self) -> np.uint32:
        return np.uint32(self.seed)

    def split(self, model: nnx.Module) -> tuple[Any, Any, Any]:
        """Return graph, trained parameters and constants of a model."""
        return nnx.split(model, self.objective.trained, ...)  # type: ignore[return-value]

    def changed(self, state: TrainState, change: Callable[[Any], None]) -> TrainState:
        """Return the initial state with changed values.

        `change` has put them into its model.

        Values go by way of the host: a donated buffer may appear only once, and one that lies on
        the mesh of another training would compile every program again.
        """
        model = nnx.merge(self.graph(), state.params, state.constants, copy=True)
        change(model)
        _, params, constants = self.split(model)

        def placed(new: Any, old: Any) -> Any:
            # An unchanged array is left alone: a host may hold only a part of a sharded one.
            return new if new is old else jax.device_put(np.array(new, old.dtype), old.sharding)

        params = jax.tree.map(placed, params, state.params)
        return state._replace(
            params=params,
            constants=jax.tree.map(placed, constants, state.constants),
            ema=None if state.ema is None else jax.tree.map(jnp.copy, params),
        )

    def shapes(self) -> Any:
        """Return the shapes and types of the state."""
        return _shapes(self.program())

    def initial(self, seed: Array) -> TrainState:
        """Make the state before the first step; `initial_state` compiles this."""
        _, params, constants = self.split(self.objective.build(seed))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            constants=constants,
            optimizer=self.optimizer.init(params),
            # A copy: a donated buffer may appear only once.
            ema=None if self.ema_decay is None else jax.tree.map(jnp.copy, params),
        )

    def update(
        self, graph: Any, seed: Array, state: TrainState, batch: Any
    ) -> tuple[TrainState, Metrics]:
        """Take a step; `compile` compiles this."""
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        loss, gradients, constants = self.objective.value_and_grad(
            # A copy: a model may change only variables that were made in its own trace.
            lambda params: nnx.merge(graph, params, state.constants, copy=True),
            state.params,
            batch,
            key,
            self.accumulation,
        )
        if constants is None:
            constants = state.constants
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if self.ema_decay is not None:
            ema = optax.incremental_update(params, ema, 1 - self.ema_decay)
        metrics = Metrics(
            loss=loss,
            learning_rate=jnp.asarray(self.schedule(state.step), jnp.float32),
            grad_norm=optax.tree.norm(gradients),
            param_norm=optax.tree.norm(params),
            update_norm=optax.tree.norm(updates),
        )
        return TrainState(state.step + 1, params, constants, optimizer, ema), metrics


@lru_cache(PROGRAMS)
def abstract_model(objective: Objective) -> tuple[Any, Any, Any]:
    """Return the graph of an objective's model, and its abstract arrays.

    These are shapes and types of its parameters and constants.
    """
    model = nnx.eval_shape(lambda: objective.build(0))
    return nnx.split(model, objective.trained, ...)  # type: ignore[return-value]


@lru_cache(PROGRAMS)
def _shapes(step: Step) -> Any:
    return jax.eval_shape(step.initial, np.uint32(0))


@lru_cache(PROGRAMS)
def _initialisation(step: Step) -> Any:
    shardings = state_sharding(step.shapes(), step.mesh)
    on_cpu = step.mesh.devices.flat[0].platform == "cpu"
    # The program runs once: compiling it is what takes time.
    options = {"xla_backend_optimization_level": step.objective.drawing_level} if on_cpu else None
    return jax.jit(step.initial, out_shardings=shardings, compiler_options=options)


@lru_cache(PROGRAMS)
def _update(step: Step, scan: bool) -> Any:
    graph = step.graph()

    def one(seed: Array, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return step.update(graph, seed, state, batch)

    def many(seed: Array, state: TrainState, batches: Any) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(partial(one, seed), state, batches)

    shardings = state_sharding(step.shapes(), step.mesh)
    return jax.jit(
        many if scan else one,
        in_shardings=(None, shardings, batch_sharding(step.mesh, axis=int(scan))),
        out_shardings=(shardings, replicated(step.mesh)),
        donate_argnums=1,
    )
