"""Which examples of a data set to keep: scores, selection methods and the bridge to the theory."""

from selection.cluster_score import ClusterTop, ssp
from selection.clusters import BADGE, S2L
from selection.coordinates import EffectiveDimension, LearningCurve, effective_dimension
from selection.cover import Herding, KCenter
from selection.craig import CRAIG, AdaCore, FacilityLocation
from selection.crest import CREST
from selection.d2 import D2
from selection.dedup import D4, MedDEL, SemDeDup
from selection.diversity import CodingRate, HullVolume
from selection.dynamics import TrainingDynamics
from selection.estimates import Coordinates, coordinates_of_overlap, estimate_coordinates
from selection.glister import Glister
from selection.gradmatch import GradMatch
from selection.graph import Graph, knn_graph
from selection.graph_cut import SAS, ClipCov
from selection.infomax import InfoMax, KMedian, redundancy
from selection.infomax_bound import InfoMaxCertificate, certify_infomax
from selection.infomax_problem import InfoMaxProblem
from selection.infomax_solvers import InfoMaxSolution, solve_infomax
from selection.kmeans import Clusters, kmeans
from selection.memorization import memorization, train_on_random_subsets
from selection.online import GlisterOnline, GradMatchOnline, ModelFunctions, OnlineSelector
from selection.partitions import Partitioned
from selection.pool import Pool
from selection.probes import ProbeErrors, cross_validation, margin_overlap, weight_overlap
from selection.proxy import ViaProxy
from selection.ranking import CCS, Easy, Hard, Moderate, Random
from selection.recommend import PolicyAdvice, Recommendation, recommend
from selection.recorder import DynamicsRecorder, linen_features, record_training
from selection.registry import SCORES, SELECTORS
from selection.resample import SelectionSampler
from selection.scores import Scores
from selection.scores_features import c_rho, clip, influence, random_projection, reconstruction
from selection.scores_gradients import gradient_norms
from selection.scores_output import (
    entropy,
    least_confidence,
    margin,
    middle_perplexity,
    reducible_loss,
)
from selection.scores_training import (
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
from selection.ssm import SSM
from selection.subset import Subset
from selection.torch_adapter import torch_sampler, torch_subset, torch_weights
from selection.window import TheoryWindow
from selection.wrappers import Cutoff, Listed, Quotas

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
