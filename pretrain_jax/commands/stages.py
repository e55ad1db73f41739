"""Defines the commands of single stages.

They are `import-dicom`, `import-nifti`, `probe`, `propose`, `score`, `select` and `synthesise`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from hardset.checks import check_integer, check_range
from hardset.cli import Choice, Json, Option, Preset, Progress, more_help, wanted
from hardset.folder import MANIFEST, Manifest, read_manifest
from pretrain_jax.data.listing import COLLECTIONS
from pretrain_jax.data.options import Pages, set_reading
from pretrain_jax.places import IMAGES, RECOMMENDED, TOY_MODEL, Places, set_name
from pretrain_jax.synthesis.methods import (
    METHODS,
    Method,
    Storage,
    check_scoring,
    check_selecting,
)
from pretrain_jax.synthesis.proposers import PROPOSERS, Proposer, proposer_from_name
from pretrain_jax.synthesis.sam import Sam
from pretrain_jax.synthesis.tables import check_shards
from pretrain_jax.train.config import PRESETS, TrainConfig

# By proposer: the options of the command, and the fields that they set.
FIELDS = {
    "saliency": {"most": "patches", "min_area": "min_area", "max_area": "max_area"},
    "random-crop": {"most": "crops"},
    "sam": {"sam_weights": "weights"},
}


def import_dicom(
    source: Path,
    *,
    out: Annotated[Path, Option(metavar="FOLDER")],
    salt: Annotated[Path, Option(metavar="FILE")],
    window: Annotated[tuple[float, float] | None, Option(metavar="CENTRE WIDTH")] = None,
    refuse_burned_in: bool = False,
    skip_at_most: float | None = None,
    max_megapixels: float | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Make PNG files and an image list of DICOM files.

    The groups of the list are patients. Names and groups are salted hashes: no identifier of DICOM
    is written. Other commands read OUT/images.txt.

    Args:
        source: folder of DICOM files of any names, or one file.
        out: the stage's folder.
        salt: file of the project's salt, which is made where it is missing; keep it private and
            outside OUT.
        window: of grey values; default the first one of each file, else the percentiles 0.5 and
            99.5 of its series.
        refuse_burned_in: leave out images whose file says that its pixels identify the patient.
        skip_at_most: share of the files that may give no image; default any.
        max_megapixels: of the largest image that is decoded, default 100.

    Examples:
        python -m pretrain_jax import-dicom scans/ --out images/ --salt ~/project.salt
        python -m pretrain_jax import-dicom scans/ --out lung/ --salt ~/project.salt \\
          --window -600 1500
        python -m pretrain_jax propose runs/optidel --data images/images.txt
    """
    set_reading(max_megapixels=max_megapixels)
    from pretrain_jax.synthesis import import_dicom

    manifest = import_dicom(
        source,
        out,
        salt=salt,
        window=window,
        refuse_burned_in=refuse_burned_in,
        skip_at_most=skip_at_most,
        progress=wanted(progress),
    )
    report_stage(out, manifest, as_json=as_json)
    return 0


