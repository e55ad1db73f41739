"""Encoders opened from files in every naming against the models of transformers."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from pretrain_jax.features import Encoder, Features, open_encoder
from pretrain_jax.models.dinov3 import DINOv3Config
from pretrain_jax.weights import read_state, write_safetensors
from tests.parity.namings import NAMINGS
from tests.parity.tensors import randomise, relative
from tests.parity.test_dinov3 import DoubleRope

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PATCH, SIDE = 4, 12


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of encoder, and what differs among its sizes."""

    kind: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CASES = {
    "vit": Case("vit"),
    "mae": Case("mae"),
    "dinov2": Case("dinov2"),
    "dinov2-registers": Case("dinov2", {"num_register_tokens": 3, "use_swiglu_ffn": True}),
    "dinov3": Case("dinov3", {"num_register_tokens": 2}),
    "dinov3-gated": Case(
        "dinov3",
        {
            "num_register_tokens": 4,
            "use_gated_mlp": True,
            "hidden_act": "silu",
            "query_bias": False,
            "value_bias": False,
        },
    ),
    "sam": Case("sam"),
}
PARTS = ("key_bias", "query_bias", "value_bias")


def oracle(case: Case, seed: int) -> torch.nn.Module:
    """The model of transformers with sizes drawn from the seed."""
    rng = np.random.default_rng(seed)
    heads = int(rng.choice([1, 2, 3]))
    sizes = {
        "hidden_size": 64 * heads,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "image_size": SIDE,
        "patch_size": PATCH,
        "num_channels": 3,
        "attn_implementation": "sdpa",
    }
    hidden = {"intermediate_size": int(rng.integers(20, 90))}
    made: Any
    if case.kind == "vit":
        made = transformers.ViTModel(transformers.ViTConfig(**sizes, **hidden))
    elif case.kind == "mae":
        decoder = {
            "decoder_hidden_size": 16,
            "decoder_num_attention_heads": 2,
            "decoder_num_hidden_layers": 1,
            "decoder_intermediate_size": 20,
        }
        made = transformers.ViTMAEForPreTraining(
            transformers.ViTMAEConfig(**sizes, **hidden, **decoder, mask_ratio=0.0)
        )
    elif case.kind == "dinov2" and not case.fields:
        made = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, mlp_ratio=2))
    elif case.kind == "dinov2":
        made = transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**sizes, mlp_ratio=2, **case.fields)
        )
    elif case.kind == "dinov3":
        config = transformers.DINOv3ViTConfig(**sizes, **hidden, **case.fields)
        made = transformers.DINOv3ViTModel(config)
    else:
        del sizes["attn_implementation"]
        vision = transformers.SamVisionConfig(
            **sizes,
            output_channels=32,
            window_size=2,
            global_attn_indexes=[1],
            mlp_dim=hidden["intermediate_size"],
        )
        made = transformers.SamModel(
            transformers.SamConfig(
                vision_config=vision,
                prompt_encoder_config={
                    "hidden_size": 32, "image_size": SIDE, "patch_size": PATCH
                },
                mask_decoder_config={
                    "hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2,
                    "iou_head_hidden_dim": 16,
                },
            )
        )  # fmt: skip
    made = made.double().eval()
    randomise(made, seed)
    if case.kind == "dinov3":
        known = DINOv3Config(patch_size=PATCH, width=sizes["hidden_size"], heads=heads)
        made.rope_embeddings = DoubleRope(known)
    return made


