"""The command `reconstruct`: mask images and show what a masked autoencoder makes of them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hardset.checks import check_integer
from hardset.cli import Parser, integer
from hardset.datafile import check_output_file

EXAMPLES = """examples:
  python -m pretrain_jax reconstruct runs/demo image.png --out reconstructed.png
  python -m pretrain_jax reconstruct runs/demo/checkpoints/200 a.jpg b.jpg --seed 3 --out ab.png
"""


def main(argv: Sequence[str]) -> int:
    """Reconstruct and write a picture; returns the exit code."""
    options = _parser().parse_args(argv)
    check_integer("--seed", options.seed, 0, 2**32 - 1)
    out = Path(options.out)
    if out.exists():
        raise ValueError(f"{out} exists and is not replaced; choose another --out")
    check_output_file(out)
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out} does not end in .png, the format that is written")
    import jax
    import jax.numpy as jnp
    import numpy as np

    from pretrain_jax.data import Crop, read_pixels
    from pretrain_jax.models.mae import MAE, masking_noise
    from pretrain_jax.pictures import picture, reconstruct, write_png
    from pretrain_jax.train.objectives import normalise
    from pretrain_jax.train.weights import load_model

    trained = load_model(options.checkpoint)
    if not isinstance(trained.model, MAE):
        raise ValueError(
            f"checkpoint {options.checkpoint} is of a model without a decoder; only masked "
            "autoencoders reconstruct"
        )
    config = trained.config
    encoder = config.model.encoder
    crop = Crop(encoder.size[0], kind="centre")
    rng = np.random.default_rng(0)  # a central crop draws nothing
    pixels = np.stack(
        [
            crop(read_pixels(name, channels=encoder.channels, bits=config.data.bits), rng, name)
            for name in options.images
        ]
    )
    images = normalise(jnp.asarray(pixels), trained.mean, trained.std, jnp.float32)
    noise = masking_noise(jax.random.key(options.seed), jnp.arange(len(pixels)), encoder.patches)
    found = reconstruct(trained.model, images, noise, trained.mean, trained.std)
    write_png(out, picture(found), replace=False)
    loss = float(trained.model(images, noise).loss)
    print(f"{out}: {len(pixels)} image(s) by the model of step {trained.step}, loss {loss:.4f}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m pretrain_jax reconstruct",
        description="A row for each image: original, what the encoder sees, reconstruction.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder or one step's")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files of images")
    parser.add_argument("--out", required=True, metavar="FILE.png", help="never replaced")
    parser.add_argument("--seed", type=integer, default=0, help="of the masks")
    return parser
