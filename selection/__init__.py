"""Which examples of a data set to keep: scores, selection methods and the bridge to the theory."""

from selection.adapters.pytorch import torch_sampler, torch_subset, torch_weights
from selection.adapters.resample import SelectionSampler
from selection.advice.coordinates import EffectiveDimension, LearningCurve, effective_dimension
from selection.advice.estimates import Coordinates, coordinates_of_overlap, estimate_coordinates
from selection.advice.probes import ProbeErrors, cross_validation, margin_overlap, weight_overlap
from selection.advice.recommend import PolicyAdvice, Recommendation, recommend
from selection.core.given import Given
from selection.core.pool import Pool
from selection.core.scores import Scores
from selection.core.selector import Selector
from selection.core.subset import Subset
from selection.graphs.graph import Graph, knn_graph
from selection.graphs.kmeans import Clusters, kmeans
from selection.infomax.bound import InfoMaxCertificate, certify_infomax
from selection.infomax.method import InfoMax, KMedian, redundancy
from selection.infomax.problem import InfoMaxProblem
from selection.infomax.solvers import InfoMaxSolution, solve_infomax
from selection.method_text import parse_method
from selection.methods.cluster_score import ClusterTop, ssp
from selection.methods.clusters import BADGE, S2L
from selection.methods.cover import Herding, KCenter
from selection.methods.craig import CRAIG, AdaCore, FacilityLocation
from selection.methods.d2 import D2
from selection.methods.dedup import D4, MedDEL, SemDeDup
from selection.methods.diversity import CodingRate, HullVolume
from selection.methods.glister import Glister
from selection.methods.gradmatch import GradMatch
from selection.methods.graph_cut import SAS, ClipCov
from selection.methods.partitions import Partitioned
from selection.methods.proxy import ViaProxy
from selection.methods.ranking import CCS, Easy, Hard, Moderate, Random
from selection.methods.window import TheoryWindow
from selection.methods.wrappers import Cutoff, Listed, Quotas
from selection.online.crest import CREST
from selection.online.selectors import (
    GlisterOnline,
    GradMatchOnline,
    ModelFunctions,
    OnlineSelector,
)
from selection.online.ssm import SSM
from selection.registry import SCORES, SELECTORS
from selection.scoring.dynamics import TrainingDynamics
from selection.scoring.features import c_rho, clip, influence, random_projection, reconstruction
from selection.scoring.gradients import gradient_norms
from selection.scoring.memorization import memorization, train_on_random_subsets
from selection.scoring.output import (
    entropy,
    least_confidence,
    margin,
    middle_perplexity,
    reducible_loss,
)
from selection.scoring.recorder import DynamicsRecorder, linen_features, record_training
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

__all__ = [
    "BADGE",
    "CCS",
    "CRAIG",
    "CREST",
    "D2",
    "D4",
    "S2L",
    "SAS",
    "SCORES",
    "SELECTORS",
    "SSM",
    "AdaCore",
    "ClipCov",
    "ClusterTop",
    "Clusters",
    "CodingRate",
    "Coordinates",
    "Cutoff",
    "DynamicsRecorder",
    "Easy",
    "EffectiveDimension",
    "FacilityLocation",
    "Given",
    "Glister",
    "GlisterOnline",
    "GradMatch",
    "GradMatchOnline",
    "Graph",
    "Hard",
    "Herding",
    "HullVolume",
    "InfoMax",
    "InfoMaxCertificate",
    "InfoMaxProblem",
    "InfoMaxSolution",
    "KCenter",
    "KMedian",
    "LearningCurve",
    "Listed",
    "MedDEL",
    "ModelFunctions",
    "Moderate",
    "OnlineSelector",
    "Partitioned",
    "PolicyAdvice",
    "Pool",
    "ProbeErrors",
    "Quotas",
    "Random",
    "Recommendation",
    "Scores",
    "SelectionSampler",
    "Selector",
    "SemDeDup",
    "Subset",
    "TheoryWindow",
    "TrainingDynamics",
    "ViaProxy",
    "aum",
    "c_rho",
    "certify_infomax",
    "clip",
    "confidence",
    "coordinates_of_overlap",
    "correctness",
    "cross_validation",
    "dyn_unc",
    "effective_dimension",
    "el2n",
    "ensemble_errors",
    "entropy",
    "estimate_coordinates",
    "forgetting",
    "gradient_norms",
    "grand",
    "influence",
    "kmeans",
    "knn_graph",
    "learnability",
    "least_confidence",
    "linen_features",
    "loss",
    "margin",
    "margin_overlap",
    "memorization",
    "middle_perplexity",
    "parse_method",
    "random_projection",
    "recommend",
    "reconstruction",
    "record_training",
    "reducible_loss",
    "redundancy",
    "solve_infomax",
    "ssp",
    "torch_sampler",
    "torch_subset",
    "torch_weights",
    "train_on_random_subsets",
    "variability",
    "weight_overlap",
]
