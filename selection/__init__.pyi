"""What `selection` offers; each name is imported from its module when it is used."""

from .adapters.pytorch import torch_sampler, torch_subset, torch_weights
from .adapters.resample import SelectionSampler
from .advice.coordinates import EffectiveDimension, LearningCurve, effective_dimension
from .advice.estimates import Coordinates, coordinates_of_overlap, estimate_coordinates
from .advice.probes import ProbeErrors, cross_validation, margin_overlap, weight_overlap
from .advice.recommend import PolicyAdvice, Recommendation, recommend
from .advice.verdict import Verdict
from .core.given import Given
from .core.pool import Pool
from .core.scores import Scores
from .core.selector import Selector
from .core.subset import Subset
from .graphs.graph import Graph, knn_graph
from .graphs.kmeans import Clusters, kmeans
from .infomax.bound import InfoMaxCertificate, certify_infomax
from .infomax.method import InfoMax, KMedian, redundancy
from .infomax.problem import InfoMaxProblem
from .infomax.solvers import InfoMaxSolution, solve_infomax
from .method_text import parse_method
from .methods.cluster_score import ClusterTop, ssp
from .methods.clusters import BADGE, S2L
from .methods.cover import Herding, KCenter
from .methods.craig import CRAIG, AdaCore, FacilityLocation
from .methods.d2 import D2
from .methods.dedup import D4, MedDEL, SemDeDup
from .methods.diversity import CodingRate, HullVolume
from .methods.glister import Glister
from .methods.gradmatch import GradMatch
from .methods.graph_cut import SAS, ClipCov
from .methods.partitions import Partitioned
from .methods.proxy import ViaProxy
from .methods.ranking import CCS, Easy, Hard, Moderate, Random
from .methods.window import TheoryWindow
from .methods.wrappers import Cutoff, Listed, Quotas
from .online.crest import CREST
from .online.selectors import GlisterOnline, GradMatchOnline, ModelFunctions, OnlineSelector
from .online.ssm import SSM
from .registry import SCORES, SELECTORS
from .scoring.dynamics import TrainingDynamics
from .scoring.features import c_rho, clip, influence, random_projection, reconstruction
from .scoring.gradients import gradient_norms
from .scoring.memorization import memorization, train_on_random_subsets
from .scoring.output import entropy, least_confidence, margin, middle_perplexity, reducible_loss
from .scoring.recorder import DynamicsRecorder, linen_features, record_training
from .scoring.training import (
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
    "Verdict",
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
