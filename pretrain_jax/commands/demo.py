"""Defines the command that goes a lab's whole way on images that packages bring along."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hardset.cli import Option, Progress, check_output_folder, wanted
from pretrain_jax.data.listing import list_line, write_list
from pretrain_jax.data.shipped import package_folder

if TYPE_CHECKING:
    from pretrain_jax.report.lab import Chapter

TITLE = "From scans to a segmentation model"
ABOUT = """Everything a lab does, on images that installed packages bring along: scans become
images without names, a small masked autoencoder learns from them, its features say which images
to keep, a second one is trained on these alone, and a segmentation model starts from it. The models
are trained for seconds and the images are few, so that nothing here is a medical result."""
SCANS = "scans"
DICOM, SHIPPED, SOURCE = "dicom", "shipped", "images.txt"
ENCODER, FEATURES, KEPT = "encoder", "features.parquet", "kept"
PRETRAINED, FINETUNED, PREDICTED, PAGE = "pretrained", "finetuned", "predicted", "page"


@dataclass(frozen=True)
class Step:
    """Holds a command of the way, and what the page says of it.

    Attributes:
        title: what it does, in a few words.
        about: why, in sentences.
        arguments: of `python -m pretrain_jax`.
        folder: of its stage, below that of the demonstration; "" for a command that is none.
        pictures: files below that folder, and what they show.
    """

    title: str
    about: str
    arguments: tuple[str, ...]
    folder: str
    pictures: tuple[tuple[str, str], ...] = ()


def lab_demo(*, out: Annotated[Path, Option(metavar="FOLDER")], progress: Progress = False) -> int:
    """Go a lab's whole way on images that packages bring along, in minutes.

    Scans become images, features, a smaller set, a pre-trained and a fine-tuned model, masks and
    one page. Each step is a command, which is printed. The same command again goes on where it
    stopped.

    Args:
        out: folder of everything; the salt of its hashes lies beside it, in FOLDER.salt.

    Examples:
        python -m pretrain_jax lab-demo --out out/lab-demo
    """
    check_output_folder(out)
    from pretrain_jax.__main__ import main
    from pretrain_jax.report.lab import write_lab_page
    from pretrain_jax.segmentation import write_shipped_segmentation

    write_shipped_segmentation(out / SHIPPED)
    for step in steps(out):
        if step.folder == ENCODER:
            write_source(out)
        if not step.folder and (out / f"{KEPT}.txt").exists():
            continue  # the list is written last, and never again
        print(f"\n$ {command(step)}", flush=True)
        shown = ["--progress"] if wanted(progress) else []
        main([*step.arguments, *shown])
    write_lab_page(TITLE, " ".join(ABOUT.split()), chapters(out), out / PAGE)
    print(f"\n{out / PAGE / 'index.html'}: the page")
    return 0


def steps(out: Path) -> tuple[Step, ...]:
    """List the commands in the order in which they are run.

    Args:
        out: folder of everything.

    Raises:
        ValueError: pydicom, whose scans are shown, is not installed.
    """
    scans = package_folder("pydicom", "pydicom") / "data" / "test_files"
    slices = out / SHIPPED / "mni152-tissue"

    def at(name: str) -> str:
        return str(out / name)

    # The page is made of what stages leave in their folders, so every step is a stage.
    return (
        Step(
            "Scans become images",
            "DICOM files of every kind, as they come, become PNG files and a list whose groups are "
            "patients. Names are salted hashes, and what cannot be read is counted by its reason.",
            ("import-dicom", str(scans), "--out", at(DICOM), "--salt", f"{out}.salt"),
            DICOM,
            ((f"{SCANS}.png", "scans, evenly spaced"),),
        ),
        Step(
            "An encoder",
            "A small masked autoencoder learns from the scans, from slices of a brain and from "
            "micrographs, without any label. A lab would take a published encoder and leave this "
            "step out.",
            ("pretrain", at(SOURCE), "demo", "--steps", "200", "--out", at(ENCODER)),
            ENCODER,
        ),
        Step(
            "Features",
            "The encoder describes every image by a row of numbers.",
            ("embed", at(SOURCE), "--weights", at(ENCODER), "--out", at(FEATURES)),
            FEATURES,
        ),
        Step(
            "What to keep",
            "Of the features, k-center keeps those that leave no image far from a kept one, and at "
            "most 20 of a patient or a volume.",
            (
                *("keep", at(SOURCE), "--weights", at(ENCODER), "--method", "k-center"),
                *("--budget", "0.3", "--per-group", "20", "--out", at(f"{KEPT}.txt")),
            ),
            "",
            ((f"{KEPT}.png", "what is kept, and what is left out"),),
        ),
        Step(
            "Pre-training on what is kept",
            "The same small model learns from the kept images alone.",
            ("pretrain", at(f"{KEPT}.txt"), "demo", "--steps", "200", "--out", at(PRETRAINED)),
            PRETRAINED,
        ),
        Step(
            "A segmentation model",
            "It starts from the pre-trained encoder and learns grey and white matter from other "
            "slices than those on which it is scored. In these slices brightness alone tells "
            "tissues well apart: compare the baseline `threshold` in result.json.",
            (
                *("finetune", str(slices), "demo", "--init", at(PRETRAINED)),
                *("--steps", "400", "--out", at(FINETUNED)),
            ),
            FINETUNED,
            ((f"{FINETUNED}/overlays.png", "test slices, their masks and the predicted ones"),),
        ),
        Step(
            "Masks of new images",
            "The model gives every image a mask of its own size, and a table of areas.",
            (
                *("predict", str(slices / "images"), "--model", at(FINETUNED)),
                *("--out", at(PREDICTED)),
            ),
            PREDICTED,
            ((f"{PREDICTED}/overlays.png", "images with the predicted classes in colour"),),
        ),
    )


def chapters(out: Path) -> list["Chapter"]:
    """Describe the finished steps for the page."""
    from pretrain_jax.report.lab import Chapter

    return [
        Chapter(
            one.title,
            one.about,
            command(one),
            out / one.folder if one.folder else None,
            tuple((out / name, caption) for name, caption in one.pictures),
        )
        for one in steps(out)
    ]


def command(step: Step) -> str:
    """Return a step's command line."""
    return shlex.join(["python", "-m", "pretrain_jax", *step.arguments])


def write_source(out: Path) -> None:
    """List the scans and the slices for pre-training, with the groups that are known."""
    lines = []
    with (out / DICOM / "images.txt").open(encoding="utf-8") as file:
        lines += [f"{DICOM}/{line}" for line in file]
    from pretrain_jax.synthesis.sheets import set_sheet

    slices = sorted((out / SHIPPED / "pretraining").rglob("*.png"))
    for path in slices:
        name = path.relative_to(out).as_posix()
        lines.append(list_line(name, path.parent.name))
    write_list(out / SOURCE, lines)
    names = [line.split("\t")[0].rstrip("\n") for line in lines if line.startswith(DICOM)]
    set_sheet(out / f"{SCANS}.png", names, len(names))
