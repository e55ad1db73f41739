"""Names the methods and scores, and reads texts that name them.

It says what each needs. Such a text is "ccs:cutoff=0.1".
"""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hardset.checks import check_choice
from selection.pool import Scores
from selection.selector import Selector


@dataclass(frozen=True)
class Named:
    """Says what a name of the command line stands for, without loading it.

    Attributes:
        place: module and attribute, "package.module:attribute".
        needs: fields of the pool, or arrays, that it cannot do without, separated by spaces.
        may: arrays that it can take.
        options: those that text can set, with their defaults; without one it must be given.
        from_python: options that have no values which text can say.
    """

    place: str
    needs: str = ""
    may: str = ""
    options: str = ""
    from_python: str = ""

    def load(self) -> Any:
        """Import what the name stands for."""
        module, _, attribute = self.place.partition(":")
        return getattr(import_module(module), attribute)

    @property
    def option_names(self) -> list[str]:
        """Return the names of the options that text can set."""
        return [option.partition("=")[0] for option in self.options.split()]


# Help and refusals must not load JAX, SciPy or Numba. So what classes and functions say of
# themselves is here once more, and a test compares the two.
METHOD_NAMES = {
    "hard": Named("selection.methods.ranking:HardestFirst", needs="scores"),
    "easy": Named("selection.methods.ranking:EasiestFirst", needs="scores"),
    "random": Named("selection.methods.ranking:RandomSample"),
    "importance": Named("selection.methods.sampling:ImportanceSample", needs="scores"),
    "moderate": Named("selection.methods.ranking:ModerateCoreset", needs="features"),
    "ccs": Named("selection.methods.ranking:CCS", needs="scores", options="cutoff=None bins=50"),
    "optimal-window": Named(
        "selection.methods.ranking:TheoryWindow",
        needs="scores",
        options="alpha_total theta_deg=0.0",
    ),
    "cluster-top": Named(
        "selection.methods.clusters:ClusterTop",
        needs="features scores",
        options="clusters=100 cosine=False",
    ),
    "hierarchical-k-means": Named(
        "selection.methods.hierarchy:HierarchicalKMeans",
        needs="features",
        options="clusters=100 levels=2 resamples=10",
    ),
    "k-center": Named(
        "selection.methods.diversity:KCenter", needs="features", options="first=random"
    ),
    "herding": Named("selection.methods.diversity:Herding", needs="features"),
    "infomax": Named(
        "selection.methods.graph:InfoMax",
        needs="scores",
        options="neighbours=5 weight=0.3 iterations=20 solver=best swaps=None factor=2.0 "
        "scaling=min-max metric=cosine symmetry=union certificate_steps=30",
    ),
    "k-median": Named("selection.methods.graph:KMedian", options="neighbours=5 iterations=20"),
    "d2": Named(
        "selection.methods.graph:D2",
        needs="scores",
        options="neighbours=5 gamma_forward=1.0 gamma_reverse=0.1 scaling=min-max metric=cosine "
        "published=False",
    ),
    "facility-location": Named(
        "selection.methods.facility:FacilityLocation",
        options="mode=auto neighbours=20 per_class=False",
    ),
    "craig": Named(
        "selection.methods.facility:CRAIG", options="mode=auto neighbours=20 per_class=True"
    ),
    "adacore": Named(
        "selection.methods.facility:AdaCore",
        options="mode=auto neighbours=20 per_class=True damping=0.01",
        from_python="curvature",
    ),
    "gradmatch": Named(
        "selection.methods.gradients:GradMatch",
        options="penalty=0.5 tolerance=0.0001 per_class=False exact=False",
    ),
    "glister": Named(
        "selection.methods.gradients:Glister",
        needs="features labels",
        options="validation_size=None step=0.1 stochastic=True",
        from_python="layer validation targets",
    ),
    "sas": Named(
        "selection.methods.graph_cut:SAS", needs="features", options="clusters=None published=False"
    ),
    "clipcov": Named(
        "selection.methods.graph_cut:ClipCov",
        needs="features texts",
        options="clusters=None published=False label_weight=0.5 other_weight=1.0",
    ),
    "semdedup": Named(
        "selection.methods.dedup:SemDeDup",
        needs="features",
        options="epsilon=0.05 clusters=None exact=False",
    ),
    "meddel": Named(
        "selection.methods.dedup:MedDEL",
        needs="features",
        options="epsilon=0.9 eta=0.95 clusters=None keep=nearer exact=False",
    ),
    "d4": Named(
        "selection.methods.dedup:D4",
        needs="features",
        options="epsilon=0.05 clusters=None exact=False",
    ),
    "s2l": Named("selection.methods.clusters:S2L", needs="trajectories", options="clusters=100"),
    "badge": Named("selection.methods.clusters:BADGE"),
    "coding-rate": Named(
        "selection.methods.diversity:CodingRate", needs="features", options="precision=0.5"
    ),
    "hull-volume": Named(
        "selection.methods.diversity:HullVolume", needs="features", options="measure=volume"
    ),
}

