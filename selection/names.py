"""Names of all methods and scores, with what they take, for help that loads none of them."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal


@dataclass(frozen=True)
class Named:
    """What a name of the command line stands for.

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
        """Names of the options that text can set."""
        return [option.partition("=")[0] for option in self.options.split()]


# A test compares both tables with the classes and functions themselves.
METHOD_NAMES = {
    "hard": Named("selection.methods.ranking:Hard", needs="scores"),
    "easy": Named("selection.methods.ranking:Easy", needs="scores"),
    "random": Named("selection.methods.ranking:Random"),
    "moderate": Named("selection.methods.ranking:Moderate", needs="features"),
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
    "k-center": Named(
        "selection.methods.diversity:KCenter", needs="features", options="first=random"
    ),
    "herding": Named("selection.methods.diversity:Herding", needs="features"),
    "infomax": Named(
        "selection.infomax.method:InfoMax",
        needs="scores",
        options="neighbours=5 weight=0.3 iterations=20 solver=best swaps=None factor=2.0 "
        "scaling=min-max metric=cosine symmetry=union certificate_steps=30",
    ),
    "k-median": Named("selection.infomax.method:KMedian", options="neighbours=5 iterations=20"),
    "d2": Named(
        "selection.methods.d2:D2",
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
        "selection.methods.gradmatch:GradMatch",
        options="penalty=0.5 tolerance=0.0001 per_class=False exact=False",
    ),
    "glister": Named(
        "selection.methods.glister:Glister",
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
    "ensemble-errors": Named("selection.scoring.training:ensemble_errors", needs="dynamics"),
    "learnability": Named(
        "selection.scoring.training:learnability", needs="dynamics", options="early=0 late=None"
    ),
    "memorization": Named("selection.scoring.memorization:memorization", needs="inside correct"),
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


# What the advice is asked with, and what it says of itself.
AngleSource = Literal["auto", "overlap", "error"]
Metric = Literal["covariance", "isotropic"]
POLICIES = ("hard", "easy", "moderate", "random")
CAVEAT = (
    "The fraction is exact for normal features, a linear teacher without label noise and a "
    "max-margin student. On other data it is a heuristic: compare it with a measured curve."
)
HARD = (
    "hard is a small absolute margin abs(w.x) of a linear probe, whatever the label: the score "
    "margin, and not el2n, loss or aum, which put wrong labels first"
)
