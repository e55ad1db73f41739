"""Defines the Segment Anything model, which makes masks of images and prompts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.sam.config import SAMConfig
from pretrain_jax.models.sam.decoder import BOX_END, BOX_START, NO_POINT, MaskDecoder, PromptEncoder
from pretrain_jax.models.sam.encoder import ImageEncoder


class SAMOutput(NamedTuple):
    """Holds the masks of prompts.

    Attributes:
        masks: logits, (B, P, M, 4G, 4G) for B images with P prompts each and M masks a prompt.
        iou: their predicted IoU, (B, P, M).
    """

    masks: jax.Array
    iou: jax.Array


class SAM(nnx.Module):
    """Implements the Segment Anything model.

    Source: Kirillov et al. 2023, arXiv:2304.02643.

    Args:
        config: the model's shapes, e.g. `SAM_PRESETS["sam_vit_b"]`.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.encoder = ImageEncoder(config, rngs=rngs)
        self.prompt = PromptEncoder(config, rngs=rngs)
        self.decoder = MaskDecoder(config, rngs=rngs)

    def encode(self, images: jax.Array) -> jax.Array:
        """Return the embedding of normalised images.

        From (B, S, S, C) it comes to (B, G, G, prompt_width).

        Raises:
            ValueError: images of another shape than the config's.
        """
        side, channels = self.config.image_size, self.config.channels
        if images.ndim != 4 or images.shape[1:] != (side, side, channels):
            raise ValueError(
                f"images have the shape {images.shape}, the model takes "
                f"(any, {side}, {side}, {channels})"
            )
        return self.encoder(images)

    def prompts(
        self,
        points: jax.Array | None = None,
        labels: jax.Array | None = None,
        boxes: jax.Array | None = None,
    ) -> jax.Array:
        """Return the embeddings of points and boxes.

        Their shape is (..., N, prompt_width).

        Args:
            points: (..., n, 2) pixels (x, y) of the model's input.
            labels: (..., n) integers, 1 on the object, 0 off it, -1 no point.
            boxes: (..., 4) pixels (left, top, right, bottom) of the model's input.

        Raises:
            ValueError: neither points nor boxes; points without labels.
        """
        if points is None and boxes is None:
            raise ValueError("points = None and boxes = None: a prompt needs one of them")
        if (points is None) != (labels is None):
            raise ValueError("points and labels come together")
        where, what = [], []
        if points is not None and labels is not None:
            where.append(points)
            what.append(labels)
        if boxes is None:
            # The decoder was trained with a padding point where there is no box.
            where.append(jnp.zeros_like(where[0][..., :1, :]))
            what.append(jnp.full_like(what[0][..., :1], NO_POINT))
        else:
            corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
            where.append(corners)
            what.append(jnp.broadcast_to(jnp.array([BOX_START, BOX_END]), corners.shape[:-1]))
        return self.prompt.sparse(jnp.concatenate(where, axis=-2), jnp.concatenate(what, axis=-1))

    def decode(
        self,
        embedding: jax.Array,
        prompts: jax.Array,
        masks: jax.Array | None = None,
        *,
        multimask: bool = True,
    ) -> SAMOutput:
        """Return masks of prompts on encoded images.

        Args:
            embedding: (B, G, G, prompt_width) from `encode`.
            prompts: (B, P, N, prompt_width) from `prompts`.
            masks: (B, 4G, 4G) logits of a mask prompt, or None.
            multimask: several masks for an ambiguous prompt instead of one.
        """
        image = embedding + self.prompt.dense(masks)
        positions = self.prompt.grid()

        def one(image: jax.Array, prompts: jax.Array) -> SAMOutput:
            tokens, attended = self.decoder.attend(image, positions, prompts)
            return SAMOutput(
                self.decoder.masks(tokens, attended, multimask),
                self.decoder.iou(tokens, multimask),
            )

        return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(image, prompts)

    def __call__(
        self,
        images: jax.Array,
        points: jax.Array | None = None,
        labels: jax.Array | None = None,
        boxes: jax.Array | None = None,
        masks: jax.Array | None = None,
        *,
        multimask: bool = True,
    ) -> SAMOutput:
        """Return masks of prompts on images.

        Args:
            images: (B, S, S, C) normalised.
            points: (B, P, n, 2) pixels (x, y) of the model's input, or None.
            labels: (B, P, n) integers, 1 on the object, 0 off it, -1 no point.
            boxes: (B, P, 4) pixels (left, top, right, bottom), or None.
            masks: (B, 4G, 4G) logits of a mask prompt, or None.
            multimask: several masks for an ambiguous prompt instead of one.
        """
        prompts = self.prompts(points, labels, boxes)
        return self.decode(self.encode(images), prompts, masks, multimask=multimask)

    def with_image_size(self, image_size: int) -> "SAM":
        """Return the same model for images of another size.

        Positions are interpolated (bicubic), and so are the relative positions of the blocks
        that attend to the whole image (linear, as the published code does).

        Args:
            image_size: side in pixels, a multiple of the patch size.

        Returns:
            A new model.
        """
        encoder = self.encoder.with_image_size(image_size)
        config = encoder.config
        others = nnx.to_flat_state(nnx.state(self))
        state = [(path, variable) for path, variable in others if path[0] != "encoder"]
        state += [(("encoder", *path), one) for path, one in nnx.to_flat_state(nnx.state(encoder))]
        abstract = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
        return nnx.merge(nnx.split(abstract)[0], nnx.from_flat_state(state))