SCORE_NAMES = {
    "entropy": Named("selection.scoring.output:entropy", needs="logits"),
    "margin": Named("selection.scoring.output:margin", needs="logits"),
    "least-confidence": Named("selection.scoring.output:least_confidence", needs="logits"),
    "loss": Named("selection.scoring.training:loss", needs="dynamics", options="first=0 last=None"),
    "el2n": Named(
        "selection.scoring.training:el2n", needs="dynamics", options="first=None last=None"
    ),
    "grand": Named(
        "selection.scoring.training:grand", needs="dynamics", options="first=None last=None"
    ),
    "forgetting": Named(
        "selection.scoring.training:forgetting", needs="dynamics", options="never_learned=max+1"
    ),
    "aum": Named("selection.scoring.training:aum", needs="dynamics", options="first=0 last=None"),
    "confidence": Named(
        "selection.scoring.training:confidence", needs="dynamics", options="first=0 last=None"
    ),
    "variability": Named(
        "selection.scoring.training:variability", needs="dynamics", options="first=0 last=None"
    ),
    "correctness": Named(
        "selection.scoring.training:correctness", needs="dynamics", options="first=0 last=None"
    ),
    "dyn-unc": Named("selection.scoring.training:dyn_unc", needs="dynamics", options="window=10"),
    "dual": Named(
        "selection.scoring.training:dual",
        needs="dynamics",
        options="window=10 first=0 last=None",
    ),
    "tdds": Named(
        "selection.scoring.training:tdds",
        needs="dynamics",
        options="window=10 decay=0.9 first=0 last=None",
    ),
    "ensemble-errors": Named("selection.scoring.training:ensemble_errors", needs="dynamics"),
    "learnability": Named(
        "selection.scoring.training:learnability", needs="dynamics", options="early=0 late=None"
    ),
    "memorization": Named("selection.scoring.training:memorization", needs="inside correct"),
    "a-optimal": Named(
        "selection.scoring.subsampling:a_optimal",
        needs="features labels",
        options="pilot=1000 seed=0",
    ),
    "l-optimal": Named(
        "selection.scoring.subsampling:l_optimal",
        needs="features labels",
        options="pilot=1000 seed=0",
    ),
    "middle-perplexity": Named(
        "selection.scoring.output:middle_perplexity", needs="losses", options="centre=0.5"
    ),
    "reducible-loss": Named(
        "selection.scoring.output:reducible_loss", needs="losses holdout_losses"
    ),
    "ssp": Named(
        "selection.methods.clusters:ssp",
        needs="features",
        may="labels",
        options="clusters=None cosine=True seed=0",
    ),
    "clip": Named(
        "selection.scoring.features:clip", needs="features texts", options="normalise=True"
    ),
    "c-rho": Named(
        "selection.scoring.features:c_rho",
        needs="features texts training_features training_texts",
        options="normalise=True",
    ),
    "reconstruction": Named(
        "selection.scoring.features:reconstruction",
        needs="predictions patches masks",
        options="space=target normalised=True",
    ),
    "influence": Named(
        "selection.scoring.features:influence",
        needs="gradients validation_gradients",
        options="cosine=False dimension=None seed=0",
    ),
}


T = TypeVar("T")


class _Loaded(Mapping[str, T]):
    """Holds what the names of a table stand for.

    Each is imported when it is asked for.
    """

    def __init__(self, table: Mapping[str, Named]) -> None:
        self._table = table

    def __getitem__(self, name: str) -> T:
        found: T = self._table[name].load()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


