"""Names of Meta's and timm's files, made of those of transformers by tables written for it here.

Sources: facebookresearch/dinov2 and dinov3 (models/vision_transformer.py, layers/), timm
(models/vision_transformer.py `_convert_dinov2`, models/eva.py `checkpoint_filter_fn`),
facebookresearch/mae (models_mae.py), facebookresearch/segment-anything (modeling/image_encoder.py).
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

State = dict[str, NDArray]


def renamed(state: Mapping[str, NDArray], table: Sequence[tuple[str, str]]) -> State:
    """Every name by the first pattern that it is, and no name without one."""
    found = {}
    for key, value in state.items():
        pattern, new = next(row for row in table if re.fullmatch(row[0], key))
        found[re.sub(pattern, new, key)] = value
    return found


def joined(state: Mapping[str, NDArray], parts: Sequence[str], whole: str) -> State:
    """Arrays whose names differ in one word, one after the other along the first axis."""
    found = dict(state)
    for key in [key for key in state if f".{parts[0]}." in key]:
        pieces = [found.pop(key.replace(f".{parts[0]}.", f".{part}.")) for part in parts]
        found[key.replace(f".{parts[0]}.", f".{whole}.")] = np.concatenate(pieces)
    return found


DINOV2 = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.register_tokens", "register_tokens"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(\w+)\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(\w+)", r"blocks.\1.mlp.w12.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(\w+)", r"blocks.\1.mlp.w3.\2"),
    (r"encoder\.layer\.(\d+)\.((?:mlp|norm)\S+)", r"blocks.\1.\2"),
)


def dinov2_official(state: Mapping[str, NDArray]) -> State:
    """Files of facebookresearch/dinov2."""
    return joined(renamed(state, DINOV2), ("query", "key", "value"), "qkv")


def dinov2_timm(state: Mapping[str, NDArray]) -> State:
    """Files of timm: no mask token; with registers the class token has its position in it."""
    found = dinov2_official(state)
    del found["mask_token"]
    if "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    return {
        key.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): value
        for key, value in found.items()
    }


DINOV3 = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.register_tokens", "storage_tokens"),
    (r"embeddings\.patch_embeddings\.(\w+)", r"patch_embed.proj.\1"),
    (r"norm\.(\w+)", r"norm.\1"),
    (r"layer\.(\d+)\.layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"layer\.(\d+)\.attention\.o_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"layer\.(\d+)\.attention\.(\w)_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"layer\.(\d+)\.mlp\.gate_proj\.(\w+)", r"blocks.\1.mlp.w1.\2"),
    (r"layer\.(\d+)\.(\S+)", r"blocks.\1.\2"),
)


def dinov3_official(state: Mapping[str, NDArray]) -> State:
    """Files of facebookresearch/dinov3, with periods, masks of biases and a norm of training."""
    found = renamed(state, DINOV3)
    gated = any(".w1." in key for key in found)
    names = (".mlp.w2.", ".mlp.w3.") if gated else (".mlp.fc1.", ".mlp.fc2.")
    found = {
        key.replace(".mlp.up_proj.", names[0]).replace(".mlp.down_proj.", names[1]): value
        for key, value in found.items()
    }
    width = found["cls_token"].shape[-1]
    for key in [key for key in found if key.endswith(".q.bias")]:
        # The mask takes the bias of keys away, whatever it is.
        found[key.replace(".q.", ".k.")] = np.full(width, 7.0)
        block = key.removesuffix("q.bias")
        found[f"{block}qkv.bias_mask"] = np.repeat([1.0, 0.0, 1.0], width)
    found["mask_token"] = found["mask_token"][0]
    found["local_cls_norm.weight"] = np.ones(width)
    return joined(found, ("q", "k", "v"), "qkv")


def dinov3_timm(state: Mapping[str, NDArray]) -> State:
    """Files of timm."""
    found = dinov3_official(state)
    del found["mask_token"], found["local_cls_norm.weight"]
    found["reg_token"] = found.pop("storage_tokens")
    for key in [key for key in found if key.endswith(".bias_mask")]:
        del found[key]
        query, _, value = np.split(found.pop(key.removesuffix("_mask")), 3)
        block = key.removesuffix("qkv.bias_mask")
        found |= {f"{block}q_bias": query, f"{block}v_bias": value}
    table = {".ls1.gamma": ".gamma_1", ".ls2.gamma": ".gamma_2"} | {
        ".mlp.w1.": ".mlp.fc1_g.",
        ".mlp.w2.": ".mlp.fc1_x.",
        ".mlp.w3.": ".mlp.fc2.",
    }
    for old, new in table.items():
        found = {key.replace(old, new): value for key, value in found.items()}
    return found


VIT = (
    (r"(?:vit\.)?embeddings\.cls_token", "cls_token"),
    (r"(?:vit\.)?embeddings\.position_embeddings", "pos_embed"),
    (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:vit\.)?layernorm\.(\w+)", r"norm.\1"),
    (r"(?:vit\.)?pooler\.(\S+)", r"pooler.\1"),
    (
        r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.attention\.(\w+)\.(\w+)",
        r"blocks.\1.attn.\2.\3",
    ),
    (
        r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)",
        r"blocks.\1.attn.proj.\2",
    ),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.intermediate\.dense\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.output\.dense\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
)


def vit_official(state: Mapping[str, NDArray]) -> State:
    """Files of timm's plain ViT, and of facebookresearch/mae."""
    found = joined(renamed(state, VIT), ("query", "key", "value"), "qkv")
    return {key: value for key, value in found.items() if not key.startswith("pooler.")}


SAM = (
    (r"vision_encoder\.pos_embed", "image_encoder.pos_embed"),
    (r"vision_encoder\.patch_embed\.projection\.(\w+)", r"image_encoder.patch_embed.proj.\1"),
    (r"vision_encoder\.layers\.(\d+)\.layer_norm(\d)\.(\w+)", r"image_encoder.blocks.\1.norm\2.\3"),
    (r"vision_encoder\.layers\.(\d+)\.(\S+)", r"image_encoder.blocks.\1.\2"),
    (r"vision_encoder\.neck\.conv1\.weight", "image_encoder.neck.0.weight"),
    (r"vision_encoder\.neck\.layer_norm1\.(\w+)", r"image_encoder.neck.1.\1"),
    (r"vision_encoder\.neck\.conv2\.weight", "image_encoder.neck.2.weight"),
    (r"vision_encoder\.neck\.layer_norm2\.(\w+)", r"image_encoder.neck.3.\1"),
    (r"(mask_decoder|prompt_encoder|shared_image_embedding)(\S+)", r"prompt_encoder.\1\2"),
)


def sam_official(state: Mapping[str, NDArray]) -> State:
    """The image encoder in the files of segment-anything; other parts under some name."""
    return renamed(state, SAM)


NAMINGS: Mapping[str, Mapping[str, Callable[[Mapping[str, NDArray]], State]]] = {
    "dinov2": {"official": dinov2_official, "timm": dinov2_timm},
    "dinov3": {"official": dinov3_official, "timm": dinov3_timm},
    "vit": {"official": vit_official},
    "sam": {"official": sam_official},
}
