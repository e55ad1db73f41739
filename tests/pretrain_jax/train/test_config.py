"""Configurations: round trip, checks, presets, what may change between two halves of a run."""

import dataclasses
import json
from typing import Any

import pytest

from pretrain_jax import PRESETS, DataOptions, OptimizerOptions, TrainConfig
from pretrain_jax.train.config import config_differences, config_from_json, config_to_json


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_and_survive_json(name: str) -> None:
    base = PRESETS[name]
    config = dataclasses.replace(base, data=dataclasses.replace(base.data, path="images"))
    config.check()
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


def test_the_reference_is_the_papers() -> None:
    reference = PRESETS["mae_vit_base_reference"]
    encoder = reference.model.encoder
    assert (encoder.image_size, encoder.patch_size, encoder.width, encoder.depth) == (
        224,
        16,
        768,
        12,
    )
    assert (reference.batch_size, reference.epochs, reference.steps) == (16, 100.0, None)
    assert reference.optimizer == OptimizerOptions(1.5e-4, None, (0.9, 0.95), weight_decay=0.05)


def changed(**fields: Any) -> TrainConfig:
    return dataclasses.replace(TrainConfig(data=DataOptions(path="images"), steps=10), **fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": None}, "steps = None and epochs = None"),
        ({"epochs": 3.0}, "exactly one of the two"),
        ({"steps": 0}, "steps = 0 is outside"),
        ({"batch_size": 0}, "batch_size = 0 is outside"),
        ({"scan_steps": 4}, "log_every = 10 is not a multiple of scan_steps = 4"),
        ({"data": DataOptions()}, "data.path is missing"),
        ({"data": DataOptions("x", mean=(0.5,), std=(0.5,))}, r"1 value\(s\), the images have 3"),
        ({"data": DataOptions("x", mean=(0.5,) * 3)}, "must be given together"),
        ({"data": DataOptions("x", crop_scale=(0.5, 0.1))}, "not an ascending range"),
        ({"optimizer": OptimizerOptions(base_learning_rate=1.0)}, "exactly one of the two"),
        ({"optimizer": OptimizerOptions(ema_decay=1.0)}, r"ema_decay = 1 is outside .*\[0, 1\)"),
        ({"out": ""}, "is not a folder"),
    ],
)
def test_bad_fields(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        changed(**fields).check()


def test_unknown_fields_of_a_stored_configuration() -> None:
    stored = config_to_json(changed())
    with pytest.raises(ValueError, match="no field colour"):
        config_from_json(stored | {"colour": 1})
    with pytest.raises(ValueError, match="not one of this version: 'kind'"):
        config_from_json(stored | {"model": {}})


def test_a_configuration_of_an_earlier_version_is_read() -> None:
    """Up to version 0.2.2 the field `skip_at_most` was called `max_skipped_share`."""
    config = changed(data=DataOptions(path="a", skip_at_most=0.25))
    stored = config_to_json(config)
    stored["data"]["max_skipped_share"] = stored["data"].pop("skip_at_most")
    assert config_from_json(stored) == config


def test_only_what_no_number_depends_on_may_change() -> None:
    first = changed()
    assert config_differences(first, changed(out="b", devices=4, log_every=1)) == []
    assert config_differences(first, changed(seed=1)) == ["seed = 0 here and 1 there"]
    assert (
        config_differences(first, config_from_json(json.loads(json.dumps(config_to_json(first)))))
        == []
    )
