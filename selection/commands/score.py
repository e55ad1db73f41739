"""The command `score`: scores of logits, training dynamics, features or gradients."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from selection.arrays import Array
from selection.commands.inputs import keep_or_print
from selection.files import (
    SCORE_SUFFIXES,
    check_new_file,
    check_source,
    json_text,
    read_array,
    write_scores,
)
from selection.pool import Pool, Scores
from selection.registry import (
    SCORE_NAMES,
    arrays_of_score,
    check_score,
    describe_scores,
    parse_score,
)
from selection.scoring.recorder import TrainingDynamics

# C classes, T epochs, S seeds.
ARRAYS = {
    "correct": "whether each of M models classifies each example correctly, 0 or 1, (M, n)",
    "dynamics": "what the recorder saved, an .npz file",
    "features": "embeddings, (n, d); with --logits the penultimate features of the same axes",
    "gradients": "of the candidates' losses, (n, g)",
    "holdout_losses": "by a model trained on other data, (n,)",
    "inside": "whether each of M models was trained on each example, 0 or 1, (M, n)",
    "labels": "classes, whole numbers or strings, (n,)",
    "logits": "(n, C), (T, n, C) or (S, T, n, C)",
    "losses": "by the model in training, (n,)",
    "masks": "1 where a token was hidden, (K, tokens) or (K, n, tokens)",
    "patches": "the inputs of a masked autoencoder, (n, tokens, values)",
    "predictions": "its outputs under K masks, (K, n, tokens, values)",
    "texts": "embeddings of the examples' texts, (n, d)",
    "training_features": "embeddings by the model that was trained on the pool, (n, d)",
    "training_texts": "and its embeddings of the texts, (n, d)",
    "validation_gradients": "of the validation examples' losses, (m, g)",
}

EXAMPLES = """scores, the files they need, their options and defaults:
{scores}

  --dynamics is what the recorder saved (.npz); --logits of shape (n, C), (T, n, C) or (S, T, n, C)
  with --labels (and --features for grand) stand for it. S seeds, T epochs, n examples, C classes.
  Labels are 0 ... C-1, or C distinct strings, which stand for the classes in sorted order.
  first and last are epochs, counted from 0 among those recorded, both included; by default all,
  for el2n and grand those after epochs 10 to 20 (first=9,last=19) of 20 recorded ones or more.

files:
  FILE.npy (memory-mapped), FILE.npz[:KEY] or FILE.parquet[:COLUMN]; one row an example. Columns of
  numbers are joined by FILE.parquet:a,b,c or a pattern, 'FILE.parquet:x*'.
  --out FILE.npy holds the scores, .parquet and .json also ids; each says what it was made with.
  High means hard or informative, for every score. The theory's hard examples are those of margin;
  el2n, loss and aum put wrong labels first.

examples:
  python -m selection score entropy --logits logits.npy --out entropy.npy
  python -m selection score el2n:first=4,last=9 --dynamics run.npz --out el2n.parquet
  python -m selection score forgetting:never_learned=0 --logits epochs.npy --labels y.npy --json
  python -m selection score clip --features images.npy --texts texts.npy --out clip.json
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    parser = commands.add_parser(
        "score",
        help="how hard or informative each example is",
        epilog=EXAMPLES.format(scores=describe_scores()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("score", metavar="SCORE[:option=value,...]", help="one of those below")
    for name in _all_arrays():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="FILE", help=ARRAYS[name])
    parser.add_argument("--ids", metavar="FILE", help="names of the examples, for --out")
    parser.add_argument("--out", metavar="FILE", help="file to write; never replaces another one")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compute, write and summarise; returns the exit code."""
    check_score(options.score)
    if options.out is not None:
        check_new_file(options.out, SCORE_SUFFIXES)
    given = {name: path for name in _all_arrays() if (path := getattr(options, name)) is not None}
    for name, path in given.items():
        if name != "dynamics":
            check_source(name, path)
    function, parameters = parse_score(options.score)
    scores = function(**_arrays(function, given), **parameters)
    ids = None if options.ids is None else read_array("ids", options.ids)
    if ids is not None and len(ids) != len(scores):
        raise ValueError(f"the arrays have different lengths: ids {len(ids)}, scores {len(scores)}")
    if ids is not None:
        ids = Pool.of(ids=ids).ids  # distinct, integers or strings
    if options.out is not None:
        files = {name: str(path) for name, path in given.items()}
        keep_or_print(
            lambda: write_scores(options.out, scores, ids, command=options.score, files=files),
            lambda: "\n".join(map(repr, scores.values.tolist())),
        )
    order = np.argsort(-scores.values, kind="stable")[:5]
    summary = {
        "score": scores.name,
        "examples": len(scores),
        **{
            name: float(value)
            for name, value in zip(
                ("least", "median", "largest"),
                np.quantile(scores.values, [0.0, 0.5, 1.0]),
                strict=True,
            )
        },
        "hardest": (order if ids is None else ids[order]).tolist(),
        "out": None if options.out is None else str(Path(options.out)),
        "provenance": dict(scores.provenance),
    }
    if options.json:
        print(json_text(summary))
    else:
        print("\n".join(f"{name:<10} {value}" for name, value in summary.items()))
    return 0


def _all_arrays() -> list[str]:
    """Names of the arrays that any score takes; labels stand for dynamics with logits."""
    names = {name for one in SCORE_NAMES.values() for name in f"{one.needs} {one.may}".split()}
    return sorted(names | {"labels"})


def _arrays(function: Callable[..., Scores], given: dict[str, str]) -> dict[str, Any]:
    """The arrays that the score takes, read from the files that were given."""
    score, wanted = function.__name__.replace("_", "-"), arrays_of_score(function)
    stands_for = ["dynamics"]
    if "dynamics" in wanted and "dynamics" not in given:
        stands_for = ["logits", "labels"] + (["features"] if "features" in given else [])
    needed = [one for name in wanted for one in (stands_for if name == "dynamics" else [name])]
    for name in needed:
        if name not in given:
            other = " (or --dynamics)" if name in stands_for and "dynamics" in wanted else ""
            raise ValueError(f"score {score!r} needs --{name.replace('_', '-')}{other}")
    needed += [name for name in arrays_of_score(function, optional=True) if name in given]
    for name in given:
        if name not in needed:
            raise ValueError(f"--{name.replace('_', '-')} has no effect on the score {score!r}")
    if "dynamics" in given:
        return {"dynamics": TrainingDynamics.load(given["dynamics"])}
    arrays: dict[str, Array] = {name: read_array(name, given[name]) for name in needed}
    if "dynamics" in wanted:
        return {"dynamics": TrainingDynamics.of(**arrays)}
    return arrays