def expected(model: torch.nn.Module, case: Case, images: NDArray) -> torch.Tensor:
    """Tokens after the last norm, or the neck's output, (batch, tokens, width)."""
    pixels = torch.tensor(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        if case.kind == "sam":
            return model.get_image_embeddings(pixels).flatten(2).transpose(1, 2)
        if case.kind == "mae":
            noise = torch.arange((SIDE // PATCH) ** 2).double()[None].repeat(len(pixels), 1)
            return model.vit(pixels, noise=noise).last_hidden_state
        return model(pixels).last_hidden_state


def errors(encoder: Encoder, tokens: torch.Tensor, images: NDArray) -> tuple[float, float]:
    """Relative errors of token and patches."""
    found: Features = encoder.features(images)
    side = images.shape[1] // PATCH
    assert found.patches.shape == (len(images), side, side, tokens.shape[-1])
    first = tokens.mean(dim=1) if encoder.kind == "sam" else tokens[:, 0]
    rest = tokens[:, tokens.shape[1] - side**2 :]
    flat = np.asarray(found.patches).reshape(len(images), side**2, -1)
    return relative(found.token, first), relative(flat, rest)


@pytest.mark.parametrize("name", CASES)
def test_features_in_every_naming(tmp_path: Path, name: str, parity_seed: int) -> None:
    """A folder of transformers, and one file in each other naming, alone.

    Two blocks in double precision lose three digits at most of sixteen.
    """
    case = CASES[name]
    theirs = oracle(case, parity_seed)
    theirs.save_pretrained(tmp_path / "folder")
    images = np.random.default_rng(parity_seed).normal(size=(2, SIDE, SIDE, 3))
    tokens = expected(theirs, case, images)
    state = read_state(tmp_path / "folder" / "model.safetensors")
    with jax.enable_x64(True):
        folder = open_encoder(tmp_path / "folder", image_size=SIDE)
        assert (folder.kind, folder.patch_size, folder.channels) == (case.kind, PATCH, 3)
        assert folder.width == tokens.shape[-1]
        assert max(errors(folder, tokens, images)) < 1e-12
        for naming, make in NAMINGS.get(case.kind.replace("mae", "vit"), {}).items():
            if case.kind == "mae":
                state = {key: value for key, value in state.items() if key.startswith("vit.")}
            path = tmp_path / f"{naming}.pth"
            named = {key: torch.tensor(value) for key, value in make(state).items()}
            torch.save({"model": named}, path)
            # timm's plain models add 1e-6 to variances, those of transformers 1e-12.
            if "vit" in make.__name__:
                (tmp_path / "config.json").write_text('{"layer_norm_eps": 1e-12}')
            alone = open_encoder(path, image_size=SIDE)
            found = errors(alone, tokens, images)
            print(f"{name} {naming}: {max(found):.1e}")
            assert max(found) < 1e-12
            assert alone.kind == ("vit" if case.kind == "mae" else case.kind)
            if "registers" not in name or naming == "official":
                assert alone.width == folder.width


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov2-registers", "sam"])
def test_another_image_size(tmp_path: Path, name: str, parity_seed: int) -> None:
    """Positions of 3 x 3 patches at 5 x 5, as transformers and torch interpolate them.

    transformers rounds them to float32, which two blocks amplify. SAM's model of transformers
    takes one size alone, so that only shapes are compared.
    """
    case = CASES[name]
    theirs = oracle(case, parity_seed)
    theirs.save_pretrained(tmp_path)
    side = 5 * PATCH
    images = np.random.default_rng(1).normal(size=(2, side, side, 3))
    with jax.enable_x64(True):
        encoder = open_encoder(tmp_path, image_size=side)
        assert "positions of 3 x 3 patches are interpolated to 5 x 5" in encoder.notes
        if name == "sam":
            assert encoder.features(images).patches.shape == (2, 5, 5, 32)
            return
        pixels = torch.tensor(images.transpose(0, 3, 1, 2))
        more = {"interpolate_pos_encoding": True} if name == "vit" else {}
        tokens = theirs(pixels, **more).last_hidden_state
        assert max(errors(encoder, tokens, images)) < 1e-5


def test_meta_periods_tell_the_heads(tmp_path: Path) -> None:
    """The angles' periods of Meta's file have a quarter of a head's numbers."""
    case = CASES["dinov3"]
    theirs = oracle(case, 0)
    theirs.save_pretrained(tmp_path / "folder")
    state = read_state(tmp_path / "folder" / "model.safetensors")
    named = NAMINGS["dinov3"]["official"](state)
    width = named["cls_token"].shape[-1]
    periods = 100.0 ** (np.arange(8) / 8)
    write_safetensors(tmp_path / "a.safetensors", named | {"rope_embed.periods": periods})
    encoder = open_encoder(tmp_path / "a.safetensors")
    model: Any = encoder.model
    assert model.config.heads == width // 32
    assert model.config.period == 100.0
    assert any("rope_embed.periods" in note for note in encoder.notes)
    write_safetensors(tmp_path / "b.safetensors", named | {"rope_embed.periods": 1 + periods})
    with pytest.raises(ValueError, match=r"rope_embed\.periods are not the powers"):
        open_encoder(tmp_path / "b.safetensors")


def test_statistics_beside_the_weights(tmp_path: Path) -> None:
    """Those of transformers' image processors, else published ones, and a note says which."""
    oracle(CASES["vit"], 0).save_pretrained(tmp_path)
    encoder = open_encoder(tmp_path)
    assert encoder.mean == encoder.std == (0.5, 0.5, 0.5)
    assert any("mean 0.5, 0.5, 0.5 and standard deviation" in note for note in encoder.notes)
    processor = transformers.ViTImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 1])
    processor.save_pretrained(tmp_path)
    encoder = open_encoder(tmp_path)
    assert (encoder.mean, encoder.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 1.0))
    assert not any("standard deviation" in note for note in encoder.notes)
    (tmp_path / "preprocessor_config.json").unlink()
    told = json.loads((tmp_path / "config.json").read_text())
    told["pretrained_cfg"] = {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1])}
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert (open_encoder(tmp_path).mean, open_encoder(tmp_path).std) == IMAGENET
