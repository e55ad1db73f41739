"""Small Segment Anything models with random weights."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrain_jax.models.sam import SAM, SAMConfig

SMALL = SAMConfig(
    image_size=64,
    patch_size=4,
    channels=3,
    width=16,
    depth=2,
    heads=2,
    mlp_ratio=2.0,
    window_size=5,
    global_blocks=(1,),
    prompt_width=32,
    decoder_depth=2,
    decoder_heads=2,
    decoder_mlp_width=32,
    iou_head_width=16,
)


def random_model(config: SAMConfig, seed: int, scale: float = 0.15) -> SAM:
    """A model whose parameters are all drawn, those that start at zero or one too."""
    rng = np.random.default_rng(seed)
    model = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
    drawn = []
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        value = scale * rng.normal(size=variable.shape) + (path[-1] == "scale")
        if path[-1] == "frequencies":
            value = rng.normal(size=variable.shape)
        drawn.append((path, variable.replace(jnp.asarray(value, variable.dtype))))
    nnx.update(model, nnx.from_flat_state(drawn))
    return model
