"""Masked autoencoders that start from others, decoder included, at another size of the images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from pretrain_jax import DataOptions, TrainConfig
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import mae_table
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.train.starting import import_weights
from pretrain_jax.train.weights import load_model
from pretrain_jax.weights import export_state, write_safetensors

pytestmark = pytest.mark.usefixtures("lightly_compiled")

STATISTICS = DataOptions(mean=(0.5,) * 3, std=(0.5,) * 3)
ENCODER = ViTConfig(image_size=12, patch_size=4, width=8, depth=1, heads=2)
SMALL = TrainConfig(model=MAEConfig(ENCODER, 12, 1, 3), data=STATISTICS)


def with_encoder(**fields: object) -> TrainConfig:
    """The same run with another encoder."""
    encoder = dataclasses.replace(ENCODER, **fields)  # type: ignore[arg-type]
    return dataclasses.replace(SMALL, model=MAEConfig(encoder, 12, 1, 3))


def test_decoder_and_positions_come_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file and from a run. Interpolation keeps what is the same everywhere as it is."""
    model = nnx.jit(lambda: MAE(SMALL.model, rngs=nnx.Rngs(4)))()
    state = export_state(model, mae_table(SMALL.model, "official"))
    state = {name: array.copy() for name, array in state.items()}
    rng = np.random.default_rng(0)
    tables = {"pos_embed": 8, "decoder_pos_embed": 12}
    rows = {name: rng.normal(size=(2, width)).astype(np.float32) for name, width in tables.items()}
    for name, (first, other) in rows.items():
        state[name][0] = [first, *[other] * 9]
    file = tmp_path / "mae.safetensors"
    write_safetensors(file, state)
    larger = with_encoder(image_size=20)
    import_weights(file, SMALL, tmp_path / "stage" / "run")
    assert capsys.readouterr().err == ""
    for number, source in enumerate((file, tmp_path / "stage")):
        import_weights(source, larger, tmp_path / str(number))
        told = capsys.readouterr().err
        assert f"{source}: positions of 3 x 3 patches are interpolated to 5 x 5" in told
        found = load_model(tmp_path / str(number)).model
        assert isinstance(found, MAE)
        again = export_state(found, mae_table(larger.model, "official"))
        for name, array in state.items():
            if name not in rows:
                np.testing.assert_array_equal(again[name], array)
                continue
            first, other = rows[name]
            assert again[name].shape[1] == 26
            np.testing.assert_array_equal(again[name][0, 0], first)
            np.testing.assert_allclose(again[name][0, 1:], [other] * 25, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"heads": 1}, "heads = 1 here and 2 there"),
        ({"patch_size": 2}, "patch_size = 2 here and 4 there"),
        ({"positions": "learned"}, "positions = 'learned' here and 'sincos' there"),
    ],
)
def test_runs_of_other_models_are_refused(
    tmp_path: Path, fields: dict[str, object], sentence: str
) -> None:
    model = nnx.jit(lambda: MAE(SMALL.model, rngs=nnx.Rngs(4)))()
    file = tmp_path / "mae.safetensors"
    write_safetensors(file, export_state(model, mae_table(SMALL.model, "official")))
    import_weights(file, SMALL, tmp_path / "run")
    with pytest.raises(ValueError, match=rf"^init = \S+run: it is of another model: .*{sentence}"):
        import_weights(tmp_path / "run", with_encoder(**fields), tmp_path / "other")
