"""A whole pipeline in small: stages, resuming, added runs, failures, refusals."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hardset.folder import alone, digest, read_manifest
from pretrain_jax import OptimizerOptions, load_model
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline import PipelineConfig, ProbeOptions, Trials, ratios, run_pipeline
from pretrain_jax.synthesis.tables import Table
from pretrain_jax.train.logging import read_log

ROOT = Path(__file__).parents[3]
CELL = Path("pretrained/mae/optidel-s-50/seed-0")


def command(config: PipelineConfig) -> list[str]:
    """The command line of the small pipeline."""
    train = config.mae.train
    assert isinstance(train.model, MAEConfig)
    encoder = train.model.encoder
    fields = {
        "model.encoder.image-size": encoder.size[0],
        "model.encoder.patch-size": encoder.patch_size,
        "model.encoder.width": encoder.width,
        "model.encoder.depth": encoder.depth,
        "model.encoder.heads": encoder.heads,
        "model.decoder-width": train.model.decoder_width,
        "model.decoder-depth": train.model.decoder_depth,
        "model.decoder-heads": train.model.decoder_heads,
        "data.workers": train.data.workers,
        "data.validation-images": train.data.validation_images,
        "data.mean": None,
        "data.std": None,
        "optimizer.learning-rate": train.optimizer.learning_rate,
        "batch-size": train.batch_size,
        "epochs": train.epochs,
        "log-every": train.log_every,
        "checkpoint-every": train.checkpoint_every,
        "validate-every": train.validate_every,
    }
    options = [part for name, value in fields.items() for part in (f"--mae.train.{name}", value)]
    options += ["--mae.methods", *config.mae.methods, "--mae.ratios", *config.mae.ratios]
    options += ["--mae.seeds", *config.mae.seeds, "--data", config.data, "--out", config.out]
    return ["-m", "pretrain_jax", "pipeline", "optidel_reference", *map(str, options)]


def digests(out: Path) -> dict[str, str]:
    """Of every finished stage, by its place."""
    return {
        path.parent.relative_to(out).as_posix(): digest(read_manifest(path.parent))
        for path in sorted(out.rglob("manifest.json"))
    }


def test_a_killed_pipeline_ends_like_an_undisturbed_one(
    config: PipelineConfig, compiled_once: dict[str, str]
) -> None:
    """SIGKILL as soon as the last run logs; what was finished before is not done again."""
    out = Path(config.out)
    child = subprocess.Popen(
        [sys.executable, *command(config)],
        cwd=ROOT,
        env=os.environ | compiled_once | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = out / CELL / "run" / "log.jsonl"
    while child.poll() is None and not (log.exists() and read_log(log)):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    errors = child.communicate()[1]
    assert child.returncode in (-signal.SIGKILL, 0), errors
    killed = digests(out)
    done = json.loads((out / "config.json").read_text())

    resumed = run_pipeline(config)
    # Between the log's first line and the signal the run may have come to its end.
    assert killed.keys() >= {
        *("index", "probe", "scores/random-crop/seed-0", "synthesised/optidel-s-50/seed-0")
    }
    assert resumed.finished == len(digests(out)) - len(killed) <= 1
    assert not resumed.failed and resumed.report is None
    assert {name: digests(out)[name] for name in killed} == killed
    assert done["cells"] == json.loads((out / "config.json").read_text())["cells"]

    undisturbed = dataclasses.replace(config, out=str(out.parent / "undisturbed"))
    assert run_pipeline(undisturbed).finished == len(digests(out))
    assert digests(Path(undisturbed.out)) == digests(out)
    # Equal steps: six of the full set's 24 images in batches of 4, on half of the pixels.
    runs = [read_manifest(out / CELL), read_manifest(out / "pretrained/mae/all-100/seed-0")]
    assert [run.counts["steps"] for run in runs] == [6, 6]
    assert runs[0].counts["storage_ratio"] <= 0.5 < runs[1].counts["storage_ratio"] == 1.0
    # All runs see the images as the probe does.
    models = [load_model(out / place / "run") for place in (CELL, "probe")]
    assert models[0].mean == models[1].mean

    again = run_pipeline(config)
    assert again.finished == 0
    assert again.seconds.keys() == {
        *("index", "probe", "propose", "score", "select", "synthesise", "pretrain mae")
    }
    more = dataclasses.replace(config, mae=dataclasses.replace(config.mae, seeds=(0, 1)))
    said: list[str] = []
    assert run_pipeline(more, say=said.append).finished == 6
    new = [line.split()[0] for line in said if "done before" not in line]
    # Crops are drawn anew for the new seed; all data are the same for every seed.
    places = ("proposals/random-crop", "scores/random-crop", "selections/optidel-s-50")
    places += ("synthesised/optidel-s-50", "pretrained/mae/all-100", "pretrained/mae/optidel-s-50")
    assert new == [f"{place}/seed-1" for place in places]
    drawn = [
        Table(out / "selections/optidel-s-50" / f"seed-{seed}", "selection") for seed in (0, 1)
    ]
    assert not set(drawn[0].column("patch")) & set(drawn[1].column("patch"))

    image = Path(config.data, "05.png")
    pixels = image.read_bytes()
    image.write_bytes(pixels[:-1] + b"?")
    with pytest.raises(ValueError, match=r"05\.png has changed since it was indexed"):
        run_pipeline(config)
    image.write_bytes(pixels)

    other = dataclasses.replace(config, patches=9)
    with pytest.raises(ValueError, match=r"another configuration: patches = 9 here and 4 there"):
        run_pipeline(other)


def test_a_run_that_diverges_leaves_the_others(
    config: PipelineConfig, compiled_once: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two contrastive runs of an absurd learning rate: the second is tried after the first.

    Their ratios are the toy model's, by an estimate that says 0.50004, and the tested one, which is
    1: nothing can be certified on 24 images.
    """
    data = Path(config.out).parent / "labelled"
    for number, image in enumerate(sorted(Path(config.data).glob("*.png"))):
        (data / ("even", "odd")[number % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, data / ("even", "odd")[number % 2])
    config = dataclasses.replace(config, data=str(data))
    advice = SimpleNamespace(
        policies=[SimpleNamespace(policy="hard", keep_fraction=0.50004)],
        caveat="a heuristic",
        verdict=SimpleNamespace(sentence=lambda: "nothing was measured"),
    )
    place = SimpleNamespace(alpha_total=3.0, theta=0.5)
    estimate = SimpleNamespace(recommendation=advice, coordinates=place)
    monkeypatch.setattr(ratios, "bridge_of_run", lambda run, seed: estimate)
    train = dataclasses.replace(
        config.mae.train,
        model=SimCLRConfig(dataclasses.replace(config.mae.train.model.encoder, pool="mean"), 8, 4),
        optimizer=OptimizerOptions(learning_rate=1e6, weight_decay=1e3),
        epochs=None,
        steps=40,
    )
    random = Trials(train, methods=("random",), ratios=("toy-model", "recommended"), seeds=(0, 1))
    mae = dataclasses.replace(config.mae, seeds=())
    halves = ProbeOptions(halves=True)
    both = dataclasses.replace(config, mae=mae, simclr=random, probe=halves)
    said: list[str] = []
    with pytest.warns(UserWarning, match="6 negatives"):
        result = run_pipeline(both, say=said.append)
    (line,) = [one for one in said if one.startswith("  ratio 1: ")]
    assert "Keep all 24 rows" in line
    tested = read_manifest(Path(config.out) / "recommended", "recommend")
    assert tested.counts["ratio"] == 1 and tested.inputs.keys() == {"index", "scores/images"}
    stage = read_manifest(Path(config.out) / "toy-model", "toy-model")
    assert stage.counts["ratio"] == 0.5 and stage.counts["alpha_total"] == 3.0
    assert stage.inputs.keys() == {f"scores/images{end}" for end in ("", "-half-0", "-half-1")}
    cells = json.loads((Path(config.out) / "config.json").read_text())["cells"]
    assert [cell["ratio"] for cell in cells] == [0.5, 0.5, 1, 1]
    places = [f"random-{percent}/seed-{seed}" for percent in (50, 100) for seed in (0, 1)]
    assert list(result.failed) == [f"pretrained/simclr/{place}" for place in places]
    for name, sentence in result.failed.items():
        folder = Path(config.out) / name
        assert (folder / "failed.txt").read_text() == f"{sentence}\n"
        assert not (folder / "manifest.json").exists()
    assert result.seconds["synthesise"] > 0


def test_a_folder_of_something_else_is_left_alone(config: PipelineConfig, tmp_path: Path) -> None:
    out = Path(config.out)
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no pipeline"):
        run_pipeline(config)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    other = tmp_path / "other"
    other.mkdir()
    held = pytest.raises(ValueError, match="another process works in")
    with alone(other), held:
        run_pipeline(dataclasses.replace(config, out=str(other)))
    assert [path.name for path in other.iterdir()] == [".lock"]
    inside = Path(config.data) / "out"
    with pytest.raises(ValueError, match="lies inside the image source"):
        run_pipeline(dataclasses.replace(config, out=str(inside)))
    assert not inside.exists()
    with pytest.raises(ValueError, match="lies inside the image source"):
        run_pipeline(
            dataclasses.replace(config, downstream=(str(tmp_path),), evaluations=("linear-frozen",))
        )
