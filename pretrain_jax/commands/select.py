"""The command `select`: the images or patches that a smaller set is made of."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from hardset.cli import Parser, integer, number
from hardset.folder import MANIFEST
from pretrain_jax.commands.output import report
from pretrain_jax.synthesis.methods import METHODS, Method, Storage, check_selecting
from pretrain_jax.synthesis.proposers import PROPOSERS

EXAMPLES = """examples:
  python -m pretrain_jax select runs/optidel --method optidel --ratio 0.1
  python -m pretrain_jax select runs/optidel --method optidel --ratio 0.1 --rule window:lo=0.02
  python -m pretrain_jax select runs/optidel --method hard-images --ratio 0.1 --rule ccs:bins=20
  python -m pretrain_jax select runs/optidel --method optidel-s --ratio recommended \\
    --alpha-total 3 --theta-deg 20
The selection lies in RUN/selections/METHOD-PERCENT, with --storage bytes in METHOD-PERCENT-bytes.
"""
RECOMMENDED = "recommended"


def main(argv: Sequence[str]) -> int:
    """Select; returns the exit code."""
    options = _parser().parse_args(argv)
    run, method = Path(options.run), METHODS[options.method]
    ratio = _ratio(options, method)
    check_selecting(
        method.name, ratio, options.seed, options.rule, options.patches, options.storage
    )
    name = f"{method.name}-{100 * ratio:g}"
    if options.rule is not None:
        name += "-" + "".join(one if one.isalnum() or one == "." else "-" for one in options.rule)
    if options.storage == "bytes":
        name += "-bytes"
    folder = run / "selections" / name
    from pretrain_jax.synthesis import select

    manifest = select(
        _source(run, method, options.of),
        folder,
        method=method.name,
        ratio=ratio,
        seed=options.seed,
        rule=options.rule,
        patches=options.patches,
        storage=options.storage,
    )
    report(folder, manifest, as_json=options.json)
    return 0


def _ratio(options: argparse.Namespace, method: Method) -> float:
    if options.ratio is None:
        if method.name != "all":
            raise ValueError("--ratio is missing: a share of the pixels in (0, 1], or recommended")
        return 1.0
    if options.ratio != RECOMMENDED:
        try:
            return float(options.ratio)
        except ValueError:
            raise ValueError(
                f"--ratio {options.ratio!r} is neither a number in (0, 1] nor {RECOMMENDED!r}"
            ) from None
    if options.alpha_total is None or options.theta_deg is None:
        raise ValueError(
            "--ratio recommended needs --alpha-total and --theta-deg; python -m pretrain_jax "
            "report estimates both"
        )
    from pretrain_jax.synthesis import recommended_ratio

    return recommended_ratio(options.alpha_total, options.theta_deg, options.rule or method.rule)


def _source(run: Path, method: Method, proposer: str | None) -> Path:
    """The folder that a method picks from."""
    if method.source == "index":
        return run / "index"
    if method.source == "images":
        return run / "scores" / "images"
    # Of the method's proposers the one that was scored.
    named = [proposer] if proposer else list(method.proposers)
    found = [one for one in named if (run / "scores" / one / MANIFEST).is_file()]
    return run / "scores" / (found or named)[0]


def _parser() -> Parser:
    methods = "\n".join(f"  {name:<16}{one.about}" for name, one in METHODS.items())
    parser = Parser(
        prog="python -m pretrain_jax select",
        description="Pick images or patches until a share of the full set's storage is used up.",
        epilog=f"methods:\n{methods}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="folder of the whole pipeline")
    parser.add_argument("--method", choices=tuple(METHODS), required=True, help="see below")
    parser.add_argument("--ratio", help="share of the pixels in (0, 1], or recommended")
    parser.add_argument(
        "--rule",
        help="a policy of the theory or a method of `selection` in the place of the method's own",
    )
    parser.add_argument("--of", choices=tuple(PROPOSERS), help="whose patches")
    parser.add_argument("--patches", type=integer, default=4, help="of an image, a square number")
    parser.add_argument(
        "--storage",
        choices=get_args(Storage),
        default="pixels",
        help="what the ratio is a share of: pixels, or bytes (both pixels and bytes of the files)",
    )
    parser.add_argument("--alpha-total", type=number, help="examples over effective dimension")
    parser.add_argument("--theta-deg", type=number, help="angle between probe and target")
    parser.add_argument("--seed", type=integer, default=0, help="of random picks")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    return parser
