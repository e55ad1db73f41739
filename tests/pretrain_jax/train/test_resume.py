"""Interrupted runs go on as if nothing had happened; runs that must stop keep what is good."""

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orbax.checkpoint import JsonCheckpointHandler

from pretrain_jax import CheckpointError, NonFiniteLossError, TrainConfig, load_model
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import mae_table
from pretrain_jax.train import train
from pretrain_jax.train.config import config_to_json
from pretrain_jax.train.logging import read_log
from pretrain_jax.weights import export_state, write_safetensors

pytestmark = pytest.mark.usefixtures("lightly_compiled")

ROOT = Path(__file__).parents[3]
CHILD = """
import json, sys
from pretrain_jax.train import train
from pretrain_jax.train.config import config_from_json
if __name__ == "__main__":
    train(config_from_json(json.loads(sys.argv[1])))
"""


def losses(config: TrainConfig) -> dict[int, float]:
    lines = read_log(Path(config.out) / "log.jsonl")
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def checkpoints(config: TrainConfig) -> list[str]:
    return sorted(path.name for path in (Path(config.out) / "checkpoints").iterdir())


def train_and_signal(
    config: TrainConfig, step: int, number: signal.Signals, environment: dict[str, str]
) -> tuple[int, str]:
    """Train in another process, which gets the signal as soon as its log holds `step`."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(config_to_json(config))],
        cwd=ROOT,
        env=os.environ | environment | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = Path(config.out) / "log.jsonl"
    while child.poll() is None and (not log.exists() or len(losses(config)) < step):
        time.sleep(0.01)
    os.killpg(child.pid, number)
    errors = child.communicate()[1]
    return child.returncode, errors


def test_a_killed_run_has_the_losses_of_an_undisturbed_one(
    config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    """SIGKILL at a random step, another one at each call of this test."""
    undisturbed = train(dataclasses.replace(config, out=config.out + "-undisturbed"))
    step = random.randrange(4, 10)
    train_and_signal(config, step, signal.SIGKILL, compiled_once)
    resumed = train(config)
    # Where the kill came later than the last step, nothing was left to do.
    assert resumed.resumed_from in (3, 6, 9, 10), f"killed after step {step}"
    assert losses(config) == dict(enumerate(undisturbed.losses, 1)), f"killed after step {step}"
    assert len(checkpoints(config)) == config.keep_checkpoints
    assert undisturbed.validation[-1][1] < undisturbed.validation[0][1]
    assert train(config).losses == ()  # finished: nothing is done again


def test_a_terminated_run_is_saved_at_the_step_under_way(
    config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    long = dataclasses.replace(config, steps=60, checkpoint_every=60)
    undisturbed = train(dataclasses.replace(long, out=config.out + "-undisturbed"))
    code, errors = train_and_signal(long, 2, signal.SIGTERM, compiled_once)
    (saved,) = checkpoints(long)
    assert 2 <= int(saved) < 60, "there is no checkpoint at any other time"
    assert code == -signal.SIGTERM, "the signal takes effect after all"
    assert f"SIGTERM: {long.out} is saved after step {saved} of 60" in errors

    # Ctrl-C, which a terminal sends to the processes that decode, too.
    data = dataclasses.replace(long.data, workers=1)
    again = dataclasses.replace(long, data=data, out=config.out + "-interrupted")
    code, errors = train_and_signal(again, 2, signal.SIGINT, compiled_once)
    (interrupted,) = checkpoints(again)
    assert 2 <= int(interrupted) < 60 and code == -signal.SIGINT
    assert f"interrupted: {again.out} is saved after step {interrupted} of 60" in errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert train(long).resumed_from == int(saved)
    assert losses(long) == dict(enumerate(undisturbed.losses, 1))


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(
    config: TrainConfig, compiled_once: dict[str, str]
) -> None:
    wild = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1e6, weight_decay=1e3),
        checkpoint_every=1,
    )
    with pytest.raises(NonFiniteLossError, match=r"of step \d+ are (nan|inf); the checkpoint of"):
        train(wild)
    assert load_model(wild.out).step == max(map(int, checkpoints(wild))) >= 1


def test_a_full_disk_keeps_the_last_checkpoint(
    config: TrainConfig, compiled_once: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint fails in the middle as on a full disk; with room again it goes on."""
    written = 0
    original = JsonCheckpointHandler._save_fn

    async def save(self: Any, item: Any, directory: Any) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await original(self, item, directory)

    monkeypatch.setattr(JsonCheckpointHandler, "_save_fn", save)
    with pytest.raises(
        CheckpointError, match=r"step 6 cannot be written.*: the disk is full; .*step 3 is intact"
    ):
        train(config)
    assert checkpoints(config) == ["3"]
    assert load_model(config.out).step == 3
    assert train(config).resumed_from == 3


def test_starts_from_weights(
    config: TrainConfig,
    compiled_once: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run's checkpoint and its exports start a run at the same validation loss."""
    first = train(dataclasses.replace(config, steps=2))
    model = load_model(config.out).model
    assert isinstance(model, MAE)
    path = tmp_path / "official.safetensors"
    state = export_state(model, mae_table(model.config, "official"))
    write_safetensors(path, state)
    wrapped = tmp_path / "wrapped.safetensors"
    state = {f"module.{name}": array for name, array in state.items()}
    write_safetensors(wrapped, state | {"module.head.bias": np.zeros(3, np.float32)})
    for number, source in enumerate((config.out, str(path), str(wrapped))):
        again = dataclasses.replace(config, steps=1, init=source, out=f"{config.out}-{number}")
        # The same arithmetic on the same numbers.
        assert train(again).validation[0][1] == first.validation[-1][1]

    said = [line for line in capsys.readouterr().err.splitlines() if str(tmp_path) in line]
    assert f"{wrapped}: the prefix module. of its names is stripped" in said
    assert f"{wrapped}: not taken, as the model has no classifier: head.bias" in said
    assert not any(line.startswith(f"{path}:") for line in said)

    wider = MAEConfig(dataclasses.replace(config.model.encoder, width=16), 8, 1, 2)
    other = dataclasses.replace(config, model=wider, out=config.out + "-wider")
    with pytest.raises(ValueError, match="of another model: width = 16 here and 8 there"):
        train(dataclasses.replace(other, init=config.out))
    with pytest.raises(ValueError, match="keys of another shape"):
        train(dataclasses.replace(other, init=str(path)))
    with pytest.raises(ValueError, match="no such file"):
        train(dataclasses.replace(other, init="missing.pth"))
    assert not Path(other.out).exists(), "a refused run leaves the folder to another one"
