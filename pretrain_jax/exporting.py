"""Runs the stage `export`, a trained model in the layout of transformers."""

from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from hardset.folder import MANIFEST, Input, Made, Manifest, Stage, read_manifest
from pretrain_jax.features.encoder import digest_of
from pretrain_jax.models.dpt import DPT
from pretrain_jax.models.dpt.params import check_exportable
from pretrain_jax.models.exporting import exported
from pretrain_jax.models.mae import MAE
from pretrain_jax.segmentation.segmenter import load_segmenter
from pretrain_jax.train.step import abstract_model
from pretrain_jax.train.weights import holds_run, load_model, run_of
from pretrain_jax.weights.published import write_published

EXPORT = Stage("export", inputs=("model",), parameters=("architecture",))
FINETUNED = "finetune"  # the stage whose folder holds a segmenter


class Trained(NamedTuple):
    """Holds a trained model that is to be exported.

    Attributes:
        model: an MAE, a DPT or an encoder.
        mean: of each channel, where the largest pixel is 1.
        std: of each channel.
        classes: names of a DPT's classes.
        notes: sentences on what is not exported.
    """

    model: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def export(source: str | Path, out: str | Path) -> Manifest:
    """Write a trained model as transformers reads it.

    The folder gets model.safetensors, config.json, preprocessor_config.json and manifest.json.

    Args:
        source: a stage of pre-training or fine-tuning, a run or one of its checkpoints. A masked
            autoencoder becomes a ViTMAEForPreTraining. A fine-tuned DPT becomes a
            DPTForSemanticSegmentation where that has a place for it. Of other models the encoder
            is written, as a ViTModel, Dinov2Model or DINOv3ViTModel; a note says so.
        out: the stage's folder, new or empty, or one that holds this very export.

    Raises:
        ValueError: there is no trained model, or transformers has no place for it; `out` holds
            something else.
    """
    path = Path(source)
    trained = _segmenter(path) if _is_finetuned(path) else _pretrained(path)
    form = exported(trained.model, trained.mean, trained.std, trained.classes)
    (architecture,) = form.config["architectures"]
    work = EXPORT.open(
        out, {"architecture": architecture}, None, {"model": Input(digest_of(trained.model), path)}
    )

    def fill(work: Any) -> Made:
        write_published(work.folder, form)
        return Made({"arrays": len(form.state)}, notes=trained.notes)

    return work.run(fill)


def _is_finetuned(path: Path) -> bool:
    return (path / MANIFEST).is_file() and read_manifest(path).stage == FINETUNED


def _pretrained(path: Path) -> Trained:
    if not holds_run(path):
        raise ValueError(
            f"{path} holds no trained model; give a folder of stage pretrain or finetune, a run or "
            "one of its checkpoints"
        )
    trained = load_model(run_of(path))
    model: Any = trained.model
    if isinstance(model, MAE):
        return Trained(model, trained.mean, trained.std, (), ())
    notes = ["the projector is left out: its layers serve the loss alone"]
    if model.encoder.config.pool == "mean":
        notes.append("it was trained on the mean of the patches: use that, not the class token")
    return Trained(model.encoder, trained.mean, trained.std, (), tuple(notes))


def _segmenter(path: Path) -> Trained:
    found = load_segmenter(path)
    graph = abstract_model(found.objective)[0]
    whole: Any = nnx.merge(graph, found.params, found.constants)
    model = whole.model
    mean, std = (tuple(map(float, one[...])) for one in (whole.mean, whole.std))
    if isinstance(model, DPT):
        try:
            check_exportable(model.config)
        except ValueError as error:
            reason = str(error)
        else:
            return Trained(model, mean, std, found.classes, ())
    else:
        reason = "transformers has no model with a head on single tokens"
    return Trained(
        model.encoder,
        mean,
        std,
        (),
        (f"the encoder alone is exported, without its head: {reason}",),
    )
