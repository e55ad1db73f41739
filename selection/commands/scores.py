"""Defines the command `score`, which says how hard or informative examples are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from hardset.cli import Json, Option, more_help
from selection.arrays import Array
from selection.commands.inputs import File, keep_or_print
from selection.files import (
    SCORE_SUFFIXES,
    check_new_file,
    check_source,
    json_text,
    read_array,
    write_scores,
)
from selection.pool import Pool
from selection.registry import SCORE_NAMES, check_score, describe_scores, parse_score
from selection.scoring.recorder import TrainingDynamics


def _scores() -> str:
    return f"scores, the files they need, their options and defaults:\n{describe_scores()}"


@more_help(_scores)
def score(
    score: Annotated[str, Option(metavar="SCORE[:option=value,...]")],
    *,
    correct: File | None = None,
    dynamics: File | None = None,
    features: File | None = None,
    gradients: File | None = None,
    holdout_losses: File | None = None,
    inside: File | None = None,
    labels: File | None = None,
    logits: File | None = None,
    losses: File | None = None,
    masks: File | None = None,
    patches: File | None = None,
    predictions: File | None = None,
    texts: File | None = None,
    training_features: File | None = None,
    training_texts: File | None = None,
    validation_gradients: File | None = None,
    ids: File | None = None,
    out: File | None = None,
    as_json: Json = False,
) -> int:
    """Score how hard or informative each example is.

    --dynamics is what the recorder saved (.npz); --logits of shape (n, C), (T, n, C) or
    (S, T, n, C) with --labels (and --features for grand) stand for it. There are S seeds, T epochs,
    n examples, C classes.
    Labels are 0 ... C-1, or C distinct strings, which stand for the classes in sorted order. first
    and last are epochs, counted from 0 among those recorded, both included; by default all, for
    el2n and grand those after epochs 10 to 20 (first=9,last=19) of 20 recorded ones or more.

    High means hard or informative, for every score. The theory's hard examples are those of margin;
    el2n, loss and aum put wrong labels first.

    Files are FILE.npy (memory-mapped), FILE.npz[:KEY] or FILE.parquet[:COLUMN]; one row an example.
    Columns of numbers are joined by FILE.parquet:a,b,c or a pattern, 'FILE.parquet:x*'.

    Args:
        score: one of those below.
        correct: whether each of M models classifies each example correctly, 0 or 1, (M, n).
        dynamics: what the recorder saved, an .npz file.
        features: embeddings, (n, d); with --logits the penultimate features of the same axes.
        gradients: of the candidates' losses, (n, g).
        holdout_losses: by a model trained on other data, (n,).
        inside: whether each of M models was trained on each example, 0 or 1, (M, n).
        labels: classes, whole numbers or strings, (n,).
        logits: (n, C), (T, n, C) or (S, T, n, C).
        losses: by the model in training, (n,).
        masks: 1 where a token was hidden, (K, tokens) or (K, n, tokens).
        patches: the inputs of a masked autoencoder, (n, tokens, values).
        predictions: its outputs under K masks, (K, n, tokens, values).
        texts: embeddings of the examples' texts, (n, d).
        training_features: embeddings by the model that was trained on the pool, (n, d).
        training_texts: and its embeddings of the texts, (n, d).
        validation_gradients: of the validation examples' losses, (m, g).
        ids: names of the examples, for --out.
        out: .npy for the scores, .parquet or .json for ids, too; each says what it was made with.
            Never replaces another file.

    Examples:
        python -m selection score entropy --logits logits.npy --out entropy.npy
        python -m selection score el2n:first=4,last=9 --dynamics run.npz --out el2n.parquet
        python -m selection score forgetting:never_learned=0 --logits epochs.npy --labels y.npy
        python -m selection score clip --features images.npy --texts texts.npy --out clip.json
    """
    given: dict[str, str] = {
        name: source
        for name, source in dict(locals()).items()
        if source is not None and name not in ("score", "ids", "out", "as_json")
    }
    check_score(score)
    if out is not None:
        check_new_file(out, SCORE_SUFFIXES)
    for name, source in given.items():
        if name != "dynamics":
            check_source(name, source)
    function, options = parse_score(score)
    scores = function(**_arrays(score.partition(":")[0], given), **options)
    names = None if ids is None else read_array("ids", ids)
    if names is not None and len(names) != len(scores):
        raise ValueError(
            f"the arrays have different lengths: ids {len(names)}, scores {len(scores)}"
        )
    if names is not None:
        names = Pool.of(ids=names).ids  # distinct, integers or strings
    if out is not None:
        keep_or_print(
            lambda: write_scores(out, scores, names, command=score, files=given),
            lambda: "\n".join(map(repr, scores.values.tolist())),
        )
    order = np.argsort(-scores.values, kind="stable")[:5]
    least, median, largest = np.quantile(scores.values, [0.0, 0.5, 1.0])
    summary = {
        "score": scores.name,
        "examples": len(scores),
        "least": float(least),
        "median": float(median),
        "largest": float(largest),
        "hardest": (order if names is None else names[order]).tolist(),
        "out": None if out is None else str(Path(out)),
        "provenance": dict(scores.provenance),
    }
    if as_json:
        print(json_text(summary))
    else:
        print("\n".join(f"{name:<10} {value}" for name, value in summary.items()))
    return 0


def _arrays(score: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Read the arrays that the score takes from the given files."""
    wanted, may = SCORE_NAMES[score].needs.split(), SCORE_NAMES[score].may.split()
    stands_for = ["dynamics"]
    if "dynamics" in wanted and "dynamics" not in given:
        stands_for = ["logits", "labels"] + (["features"] if "features" in given else [])
    needed = [one for name in wanted for one in (stands_for if name == "dynamics" else [name])]
    for name in needed:
        if name not in given:
            other = " (or --dynamics)" if name in stands_for and "dynamics" in wanted else ""
            raise ValueError(f"score {score!r} needs --{name.replace('_', '-')}{other}")
    needed += [name for name in may if name in given]
    for name in given:
        if name not in needed:
            raise ValueError(f"--{name.replace('_', '-')} has no effect on the score {score!r}")
    if "dynamics" in given:
        return {"dynamics": TrainingDynamics.load(given["dynamics"])}
    arrays: dict[str, Array] = {name: read_array(name, given[name]) for name in needed}
    if "dynamics" in wanted:
        return {"dynamics": TrainingDynamics.of(**arrays)}
    return arrays
