"""Checkpoints on disk: what comes back, what is refused, what a failed write leaves."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from pretrain_jax import CheckpointError
from pretrain_jax.train.checkpoint import Checkpoints, fingerprint
from pretrain_jax.train.step import TrainState

pytestmark = pytest.mark.usefixtures("lightly_compiled")


def state_of(step: int) -> TrainState:
    rng = np.random.default_rng(step)
    weights = {"kernel": jnp.asarray(rng.normal(size=(64, 96)), jnp.float32)}
    return TrainState(jnp.int32(step), weights, {}, {"count": jnp.int32(7)}, None)


def same(first: TrainState, second: TrainState) -> bool:
    return bool((first.params["kernel"] == second.params["kernel"]).all())


def arrays_file(folder: Path) -> Path:
    """The largest file with arrays, not with descriptions of them."""
    return max(folder.glob("*/**/d/*"), key=lambda path: path.stat().st_size)


@pytest.fixture
def three(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(state_of(step), {"note": f"of step {step}"})
    return checkpoints


def test_the_newest_come_back(three: Checkpoints) -> None:
    assert three.steps() == [2, 3]
    found = three.restore(state_of(0))
    assert found is not None
    assert same(found[0], state_of(3)) and int(found[0].step) == 3
    assert found[1]["note"] == "of step 3"


@pytest.mark.parametrize("damage", ["truncated", "bit", "json", "gone"])
def test_a_damaged_one_is_refused_and_the_one_before_used(
    three: Checkpoints, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = arrays_file(tmp_path / "3")
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "json":
        (tmp_path / "3" / "meta" / "metadata").write_text('{"schema"')
    else:
        path.unlink()
    found = three.restore(state_of(0))
    assert found is not None and same(found[0], state_of(2))
    told = capsys.readouterr().err
    assert "3 is damaged" in told and "refused, trying the one before it" in told
    assert len(told.splitlines()) == 1
    three.remove_after(2)
    assert three.steps() == [2]


def test_another_model_is_refused(three: Checkpoints) -> None:
    other = state_of(0)._replace(params={"kernel": jnp.zeros((64, 97))})
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        three.restore(other)


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").restore(state_of(0)) is None


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import Checkpoints, state_of
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
checkpoints.save(state_of(1), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
try:
    checkpoints.save(state_of(2), {})
except ValueError as error:
    print(error)
"""


def test_a_write_that_the_system_refuses_leaves_the_one_before(tmp_path: Path) -> None:
    """No file may exceed 4000 bytes: TensorStore's own writes fail, in another process."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "step 2 cannot be written" in done.stdout and "step 1 is intact" in done.stdout
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    found = Checkpoints(tmp_path).restore(state_of(0))
    assert found is not None and same(found[0], state_of(1))


NO_DEVICE = """
import sys
from pretrain_jax import load_model
try:
    load_model(sys.argv[1])
except RuntimeError as error:
    print(error)
"""


def test_without_a_device_no_checkpoint_is_called_damaged(tmp_path: Path) -> None:
    """A user who is told so deletes it."""
    (tmp_path / "checkpoints" / "1" / "meta").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", NO_DEVICE, str(tmp_path)],
        env=os.environ | {"JAX_PLATFORMS": "banana", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Unable to initialize backend 'banana'" in done.stdout and done.stderr == ""


def test_the_fingerprint_sees_every_bit_and_place() -> None:
    arrays = {
        "a": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
        "b": jnp.ones(3, jnp.bfloat16),
        "c": jnp.int32(5),
    }
    known = int(fingerprint(arrays))
    assert int(fingerprint(dict(reversed(arrays.items())))) == known
    swapped = arrays["a"].at[0, 1].set(2.0).at[0, 2].set(1.0)
    for name, other in (
        ("a", swapped),
        ("a", -arrays["a"]),
        ("b", arrays["b"].at[2].set(1.0078125)),
        ("c", jnp.int32(6)),
    ):
        assert int(fingerprint(arrays | {name: other})) != known
    assert int(fingerprint({"a": arrays["a"], "x": arrays["b"]})) != known