def import_nifti(
    source: Path,
    *,
    out: Annotated[Path, Option(metavar="FOLDER")],
    axis: Annotated[str, Choice(("axial", "coronal", "sagittal", "0", "1", "2"))] = "axial",
    window: Annotated[tuple[float, float] | None, Option(metavar="CENTRE WIDTH")] = None,
    keep_empty: bool = False,
    skip_at_most: float | None = None,
    max_megapixels: float | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Make PNG files and an image list of the slices of NIfTI files.

    The groups of the list are files. Names and groups are hashes of the voxels: neither names of
    files nor texts of headers are written. Other commands read OUT/images.txt.

    Args:
        source: folder of NIfTI files of any names, or one file.
        out: the stage's folder.
        axis: along which slices follow each other; 0, 1 and 2 are sagittal, coronal and axial.
        window: of the voxels' values; default the percentiles 0.5 and 99.5 of each volume.
        keep_empty: keep slices of which less than 1 % is brighter than 25 of 255.
        skip_at_most: share of the files that may give no image; default any.
        max_megapixels: of the largest slice that is read, default 100.

    Examples:
        python -m pretrain_jax import-nifti volumes/ --out images/
        python -m pretrain_jax import-nifti brain.nii.gz --out images/ --axis sagittal
        python -m pretrain_jax import-nifti ct/ --out lung/ --window -600 1500 --keep-empty
    """
    set_reading(max_megapixels=max_megapixels)
    from pretrain_jax.synthesis import import_nifti

    manifest = import_nifti(
        source,
        out,
        axis=axis,
        window=window,
        keep_empty=keep_empty,
        skip_at_most=skip_at_most,
        progress=wanted(progress),
    )
    report_stage(out, manifest, as_json=as_json)
    return 0


def probe(
    index: Path,
    config: Annotated[TrainConfig, Preset(PRESETS)],
    *,
    weights: str | None = None,
    halves: bool = False,
    progress: Progress = False,
) -> int:
    """Prepare the masked autoencoder that hardness is measured with.

    It is yours, or one that is trained here.

    Presets are those of the command run; --out is the stage's folder.

    Args:
        index: folder of stage index.
        config: how it is trained; of a file of weights it gives the model and the pixels' mean and
            standard deviation.
        weights: a run's folder or a checkpoint file; without it a probe is trained.
        halves: train two more on disjoint halves of the images.

    Examples:
        python -m pretrain_jax probe out/index mae_vit_tiny_cpu --steps 500 --out out/probe
        python -m pretrain_jax probe out/index mae_vit_base_reference \\
          --weights mae_pretrain_vit_base.pth --out out/probe
    """
    dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(index))).check()
    from pretrain_jax.pipeline import probe

    manifest = probe(
        index,
        config.out,
        config=config,
        weights=weights,
        halves=halves,
        seed=config.seed,
        progress=wanted(progress),
    )
    print(f"{config.out}: probe of {manifest.counts['images']} images")
    if "steps" in manifest.counts:
        print(f"  {manifest.counts['steps']} steps, loss {manifest.counts['loss']:.4f}")
    print("".join(f"  {note}\n" for note in manifest.notes), end="")
    return 0


@more_help(lambda: f"layouts of --data: {', '.join(COLLECTIONS)}")
def propose(
    run: Path,
    *,
    data: Annotated[str | None, Option(metavar="SOURCE")] = None,
    frame_stride: int = 1,
    skip_at_most: float | None = None,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    proposer: Annotated[str | None, Choice(PROPOSERS)] = None,
    most: int | None = None,
    least_side: int | None = None,
    min_area: float | None = None,
    max_area: float | None = None,
    sam_weights: Annotated[Path | None, Option(metavar="FILE")] = None,
    seed: int = 0,
    coco: Annotated[Path | None, Option(metavar="FILE")] = None,
    shards: int | None = None,
    shard: int | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Find boxes of patches in every image.

    They are salient objects, random crops or SAM's masks.

    The images are indexed in RUN/index, the patches lie in RUN/proposals/PROPOSER.

    Args:
        run: folder of the whole pipeline.
        data: folder, image list, tar or Parquet file or folder of them, folder that datasets saved,
            video, or LAYOUT:FOLDER with one of the layouts below.
        frame_stride: of videos.
        skip_at_most: share of the files that may be of no use; without it any number cannot
            be decoded, but none may be a broken link, have an odd name, NaN or a single pixel.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.
        proposer: default saliency; sam where it has weights.
        most: most patches of an image.
        least_side: pixels of a patch's shorter side.
        min_area: least share of the image.
        max_area: largest share of the image.
        sam_weights: of the proposer sam.
        seed: of random crops.
        coco: write the patches as COCO annotations, too: masks of SAM, else boxes.
        shards: parts of the table, default one for 5000 rows.
        shard: make only this one, 0 ... SHARDS-1 (one process each).

    Examples:
        python -m pretrain_jax propose runs/optidel --data images/
        python -m pretrain_jax propose runs/optidel --data ldpolypvideo:LDPolypVideo/
        python -m pretrain_jax propose runs/optidel --proposer random-crop --most 8 \\
          --coco boxes.json
        python -m pretrain_jax propose runs/optidel --sam-weights sam_vit_h_4b8939.pth
    """
    name = proposer or ("saliency" if sam_weights is None else "sam")
    check_integer("frame_stride", frame_stride, 1, 2**31)
    check_integer("seed", seed, 0, 2**63 - 1)
    check_shards(shard, shards)
    if skip_at_most is not None:
        check_range("skip_at_most", skip_at_most, 0.0, 1.0)
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    given = {"most": most, "min_area": min_area, "max_area": max_area, "sam_weights": sam_weights}
    chosen = proposer_from_name(name, **_fields(name, least_side, given))
    chosen.inputs()  # missing weights are said before images are read
    if coco is not None and coco.exists():
        raise ValueError(f"--coco: {coco} exists and is not replaced; choose another name")
    index = Places(run).index
    if data is None and not (index / MANIFEST).is_file():
        raise ValueError(f"{index} holds no index yet: name the images with --data")
    if data is None and (pages, bits) != (None, None):
        raise ValueError(
            f"--pages and --bits say how --data is indexed; the images of {index} are read as they "
            "were then: name another RUN with --data"
        )
    from pretrain_jax.synthesis import index_images, propose

    part: dict[str, Any] = {
        "shards": shards,
        "shard": shard,
        "progress": wanted(progress),
    }
    if data is not None:
        manifest = index_images(
            data,
            index,
            frame_stride=frame_stride,
            skip_at_most=skip_at_most,
            max_megapixels=max_megapixels,
            pages=pages,
            bits=bits,
            **part,
        )
        if manifest is None or not as_json:
            report_stage(index, manifest, as_json=as_json)
        if manifest is None:
            return 0
    folder = Places(run).proposals(chosen.name)
    manifest = propose(
        index,
        folder,
        proposer=chosen,
        seed=seed,
        skip_at_most=skip_at_most or 0.0,
        **part,
    )
    report_stage(folder, manifest, as_json=as_json)
    if coco is not None and manifest is not None:
        _export(folder, coco, chosen, as_json=as_json)
    return 0


def _fields(proposer: str, least_side: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Name the given options as the proposer's fields.

    It is a ValueError if the proposer has no such field.
    """
    given = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {} if least_side is None else {"least_side": least_side}
    if proposer == "sam":
        areas = {name: given.pop(name) for name in ("min_area", "max_area") if name in given}
        fields["generator"] = dataclasses.replace(Sam().generator, **areas)
    known = FIELDS.get(proposer, {})
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"--{name.replace('_', '-')} is no option of the proposer {proposer}")
        fields[known[name]] = value
    return fields


def _export(folder: Path, target: Path, proposer: Proposer, *, as_json: bool) -> None:
    """Write the patches as a COCO file.

    Of SAM it has the masks, of other proposers the boxes.
    """
    import numpy as np
    from numpy.typing import NDArray

    from pretrain_jax.segmentation import write_proposals
    from pretrain_jax.synthesis.proposing import MASKS

    masks_of = None
    if isinstance(proposer, Sam):
        regions = proposer.regions(folder / MASKS)

        def masks_of(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
            return regions(pixels)[1]

    count = write_proposals(folder, target, masks_of=masks_of)
    if not as_json:
        print(f"  {'annotations':<22}{count} in {target}")


def score(
    run: Path,
    *,
    of: Annotated[str, Choice((IMAGES, *PROPOSERS))] = "saliency",
    probe: Path | None = None,
    masks: int = 5,
    space: Literal["target", "pixel"] = "target",
    features: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    seed: int = 0,
    shards: int | None = None,
    shard: int | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Measure how hard patches or images are.

    What counts is how badly the probe reconstructs what is hidden.

    Scores lie in RUN/scores/NAME; those of images come with the probe's features, those of patches
    with --features.

    Args:
        run: folder of the whole pipeline.
        of: images, or whose patches.
        probe: a run with a masked autoencoder, default RUN/probe.
        masks: fixed masks of each patch.
        space: of the errors: the probe's training target, or pixels.
        features: also write features of patches, for rules that compare them (images: always).
        batch_size: patches at once.
        workers: threads that decode images.
        seed: of the masks.
        shards: parts of the table, default one for 5000 rows.
        shard: make only this one, 0 ... SHARDS-1 (one process each).

    Examples:
        python -m pretrain_jax score runs/optidel --of saliency
        python -m pretrain_jax score runs/optidel --of random-crop --features
        python -m pretrain_jax score runs/optidel --of images --probe runs/tiny
    """
    check_scoring(masks, seed, space, batch_size, workers)
    check_shards(shard, shards)
    places = Places(run)
    source, folder = places.index if of == IMAGES else places.proposals(of), places.scores(of)
    from pretrain_jax.synthesis import score

    manifest = score(
        source,
        probe or places.probe,
        folder,
        masks=masks,
        seed=seed,
        space=space,
        features=features,
        batch_size=batch_size,
        workers=workers,
        shards=shards,
        shard=shard,
        progress=wanted(progress),
    )
    report_stage(folder, manifest, as_json=as_json)
    return 0


def _methods() -> str:
    return "methods:\n" + "\n".join(f"  {name:<16}{one.about}" for name, one in METHODS.items())


@more_help(_methods)
def select(
    run: Path,
    *,
    method: Annotated[str, Choice(METHODS)],
    ratio: Annotated[str | None, Option(metavar="NUMBER")] = None,
    rule: str | None = None,
    of: Annotated[str | None, Choice(PROPOSERS)] = None,
    patches: int = 4,
    storage: Storage = "pixels",
    alpha_total: float | None = None,
    theta_deg: float | None = None,
    seed: int = 0,
    as_json: Json = False,
) -> int:
    """Choose images or patches until a share of the storage is used up.

    The selection lies in RUN/selections/METHOD-PERCENT, with --storage bytes in
    METHOD-PERCENT-bytes.

    Args:
        run: folder of the whole pipeline.
        method: see below.
        ratio: share of the pixels in (0, 1]; recommended, the smallest one that a test on the
            labels of RUN's images certifies; or toy-model, the theory's, which nothing has tested.
        rule: a policy of the theory or a method of `selection` in the place of the method's own.
        of: whose patches.
        patches: of an image, a square number.
        storage: what the ratio is a share of: pixels, or bytes (both pixels and bytes of the
            files).
        alpha_total: examples over effective dimension, for the ratio toy-model.
        theta_deg: angle between probe and target, for the ratio toy-model.
        seed: of random picks.

    Examples:
        python -m pretrain_jax select runs/optidel --method optidel --ratio 0.1
        python -m pretrain_jax select runs/optidel --method optidel --ratio 0.1 \\
          --rule window:lo=0.02
        python -m pretrain_jax select runs/optidel --method hard-images --ratio 0.1 \\
          --rule ccs:bins=20
        python -m pretrain_jax select runs/optidel --method hard-images --ratio recommended
        python -m pretrain_jax select runs/optidel --method optidel-s --ratio toy-model \\
          --alpha-total 3 --theta-deg 20
    """
    known = METHODS[method]
    if ratio == RECOMMENDED:
        share = _recommended(run, seed)
    else:
        share = _ratio(ratio, known, rule, alpha_total, theta_deg)
    check_selecting(method, share, seed, rule, patches, storage)
    name = set_name(method, share)
    if rule is not None:
        name += "-" + "".join(one if one.isalnum() or one == "." else "-" for one in rule)
    if storage == "bytes":
        name += "-bytes"
    folder = Places(run).selection(name)
    from pretrain_jax.synthesis import select

    manifest = select(
        _source(Places(run), known, of),
        folder,
        method=method,
        ratio=share,
        seed=seed,
        rule=rule,
        patches=patches,
        storage=storage,
    )
    report_stage(folder, manifest, as_json=as_json)
    return 0


def _recommended(run: Path, seed: int) -> float:
    """Return the ratio of the stage `recommend`.

    Where the stage is not finished, it is run.
    """
    from pretrain_jax.pipeline.ratios import known_ratios, recommend_ratio

    if (known := known_ratios(run).get(RECOMMENDED)) is not None:
        return known
    return float(recommend_ratio(run, seed=seed).counts["ratio"])


def _ratio(
    text: str | None,
    method: Method,
    rule: str | None,
    alpha_total: float | None,
    theta_deg: float | None,
) -> float:
    words = f"a share of the pixels in (0, 1], {RECOMMENDED} or {TOY_MODEL}"
    if text is None:
        if method.name != "all":
            raise ValueError(f"--ratio is missing: {words}")
        return 1.0
    if text != TOY_MODEL:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"--ratio {text!r} is not {words}") from None
    if alpha_total is None or theta_deg is None:
        raise ValueError(
            f"--ratio {TOY_MODEL} needs --alpha-total and --theta-deg; python -m pretrain_jax "
            "report estimates both"
        )
    from pretrain_jax.synthesis import toy_model_ratio

    return toy_model_ratio(alpha_total, theta_deg, rule or method.rule)


def _source(places: Places, method: Method, proposer: str | None) -> Path:
    """Find the folder that a method picks from."""
    if method.source == "index":
        return places.index
    if method.source == "images":
        return places.scores(IMAGES)
    # The method's proposer that was scored is taken.
    named = [proposer] if proposer else list(method.proposers)
    found = [one for one in named if (places.scores(one) / MANIFEST).is_file()]
    return places.scores((found or named)[0])


def synthesise(run: Path, name: str, *, progress: Progress = False, as_json: Json = False) -> int:
    """Make the smaller set of the selected patches or images.

    Patches become images, hardest first. Of selected images a list is made.

    RUN/selections/NAME is read and RUN/synthesised/NAME written, whose data.txt is an image list to
    train on: python -m pretrain_jax run PRESET --data.path RUN/synthesised/NAME/data.txt

    Args:
        run: folder of the whole pipeline.
        name: of the selection, such as optidel-10.

    Examples:
        python -m pretrain_jax synthesise runs/optidel optidel-10
    """
    if name != Path(name).name:
        raise ValueError(f"name = {name!r} is not the name of a selection; it may hold no folder")
    selection, folder = Places(run).selection(name), Places(run).synthesised(name)
    patches = read_manifest(selection, "select").parameters["patches"]
    from pretrain_jax.synthesis import synthesise

    manifest = synthesise(selection, folder, patches=patches, progress=wanted(progress))
    report_stage(folder, manifest, as_json=as_json)
    return 0


def report_stage(folder: Path, manifest: Manifest | None, *, as_json: bool) -> None:
    """Print what a stage did.

    Where there is no manifest, it prints that other shards are missing.
    """
    if manifest is None:
        print(f"{folder}: this shard is done; the stage ends with the one that finishes last")
        return
    if as_json:
        print(json.dumps(dataclasses.asdict(manifest) | {"folder": str(folder)}, indent=1))
        return
    print(f"{folder}: {manifest.stage} done in {manifest.seconds:.1f} s of work")
    for name, value in manifest.counts.items():
        shown = f"{value:.6g}" if isinstance(value, float) else f"{value}"
        print(f"  {name.replace('_', ' '):<22}{shown}")
    for name, rate in manifest.rates.items():
        print(f"  {name.replace('_', ' '):<21} {rate:.4g}")
    for note in manifest.notes:
        print(f"  note: {note}")
    if (folder / "contact.png").is_file():
        print(f"  {'contact sheet':<22}{folder / 'contact.png'}")