SELECTORS: Mapping[str, type[Selector]] = _Loaded(METHOD_NAMES)
# Arguments without a default are arrays, keyword-only ones are options.
SCORES: Mapping[str, Callable[..., Scores]] = _Loaded(SCORE_NAMES)


def parse_method(text: str) -> Selector:
    """Make the method that a text like "ccs:cutoff=0.1,bins=20" names.

    Raises:
        ValueError: an unknown method or option, or a value that the option cannot have.
    """
    name, given = _split(text)
    kind = _known("method", name, given, METHOD_NAMES).load()
    return kind(**_options(f"method {name!r}", given, get_type_hints(kind)))


def check_method(text: str) -> None:
    """Check the names of a method and of its options, without importing it.

    Raises:
        ValueError: one that is not known, or an option that is missing.
    """
    name, given = _split(text)
    _known("method", name, given, METHOD_NAMES)


def check_score(text: str) -> None:
    """Check the names of a score and of its options, without importing it."""
    name, given = _split(text)
    _known("score", name, given, SCORE_NAMES)


def parse_score(text: str) -> tuple[Callable[..., Scores], dict[str, Any]]:
    """Find the function and the options that a text names.

    Such a text is "el2n:first=10,last=20".

    Raises:
        ValueError: an unknown score or option, or a value that the option cannot have.
    """
    name, given = _split(text)
    function = _known("score", name, given, SCORE_NAMES).load()
    hints = get_type_hints(function)
    return function, _options(f"score {name!r}", given, hints)


def arrays_of_score(function: Callable[..., Scores], *, optional: bool = False) -> list[str]:
    """Name the arrays that a score cannot do without.

    With `optional`, they are those that it may be given.
    """
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.KEYWORD_ONLY
        and (parameter.default is not parameter.empty) == optional
    ]


def describe_methods() -> str:
    """List the methods, their needs, and their options with defaults.

    The options are those that text can set.
    """
    return "\n".join(
        f"  {name:<22} {_flags(one.needs) or '-':<22} {one.options}".rstrip()
        for name, one in METHOD_NAMES.items()
    )


def describe_scores() -> str:
    """List the scores, their arrays, and their options with defaults."""
    lines = []
    for name, one in SCORE_NAMES.items():
        may = " ".join(f"[{flag}]" for flag in _flags(one.may).split())
        arrays = f"{_flags(one.needs)} {may}".strip()
        lines.append(f"  {name:<17} {arrays:<34} {one.options}".rstrip())
    return "\n".join(lines)


def _flags(names: str) -> str:
    return " ".join(f"--{name.replace('_', '-')}" for name in names.split())


def _split(text: str) -> tuple[str, dict[str, str]]:
    name, _, rest = text.partition(":")
    given = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: {part!r} is not option=value")
        if key in given:
            raise ValueError(f"{text!r} gives {key} twice")
        given[key] = value
    return name, given


def _known(word: str, name: str, given: Mapping[str, str], table: Mapping[str, Named]) -> Named:
    """Return what the name stands for.

    Unknown names and options are told before it is imported.
    """
    check_choice(word, name, table)
    found = table[name]
    for option in given:
        if option in found.from_python.split():
            raise ValueError(f"{word} {name!r}: {option} takes no text; set it from Python")
        if option not in found.option_names:
            listed = ", ".join(found.option_names) or "none"
            raise ValueError(f"{word} {name!r} has no option {option!r}; it has {listed}")
    for option in found.options.split():
        if "=" not in option and option not in given:
            raise ValueError(f"{word} {name!r} needs the option {option!r}")
    return found


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _options(what: str, given: dict[str, str], hints: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(f"{what}: {name}", text, hints[name]) for name, text in given.items()}


def _value(name: str, text: str, hint: Any) -> Any:
    """Convert a text to a value of the expected type `hint`."""
    members = _members(hint)
    for member in members:
        if member is type(None) and text.lower() == "none":
            return None
        if member is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if get_origin(member) is Literal and text in map(str, get_args(member)):
            return next(choice for choice in get_args(member) if str(choice) == text)
        if member in (int, float, str):
            try:
                return member(text)
            except ValueError:
                continue
    wanted = " or ".join(
        ", ".join(map(str, get_args(m))) if get_origin(m) is Literal else getattr(m, "__name__", m)
        for m in members
    )
    raise ValueError(f"{name} = {text!r} is not {wanted}")
