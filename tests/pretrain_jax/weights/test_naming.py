"""Prefixes and heads in the names of published checkpoints, and what is said where none fits."""

import re
from collections.abc import Mapping

import numpy as np
import pytest
from flax import nnx

from pretrain_jax.models.vit import ViT, ViTConfig
from pretrain_jax.models.vit.params import transformers_keys, vit_table
from pretrain_jax.weights import Layout, Named, WeightsError, export_state, load_into, named_as

CONFIG = ViTConfig(image_size=8, patch_size=4, width=8, depth=2, heads=2)
TABLES = {name: vit_table(CONFIG, name) for name in ("official", "transformers")}
KEYS = {name: [key for one in table for key in one.keys] for name, table in TABLES.items()}
LAYOUTS = {
    "official": Layout(KEYS["official"]),
    "transformers": Layout(KEYS["transformers"], transformers_keys),
}
HEAD = {"head.weight": np.zeros((5, 8)), "head.bias": np.zeros(5)}


def arrays(layout: str, prefix: str = "") -> dict[str, np.ndarray]:
    """One number for each name, its place in the table."""
    return {f"{prefix}{key}": np.full(1, place) for place, key in enumerate(KEYS[layout])}


def found_all(found: Named, layout: str) -> bool:
    """Whether every name of the layout has its own array, and no other is left."""
    places = {key: int(value[0]) for key, value in found.state.items()}
    return found.layout == layout and places == {k: p for p, k in enumerate(KEYS[layout])}


@pytest.mark.parametrize("layout", ["official", "transformers"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "encoder.",
        "model.",
        "backbone.",
        "module.encoder.",
        "module.base_encoder.",
        "_orig_mod.",
        "a.b.c.",
    ],
)
def test_a_prefix_of_all_names_is_stripped_and_said(layout: str, prefix: str) -> None:
    found = named_as(arrays(layout, prefix), LAYOUTS)
    assert found_all(found, layout)
    assert found.notes == ((f"the prefix {prefix} of its names is stripped",) if prefix else ())
    assert not found.hint


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder."])
@pytest.mark.parametrize("before_head", [True, False])
def test_a_classifiers_head_is_left_out_and_said(prefix: str, before_head: bool) -> None:
    head = {f"{prefix if before_head else ''}{key}": value for key, value in HEAD.items()}
    found = named_as(arrays("official", prefix) | head, LAYOUTS)
    assert found_all(found, "official")
    assert found.notes[-1] == ("not taken, as the model has no classifier: head.bias, head.weight")
    assert len(found.notes) == 1 + bool(prefix)


def test_the_names_of_transformers_5_without_their_prefix() -> None:
    """Of a bare ViTModel, wrapped: `module.embeddings...`, q_proj for query, and a classifier."""
    state = {
        f"module.{key.removeprefix('vit.')}": value for key, value in arrays("transformers").items()
    }
    state |= {"classifier.weight": np.zeros((5, 8))}
    found = named_as(state, LAYOUTS)
    assert found_all(found, "transformers")


def test_a_head_that_the_model_has_is_kept() -> None:
    layout = {"official": Layout([*KEYS["official"], *HEAD])}
    state = {f"module.{key}": value for key, value in (arrays("official") | HEAD).items()}
    found = named_as(state, layout)
    assert set(HEAD) < set(found.state)
    assert len(found.notes) == 1


@pytest.mark.parametrize("name", ["bottleneck", "projector"])
def test_what_only_a_part_shares_is_a_hint(name: str) -> None:
    state = arrays("official", "module.encoder.") | {f"module.{name}.weight": np.zeros(3)}
    found = named_as(state, LAYOUTS)
    count = len(KEYS["official"])
    assert found.hint == (
        f"{count} of the {count} names fit without the prefix module.encoder., which {count} of "
        f"the {count + 1} have: save those alone, without it"
    )


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weight": np.zeros(3)},
        {f"layer{k}.conv1.weight": np.zeros(3) for k in range(50)},
        {"." * 1_000_000: np.zeros(3), "a." * 500_000: np.zeros(3)},
        {"head.weight": np.zeros(3)},
        {"": np.zeros(3)},
    ],
    ids=["empty", "one", "resnet", "dots", "head alone", "no name"],
)
def test_names_of_another_model_are_left(state: Mapping[str, np.ndarray]) -> None:
    found = named_as(state, LAYOUTS)
    assert not any(key in KEYS["official"] for key in found.state)
    assert not found.hint


def test_the_error_names_a_few_of_each() -> None:
    """Ten names at most, however many do not fit."""
    model = nnx.eval_shape(lambda: ViT(CONFIG, rngs=nnx.Rngs(0)))
    state = {f"layer{k}.weight": np.zeros(3) for k in range(50)}
    with pytest.raises(WeightsError) as caught:
        load_into(model, named_as(state, LAYOUTS).state, TABLES["official"])
    text = str(caught.value)
    missing = len(KEYS["official"])
    assert text.startswith(
        f"the checkpoint does not fit the model; {missing} missing keys: cls_token, pos_embed, "
        f"patch_embed.proj.weight, patch_embed.proj.bias and {missing - 4} more; 50 unexpected "
        "keys: layer0.weight"
    )
    assert text.endswith("and 46 more")
    assert len(re.findall(r"[a-z_]\w*\.\w+|cls_token|pos_embed", text)) <= 10


def test_wrapped_weights_arrive_bit_for_bit() -> None:
    model = nnx.jit(lambda: ViT(CONFIG, rngs=nnx.Rngs(3)))()
    state = export_state(model, TABLES["official"])
    wrapped = {f"module.{key}": value for key, value in state.items()} | HEAD
    other = nnx.eval_shape(lambda: ViT(CONFIG, rngs=nnx.Rngs(0)))
    load_into(other, named_as(wrapped, LAYOUTS).state, TABLES["official"])
    for name, array in export_state(other, TABLES["official"]).items():
        assert array.tobytes() == state[name].tobytes(), name
