"""All methods and all scores by the names that the command line uses."""

from collections.abc import Callable, Mapping

from selection.infomax.method import InfoMax, KMedian
from selection.methods.clusters import BADGE, S2L, ClusterTop, ssp
from selection.methods.d2 import D2
from selection.methods.dedup import D4, MedDEL, SemDeDup
from selection.methods.diversity import CodingRate, Herding, HullVolume, KCenter
from selection.methods.facility import CRAIG, AdaCore, FacilityLocation
from selection.methods.glister import Glister
from selection.methods.gradmatch import GradMatch
from selection.methods.graph_cut import SAS, ClipCov
from selection.methods.ranking import CCS, Easy, Hard, Moderate, Random, TheoryWindow
from selection.pool import Scores
from selection.scoring.features import c_rho, clip, influence, reconstruction
from selection.scoring.memorization import memorization
from selection.scoring.output import (
    entropy,
    least_confidence,
    margin,
    middle_perplexity,
    reducible_loss,
)
from selection.scoring.training import (
    aum,
    confidence,
    correctness,
    dyn_unc,
    el2n,
    ensemble_errors,
    forgetting,
    grand,
    learnability,
    loss,
    variability,
)
from selection.selector import Selector

_RANKING: tuple[type[Selector], ...] = (
    Hard,
    Easy,
    Random,
    Moderate,
    CCS,
    TheoryWindow,
    ClusterTop,
    KCenter,
    Herding,
)

# Methods that compare examples with each other.
_GRAPH: tuple[type[Selector], ...] = (
    InfoMax,
    KMedian,
    D2,
    FacilityLocation,
    CRAIG,
    AdaCore,
    GradMatch,
    Glister,
    SAS,
    ClipCov,
    SemDeDup,
    MedDEL,
    D4,
    S2L,
    BADGE,
    CodingRate,
    HullVolume,
)

SELECTORS: Mapping[str, type[Selector]] = {one.name: one for one in (*_RANKING, *_GRAPH)}

# Arguments without a default are arrays, keyword-only ones are options.
SCORES: Mapping[str, Callable[..., Scores]] = {
    "entropy": entropy,
    "margin": margin,
    "least-confidence": least_confidence,
    "loss": loss,
    "el2n": el2n,
    "grand": grand,
    "forgetting": forgetting,
    "aum": aum,
    "confidence": confidence,
    "variability": variability,
    "correctness": correctness,
    "dyn-unc": dyn_unc,
    "ensemble-errors": ensemble_errors,
    "learnability": learnability,
    "memorization": memorization,
    "middle-perplexity": middle_perplexity,
    "reducible-loss": reducible_loss,
    "ssp": ssp,
    "clip": clip,
    "c-rho": c_rho,
    "reconstruction": reconstruction,
    "influence": influence,
}
